"""aptos:PATH — fundus photographs of APTOS 2019 in five grades of diabetic retinopathy, as IOIS uses them.

PATH holds the training data of the Kaggle competition: train.csv (id_code, diagnosis 0 to 4) and
train_images/ID_CODE.png. The competition's own test images have no public labels and are not read.

Where the paper is silent, or we differ:

- All splits are carved from train.csv in the paper's shares, 70/10/20; the released code has 80/20 and no validation.
- Copies of an image stay in one split, whatever their labels. Patients are not published.
- The field of view is cut out and padded (see fundus.py); the released code squeezes the whole photograph.
"""

import numpy as np

from nbutils.datasets.assembly import PATIENTS_UNKNOWN, Collection, assemble
from nbutils.datasets.fundus import FUNDUS_NOTE, fundus_square
from nbutils.datasets.layout import data_folder, require_files
from nbutils.datasets.pictures import read_squares
from nbutils.datasets.splits import Splits
from nbutils.datasets.tables import read_table, refuse_rows
from nbutils.images import ImageSet

CLASS_NAMES = ("no DR", "mild", "moderate", "severe", "proliferative")
TABLE = "train.csv"
VAL_SHARE = 1 / 8  # of what is not test: 10 % of all, in IOIS


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read all graded photographs, (3, image_size, image_size), and carve 70/10/20. seed: of the split.

    Raises ValueError for a table and files that do not fit.
    """
    folder = data_folder(where, "aptos:PATH", f"{TABLE} and train_images, see data/README.md")
    require_files(folder, [TABLE], "aptos:PATH takes the folder that holds it.")
    table = read_table(folder / TABLE, ("id_code", "diagnosis"))
    grades = [str(grade) for grade in range(len(CLASS_NAMES))]
    refuse_rows(folder / TABLE, table, table["id_code"].duplicated(), "repeat an id_code", "id_code")
    unknown = ~table["diagnosis"].isin(grades)
    refuse_rows(folder / TABLE, table, unknown, f"have a diagnosis other than {', '.join(grades)}", "diagnosis")
    ids = table["id_code"].to_numpy(dtype=np.str_)
    files = [f"train_images/{name}.png" for name in ids]
    require_files(folder, files, "Unpack train_images.zip again.")
    squares = read_squares([folder / file for file in files], image_size, "aptos", fundus_square)
    images = ImageSet(squares.images, table["diagnosis"].astype(int), CLASS_NAMES, ids, "aptos")
    splits = np.full(len(ids), "train")
    notes = (PATIENTS_UNKNOWN, FUNDUS_NOTE)
    return assemble(Collection(images, squares.digests, splits, ids, notes), seed, duplicates, VAL_SHARE)
