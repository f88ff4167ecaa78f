"""The canvas of the phantoms: where its pixels lie, its margin, changing some pictures of a batch, and blur.

Pictures are float32, (B, ..., N, N), one row for each image. `line` holds the pixel centres along a side, (N,), in
patch units, where the picture spans -1..1, or in the modality's unit of length.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Self

import torch

MARGIN = 9 / 8  # a scene is drawn larger than its picture where blur wraps around at the border


def axis(pixels: int, extent: float = 1.0) -> torch.Tensor:
    """Return the pixel centres along one side, (pixels,), from -extent to extent."""
    return ((torch.arange(pixels) + 0.5) * (2 / pixels) - 1) * extent


def wide_axis(pixels: int) -> torch.Tensor:
    """Return the pixel centres along one side of a scene with a margin round `pixels`, -MARGIN to MARGIN."""
    return axis(pixels * 9 // 8, MARGIN)


def crop(pictures: torch.Tensor, pixels: int) -> torch.Tensor:
    """Cut the margin off: return the middle (..., pixels, pixels) of pictures."""
    edge = (pictures.shape[-1] - pixels) // 2
    return pictures[..., edge : edge + pixels, edge : edge + pixels]


def half_width(line: torch.Tensor) -> float:
    """Return half the width of what the pixels cover, in the unit of their centres."""
    return float(line[-1] - line[0]) * len(line) / (len(line) - 1) / 2


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Let one number per image, (B,), broadcast with pixels: (B, 1, 1)."""
    return values[:, None, None]


def plane(line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x, (1, 1, N), and y, (1, N, 1), of the pixels."""
    return line[None, None, :], line[None, :, None]


def direction(angle: torch.Tensor) -> torch.Tensor:
    """Return unit vectors as x, y, (..., 2), at angles in radians, (...)."""
    return torch.stack([angle.cos(), angle.sin()], -1)


def across(line: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Return the signed distance from a straight line through the middle, (B, N, N); normal: (B, 2) of unit length."""
    x, y = plane(line)
    return per_image(normal[:, 0]) * x + per_image(normal[:, 1]) * y


def around(line: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y from a centre in radii, (B, N, N) each; centre: (B, 2), radius: (B,), both in the unit of line."""
    x, y = plane(line)
    x, y = x - per_image(centre[:, 0]), y - per_image(centre[:, 1])
    return torch.broadcast_tensors(x / per_image(radius), y / per_image(radius))


class Batch:
    """Part of a scene: a dataclass of tensors with one row per image, and `line`, which all images share."""

    def rows(self, chosen: torch.Tensor) -> Self:
        """Return the part of some images; chosen: their indices, (b,) int64."""
        own = [field.name for field in fields(self) if field.name != "line"]
        return replace(self, **{name: getattr(self, name)[chosen] for name in own})


def in_some(chosen: torch.Tensor, change: Callable, pictures: torch.Tensor, *parts) -> torch.Tensor:
    """Change only the chosen pictures, in place: `change(pictures, *parts)`, all cut down to them by `part.rows`.

    chosen: (B,), not 0 where wanted.
    """
    indices = chosen.nonzero()[:, 0]
    if len(indices):
        pictures[indices] = change(pictures[indices], *(part.rows(indices) for part in parts))
    return pictures


def squared_frequency(pixels: int) -> torch.Tensor:
    """Return the squared frequency of each Fourier coefficient of a picture, (N, N // 2 + 1), per pixel^2."""
    return torch.fft.fftfreq(pixels)[:, None].square() + torch.fft.rfftfreq(pixels).square()


def filtered(pictures: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
    """Return pictures whose Fourier coefficients are multiplied by transfer, (..., N, N // 2 + 1), wrapping around."""
    return torch.fft.irfft2(torch.fft.rfft2(pictures) * transfer, s=pictures.shape[-2:])


def blur(pictures: torch.Tensor, sd: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Return pictures (B, ..., N, N) blurred by a Gaussian without wrapping around; sd: (B,) in the unit of line."""
    # bounded, because numbers too small to be normal make arithmetic slow
    kernel = torch.exp((-0.5 * ((line[:, None] - line) / per_image(sd)).square()).clamp_min(-30))  # (B, N, N)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    kernel = kernel.view(len(kernel), *[1] * (pictures.ndim - 3), *kernel.shape[1:])
    return kernel @ pictures @ kernel.transpose(-1, -2)
