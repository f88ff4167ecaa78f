"""Layers of FastGAN (Liu et al. 2021): gates, noise, blocks that double and halve."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def shrink(images: Tensor, size: int) -> Tensor:
    """Average images (B, C, H, H) down to (B, C, size, size); size must divide H."""
    return F.avg_pool2d(images, images.shape[-1] // size)


def crop_quarter(x: Tensor, quarter: int) -> Tensor:
    """Return a quarter of x (B, C, H, H): 0 = top left, 1 = top right, 2 = bottom left, 3 = bottom right."""
    return x.chunk(2, dim=2)[quarter // 2].chunk(2, dim=3)[quarter % 2]


def gate_span(num_blocks: int, longest: int) -> int:
    """Return how many blocks a gate skips: `longest` as published, less where three gates of it have no room.

    Not less than two, unless there is but one block.
    """
    return min(longest, max(2, num_blocks - 2), num_blocks)


def skips(sizes: Sequence[int], longest: int) -> dict[int, int]:
    """Return which map reaches which by a skip: pixels -> those of the map `gate_span` blocks before it.

    sizes: the pixels of the maps, in the order of the blocks between them.
    """
    return dict(zip(sizes[gate_span(len(sizes) - 1, longest) :], sizes, strict=False))


class SkipLayerExcitation(nn.Module):
    """Gate the channels of a large map by a small one (section 3.1, Eq. 1; with the code's swish, not leaky ReLU)."""

    def __init__(self, gating: int, gated: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(gating, gated, 4, bias=False),
            nn.SiLU(),
            nn.Conv2d(gated, gated, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, gating: Tensor, gated: Tensor) -> Tensor:
        """Multiply gated (B, C, H, W) by a number in 0..1 for each of its channels, from gating (B, c, h, w)."""
        return gated * self.gate(gating)  # (B, C, 1, 1)


class NoiseInjection(nn.Module):
    """Add one map of noise to all channels, with a learned strength that starts at zero."""

    def __init__(self):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Add noise (B, 1, H, W) to x (B, C, H, W); None = drawn from the global random state."""
        noise = torch.randn_like(x[:, :1]) if noise is None else noise
        return x + self.strength * noise


def gated_conv(before: int, after: int) -> list[nn.Module]:
    """Return the layers of a convolution, and those of batch norm and a gated linear unit, which halves the maps."""
    return [nn.Conv2d(before, 2 * after, 3, padding=1, bias=False), nn.BatchNorm2d(2 * after), nn.GLU(dim=1)]


class UpBlock(nn.Sequential):
    """Double the size by repeating pixels, then one gated convolution."""

    num_noise_maps = 0

    def __init__(self, before: int, after: int):
        super().__init__(nn.Upsample(scale_factor=2), *gated_conv(before, after))

    def forward(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Map (B, before, H, W) to (B, after, 2H, 2W); it takes no noise."""
        return super().forward(x)


class NoisyUpBlock(nn.Module):
    """Double the size by repeating pixels, then two gated convolutions, with noise before their batch norms."""

    num_noise_maps = 2

    def __init__(self, before: int, after: int):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2)
        pairs = ((before, after), (after, after))
        layers = [gated_conv(*pair) for pair in pairs]
        self.convolutions = nn.ModuleList(conv for conv, *_ in layers)
        self.noises = nn.ModuleList(NoiseInjection() for _ in pairs)
        self.units = nn.ModuleList(nn.Sequential(*rest) for _, *rest in layers)

    def forward(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Map (B, before, H, W) to (B, after, 2H, 2W); noise: two maps (B, 1, 2H, 2W), None = drawn anew."""
        x = self.upsample(x)
        maps = (None, None) if noise is None else noise
        for convolution, injection, unit, one in zip(self.convolutions, self.noises, self.units, maps, strict=True):
            x = unit(injection(convolution(x), one))
        return x


class DownBlock(nn.Sequential):
    """Halve the size by a strided convolution."""

    def __init__(self, before: int, after: int):
        super().__init__(
            nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, inplace=True)
        )


class ResidualDownBlock(nn.Module):
    """Halve the size along two paths, by two convolutions and by averaging, and take the mean of both."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.main = nn.Sequential(
            *DownBlock(before, after),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.2),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H/2, W/2)."""
        return (self.main(x) + self.direct(x)) / 2
