"""chexpert:PATH — chest radiographs of CheXpert, prepared as for textual inversion (section 3.3.2).

PATH is the folder that holds train.csv as published (CheXpert-v1.0 or CheXpert-v1.0-small): the column Path
(FOLDER/train/patient00001/study1/view1_frontal.jpg, where FOLDER may have another name here), AP/PA and 14
observations, each 1.0 (positive), 0.0 (negative), -1.0 (uncertain) or empty (not mentioned).

Where the paper is silent, or we differ:

- "A single class" is read strictly: one of the 14 observations is positive, it is one of CLASS_NAMES, and none is
  uncertain, because the image may show that one too. Support Devices count, so that no class is told by its tubes.
- All three splits come from train.csv. The 234 images of valid.csv are too few for 100 of each class, their labels
  were made by radiologists instead of a report reader, and whoever compares with other work needs them untouched.
- The radiograph is centred when it is padded; the longest edge becomes image_size in one bicubic step.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.datasets.assembly import Collection, assemble
from nbutils.datasets.layout import data_folder, require_files
from nbutils.datasets.pictures import padded_square, read_squares, without_black_border
from nbutils.datasets.sampling import draw, one_per_group
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.datasets.tables import read_table, refuse_rows
from nbutils.images import ImageSet

CLASS_NAMES = ("No Finding", "Cardiomegaly", "Pleural Effusion", "Pneumonia")
PER_CLASS = 100  # in each split; the paper draws as many for training its embeddings, and trains no classifier on them
TABLE = "train.csv"
OBSERVATIONS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
VALUES = {"": 0, "0.0": 0, "1.0": 1, "-1.0": -1}  # of an observation; not mentioned counts as negative
PATH_PATTERN = r"[^/]+/(?P<file>train/(?P<patient>patient\d+)/study\d+/view\d+_(?:frontal|lateral)\.jpg)"


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Draw PER_CLASS radiographs of each class for each split, (1, image_size, image_size), padded to squares.

    Antero-posterior views with a single class; no patient gives more than one. seed: of the draw.

    Raises ValueError for tables and files that do not fit.
    """
    folder = data_folder(where, "chexpert:PATH", f"{TABLE} and train, see data/README.md")
    table = single_class(_read_table(folder))
    patients, files = (table[column].to_numpy(dtype=np.str_) for column in ("patient", "file"))
    labels = table["label"].to_numpy()
    kept = one_per_group(patients, files, seed)
    chosen, splits, notes = draw(labels[kept], files[kept], CLASS_NAMES, PER_CLASS, seed, SPLITS)
    chosen = kept[chosen]
    require_files(folder, files[chosen], "Unpack the images again.")
    squares = read_squares([folder / file for file in files[chosen]], image_size, "chexpert", _square)
    images = ImageSet(squares.images, labels[chosen], CLASS_NAMES, patients[chosen], "chexpert")
    notes = (
        *notes,
        f"one image per patient, of {len(files)} AP views of {len(kept)} patients with one observation positive and "
        f"none uncertain",
        "labels were read from reports by a program, not from the images",
    )
    return assemble(Collection(images, squares.digests, splits, files[chosen], notes), seed, duplicates)


def single_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return the AP views with a single class, with the columns file, patient and label (index into CLASS_NAMES)."""
    values = table[list(OBSERVATIONS)].to_numpy()
    single = ((values == 1).sum(axis=1) == 1) & (values != -1).all(axis=1)
    positive = table[list(CLASS_NAMES)].to_numpy() == 1
    kept = (table["AP/PA"] == "AP").to_numpy() & single & positive.any(axis=1)
    return table.loc[kept, ["file", "patient"]].assign(label=positive[kept].argmax(axis=1))


def _square(path: Path, pixels: np.ndarray, image_size: int) -> np.ndarray:
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ValueError(f"{path} must be a grey image of 8 bits as published, found {pixels.dtype} {pixels.shape}.")
    return padded_square(without_black_border(pixels, str(path)), image_size)


def _read_table(folder: Path) -> pd.DataFrame:
    """Read and check train.csv: observations become 1, 0 or -1; the columns file and patient are added."""
    require_files(folder, [TABLE], "chexpert:PATH takes the folder that holds it.")
    path = folder / TABLE
    table = read_table(path, ("Path", "AP/PA", *OBSERVATIONS))
    names = table["Path"].str.extract(f"^{PATH_PATTERN}$")
    refuse_rows(
        path,
        table,
        names["file"].isna(),
        "have no Path like CheXpert-v1.0/train/patient00001/study1/view1_...jpg",
        "Path",
    )
    refuse_rows(path, table, table["Path"].duplicated(), "repeat a Path", "Path")
    values = table[list(OBSERVATIONS)].apply(lambda column: column.map(VALUES))
    allowed = ", ".join(repr(value) for value in VALUES)
    refuse_rows(path, table, values.isna().any(axis=1), f"have an observation other than {allowed}", "Path")
    return table[["AP/PA"]].join(values.astype(np.int64)).join(names)
