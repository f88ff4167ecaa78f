"""StyleGAN (Karras et al. 2018, arXiv 1812.04948)."""

from collections.abc import Sequence
from itertools import pairwise
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbutils.models.gan_layers import (
    DiscriminatorHead,
    EqualizedConv2d,
    EqualizedLinear,
    Filter,
    MappingNetwork,
    StyleBasedGenerator,
    adaptive_instance_norm,
    channels_last,
    feature_maps,
    projection_logits,
)


class ResampledConv2d(EqualizedConv2d):
    """3x3 convolution fused with nearest-neighbour doubling before it, or 2x2 averaging after it.

    Either is one strided convolution with the 4x4 kernel of four shifted copies (the official code's fused scale; for
    doubling the kernel acts mirrored).
    """

    def __init__(self, in_channels: int, out_channels: int, double: bool, activate: bool = False, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, activate, bias)
        self.double = double

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with the scaled weight and bias, to twice or half the size."""
        kernel = F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, stride=1)  # (out, in, 4, 4)
        if self.double:
            return F.conv_transpose2d(x, 4 * kernel.transpose(0, 1), bias, stride=2, padding=1)
        return F.conv2d(x, kernel, bias, stride=2, padding=1)


class LayerEpilogue(nn.Module):
    """What follows each convolution of the synthesis network: noise, bias, leaky ReLU, AdaIN (Fig. 1b)."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.noise_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.affine = EqualizedLinear(w_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Map x (B, C, H, W), style (B, w_dim) and noise (B, 1, H, W), None = drawn here, to (B, C, H, W)."""
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device) if noise is None else noise
        x = F.leaky_relu(x + self.noise_scale * noise + self.bias, 0.2)  # no gain: the scale is normalised away
        return adaptive_instance_norm(x, self.affine(style))


class SynthesisBlock(nn.Module):
    """Two styled layers at one resolution; the first doubles the size, with a blur after it."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int):
        super().__init__()
        self.grow = ResampledConv2d(in_channels, out_channels, double=True, bias=False)
        self.blur = Filter([1, 2, 1], padding=1)
        self.conv = EqualizedConv2d(out_channels, out_channels, 3, bias=False)
        self.epilogues = nn.ModuleList(LayerEpilogue(out_channels, w_dim) for _ in range(2))

    def forward(self, x: Tensor, styles: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """Map x (B, in, H, W), styles (B, 2, w_dim) and two noise inputs to (B, out, 2H, 2W)."""
        x = self.epilogues[0](self.blur(self.grow(x)), styles[:, 0], noise[0])
        return self.epilogues[1](self.conv(x), styles[:, 1], noise[1])


class StyleGANGenerator(StyleBasedGenerator):
    """The generator of Karras et al. 2018, grown from 8 pixels: its output can be taken at each resolution.

    base, maximum: feature maps at a resolution are base / resolution, at most `maximum`.
    """

    def __init__(
        self, num_classes: int, channels: int, image_size: int, z_dim: int, w_dim: int, base: int, maximum: int
    ):
        mapping = MappingNetwork(z_dim, w_dim, num_classes, num_layers=8)
        super().__init__(mapping, z_dim, w_dim, num_classes, image_size)
        self.resolutions = [2**k for k in range(3, int(log2(image_size)) + 1)]
        widths = [feature_maps(resolution, base, maximum) for resolution in [4, *self.resolutions]]
        self.constant = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        self.first = EqualizedConv2d(widths[0], widths[0], 3, bias=False)
        self.epilogues = nn.ModuleList(LayerEpilogue(widths[0], w_dim) for _ in range(2))
        self.blocks = nn.ModuleList(SynthesisBlock(*pair, w_dim) for pair in pairwise(widths))
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1) for width in widths[1:])
        self.noise_sizes = [size for size in [4, *self.resolutions] for _ in range(2)]

    def synthesize(
        self, styles: Tensor, noise: Sequence[Tensor] | None = None, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draw images (B, C, resolution, resolution) about -1..1 from styles (B, num_layers, w_dim).

        noise: one (B, 1, size, size) for each layer, None = drawn here. resolution: None = full. alpha: share of the
        new resolution while it fades in, the rest is the one below, doubled (Karras et al. 2017, Fig. 2).
        """
        noise = [None] * self.num_layers if noise is None else noise
        x = channels_last(self.constant.expand(len(styles), -1, -1, -1))
        x = self.epilogues[0](x, styles[:, 0], noise[0])
        x = self.epilogues[1](self.first(x), styles[:, 1], noise[1])
        last = self.resolutions.index(resolution or self.resolutions[-1])
        for index in range(last + 1):
            layers = slice(2 * index + 2, 2 * index + 4)
            below, x = x, self.blocks[index](x, styles[:, layers], noise[layers])
        images = self.to_rgb[last](x)
        if alpha < 1:
            images = F.interpolate(self.to_rgb[last - 1](below), scale_factor=2).lerp(images, alpha)
        return images


class DiscriminatorBlock(nn.Module):
    """Two convolutions; the second halves the size, with a blur before it."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = EqualizedConv2d(in_channels, in_channels, 3, activate=True)
        self.blur = Filter([1, 2, 1], padding=1)
        self.shrink = ResampledConv2d(in_channels, out_channels, double=False, activate=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / 2, W / 2)."""
        return self.shrink(self.blur(self.conv(x)))


class StyleGANDiscriminator(nn.Module):
    """The progressively grown discriminator; with classes the label enters by projection (Miyato & Koyama 2018)."""

    def __init__(self, num_classes: int, channels: int, image_size: int, base: int, maximum: int):
        super().__init__()
        self.resolutions = [2**k for k in range(3, int(log2(image_size)) + 1)]
        widths = [feature_maps(resolution, base, maximum) for resolution in [4, *self.resolutions]]
        self.from_rgb = nn.ModuleList(EqualizedConv2d(channels, width, 1, activate=True) for width in widths[1:])
        self.blocks = nn.ModuleList(DiscriminatorBlock(above, below) for below, above in pairwise(widths))
        self.head = DiscriminatorHead(widths[0], 1 if num_classes == 1 else 1 + num_classes)

    def forward(self, images: Tensor, labels: Tensor, alpha: float = 1.0) -> Tensor:
        """Return logits (B,), positive = real, of images (B, C, size, size) of any of its resolutions.

        alpha: share of this resolution while it fades in, the rest enters at half the size.
        """
        last = self.resolutions.index(images.shape[-1])
        x = self.blocks[last](channels_last(self.from_rgb[last](images)))
        if alpha < 1:
            x = self.from_rgb[last - 1](F.avg_pool2d(images, 2)).lerp(x, alpha)
        for index in reversed(range(last)):
            x = self.blocks[index](x)
        return projection_logits(self.head(x), labels)
