"""Fidelity and diversity apart: who lies in whose neighbourhood in a feature space; features in, shares out.

Every function takes features (N, D) float, one row per image, the generated ones first. The ball of an image reaches to
its k-th nearest neighbour in its own set. All results depend on k, N and M: compare at equal ones. Distances are
Euclidean, decided as float64 does, and held in blocks: memory grows with N + M, not with N × M.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nbutils.metrics.fidelity import feature_pair

BLOCK = 2048  # side of a block of distances: small enough for the processor's cache, large enough for fast products
ROWS = 128  # rows of distances to a whole set that are held at once

ROUNDING = 1e-12
"""Distances equal up to this share count as inside: a copy of an image lies exactly on the border of its neighbours'
balls, and must not go in or out with the order of summation."""


NEIGHBOURS = 5
"""Nearest neighbours of precision, recall, density and coverage where no other number is asked for."""


def precision_recall(generated: np.ndarray, real: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Return (precision, recall), shares 0..1.

    generated: (N, D) float, real: (M, D) float. Precision = share of generated images inside the ball of at least one
    real image (do they look real?); recall = share of real images inside the ball of at least one generated image (is
    all that is real generated?). A ball includes its border. Source: Kynkäänniemi et al. 2019, Eqs. 1 and 2; the code
    of the utility paper leaves the border out, which makes a difference for copies only.

    Raises ValueError for fewer than k + 1 images on a side, different feature sizes, or features that are not finite.
    """
    generated, real = _centred(generated, real, k, "Precision and recall")
    rough, rough_real = generated.float(), real.float()  # twice as fast, and sure of nearly all images
    ours, theirs = _radii(rough, k), _radii(rough_real, k)
    gaps, gaps_real = (torch.full_like(radii, torch.inf) for radii in (ours, theirs))
    for rows, columns, distances in _blocks(rough, rough_real):
        gaps[rows] = torch.minimum(gaps[rows], (distances - theirs[columns]).amin(dim=1))
        gaps_real[columns] = torch.minimum(gaps_real[columns], (distances - ours[rows, None]).amin(dim=0))
    precise = _inside(gaps, generated, real, theirs, k)
    recalled = _inside(gaps_real, real, generated, ours, k)
    return _share(precise), _share(recalled)


def precision_recall_over_k(
    generated: np.ndarray, real: np.ndarray, ks: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Return (precision, recall) for each number of neighbours: k -> both, as `precision_recall` gives them.

    Both grow with k, and orders of generators may change with it: papers that do not say their k cannot be compared.
    """
    return {k: precision_recall(generated, real, k) for k in ks}


def density_coverage(generated: np.ndarray, real: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Return (density, coverage): precision and recall that one outlier's large ball cannot lift.

    generated: (N, D) float, real: (M, D) float. Density = mean number of real balls around a generated image, over k
    (0 or more; 1 expected for the same distribution); coverage = share 0..1 of real balls with a generated image
    inside. Source: Naeem et al. 2020.

    Raises ValueError for fewer than k + 1 images on a side, different feature sizes, or features that are not finite.
    """
    generated, real = _centred(generated, real, k, "Density and coverage")
    theirs = _radii(real, k)
    balls, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for _, columns, distances in _blocks(generated, real):
        inside = distances <= theirs[columns]
        balls += int(inside.sum())
        covered[columns] |= inside.any(dim=0)
    return balls / (k * len(generated)), _share(covered)


def _centred(generated: np.ndarray, real: np.ndarray, k: int, metric: str) -> tuple[Tensor, Tensor]:
    """Return both sets, checked, around the real mean and within the unit ball, where the least digits are lost."""
    if k < 1:
        raise ValueError(f"{metric} needs k of at least 1, found {k}.")
    generated, real = feature_pair(generated, real, k + 1, f"{metric} with k = {k}")
    mean = real.mean(dim=0)
    generated, real = generated - mean, real - mean
    largest = max(float(features.norm(dim=1).max()) for features in (generated, real)) or 1.0
    return generated / largest, real / largest


def _share(members: Tensor) -> float:
    return float(members.double().mean())


def _inside(gaps: Tensor, points: Tensor, centres: Tensor, radii: Tensor, k: int) -> Tensor:
    """Return which points (N, D) lie in the ball of at least one of centres (M, D), (N,) bool, as float64 tells.

    gaps: (N,) float32, each point's smallest squared distance less squared radius. radii: (M,) float32, squared. Only
    what rounding may have decided is computed again.
    """
    error = 16 * (points.shape[1] + 4) * 2.0**-24  # float32 may err by 6/16 of it in a distance, in the unit ball
    inside, right = gaps < 0, _right(centres)
    exact, known = radii.double(), torch.zeros(len(centres), dtype=torch.bool)
    for rows in (gaps.abs() <= error).nonzero()[:, 0].split(ROWS):
        distances = _left(points[rows], ROUNDING) @ right.T  # (rows, M)
        unknown = ((distances - exact).abs() <= error).any(dim=0) & ~known
        for columns in unknown.nonzero()[:, 0].split(ROWS):
            exact[columns] = (_left(centres[columns]) @ right.T).topk(k + 1, largest=False).values[:, -1]
        known |= unknown
        inside[rows] = (distances <= exact).any(dim=1)
    return inside


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the squared distances of x (N, D) to y (M, D), ROUNDING short, as rows, columns, (rows, columns)."""
    left, right = _left(x, ROUNDING), _right(y)
    for rows in _slices(len(x)):
        for columns in _slices(len(y)):
            yield rows, columns, left[rows] @ right[columns].T


def _slices(count: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]


def _left(x: Tensor, short: float = 0.0) -> Tensor:
    """Return the factor (N, D + 2) with _left(x) @ _right(y).T = (1 - short) (|x|² + |y|²) - 2 x·y."""
    norms = x.square().sum(dim=1, keepdim=True)
    return torch.cat([x, (1 - short) * norms, torch.full_like(norms, 1 - short)], dim=1)


def _right(y: Tensor) -> Tensor:
    """Return the other factor, (M, D + 2)."""
    norms = y.square().sum(dim=1, keepdim=True)
    return torch.cat([-2 * y, torch.ones_like(norms), norms], dim=1)


def _radii(x: Tensor, k: int) -> Tensor:
    """Return the squared distance of each row of x (N, D) to its k-th nearest other row, (N,)."""
    nearest = x.new_full((len(x), k + 1), torch.inf)  # a row is its own nearest
    left, right, slices = _left(x), _right(x), _slices(len(x))
    for number, rows in enumerate(slices):
        for columns in slices[number:]:  # distances are symmetric: a block serves its rows and its columns
            distances = left[rows] @ right[columns].T
            _keep_nearest(nearest[rows], distances)
            if columns != rows:
                _keep_nearest(nearest[columns], distances.T.contiguous())
    return nearest[:, -1]


def _keep_nearest(nearest: Tensor, distances: Tensor) -> None:
    """Put the smallest of `nearest` (rows, K) and `distances` (rows, n) into `nearest`, ascending."""
    count = nearest.shape[1]
    among = distances.topk(min(count, distances.shape[1]), largest=False).values
    nearest.copy_(torch.cat([nearest, among], dim=1).topk(count, largest=False).values)
