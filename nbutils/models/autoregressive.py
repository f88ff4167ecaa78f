"""Autoregressive priors over grids of codes: gated convolutions and causal attention, sampled without repeating work.

Codes come in rows. The vertical stream of a place knows the rows above it, the horizontal one also the codes to its
left; so nothing that leads to a code's logits depends on the code itself or on later ones, and there is no blind spot.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models.codes import draw_codes
from nbutils.models.vqvae2 import ResidualBlock


@dataclass(frozen=True)
class PriorConfig:
    """Settings of a prior; the defaults are those of Razavi et al. for the top codes of ImageNet at 256 px (appendix).

    grid: codes along a side. num_codes: of the codebook. num_classes: told by a bias in every layer. width: channels of
    both streams. residual_channels: of the convolutions within a residual block, half of which gate the other half.
    num_layers, filter_size: of the gated convolutions. attention_every: layers after each of which there is causal
    attention, None = nowhere; attention_heads: of it. output_layers: residual blocks of 1 x 1 on top.
    condition_layers: residual blocks that the grid of half the side goes through which the codes depend on,
    None = they depend on none. dropout: after each residual block, and on the logits of attention.
    """

    grid: int = 32
    num_codes: int = 512
    num_classes: int = 1000
    width: int = 512
    residual_channels: int = 2048
    num_layers: int = 20
    filter_size: int = 5
    attention_every: int | None = 5
    attention_heads: int = 8
    output_layers: int = 20
    condition_layers: int | None = None
    dropout: float = 0.1


def gate(x: Tensor) -> Tensor:
    """Return tanh of the first half of the channels times sigmoid of the second (Gated PixelCNN, Eq. 2)."""
    values, gates = x.chunk(2, dim=1)
    return values.tanh() * gates.sigmoid()


class GatedLayer(nn.Module):
    """A layer of both streams (van den Oord et al. 2016, Fig. 2), in two steps: the rows above, then what is left.

    Its convolutions do not pad above and to the left: they are given the rows and codes that reach so far back, zeros
    where there are none, be it for the whole grid at once or for one row and one code. last: no vertical stream after
    it. conditioned: whether there are features of other codes.
    """

    def __init__(self, config: PriorConfig, last: bool):
        super().__init__()
        width, residual, self.reach = config.width, config.residual_channels, config.filter_size // 2
        self.above = nn.Conv2d(width, residual, (self.reach + 1, 2 * self.reach + 1), padding=(0, self.reach))
        self.left = nn.Conv2d(width, residual, (1, self.reach + 1))
        self.link = nn.Conv2d(residual, residual, 1)
        self.above_out = None if last else nn.Conv2d(residual // 2, width, 1)
        self.left_out = nn.Conv2d(residual // 2, width, 1)
        self.classes = nn.Embedding(config.num_classes, residual)
        nn.init.zeros_(self.classes.weight)
        conditioned = config.condition_layers is not None
        self.condition = nn.Conv2d(width, residual, 1, bias=False) if conditioned else None
        self.dropout = nn.Dropout(config.dropout)

    def told(self, labels: Tensor, features: Tensor | None) -> Tensor:
        """Return what labels (B,) and features (B, width, H, W) of other codes add: (B, R, H, W), or (B, R, 1, 1)."""
        bias = self.classes(labels)[:, :, None, None]
        return bias if features is None else bias + self.condition(features)

    def look_up(self, rows: Tensor, told: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the vertical stream (B, width, H, W), None after the last layer, and what the horizontal one is given.

        rows: the vertical stream so far with `reach` rows above it, (B, width, reach + H, W). told: see `told`.
        """
        seen = self.above(rows)
        given = self.link(seen) + told
        if self.above_out is None:
            return None, given
        return rows[:, :, self.reach :] + self.dropout(self.above_out(gate(seen + told))), given

    def look_left(self, row: Tensor, given: Tensor) -> Tensor:
        """Return the horizontal stream (B, width, H, W).

        row: it so far with `reach` columns to its left, (B, width, H, reach + W). given: from look_up, (B, R, H, W).
        """
        seen = self.left(row) + given
        return row[..., self.reach :] + self.dropout(self.left_out(gate(seen)))


