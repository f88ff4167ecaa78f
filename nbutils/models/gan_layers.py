"""Layers that the GANs share: weights, classes, noise inputs, equalised learning rate, filters, mapping, styles."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import gcd, log2, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

LABEL_DIM = 8
"""Length of a label's embedding that is joined to z (as in Mirza & Osindero 2014). It is much less than that of z: as
wide as z it drowned z, and every class collapsed to one image."""

GAIN = sqrt(2)
"""Of leaky ReLU: it keeps the variance at one. As the function is homogeneous, it is applied to the weights before."""


def channels_last(x: Tensor) -> Tensor:
    """Lay out x (B, C, H, W) with the channels together, in which convolutions are up to twice as fast; same values."""
    return x.contiguous(memory_format=torch.channels_last)


def init_weights(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02) (batch norm scales from N(1, 0.02)), biases 0 (Radford et al. 2015, section 4)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)


def spectrally_normalized(network: nn.Module, init: Callable[[nn.Module], None] = init_weights) -> nn.Module:
    """Draw the initial weights of a network, and put all its convolutions and linear layers under spectral norm."""
    network.apply(init)
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            spectral_norm(module)
    return network


def projection_logits(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return logits (B, ...): the unconditional output plus that of the label (Miyato & Koyama 2018, Eq. 3).

    outputs: (B, 1, ...) without classes, else (B, 1 + num_classes, ...): psi(features), then one inner product of
    features and class embedding for each class. labels: (B,) int64. The further dimensions are patches, if any.
    """
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    return outputs[:, 0] + outputs[torch.arange(len(labels), device=labels.device), 1 + labels]


