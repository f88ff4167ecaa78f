"""Two-dimensional pictures of features: t-SNE and UMAP, fitted jointly and seeded."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from nbutils.scales import choose

PERPLEXITY = 30
PRINCIPAL_COMPONENTS = 30


def embed(features: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Return a 2-D embedding, (N, 2) float, of features (N, D) float: all kinds of images fitted together.

    method: "tsne" or "umap". Features are standardised and reduced to 30 principal components first. Raises
    ValueError for another method.
    """
    components = min(PRINCIPAL_COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(StandardScaler().fit_transform(features))
    return choose("embedding", method, {"tsne": _tsne, "umap": _umap})(reduced, seed)


def _tsne(reduced: np.ndarray, seed: int) -> np.ndarray:
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def _umap(reduced: np.ndarray, seed: int) -> np.ndarray:
    from umap import UMAP  # compiles for seconds when imported

    return UMAP(random_state=seed, n_jobs=1).fit_transform(reduced)
