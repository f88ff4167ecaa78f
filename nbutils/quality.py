"""Quality of synthetic images: every measure of fidelity and of variety beside each other, pooled and by class."""

from collections.abc import Mapping, Sequence

import pandas as pd

from nbutils.fidelity import REAL as TRAIN
from nbutils.fidelity import fidelity, two_sample_tests
from nbutils.images import ImageSet
from nbutils.mean_images import POOLED
from nbutils.metrics.manifold import NEIGHBOURS
from nbutils.reading import automatic_reading, fake_identification, reading_test, spared

REAL = "real"
"""The training images, as a source."""

READ_PER_CLASS = 10
"""Images of each class and source that the automatic reader reads, where there are as many to spare."""

QUALITIES = ("fir", "fd_shipped", "kd_shipped", "precision", "recall", "density", "coverage", "mean_image_kb")
"""Columns of `qualities` that the shipped extractor gives and that utility may go with."""


def automatic_answers(
    sources: Mapping[str, ImageSet],
    train: ImageSet,
    *,
    untold: Sequence[str] = (),
    extractor: str = "shipped",
    seed: int = 0,
) -> pd.DataFrame:
    """Return the automatic reader's answers to a reading test of training images, as REAL, and of the sources.

    It stands in for the two people of the utility paper, and reads more images than they did. untold: see
    reading.automatic_reading, as for what it raises.
    """
    every = {REAL: train, **sources}
    test = reading_test(every, spared(every, READ_PER_CLASS), seed)
    return automatic_reading(test, every, REAL, untold, extractor)


def qualities(
    sources: Mapping[str, ImageSet],
    train: ImageSet,
    test: ImageSet,
    answers: pd.DataFrame,
    sizes: pd.DataFrame,
    *,
    extractor: str = "shipped",
    seed: int = 0,
) -> pd.DataFrame:
    """Return every measure of each source against the real test images, one row per source, REAL first.

    answers: of one reader, to images of the same sources. sizes: as mean_images.mean_image_sizes of them and REAL.
    Columns: source; fir (share called fake); those of fidelity.fidelity; c2st_<extractor> (share told from test
    images); mean_image_kb (of the pooled mean image). Raises what fidelity.fidelity raises.
    """
    shared = (sources, train, test, extractor, seed)
    parts = [
        fake_identification(answers, REAL)[["source", "fir"]],
        fidelity(*shared).replace({"source": {TRAIN: REAL}}),
        two_sample_tests(*shared).replace({"source": {TRAIN: REAL}})[["source", f"c2st_{extractor}"]],
        sizes.loc[sizes["class"] == POOLED, ["source", "mean_image_kb"]],
    ]
    joined = pd.concat([part.set_index("source") for part in parts], axis=1)
    return joined.loc[[REAL, *sources]].rename_axis("source").reset_index()


def class_qualities(
    sources: Mapping[str, ImageSet],
    train: ImageSet,
    test: ImageSet,
    answers: pd.DataFrame,
    sizes: pd.DataFrame,
    *,
    extractor: str = "shipped",
    seed: int = 0,
) -> pd.DataFrame:
    """Return the measures within each class, one row per class and source, REAL first.

    answers, sizes: as for `qualities`. Columns: class, then those of `qualities` but c2st_<extractor>. Classes of which
    a source, or the test set, has no more than NEIGHBOURS images are left out. Distances of few images are mostly bias:
    of a class every source gives the same number. Raises ValueError if no class is left.
    """
    fir = answers.groupby(["class", "source"])["fake"].mean().rename("fir")
    rows = []
    for label, name in enumerate(train.class_names):
        own = {source: images.of_class(label) for source, images in {**sources, TRAIN: train, "test": test}.items()}
        if min(map(len, own.values())) > NEIGHBOURS:
            real, held_out = own.pop(TRAIN), own.pop("test")
            rows.append(fidelity(own, real, held_out, extractor, seed).assign(**{"class": name}))
    if not rows:
        raise ValueError(
            f"Classes are compared by {NEIGHBOURS + 1} images of each source and of the test set or more, found fewer "
            f"in each of {', '.join(train.class_names)}; draw more."
        )
    table = pd.concat(rows, ignore_index=True).replace({"source": {TRAIN: REAL}}).set_index(["class", "source"])
    return table.join(fir).join(sizes.set_index(["class", "source"])["mean_image_kb"]).reset_index()
