"""ham10000:PATH — dermatoscopic images of pigmented skin lesions in seven classes, for MAGE + adapter and for IOIS.

PATH holds what the Harvard Dataverse (doi:10.7910/DVN/DBW86T) or Kaggle gives, archives unpacked:

- HAM10000_metadata.csv (or .tab, or without suffix), with the columns lesion_id, image_id and dx;
- HAM10000_images_part_1 and HAM10000_images_part_2, or HAM10000_images, with IMAGE_ID.jpg;
- optionally the test set of the ISIC 2018 challenge, task 3: ISIC2018_Task3_Test_GroundTruth.csv, with the same columns
  (Dataverse) or image and a column for each class (challenge), and its images in ISIC2018_Task3_Test_Images (Dataverse)
  or ISIC2018_Task3_Test_Input (challenge).

If the challenge's test set is there it is the test split, as its size says of the MAGE-adapter paper (1,511). If not,
the splits are carved from the 10,015 images in the shares of IOIS, 70/10/20.

Where the papers are silent, or we differ:

- A lesion is in one split only; the code of IOIS splits image by image, 80/20 and without validation.
- Where test is given, 1/8 of the training images become val as well; the MAGE-adapter paper trains on all and has none.
- ISIC_0035068 in the table of the test set is left out: the challenge does not score it, the Dataverse lacks its image.
- The central square is kept, since the publishers had centred the lesions; the code of IOIS squeezes 600 x 450 pixels.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.datasets.assembly import Collection, assemble
from nbutils.datasets.layout import data_folder, first_existing, require_files
from nbutils.datasets.pictures import read_squares
from nbutils.datasets.splits import Splits
from nbutils.datasets.tables import read_table, refuse_rows
from nbutils.images import ImageSet

CLASS_NAMES = ("bkl", "nv", "df", "mel", "vasc", "bcc", "akiec")  # in the order of the MAGE-adapter paper
VAL_SHARE = 1 / 8  # of what is not test: 10 % of all, in IOIS
COLUMNS = ("lesion_id", "image_id", "dx")
ONE_HOT = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")  # dx in capitals, in the challenge's table
UNSCORED = "ISIC_0035068"
TEST_TABLE = "ISIC2018_Task3_Test_GroundTruth"
TABLES = {
    "train": ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata"),
    "test": (f"{TEST_TABLE}.csv", f"{TEST_TABLE}.tab", f"{TEST_TABLE}/{TEST_TABLE}.csv"),
}
IMAGES = {
    "train": ("HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_images"),
    "test": ("ISIC2018_Task3_Test_Images", "ISIC2018_Task3_Test_Input"),
}


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read all images, (3, image_size, image_size); groups are lesions. seed: of what is carved.

    Raises ValueError for tables and files that do not fit.
    """
    folder = data_folder(where, "ham10000:PATH", "HAM10000_metadata and the images, see data/README.md")
    table = _read_split(folder, "train")
    notes = []
    if first_existing(folder, (*TABLES["test"], *IMAGES["test"])):
        test = _read_split(folder, "test")
        notes = _test_notes(test)
        table = pd.concat([table, test[test["image_id"] != UNSCORED]], ignore_index=True)
    files = table["file"].to_numpy(dtype=np.str_)
    require_files(folder, files, "Unpack the archives of images again.")
    squares = read_squares([folder / file for file in files], image_size, "ham10000")
    labels = [CLASS_NAMES.index(dx) for dx in table["dx"]]
    images = ImageSet(squares.images, labels, CLASS_NAMES, table["lesion_id"], "ham10000")
    splits = table["split"].to_numpy(dtype=np.str_)
    collection = Collection(images, squares.digests, splits, files, (*notes, *squares.crop_notes()))
    return assemble(collection, seed, duplicates, VAL_SHARE)


def _read_split(folder: Path, split: str) -> pd.DataFrame:
    """Read and check the table of a split: lesion_id ("" = unknown), image_id, dx, file (relative to folder), split."""
    path = first_existing(folder, TABLES[split])
    holders = [name for name in IMAGES[split] if (folder / name).is_dir()]
    for found, needed in ((path, TABLES[split]), (holders, IMAGES[split])):
        if not found:
            raise ValueError(f"{folder} lacks one of {', '.join(needed)}, needed for {split}. See data/README.md.")
    table = _read_table(path)
    refuse_rows(path, table, table["image_id"].duplicated(), "repeat an image_id", "image_id")
    unknown = ~table["dx"].isin(CLASS_NAMES)
    refuse_rows(path, table, unknown, f"have a dx other than {', '.join(CLASS_NAMES)}", "dx")
    return table.assign(file=[_file(folder, holders, image) for image in table["image_id"]], split=split)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of either form; where lesions are not told, each image is its own."""
    if "dx" in read_table(path, ()).columns:
        table = read_table(path, COLUMNS)[list(COLUMNS)]
        refuse_rows(path, table, table["lesion_id"] == "", "have no lesion_id", "image_id")
        return table
    table = read_table(path, ("image", *ONE_HOT))
    marks = table[list(ONE_HOT)].apply(pd.to_numeric, errors="coerce").to_numpy()
    single = ((marks == 1).sum(axis=1) == 1) & ((marks == 0).sum(axis=1) == len(ONE_HOT) - 1)
    refuse_rows(path, table, pd.Series(~single, table.index), f"have not one 1 among {', '.join(ONE_HOT)}", "image")
    dx = [ONE_HOT[label].lower() for label in (marks == 1).argmax(axis=1)]
    return pd.DataFrame({"lesion_id": table["image"], "image_id": table["image"], "dx": dx})


def _file(folder: Path, holders: list[str], image: str) -> str:
    """Return the file of an image in the first of the folders that has it, or in the first of them."""
    files = [f"{holder}/{image}.jpg" for holder in holders]
    return next((file for file in files if (folder / file).is_file()), files[0])


def _test_notes(test: pd.DataFrame) -> list[str]:
    notes = ["test is the test set of the ISIC 2018 challenge (task 3)"]
    if (test["image_id"] == UNSCORED).any():
        notes.append(f"{UNSCORED} was left out of test: the challenge does not score it")
    if (test["lesion_id"] == test["image_id"]).all():
        notes.append("the lesions of the test images are unknown: each image is its own group")
    return notes
