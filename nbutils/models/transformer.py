"""timm's transformer blocks with what MAGE needs of them: adapters, and results at chosen places alone."""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F


def new_block(width: int, heads: int, mlp_ratio: float, dropout: float) -> Block:
    """Return a block of MAGE: normalised before, exact GELU, LayerNorm with epsilon 1e-6, dropout everywhere."""
    return Block(
        width,
        heads,
        mlp_ratio,
        qkv_bias=True,
        proj_drop=dropout,
        attn_drop=dropout,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )


def at(x: Tensor, places: Tensor | None) -> Tensor:
    """Return the rows of x (B, L, D) at places (B, K) int64, (B, K, D); None = all."""
    return x if places is None else x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def run_block(block: Block, x: Tensor, adapter: nn.Module | None = None, wanted: Tensor | None = None) -> Tensor:
    """Return what a block makes of x (B, L, D), at the places `wanted` (B, K) alone, None = at all.

    Keys and values are those of all places, so that the result is the same as picking it afterwards. adapter: is given
    the normalised input of the block's MLP, and joins its output (AdaptFormer; MAGE with adapters, Eq. 6).
    """
    normed = block.norm1(x)
    x = at(x, wanted) + _attend(block.attn, at(normed, wanted), normed)
    normed = block.norm2(x)
    out = x + block.mlp(normed)
    return out if adapter is None else out + adapter(normed)


def _attend(attention: nn.Module, queries: Tensor, others: Tensor) -> Tensor:
    """Attend from queries (B, K, D) to others (B, L, D) with the weights of timm's attention."""
    width = others.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q = F.linear(queries, weight[:width], bias[:width])
    k, v = F.linear(others, weight[width:], bias[width:]).chunk(2, dim=-1)
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))


def all_places(batch: int, length: int, device: torch.device) -> Tensor:
    """Return every place of a sequence for each of a batch, (batch, length) int64."""
    return torch.arange(length, device=device).expand(batch, -1)


def places_where(chosen: Tensor) -> Tensor:
    """Return the chosen places of each row in order, (B, K) int64, of flags (B, L) bool, K of which are set in each."""
    return chosen.nonzero()[:, 1].view(len(chosen), -1)
