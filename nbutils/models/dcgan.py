"""DCGAN (Radford et al. 2015, arXiv 1511.06434), class-conditional when there is more than one class."""

from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn

from nbutils.models.gan_layers import LABEL_DIM, channels_last, init_weights, projection_logits


def layer_widths(image_size: int, width: int, max_width: int) -> list[int]:
    """Return the feature maps at 4, 8, ..., image_size / 2 pixels: `width` at the largest, doubled at each halving."""
    count = int(log2(image_size)) - 2
    return [min(max_width, width * 2**i) for i in reversed(range(count))]


class DCGANGenerator(nn.Module):
    """z (and a class) -> image, by strided transposed convolutions with batch norm and ReLU; tanh at the end."""

    def __init__(self, z_dim: int, num_classes: int, channels: int, image_size: int, width: int, max_width: int = 1024):
        super().__init__()
        self.z_dim = z_dim
        self.embedding = nn.Embedding(num_classes, LABEL_DIM) if num_classes > 1 else None
        widths = layer_widths(image_size, width, max_width)
        self.project = nn.Linear(z_dim + (LABEL_DIM if self.embedding else 0), widths[0] * 4 * 4, bias=False)
        layers = [nn.BatchNorm2d(widths[0]), nn.ReLU(True)]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())
        self.apply(init_weights)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) -1..1 from z (B, z_dim) ~ N(0, 1) and labels (B,) int64."""
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)  # (B, z_dim + LABEL_DIM)
        return self.layers(channels_last(self.project(z).unflatten(1, (-1, 4, 4))))


class DCGANDiscriminator(nn.Module):
    """Image (and a class) -> logit, by strided convolutions with batch norm (not in the first) and leaky ReLU."""

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int, max_width: int = 1024):
        super().__init__()
        widths = layer_widths(image_size, width, max_width)[::-1]
        layers = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Linear(widths[-1] * 4 * 4, 1 if num_classes == 1 else 1 + num_classes)
        self.apply(init_weights)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B,), positive = real, of images (B, C, H, W) -1..1 with labels (B,) int64."""
        return projection_logits(self.logits(self.layers(channels_last(images)).flatten(1)), labels)
