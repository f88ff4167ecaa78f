"""A magnetic resonance scanner for phantoms: T2-weighted, diffusion-weighted and ADC images of painted tissue.

DWI = signal x exp(-b x diffusion), and the ADC map is made of two such images, so that partial volume, T2
shine-through, noise where there is little signal and distortion by gas come as they do in a scanner.

Maps are (B, N, N) float32, numbers (B, 1, 1), lengths millimetres; `line` holds the pixel centres along a side, (N,).
`patient` holds what a scanner keeps from image to image, `image` what changes with each.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import blur, half_width, per_image
from nbutils.phantoms.shapes import smooth_field, smoothstep

B_ADC = 0.8  # 1e3 s/mm^2, of the weighted image that the ADC map is made of
REACH_MM = 13.0  # sd of where gas disturbs the magnetic field


@dataclass(frozen=True)
class Gas:
    """Gas near which the magnetic field is uneven."""

    across: torch.Tensor  # (B, N, N) each pixel's distance from it along x
    down: torch.Tensor  # (B, N, N) along y, the phase encoding
    amount: torch.Tensor  # (B, 1, 1) 0 = none, 1 = much


def scan(
    maps: torch.Tensor, gas: Gas, down: torch.Tensor, line: torch.Tensor, patient: Draws, image: Draws
) -> torch.Tensor:
    """Return the channels T2W, ADC and DWI, (B, 3, N, N) in 0..1, 1 = the maximum of the volume.

    maps: (B, 3, N, N) T2-weighted signal, signal of an echo-planar image without diffusion weighting, and diffusion
    coefficient in 1e-3 mm^2/s; down: (B, N, N) distance from the middle of the body to its back.
    """
    t2w = blur(maps[:, :1], patient.uniform(0.3, 0.7), line)[:, 0]
    t2w = t2w * _coil(down / half_width(line), patient) * _ghosts(down, image)
    t2w = _magnitude(t2w, per_image(patient.uniform(0.01, 0.035)), image, 100)
    adc, dwi = _diffusion(maps[:, 1:], gas, down, line, patient, image)
    # the maximum is that of the volume: other slices may hold brighter things than this one
    tops = ((t2w, patient.uniform(0.9, 1.25)), (adc, patient.uniform(2.3, 3.2)), (dwi, patient.uniform(0.2, 0.34)))
    return torch.stack([channel / channel.amax((1, 2), True).maximum(per_image(top)) for channel, top in tops], 1)


def _diffusion(maps: torch.Tensor, gas: Gas, down: torch.Tensor, line: torch.Tensor, patient: Draws, image: Draws):
    """Return the ADC map in 1e-3 mm^2/s and the DWI signal, (B, N, N) each, of echo-planar maps (B, 2, N, N)."""
    most = gas.amount * per_image(image.normal(0, 3))
    epi, diffusion = _distorted(maps, gas, most, line).unbind(1)
    b_dwi = per_image(patient.uniform(1.2, 1.6))
    signals = torch.stack([epi, epi * torch.exp(-B_ADC * diffusion), epi * torch.exp(-b_dwi * diffusion)], 1)
    signals = blur(signals, patient.uniform(1.0, 1.8), line)
    signals = signals * _coil(down / half_width(line), patient)[:, None]
    noise = per_image(patient.uniform(0.006, 0.014))
    plain, weighted, dwi = (
        _magnitude(signal, noise * part, image, 56)  # part: fewer averages without weighting, but a smoothed map
        for signal, part in zip(signals.unbind(1), (0.6, 0.6, 0.8), strict=True)
    )
    adc = (plain / weighted).log().div(B_ADC).clamp(0, 3.5) * smoothstep(plain, 0.06, 0.14)
    return adc, dwi


def _distorted(maps: torch.Tensor, gas: Gas, most: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Return echo-planar maps (B, 2, N, N), signal first, displaced near gas by `most` at the most.

    What is squeezed into fewer pixels is brighter there.
    """
    # bounded, because numbers too small to be normal make arithmetic slow
    near = (-0.5 / REACH_MM**2 * (gas.across.square() + gas.down.square())).clamp_min(-30).exp()
    moved = most * near  # (B, N, N)
    source = torch.stack(torch.broadcast_tensors(line, line[:, None] + moved), -1)
    bent = grid_sample(maps, source / half_width(line), padding_mode="border", align_corners=False)
    bent[:, 0] *= (1 - moved * gas.down / REACH_MM**2).clamp(0.5, 1.8)
    return bent


def _magnitude(signal: torch.Tensor, sd: torch.Tensor, image: Draws, cells: int) -> torch.Tensor:
    """Add complex noise of sd (B, 1, 1) to a signal (B, N, N), `cells` grains a side, and take its magnitude (Rice)."""
    real, imaginary = (sd * smooth_field(image, cells, signal.shape[-1]) for _ in range(2))
    return real.add_(signal).square_().add_(imaginary.square_()).sqrt_()


def _coil(height: torch.Tensor, patient: Draws) -> torch.Tensor:
    """Return how well the coil receives, (B, N, N) round 1: best near its elements before (-1) and behind (1)."""
    near = per_image(patient.uniform(0.0, 0.35)) * height.square() + per_image(patient.normal(0, 0.12)) * height
    return (near + 0.06 * smooth_field(patient, 2, height.shape[-1])).exp()


def _ghosts(down: torch.Tensor, image: Draws) -> torch.Tensor:
    """Return waves along the phase encoding, (B, N, N) round 1, in the slices of those who moved."""
    height = per_image(image.chance(0.25) * image.uniform(0.01, 0.05))
    phase = down * per_image(image.uniform(0.3, 0.9)) + 3 * smooth_field(image, 3, down.shape[-1])
    return 1 + height * torch.cos(phase)
