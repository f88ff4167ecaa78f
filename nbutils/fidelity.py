"""Fidelity of synthetic images: every distance on one extractor's features, beside what real images reach."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nbutils import metrics
from nbutils.features import extract, recipe
from nbutils.images import ImageSet
from nbutils.metrics.manifold import precision_recall_over_k
from nbutils.metrics.two_sample import classifier_two_sample_test
from nbutils.seeds import derive_seed

REAL = "real (train)"

NEIGHBOURS = (1, 3, 5, 10, 20)
"""Neighbours over which precision and recall are looked at; the utility paper does not say its k, its code has 5."""


def fidelity(
    sources: Mapping[str, ImageSet], train: ImageSet, test: ImageSet, extractor: str = "shipped", seed: int = 0
) -> pd.DataFrame:
    """Return the distances of each source to the real test images, one row per source, the training images first.

    The first row is the floor: what other real images reach. Every source gives the same number of images, drawn at
    random, as many as the smallest has; the distances depend on it, and on the number of test images, both given.
    Columns: source, fd_<extractor>, kd_<extractor>, precision, recall, density, coverage, n, n_reference.
    Raises what features.extract raises, and ValueError for fewer images than the metrics' neighbours.
    """
    reference, rows = extract(test, extractor), []
    for source, features in _equally_many(sources, train, extractor, seed).items():
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
                "n": len(features),
                "n_reference": len(test),
            }
        )
    return pd.DataFrame(rows)


def _equally_many(sources: Mapping[str, ImageSet], train: ImageSet, extractor: str, seed: int) -> dict[str, np.ndarray]:
    """Return features (n, D) of each source, training images first: n drawn at random, as many as the smallest has."""
    every = {REAL: train, **sources}
    count, drawn = min(map(len, every.values())), {}
    for source, images in every.items():
        order = np.random.default_rng(derive_seed(seed, "fidelity", source)).permutation(len(images))[:count]
        drawn[source] = extract(images, extractor)[order]
    return drawn


def neighbour_sensitivity(
    sources: Mapping[str, ImageSet],
    train: ImageSet,
    test: ImageSet,
    extractor: str = "shipped",
    seed: int = 0,
    ks: Sequence[int] = NEIGHBOURS,
) -> pd.DataFrame:
    """Return precision and recall of each source over the number of neighbours, one row per source and k.

    Images are those that `fidelity` draws with the same seed, equally many of each source, training images first.
    Columns: source, k, precision, recall, n, n_reference. Raises what `fidelity` raises.
    """
    reference = extract(test, extractor)
    rows = [
        {
            "source": source,
            "k": k,
            "precision": precision,
            "recall": recall,
            "n": len(features),
            "n_reference": len(test),
        }
        for source, features in _equally_many(sources, train, extractor, seed).items()
        for k, (precision, recall) in precision_recall_over_k(features, reference, ks).items()
    ]
    return pd.DataFrame(rows)


def two_sample_tests(
    sources: Mapping[str, ImageSet],
    train: ImageSet,
    test: ImageSet,
    extractor: str = "shipped",
    seed: int = 0,
    permutations: int | None = None,
) -> pd.DataFrame:
    """Return how well a classifier tells each source from the real test images, one row per source.

    Images are those that `fidelity` draws with the same seed, training images first: where these are told from test
    images, the splits differ. permutations: see classifier_two_sample_test. Columns: source, c2st_<extractor> (share
    0..1 of images told right, 0.5 = chance), p, n (images judged, both sides together). Raises what `fidelity` raises.
    """
    reference, rows = extract(test, extractor), []
    for source, features in _equally_many(sources, train, extractor, seed).items():
        found = classifier_two_sample_test(features, reference, seed, permutations)
        rows.append({"source": source, f"c2st_{extractor}": found.accuracy, "p": found.p, "n": found.n})
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
