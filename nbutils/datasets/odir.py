"""odir:PATH — fundus photographs of ODIR-5K in eight classes, with one label for each eye, for MAGE + adapter.

PATH holds either the whole set, OIA-ODIR (<https://github.com/nkicsl/OIA-ODIR>), in its folders Training Set, Off-site
Test Set and On-site Test Set, or what the challenge gave its participants: the table
ODIR-5K_Training_Annotations(Updated)_V2.xlsx and the images in ODIR-5K_Training_Dataset. A table has a row for each
patient: ID, Left-Fundus and Right-Fundus (file names), Left-Diagnostic Keywords and Right-Diagnostic Keywords, and 0 or
1 for the patient in each column of CLASS_NAMES.

A patient may have several classes, and no column says which eye has them. The paper does not say how it made one label
of that; this is our protocol:

- An eye's classes are read from its own keywords by TERMS; what is in none of them is O. A suspected disease counts as
  the disease. Those of both eyes together, N only if there is no other, should be the patient's columns, since so the
  challenge made them; a note says for how many patients they are.
- Eyes with exactly one class are kept. Eyes whose keywords tell of the photograph (IMAGE_NOTES) are left out; the
  challenge keeps most of them and calls those keywords not decisive.
- Test is the two test sets of OIA-ODIR, else carved by patients. The paper's accuracies are multiples of 1/3067, a
  little more than the 3,000 eyes of these two sets, as if eyes with two classes had been taken twice.
- The field of view is cut out and padded (see fundus.py).
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.datasets.assembly import Collection, assemble
from nbutils.datasets.fundus import FUNDUS_NOTE, fundus_square
from nbutils.datasets.layout import data_folder, require_files
from nbutils.datasets.pictures import read_squares
from nbutils.datasets.splits import Splits
from nbutils.datasets.tables import read_workbook, refuse_rows
from nbutils.images import ImageSet

CLASS_NAMES = ("N", "D", "G", "C", "A", "H", "M", "O")
TERMS = {
    "N": ("normal fundus",),
    "D": ("diabetic retinopathy", "proliferative retinopathy"),  # the latter also in nonproliferative
    "G": ("glaucoma",),
    "C": ("cataract",),
    "A": ("macular degeneration",),  # age-related, dry or wet
    "H": ("hypertensive retinopathy",),
    "M": ("myopi",),  # pathological myopia, myopic maculopathy, myopia retinopathy ...
}
IMAGE_NOTES = (
    "no fundus image", "anterior segment image", "optic disk photographically invisible", "low image quality",
    "image offset", "lens dust",
)  # fmt: skip
SIDES = ("Left", "Right")
COLUMNS = ("ID", *(f"{side}-{what}" for side in SIDES for what in ("Fundus", "Diagnostic Keywords")), *CLASS_NAMES)


@dataclass(frozen=True)
class Part:
    """A published part of the data: its table and its folder of images, and the split they are."""

    table: str
    images: str
    split: str


LAYOUTS = (
    tuple(
        Part(f"{name}/Annotation/{table} annotation (English).xlsx", f"{name}/Images", split)
        for name, table, split in (
            ("Training Set", "training", "train"),
            ("Off-site Test Set", "off-site test", "test"),
            ("On-site Test Set", "on-site test", "test"),
        )
    ),
    (Part("ODIR-5K_Training_Annotations(Updated)_V2.xlsx", "ODIR-5K_Training_Dataset", "train"),),
)


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read the eyes with one class, (3, image_size, image_size); groups are patients. seed: of what is carved.

    Raises ValueError for tables and files that do not fit, ImportError without openpyxl.
    """
    folder = data_folder(where, "odir:PATH", "the published tables and images, see data/README.md")
    parts = _parts(folder)
    tables = [_read_table(folder / part.table) for part in parts]
    eyes = pd.concat([_eyes(table, part) for table, part in zip(tables, parts, strict=True)], ignore_index=True)
    classes = eyes["keywords"].map(eye_classes)
    kept = (classes.map(len) == 1) & (eyes["keywords"].map(image_notes).map(len) == 0)
    notes = (_agreement_note(pd.concat(tables)), *_left_out_notes(eyes["keywords"]), FUNDUS_NOTE)
    eyes, labels = eyes[kept], [CLASS_NAMES.index(*found) for found in classes[kept]]
    files, splits = (eyes[column].to_numpy(dtype=np.str_) for column in ("file", "split"))
    require_files(folder, files, "Unpack the images again.")
    squares = read_squares([folder / file for file in files], image_size, "odir", fundus_square)
    images = ImageSet(squares.images, labels, CLASS_NAMES, eyes["patient"], "odir")
    return assemble(Collection(images, squares.digests, splits, files, notes), seed, duplicates)


