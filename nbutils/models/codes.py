"""Codes of a codebook: the nearest to a vector, one drawn by a uniform number, and how many of them are in use."""

import torch
from torch import Tensor


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the nearest of the codebook's rows (codes, D) to each of vectors (..., D), (...) int64; in float32."""
    rows, codes = vectors.float(), codebook.float()
    with torch.autocast(vectors.device.type, enabled=False):  # else a GPU would multiply in half precision after all
        return (codes.square().sum(1) - 2 * rows @ codes.T).argmin(-1)


def draw_codes(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Return a code (...) int64 for each log-distribution (..., codes) by a uniform number 0..1 in `uniform` (...)."""
    cumulated = log_p.exp().cumsum(-1)
    return (cumulated < (uniform * cumulated[..., -1])[..., None]).sum(-1).clamp(max=log_p.shape[-1] - 1)


def perplexity(codes: Tensor, num_codes: int) -> Tensor:
    """Return how many of num_codes codes are in use, a scalar: e to the entropy of their shares in `codes` (int64)."""
    counts = codes.flatten().bincount(minlength=num_codes)
    return torch.distributions.Categorical(counts.float()).entropy().exp()
