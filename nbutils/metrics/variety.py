"""Variety: how synthetic images lie among real ones in a feature space; features in, numbers out."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from nbutils.metrics.manifold import precision_recall

BOUNDARY_NEIGHBOURS, BOUNDARY_PURITY = 10, 0.8
MIN_CLASS_POINTS = 10


def mean_shift(synthetic: np.ndarray, real: np.ndarray) -> float:
    """Return the distance between the two means, in units of the real points' spread (root of total variance).

    synthetic: (N, D) float, real: (M, D) float. 0 = the same mean.
    """
    spread = np.sqrt(real.var(axis=0, ddof=1).sum())
    return float(np.linalg.norm(synthetic.mean(axis=0) - real.mean(axis=0)) / spread)


def boundary_share(points: np.ndarray, real: np.ndarray, real_labels: np.ndarray) -> float:
    """Return the share 0..1 of points at a class boundary of the real ones.

    A point lies at a boundary when fewer than 80 % of its 10 nearest real points belong to one class. points: (N, D),
    real: (M, D) float, real_labels: (M,) int64. The threshold is ours; the paper judges by eye.
    """
    nearest = NearestNeighbors(n_neighbors=BOUNDARY_NEIGHBOURS).fit(real).kneighbors(points, return_distance=False)
    votes = real_labels[nearest][:, :, None] == np.unique(real_labels)  # (N, neighbours, classes)
    return float((votes.mean(axis=1).max(axis=1) < BOUNDARY_PURITY).mean())


def variety(
    synthetic: np.ndarray, synthetic_labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> dict[str, float]:
    """Return `recall` and `mean_shift` (means over the classes, each class among its own) and `boundary` (share).

    Low recall = the synthetic images miss much of what the real ones show (mode collapse).

    All three depend on the numbers of points: compare at equal numbers in each class. Classes with fewer than
    MIN_CLASS_POINTS on either side are left out of the first two; NaN if that leaves none.
    """
    recalls, shifts = [], []
    for label in np.unique(real_labels):
        ours, theirs = synthetic[synthetic_labels == label], real[real_labels == label]
        if min(len(ours), len(theirs)) >= MIN_CLASS_POINTS:
            recalls.append(precision_recall(ours, theirs)[1])
            shifts.append(mean_shift(ours, theirs))
    return {
        "recall": float(np.mean(recalls)) if recalls else float("nan"),
        "mean_shift": float(np.mean(shifts)) if shifts else float("nan"),
        "boundary": boundary_share(synthetic, real, real_labels),
    }
