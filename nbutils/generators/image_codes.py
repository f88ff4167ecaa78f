"""Images to codes and back, by any network that has a VQGAN's `encode` and `decode`."""

import numpy as np
import torch
from torch import Tensor

from nbutils.images import to_float, to_uint8
from nbutils.models.mage import MAGE
from nbutils.models.vqgan import VQGAN
from nbutils.progress import progress
from nbutils.training import autocast, device

BATCH = 256
"""Images at a time."""


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