def eye_classes(keywords: str) -> frozenset[str]:
    """Return the classes of an eye by its keywords, which are separated by commas, ASCII or full-width."""
    found = [word for word in _words(keywords) if word not in IMAGE_NOTES]
    return frozenset(
        next((name for name, terms in TERMS.items() if any(term in word for term in terms)), "O") for word in found
    )


def image_notes(keywords: str) -> frozenset[str]:
    """Return those of the keywords that tell of the photograph."""
    return frozenset(_words(keywords)) & frozenset(IMAGE_NOTES)


def patient_classes(left: str, right: str) -> frozenset[str]:
    """Return the classes of a patient by the keywords of both eyes: N only if there is no other."""
    found = eye_classes(left) | eye_classes(right)
    return found - {"N"} or found


def _words(keywords: str) -> list[str]:
    words = (" ".join(word.split()).lower() for word in re.split("[,，]", keywords))
    return [word for word in words if word]


def _parts(folder: Path) -> tuple[Part, ...]:
    """Return the parts of the layout that is there, with all their tables."""
    for parts in LAYOUTS:
        if (folder / parts[0].table).is_file():
            require_files(folder, [part.table for part in parts], "OIA-ODIR has a table in each of its three folders.")
            return parts
    raise ValueError(
        f"{folder} holds neither {' nor '.join(parts[0].table for parts in LAYOUTS)}; odir:PATH takes the folder of "
        f"OIA-ODIR or of the challenge. See data/README.md."
    )


def _read_table(path: Path) -> pd.DataFrame:
    table = read_workbook(path, COLUMNS)
    refuse_rows(path, table, table["ID"].duplicated(), "repeat an ID", "ID")
    marks = table[list(CLASS_NAMES)]
    refuse_rows(path, table, ~marks.isin(["0", "1"]).all(axis=1), "have a class other than 0 or 1", "ID")
    return table


def _eyes(table: pd.DataFrame, part: Part) -> pd.DataFrame:
    """Return a row for each eye: patient, file (relative to PATH), keywords, split.

    Patients are told by part and number: the three sets are of 3,500, 500 and 1,000 different ones.
    """
    sides = [
        pd.DataFrame(
            {
                "patient": f"{part.images}/" + table["ID"],
                "file": f"{part.images}/" + table[f"{side}-Fundus"],
                "keywords": table[f"{side}-Diagnostic Keywords"],
                "split": part.split,
            }
        )
        for side in SIDES
    ]
    return pd.concat(sides, ignore_index=True)


def _agreement_note(table: pd.DataFrame) -> str:
    """Say for how many patients the keywords tell the classes that the table has in their columns."""
    keywords = (table[f"{side}-Diagnostic Keywords"] for side in SIDES)
    read = [patient_classes(left, right) for left, right in zip(*keywords, strict=True)]
    given = [
        frozenset(name for name, mark in zip(CLASS_NAMES, row, strict=True) if mark == "1")
        for row in table[list(CLASS_NAMES)].to_numpy()
    ]
    same = sum(a == b for a, b in zip(read, given, strict=True))
    return f"classes read from the keywords of both eyes are those of the table for {same} of {len(table)} patients"


def _left_out_notes(keywords: pd.Series) -> list[str]:
    told = keywords.map(image_notes)
    counts = Counter(note for notes in told for note in sorted(notes))
    sizes = keywords[told.map(len) == 0].map(eye_classes).map(len)
    listed = ", ".join(f"{note} {count}" for note, count in counts.most_common())
    return [
        f"{(told.map(len) > 0).sum()} of {len(keywords)} eyes were left out for their photograph"
        + f" ({listed})" * bool(listed),
        f"{(sizes > 1).sum()} more eyes were left out with several classes, {(sizes == 0).sum()} without keywords",
    ]
