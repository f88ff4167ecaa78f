"""Adapters in a frozen transformer, and the quantiser of its class token, for several classes side by side."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PLACEMENTS = {"both": ("encoder", "decoder"), "encoder": ("encoder",), "decoder": ("decoder",)}


class Adapter(nn.Module):
    """Bottlenecks of one block, one for each class: s ReLU(x W_down + b) W_up + b, with W_up = 0 at first.

    Source: AdaptFormer, whose code the paper's numbers are taken from where it states none: s 0.1, width 64, biases,
    dropout 0.1 within. Here x is the block's own normalised features, as in Eqs. 5 and 6 of Yuan et al. 2024.
    """

    def __init__(self, num_classes: int, width: int, bottleneck: int, scale: float, dropout: float):
        super().__init__()
        self.down = nn.Parameter(torch.empty(num_classes, width, bottleneck))
        self.down_bias = nn.Parameter(torch.zeros(num_classes, 1, bottleneck))
        self.up = nn.Parameter(torch.zeros(num_classes, bottleneck, width))
        self.up_bias = nn.Parameter(torch.zeros(num_classes, 1, width))
        for weight in self.down:  # kaiming_uniform_ with a = sqrt(5), as nn.Linear has it
            nn.init.uniform_(weight, -1 / math.sqrt(width), 1 / math.sqrt(width))
        self.scale, self.dropout = scale, dropout

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Return what the adapters of classes (B,) int64 add to x (B, L, D)."""
        hidden = torch.baddbmm(self.down_bias[classes], x, self.down[classes]).relu()
        hidden = F.dropout(hidden, self.dropout, self.training)
        return self.scale * torch.baddbmm(self.up_bias[classes], hidden, self.up[classes])


class Adapters(nn.Module):
    """The adapters of all blocks, one set for each class.

    widths: of encoder and decoder blocks, `depths` of them. placement: a key of PLACEMENTS, where there are adapters.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        depths: dict[str, int],
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
        placement: str = "both",
    ):
        super().__init__()
        self.num_classes = num_classes
        make = (num_classes, width, bottleneck, scale, dropout)
        self.parts = nn.ModuleDict(
            {
                part: nn.ModuleList(Adapter(*make) for _ in range(depth))
                for part, depth in depths.items()
                if part in PLACEMENTS[placement]
            }
        )

    def of(self, part: str, number: int, classes: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return the adapter of a part's block ("encoder", "decoder") for classes (B,) int64; None = it has none."""
        if part not in self.parts:
            return None
        adapter = self.parts[part][number]
        return lambda x: adapter(x, classes)


class ClassTokenQuantizer(nn.Module):
    """A small codebook for each class, to which the encoder's class feature is drawn (Eq. 7)."""

    def __init__(self, num_classes: int, num_codes: int, width: int, commitment: float = 0.25):
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(num_classes, num_codes, width))
        self.commitment = commitment
        self.register_buffer("unused", torch.zeros(num_classes, num_codes))

    @torch.no_grad()
    def start_from(self, features: Tensor, class_index: int) -> None:
        """Let a class' codes be features (N, D) of its images, repeated where there are too few."""
        count = self.codes.shape[1]
        self.codes[class_index] = features[torch.arange(count) % len(features)].to(self.codes)

    def nearest(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return the nearest code of each feature (B, D) among those of its class, (B,) int64."""
        return torch.cdist(features[:, None], self.codes[classes])[:, 0].argmin(-1)

    def loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return Eq. 7 for features (B, D), a mean over dimensions (the paper's sum would weigh D times as much).

        In training it counts for how many calls each code was not chosen, see revive.
        """
        chosen = self.nearest(features.detach(), classes)
        codes = self.codes[classes, chosen]
        if self.training:
            with torch.no_grad():
                self.unused += 1
                self.unused[classes, chosen] = 0
        return F.mse_loss(codes, features.detach()) + self.commitment * F.mse_loss(features, codes.detach())

    @torch.no_grad()
    def revive(self, features: Tensor, classes: Tensor, after: int) -> None:
        """Replace each code that no feature chose for `after` steps by a feature of its class from this batch."""
        for class_index, code in (self.unused >= after).nonzero().tolist():
            candidates = (classes == class_index).nonzero()[:, 0]
            if len(candidates):
                self.codes[class_index, code] = features[candidates[code % len(candidates)]].to(self.codes)
                self.unused[class_index, code] = 0

    def replaced(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return the nearest codes in place of features (B, D), with gradients straight through."""
        codes = self.codes[classes, self.nearest(features.detach(), classes)]
        return features + (codes - features).detach()
