"""Fidelity: how far the distribution of synthetic images lies from the real one; features in, numbers out.

Every function takes features (N, D) float, one row per image, the generated ones first. A number says something only
together with the extractor that made the features and with N, since all are biased at small N: compare at equal N, and
with real images against other real images at the same N.
"""

import numpy as np
import torch
from torch import Tensor

SUBSETS, SUBSET_SIZE = 100, 1000
"""Of the kernel distance above 1,000 images, as in torch-fidelity."""

BLOCK = 512  # rows of a kernel matrix held at once


def frechet_distance(generated: np.ndarray, real: np.ndarray) -> float:
    """Return the squared Fréchet distance of two Gaussians with the sets' means and (unbiased) covariances.

    generated: (N, D) float, real: (M, D) float, N and M at least 2. 0 = the same mean and covariance. Computed in
    float64 without a matrix root: the trace of the root of S₁ S₂ is the nuclear norm of A₁ A₂ᵀ for any A with
    Aᵀ A = S, and A needs no more than min(N, D) rows. Source: Heusel et al. 2017, Eq. 6.

    Raises ValueError for too few images, different feature sizes, or features that are not finite.
    """
    generated, real = feature_pair(generated, real, 2, "The Fréchet distance")
    shift = (generated.mean(dim=0) - real.mean(dim=0)).square().sum()
    ours, theirs = _covariance_factor(generated), _covariance_factor(real)
    overlap = torch.linalg.svdvals(ours @ theirs.T).sum()
    return max(0.0, float(shift + ours.square().sum() + theirs.square().sum() - 2 * overlap))


def _covariance_factor(features: Tensor) -> Tensor:
    """Return A, (min(N, D), D), with Aᵀ A = the covariance of features (N, D)."""
    scaled = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return scaled if len(scaled) <= scaled.shape[1] else torch.linalg.qr(scaled, mode="r").R


def kernel_distance(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> float:
    """Return the squared maximum mean discrepancy under the kernel (x·y / D + 1)³, estimated without bias.

    generated: (N, D) float, real: (M, D) float, N and M at least 2. For the same distribution it is 0 on average, so
    that values slightly below 0 are normal. Up to 1,000 images all pairs are used; above, it is the mean over 100
    random subsets of 1,000 (or of the smaller set's size), drawn from `seed`. Computed in float64. Source: Bińkowski et
    al. 2018, the Kernel Inception Distance.

    Raises ValueError for too few images, different feature sizes, or features that are not finite.
    """
    generated, real = feature_pair(generated, real, 2, "The kernel distance")
    n, m = len(generated), len(real)
    if max(n, m) <= SUBSET_SIZE:
        return _discrepancy(generated, real, [np.arange(n)], [np.arange(m)])
    size = min(SUBSET_SIZE, n, m)
    random = np.random.RandomState(seed)  # not a Generator: these are the subsets of torch-fidelity at rng_seed = seed
    draws = [(random.choice(n, size, replace=False), random.choice(m, size, replace=False)) for _ in range(SUBSETS)]
    if n * n + n * m + m * m <= SUBSETS * 3 * size * size:  # each pair once is less work than subset by subset
        return _discrepancy(generated, real, *zip(*draws, strict=True))
    everyone = [np.arange(size)]
    return float(np.mean([_discrepancy(generated[ours], real[theirs], everyone, everyone) for ours, theirs in draws]))


def _discrepancy(generated: Tensor, real: Tensor, ours, theirs) -> float:
    """Return the unbiased squared discrepancy, the mean over subsets: pairs of index arrays ours[i], theirs[i]."""
    in_ours, in_theirs = _membership(ours, len(generated)), _membership(theirs, len(real))
    n, m = len(ours[0]), len(theirs[0])
    within_ours = _kernel_sum(generated, generated, in_ours, in_ours) - _diagonal_sum(generated, in_ours)
    within_theirs = _kernel_sum(real, real, in_theirs, in_theirs) - _diagonal_sum(real, in_theirs)
    between = _kernel_sum(generated, real, in_ours, in_theirs)
    total = within_ours / (n * (n - 1)) + within_theirs / (m * (m - 1)) - 2 * between / (n * m)
    return float(total) / len(ours)


def _membership(subsets, count: int) -> Tensor:
    """Return who is in which subset, (len(subsets), count) float64, 0 or 1."""
    rows = torch.zeros(len(subsets), count, dtype=torch.float64)
    return rows.scatter_(1, torch.from_numpy(np.stack(subsets)), 1.0)


def _kernel(products: Tensor, size: int) -> Tensor:
    """Return the kernel's values from scalar products of features with `size` columns."""
    return (products / size + 1) ** 3


def _kernel_sum(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """Return the sum of the kernel over the pairs of each subset, and over the subsets; BLOCK rows of x at a time."""
    total = x.new_zeros(())
    for rows, members in zip(x.split(BLOCK), in_x.split(BLOCK, dim=1), strict=True):
        total += ((members @ _kernel(rows @ y.T, x.shape[1])) * in_y).sum()  # (subsets, M)
    return total


def _diagonal_sum(x: Tensor, in_x: Tensor) -> Tensor:
    """Return the sum of the kernel of every member with itself."""
    return (in_x @ _kernel(x.square().sum(dim=1), x.shape[1])).sum()


def feature_pair(generated: np.ndarray, real: np.ndarray, least: int, metric: str) -> tuple[Tensor, Tensor]:
    """Return generated (N, D) and real (M, D) features as float64 tensors, or say why `metric` cannot use them.

    Raises ValueError for arrays that are not (N, D), fewer than `least` rows, different D, or values not finite.
    """
    sides = {"generated": np.asarray(generated, np.float64), "real": np.asarray(real, np.float64)}
    for side, features in sides.items():
        if features.ndim != 2:
            raise ValueError(f"{metric} takes features (N, D), found {side} ones of shape {features.shape}.")
    ours, theirs = (features.shape for features in sides.values())
    if min(ours[0], theirs[0]) < least:
        raise ValueError(
            f"{metric} needs at least {least} images on each side, found {ours[0]} generated and {theirs[0]} real."
        )
    if ours[1] != theirs[1]:
        raise ValueError(
            f"{metric} compares features of one extractor, found {ours[1]} columns generated and {theirs[1]} real."
        )
    for side, features in sides.items():
        bad = len(features) - np.isfinite(features).all(axis=1).sum()
        if bad:
            raise ValueError(
                f"{metric} takes finite features, found NaN or infinity in {bad} of {len(features)} {side} rows; "
                "look at those images and at the extractor."
            )
    return tuple(torch.from_numpy(features) for features in sides.values())
