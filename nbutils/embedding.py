"""Two-dimensional pictures of features: t-SNE and UMAP, fitted jointly and seeded."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from nbutils.progress import progress
from nbutils.scales import choose

PERPLEXITY = 30
PRINCIPAL_COMPONENTS = 30
PARALLEL_FROM = 2000  # points in all; fewer are embedded before another process has started


def embed(features: Mapping[str, np.ndarray], method: str, seed: int) -> dict[str, np.ndarray]:
    """Return a 2-D embedding, (N, 2) float, of each array of features (N, D) float, all of its rows fitted together.

    method: "tsne" or "umap". Features are standardised and reduced to 30 principal components first. Each embedding is
    computed by one thread, many points as many at once as there are processors. Raises ValueError for another method.
    """
    fit = choose("embedding", method, {"tsne": _tsne, "umap": _umap})
    jobs = min(cpu_count(), len(features)) if sum(map(len, features.values())) >= PARALLEL_FROM else 1
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        found = Parallel(return_as="generator")(delayed(_embedded)(fit, rows, seed) for rows in features.values())
        shown = progress(found, description=method, total=len(features), unit="embedding")
        return dict(zip(features, shown, strict=True))


def _embedded(fit, features: np.ndarray, seed: int) -> np.ndarray:
    components = min(PRINCIPAL_COMPONENTS, *features.shape)
    return fit(PCA(components, random_state=seed).fit_transform(StandardScaler().fit_transform(features)), seed)


def _tsne(reduced: np.ndarray, seed: int) -> np.ndarray:
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def _umap(reduced: np.ndarray, seed: int) -> np.ndarray:
    return _umap_class()(random_state=seed, n_jobs=1).fit_transform(reduced)


@cache
def _umap_class():
    """Return umap.UMAP with its slowest functions compiled once per machine: else once per process, for 20 seconds."""
    from umap import UMAP, umap_  # compiles for seconds when imported

    for slow in (umap_.fast_knn_indices, umap_.smooth_knn_dist, umap_.compute_membership_strengths):
        slow.enable_caching()
    return UMAP
