"""FastGAN (Liu et al. 2021, arXiv 2101.04775): skip-layer excitation, and a discriminator that rebuilds its input.

Layers, widths and initial weights are those of the authors' code at 256, 512 and 1024 px. Smaller images have fewer
blocks: the generator grows from 4 px to their size, the discriminator shrinks them to maps of 8 px, so that its logits
are always those of 5 x 5 patches, and a gate skips as many blocks as `fastgan_layers.gate_span` says. The small second
image, and those that are rebuilt, have half the size, at most 128 px, as at 256 px. So, at 32 px, the generator has
blocks up to 8, 16 and 32 px and gates from 4 to 16 and from 8 to 32 px; the discriminator has blocks down to 16 and
8 px and a gate from 32 to 8 px; the small image has 16 px. At 16 px, nothing is left to double for the decoders.

We differ: the label enters as in our DCGAN, by an embedding that is joined to z and by projection of the patches (with
one class, as published, not at all); outputs pass through tanh at all sizes, in the code only at 1024 px; images are
shrunk by averaging, in the code by leaving out pixels.
"""

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nbutils.models.fastgan_layers import (
    DownBlock,
    NoisyUpBlock,
    ResidualDownBlock,
    SkipLayerExcitation,
    UpBlock,
    crop_quarter,
    shrink,
    skips,
)
from nbutils.models.gan_layers import LABEL_DIM, NoisyGenerator, channels_last, projection_logits, spectrally_normalized

MAX_SMALL_SIZE, MAX_STEM_SIZE = 128, 256
LAST_SIZE = 8
"""Pixels of the maps that the discriminator judges, and rebuilds its input from."""

GENERATOR_MULTIPLIERS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Pixels -> feature maps of the generator, relative to its width."""

DECODER_MULTIPLIERS = {16: 2, 32: 1, 64: 1, 128: 0.5}
"""The same of the decoders, relative to the discriminator's width."""


