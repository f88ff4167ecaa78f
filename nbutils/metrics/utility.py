"""Utility: what synthetic images do for a classifier; answers, or scores of generators in, numbers out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

PERMUTATIONS = 10_000


class McNemar(NamedTuple):
    """gained, lost: images that only the one classifier, or only the other, tells right. p: of equal ones, exact."""

    gained: int
    lost: int
    p: float


def mcnemar(right: np.ndarray, reference_right: np.ndarray) -> McNemar:
    """Compare two classifiers image by image: right, reference_right (N,) bool, told right or not, of the same images.

    p: two-sided and exact, binomial, of the images on which they differ; 1 if there are none.
    """
    gained, lost = int((right & ~reference_right).sum()), int((~right & reference_right).sum())
    return McNemar(gained, lost, float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0)


def combined_p(p_values: Sequence[float]) -> float:
    """Return one p value for several tests of one question that may depend on each other in any way: twice the median.

    So McNemar's tests of several seeds, all on the same test images, make one. Source: Rüger 1978.
    """
    return float(min(1.0, 2 * np.median(p_values)))


class RankCorrelation(NamedTuple):
    """rho: Spearman's, -1..1, NaN if a side has one value only. p: two-sided, by permutation. n: pairs."""

    rho: float
    p: float
    n: int


def rank_correlation(x: Sequence[float], y: Sequence[float], seed: int = 0) -> RankCorrelation:
    """Return Spearman's rank correlation of pairs; those with a NaN are left out.

    p comes from all permutations of the pairs (up to 7, else of 10,000 random ones), since the usual approximation is
    wrong for a handful of generators: with three, p is never below 1/3. NaN for fewer than three pairs.
    """
    pairs = np.array([x, y], dtype=float)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    ranks, count = stats.rankdata(pairs, axis=1), pairs.shape[1]
    if count < 3 or (ranks == ranks[:, :1]).all(axis=1).any():
        return RankCorrelation(float("nan"), float("nan"), count)
    permutations = PERMUTATIONS if math.factorial(count) > PERMUTATIONS else np.inf
    method = stats.PermutationMethod(n_resamples=permutations, rng=np.random.default_rng(seed))
    found = stats.pearsonr(*ranks, method=method)
    return RankCorrelation(float(found.statistic), float(found.pvalue), count)
