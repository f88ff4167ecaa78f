"""What phantoms of magnetic resonance share: complex noise, and distortion by gas.

Pictures are (B, C, N, N) or (B, N, N) float32; lengths have the unit of `line`, the pixel centres along a side, (N,).
"""

import torch
from torch.nn.functional import grid_sample

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import half_width
from nbutils.phantoms.shapes import smooth_field


def magnitude(signal: torch.Tensor, sd: torch.Tensor, draws: Draws, cells: int) -> torch.Tensor:
    """Add complex noise of sd (B, 1, 1) to a signal (B, N, N), `cells` grains a side, and take its magnitude (Rice)."""
    real, imaginary = (sd * smooth_field(draws, cells, signal.shape[-1]) for _ in range(2))
    return real.add_(signal).square_().add_(imaginary.square_()).sqrt_()


def distort(maps: torch.Tensor, line: torch.Tensor, across, down, most: torch.Tensor, reach=13.0) -> torch.Tensor:
    """Return echo-planar maps (B, 2, N, N), signal first, displaced along the phase encoding (y) near gas.

    across, down: distance from the gas, (B, N, N); most: (B, 1, 1) largest displacement; reach: sd of where it happens.
    What is squeezed into fewer pixels is brighter there.
    """
    # bounded, because numbers too small to be normal make arithmetic slow
    moved = most * torch.exp((-0.5 / reach**2 * (across.square() + down.square())).clamp_min(-30))  # (B, N, N)
    source = torch.stack(torch.broadcast_tensors(line, line[:, None] + moved), -1)
    bent = grid_sample(maps, source / half_width(line), padding_mode="border", align_corners=False)
    bent[:, 0] *= (1 - moved * down / reach**2).clamp(0.5, 1.8)
    return bent
