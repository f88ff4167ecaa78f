"""liver[:PATH] — focal liver lesions in CT, prepared as in GenMix (section 3.1).

The paper's data are private and its files' layout is not published; the layout here is ours and holds what the paper
describes: per lesion a volume and a manual segmentation, the patient and the acquisition date.

PATH (default data/liver in the repository) holds lesions.csv with the columns lesion_id, patient_id,
acquisition_date (YYYY-MM-DD), class (cyst, hemangioma or metastasis), volume and mask (files relative to PATH that
SimpleITK reads, in Hounsfield units; NIfTI, MHA ...), and optionally label (value of this lesion in its mask;
without the column each mask holds one lesion as anything but 0).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torchvision.transforms import v2

from nbutils.datasets.assembly import Collection, assemble, digest
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.datasets.tables import read_table
from nbutils.datasets.volumes import read_volume, simpleitk
from nbutils.files import ROOT
from nbutils.images import ImageSet
from nbutils.phantoms.liver import WINDOW_HU
from nbutils.progress import progress
from nbutils.scales import choose

CLASS_NAMES = ("cyst", "hemangioma", "metastasis")
COLUMNS = ("lesion_id", "patient_id", "acquisition_date", "class", "volume", "mask")
LESIONS = {"train": 681, "val": 302, "test": 307}  # of the paper's 1,290; here their shares are used
MARGIN = 1.5  # side of the patch as a multiple of the lesion's larger extent; our choice, the paper gives none
MIN_SIDE_MM = 22.0  # so that a small lesion is seen in some liver; the smallest patch of the phantom too
AIR_HU = -1000.0  # what lies beyond the edge of a slice


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Cut a patch (1, image_size, image_size) around each lesion and split by acquisition date.

    The slice is the axial one with the lesion's largest cross section, the patch a square of MARGIN times its larger
    extent (at least MIN_SIDE_MM) in millimetres, shown in WINDOW_HU. All lesions of a patient follow the patient's
    first date. `seed` has no effect.

    Raises ValueError for tables and volumes that do not fit, ImportError without SimpleITK.
    """
    folder = Path(where).expanduser() if where else ROOT / "data" / "liver"
    table = _read_table(folder)
    raw = _patches(folder, table)
    labels = [CLASS_NAMES.index(name) for name in table["class"]]
    pixels = np.stack([_shown(patch, image_size) for patch in raw])  # (N, 1, image_size, image_size)
    ids = table["lesion_id"].to_numpy(dtype=np.str_)
    images = ImageSet(pixels, labels, CLASS_NAMES, table["patient_id"], "liver")
    splits = split_by_date(table["patient_id"], table["acquisition_date"])
    digests = np.array([digest(patch) for patch in raw])
    collection = Collection(images, digests, splits, ids, _notes(table, splits))
    return assemble(collection, seed, duplicates)


def split_by_date(patients: pd.Series, dates: pd.Series) -> np.ndarray:
    """Return the split of each lesion, (N,) str: the earliest patients to train, then val, the latest to test.

    A patient goes where the middle of her lesions falls, when all lesions are lined up by her first date; the
    shares are the paper's. Raises ValueError if a split would be empty.
    """
    order = pd.DataFrame({"patient": patients, "date": dates}).groupby("patient")["date"].agg(["min", "size"])
    order = order.rename_axis("patient").sort_values(["min", "patient"])
    middle = (order["size"].cumsum() - order["size"] / 2) / order["size"].sum()
    limits = np.cumsum(list(LESIONS.values()))[:2] / sum(LESIONS.values())
    split = pd.Series(np.array(SPLITS)[np.searchsorted(limits, middle)], index=order.index)
    if split.nunique() < len(SPLITS):
        raise ValueError(
            f"liver: {len(patients)} lesions of {len(order)} patients are too few for a split by date: "
            f"{', '.join(sorted(set(SPLITS) - set(split)))} would be empty. Add patients."
        )
    return split.loc[patients].to_numpy(dtype=np.str_)


