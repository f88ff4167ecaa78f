"""Image files of any mode and shape -> square uint8 pixels."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from nbutils.datasets.assembly import digest
from nbutils.images import resize
from nbutils.progress import progress

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DAMAGED = (OSError, SyntaxError, struct.error, Image.DecompressionBombError)  # what Pillow raises for broken files


@dataclass(frozen=True, eq=False)
class Squares:
    """Image files as squares of one size.

    images: (N, C, image_size, image_size) uint8; C = 1 if all of them are grey, else 3.
    digests: (N,) str, of the original pixels, see `nbutils.datasets.assembly.digest`.
    shapes: (N, 2) int, the original heights and widths.
    peaks: (N,) int, the largest value of an image of 16 bits, -1 for 8 bits.
    """

    images: np.ndarray
    digests: np.ndarray
    shapes: np.ndarray
    peaks: np.ndarray

    def crop_notes(self) -> list[str]:
        """Note how many images `to_square` has cropped."""
        cropped = (self.shapes[:, 0] != self.shapes[:, 1]).sum()
        return [f"{cropped} of {len(self.shapes)} images were not square: their central square was kept"] * bool(
            cropped
        )


def read_squares(
    paths: Sequence[Path],
    image_size: int,
    name: str,
    square: Callable[[Path, np.ndarray, int], np.ndarray] | None = None,
) -> Squares:
    """Decode image files one by one, each once, and keep them as squares.

    name: of the data set, for the progress bar.
    square: (path, pixels, image_size) -> (C, image_size, image_size) uint8, None = `to_square`.

    Raises ValueError for a file that cannot be read.
    """
    squares, digests, shapes, peaks = [], [], [], []
    for path in progress(paths, description=f"{name}: reading", unit="image"):
        pixels = read_picture(path)
        squares.append(square(path, pixels, image_size) if square else to_square(pixels, image_size))
        digests.append(digest(pixels))
        shapes.append(pixels.shape[:2])
        peaks.append(int(pixels.max()) if pixels.dtype == np.uint16 else -1)
    shape = (max(len(image) for image in squares), image_size, image_size)
    images = np.stack([np.broadcast_to(image, shape) for image in squares])  # (N, C, image_size, image_size)
    return Squares(images, np.array(digests), np.array(shapes), np.array(peaks))


def read_picture(path: Path) -> np.ndarray:
    """Decode an image file to its original pixels: (H, W) if it is grey, else (H, W, 3); uint8, or uint16 if grey.

    Turned as its EXIF orientation says. Palette, CMYK and YCbCr become RGB; an RGB image with three equal channels is
    grey; transparent pixels are laid over black. Of 16-bit RGB Pillow keeps the upper 8 bits.

    Raises ValueError, naming the file, when it is damaged, has several frames, or a mode without a fixed range
    (32-bit integer or float).
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # MPO: a JPEG camera image followed by its previews
                raise ValueError(f"{path} has {frames} frames; one image per file is needed. Save them one by one.")
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            return _pixels(image, path)
    except DAMAGED as error:
        raise ValueError(f"Cannot read the image {path}: {error}. Repair the file or take it away.") from error


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Map uint16 0..65535 linearly to uint8 0..255 by the upper 8 bits, whatever range is used; uint8 is kept."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def centre_crop(images: np.ndarray) -> np.ndarray:
    """Cut (..., H, W) to the central square of the short edge, as MedMNIST does."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def to_square(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Turn (H, W) or (H, W, 3) pixels into (C, image_size, image_size) uint8: 8 bits, centre crop, one resize."""
    pixels = to_8_bits(pixels)
    channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)  # (C, H, W)
    return resize(centre_crop(channels)[None], image_size)[0]  # (C, image_size, image_size)


def without_black_border(pixels: np.ndarray, what: str, black: int = 0) -> np.ndarray:
    """Cut uint8 (H, W) or (H, W, 3) to the smallest rectangle that holds all pixels above `black` in any channel.

    what: it is, for the ValueError that is raised when there are none.
    """
    inside = (pixels > black).reshape(*pixels.shape[:2], -1).any(axis=2)  # (H, W)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise ValueError(f"{what} is black all over; get the file again or take its row out of the table.")
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def padded_square(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resize uint8 (H, W) or (H, W, 3) so that the longest edge is image_size, centred on a black square.

    Returns (C, image_size, image_size); one bicubic antialiased step.
    """
    channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)  # (C, H, W)
    sizes = [max(1, round(edge * image_size / max(pixels.shape[:2]))) for edge in pixels.shape[:2]]
    mode = v2.InterpolationMode.BICUBIC
    image = torch.from_numpy(np.ascontiguousarray(channels))
    resized = v2.functional.resize(image, sizes, interpolation=mode, antialias=True).numpy()  # (C, h, w)
    before = [(image_size - size) // 2 for size in sizes]
    margins = [(b, image_size - size - b) for b, size in zip(before, sizes, strict=True)]
    return np.pad(resized, [(0, 0), *margins])


def _pixels(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise ValueError(f"{path} has the mode {image.mode!r}, without a fixed range; save it with 8 or 16 bits.")
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"))
    pixels = np.array(image.convert("RGB"))
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return np.ascontiguousarray(pixels[..., 0]) if grey else pixels