class CausalAttention(nn.Module):
    """Multi-headed attention of a place to itself and all before it, added to the horizontal stream."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Attend within the whole grid h (B, width, H, W)."""
        q, k, v = self._project(h)
        length = q.shape[2]
        later = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        return h + self._attended(q, k, v, later).unflatten(2, h.shape[2:])

    def look_back(self, h: Tensor, memory: Tensor, place: int) -> Tensor:
        """Attend from place number `place`, h (B, width, 1, 1), to it and those before, and remember its key and value.

        memory: keys and values of all places, (2, B, heads, N, width / heads).
        """
        q, *new = self._project(h)
        memory[:, :, :, place] = torch.stack(new).squeeze(3)
        keys, values = memory[:, :, :, : place + 1]
        return h + self._attended(q, keys, values, None)[..., None]

    def _project(self, h: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values (B, heads, N, width / heads) of h (B, width, H, W)."""
        rows = self.qkv(self.norm(h.flatten(2).transpose(1, 2)))  # (B, N, 3 width)
        return rows.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> Tensor:
        """Return (B, width, N); hidden: (N, N) bool, what a place must not see, None = nothing is hidden."""
        logits = F.dropout(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), self.dropout, self.training)
        if hidden is not None:
            logits = logits.masked_fill(hidden, -math.inf)
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)  # (B, N, width)
        return self.out(mixed).transpose(1, 2)


class OutputLayer(nn.Module):
    """A gated residual block of 1 x 1, which looks at no other place."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.first = nn.Conv2d(config.width, config.residual_channels, 1)
        self.second = nn.Conv2d(config.residual_channels // 2, config.width, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.dropout(self.second(gate(self.first(F.elu(h)))))


class ConditionStack(nn.Sequential):
    """Codes (B, h, w) of the level above to features (B, width, 2 h, 2 w): residual blocks that see them all."""

    def __init__(self, config: PriorConfig):
        blocks = [ResidualBlock(config.width, config.residual_channels) for _ in range(config.condition_layers)]
        double = nn.ConvTranspose2d(config.width, config.width, 4, stride=2, padding=1)
        super().__init__(nn.Embedding(config.num_codes, config.width), *blocks, nn.ReLU(), double)

    def forward(self, codes: Tensor) -> Tensor:
        embedding, *others = self
        return nn.Sequential(*others)(embedding(codes).movedim(-1, 1))


class Prior(nn.Module):
    """A distribution over grids of codes of a class, given the codes of the level above where it is conditioned.

    The family is that of Razavi et al. (Section 3.2): gated convolutions in a vertical and a horizontal stream,
    multi-headed causal attention after some of them, 1 x 1 residual blocks on top, a residual stack for the condition.
    Ours are what the paper leaves open: places told by a learnt map added to either stream, normalised attention.
    """

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.codes = nn.Embedding(config.num_codes, config.width)
        self.places = nn.Parameter(0.02 * torch.randn(2, config.width, config.grid, config.grid))
        self.layers = nn.ModuleList(
            GatedLayer(config, last=number == config.num_layers - 1) for number in range(config.num_layers)
        )
        every = config.attention_every
        attending = [] if every is None else range(every - 1, config.num_layers, every)
        sizes = (config.width, config.attention_heads, config.dropout)
        self.attention = nn.ModuleDict({str(number): CausalAttention(*sizes) for number in attending})
        self.above = None if config.condition_layers is None else ConditionStack(config)
        head = (nn.ELU(), nn.Conv2d(config.width, config.num_codes, 1))
        self.output = nn.Sequential(*(OutputLayer(config) for _ in range(config.output_layers)), *head)

    def forward(self, codes: Tensor, labels: Tensor, above: Tensor | None = None) -> Tensor:
        """Return logits (B, num_codes, H, W), each from the codes before it alone.

        codes: (B, H, W) int64. labels: (B,) int64. above: codes (B, H/2, W/2) of the level above, None = no condition.
        """
        embedded = self.codes(codes).movedim(-1, 1)  # (B, width, H, W)
        v = F.pad(embedded, (0, 0, 1, 0))[:, :, :-1] + self.places[0]  # of the row above
        h = F.pad(embedded, (1, 0))[..., :-1] + self.places[1]  # of the code to the left
        for number, (layer, told) in enumerate(zip(self.layers, self._told(labels, above), strict=True)):
            v, given = layer.look_up(F.pad(v, (0, 0, layer.reach, 0)), told)
            h = layer.look_left(F.pad(h, (layer.reach, 0)), given)
            if str(number) in self.attention:
                h = self.attention[str(number)](h)
        return self.output(h)

    @torch.no_grad()
    def sample(self, labels: Tensor, uniform: Tensor, above: Tensor | None = None) -> Tensor:
        """Draw codes (B, H, W) int64 of labels (B,), code after code by the uniform numbers 0..1 in (B, H W).

        What a code has in common with those before it is kept: rows of the vertical stream, the row of the horizontal
        one so far, keys and values. So a code takes the same convolutions wherever it stands, and attention alone
        looks at one place more each time.
        """
        drawing = _Drawing(self, self._told(labels, above), len(labels))
        for place in range(self.config.grid**2):
            log_p = drawing.logits(place).float().log_softmax(-1)
            drawing.put(place, draw_codes(log_p, uniform[:, place]))
        return drawing.codes

    def _told(self, labels: Tensor, above: Tensor | None) -> list[Tensor]:
        """Return what labels and the level above add to each layer."""
        features = None if above is None else self.above(above)
        return [layer.told(labels, features) for layer in self.layers]


class _Drawing:
    """Codes that are being drawn, and all that later ones need of them.

    above: the vertical stream before each layer, (B, width, reach + H, W), zeros above the grid. left: the row so far
    of the horizontal stream before each layer, (B, width, 1, reach + W). given: what each layer's row is given.
    """

    def __init__(self, prior: Prior, told: list[Tensor], batch: int):
        config, like = prior.config, prior.places
        self.prior, self.told, self.grid = prior, told, config.grid
        self.codes = torch.zeros(batch, self.grid, self.grid, dtype=torch.int64, device=like.device)
        self.embedded = like.new_zeros(batch, config.width, self.grid + 1, self.grid + 1)  # a row and column of zeros
        reached = self.grid + prior.layers[0].reach
        self.above = [like.new_zeros(batch, config.width, reached, self.grid) for _ in prior.layers]
        self.left = [like.new_zeros(batch, config.width, 1, reached) for _ in prior.layers]
        self.given: list[Tensor] = []
        heads = (config.attention_heads, self.grid**2, config.width // config.attention_heads)
        self.memories = {number: like.new_zeros(2, batch, *heads) for number in prior.attention}

    def logits(self, place: int) -> Tensor:
        """Return the logits (B, codes) of the next code, whose number is `place`."""
        row, column = divmod(place, self.grid)
        if column == 0:
            self._begin(row)
        h = self.embedded[:, :, row + 1, column, None, None] + self.prior.places[1, :, row, column, None, None]
        for number, layer in enumerate(self.prior.layers):
            self.left[number][..., layer.reach + column] = h[..., 0]
            window = self.left[number][..., column : column + layer.reach + 1]
            h = layer.look_left(window, self.given[number][..., column, None])
            if str(number) in self.memories:
                h = self.prior.attention[str(number)].look_back(h, self.memories[str(number)], place)
        return self.prior.output(h)[..., 0, 0]

    def put(self, place: int, codes: Tensor) -> None:
        """Take the codes (B,) of place number `place`."""
        row, column = divmod(place, self.grid)
        self.codes[:, row, column] = codes
        self.embedded[:, :, row + 1, column + 1] = self.prior.codes(codes)

    def _begin(self, row: int) -> None:
        """Take the vertical stream through all layers for a row, above which all is known."""
        v = self.embedded[:, :, row, None, 1:] + self.prior.places[0, :, row, None]
        self.given = []
        for layer, above, told in zip(self.prior.layers, self.above, self.told, strict=True):
            above[:, :, layer.reach + row] = v[:, :, 0]
            here = told if told.shape[2] == 1 else told[:, :, row, None]
            v, given = layer.look_up(above[:, :, row : row + layer.reach + 1], here)
            self.given.append(given)
