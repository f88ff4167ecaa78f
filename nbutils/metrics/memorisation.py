"""Memorisation: are synthetic images nearer to the training images than to others? Features in, numbers out."""

import numpy as np
from sklearn.neighbors import NearestNeighbors


def nearest(synthetic: np.ndarray, real: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` nearest real points (M, D) of each synthetic one (N, D), the nearest first.

    Euclidean distances (N, count) float, and the rows of these points in `real`, (N, count) int64. Raises ValueError
    if there are fewer than `count`.
    """
    return NearestNeighbors(n_neighbors=count).fit(real).kneighbors(synthetic)


def nearest_distances(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of each synthetic point (N, D) to the nearest real one (M, D), (N,) float."""
    return nearest(synthetic, real)[0][:, 0]


SUBSETS = 20
"""Random choices of real images over which `nearer_to_train` is averaged."""


def nearer_to_train(synthetic: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return how often the nearest real point of each synthetic one is of the training set, (N,) float 0..1.

    Points are (., D) float. The larger real set is thinned at random to as many as the smaller one, SUBSETS times,
    because the nearest of more is nearer. 0.5 = as often as of the test set (ties count half).
    """
    count, random = min(len(train), len(test)), np.random.default_rng(seed)
    shares = []
    for _ in range(SUBSETS):
        chosen = [real[random.permutation(len(real))[:count]] for real in (train, test)]
        to_train, to_test = (nearest_distances(synthetic, real) for real in chosen)
        shares.append((to_train < to_test) + 0.5 * (to_train == to_test))
    return np.mean(shares, axis=0)
