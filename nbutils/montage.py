"""Montages of lung CT: four slices of a scan, from top to bottom, as one picture (utility paper, section III)."""

import numpy as np
from scipy import ndimage

MIN_LUNG_SHARE = 0.10  # top and bottom slices with no more lung than this part of their area are dropped
NUM_CLUSTERS = 4
MONTAGES_PER_VOLUME = 20
LUNG_HU = -400.0  # less is air, or lung


def lung_shares(hu: np.ndarray) -> np.ndarray:
    """Return the part of each slice that is lung, (Z,) in 0..1: air that is not joined to the slice's border.

    hu: (Z, Y, X) in Hounsfield units. Gullet and bowel count, too, where they hold air.
    """
    shares = []
    for air in hu < LUNG_HU:
        parts, _ = ndimage.label(air)
        outside = np.unique(np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel()]))
        shares.append((air & ~np.isin(parts, outside)).mean())
    return np.array(shares)


def clusters(lung_shares: np.ndarray) -> list[np.ndarray]:
    """Return the slices of four clusters by axial position, of equal size up to one slice; four arrays of indices.

    lung_shares: (Z,) the part of each slice that is lung, 0..1. Slices are dropped from both ends up to the first with
    more than MIN_LUNG_SHARE; what lies between stays, whatever its share.

    Raises ValueError if fewer than four slices are left.
    """
    kept = np.flatnonzero(np.asarray(lung_shares) > MIN_LUNG_SHARE)
    if not kept.size or kept[-1] - kept[0] + 1 < NUM_CLUSTERS:
        found = kept[-1] - kept[0] + 1 if kept.size else 0
        raise ValueError(
            f"A montage needs {NUM_CLUSTERS} slices from the first to the last with more than "
            f"{100 * MIN_LUNG_SHARE:g} % of lung, found {found} of {len(lung_shares)}; is it a CT of the chest?"
        )
    return np.array_split(np.arange(kept[0], kept[-1] + 1), NUM_CLUSTERS)


def choose_slices(lung_shares: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Choose one slice of each cluster, (..., 4) int64 from top to bottom; numbers: (..., 4) uniform in [0, 1)."""
    parts = clusters(lung_shares)
    places = (numbers * [len(part) for part in parts]).astype(np.int64)
    return np.stack([part[places[..., i]] for i, part in enumerate(parts)], -1)


def tiled(slices):
    """Tile four slices (..., 4, H, W), an array or a tensor, as (..., 2 H, 2 W): from left to right, then down."""
    *batch, _, height, width = slices.shape
    rows = slices.reshape(*batch, 2, 2, height, width).swapaxes(-3, -2)  # (..., 2, H, 2, W)
    return rows.reshape(*batch, 2 * height, 2 * width)
