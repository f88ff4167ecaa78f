"""pneumonia:PATH — chest radiographs of children, normal or with pneumonia, as for the utility paper (section III).

PATH holds train and test, each with NORMAL and PNEUMONIA, and on Kaggle val
(<https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia>, 5,216 + 16 + 624 images; the paper's 5,863 is
not their sum). Patients come from the file names: person123_bacteria_45.jpeg, IM-0115-0001.jpeg,
NORMAL2-IM-0373-0001.jpeg, or, as first published (doi:10.17632/rscbjbr9sj), BACTERIA-1008087-0001.jpeg.

Where we differ from the paper:

- It selects models on the 16 images of val. These go back to train, where they were when the set was published, and val
  is carved from train by whole patients.
- The numbers of persons and IM begin anew in each folder (person1_bacteria_1 is in train, person1_virus_6 in test):
  they are taken for one patient within train, or test, whatever the germ, and for two across. Where names hold the
  publishers' patient numbers, one number in both is one patient, and stops the loading.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import v2

from nbutils.datasets.assembly import Collection, assemble
from nbutils.datasets.folder import subfolders
from nbutils.datasets.layout import data_folder
from nbutils.datasets.pictures import SUFFIXES, read_squares
from nbutils.datasets.splits import Splits
from nbutils.images import ImageSet

CLASS_NAMES = ("normal", "pneumonia")
FOLDERS = ("NORMAL", "PNEUMONIA")
SPLIT_OF = {"train": "train", "val": "train", "test": "test"}
NUMBERED = re.compile(r"(person\d+)_(?:bacteria|virus)_.*|((?:NORMAL2-)?IM-\d+)-.*")  # anew in each folder
PUBLISHED = re.compile(r"(?:NORMAL|BACTERIA|VIRUS)-(\d+)-\d+")


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read all radiographs whole, squeezed to (1, image_size, image_size) as in the paper; seed: of val.

    Raises ValueError for folders, names or files that do not fit.
    """
    root = data_folder(where, "pneumonia:PATH", f"train and test, each with {' and '.join(FOLDERS)}")
    paths, labels, splits = _list_files(root)
    groups = [patient_of(path, split) for path, split in zip(paths, splits, strict=True)]
    squares = read_squares(paths, image_size, "pneumonia", _square)
    images = ImageSet(squares.images, labels, CLASS_NAMES, groups, "pneumonia")
    ids = np.array([path.relative_to(root).as_posix() for path in paths])
    moved = sum(name.startswith("val/") for name in ids)
    notes = (
        f"{moved} images of val were put back into train",
        "radiographs were squeezed to squares; patients are told by file names, whose numbers begin anew in test",
    )
    return assemble(Collection(images, squares.digests, np.array(splits), ids, notes), seed, duplicates)


def patient_of(path: Path, split: str) -> str:
    """Return the patient of a file by its name. Raises ValueError for a name of another form."""
    if found := PUBLISHED.fullmatch(path.stem):
        return f"patient{found[1]}"
    if found := NUMBERED.fullmatch(path.stem):
        return f"{split}-{found[1] or found[2]}"
    raise ValueError(
        f"{path} is named like no published file: person123_bacteria_45.jpeg, IM-0115-0001.jpeg, "
        f"NORMAL2-IM-0373-0001.jpeg or BACTERIA-1008087-0001.jpeg. For other files use folder:PATH."
    )


def _list_files(root: Path) -> tuple[list[Path], list[int], list[str]]:
    """Return the image files with the label and the split of each, in a fixed order."""
    paths, labels, splits = [], [], []
    for folder, split in SPLIT_OF.items():
        if folder == "val" and not (root / folder).is_dir():
            continue
        found = [entry.name for entry in subfolders(root / folder)] if (root / folder).is_dir() else []
        if found != list(FOLDERS):
            raise ValueError(
                f"{root / folder} must hold the folders {', '.join(FOLDERS)}, found {', '.join(found) or 'none'}. "
                f"See data/README.md."
            )
        for label, name in enumerate(FOLDERS):
            files = sorted(path for path in (root / folder / name).iterdir() if _is_image(path))
            paths, labels, splits = paths + files, labels + [label] * len(files), splits + [split] * len(files)
    return paths, labels, splits


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _square(path: Path, pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Squeeze a radiograph to a grey square; some of the published ones are stored in colour."""
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path} must have 8 bits as published, found {pixels.dtype}.")
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2).round().astype(np.uint8)
    mode = v2.InterpolationMode.BICUBIC
    image = torch.from_numpy(np.ascontiguousarray(grey))[None]  # (1, H, W)
    return v2.functional.resize(image, [image_size, image_size], interpolation=mode, antialias=True).numpy()
