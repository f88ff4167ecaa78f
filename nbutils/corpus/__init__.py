"""The corpus: procedural "natural images" with captions, on which the priors are trained; made of generic primitives.

It stands in for the photographs on which the papers' networks were pre-trained. It spans a visual vocabulary (discs,
rings, blobs, polygons, strokes, stripes, checkerboards, cells, dots, dead leaves, noises, gradients, vignettes, grain,
sharp and soft edges, in colour and in grey) and holds no phantom and no medical image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nbutils.corpus.captions import describe, vocabulary
from nbutils.corpus.draws import Draws
from nbutils.corpus.painting import paint
from nbutils.corpus.scenes import ATTRIBUTES, sample
from nbutils.images import check_image_size
from nbutils.progress import progress

__all__ = ["ATTRIBUTES", "VERSION", "Corpus", "key", "render", "vocabulary"]

VERSION = 1
"""Raised whenever an image, a caption or an attribute changes, so that priors know which corpus they saw."""

CHUNK_PIXELS = 2**20  # painted at once: many, because there are thousands of small steps to each chunk
PROGRESS_FROM = 2000  # images from which on one waits long enough to want a bar


@dataclass(frozen=True, eq=False)
class Corpus:
    """N images with captions and attributes.

    images: (N, 3, S, S) uint8, 0..255, RGB; all channels are equal in a greyscale image.
    captions: one per image, of words of `vocabulary()`; true, but not complete.
    attributes: the name of each of ATTRIBUTES -> (N,) int64, index of the word; -1 = the image has no such attribute.
    """

    images: np.ndarray
    captions: list[str]
    attributes: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)


def render(count: int, image_size: int = 32, seed: int = 0, start: int = 0) -> Corpus:
    """Return the images start, start + 1, ... of the corpus of a seed.

    Image i belongs to (seed, i) alone: neither count nor start changes it, and at another size it shows the same scene.
    Raises ValueError for a negative count or start, or a size that is not from 8 to 1024 pixels.
    """
    check_image_size(image_size)
    if count < 0 or start < 0:
        raise ValueError(
            f"The corpus has images 0, 1, 2, ...; asked for {count} images from {start} on: give both >= 0."
        )
    images = np.empty((count, 3, image_size, image_size), dtype=np.uint8)
    attributes = {name: np.empty(count, dtype=np.int64) for name in ATTRIBUTES}
    captions: list[str] = []
    size = _chunk_size(image_size)
    for first, wanted, rows in _chunks(start, count, size):
        draws = Draws.of_images(seed, np.arange(first, first + size))
        scene = sample(draws.part("scene"))
        images[rows] = paint(scene, draws, image_size)[wanted]
        captions += describe(scene, draws.part("words"))[wanted]
        for name, values in scene.items():
            attributes[name][rows] = values.numpy()[wanted]
    return Corpus(images, captions, attributes)


def key(count: int, image_size: int = 32, seed: int = 0, start: int = 0) -> dict[str, int]:
    """Return what determines the images that `render` returns for these arguments, as JSON values for a cache's key."""
    return {"version": VERSION, "count": count, "image_size": image_size, "seed": seed, "start": start}


def _chunk_size(image_size: int) -> int:
    """Return the number of images painted at once: 1,024 up to 32 px, 256 at 64 px."""
    return max(CHUNK_PIXELS // max(image_size, 32) ** 2, 1)


def _chunks(start: int, count: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Return the first image of each chunk, which of its images are wanted, and which rows of the result they take.

    Chunks are always painted whole and begin at multiples of their size, because the last bit of a matrix product, or
    of a cosine, depends on where in a batch an image stands.
    """
    firsts = range(start - start % size, start + count, size) if count else range(0)
    bar = progress(firsts, description="corpus", unit=f"x {size} images") if count >= PROGRESS_FROM else firsts
    for first in bar:
        low, high = max(first, start), min(first + size, start + count)
        yield first, slice(low - first, high - first), slice(low - start, high - start)
