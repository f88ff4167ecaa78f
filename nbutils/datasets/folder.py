"""folder:PATH — your own images: class folders, or train / test (/ val) folders of class folders.

PATH/<class>/<image>, or PATH/{train,training}/<class>/<image> with {test,testing} and {val,valid,validation} beside
it, in any case. Optionally PATH/groups.csv, columns file,group: the patient (lesion, slide ...) of each image file,
named relative to PATH.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.datasets.assembly import PATIENTS_UNKNOWN, Collection, assemble
from nbutils.datasets.layout import data_folder
from nbutils.datasets.pictures import SUFFIXES, read_squares
from nbutils.datasets.splits import Splits
from nbutils.datasets.tables import read_table
from nbutils.images import ImageSet

SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
GROUPS_FILE = "groups.csv"
CLUTTER = ("Thumbs.db", "desktop.ini", "__MACOSX")  # left by operating systems, beside all hidden files
TWELVE_BITS = 4095


@dataclass(frozen=True)
class ImageFile:
    """One image file: its path, class and split ("" = no splits are given)."""

    path: Path
    class_name: str
    split: str


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read all images below the folder `where`, centre-cropped to squares and resized once to image_size.

    Grey if all images are grey, else RGB. Raises ValueError for folders or files that do not fit.
    """
    root = data_folder(where, "folder:PATH", "class folders, or of train and test")
    return read_folder(root, f"folder:{root.resolve().name}", image_size, seed, duplicates)


def read_folder(root: Path, name: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read a folder as `load` does, as the data set `name`."""
    files, notes = _list_files(root)
    ids = np.array([file.path.relative_to(root).as_posix() for file in files])
    groups, group_notes = file_groups(root, ids)
    class_names = tuple(sorted({file.class_name for file in files}))
    labels = [class_names.index(file.class_name) for file in files]
    squares = read_squares([file.path for file in files], image_size, name)
    images = ImageSet(squares.images, labels, class_names, groups, name)
    splits = np.array([file.split or "train" for file in files])
    notes = (*group_notes, *notes, *squares.crop_notes(), *_depth_notes(squares.peaks))
    return assemble(Collection(images, squares.digests, splits, ids, notes), seed, duplicates)


def _list_files(root: Path) -> tuple[list[ImageFile], list[str]]:
    """Find the image files of all classes and splits, in a fixed order, with notes about skipped files."""
    split_folders = _split_folders(root)
    classes = {split: subfolders(folder) for split, folder in split_folders.items()}
    _check_class_folders(root, {split: {folder.name for folder in found} for split, found in classes.items()})
    skipped: Counter[str] = Counter()
    files = [
        ImageFile(path, folder.name, split)
        for split, folders in classes.items()
        for folder in folders
        for path in _image_paths(folder, skipped)
    ]
    notes = [f"skipped files that are no images: {_listed(skipped)}"] if skipped else []
    return files, notes


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each given split, or {"": root} if the folders in it are classes."""
    folders = subfolders(root)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_OF]
    if not named:
        return {"": root}
    found = {SPLIT_OF[folder.name.lower()]: folder for folder in named}
    if len(named) != len(folders) or len(found) != len(named) or "train" not in found:
        raise ValueError(
            f"{root} holds the folders {', '.join(folder.name for folder in folders)}; allowed are class folders "
            f"alone, or one folder each for train and, as far as they are given, val and test. Rename or move the rest."
        )
    return found


def _check_class_folders(root: Path, classes: dict[str, set[str]]) -> None:
    """Check that there are two classes or more, the same in every split."""
    first, *others = classes
    for split in others:
        if classes[split] != classes[first]:
            raise ValueError(
                f"{root}: {first} and {split} have different class folders; only in {first}: "
                f"{sorted(classes[first] - classes[split])}, only in {split}: "
                f"{sorted(classes[split] - classes[first])}. Both need the same classes, spelt alike."
            )
    if len(classes[first]) < 2:
        found = ", ".join(classes[first]) or "none"
        raise ValueError(
            f"{root}: 2 or more class folders are needed, found {found}. Put each class in its own folder."
        )


def _image_paths(folder: Path, skipped: Counter) -> list[Path]:
    """Return the image files of a class folder by name; others are counted in `skipped`."""
    entries = _visible(folder)
    nested = [entry.name for entry in entries if entry.is_dir()]
    if nested:
        raise ValueError(
            f"{folder} holds folders ({nested[0]!r}, {len(nested)} in all); images must lie directly in their class "
            f"folder. Move them there, and list patients in {GROUPS_FILE}."
        )
    paths = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
    others = Counter(entry.suffix.lower() or "no suffix" for entry in entries if entry.suffix.lower() not in SUFFIXES)
    if not paths:
        found = _listed(others) or "nothing"
        raise ValueError(f"{folder} holds no image; found {found}, allowed are {', '.join(SUFFIXES)}.")
    skipped.update(others)
    return paths


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.name not in CLUTTER and not entry.name.startswith("."))


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, by name."""
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _listed(counts: Counter) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _depth_notes(peaks: np.ndarray) -> list[str]:
    """Note how 16-bit images were shown; peaks: see `Squares`."""
    deep = peaks[peaks >= 0]
    notes = [f"{deep.size} of {peaks.size} images have 16 bits: 0..65535 became 0..255"] * bool(deep.size)
    if deep.size and deep.max() <= TWELVE_BITS:
        notes.append(
            f"none of the 16-bit images uses more than {deep.max()} of 65535 grey levels, so that they come out "
            f"nearly black; stretch the files to the full range before loading them"
        )
    return notes


def file_groups(root: Path, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the group of each file (N,) str, from groups.csv, or else the file itself with a note.

    ids: (N,) str, the files relative to root. Raises ValueError for a table that does not list them all once.
    """
    path = root / GROUPS_FILE
    if not path.is_file():
        return ids, [f"{PATIENTS_UNKNOWN}; a {GROUPS_FILE} (file,group) would tell"]
    table = _read_groups(path)
    unknown, missing = np.setdiff1d(table["file"], ids), np.setdiff1d(ids, table["file"])
    if unknown.size or missing.size:
        raise ValueError(
            f"{path}: {unknown.size} of its files do not exist{_first(unknown)}, and {missing.size} images are not "
            f"listed{_first(missing)}; it must list every image once, relative to {root}."
        )
    return table.set_index("file")["group"].loc[ids].to_numpy(dtype=np.str_), []


def _read_groups(path: Path) -> pd.DataFrame:
    table = read_table(path, ("file", "group"))
    bad = table[table["file"].duplicated() | (table["group"].str.strip() == "")]
    if len(bad):
        raise ValueError(f"{path}: {len(bad)} rows repeat a file or have no group, first {bad['file'].iloc[0]!r}.")
    return table


def _first(names: np.ndarray) -> str:
    return f" (first {str(names[0])!r})" if names.size else ""
