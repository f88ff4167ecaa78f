"""Memorisation: are synthetic images nearer to the training images than to others? Features in, numbers out."""

import numpy as np
from sklearn.neighbors import NearestNeighbors


def nearest_distances(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of each synthetic point (N, D) to the nearest real one (M, D), (N,) float."""
    return NearestNeighbors(n_neighbors=1).fit(real).kneighbors(synthetic)[0][:, 0]


def nearer_to_train(synthetic: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return whether synthetic images lie nearer to training than to test images, both float (., D).

    The larger set is thinned at random to as many images as the smaller one, because the nearest of more is nearer.
    `share`: of the synthetic images whose nearest real one is of the training set (0.5 = none is remembered, ties count
    half). `train_distance`, `test_distance`: the median distances to the nearest of each. `n`: images of each real set.
    """
    count, random = min(len(train), len(test)), np.random.default_rng(seed)
    chosen = [real[random.permutation(len(real))[:count]] for real in (train, test)]
    to_train, to_test = (nearest_distances(synthetic, real) for real in chosen)
    return {
        "share": float(((to_train < to_test) + 0.5 * (to_train == to_test)).mean()),
        "train_distance": float(np.median(to_train)),
        "test_distance": float(np.median(to_test)),
        "n": count,
    }
