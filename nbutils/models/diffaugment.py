"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): differentiable augmentation of all that a discriminator sees.

Kornia's transforms of the same names differ (they clip the colours, and mirror or resample at the borders).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nbutils.scales import choose


def diff_augment(images: Tensor, policy: Sequence[str]) -> Tensor:
    """Return images (B, C, H, W) float32, about -1..1, each of them augmented on its own.

    policy: keys of POLICIES, applied in this order. All parameters are drawn on the CPU from the global random state.
    The strengths are those of the authors' code. Raises ValueError for an unknown key.
    """
    for name in policy:
        for transform in choose("augmentation", name, POLICIES):
            images = transform(images)
    return images


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw a number for each image, (B, 1, 1, 1) uniform in low..high."""
    return (low + (high - low) * torch.rand(len(images), 1, 1, 1)).to(images.device)


def brighten(images: Tensor) -> Tensor:
    """Add a number in -0.5..0.5 to each image (B, C, H, W)."""
    return images + _uniform(images, -0.5, 0.5)


def saturate(images: Tensor) -> Tensor:
    """Multiply each image's deviations from its grey values by a number in 0..2; grey images stay as they are."""
    grey = images.mean(dim=1, keepdim=True)
    return grey.lerp(images, _uniform(images, 0.0, 2.0))


def contrast(images: Tensor) -> Tensor:
    """Multiply each image's deviations from its mean by a number in 0.5..1.5."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean.lerp(images, _uniform(images, 0.5, 1.5))


def translate(images: Tensor, ratio: float = 0.125) -> Tensor:
    """Move each square image by whole pixels, at most `ratio` of its size along each axis; zeros come in."""
    size = images.shape[-1]
    reach = int(size * ratio + 0.5)
    shifts = torch.randint(-reach, reach + 1, (2, len(images), 1)).to(images.device)
    rows, columns = torch.arange(size, device=images.device) - shifts + reach  # (B, size) each, in the padded image
    padded = F.pad(images, [reach] * 4).permute(0, 2, 3, 1)  # (B, H, W, C)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, ratio: float = 0.5) -> Tensor:
    """Set a square of `ratio` of the size of each square image to zero; its centre may lie anywhere in the image."""
    size = images.shape[-1]
    side = int(size * ratio + 0.5)
    centres = torch.randint(0, size + 1 - side % 2, (2, len(images), 1)).to(images.device)
    offsets = torch.arange(size, device=images.device) - centres + side // 2  # (2, B, size), from the square's corner
    rows, columns = (offsets >= 0) & (offsets < side)
    inside = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
    return images.masked_fill(inside[:, None], 0.0)


POLICIES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "color": (brighten, saturate, contrast),
    "translation": (translate,),
    "cutout": (cut_out,),
}
"""The names of the paper's policies, and the transforms behind each."""
