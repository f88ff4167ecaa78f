"""The mean image and its lossless size: images alike in structure have a sharp mean, which takes more bytes to write.

Source: the utility paper, Section II-D, after Deng et al. 2009. Sizes depend on how the mean is written, and on the
number and the content of the images: compare at equal ones. More bytes = less variety.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nbutils.images import resize
from nbutils.scales import choose

CODECS = {
    "png": {"format": "PNG", "compress_level": 9},
    "jpeg2000": {"format": "JPEG2000", "irreversible": False},
}
"""Lossless codecs, with the options of Pillow. The paper has lossless JPEG, which Pillow cannot write; its code PNG."""

MODES = {"RGB": 3, "L": 1}
"""Colour modes, and their channels."""

NORMALISATIONS = ("none", "stretched")
"""What is done to the mean's grey values: nothing, or its range is stretched to 0..255 so that contrast counts less."""


@dataclass(frozen=True)
class Encoding:
    """How a mean image is written: everything on which its size depends but the images; its text is the recipe.

    image_size: pixels to which the mean is resized, bicubic. mode: one of MODES. codec: one of CODECS. normalisation:
    one of NORMALISATIONS. Raises ValueError for any other.
    """

    image_size: int = 256
    mode: str = "RGB"
    codec: str = "png"
    normalisation: str = NORMALISATIONS[0]

    def __post_init__(self):
        choose("colour mode", self.mode, MODES)
        choose("codec", self.codec, CODECS)
        choose("normalisation", self.normalisation, dict.fromkeys(NORMALISATIONS))

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in CODECS[self.codec].items() if name != "format")
        return (
            f"mean over the true count, 8 bit, resized to {self.image_size} px (bicubic), mode {self.mode}, "
            f"normalisation {self.normalisation}, codec {self.codec} ({options})"
        )


def mean_image(images: np.ndarray) -> np.ndarray:
    """Return the mean of images (N, C, H, W) uint8 at each place, (C, H, W) uint8, rounded.

    All of them count: the paper's code leaves out up to 19, but divides by their full number, which greys the mean.
    Raises ValueError for no images.
    """
    if not len(images):
        raise ValueError("A mean image needs images, found none.")
    return np.rint(images.mean(axis=0, dtype=np.float64)).astype(np.uint8)


def lossless_kilobytes(mean: np.ndarray, encoding: Encoding | None = None) -> float:
    """Return the size, in kB of 1,000 bytes, of a mean image (C, H, W) uint8 written losslessly.

    encoding: None = Encoding(), PNG at 256 px.
    """
    encoding = encoding or Encoding()
    picture = Image.fromarray(_channels_last(resize(mean[None], encoding.image_size)[0])).convert(encoding.mode)
    pixels = np.asarray(picture)
    if encoding.normalisation == "stretched":
        pixels = _stretched(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **CODECS[encoding.codec])
    return len(file.getvalue()) / 1000


def _channels_last(image: np.ndarray) -> np.ndarray:
    """Return an image (C, H, W) as Pillow takes it, (H, W) or (H, W, 3)."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _stretched(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 whose smallest value is 0 and whose largest is 255; a picture of one value becomes 0."""
    low, high = int(pixels.min()), int(pixels.max())
    return np.rint((pixels.astype(np.float64) - low) * (255 / max(high - low, 1))).astype(np.uint8)
