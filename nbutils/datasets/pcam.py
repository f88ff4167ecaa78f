"""pcam:PATH — Patch Camelyon, lymph node patches with and without metastasis, as for textual inversion (section 3.3.3).

PATH holds the published files, unpacked, for each SPLIT of train, valid and test:

- camelyonpatch_level_2_split_SPLIT_x.h5: x (N, 96, 96, 3) uint8,
- camelyonpatch_level_2_split_SPLIT_y.h5: y (N, 1, 1, 1), 1 = tumour in the central 32 x 32 pixels,
- camelyonpatch_level_2_split_SPLIT_meta.csv: the slide of each patch in the column wsi.

The published splits are kept. The paper draws one set of 100 + 100 patches and does not say from which split; we draw
as many from each. 96 pixels become image_size in one bicubic step (paper: "upsampled").
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nbutils.datasets.assembly import Collection, assemble, digest
from nbutils.datasets.layout import data_folder, require_files
from nbutils.datasets.sampling import draw
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.datasets.tables import read_table
from nbutils.images import ImageSet, concatenate, resize

CLASS_NAMES = ("normal", "tumour")
PER_CLASS = 100  # in each split, as in the paper
PUBLISHED = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))  # names of the splits in the files
PATCH = (96, 96, 3)  # height, width, RGB


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Draw PER_CLASS patches of each class from each published split, (3, image_size, image_size).

    Only the patches drawn are read, one by one: x of train alone is 7 GB. Groups are slides. seed: of the draw.

    Raises ValueError for files that are missing, damaged or do not fit, ImportError without h5py.
    """
    folder = data_folder(where, "pcam:PATH", "the published files, see data/README.md")
    _check_files(folder)
    parts = [_read_split(folder, split, image_size, seed) for split in SPLITS]
    arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in ("digests", "splits", "ids"))
    notes = (*(note for part in parts for note in part.notes), "groups are slides; their patients are not published")
    images = concatenate([part.images for part in parts], "pcam")
    return assemble(Collection(images, *arrays, notes), seed, duplicates)


def _read_split(folder: Path, split: str, image_size: int, seed: int) -> Collection:
    """Draw and read the patches of one published split."""
    labels, slides = _read_labels(folder, split), _read_slides(folder, split)
    if len(slides) != len(labels):
        raise ValueError(
            f"{folder}, {split}: {len(labels)} labels but {len(slides)} rows in the meta file; use the published files."
        )
    ids = np.array([f"{split}[{i}]" for i in range(len(labels))])
    chosen, splits, notes = draw(labels, ids, CLASS_NAMES, PER_CLASS, seed, (split,))
    patches = read_patches(_path(folder, split, "x.h5"), chosen, len(labels))
    pixels = resize(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)), image_size)  # (n, 3, image_size, image_size)
    images = ImageSet(pixels, labels[chosen], CLASS_NAMES, slides[chosen], f"pcam {split}")
    return Collection(images, np.array([digest(patch) for patch in patches]), splits, ids[chosen], tuple(notes))


def read_patches(path: Path, indices: np.ndarray, count: int) -> np.ndarray:
    """Read the patches at `indices` alone out of an x file that must hold `count`, (n, 96, 96, 3) uint8."""
    with _dataset(path, "x") as x:
        if x.shape != (count, *PATCH) or x.dtype != np.uint8:
            raise ValueError(
                f"{path}: x must be uint8 {(count, *PATCH)}, one for each label, found {x.dtype} {x.shape}."
            )
        return np.stack([x[i] for i in indices])


def _read_labels(folder: Path, split: str) -> np.ndarray:
    """Return the labels of a split, (N,) int64, 0 or 1."""
    path = _path(folder, split, "y.h5")
    with _dataset(path, "y") as y:
        if y.shape[1:] != (1, 1, 1):
            raise ValueError(f"{path}: y must be (N, 1, 1, 1), found {y.shape}; use the published file.")
        labels = y[:].reshape(-1).astype(np.int64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{path}: y must be 0 or 1, found {labels.min()} to {labels.max()}; use the published file.")
    return labels


def _read_slides(folder: Path, split: str) -> np.ndarray:
    """Return the name of each patch's slide, (N,) str."""
    return read_table(_path(folder, split, "meta.csv"), ("wsi",))["wsi"].to_numpy(dtype=np.str_)


@contextmanager
def _dataset(path: Path, name: str):
    """Open an .h5 file and give its data set `name`, whose elements are read when they are asked for."""
    h5py = _h5py()
    try:
        with h5py.File(path) as file:
            if name not in file:
                raise ValueError(f"{path} holds no data set {name!r}; found {', '.join(file) or 'none'}.")
            yield file[name]
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error}. It may be cut off: get it again and unpack it.") from error


def _path(folder: Path, split: str, ending: str) -> Path:
    return folder / f"camelyonpatch_level_2_split_{PUBLISHED[split]}_{ending}"


def _check_files(folder: Path) -> None:
    """Check that all nine files are there, and say so if only packed ones are."""
    names = [_path(folder, split, ending).name for split in SPLITS for ending in ("x.h5", "y.h5", "meta.csv")]
    packed = [name for name in names if not (folder / name).is_file() and (folder / f"{name}.gz").is_file()]
    advice = f"Unpack them first: gunzip --keep {packed[0]}.gz ..." if packed else "Get them from the PCam page."
    require_files(folder, names, advice)


def _h5py():
    """Import h5py, which only this data set needs."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'pcam: reads its patches with h5py, which is not installed: pip install -e ".[datasets]"'
        ) from error
    return h5py
