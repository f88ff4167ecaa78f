"""Several embeddings in one image: from healthy to diseased, several diseases at once, a disease at one place."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from nbutils import pipelines
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.images import resize
from nbutils.scales import choose
from nbutils.seeds import image_seeds

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the disease in de Wilde et al., Fig. 3."""


def shares(class_names: Sequence[str], **weights: float) -> np.ndarray:
    """Return the weight of each class, (classes,) float, 0 where none is given. Raises ValueError for another class."""
    for name in weights:
        choose("class", name, dict.fromkeys(class_names))
    return np.array([weights.get(name, 0.0) for name in class_names])


def interpolated(
    generator: TextualInversion, start: str, end: str, count: int, seed: int, levels: Sequence[float] = LEVELS
) -> np.ndarray:
    """Draw images from one class to another, (levels, count, C, H, W) uint8; column i is from one noise.

    Source: Section 4.3, with weights 1 - level and level. The paper's example prompt for "25 % diseased" has the two
    swapped.
    """
    names, seeds = generator.card["class_names"], image_seeds(seed, count, "interpolation")
    rows = [shares(names, **{start: 1 - level}) + shares(names, **{end: level}) for level in levels]
    images = generator.compose(np.repeat(rows, count, axis=0), seeds * len(levels))
    return images.reshape(len(levels), count, *images.shape[1:])


def rank_correlations(probabilities: np.ndarray, levels: Sequence[float] = LEVELS) -> np.ndarray:
    """Return Spearman's correlation of probability (levels, count) and level for each column, (count,) float.

    1 = every step towards the disease makes it more probable. 0 where all levels look alike.
    """
    found = [stats.spearmanr(levels, column).statistic if np.ptp(column) else 0.0 for column in probabilities.T]
    return np.array(found)


def gradual(probabilities: np.ndarray, levels: Sequence[float] = LEVELS) -> dict[str, float]:
    """Return how gradual an interpolation is: `rho` (mean), its 95 % t interval, `p` (Wilcoxon, against 0) and `n`."""
    rho = rank_correlations(probabilities, levels)
    half = stats.t.ppf(0.975, len(rho) - 1) * rho.std(ddof=1) / np.sqrt(len(rho))
    p = float(stats.wilcoxon(rho).pvalue) if rho.any() else 1.0
    return {"rho": rho.mean(), "low": rho.mean() - half, "high": rho.mean() + half, "p": p, "n": len(rho)}


def box_masks(count: int, image_size: int, centre: tuple[float, float], extent: float) -> np.ndarray:
    """Return `count` equal masks (count, S, S) bool, True in a square; centre (down, right) and side as shares 0..1."""
    at = (np.arange(image_size) + 0.5) / image_size
    inside = [np.abs(at - middle) < extent / 2 for middle in centre]
    return np.repeat((inside[0][:, None] & inside[1][None])[None], count, axis=0)


def change_outside(
    generator: TextualInversion, before: np.ndarray, after: np.ndarray, masks: np.ndarray, border: int = 0
) -> pd.Series:
    """Return mean absolute changes of grey values 0..255 outside the masks, between images (N, C, H, W) uint8.

    `inpainted`: what inpainting changed; `autoencoder`: what coding and decoding alone change there. border: pixels
    around the masks that are left out, because the decoder looks beyond them.
    """
    size = generator.working_size
    coded = resize(before, size).repeat(3 // before.shape[1], axis=1)
    rebuilt = resize(pipelines.reconstruct(generator.autoencoder, coded), before.shape[-1])
    if before.shape[1] == 1:
        rebuilt = rebuilt.mean(1, keepdims=True).round().astype(np.uint8)
    square = np.ones((1, 2 * border + 1, 2 * border + 1))
    outside = ~ndimage.binary_dilation(masks, square)[:, None].repeat(before.shape[1], axis=1)
    images: Mapping[str, np.ndarray] = {"inpainted": after, "autoencoder": rebuilt}
    return pd.Series({name: np.abs(drawn.astype(int) - before)[outside].mean() for name, drawn in images.items()})
