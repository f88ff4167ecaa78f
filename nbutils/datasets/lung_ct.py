"""lung_ct:PATH — montages of CT volumes of the chest, made as in the utility paper (section III).

The paper's scans (Walsh et al., Lancet Respir Med 2018) are private; the layout here is ours: PATH/CLASS/VOLUME, two
class folders or more, one file for each scan in Hounsfield units that SimpleITK reads (.nii.gz, .nii, .mha, .mhd,
.nrrd). Optionally PATH/groups.csv, columns file,group: the patient of each volume.

Where the paper is silent, or we differ:

- Lung is what is below LUNG_HU in a slice and not joined to its border; the paper does not say how lungs were found.
- The window is that of the phantom, level -600, width 1500 HU.
- Half of the volumes are test, as in the paper. It halves 52,540 montages into 26,270, which is no multiple of 20: one
  scan at least was in both halves. Here a volume, and a patient if groups.csv tells, is in one split only.
"""

from pathlib import Path

import numpy as np

from nbutils.datasets.assembly import Collection, assemble, digest
from nbutils.datasets.folder import file_groups, subfolders
from nbutils.datasets.layout import data_folder
from nbutils.datasets.splits import Splits
from nbutils.datasets.volumes import read_volume, simpleitk
from nbutils.images import ImageSet, resize
from nbutils.montage import MONTAGES_PER_VOLUME, NUM_CLUSTERS, choose_slices, lung_shares, tiled
from nbutils.phantoms.lung_ct import WINDOW_HU
from nbutils.progress import progress
from nbutils.seeds import derive_seed

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
TEST_SHARE = 0.5


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Make MONTAGES_PER_VOLUME montages (1, image_size, image_size) of each volume. seed: of slices and splits.

    Raises ValueError for folders and volumes that do not fit, ImportError without SimpleITK.
    """
    root = data_folder(where, "lung_ct:PATH", "class folders of volumes, see data/README.md")
    volumes, class_names = _list_volumes(root)
    names = np.array([path.relative_to(root).as_posix() for path in volumes])
    groups, notes = file_groups(root, names)
    labels = np.array([class_names.index(path.parent.name) for path in volumes])
    bar = progress(zip(volumes, names, strict=True), description="lung_ct: reading", total=len(names), unit="volume")
    raw = [montages(path, derive_seed(seed, "montages", str(name))) for path, name in bar]  # each (20, 1, H, W)
    pixels = np.concatenate([resize(one, image_size) for one in raw])
    each = np.repeat(np.arange(len(volumes)), MONTAGES_PER_VOLUME)
    images = ImageSet(pixels, labels[each], class_names, groups[each], "lung_ct")
    digests = np.array([digest(montage) for one in raw for montage in one])
    ids = np.array([f"{names[volume]}[{i % MONTAGES_PER_VOLUME}]" for i, volume in enumerate(each)])
    low, high = WINDOW_HU
    notes = (*notes, f"{MONTAGES_PER_VOLUME} montages per volume, window {low:.0f} to {high:.0f} HU")
    splits = np.full(len(each), "train", dtype="<U5")
    return assemble(Collection(images, digests, splits, ids, notes), seed, duplicates, test_share=TEST_SHARE)


def montages(path: Path, seed: int) -> np.ndarray:
    """Return the montages of a volume, (20, 1, 2 * side, 2 * side) uint8; side: of its square slices."""
    hu = simpleitk().GetArrayFromImage(read_volume(path))[::-1]  # (Z, Y, X), the uppermost slice first
    if hu.shape[1] != hu.shape[2]:
        raise ValueError(f"{path} must have square axial slices, found {hu.shape[1]} x {hu.shape[2]} pixels.")
    numbers = np.random.default_rng(seed).random((MONTAGES_PER_VOLUME, NUM_CLUSTERS))
    try:
        chosen = choose_slices(lung_shares(hu), numbers)  # (20, 4)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    low, high = WINDOW_HU
    grey = ((hu.clip(low, high) - low) * (255 / (high - low))).round().astype(np.uint8)
    return tiled(grey[chosen])[:, None]


def _list_volumes(root: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files of all volumes in a fixed order, and the names of the classes."""
    folders = subfolders(root)
    volumes = {
        folder.name: sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES)) for folder in folders
    }
    if len(volumes) < 2 or not all(volumes.values()):
        found = ", ".join(f"{name} with {len(files)} volumes" for name, files in volumes.items()) or "none"
        raise ValueError(
            f"{root} must hold 2 or more class folders of volumes ({', '.join(SUFFIXES)}), found {found}. "
            f"Put each scan as one file into the folder of its class."
        )
    return [path for files in volumes.values() for path in files], tuple(volumes)
