"""Seeds: one for every purpose, and one for every synthetic image."""

import hashlib
from collections.abc import Sequence

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed (63 bits) that belongs to this seed and purpose alone, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def image_seeds(seed: int, count: int, *purpose: str | int) -> list[int]:
    """Return one seed per image, so that image i does not depend on how many are drawn, nor in which batches."""
    return [derive_seed(seed, *purpose, index) for index in range(count)]


def seeded_normal(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Draw standard normal noise (len(seeds), *shape) float32 on the CPU, row i from seeds[i] alone."""
    rows = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, *shape)
