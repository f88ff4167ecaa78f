"""Tuning textual inversion: the settings of de Wilde et al., Tables 1 to 3, their images and their distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils import generators, metrics
from nbutils.features import extract
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.images import ImageSet, as_classes
from nbutils.metrics.manifold import NEIGHBOURS
from nbutils.papers import reported_value
from nbutils.scales import at_scale

STEPS, GUIDANCE, VECTORS, CASES = (25, 50, 75, 100), (1, 2, 3, 4, 5), (8, 16, 32, 64), (5, 10, 50, 100)
"""Sampling steps, guidance scales, vectors and training cases that the tables compare."""

BEST = {"steps": 100, "guidance": 2, "vectors": 64, "cases": 100}
"""The values which the paper settles on; each row of its tables changes one of them."""


@dataclass(frozen=True)
class TuningScale:
    """What a scale means for the tables.

    num_images: drawn of each setting. steps: with which all rows but those named "steps ..." are drawn, in the paper
    the best number. shortened: by how much all numbers of steps are divided, for a first look.
    """

    num_images: int
    steps: int
    shortened: int = 1


SCALES = {
    "smoke": TuningScale(num_images=6, steps=25, shortened=12),
    "demo": TuningScale(num_images=100, steps=25),
    "gpu": TuningScale(num_images=100, steps=100),
    "paper": TuningScale(num_images=100, steps=100),
}


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


def settings(num_cases: int, steps: int = BEST["steps"]) -> dict[str, Setting]:
    """Return the rows of the tables by name ("guidance 3"), as far as there are `num_cases` cases.

    steps: see TuningScale. Rows of equal settings have equal values.
    """
    best = {**BEST, "steps": steps, "cases": min(num_cases, BEST["cases"])}
    cases = [count for count in CASES if count < best["cases"]] + [best["cases"]]
    tables = {"steps": STEPS, "guidance": GUIDANCE, "vectors": VECTORS, "cases": cases}
    return {f"{name} {value}": Setting(**{**best, name: value}) for name, values in tables.items() for value in values}


def healthy_slices(images: ImageSet, healthy: str | None = None, count: int = BEST["cases"]) -> ImageSet:
    """Return the first channel of at most `count` images of a class: of the prostate, T2W without a tumour.

    healthy: the class, None = the first. Raises ValueError for another one.
    """
    slices = images.of_class(images.label_of(healthy)).channel(0)
    return slices if len(slices) <= count else slices.subset(np.random.default_rng(0).permutation(len(slices))[:count])


def checked_count(num_images: int | None, scale: str, test: ImageSet) -> int:
    """Return how many images of each setting to draw, None = the scale's number.

    Raises ValueError if these, or the test images, are fewer than a distance needs.
    """
    count, least = num_images or at_scale(SCALES, scale).num_images, NEIGHBOURS + 1
    if min(count, len(test)) < least:
        raise ValueError(
            f"Distances need {least} images: num_images is {count}, and there are {len(test)} test images of the class."
        )
    return count


def concepts(cases: ImageSet) -> tuple[ImageSet, tuple[int, ...]]:
    """Return what the embeddings of all settings train on, one class for each, and their numbers of vectors.

    cases: images of one kind; fewer of them are always among the more.
    """
    order = np.random.default_rng(0).permutation(len(cases))
    wanted = {setting.concept: setting for setting in settings(len(cases)).values()}
    sets = {concept: cases.subset(np.sort(order[: setting.cases])) for concept, setting in wanted.items()}
    return as_classes(sets, f"{cases.name}, by setting"), tuple(setting.vectors for setting in wanted.values())


def drawn(
    generator: TextualInversion, num_cases: int, count: int, seed: int, sizes: TuningScale
) -> dict[str, ImageSet]:
    """Return `count` images of each setting by its name, all from the same noise, by the sampler of the paper.

    generator: trained on `concepts` of num_cases.
    """
    names, images = generator.card["class_names"], {}
    for setting in dict.fromkeys(settings(num_cases, sizes.steps).values()):
        sampling = {"num_sampling_steps": setting.steps // sizes.shortened, "guidance_scale": float(setting.guidance)}
        other = generator.drawn_with(sampler="euler-ancestral", **sampling)
        images[setting] = generators.samples(other, np.full(count, names.index(setting.concept)), seed)
    return {name: images[setting] for name, setting in settings(num_cases, sizes.steps).items()}


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


def beside_reported(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each setting: our distances to test and training images, mean ± sd over seeds, and the FID.

    results: rows of `distances` with a column `seed`. Without a spread where there is one seed.
    """
    rows = []
    for method, group in results.groupby("method", sort=False):
        columns = {"to test ↓": "fd_shipped", "to train ↓": "fd_shipped_train", "precision ↑": "precision"}
        found = {title: _mean_and_sd(group[column]) for title, column in columns.items()}
        printed = reported_value("textual_inversion", method, "fid")
        rows.append({"setting": method, **found, "paper FID": "" if np.isnan(printed) else f"{printed:.0f}"})
    return pd.DataFrame(rows)


def _mean_and_sd(values: pd.Series) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def distances(sources: Mapping[str, ImageSet], train: ImageSet, test: ImageSet, z_score: bool = False) -> pd.DataFrame:
    """Return the distances of each source to training and to test images on the shipped features, one row per source.

    Columns: method, fd_shipped (to test), fd_shipped_train (to train), precision (share among the test images), n, the
    number of images of each source and of train, the first of them: as many as the smallest has. Sources of the same
    images are measured once. z_score: of z_scored images.
    """
    count = min(map(len, (*sources.values(), train)))
    features = {
        id(images): extract(z_scored(images) if z_score else images, "shipped")
        for images in (*sources.values(), train, test)
    }
    features = {key: found if key == id(test) else found[:count] for key, found in features.items()}
    references, rows = (features[id(train)], features[id(test)]), []
    for method, images in sources.items():
        found = features[id(images)]
        to_train, to_test = (metrics.frechet_distance(found, reference) for reference in references)
        precision, _ = metrics.precision_recall(found, references[1])
        rows.append({"method": method, "fd_shipped": to_test, "fd_shipped_train": to_train, "precision": precision})
    return pd.DataFrame(rows).assign(n=count)
