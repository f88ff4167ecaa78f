"""Fidelity of synthetic images: every distance on one extractor's features, beside what real images reach."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nbutils import metrics
from nbutils.features import extract, recipe
from nbutils.images import ImageSet
from nbutils.seeds import derive_seed

REAL = "real (train)"


def fidelity(
    sources: Mapping[str, ImageSet], train: ImageSet, test: ImageSet, extractor: str = "shipped", seed: int = 0
) -> pd.DataFrame:
    """Return the distances of each source to the real test images, one row per source, the training images first.

    The first row is the floor: what other real images reach. Every source gives the same number of images, drawn at
    random, as many as the smallest has; the distances depend on it, and on the number of test images, both given.
    Columns: source, fd_<extractor>, kd_<extractor>, precision, recall, density, coverage, n, n_reference.
    Raises what features.extract raises, and ValueError for fewer images than the metrics' neighbours.
    """
    every = {REAL: train, **sources}
    count = min(map(len, every.values()))
    reference = extract(test, extractor)
    rows = []
    for source, images in every.items():
        order = np.random.default_rng(derive_seed(seed, "fidelity", source)).permutation(len(images))[:count]
        features = extract(images, extractor)[order]
        precision, recall = metrics.precision_recall(features, reference)
        density, coverage = metrics.density_coverage(features, reference)
        rows.append(
            {
                "source": source,
                f"fd_{extractor}": metrics.frechet_distance(features, reference),
                f"kd_{extractor}": metrics.kernel_distance(features, reference, seed=seed),
                "precision": precision,
                "recall": recall,
                "density": density,
                "coverage": coverage,
                "n": count,
                "n_reference": len(test),
            }
        )
    return pd.DataFrame(rows)


def fidelity_recipe(table: pd.DataFrame) -> str:
    """Return the line to print beside a table of fidelity: extractor, weights, sizes, reference."""
    extractor = next(column for column in table if column.startswith("fd_")).removeprefix("fd_")
    numbers = f"{table['n'].iloc[0]} images of each source against {table['n_reference'].iloc[0]} real test images"
    return f"{recipe(extractor)}; {numbers}"
