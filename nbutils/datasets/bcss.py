"""bcss:PATH — patches of six tissues out of BCSS (breast) and Lizard (colon), as for the utility paper (section III).

PATH holds both sets as published:

- bcss/masks/TCGA-..._MPP-0.2500.png and bcss/images (or bcss/rgbs_colorNormalized) with files of the same names: what
  the scripts of <https://github.com/PathologyDataScience/BCSS> fetch. A mask's pixels are the codes of its
  meta/gtruth_codes.tsv; MPP is the pixel size in um;
- lizard/Lizard_Images1 and Lizard_Images2 with NAME.png at 20x, lizard/Lizard_Labels/Labels with NAME.mat: inst_map
  (H, W), the number of the nucleus at each pixel, 0 = none; id and class (N, 1), its kind as in NUCLEI. Folders between
  these, such as those of the archives, do not matter.

Where the paper is silent, or we differ:

- How a patch got its class is not stated, nor how nuclei became tissues. Here a BCSS patch has the class that covers
  more than half of it, a Lizard patch that of more than half of its nuclei, of which it needs MIN_NUCLEI. All others
  are left out.
- The paper crops 256 px whatever their size. BCSS comes at twice Lizard's magnification, which would tell one from the
  other; we crop FIELD_UM, which are 256 px of Lizard.
- Nearly all glands are Lizard's, all else but stroma and infiltrates BCSS's: organ, laboratory and scanner still tell
  them apart.
- The paper's shares, 40/20/40, are kept; patients of BCSS and images of Lizard are in one split only.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from nbutils.datasets.assembly import Collection, assemble, digest
from nbutils.datasets.layout import data_folder, first_existing
from nbutils.datasets.pictures import read_picture
from nbutils.datasets.splits import Splits
from nbutils.images import ImageSet, resize
from nbutils.progress import progress

CLASS_NAMES = ("inflammatory", "necrosis", "stroma", "tumor", "fat", "gland")  # in the order of the paper
CODES = {  # of the masks: tumour with angioinvasion and DCIS, all inflammatory cells, normal acini and ducts
    "inflammatory": (3, 10, 11), "necrosis": (4,), "stroma": (2,), "tumor": (1, 19, 20), "fat": (9,), "gland": (13,),
}  # fmt: skip
HIGHEST_CODE = 21
NUCLEI = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")  # class 1 to 6 of Lizard
TISSUE_OF = ("inflammatory", "gland", "inflammatory", "inflammatory", "inflammatory", "stroma")
FIELD_UM = 128.0
LIZARD_UM = 0.5  # size of a pixel at 20x
MIN_NUCLEI = 10
SHARE = 0.5  # of pixels or nuclei, of which a class needs more
TEST_SHARE, VAL_SHARE = (
    7478 / 18703,
    3741 / 11225,
)  # of all, and of what is not test; train is 7,484, a misprint in the text
NONE = -1
MASK_NAME = re.compile(r"(?P<patient>TCGA-\w{2}-\w{4}).*_MPP-(?P<mpp>\d+\.\d+)\.png")
DAMAGED = (
    MatReadError,
    ValueError,
    NotImplementedError,
    OSError,
    TypeError,
)  # what scipy raises for a broken .mat file


@dataclass(frozen=True)
class Region:
    """A part of a slide: its image, what labels it, whose it is, and the side of its patches in pixels."""

    image: Path
    labels: Path
    group: str
    side: int


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Cut all regions into patches (3, image_size, image_size) and keep those of one class. seed: of the splits.

    Raises ValueError for files that are missing, damaged or do not fit.
    """
    folder = data_folder(where, "bcss:PATH", "bcss and lizard, see data/README.md")
    regions = [*_bcss_regions(folder), *_lizard_regions(folder)]
    pixels, labels, groups, digests, ids, left_out = [], [], [], [], [], 0
    for region in progress(regions, description="bcss: cutting", unit="region"):
        patches, classes = patches_of(region)
        kept = np.flatnonzero(classes != NONE)
        left_out += len(classes) - len(kept)
        if len(kept):
            pixels.append(resize(np.ascontiguousarray(patches[kept]), image_size))
        labels.extend(classes[kept])
        groups.extend([region.group] * len(kept))
        digests.extend(digest(patch) for patch in patches[kept])
        ids.extend(f"{region.image.name}[{i}]" for i in kept)
    if not pixels:
        raise ValueError(
            f"{folder}: none of {left_out} patches has one class; are these the published masks and labels?"
        )
    images = ImageSet(np.concatenate(pixels), labels, CLASS_NAMES, groups, "bcss")
    notes = (
        f"patches of {FIELD_UM:g} um; {left_out} of {left_out + len(labels)} left out: no class in more than half",
        "groups are the patients of BCSS and the images of Lizard, whose patients are not published",
    )
    splits = np.full(len(labels), "train", dtype="<U5")
    collection = Collection(images, np.array(digests), splits, np.array(ids), notes)
    return assemble(collection, seed, duplicates, VAL_SHARE, TEST_SHARE)


