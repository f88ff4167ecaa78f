"""Cell-GAN (Shen et al. 2023, arXiv 2307.06182): FastGAN's shape, a class that reaches every block, global context.

Layers, widths and initial weights are those of the authors' code at 256 px. Smaller images have fewer blocks: the
generator grows from 4 px to their size, the discriminator shrinks them to maps of 8 px, so that it always judges 64
places, and a skip passes as many blocks as `fastgan_layers.gate_span` says. Rebuilt images have half the size, at most
128 px, as at 256 px. So, at 32 px, the generator has blocks up to 8, 16 and 32 px and a skip from 8 to 32 px, the
discriminator has blocks down to 16 and 8 px. Larger ones have blocks of ever half as many maps.

We differ: a part that is rebuilt begins at a pixel of the map of 16 px, so that map and image show the same place, in
the code anywhere in the image, up to 15 px off; images are shrunk by averaging, in the code by leaving out pixels; with
one class there is no projection.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbutils.models.fastgan import LAST_SIZE, Decoder, small_size
from nbutils.models.fastgan_layers import shrink, skips
from nbutils.models.gan_layers import adaptive_instance_norm, channels_last, projection_logits, spectrally_normalized

MULTIPLIERS = {4: 16, 8: 16, 16: 8, 32: 8, 64: 4, 128: 2, 256: 1, 512: 0.5, 1024: 0.25}
"""Pixels -> feature maps of both networks, relative to their width."""

PART_SIZE = 16
"""Pixels of the maps from a part of which that part of the image is rebuilt."""


def init_xavier(module: nn.Module) -> None:
    """Draw weights by Glorot & Bengio 2010, times 0.02; biases are 0."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_normal_(module.weight, gain=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def crop_half(x: Tensor, row: int, column: int) -> Tensor:
    """Return half of the sides of x (B, C, H, H), from `row` and `column` on, in sixteenths of H, 0..8."""
    step, half = x.shape[-1] // PART_SIZE, x.shape[-1] // 2
    return x[:, :, row * step : row * step + half, column * step : column * step + half]


class ClassMapping(nn.Sequential):
    """The non-linear class mapping network: label -> embedding, by linear layers, each with leaky ReLU."""

    def __init__(self, num_classes: int, embedding_dim: int, num_layers: int):
        widths = [num_classes] + [embedding_dim] * num_layers
        super().__init__(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.2))))
        self.num_classes = num_classes

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels (B,) int64 to (B, embedding_dim)."""
        return super().forward(F.one_hot(labels, self.num_classes).float())


class ConditionalUpBlock(nn.Module):
    """Normalise maps to the statistics that the class asks for, double the size by repeating pixels, convolve."""

    def __init__(self, before: int, after: int, embedding_dim: int):
        super().__init__()
        self.affine = nn.Linear(embedding_dim, 2 * before)
        self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, before, H, W) and the class's embedding (B, embedding_dim) to (B, after, 2H, 2W)."""
        x = F.leaky_relu(adaptive_instance_norm(x, self.affine(embedding)), 0.2)
        return self.conv(F.interpolate(x, scale_factor=2))  # the code doubles first: more work, the same maps


