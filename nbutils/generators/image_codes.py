"""Images to codes and back, by any network that has a VQGAN's `encode` and `decode`; encodings that are cached."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nbutils.artefacts import cached
from nbutils.files import atomic
from nbutils.images import in_colour, resize, to_float, to_uint8
from nbutils.models.mage import MAGE
from nbutils.models.vqgan import VQGAN
from nbutils.progress import progress
from nbutils.training import autocast, device

BATCH = 256
"""Images at a time."""

ENCODED = "codes.npy"


def encoded(network: MAGE | VQGAN, images: np.ndarray) -> np.ndarray:
    """Return the codes (N, K) int16 of uint8 images (N, 3, S, S) of the network's own size."""
    parts = []
    for chunk in progress(np.array_split(images, -(-len(images) // BATCH)), description="codes", unit="batch"):
        with torch.inference_mode(), autocast():
            parts.append(network.encode((to_float(chunk).to(device()) + 1) / 2).cpu().numpy().astype(np.int16))
    return np.concatenate(parts)


def decoded(network: MAGE | VQGAN, codes: Tensor) -> np.ndarray:
    """Return uint8 images (N, 3, S, S) of codes (N, K) int64."""
    with torch.inference_mode(), autocast():
        parts = [network.decode(part.to(device())).float().clamp(0, 1) for part in codes.split(BATCH)]
    return to_uint8(torch.cat(parts) * 2 - 1)


def encoded_once(
    kind: str,
    key: Mapping,
    images: np.ndarray,
    mirrored: bool,
    working_size: int,
    encode: Callable[[np.ndarray], np.ndarray],
) -> Tensor:
    """Return what `encode` makes of uint8 images (N, C, H, W), (1, N, ...) on the CPU, from the cache if it is there.

    kind, key: name in the cache, and what else determines the encoding. mirrored: (2, N, ...), images as they are and
    mirrored. encode: is given uint8 images (N, 3, S, S) of working_size pixels.
    """
    seen = hashlib.sha256(repr((images.shape, mirrored)).encode())
    seen.update(np.ascontiguousarray(images))

    def build(folder: Path) -> None:
        pixels = in_colour(resize(images, working_size))
        sides = [pixels, np.ascontiguousarray(pixels[..., ::-1])] if mirrored else [pixels]
        with atomic(folder / ENCODED) as temporary, open(temporary, "wb") as file:
            np.save(file, np.stack([encode(side) for side in sides]), allow_pickle=False)

    folder = cached(kind, {"images": seen.hexdigest(), **key}, build).path
    return torch.from_numpy(np.load(folder / ENCODED, allow_pickle=False))
