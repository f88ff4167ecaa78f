"""Several embeddings in one image: from healthy to diseased, several diseases at once, a disease at one place."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from nbutils import oracle
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.scales import choose
from nbutils.seeds import image_seeds

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the disease in de Wilde et al., Fig. 3."""

MODALITIES = ("phantom:prostate", "phantom:chest", "phantom:histology")
"""The data sets of Fig. 3, of which notebooks 42 and 43 show words unless another one is asked for."""

NUM_IMAGES = {"smoke": 4, "demo": 24, "gpu": 48, "paper": 48}
"""Images from one noise each, by which composition and inpainting are measured, at each scale."""


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


VISIBLE = 0.01
"""Probabilities are rounded to this before they are ranked: the oracle's millionths are no trend."""


def rank_correlations(probabilities: np.ndarray, levels: Sequence[float] = LEVELS) -> np.ndarray:
    """Return Spearman's correlation of probability (levels, count) and level for each column, (count,) float.

    1 = every step towards the disease makes it more probable. 0 where all levels look alike.
    """
    rounded = np.rint(probabilities / VISIBLE)
    found = [stats.spearmanr(levels, column).statistic if np.ptp(column) else 0.0 for column in rounded.T]
    return np.array(found)


def graded(images: np.ndarray, dataset: str, end: str, generator_seed: int) -> pd.DataFrame:
    """Return how gradual an interpolation (levels, count, C, H, W) uint8 towards the class `end` is, by the oracle.

    One row for each noise. Columns: seed, generator_seed, rank_correlation (see rank_correlations), and the class'
    probability at each level, such as `at 25 %`. Raises ValueError if `dataset` is not a phantom.
    """
    found = oracle.probability(images, oracle.modality_of(dataset), end)
    rows = {"seed": _noise_names(generator_seed, images.shape[1]), "generator_seed": generator_seed}
    levels = {f"at {100 * level:.0f} %": column for level, column in zip(LEVELS, found, strict=True)}
    return pd.DataFrame({**rows, "rank_correlation": rank_correlations(found), **levels})


def with_rivals(results: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `graded`, with a column method, and those that claims compare them with.

    Each row gets `probability`, that of the full weight; "<method>, healthy" has that of none, "no trend" no
    correlation.
    """
    full = results.assign(probability=results["at 100 %"])
    healthy = results.assign(method=results["method"] + ", healthy", probability=results["at 0 %"])
    trend = results.drop_duplicates("seed").assign(method="no trend", rank_correlation=0.0)
    columns = ["method", "seed", "generator_seed", "rank_correlation", "probability"]
    return pd.concat([full, healthy.assign(rank_correlation=np.nan), trend], ignore_index=True).reindex(columns=columns)


def _noise_names(generator_seed: int, count: int) -> list[str]:
    """Return a name for each noise of a generator, under which its images are compared as pairs."""
    return [f"{generator_seed}-{i}" for i in range(count)]


TOGETHER = 3.0
"""Guidance with which de Wilde et al. draw several diseases at once."""


def several(
    generator: TextualInversion, start: str, ends: Sequence[str], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draw `count` images of the class `start`, then of `ends`, one class after the other, by their names.

    Images of one place come from one noise. One class alone has weight 1, several have 0.5 each, as the paper's three
    diseases, all with their guidance. Source: Section 4.3, Fig. 4.
    """
    names, seeds = generator.card["class_names"], image_seeds(seed, count, "several")
    drawn = {}
    for last in range(len(ends) + 1):
        shown = list(ends[:last]) or [start]
        rows = shares(names, **dict.fromkeys(shown, 1.0 if len(shown) == 1 else 0.5))
        drawn[" + ".join(shown)] = generator.compose(np.repeat(rows[None], count, axis=0), seeds, TOGETHER)
    return drawn


PLACES = {
    "chest": {"left": (0.625, 0.25), "right": (0.625, 0.75)},
    "": {"left": (0.625, 0.375), "right": (0.625, 0.625)},
}
"""Where inpainting puts a disease in images of a modality, "" = any other: (down, right) as shares of the image."""

EXTENTS = {"small": 0.25, "large": 0.5}
"""Sides of the squares that are inpainted, as shares of the image."""


def all_masks(count: int, image_size: int, modality: str | None) -> dict[str, np.ndarray]:
    """Return the masks of every place and extent, each (count, S, S) bool, by a name such as "left, small"."""
    places = PLACES.get(modality or "", PLACES[""])
    return {
        f"{place}, {extent}": box_masks(count, image_size, centre, side)
        for extent, side in EXTENTS.items()
        for place, centre in places.items()
    }


def outlined(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return copies of images (N, C, H, W) uint8 with a white line inside the border of masks (N, H, W) bool."""
    border = masks & ~ndimage.binary_erosion(masks, np.ones((1, 3, 3)))
    return np.where(border[:, None], np.uint8(255), images)


def inpainted(
    generator: TextualInversion, dataset: str, before: np.ndarray, start: str, seed: int
) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """Inpaint images (N, C, H, W) uint8 of the class `start` with every other class; return measures, and images.

    The measures have one row for each class, image, place and way: `inpainted` with the class; `inpainted healthy`
    with `start` from the same noise, the control; `rebuilt`, coded and decoded alone. Columns: disease, place, way,
    seed, generator_seed, outside_change (mean absolute change of what is a latent or more away from the mask, as a
    share 0..1 of the grey scale), and probability, that the oracle reader sees the class (NaN where `dataset` is not a
    phantom). The images are those with each class, by class and place.
    """
    names, modality, count = generator.card["class_names"], oracle.modality_of(dataset), len(before)
    seeds, size = image_seeds(seed, count, "inpainting"), before.shape[-1]
    border = size // generator.pipeline.unet.config.sample_size
    rebuilt, rows, pictures = generator.rebuild(before), [], {end: {} for end in names if end != start}
    for place, masks in all_masks(count, size, modality).items():
        drawn = {name: generator.inpaint(before, masks, [names.index(name)] * count, seeds) for name in names}
        for end in pictures:
            pictures[end][place] = drawn[end]
            ways = {"inpainted": drawn[end], "inpainted healthy": drawn[start], "rebuilt": rebuilt}
            for way, images in ways.items():
                seen = np.nan if modality is None else oracle.probability(images, modality, end)
                row = {"disease": end, "place": place, "way": way, "seed": _noise_names(seed, count)}
                row |= {"generator_seed": seed, "probability": seen}
                rows.append(pd.DataFrame({**row, "outside_change": change_outside(before, images, masks, border)}))
    return pd.concat(rows, ignore_index=True), pictures


def box_masks(count: int, image_size: int, centre: tuple[float, float], extent: float) -> np.ndarray:
    """Return `count` equal masks (count, S, S) bool, True in a square; centre (down, right) and side as shares 0..1."""
    at = (np.arange(image_size) + 0.5) / image_size
    inside = [np.abs(at - middle) < extent / 2 for middle in centre]
    return np.repeat((inside[0][:, None] & inside[1][None])[None], count, axis=0)


def change_outside(before: np.ndarray, after: np.ndarray, masks: np.ndarray, border: int = 0) -> np.ndarray:
    """Return the mean absolute change of each image (N, C, H, W) uint8 outside masks (N, H, W) bool, (N,) shares 0..1.

    border: pixels around the masks that are left out, because the decoder looks beyond them.
    """
    outside = ~ndimage.binary_dilation(masks, np.ones((1, 2 * border + 1, 2 * border + 1)))
    change = np.abs(after.astype(float) - before).mean(1) * outside
    return change.sum((1, 2)) / outside.sum((1, 2)) / 255
