"""Mean images of sources, per class and pooled, and their lossless sizes beside each other."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nbutils.images import ImageSet
from nbutils.metrics.mean_image import Encoding, lossless_kilobytes, mean_image
from nbutils.seeds import derive_seed

POOLED = "all classes"

Means = dict[str, dict[str, np.ndarray]]
"""Class, or POOLED -> source -> mean image (C, H, W) uint8."""


def mean_images(sources: Mapping[str, ImageSet], seed: int = 0) -> Means:
    """Return the mean images of each class and of all of them, in each source.

    Of a class every source gives the same number of images, drawn at random, as many as the smallest has; the pooled
    mean is over the same images, so that sources do not differ by their shares of classes. Classes that a source lacks
    are left out. Raises ValueError if no class is in all sources.
    """
    drawn = _equally_many(sources, seed)
    return {name: {source: mean_image(images) for source, images in of.items()} for name, of in drawn.items()}


def mean_image_sizes(sources: Mapping[str, ImageSet], encoding: Encoding | None = None, seed: int = 0) -> pd.DataFrame:
    """Return the sizes of the mean images of `mean_images`, one row per class and source, the pooled ones last.

    encoding: None = Encoding(). Columns: class, source, mean_image_kb, n (images behind the mean), recipe (how it was
    written). Compare within a class only. Raises what `mean_images` raises.
    """
    encoding, rows = encoding or Encoding(), []
    for name, of in _equally_many(sources, seed).items():
        for source, images in of.items():
            size = lossless_kilobytes(mean_image(images), encoding)
            rows.append({"class": name, "source": source, "mean_image_kb": size, "n": len(images)})
    return pd.DataFrame(rows).assign(recipe=str(encoding))


def _equally_many(sources: Mapping[str, ImageSet], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Return class, POOLED last -> source -> images (n, C, H, W) uint8, the same n in each source of a class."""
    drawn, class_names = {}, next(iter(sources.values())).class_names
    for label, name in enumerate(class_names):
        count = min(int((images.labels == label).sum()) for images in sources.values())
        if count:
            drawn[name] = {source: _drawn(images, label, count, seed, source) for source, images in sources.items()}
    if not drawn:
        raise ValueError(
            f"Mean images are compared within a class, and none of {', '.join(class_names)} has images in each of "
            f"{', '.join(sources)}; draw some of a class in all of them."
        )
    return drawn | {POOLED: {source: np.concatenate([of[source] for of in drawn.values()]) for source in sources}}


def _drawn(images: ImageSet, label: int, count: int, seed: int, source: str) -> np.ndarray:
    own = np.flatnonzero(images.labels == label)
    random = np.random.default_rng(derive_seed(seed, "mean image", source, label))
    return images.images[random.permutation(own)[:count]]
