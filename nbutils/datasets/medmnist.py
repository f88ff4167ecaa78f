"""medmnist:NAME — the 2-D sets of MedMNIST; medmnist:PATH.npz — any file in MedMNIST's layout.

Layout: arrays train_images (N, H, W) or (N, H, W, 3) uint8 and train_labels (N,) or (N, 1) integers 0, 1, 2 ...; the
same for val and test, which are carved from train where they are missing.
"""

import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
from torchvision.datasets.utils import calculate_md5, download_url

from nbutils.artefacts import cache_folder
from nbutils.datasets.assembly import PATIENTS_UNKNOWN, Collection, assemble, digest
from nbutils.datasets.medmnist_sets import PUBLISHED, SIZES
from nbutils.datasets.pictures import centre_crop
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.files import atomic
from nbutils.images import ImageSet, resize
from nbutils.scales import choose

RECORD = "https://zenodo.org/records/10519652"
MULTI_LABEL = "chestmnist"
LISTED = 10  # labels that a message shows at most
CHUNK = 1024  # images resized at once, which bounds the memory for the largest files
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)  # what numpy raises for broken files


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read a published set by name, in the published size that fits image_size best, or a .npz file by its path.

    Raises ValueError for an unknown name, for a file that is not in the layout or has several labels per image, and,
    with the steps to do by hand, when a file cannot be downloaded.
    """
    published = not where.endswith(".npz")
    path = _published_file(where, image_size) if published else Path(where).expanduser()
    parts = _read(path)
    labels = np.concatenate([labels for _, labels in parts.values()])
    splits = np.repeat(list(parts), [len(labels) for _, labels in parts.values()])
    ids = np.array([f"{split}[{i}]" for split, (_, labels) in parts.items() for i in range(len(labels))])
    pixels = np.concatenate([_shrink(images, image_size) for images, _ in parts.values()])
    digests = np.array([digest(image) for images, _ in parts.values() for image in images])
    if published:
        class_names, remark = PUBLISHED[where].class_names, PUBLISHED[where].remark
    else:
        class_names, remark = _numbered_classes(labels, path), None
    images = ImageSet(pixels, labels, class_names, ids, f"medmnist:{path.stem}")
    notes = (PATIENTS_UNKNOWN, remark) if remark else (PATIENTS_UNKNOWN,)
    return assemble(Collection(images, digests, splits, ids, notes), seed, duplicates)


def _published_file(name: str, image_size: int) -> Path:
    """Return the checked file of a published set, downloaded if it is not in the cache."""
    if name == MULTI_LABEL:
        raise ValueError(f"medmnist:{name} has several labels per image; the suite takes sets with one label each.")
    published = choose("MedMNIST set", name, PUBLISHED)
    size = min((size for size in SIZES if size >= image_size), default=SIZES[-1])
    path = cache_folder() / "medmnist" / (f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz")
    md5 = published.md5[SIZES.index(size)]
    if not path.is_file():
        _download(path, md5)
    found = calculate_md5(path)
    if found != md5:
        raise ValueError(f"{path} is damaged: its MD5 sum is {found}, published is {md5}. Delete it and load again.")
    return path


def _download(path: Path, md5: str) -> None:
    url = f"{RECORD}/files/{path.name}?download=1"
    try:
        with atomic(path) as temporary:
            download_url(url, temporary.parent, temporary.name, md5)
    except (OSError, RuntimeError, HTTPException) as error:
        raise ValueError(
            f"Cannot download {url} ({error}). By hand: fetch {path.name} from {RECORD} on any machine, check that its "
            f"MD5 sum is {md5}, and put it at {path}; or give another file as medmnist:PATH.npz."
        ) from error


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the given splits of a file: images (N, C, H, W) uint8 and labels (N,) int64."""
    if not path.is_file():
        raise ValueError(
            f"No file at {path}; medmnist: takes the path of a .npz file or one of {', '.join(PUBLISHED)}."
        )
    try:
        with np.lib.npyio.NpzFile(path, allow_pickle=False) as archive:  # np.load would take a lone .npy array too
            keys = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
            arrays = {key: archive[key] for key in keys if key in archive.files}
            found = archive.files
    except DAMAGED as error:
        raise ValueError(f"Cannot read {path} as a .npz file of plain arrays: {error}.") from error
    given = [
        split for split in SPLITS if split == "train" or f"{split}_images" in arrays or f"{split}_labels" in arrays
    ]
    needed = [f"{split}_{part}" for split in given for part in ("images", "labels")]
    if set(needed) - set(arrays):
        raise ValueError(f"{path} needs the arrays {', '.join(needed)}; found {', '.join(found) or 'none'}.")
    return {
        split: _checked(arrays[f"{split}_images"], arrays[f"{split}_labels"], f"{path}, {split}") for split in given
    }


def _checked(images: np.ndarray, labels: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Check one split and return images (N, C, H, W) uint8 and labels (N,) int64."""
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))):
        raise ValueError(
            f"{where}: images must be uint8 (N, H, W) or (N, H, W, 3), found {images.dtype} {images.shape}; 3-D sets "
            f"are not supported."
        )
    if images.size == 0:
        raise ValueError(
            f"{where}: there are no images, found an array {images.shape}. Add some; val and test may be left out, and "
            f"are then carved from train."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{where}: found {labels.shape[1]} labels per image; the suite takes sets with one label each."
        )
    if labels.shape[0] != len(images) or labels.size != len(images):
        raise ValueError(f"{where}: {len(images)} images need as many labels, found an array {labels.shape}.")
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0:
        found = f"the minimum {labels.min()}" if whole else labels.dtype
        raise ValueError(f"{where}: labels must be integers 0, 1, 2 ..., found {found}.")
    images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)  # (N, C, H, W)
    return images, labels.reshape(-1).astype(np.int64)


def _numbered_classes(labels: np.ndarray, path: Path) -> list[str]:
    """Return "class 0", "class 1" ... for the labels (N,) of all splits. Raises ValueError if a number has no image."""
    found = np.unique(labels)
    astray = np.flatnonzero(found != np.arange(len(found)))
    if astray.size:
        listed = ", ".join(map(str, found[:LISTED])) + (" ..." if len(found) > LISTED else "")
        raise ValueError(
            f"{path}: labels must run from 0 to K - 1 without a gap, but {astray[0]} is missing; found {listed}. "
            f"Renumber them."
        )
    return [f"class {label}" for label in found]


def _shrink(images: np.ndarray, image_size: int) -> np.ndarray:
    """Crop to the central square and resize, (N, C, H, W) -> (N, C, image_size, image_size)."""
    chunks = [images[first : first + CHUNK] for first in range(0, len(images), CHUNK)]
    return np.concatenate([resize(centre_crop(chunk), image_size) for chunk in chunks])
