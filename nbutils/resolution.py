"""What the size of images does to generators, and to the numbers by which they are judged.

Source: the utility paper (Xing et al. 2023), Table III.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from nbutils import datasets, efficiency
from nbutils.datasets import Splits
from nbutils.fidelity import REAL, fidelity
from nbutils.generators.base import Generator
from nbutils.images import ImageSet, resized
from nbutils.mean_images import POOLED, mean_image_sizes
from nbutils.protocols import SPLIT_IMAGES
from nbutils.reading import automatic_reading, fake_identification, reading_test
from nbutils.scales import at_scale
from nbutils.seeds import derive_seed

SIZES = {"smoke": (16, 32), "demo": (32, 64, 128), "gpu": (64, 128, 256), "paper": (256, 512, 1024)}
"""Scale -> pixels; those of the paper are 256, 512 and, for StyleGAN2 alone, 1024."""

GENERATORS = ("stylegan2-ada", "ldm")
"""Those of Table III."""

NUM_IMAGES = {"smoke": 40, "demo": 250, "gpu": 600, "paper": 600}
"""Scale -> images that each generator draws at each size."""

READ_PER_CLASS = {"smoke": 3, "demo": 25, "gpu": 50, "paper": 5}
"""Scale -> images of each class and source that are read; the paper's people read 5 radiographs, or 10 montages."""

TIMED_IMAGES = {"smoke": 4, "demo": 32, "gpu": 64, "paper": 16}
"""Scale -> images drawn to tell how long 1,000 take."""

BySize = Mapping[int, Mapping[str, ImageSet]]
"""Pixels -> source -> its images."""


def load(dataset: str, scale: str) -> dict[int, Splits]:
    """Return a data set at the SIZES of a scale, each read and resized by itself, with its SPLIT_IMAGES."""
    count = at_scale(SPLIT_IMAGES, scale)
    return {size: datasets.load(dataset, image_size=size).thinned(count) for size in at_scale(SIZES, scale)}


def common_size(scale: str) -> int:
    """Return the size of a scale, the middle one, to which images are brought where distances are to be compared."""
    sizes = at_scale(SIZES, scale)
    return sizes[len(sizes) // 2]


def distances(sources: BySize, data: Mapping[int, Splits], common: int, seed: int, extractor: str = "shipped"):
    """Return how close the sources of every size come to real test images, one row per size and source, a DataFrame.

    Columns: image_size, source, fd_native, fd_common (Fréchet distances on the extractor's features: of images as they
    are, and all resized to `common` pixels), precision, recall (at their own size), n, n_reference. At native size
    a network that averages its features over places averages over more of them in larger images, so that features vary
    less and distances shrink: down fd_native they cannot be compared, down fd_common they can. The rows of
    fidelity.REAL are the floor. Raises what fidelity.fidelity raises.
    """
    rows = []
    for size, of_size in sources.items():
        train, test = data[size].train, data[size].test
        native = fidelity(of_size, train, test, extractor, seed)
        alike = {source: resized(images, common) for source, images in of_size.items()}
        shared = fidelity(alike, resized(train, common), resized(test, common), extractor, seed)
        table = native.assign(image_size=size, fd_common=shared[f"fd_{extractor}"])
        rows.append(table.rename(columns={f"fd_{extractor}": "fd_native"}))
    columns = ["image_size", "source", "fd_native", "fd_common", "precision", "recall", "n", "n_reference"]
    return pd.concat(rows, ignore_index=True)[columns]


def mean_images_by_size(sources: BySize, data: Mapping[int, Splits], seed: int) -> pd.DataFrame:
    """Return the lossless sizes of the mean images of all classes, one row per size and source, real ones included.

    Columns: image_size, source, mean_image_kb, n. All means are written at one size, see mean_image.Encoding.
    """
    rows = []
    for size, of_size in sources.items():
        table = mean_image_sizes({REAL: data[size].train, **of_size}, seed=seed)
        rows.append(table[table["class"] == POOLED].assign(image_size=size))
    return pd.concat(rows, ignore_index=True)[["image_size", "source", "mean_image_kb", "n"]]


def readings(sources: BySize, data: Mapping[int, Splits], per_class: int, seed: int) -> pd.DataFrame:
    """Return how many images of every source and size an automatic reader calls fake, in place of the paper's people.

    Real images are training images: false alarms. The reader learns from images that are not read, at each size anew.
    Columns: image_size, source, fir, low, high, n, d_prime; see reading.fake_identification.
    """
    rows = []
    for size, of_size in sources.items():
        shown = {REAL: data[size].train, **of_size}
        test = reading_test(shown, per_class, derive_seed(seed, "resolution", size))
        answered = automatic_reading(test, shown, real=REAL)
        rows.append(fake_identification(answered, real=REAL).assign(image_size=size))
    return pd.concat(rows, ignore_index=True)[["image_size", "source", "fir", "low", "high", "n", "d_prime"]]


def measured(sources: BySize, data: Mapping[int, Splits], scale: str, seed: int) -> pd.DataFrame:
    """Return Table III: the columns of `distances`, `mean_images_by_size` and `readings` side by side.

    One row per size and source, sources those of each size, real training images first; scale: says how much is read,
    and to which size images are brought for fd_common.
    """
    keys = ["image_size", "source"]
    close = distances(sources, data, common_size(scale), seed)
    sizes = mean_images_by_size(sources, data, seed).drop(columns="n")
    read = readings(sources, data, at_scale(READ_PER_CLASS, scale), seed).rename(columns={"n": "n_read"})
    return close.merge(sizes, on=keys, validate="1:1").merge(read, on=keys, validate="1:1")


def drawing_times(trained: Mapping[int, Mapping[str, Generator]], scale: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Return how long drawing takes at every size, one row per size, generator and seed of the drawing.

    trained: pixels -> name -> generator. Columns: image_size, seed, and those of efficiency.drawing_times.
    """
    count = at_scale(TIMED_IMAGES, scale)
    rows = [
        efficiency.drawing_times(of_size, count, seed).assign(image_size=size, seed=seed)
        for seed in seeds
        for size, of_size in trained.items()
    ]
    return pd.concat(rows, ignore_index=True)


def smallest_and_largest(times: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the times of one generator at the smallest and the largest size, as methods "small" and "large"."""
    names = {times["image_size"].min(): "small", times["image_size"].max(): "large"}
    found = times[(times["source"] == source) & times["image_size"].isin(names)]
    return found.assign(method=found["image_size"].map(names), generator_seed=0)


def wide(table: pd.DataFrame, metrics: Sequence[str], prefix: str = "") -> pd.DataFrame:
    """Return a table by size as one row per source, with columns <prefix><metric>:<pixels>, and the source as index."""
    cells = table.pivot(index="source", columns="image_size", values=list(metrics))
    cells.columns = [f"{prefix}{metric}:{size}" for metric, size in cells.columns]
    return cells.loc[table["source"].unique()]
