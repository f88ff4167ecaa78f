"""Several embeddings in one image: from healthy to diseased, several diseases at once, a disease at one place."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from nbutils import oracle, pipelines
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.images import resize
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


def rank_correlations(probabilities: np.ndarray, levels: Sequence[float] = LEVELS) -> np.ndarray:
    """Return Spearman's correlation of probability (levels, count) and level for each column, (count,) float.

    1 = every step towards the disease makes it more probable. 0 where all levels look alike.
    """
    found = [stats.spearmanr(levels, column).statistic if np.ptp(column) else 0.0 for column in probabilities.T]
    return np.array(found)


def graded(images: np.ndarray, dataset: str, end: str, generator_seed: int) -> pd.DataFrame:
    """Return how gradual an interpolation (levels, count, C, H, W) uint8 towards the class `end` is, by the oracle.

    One row for each noise. Columns: seed, generator_seed, rank_correlation (see rank_correlations), and the class'
    probability at each level, such as `at 25 %`. Raises ValueError if `dataset` is not a phantom.
    """
    found = oracle.probability(images, oracle.modality_of(dataset), end)
    rows = {"seed": _noise_names(generator_seed, images.shape[1]), "generator_seed": generator_seed}
    levels = {f"at {level:.0%}".replace("%", " %"): column for level, column in zip(LEVELS, found, strict=True)}
    return pd.DataFrame({**rows, "rank_correlation": rank_correlations(found), **levels})


def _noise_names(generator_seed: int, count: int) -> list[str]:
    """Return a name for each noise of a generator, under which its images are compared as pairs."""
    return [f"{generator_seed}-{i}" for i in range(count)]


def several(
    generator: TextualInversion, start: str, ends: Sequence[str], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draw `count` images of the class `start`, then with one class of `ends` after the other joining, by their names.

    Images of one place come from one noise. Several classes have weight 0.5 each and guidance 3, as for the paper's
    three diseases; one alone has weight 1 and the generator's own guidance. Source: Section 4.3, Fig. 4.
    """
    names, seeds = generator.card["class_names"], image_seeds(seed, count, "several")
    drawn = {}
    for last in range(len(ends) + 1):
        shown = list(ends[:last]) or [start]
        weight, guidance = (1.0, None) if len(shown) == 1 else (0.5, 3.0)
        rows = np.repeat(shares(names, **dict.fromkeys(shown, weight))[None], count, axis=0)
        drawn[" + ".join(shown)] = generator.compose(rows, seeds, guidance)
    return drawn


PLACES = {"left": (0.625, 0.375), "right": (0.625, 0.625)}
"""Where inpainting puts a disease: (down, right) as shares of the image."""

EXTENTS = {"small": 0.25, "large": 0.5}
"""Sides of the squares that are inpainted, as shares of the image."""


def all_masks(count: int, image_size: int) -> dict[str, np.ndarray]:
    """Return the masks of every place and extent, each (count, S, S) bool, by a name such as "left, small"."""
    return {
        f"{place}, {extent}": box_masks(count, image_size, centre, side)
        for extent, side in EXTENTS.items()
        for place, centre in PLACES.items()
    }


def inpainting_measured(
    generator: TextualInversion, dataset: str, before: np.ndarray, end: str, seed: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Inpaint healthy images (N, C, H, W) uint8 with the class `end` in every place; return measures and images.

    The measures have one row for each image, mask and way: `inpainted` with the class, `inpainted healthy` with the
    first class from the same noise, the control, and `untouched`. Columns: place, way, seed, generator_seed,
    outside_change (see change_outside; `untouched`: of the autoencoder), and probability, that the oracle reader sees
    the class (NaN where `dataset` is not a phantom).
    """
    names, modality, count = generator.card["class_names"], oracle.modality_of(dataset), len(before)
    seeds, rows, pictures = image_seeds(seed, count, "inpainting"), [], {}
    for place, masks in all_masks(count, before.shape[-1]).items():
        labels = {"inpainted": names.index(end), "inpainted healthy": 0}
        ways = {way: generator.inpaint(before, masks, [label] * count, seeds) for way, label in labels.items()}
        outside = {way: change_outside(generator, before, after, masks) for way, after in ways.items()}
        changes = {way: table["inpainted"] for way, table in outside.items()}
        changes["untouched"] = outside["inpainted"]["autoencoder"]
        for way, images in {**ways, "untouched": before}.items():
            seen = np.nan if modality is None else oracle.probability(images, modality, end)
            row = {"place": place, "way": way, "seed": _noise_names(seed, count), "generator_seed": seed}
            rows.append(pd.DataFrame({**row, "probability": seen, "outside_change": changes[way]}))
        pictures[place] = ways["inpainted"]
    return pd.concat(rows, ignore_index=True), pictures


def box_masks(count: int, image_size: int, centre: tuple[float, float], extent: float) -> np.ndarray:
    """Return `count` equal masks (count, S, S) bool, True in a square; centre (down, right) and side as shares 0..1."""
    at = (np.arange(image_size) + 0.5) / image_size
    inside = [np.abs(at - middle) < extent / 2 for middle in centre]
    return np.repeat((inside[0][:, None] & inside[1][None])[None], count, axis=0)


def change_outside(
    generator: TextualInversion, before: np.ndarray, after: np.ndarray, masks: np.ndarray, border: int = 0
) -> pd.DataFrame:
    """Return mean absolute changes outside the masks, shares 0..1 of the grey scale, a row for each of N images.

    before, after: (N, C, H, W) uint8. masks: (N, H, W) bool. Columns `inpainted`: what inpainting changed,
    `autoencoder`: what coding and decoding alone change there. border: pixels around the masks that are left out,
    because the decoder looks beyond them.
    """
    size = generator.working_size
    coded = resize(before, size).repeat(3 // before.shape[1], axis=1)
    rebuilt = resize(pipelines.reconstruct(generator.autoencoder, coded), before.shape[-1])
    if before.shape[1] == 1:
        rebuilt = rebuilt.mean(1, keepdims=True).round().astype(np.uint8)
    square = np.ones((1, 2 * border + 1, 2 * border + 1))
    outside = ~ndimage.binary_dilation(masks, square)[:, None].repeat(before.shape[1], axis=1)
    images: Mapping[str, np.ndarray] = {"inpainted": after, "autoencoder": rebuilt}
    return pd.DataFrame({name: _mean_change(before, drawn, outside) for name, drawn in images.items()})


def _mean_change(before: np.ndarray, after: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the mean absolute change of each image (N, C, H, W) where `counted` is True, (N,) shares 0..1."""
    change = np.where(counted, np.abs(after.astype(float) - before), 0).sum((1, 2, 3))
    return change / counted.sum((1, 2, 3)) / 255
