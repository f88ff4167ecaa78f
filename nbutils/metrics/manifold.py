"""Fidelity and diversity apart: who lies in whose neighbourhood in a feature space; features in, shares out.

Every function takes features (N, D) float, one row per image, the generated ones first. The ball of an image reaches to
its k-th nearest neighbour in its own set. All results depend on k, N and M: compare at equal ones. Distances are
Euclidean, in float64, and held in square blocks: memory grows with N + M, not with N × M.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nbutils.metrics.fidelity import feature_pair

BLOCK = 1024  # side of a block of distances: small enough for the processor's cache, large enough for fast products

ROUNDING = 1e-12
"""Distances equal up to this share count as inside: a copy of an image lies exactly on the border of its neighbours'
balls, and must not go in or out with the order of summation."""


def precision_recall(generated: np.ndarray, real: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Return (precision, recall), shares 0..1.

    generated: (N, D) float, real: (M, D) float. Precision = share of generated images inside the ball of at least one
    real image (do they look real?); recall = share of real images inside the ball of at least one generated image (is
    all that is real generated?). A ball includes its border. Source: Kynkäänniemi et al. 2019, Eqs. 1 and 2; the code
    of the utility paper leaves the border out, which makes a difference for copies only.

    Raises ValueError for fewer than k + 1 images on a side, different feature sizes, or features that are not finite.
    """
    generated, real = _centred(generated, real, k, "Precision and recall")
    ours, theirs = _radii(generated, k), _radii(real, k)
    precise, recalled = (torch.zeros(len(features), dtype=torch.bool) for features in (generated, real))
    for rows, columns, distances in _blocks(generated, real):
        precise[rows] |= (distances - theirs[columns]).amin(dim=1) <= 0
        recalled[columns] |= (distances - ours[rows, None]).amin(dim=0) <= 0
    return _share(precise), _share(recalled)


def density_coverage(generated: np.ndarray, real: np.ndarray, k: int = 5) -> tuple[float, float]:
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
    """Return both sets, checked, as seen from the real mean: far from the origin, squared distances lose digits."""
    if k < 1:
        raise ValueError(f"{metric} needs k of at least 1, found {k}.")
    generated, real = feature_pair(generated, real, k + 1, f"{metric} with k = {k}")
    mean = real.mean(dim=0)
    return generated - mean, real - mean


def _share(members: Tensor) -> float:
    return float(members.double().mean())


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield all squared distances of x (N, D) to y (M, D) block by block: rows, columns and (rows, columns) float64.

    They are ROUNDING short, to be compared with radii.
    """
    (left, _), (_, right) = _factors(x, ROUNDING), _factors(y, ROUNDING)
    for rows in _slices(len(x)):
        for columns in _slices(len(y)):
            yield rows, columns, left[rows] @ right[columns].T


def _slices(count: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]


def _factors(x: Tensor, short: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return left and right, (N, D + 2) each: left of one set @ right.T of another = |x|² - 2 x·y + |y|².

    short: share by which |x|² and |y|² are reduced.
    """
    norms = (1 - short) * x.square().sum(dim=1, keepdim=True)
    ones = torch.ones_like(norms)
    return torch.cat([x, norms, ones], dim=1), torch.cat([-2 * x, ones, norms], dim=1)


def _radii(x: Tensor, k: int) -> Tensor:
    """Return the squared distance of each row of x (N, D) to its k-th nearest other row, (N,)."""
    nearest = x.new_full((len(x), k + 1), torch.inf)  # a row is its own nearest
    left, right = _factors(x)
    slices = _slices(len(x))
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