def feature_maps(resolution: int, base: int, maximum: int) -> int:
    """Return the number of feature maps at a resolution: base / resolution, at most `maximum`."""
    return max(1, min(base // resolution, maximum))


def normalize_second_moment(x: Tensor) -> Tensor:
    """Divide each row of x (B, D) by its root mean square (pixel norm; Karras et al. 2017, section 4.2)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def minibatch_stddev(x: Tensor, group_size: int = 4) -> Tensor:
    """Append to x (B, C, H, W) a map of the standard deviation over groups of images: (B, C + 1, H, W).

    Karras et al. 2017, section 3; groups are of group_size images, or of the largest common divisor with the batch.
    """
    groups = x.float().unflatten(0, (gcd(len(x), group_size), -1))  # (G, B / G, C, H, W)
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)  # (B / G, C, H, W)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (B / G,)
    maps = deviation.repeat(len(groups))[:, None, None, None].expand(-1, 1, *x.shape[2:])  # (B, 1, H, W)
    return torch.cat([x, maps.to(x.dtype)], dim=1)


def adaptive_instance_norm(x: Tensor, style: Tensor) -> Tensor:
    """Normalise each map of x (B, C, H, W), then scale by 1 + style[:, :C] and shift by style[:, C:] (2018, Eq. 1)."""
    scale, shift = style[:, :, None, None].chunk(2, dim=1)
    return F.instance_norm(x, eps=1e-8) * (1 + scale) + shift


def mix_styles(first: Tensor, second: Tensor, num_layers: int, probability: float) -> Tensor:
    """Give each layer a style: `first` up to a random layer, then `second`; (B, W) twice -> (B, num_layers, W).

    With `probability` an image is mixed, with a crossover of its own, uniform in 1..num_layers - 1 (section 3.1).
    """
    size, device = (len(first), 1), first.device
    crossover = torch.randint(1, num_layers, size, device=device)
    mixed = torch.rand(size, device=device) < probability
    use_second = mixed & (torch.arange(num_layers, device=device) >= crossover)  # (B, num_layers)
    return torch.where(use_second[:, :, None], second[:, None], first[:, None])


class EqualizedLinear(nn.Module):
    """Linear layer with weights N(0, 1) that are scaled at run time (equalised learning rate; 2017, section 4.1).

    activate: followed by leaky ReLU (0.2) with its gain. lr_multiplier: how fast weights and bias learn relative to
    the optimiser's rate; it does not change the output.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activate: bool = False,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.activate, self.bias_gain = activate, lr_multiplier * (GAIN if activate else 1)
        self.gain = self.bias_gain / sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_features) to (B, out_features)."""
        x = F.linear(x, self.weight * self.gain, self.bias * self.bias_gain)
        return F.leaky_relu(x, 0.2) if self.activate else x


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate; activate: followed by leaky ReLU (0.2) with its gain."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, activate: bool = False, bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activate, self.bias_gain = activate, GAIN if activate else 1
        self.gain = self.bias_gain / sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        x = self.convolve(x, self.weight * self.gain, None if self.bias is None else self.bias * self.bias_gain)
        return F.leaky_relu(x, 0.2) if self.activate else x

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with the scaled weight and bias; here the size is kept."""
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


class Filter(nn.Module):
    """Fixed low-pass filter, the outer product of binomial taps; it multiplies the mean of an image by `gain`."""

    def __init__(self, taps: Sequence[int], padding: int, gain: float = 1.0):
        super().__init__()
        kernel = torch.outer(torch.tensor(taps, dtype=torch.float32), torch.tensor(taps, dtype=torch.float32))
        self.register_buffer("kernel", (gain * kernel / kernel.sum())[None, None], persistent=False)  # (1, 1, k, k)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Filter each map of (B, C, H, W), zeros beyond the borders: (B, C, H + 2 padding + 1 - k, likewise)."""
        return _Filtered.apply(x, self.kernel, self.padding)


class _Filtered(torch.autograd.Function):
    """Convolution of each map with one symmetric kernel that is not learned.

    The library's second derivative of such a convolution loops over the maps, for weight gradients that nobody wants.
    The gradient is the same filter under the padding that restores the size, and so are all further ones.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, padding: int) -> Tensor:
        ctx.kernel, ctx.padding = kernel, kernel.shape[-1] - 1 - padding
        weight = kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Filtered.apply(gradient, ctx.kernel, ctx.padding), None, None


class MappingNetwork(nn.Module):
    """z and label -> style w: normalised inputs, then fully connected layers that learn a hundred times slower.

    z_dim: 0 = from the label alone. num_classes: 1 = no label. The label's embedding is concatenated to z.
    """

    def __init__(self, z_dim: int, w_dim: int, num_classes: int, num_layers: int, lr_multiplier: float = 0.01):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, w_dim) if num_classes > 1 else None
        widths = [z_dim + (w_dim if self.embedding else 0)] + [w_dim] * num_layers
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, activate=True, lr_multiplier=lr_multiplier)
            for before, after in pairwise(widths)
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Map z (B, z_dim) ~ N(0, 1) and labels (B,) int64 to w (B, w_dim), in float32."""
        with torch.autocast(z.device.type, enabled=False):
            x = normalize_second_moment(z) if z.shape[1] else z
            if self.embedding is not None:
                x = torch.cat([x, normalize_second_moment(self.embedding(labels))], dim=1)
            for layer in self.layers:
                x = layer(x)
        return x


class NoisyGenerator(nn.Module):
    """A generator with noise inputs beside its latent vector: z_dim is the length of z, noise_sizes their pixels."""

    z_dim: int
    noise_sizes: list[int]

    @property
    def num_noise(self) -> int:
        """Number of noise values of one image, over all layers."""
        return sum(size**2 for size in self.noise_sizes)

    def split_noise(self, noise: Tensor) -> list[Tensor]:
        """Cut noise (B, num_noise) into the inputs (B, 1, size, size) of the layers."""
        parts = noise.split([size**2 for size in self.noise_sizes], dim=1)
        return [part.unflatten(1, (1, size, size)) for part, size in zip(parts, self.noise_sizes, strict=True)]


class StyleBasedGenerator(NoisyGenerator):
    """What the generators of both StyleGANs share: mapping network, average style, style mixing, noise inputs.

    A subclass sets noise_sizes and defines synthesize(styles, noise, ...).
    w_average: moving average of w for each class, for the truncation trick (2018, appendix B; there over all
    classes, but a class should be truncated towards its own mean).
    """

    def __init__(self, mapping: MappingNetwork, z_dim: int, w_dim: int, num_classes: int, image_size: int):
        super().__init__()
        self.mapping, self.z_dim = mapping, z_dim
        self.num_layers = 2 * int(log2(image_size)) - 2
        self.register_buffer("w_average", torch.zeros(num_classes, w_dim))

    def random_styles(self, labels: Tensor, mixing: float) -> Tensor:
        """Draw styles (B, num_layers, w_dim) for training, mixed with probability `mixing`, and track their average."""
        z = torch.randn(2 * len(labels), self.z_dim, device=labels.device)
        first, second = self.mapping(z, labels.repeat(2)).chunk(2)
        self._track(first.detach(), labels)
        return mix_styles(first, second, self.num_layers, mixing)

    def styles(self, z: Tensor, labels: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """Return styles (B, num_layers, w_dim) for sampling, drawn towards the average by psi (1 = not at all)."""
        w = self.w_average[labels].lerp(self.mapping(z, labels), truncation_psi)
        return w[:, None].expand(-1, self.num_layers, -1)

    def _track(self, w: Tensor, labels: Tensor, decay: float = 0.995) -> None:
        """Update the average style of each class that is in the batch."""
        members = F.one_hot(labels, len(self.w_average)).T.to(w.dtype)  # (num_classes, B)
        counts = members.sum(dim=1, keepdim=True)
        means = members @ w / counts.clamp(min=1)
        self.w_average.lerp_(means, (1 - decay) * (counts > 0))


class DiscriminatorHead(nn.Module):
    """The end of both discriminators at 4 px: minibatch standard deviation, convolution, two linear layers."""

    def __init__(self, channels: int, out_features: int):
        super().__init__()
        self.conv = EqualizedConv2d(channels + 1, channels, 3, activate=True)
        self.linear = EqualizedLinear(channels * 4 * 4, channels, activate=True)
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, 4, 4) to (B, out_features)."""
        x = self.conv(minibatch_stddev(x))
        return self.out(self.linear(x.flatten(1)))
