"""How MAGE hides codes in training, and its loss."""

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST, MEAN, SPREAD = 0.5, 1.0, 0.55, 0.25
"""The share of hidden codes is drawn from a normal distribution of this mean and sd, cut to this range."""

LABEL_SMOOTHING = 0.1


@dataclass(frozen=True)
class Masking:
    """What a batch sees. hidden: (B, N) bool, codes to be predicted. kept: (B, K) int64 in 1..N, the encoder's rows."""

    hidden: Tensor
    kept: Tensor


def draw_share(generator: torch.Generator) -> float:
    """Return the share of hidden codes of a batch, 0.5..1."""
    uniform = float(torch.rand((), generator=generator))
    low, high = ((bound - MEAN) / SPREAD for bound in (LOWEST, HIGHEST))
    return float(stats.truncnorm.ppf(uniform, low, high, loc=MEAN, scale=SPREAD))


def draw_masking(batch: int, length: int, share: float, generator: torch.Generator) -> Masking:
    """Hide a share of the codes, and drop the lowest share that there may be from the encoder's input.

    The dropped are always among the hidden, and as many in every batch; the encoder sees the other hidden ones as mask
    words. Source: MAGE's published code.
    """
    order = torch.rand((batch, length), generator=generator).argsort(1)
    dropped, hidden = math.ceil(length * LOWEST), math.ceil(length * share)
    mask = torch.zeros(batch, length, dtype=torch.bool).scatter(1, order[:, :hidden], True)
    return Masking(mask, order[:, dropped:].sort(1).values + 1)


def reconstruction_loss(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the smoothed cross-entropy of hidden codes, the mean over all of them; logits (M, codes), codes (M,)."""
    return F.cross_entropy(logits.float(), codes, label_smoothing=LABEL_SMOOTHING)
