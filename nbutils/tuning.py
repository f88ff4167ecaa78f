"""Tuning textual inversion: the settings of de Wilde et al., Tables 1 to 3, their images and their distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils import generators, metrics
from nbutils.features import extract
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.images import ImageSet, as_classes

STEPS, GUIDANCE, VECTORS, CASES = (25, 50, 75, 100), (1, 2, 3, 4, 5), (8, 16, 32, 64), (5, 10, 50, 100)
"""Sampling steps, guidance scales, vectors and training cases that the tables compare."""

BEST = {"steps": 100, "guidance": 2, "vectors": 64, "cases": 100}
"""The values which the paper settles on; each row of its tables changes one of them."""


@dataclass(frozen=True)
class Setting:
    """One row of the tables."""

    steps: int
    guidance: int
    vectors: int
    cases: int

    @property
    def concept(self) -> str:
        """The embedding it is drawn with."""
        return f"{self.vectors} vectors, {self.cases} cases"


def settings(num_cases: int) -> dict[str, Setting]:
    """Return the rows of the tables by name ("guidance 3"), as far as there are `num_cases` cases.

    The best setting is there once in each table, under four names.
    """
    best = {**BEST, "cases": min(num_cases, BEST["cases"])}
    cases = [count for count in CASES if count < best["cases"]] + [best["cases"]]
    tables = {"steps": STEPS, "guidance": GUIDANCE, "vectors": VECTORS, "cases": cases}
    return {f"{name} {value}": Setting(**{**best, name: value}) for name, values in tables.items() for value in values}


def concepts(cases: ImageSet, seed: int) -> tuple[ImageSet, tuple[int, ...]]:
    """Return what the embeddings of all settings train on, one class for each, and their numbers of vectors.

    cases: images of one kind. seed: of the drawing of fewer cases; fewer are always among the more.
    """
    order = np.random.default_rng(seed).permutation(len(cases))
    wanted = {setting.concept: setting for setting in settings(len(cases)).values()}
    sets = {concept: cases.subset(np.sort(order[: setting.cases])) for concept, setting in wanted.items()}
    return as_classes(sets, f"{cases.name}, by setting"), tuple(setting.vectors for setting in wanted.values())


def drawn(generator: TextualInversion, num_cases: int, count: int, seed: int) -> dict[str, ImageSet]:
    """Return `count` images of each setting by its name, all from the same noise; trained on `concepts`."""
    names, images = generator.card["class_names"], {}
    for name, setting in settings(num_cases).items():
        sampling = {"num_sampling_steps": setting.steps, "guidance_scale": float(setting.guidance)}
        labels = np.full(count, names.index(setting.concept))
        images[name] = generators.samples(generator.drawn_with(**sampling), labels, seed)
    return images


def z_scored(images: ImageSet) -> ImageSet:
    """Return images each of whose grey values have mean 128 and sd 64, clipped to 0..255.

    The paper's published script measures its distance on such images, which have no contrast of their own left.
    """
    values = images.images.astype(np.float64)
    mean, spread = (part(axis=(1, 2, 3), keepdims=True) for part in (values.mean, values.std))
    scaled = (values - mean) / np.maximum(spread, 1e-6) * 64 + 128
    return ImageSet(
        scaled.clip(0, 255).astype(np.uint8),
        images.labels,
        images.class_names,
        images.groups,
        f"{images.name}, z-scored",
    )


def distances(sources: Mapping[str, ImageSet], train: ImageSet, test: ImageSet, z_score: bool = False) -> pd.DataFrame:
    """Return the distances of each source to training and to test images on the shipped features, one row per source.

    Columns: method, fd_shipped (to test), fd_shipped_train (to train), precision (share among the test images), n.
    Sources of the same images are measured once. z_score: of z_scored images.
    """
    features = {
        id(images): extract(z_scored(images) if z_score else images, "shipped")
        for images in (*sources.values(), train, test)
    }
    references, rows = (features[id(train)], features[id(test)]), []
    for method, images in sources.items():
        found = features[id(images)]
        to_train, to_test = (metrics.frechet_distance(found, reference) for reference in references)
        precision, _ = metrics.precision_recall(found, references[1])
        rows.append({"method": method, "fd_shipped": to_test, "fd_shipped_train": to_train, "precision": precision})
    return pd.DataFrame(rows).assign(n=[len(images) for images in sources.values()])
