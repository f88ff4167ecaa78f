"""StyleGAN2 (Karras et al. 2019, arXiv 1912.04958) with the conditioning of StyleGAN2-ADA (2020, arXiv 2006.06676)."""

from collections.abc import Sequence
from itertools import pairwise
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbutils.models.gan_layers import (
    GAIN,
    DiscriminatorHead,
    EqualizedConv2d,
    EqualizedLinear,
    Filter,
    MappingNetwork,
    StyleBasedGenerator,
    channels_last,
    feature_maps,
)


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are scaled per image and input map, then normalised per output map (Eqs. 1 to 3).

    Scaling the weights is scaling the inputs, and normalising them is scaling the outputs; so one shared convolution
    does for all images. On a CPU that is up to three times faster than a grouped convolution with one kernel per
    image, and the same function.
    double: twice the size, by a transposed convolution and a filter. gain: multiplies the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        w_dim: int,
        demodulate: bool = True,
        double: bool = False,
        gain: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight_gain = 1 / sqrt(in_channels * kernel_size**2)
        self.demodulate, self.double, self.gain = demodulate, double, gain
        self.filter = Filter([1, 3, 3, 1], padding=1, gain=4.0) if double else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, in, H, W) under styles w (B, w_dim) to (B, out, H, W), or twice that size."""
        style, weight = self.affine(w), self.weight * self.weight_gain  # (B, in), (out, in, k, k)
        x = self._convolve(x * style[:, :, None, None], weight)
        if not self.demodulate:
            return x
        energy = (style.square()[:, None] * weight.square().sum(dim=(2, 3))).sum(dim=2)  # (B, out)
        return x * (self.gain * (energy + 1e-8).rsqrt())[:, :, None, None]

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.double:
            return self.filter(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))  # (B, out, 2H, 2W)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class StyledConv(nn.Module):
    """Modulated convolution, noise with one learned strength, bias, leaky ReLU with its gain (Fig. 2c)."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, double: bool = False):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, w_dim, double=double, gain=GAIN)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Map x (B, in, H, W), w (B, w_dim) and noise (B, 1, H', W'), None = drawn here, to (B, out, H', W')."""
        x = self.conv(x, w)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device) if noise is None else noise
        return F.leaky_relu(x + GAIN * self.noise_strength * noise + GAIN * self.bias, 0.2)


class ToRGB(nn.Module):
    """1x1 modulated convolution to the image channels, without demodulation."""

    def __init__(self, in_channels: int, channels: int, w_dim: int):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, in, H, W) and w (B, w_dim) to (B, channels, H, W)."""
        return self.conv(x, w) + self.bias


class StyleGAN2Generator(StyleBasedGenerator):
    """The skip generator of Karras et al. 2019 (Fig. 7b): the image is the sum of the outputs of all resolutions.

    base, maximum: feature maps at a resolution are base / resolution, at most `maximum`.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        z_dim: int,
        w_dim: int,
        mapping_layers: int,
        base: int,
        maximum: int,
    ):
        mapping = MappingNetwork(z_dim, w_dim, num_classes, mapping_layers)
        super().__init__(mapping, z_dim, w_dim, num_classes, image_size)
        sizes = [2**k for k in range(2, int(log2(image_size)) + 1)]
        widths = [feature_maps(size, base, maximum) for size in sizes]
        pairs = list(pairwise(widths))
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = StyledConv(widths[0], widths[0], w_dim)
        self.grow = nn.ModuleList(StyledConv(below, above, w_dim, double=True) for below, above in pairs)
        self.convs = nn.ModuleList(StyledConv(above, above, w_dim) for _, above in pairs)
        self.to_rgb = nn.ModuleList(ToRGB(width, channels, w_dim) for width in widths)
        self.noise_sizes = [4] + [size for size in sizes[1:] for _ in range(2)]

    def synthesize(self, styles: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Draw images (B, C, size, size) about -1..1 from styles (B, num_layers, w_dim).

        noise: one (B, 1, size, size) for each styled convolution, None = drawn here. The output layer of a
        resolution shares its style with the first convolution of the next.
        """
        noise = [None] * len(self.noise_sizes) if noise is None else noise
        x = channels_last(self.constant.expand(len(styles), -1, -1, -1))
        x = self.first(x, styles[:, 0], noise[0])
        images = self.to_rgb[0](x, styles[:, 1])
        for index, (grow, conv, to_rgb) in enumerate(zip(self.grow, self.convs, self.to_rgb[1:], strict=True)):
            layer = 2 * index + 1
            x = grow(x, styles[:, layer], noise[layer])
            x = conv(x, styles[:, layer + 1], noise[layer + 1])
            images = F.interpolate(images, scale_factor=2, mode="bilinear") + to_rgb(x, styles[:, layer + 2])
        return images


class ShrinkingConv2d(EqualizedConv2d):
    """Convolution of stride 2 after a filter, to half the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, activate: bool, bias: bool):
        super().__init__(in_channels, out_channels, kernel_size, activate, bias)
        self.filter = Filter([1, 3, 3, 1], padding=1 + kernel_size // 2)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with the scaled weight and bias, to half the size."""
        return F.conv2d(self.filter(x), weight, bias, stride=2)


class ResidualBlock(nn.Module):
    """Two convolutions that halve the size, and a filtered 1x1 shortcut; the sum keeps the variance (Fig. 7c)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = EqualizedConv2d(in_channels, in_channels, 3, activate=True)
        self.shrink = ShrinkingConv2d(in_channels, out_channels, 3, activate=True, bias=True)
        self.shortcut = ShrinkingConv2d(in_channels, out_channels, 1, activate=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / 2, W / 2)."""
        return (self.shrink(self.conv(x)) + self.shortcut(x)) / sqrt(2)


class StyleGAN2Discriminator(nn.Module):
    """The residual discriminator; with classes its features are projected on a mapped label (2020, appendix C)."""

    def __init__(
        self, num_classes: int, channels: int, image_size: int, w_dim: int, mapping_layers: int, base: int, maximum: int
    ):
        super().__init__()
        sizes = [2**k for k in reversed(range(2, int(log2(image_size)) + 1))]
        widths = [feature_maps(size, base, maximum) for size in sizes]
        self.from_rgb = EqualizedConv2d(channels, widths[0], 1, activate=True)
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(ResidualBlock(before, after) for before, after in pairs))
        self.head = DiscriminatorHead(widths[-1], 1 if num_classes == 1 else w_dim)
        self.mapping = MappingNetwork(0, w_dim, num_classes, mapping_layers) if num_classes > 1 else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B,), positive = real, of images (B, C, size, size) -1..1 with labels (B,) int64."""
        x = self.head(self.blocks(channels_last(self.from_rgb(images))))
        if self.mapping is None:
            return x[:, 0]
        projection = self.mapping(x.new_empty(len(x), 0), labels)
        return (x * projection).sum(dim=1) / sqrt(x.shape[1])
