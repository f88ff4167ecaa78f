"""The VQGAN of MAGE: images to a grid of codes and back, in the layout of the published weights."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models.codes import nearest_codes


@dataclass(frozen=True)
class VQGANConfig:
    """Settings of the tokenizer; the defaults are those of the published weights.

    channels: of the first convolution. multipliers: of them at each resolution, each half of the one before.
    num_blocks: residual blocks at each resolution. code_dim, num_codes: of the codebook. norm_groups: channels are
    normalised in.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_blocks: int = 2
    code_dim: int = 256
    num_codes: int = 1024
    norm_groups: int = 32

    @property
    def stride(self) -> int:
        """Pixels of an image for each code, in one direction."""
        return 2 ** (len(self.multipliers) - 1)


class ResidualBlock(nn.Module):
    """Two convolutions without bias; where the width changes, the published network adds 1 x 1 of their *output*."""

    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.norm1, self.norm2 = _norm(inputs, groups), _norm(outputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.nin_shortcut = nn.Conv2d(outputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return x + h if self.nin_shortcut is None else h + self.nin_shortcut(h)


class Level(nn.Module):
    """The residual blocks of one resolution, and in the decoder what leads to the next one."""

    def __init__(self, inputs: int, outputs: int, config: VQGANConfig, upsample: bool = False):
        super().__init__()
        widths = [inputs, *[outputs] * config.num_blocks]
        self.block = nn.ModuleList(ResidualBlock(a, b, config.norm_groups) for a, b in pairwise(widths))
        self.upsample = nn.ModuleDict({"conv": nn.Conv2d(outputs, outputs, 3, padding=1)}) if upsample else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return x if self.upsample is None else self.upsample["conv"](F.interpolate(x, scale_factor=2.0))


def _middle(width: int, config: VQGANConfig) -> nn.ModuleDict:
    return nn.ModuleDict({f"block_{i}": ResidualBlock(width, width, config.norm_groups) for i in (1, 2)})


class Encoder(nn.Module):
    """Images to vectors, one for each code; 2 x 2 means halve the resolution."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = [config.channels * times for times in (1, *config.multipliers)]
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1, bias=False)
        self.down = nn.ModuleList(Level(a, b, config) for a, b in pairwise(widths))
        self.mid = _middle(widths[-1], config)
        self.norm_out = _norm(widths[-1], config.norm_groups)
        self.conv_out = nn.Conv2d(widths[-1], config.code_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for number, level in enumerate(self.down):
            x = level(F.avg_pool2d(x, 2) if number else x)
        for block in self.mid.values():
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Vectors of codes to images; the levels are numbered as in the encoder, and run backwards."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = [config.channels * times for times in config.multipliers]
        inputs = [*widths[1:], widths[-1]]
        self.conv_in = nn.Conv2d(config.code_dim, widths[-1], 3, padding=1)
        self.mid = _middle(widths[-1], config)
        self.up = nn.ModuleList(
            Level(inputs[number], width, config, upsample=number > 0) for number, width in enumerate(widths)
        )
        self.norm_out = _norm(widths[0], config.norm_groups)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        for block in self.mid.values():
            x = block(x)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VQGAN(nn.Module):
    """The tokenizer: images (B, 3, H, W) float 0..1 to codes (B, H W / stride²) int64 in rows, and back.

    Source: MAGE's published code, which differs from the VQGAN of Esser et al.: no attention, means for downsampling,
    no convolutions around the codebook, and the residual described at ResidualBlock.
    """

    def __init__(self, config: VQGANConfig):
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(config.num_codes, config.code_dim)})
        bound = 1 / config.num_codes
        nn.init.uniform_(self.codebook, -bound, bound)

    @property
    def codebook(self) -> Tensor:
        """The vectors of the codes, (codes, code_dim)."""
        return self.quantize["embedding"].weight

    def nearest(self, z: Tensor) -> Tensor:
        """Return the nearest code of each vector, (B, N) int64, of vectors (B, code_dim, h, w)."""
        return nearest_codes(z.flatten(2).transpose(1, 2), self.codebook)  # of (B, N, D)

    def encode(self, images: Tensor) -> Tensor:
        """Return the codes of images."""
        return self.nearest(self.encoder(images))

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return the vectors (B, code_dim, h, w) of codes (B, N) of a square image."""
        side = int(tokens.shape[1] ** 0.5)
        return F.embedding(tokens, self.codebook).transpose(1, 2).unflatten(2, (side, side))

    def decode(self, tokens: Tensor) -> Tensor:
        """Return images, nominally 0..1 but not clipped, of codes."""
        return self.decoder(self.vectors(tokens))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rebuilt images with gradients straight through the codes, the encoder's vectors, and the codes."""
        z = self.encoder(images)
        tokens = self.nearest(z)
        quantised = self.vectors(tokens)
        return self.decoder(z + (quantised - z).detach()), z, tokens


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


def config_of(state_dict: dict[str, Tensor]) -> VQGANConfig:
    """Return the settings of a tokenizer with these weights, names as in VQGAN.state_dict()."""
    channels = state_dict["encoder.conv_in.weight"].shape[0]
    levels = sum(name.endswith("block.0.conv1.weight") for name in state_dict if name.startswith("encoder.down"))
    outputs = [state_dict[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    blocks = sum(name.startswith("encoder.down.0.") and name.endswith("conv1.weight") for name in state_dict)
    codes, dim = state_dict["quantize.embedding.weight"].shape
    return VQGANConfig(channels, tuple(width // channels for width in outputs), blocks, dim, codes)