class SkipLayerGlobalContext(nn.Module):
    """Add to a large map what a small one shows where it attends to (global context of Cao et al. 2019, skipping).

    One attention for all channels, a softmax over the places; the mean that it weights passes a bottleneck of a quarter
    of the large map's channels, in the code without layer norm.
    """

    def __init__(self, attended: int, added_to: int):
        super().__init__()
        bottleneck = max(1, added_to // 4)
        self.attention = nn.Conv2d(attended, 1, 1, bias=False)
        self.transform = nn.Sequential(
            nn.Conv2d(attended, bottleneck, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(bottleneck, added_to, 1, bias=False),
        )

    def forward(self, attended: Tensor, added_to: Tensor) -> Tensor:
        """Add a number for each channel to added_to (B, C, H, W), from attended (B, c, h, w)."""
        attention = self.attention(attended).flatten(2).softmax(dim=2)  # (B, 1, h * w)
        context = (attention * attended.flatten(2)).sum(dim=2)  # (B, c)
        return added_to + self.transform(context[:, :, None, None])  # (B, C, 1, 1)


class CellGANGenerator(nn.Module):
    """z and a class -> image; from 4 px by blocks that all see the class, and skips of global context.

    Up to three of the last maps get the context of the map `gate_span` blocks before them, in the code three.
    """

    def __init__(
        self,
        z_dim: int,
        num_classes: int,
        channels: int,
        image_size: int,
        width: int,
        embedding_dim: int,
        mapping_layers: int,
    ):
        super().__init__()
        self.z_dim = z_dim
        widths = _widths(4, image_size, width)
        self.mapping = ClassMapping(num_classes, embedding_dim, mapping_layers)
        self.first = nn.ConvTranspose2d(z_dim, widths[4], 4, bias=False)
        self.blocks = nn.ModuleList(ConditionalUpBlock(*pair, embedding_dim) for pair in pairwise(widths.values()))
        self.context_of = skips([size for size in widths if size > 4], longest=3)
        self.contexts = nn.ModuleDict(
            {str(size): SkipLayerGlobalContext(widths[of], widths[size]) for size, of in self.context_of.items()}
        )
        self.to_image = nn.Conv2d(widths[image_size], channels, 3, padding=1, bias=False)
        spectrally_normalized(self, init_xavier)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) -1..1 from z (B, z_dim) ~ N(0, 1) and labels (B,) int64."""
        embedding = self.mapping(labels)
        x, maps = self.first(channels_last(z[:, :, None, None])), {}  # (B, C, 4, 4)
        for block in self.blocks:
            x = block(x, embedding)
            size = x.shape[-1]
            if size in self.context_of:
                x = self.contexts[str(size)](maps[self.context_of[size]], x)
            maps[size] = x
        return torch.tanh(self.to_image(x))


class SummedDownBlock(nn.Module):
    """Halve the size along two paths, by two convolutions and by averaging, and take their sum.

    The activation comes before both: in the code that of the first path works in place, and so reaches the second.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        self.direct = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H/2, W/2)."""
        x = F.leaky_relu(x, 0.2)
        return self.main(x) + self.direct(x)


class DecoderBlock(nn.Sequential):
    """Activate maps (B, before, H, W), double their size by repeating pixels, and convolve: (B, after, 2H, 2W)."""

    def __init__(self, before: int, after: int):
        super().__init__(
            nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1, bias=False)
        )


Pair = tuple[Tensor, Tensor]
"""What belongs to a part of an image, and to the whole image."""


class CellGANDiscriminator(nn.Module):
    """Image and class -> a logit for each of 8 x 8 places; rebuilds real images from its maps."""

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int):
        super().__init__()
        self.small_size = small_size(image_size)
        widths = _widths(LAST_SIZE, image_size, width)
        self.stem = nn.Conv2d(channels, widths[image_size], 3, padding=1, bias=False)
        downwards = list(widths.values())[::-1]  # at image_size, ..., 16, 8 px
        self.blocks = nn.ModuleList(SummedDownBlock(*pair) for pair in pairwise(downwards))
        self.judge = nn.Conv2d(widths[LAST_SIZE], 1, 1, bias=False)
        # a row for each class: its embedding, of which each place takes the inner product with its features
        self.classes = nn.Conv2d(widths[LAST_SIZE], num_classes, 1, bias=False) if num_classes > 1 else None
        self.decode_part, self.decode_whole = (
            Decoder(widths[size], channels, self.small_size, 2 * width, DecoderBlock) for size in (PART_SIZE, LAST_SIZE)
        )
        spectrally_normalized(self, init_xavier)

    def features(self, images: Tensor) -> Pair:
        """Return the maps of 16 and of 8 px of images (B, C, H, H) -1..1."""
        x = self.stem(channels_last(images))
        for block in self.blocks:
            before, x = x, block(x)
        return before, x

    def logits(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B, 64), positive = real, from the maps of 8 px and labels (B,) int64."""
        outputs = [head(maps) for head in (self.judge, self.classes) if head is not None]
        return projection_logits(torch.cat(outputs, dim=1), labels).flatten(1)

    def rebuild(self, features: Pair, row: int, column: int) -> Pair:
        """Return what features hold of a part of the image, see crop_half, and of all of it: (B, C, h, h), -1..1.

        See `targets` for what they should be.
        """
        part, whole = features
        return self.decode_part(crop_half(part, row, column)), self.decode_whole(whole)

    def targets(self, images: Tensor, row: int, column: int) -> Pair:
        """Return what `rebuild` should return for images (B, C, H, H) -1..1."""
        return tuple(shrink(each, self.small_size) for each in (crop_half(images, row, column), images))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B, 64), positive = real, of images (B, C, H, H) -1..1 with labels (B,) int64."""
        return self.logits(self.features(images)[1], labels)


def _widths(smallest: int, largest: int, width: int) -> dict[int, int]:
    """Return pixels -> feature maps, from the smallest to the largest."""
    return {size: max(1, int(width * m)) for size, m in MULTIPLIERS.items() if smallest <= size <= largest}
