"""The reading test: which images does a reader call fake? Images of several sources, shuffled, without their names.

Source: the utility paper (Xing et al. 2023), Section III, fake identification rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.datasets.audit import SYNTHETIC
from nbutils.features import extract
from nbutils.images import ImageSet, concatenate
from nbutils.metrics.detection import d_prime, exact_interval
from nbutils.metrics.two_sample import logistic_reader
from nbutils.scales import choose
from nbutils.seeds import derive_seed

PER_CLASS = {"histology": 2, "xray": 5, "ct": 10}
"""Images of each class and source that were read in the paper, by the kind of data; CT has one class."""

COLUMNS = ("reader", "position", "source", "class", "image", "fake")


@dataclass(frozen=True, eq=False)
class ReadingTest:
    """Images to be read, in the order in which they are shown.

    images: ImageSet of N images. sources: (N,) str, where each comes from. indices: (N,) int64, its place there.
    """

    images: ImageSet
    sources: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def answered(self, fake: Sequence[bool], reader: str) -> pd.DataFrame:
        """Return the answers of a reader to the first images, one row each.

        Columns: reader (who read), position (from 0, as shown), source, class, image (its index in the source), fake.
        """
        count = len(fake)
        class_names = np.array(self.images.class_names)[self.images.labels[:count]]
        rows = (self.sources[:count], class_names, self.indices[:count], np.asarray(fake, dtype=bool))
        table = pd.DataFrame(dict(zip(COLUMNS[2:], rows, strict=True)))
        return table.assign(reader=reader, position=np.arange(count))[list(COLUMNS)]


def reading_test(sources: Mapping[str, ImageSet], per_class: int, seed: int) -> ReadingTest:
    """Draw `per_class` images of each class from each source, and shuffle all of them by the seed.

    sources: in the paper real, traditionally augmented, and those of three generators; classes that no source has are
    left out. Raises ValueError if a source has too few images of a class that another one has.
    """
    present = np.flatnonzero(sum(images.class_counts() for images in sources.values()))
    chosen = {
        source: _chosen(images, present, per_class, derive_seed(seed, "reading", source))
        for source, images in sources.items()
    }
    shown = concatenate([sources[source].subset(rows) for source, rows in chosen.items()], "reading test")
    names = np.repeat(list(chosen), [len(rows) for rows in chosen.values()])
    order = np.random.default_rng(derive_seed(seed, "reading", "order")).permutation(len(shown))
    return ReadingTest(shown.subset(order), names[order], np.concatenate(list(chosen.values()))[order])


def _chosen(images: ImageSet, labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Return the places, (M,) int64, of images drawn from one source, so many of each of the labels."""
    order, rows = np.random.default_rng(seed).permutation(len(images)), []
    for label in labels:
        own = order[images.labels[order] == label][:per_class]
        if len(own) < per_class:
            raise ValueError(
                f"A reading test takes {per_class} images of each class, found {len(own)} of "
                f"{images.class_names[label]!r} in {images.name}; draw more, or read fewer."
            )
        rows.append(own)
    return np.concatenate(rows)


def spared(sources: Mapping[str, ImageSet], wanted: int) -> int:
    """Return how many images of each class every source can give to a test and keep as many: `wanted` at most."""
    counts = np.stack([images.class_counts() for images in sources.values()])
    fewest = counts[:, counts.any(axis=0)].min()
    return int(min(wanted, max(1, fewest // 2)))


def automatic_reading(
    test: ReadingTest,
    sources: Mapping[str, ImageSet],
    real: str,
    untold: Sequence[str] = (),
    extractor: str = "shipped",
) -> pd.DataFrame:
    """Read a test by a classifier of real against fake, a stand-in for people in batch runs, named so in its answers.

    It is a logistic regression on an extractor's features, which learned from images of the same sources that are not
    read, and, of real ones, of other patients; real and fake have the same weight. It has seen labelled fakes, which
    people have not, and looks at other things than they do: its rate is not theirs.

    sources: those of reading_test. real: the source of real images. untold: sources it does not learn from, since they
    are neither (traditionally augmented images). Returns answers as ReadingTest.answered. Raises what features.extract
    raises, and ValueError for an unknown source, or if no real or no fake images are left to learn from.
    """
    for source in (real, *untold):
        choose("source", source, sources)
    told = {source: _unread(images, test) for source, images in sources.items() if source not in untold}
    counts = {"real": len(told[real]), "fake": sum(len(images) for source, images in told.items() if source != real)}
    if not all(counts.values()):
        raise ValueError(
            f"An automatic reader learns from images that are not read: found {counts['real']} real and "
            f"{counts['fake']} fake ones beside the test; draw more of each source."
        )
    told = {source: images for source, images in told.items() if len(images)}
    features = np.concatenate([extract(images, extractor) for images in told.values()])
    fake = np.concatenate([np.full(len(images), source != real) for source, images in told.items()])
    answers = logistic_reader().fit(features, fake).predict(extract(test.images, extractor))
    return test.answered(answers, f"automatic reader (logistic regression on {extractor} features)")


def _unread(images: ImageSet, test: ReadingTest) -> ImageSet:
    """Return the images of a source that are not in a test, nor copies of those, nor of the patients that are."""
    groups = np.setdiff1d(test.images.groups, [SYNTHETIC])
    copies = np.isin(images.hashes(), test.images.hashes())
    return images.subset(~(copies | np.isin(images.groups, groups)))


def fake_identification(answers: pd.DataFrame, real: str) -> pd.DataFrame:
    """Return the share of each source's images that a reader calls fake, one row per reader and source.

    answers: as ReadingTest.answered, of one or several readers or tests. real: the source whose share is the rate of
    false alarms. Columns: reader, source, fir (0..1), low, high (exact binomial 95 % interval), fake, n, d_prime (how
    far the reader tells the source from the real one, NaN for that itself). Raises ValueError for an unknown source.
    """
    choose("source", real, dict.fromkeys(answers["source"]))
    rows = []
    for reader, read in answers.groupby("reader", sort=False):
        counts = read.groupby("source", sort=False)["fake"].agg(["sum", "count"])
        alarms, reals = (int(value) for value in counts.loc[real])
        for source, fake, n in counts.itertuples():
            low, high = exact_interval(int(fake), int(n))
            told = np.nan if source == real else d_prime(int(fake), int(n), alarms, reals)
            row = {"reader": reader, "source": source, "fir": fake / n, "low": low, "high": high}
            rows.append(row | {"fake": int(fake), "n": int(n), "d_prime": told})
    return pd.DataFrame(rows)