def patches_of(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Return the patches of a region in rows, (n, 3, side, side) uint8, and their classes, (n,) int64, or NONE."""
    picture = read_picture(region.image)
    if picture.ndim != 3 or picture.dtype != np.uint8:
        raise ValueError(f"{region.image} must be an RGB image of 8 bits, found {picture.dtype} {picture.shape}.")
    classes = _mask_classes(region, picture.shape) if region.labels.suffix == ".png" else _nuclei(region, picture.shape)
    return _cut(picture, region.side).transpose(0, 3, 1, 2), classes


def _cut(picture: np.ndarray, side: int) -> np.ndarray:
    """Cut (H, W, ...) into squares from the upper left corner, (n, side, side, ...); what is left over is dropped."""
    rows, columns = (length // side for length in picture.shape[:2])
    squares = picture[: rows * side, : columns * side].reshape(rows, side, columns, side, *picture.shape[2:])
    return squares.swapaxes(1, 2).reshape(rows * columns, side, side, *picture.shape[2:])


def _majority(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the class with more than SHARE of a total, (n,), else NONE; counts: (n, classes)."""
    best = counts.argmax(axis=1)
    return np.where(counts.max(axis=1) > SHARE * total, best, NONE)


def _mask_classes(region: Region, shape: tuple[int, ...]) -> np.ndarray:
    """Return the class of each patch by the area that its codes cover."""
    mask = read_picture(region.labels)
    if mask.shape != shape[:2] or mask.max() > HIGHEST_CODE:
        raise ValueError(
            f"{region.labels} must be a grey mask {shape[:2]} like its image, with codes 0 to {HIGHEST_CODE}, found "
            f"{mask.shape} with up to {mask.max()}. Use the published masks."
        )
    squares = _cut(mask, region.side).reshape(-1, region.side**2)
    counts = np.stack([np.isin(squares, CODES[name]).sum(axis=1) for name in CLASS_NAMES], axis=1)
    return _majority(counts, np.full(len(squares), region.side**2))


def _nuclei(region: Region, shape: tuple[int, ...]) -> np.ndarray:
    """Return the class of each patch by the number of nuclei that lie in it, wholly or in part."""
    try:
        labels = loadmat(region.labels)
        numbers, kinds = (labels[key].reshape(-1).astype(np.int64) for key in ("id", "class"))
        instances = labels["inst_map"].astype(np.int64)
    except (*DAMAGED, KeyError) as error:
        raise ValueError(f"Cannot read inst_map, id and class in {region.labels}: {error}. Get it again.") from error
    if instances.shape != shape[:2] or len(numbers) != len(kinds) or not np.isin(kinds, np.arange(1, 7)).all():
        raise ValueError(
            f"{region.labels} must hold inst_map {shape[:2]} like its image and a class 1 to 6 for each id, found "
            f"{instances.shape}, {len(numbers)} ids and {len(kinds)} classes up to {kinds.max(initial=0)}."
        )
    tissue_of = dict(zip(numbers, (CLASS_NAMES.index(TISSUE_OF[kind - 1]) for kind in kinds), strict=True))
    counts = np.zeros((0, len(CLASS_NAMES)), dtype=np.int64)
    for square in _cut(instances, region.side):
        found = [tissue_of[number] for number in np.unique(square) if number in tissue_of]
        counts = np.vstack([counts, np.bincount(found, minlength=len(CLASS_NAMES))])
    total = counts.sum(axis=1)
    return np.where(total >= MIN_NUCLEI, _majority(counts, total), NONE)


def _bcss_regions(folder: Path) -> list[Region]:
    images, masks = first_existing(folder / "bcss", ("images", "rgbs_colorNormalized")), folder / "bcss" / "masks"
    paths = sorted(masks.glob("*.png")) if images else []
    if not paths:
        raise ValueError(f"{folder} holds no bcss/masks/*.png with bcss/images beside it. See data/README.md.")
    regions = []
    for path in paths:
        name, image = MASK_NAME.fullmatch(path.name), images / path.name
        if not name or not image.is_file():
            what = "has no image of its name" if name else "is not named TCGA-XX-XXXX-..._MPP-0.2500.png"
            raise ValueError(f"{path} {what}. Fetch BCSS again, all with one resolution.")
        regions.append(Region(image, path, name["patient"], round(FIELD_UM / float(name["mpp"]))))
    return regions


def _lizard_regions(folder: Path) -> list[Region]:
    root = folder / "lizard"
    images = {path.stem: path for part in ("1", "2") for path in root.rglob(f"Lizard_Images{part}/**/*.png")}
    labels = {path.stem: path for path in root.rglob("*.mat")}
    if not images or images.keys() != labels.keys():
        raise ValueError(
            f"{root} must hold an image below Lizard_Images1 or Lizard_Images2 for each .mat file, found {len(images)} "
            f"images and {len(labels)} .mat files, {len(images.keys() & labels.keys())} with the same names."
        )
    side = round(FIELD_UM / LIZARD_UM)
    return [Region(images[name], labels[name], f"lizard-{name}", side) for name in sorted(images)]