def lesion_patch(volume: np.ndarray, mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Return the square patch around a lesion, (h, w) float32 HU at the slice's own pixels.

    volume: (Z, Y, X) HU; mask: (Z, Y, X) bool with one pixel or more; spacing: mm between columns, and rows.
    h and w are rounded to whole pixels and differ where the spacings do.
    """
    section = mask.sum(axis=(1, 2)).argmax()
    corners = []
    for axis, millimetres in ((0, spacing[1]), (1, spacing[0])):
        inside = np.flatnonzero(mask[section].any(axis=1 - axis))
        corners.append((inside[0], inside[-1] + 1, millimetres))
    side = max(MARGIN * max((last - first) * mm for first, last, mm in corners), MIN_SIDE_MM)
    bounds = [_bounds((first + last) / 2, side / mm) for first, last, mm in corners]
    return _cut(volume[section], *bounds)


def _bounds(centre: float, length: float) -> tuple[int, int]:
    return round(centre - length / 2), round(centre + length / 2)


def _cut(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Cut rows and columns out of an image (Y, X); what lies outside is air."""
    beyond = [
        (max(0, -first), max(0, last - size)) for (first, last), size in zip((rows, columns), image.shape, strict=True)
    ]
    padded = np.pad(image, beyond, constant_values=AIR_HU)
    top, left = rows[0] + beyond[0][0], columns[0] + beyond[1][0]
    return padded[top : top + rows[1] - rows[0], left : left + columns[1] - columns[0]].astype(np.float32)


def _shown(patch: np.ndarray, image_size: int) -> np.ndarray:
    """Map HU (h, w) to uint8 (1, image_size, image_size): window first, then one antialiased bicubic resize."""
    low, high = WINDOW_HU
    grey = torch.from_numpy((patch.clip(low, high) - low) * (255 / (high - low)))[None]  # (1, h, w)
    mode = v2.InterpolationMode.BICUBIC
    resized = v2.functional.resize(grey, [image_size, image_size], interpolation=mode, antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).numpy()


def _notes(table: pd.DataFrame, splits: np.ndarray) -> tuple[str, ...]:
    dates = table["acquisition_date"].dt.date
    ranges = ", ".join(f"{split} {dates[splits == split].min()} to {dates[splits == split].max()}" for split in SPLITS)
    low, high = WINDOW_HU
    return (
        f"patches of {MARGIN} times the lesion's extent, at least {MIN_SIDE_MM:.0f} mm, "
        f"window {low:.0f} to {high:.0f} HU",
        f"split by acquisition date, patients whole: {ranges}",
    )


def _read_table(folder: Path) -> pd.DataFrame:
    """Read and check lesions.csv; dates become timestamps."""
    path = folder / "lesions.csv"
    if not path.is_file():
        raise ValueError(f"No {path.name} in {folder}; liver:PATH takes a folder with {path.name}, see data/README.md.")
    table = read_table(path, COLUMNS)
    if table.empty:
        raise ValueError(f"{path} lists no lesion; one row per lesion is needed.")
    for row in table.itertuples():
        choose(f"class of lesion {row.lesion_id} in {path}", table.at[row.Index, "class"], dict.fromkeys(CLASS_NAMES))
    dates = pd.to_datetime(table["acquisition_date"], format="%Y-%m-%d", errors="coerce")
    _refuse(path, table, dates.isna(), "have no acquisition_date YYYY-MM-DD")
    _refuse(path, table, table["lesion_id"].duplicated(), "repeat a lesion_id")
    _refuse(path, table, table["patient_id"] == "", "have no patient_id")
    if "label" in table.columns:
        _refuse(path, table, ~table["label"].str.fullmatch(r"[1-9]\d*"), "have no label >= 1")
    else:
        _refuse(
            path, table, table["mask"].duplicated(), "share a mask, but there is no column label to tell them apart"
        )
    for column in ("volume", "mask"):
        absent = ~table[column].map(lambda file: (folder / file).is_file())
        _refuse(path, table, absent, f"name a {column} that does not exist in {folder}")
    return table.assign(acquisition_date=dates)


def _refuse(path: Path, table: pd.DataFrame, bad: pd.Series, what: str) -> None:
    if bad.any():
        first = table.loc[bad, "lesion_id"].iloc[0]
        raise ValueError(f"{path}: {bad.sum()} of {len(table)} lesions {what}, first {first!r}. Correct the table.")


def _patches(folder: Path, table: pd.DataFrame) -> list[np.ndarray]:
    """Cut the patch of every lesion, in the table's order, reading each volume once."""
    patches = {}
    with progress(description="liver: reading", total=len(table), unit="lesion") as bar:
        for (volume_file, mask_file), lesions in table.groupby(["volume", "mask"], sort=False):
            volume, mask, spacing = _read_pair(folder / volume_file, folder / mask_file)
            for index, lesion in lesions.iterrows():
                inside = mask == int(lesion["label"]) if "label" in table.columns else mask != 0
                patches[index] = _checked_patch(volume, inside, spacing, lesion["lesion_id"], folder / mask_file)
                bar.update()
    return [patches[index] for index in table.index]


def _checked_patch(volume, inside: np.ndarray, spacing, lesion_id: str, mask_path: Path) -> np.ndarray:
    if not inside.any():
        raise ValueError(f"Lesion {lesion_id!r} has no voxel in {mask_path}; check the mask and the column label.")
    patch = lesion_patch(volume, inside, spacing)
    if not (patch > WINDOW_HU[0]).any() or not (patch < WINDOW_HU[1]).any():
        raise ValueError(
            f"Lesion {lesion_id!r}: its patch holds {patch.min():.0f} to {patch.max():.0f}, which the window of "
            f"{WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU shows as one grey; is the volume in Hounsfield units?"
        )
    return patch


def _read_pair(volume_path: Path, mask_path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Read volume and mask as (Z, Y, X), axial slices first, and the in-plane spacing (columns, rows) in mm."""
    volume, mask = read_volume(volume_path), read_volume(mask_path)
    for what in ("Size", "Spacing", "Origin", "Direction"):
        found = [getattr(image, f"Get{what}")() for image in (volume, mask)]
        if not np.allclose(*found, atol=1e-3):
            raise ValueError(
                f"{mask_path} does not lie on {volume_path}: {what.lower()} {found[1]}, needed {found[0]}."
            )
    as_array = simpleitk().GetArrayFromImage
    return as_array(volume), as_array(mask), volume.GetSpacing()[:2]
