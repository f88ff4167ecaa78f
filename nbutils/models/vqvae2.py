"""The first stage of VQ-VAE-2 (Razavi et al. 2019): images to two grids of codes and back."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models.codes import nearest_codes

BOTTOM_STRIDE, TOP_STRIDE = 4, 8
"""Pixels of an image for each code of a level, in one direction."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of the autoencoder; the defaults are those of Razavi et al. for ImageNet at 256 px (appendix).

    image_channels: of the images. channels: of the convolutions. residual_channels: within a residual block.
    num_blocks: residual blocks of each encoder and decoder. code_dim, num_codes: of either codebook. codebook_decay:
    gamma of its moving averages. revived_after: steps after which a code that nothing chose becomes a vector of the
    batch; Razavi et al. leave such codes dead.
    """

    image_channels: int = 3
    channels: int = 128
    residual_channels: int = 64
    num_blocks: int = 2
    code_dim: int = 64
    num_codes: int = 512
    codebook_decay: float = 0.99
    revived_after: int = 50


class Codebook(nn.Module):
    """A codebook that follows the vectors assigned to its codes by moving averages, not by gradients.

    At first all codes count as long unused, so that the first batch gives them its vectors.
    """

    def __init__(self, num_codes: int, dim: int, decay: float, revived_after: int):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, dim), requires_grad=False)
        self.decay, self.revived_after = decay, revived_after
        averages = {"counts": torch.zeros(num_codes), "sums": torch.zeros(num_codes, dim)}
        for name, value in {**averages, "unused": torch.full((num_codes,), float(revived_after))}.items():
            self.register_buffer(name, value, persistent=False)  # of use to training alone

    def nearest(self, z: Tensor) -> Tensor:
        """Return the nearest code (B, h, w) int64 of each vector in z (B, D, h, w)."""
        return nearest_codes(z.movedim(1, -1), self.codes)

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (B, D, h, w) of codes (B, h, w) int64."""
        return F.embedding(codes, self.codes).movedim(-1, 1)

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor) -> None:
        """Move each code to the moving average of the vectors in z (B, D, h, w) that chose it, see `nearest`.

        Source: van den Oord et al. 2017, appendix A.1: N = gamma N + (1 - gamma) n, m = gamma m + (1 - gamma) sum z,
        e = m / N. Codes that nothing chose for `revived_after` calls become vectors drawn from z at random.
        """
        vectors, codes, gamma = z.movedim(1, -1).flatten(0, -2).float(), codes.flatten(), self.decay
        n = codes.bincount(minlength=len(self.codes)).float()
        self.counts.mul_(gamma).add_(n, alpha=1 - gamma)
        self.sums.mul_(gamma).add_(torch.zeros_like(self.sums).index_add_(0, codes, vectors), alpha=1 - gamma)
        known = self.counts > 0
        self.codes[known] = self.sums[known] / self.counts[known, None]
        self.unused.add_(1).masked_fill_(n > 0, 0)
        self._revive(vectors)

    def _revive(self, vectors: Tensor) -> None:
        """Let each code that was too long unused start again as one of vectors (M, D), and as if chosen once a step."""
        dead = (self.unused >= self.revived_after).nonzero()[:, 0]
        chosen = vectors[torch.randperm(len(vectors), device=vectors.device)[: len(dead)]]
        dead = dead[: len(chosen)]
        self.codes[dead], self.sums[dead] = chosen, chosen
        self.counts[dead], self.unused[dead] = 1.0, 0.0

    def averages(self) -> dict[str, Tensor]:
        """Return the buffers that an interrupted training needs again, by name."""
        return dict(self.named_buffers())

    def load_averages(self, averages: dict[str, Tensor]) -> None:
        """Take back what `averages` returned."""
        for name, value in averages.items():
            self.get_buffer(name).copy_(value)


class ResidualBlock(nn.Sequential):
    """ReLU, 3 x 3, ReLU, 1 x 1, added to the input."""

    def __init__(self, channels: int, residual_channels: int):
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, residual_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(residual_channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _half(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)


def _double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


def _residual_blocks(config: AutoencoderConfig) -> list[nn.Module]:
    blocks = [ResidualBlock(config.channels, config.residual_channels) for _ in range(config.num_blocks)]
    return [*blocks, nn.ReLU()]


class VQVAE2(nn.Module):
    """The autoencoder: images (B, C, H, W) float -1..1 to top codes (B, H/8, W/8) and bottom codes (B, H/4, W/4) int64.

    The bottom level sees what the top codes already tell. Layers are those of the Sonnet example that the authors
    published, in the sizes of their appendix.
    """

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        wide, dim = config.channels, config.code_dim
        narrow = wide // 2
        book = (config.num_codes, dim, config.codebook_decay, config.revived_after)
        self.encode_bottom = nn.Sequential(
            *(_half(config.image_channels, narrow), nn.ReLU(), _half(narrow, wide), nn.ReLU()),
            *(nn.Conv2d(wide, wide, 3, padding=1), *_residual_blocks(config)),
        )
        self.encode_top = nn.Sequential(
            *(_half(wide, narrow), nn.ReLU(), nn.Conv2d(narrow, wide, 3, padding=1)), *_residual_blocks(config)
        )
        self.to_top, self.top = nn.Conv2d(wide, dim, 1), Codebook(*book)
        self.decode_top = nn.Sequential(
            nn.Conv2d(dim, wide, 3, padding=1), *_residual_blocks(config), _double(wide, dim)
        )
        self.to_bottom, self.bottom = nn.Conv2d(dim + wide, dim, 1), Codebook(*book)
        self.enlarge_top = _double(dim, dim)
        self.decode_both = nn.Sequential(
            *(nn.Conv2d(2 * dim, wide, 3, padding=1), *_residual_blocks(config)),
            *(_double(wide, narrow), nn.ReLU(), _double(narrow, config.image_channels)),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return rebuilt images, and by level ("top", "bottom") the encoder's vectors (B, D, h, w) and their codes.

        Gradients pass from the rebuilt images straight through the codes to the vectors.
        """
        levels, vectors = self._quantised(images)
        return self._rebuild(*vectors), levels

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top and bottom codes of images."""
        levels, _ = self._quantised(images)
        return levels["top"][1], levels["bottom"][1]

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Return images, nominally -1..1 but not clipped, of top and bottom codes."""
        return self._rebuild(self.top.vectors(top), self.bottom.vectors(bottom))

    def _quantised(self, images: Tensor) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
        """Return the levels as `forward` does, and the vectors of their codes that the decoder is given."""
        features = self.encode_bottom(images)
        z_top = self.to_top(self.encode_top(features))
        codes_top, top = _through(self.top, z_top)
        z_bottom = self.to_bottom(torch.cat([self.decode_top(top), features], 1))
        codes_bottom, bottom = _through(self.bottom, z_bottom)
        return {"top": (z_top, codes_top), "bottom": (z_bottom, codes_bottom)}, (top, bottom)

    def _rebuild(self, top: Tensor, bottom: Tensor) -> Tensor:
        return self.decode_both(torch.cat([self.enlarge_top(top), bottom], 1))


def _through(codebook: Codebook, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of vectors, and the codes' vectors in their place with gradients straight through."""
    codes = codebook.nearest(z.detach())
    return codes, z + (codebook.vectors(codes) - z).detach()