def judged_maps(size: int, width: int) -> int:
    """Return the number of the discriminator's feature maps at `size` pixels: `width` at 64, twice as many at half."""
    return max(1, width * 64 // size)


def small_size(image_size: int) -> int:
    """Return the pixels of the small second image."""
    return min(MAX_SMALL_SIZE, image_size // 2)


class FastGANGenerator(NoisyGenerator):
    """z (and a class) -> image and small image; from 4 px by blocks with and without noise in turns, and gates.

    Each of the last maps up to 512 px is gated by the map `gate_span` blocks before it, in the code four.
    """

    def __init__(self, z_dim: int, num_classes: int, channels: int, image_size: int, width: int):
        super().__init__()
        self.z_dim, self.small_size = z_dim, small_size(image_size)
        self.embedding = nn.Embedding(num_classes, LABEL_DIM) if num_classes > 1 else None
        widths = {s: max(1, int(width * m)) for s, m in GENERATOR_MULTIPLIERS.items() if s <= image_size}
        sizes = list(widths)  # 4, 8, ..., image_size
        self.first = nn.Sequential(
            nn.ConvTranspose2d(z_dim + (LABEL_DIM if self.embedding else 0), 2 * widths[4], 4, bias=False),
            nn.BatchNorm2d(2 * widths[4]),
            nn.GLU(dim=1),
        )
        kinds = [UpBlock if index % 2 else NoisyUpBlock for index in range(len(sizes) - 1)]
        self.blocks = nn.ModuleList(
            kind(widths[before], widths[after]) for kind, (before, after) in zip(kinds, pairwise(sizes), strict=True)
        )
        self.noise_sizes = [
            s for s, block in zip(sizes[1:], self.blocks, strict=True) for _ in range(block.num_noise_maps)
        ]
        self.gated_by = {size: by for size, by in skips(sizes, longest=4).items() if size <= 512}
        self.gates = nn.ModuleDict(
            {str(size): SkipLayerExcitation(widths[by], widths[size]) for size, by in self.gated_by.items()}
        )
        self.to_small = nn.Conv2d(widths[self.small_size], channels, 1, bias=False)
        self.to_image = nn.Conv2d(widths[image_size], channels, 3, padding=1, bias=False)
        spectrally_normalized(self)

    def forward(
        self, labels: Tensor, z: Tensor | None = None, noise: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw images (B, C, H, H) and small ones (B, C, h, h), -1..1, of labels (B,) int64.

        z: (B, z_dim) ~ N(0, 1). noise: see split_noise. None = drawn from the global random state.
        """
        z = torch.randn(len(labels), self.z_dim, device=labels.device) if z is None else z
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)  # (B, z_dim + LABEL_DIM)
        x = self.first(channels_last(z[:, :, None, None]))  # (B, C, 4, 4)
        maps, rest = {4: x}, iter(noise or ())
        for block in self.blocks:
            x = block(x, noise and list(islice(rest, block.num_noise_maps)))
            size = x.shape[-1]
            if size in self.gated_by:
                x = self.gates[str(size)](maps[self.gated_by[size]], x)
            maps[size] = x
        return torch.tanh(self.to_image(x)), torch.tanh(self.to_small(maps[self.small_size]))


class Decoder(nn.Sequential):
    """Rebuild an image (B, channels, size, size) -1..1 from maps (B, before, 8, 8), by doubling (section 3.2).

    block: what doubles the size, made from the numbers of maps before and after it.
    """

    def __init__(
        self, before: int, channels: int, size: int, width: int, block: Callable[[int, int], nn.Module] = UpBlock
    ):
        widths = [before, *(max(1, int(width * m)) for s, m in DECODER_MULTIPLIERS.items() if s <= size)]
        blocks = [block(*pair) for pair in pairwise(widths)]
        super().__init__(*blocks, nn.Conv2d(widths[-1], channels, 3, padding=1, bias=False), nn.Tanh())


class Features(NamedTuple):
    """What the discriminator sees in an image: maps of 16 and 8 px of the image, and of 8 px of the small one."""

    part: Tensor
    whole: Tensor
    small: Tensor


class FastGANDiscriminator(nn.Module):
    """Image and small image (and a class) -> logits of 5 x 5 patches of each; rebuilds real images from its maps.

    Each of the last maps is gated by the map `gate_span` blocks before it, in the code three.
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int):
        super().__init__()
        self.small_size = small_size(image_size)
        stem_size = min(image_size, MAX_STEM_SIZE)
        self.stem = _stem(channels, image_size, stem_size, width)
        sizes = [2**k for k in range(int(log2(stem_size)), 2, -1)]  # stem_size, ..., 16, 8
        maps = {size: judged_maps(size, width) for size in sizes}
        self.blocks = nn.ModuleList(ResidualDownBlock(maps[before], maps[after]) for before, after in pairwise(sizes))
        self.gated_by = skips(sizes, longest=3)
        self.gates = nn.ModuleDict(
            {str(size): SkipLayerExcitation(maps[by], maps[size]) for size, by in self.gated_by.items()}
        )
        last, last_small, num_outputs = maps[8], maps[16], 1 if num_classes == 1 else 1 + num_classes
        self.judge_image = nn.Sequential(
            nn.Conv2d(last, 2 * last, 1, bias=False),
            nn.BatchNorm2d(2 * last),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * last, num_outputs, 4, bias=False),
        )
        self.small_blocks = _small_branch(channels, self.small_size, width)
        self.judge_small = nn.Conv2d(last_small, num_outputs, 4, bias=False)
        sources = {"part": maps[16], "whole": last, "small": last_small}
        self.decoders = nn.ModuleDict(
            {name: Decoder(before, channels, self.small_size, width) for name, before in sources.items()}
        )
        spectrally_normalized(self)

    def features(self, images: Tensor, small: Tensor) -> Features:
        """Return the last maps of images (B, C, H, H) and small images (B, C, h, h), both -1..1."""
        x = self.stem(channels_last(images))
        maps = {x.shape[-1]: x}
        for block in self.blocks:
            x = block(x)
            size = x.shape[-1]
            if size in self.gated_by:
                x = self.gates[str(size)](maps[self.gated_by[size]], x)
            maps[size] = x
        return Features(maps[16], x, self.small_blocks(channels_last(small)))

    def logits(self, features: Features, labels: Tensor) -> Tensor:
        """Return logits (B, 50), positive = real, of the patches of image and small image, with labels (B,) int64."""
        outputs = self.judge_image(features.whole), self.judge_small(features.small)  # (B, 1 or 1 + classes, 5, 5)
        return torch.cat([projection_logits(each, labels).flatten(1) for each in outputs], dim=1)

    def rebuild(self, features: Features, quarter: int) -> Features:
        """Return what features hold of a quarter of the image, of the image and of the small image, each (B, C, h, h).

        quarter: see crop_quarter. See `targets` for what they should be.
        """
        sources = features._replace(part=crop_quarter(features.part, quarter))._asdict()
        return Features(**{name: self.decoders[name](source) for name, source in sources.items()})

    def targets(self, images: Tensor, quarter: int) -> Features:
        """Return what `rebuild` should return for images (B, C, H, H) -1..1 and their small images."""
        small = shrink(images, self.small_size)
        return Features(shrink(crop_quarter(images, quarter), self.small_size), small, small)

    def forward(self, images: Tensor, small: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B, 50), positive = real, of images and small images, -1..1, with labels (B,) int64."""
        return self.logits(self.features(images, small), labels)


def _first(channels: int, maps: int, halve: bool) -> list[nn.Module]:
    """Return a first convolution of an image, without batch norm."""
    sizes = (4, 2, 1) if halve else (3, 1, 1)
    return [nn.Conv2d(channels, maps, *sizes, bias=False), nn.LeakyReLU(0.2, inplace=True)]


def _stem(channels: int, image_size: int, stem_size: int, width: int) -> nn.Sequential:
    """Return what brings images to maps of stem_size, a quarter or a half of their size or as large."""
    if image_size == 4 * stem_size:
        maps = judged_maps(2 * stem_size, width), judged_maps(stem_size, width)
        return nn.Sequential(*_first(channels, maps[0], halve=True), DownBlock(*maps))
    return nn.Sequential(*_first(channels, judged_maps(stem_size, width), halve=image_size > stem_size))


def _small_branch(channels: int, size: int, width: int) -> nn.Sequential:
    """Return what brings small images to maps of 8 px, half as many at each size as those of the large image."""
    halve = size > LAST_SIZE
    sizes = [2**k for k in range(int(log2(size)) - halve, 2, -1)]  # size / 2 (or 8), ..., 16, 8
    maps = [judged_maps(2 * each, width) for each in sizes]
    return nn.Sequential(*_first(channels, maps[0], halve), *(DownBlock(*pair) for pair in pairwise(maps)))
