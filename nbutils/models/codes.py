"""Codes of a codebook: the one nearest to a vector, and one drawn from a distribution by a uniform number."""

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
