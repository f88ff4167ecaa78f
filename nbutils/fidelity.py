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


def class_distances(
    sources: Mapping[str, ImageSet], train: ImageSet, test: ImageSet, extractor: str = "shipped", seed: int = 0
) -> pd.DataFrame:
    """Return each source's distances to real training and test images, one row for each class and source.

    Of a class every source gives the same number of images, drawn at random: as many as the smallest has, training
    images among them. The first row of a class is the floor: so many training images against the test images; it has
    no distance to itself (NaN). Columns: class, source, fd_train, fd_test, kd_train, kd_test, n, n_train, n_test.
    Source: Yuan et al. 2024, Tables 2 to 4. Fréchet distances of few images are mostly bias (their test sets begin at
    71 images), the kernel distance has none. Raises what features.extract raises, and ValueError for a class without
    two images.
    """
    features = {name: extract(images, extractor) for name, images in {REAL: train, **sources}.items()}
    references = {"train": (features[REAL], train), "test": (extract(test, extractor), test)}
    labels = {REAL: train.labels} | {name: images.labels for name, images in sources.items()}
    rows = []
    for label, class_name in enumerate(train.class_names):
        count = min(int((of == label).sum()) for of in labels.values())
        real = {part: values[images.labels == label] for part, (values, images) in references.items()}
        for source, values in features.items():
            order = np.random.default_rng(derive_seed(seed, "class", source)).permutation(len(values))
            drawn = values[order[labels[source][order] == label][:count]]
            row = {"class": class_name, "source": source}
            for part, reference in real.items():
                itself = source == REAL and part == "train"
                row[f"fd_{part}"] = np.nan if itself else metrics.frechet_distance(drawn, reference)
                row[f"kd_{part}"] = np.nan if itself else metrics.kernel_distance(drawn, reference, seed=seed)
            rows.append(row | {"n": count, "n_train": len(real["train"]), "n_test": len(real["test"])})
    columns = ["class", "source", "fd_train", "fd_test", "kd_train", "kd_test", "n", "n_train", "n_test"]
    return pd.DataFrame(rows)[columns]


def fidelity_recipe(table: pd.DataFrame) -> str:
    """Return the line to print beside a table of fidelity: extractor, weights, sizes, reference."""
    extractor = next(column for column in table if column.startswith("fd_")).removeprefix("fd_")
    numbers = f"{table['n'].iloc[0]} images of each source against {table['n_reference'].iloc[0]} real test images"
    return f"{recipe(extractor)}; {numbers}"
