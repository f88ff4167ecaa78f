"""Image files of any mode and shape -> square uint8 pixels."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nbutils.images import resize

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DAMAGED = (OSError, SyntaxError, struct.error, Image.DecompressionBombError)  # what Pillow raises for broken files


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
