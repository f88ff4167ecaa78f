"""Skin: the pigments in its layers, the structures that lesions form in them, and the colours that they show.

Colours come from what lies in the skin: melanin, blood and keratin absorb light (Beer-Lambert, each with its own
spectrum), pigment that lies deep looks blue, scars and scales scatter white.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import direction, per_image
from nbutils.phantoms.shapes import honeycomb, smooth_field, smoothstep, splats, tubes, walk

# optical density of one unit of pigment in red, green and blue
MELANIN = (0.55, 0.92, 1.32)
BLOOD = (0.14, 0.92, 0.72)
KERATIN = (0.05, 0.22, 0.60)
PALE = (0.93, 0.83, 0.78)  # skin without any pigment
VEIL = (0.36, 0.41, 0.52)  # pigment deep in the skin, seen through what scatters above it
SCALE = (0.93, 0.87, 0.82)  # scar, scale, milia


@dataclass
class Layers:
    """How much of each pigment lies where; each (B, N, N) float32, 0 = none."""

    melanin: torch.Tensor
    blood: torch.Tensor
    keratin: torch.Tensor
    veil: torch.Tensor  # 0..1
    white: torch.Tensor  # 0..1


@dataclass(frozen=True)
class Lesion:
    """The geometry of each lesion."""

    line: torch.Tensor  # (N,) pixel centres, patch units
    radius: torch.Tensor  # (B, 1, 1), patch units
    shape: torch.Tensor  # (B, N, N) distance from the centre: 1 on the outline, ragged border included
    inside: torch.Tensor  # (B, N, N) 0..1, with the softness of its border
    atypia: torch.Tensor  # (B, 1, 1) how disordered it is, 0..1

    @property
    def pixels(self) -> int:
        """Side of the drawing, N."""
        return len(self.line)


def draw_skin(patient: Draws, line: torch.Tensor) -> Layers:
    """Return healthy skin: a tone, blotches, and the fine furrows between its facets."""
    pixels = len(line)
    tone = per_image(patient.uniform(0.02, 0.32))
    flush = per_image(patient.uniform(0.0, 0.16))
    mottle = smooth_field(patient, 5, pixels)
    grain = smooth_field(patient, 40, pixels)
    furrows = honeycomb(patient, line, patient.uniform(14, 24), 0.5) * per_image(patient.uniform(0, 0.06))
    melanin = tone * (1 + 0.12 * mottle + 0.10 * grain) + furrows
    blood = flush * (1 + 0.25 * smooth_field(patient, 7, pixels)) + 0.02 * grain
    nothing = torch.zeros_like(melanin)
    return Layers(melanin.clamp_min(0), blood.clamp_min(0), nothing, nothing, nothing)


def colours(layers: Layers) -> torch.Tensor:
    """Return the colours of the layers, (B, 3, N, N) in 0..1: absorption, then what shines through from above."""
    white, channels = layers.white.clamp(0, 0.95), []
    for pale, melanin, blood, keratin, veil, scale in zip(PALE, MELANIN, BLOOD, KERATIN, VEIL, SCALE, strict=True):
        density = (-melanin * layers.melanin).sub_(layers.blood, alpha=blood).sub_(layers.keratin, alpha=keratin)
        seen = density.exp_().mul_(pale)
        # what lies deep is veiled, but not so much that nothing of the rest shines through
        seen = torch.lerp(seen, veil * (0.55 + 0.6 * seen), layers.veil)
        channels.append(seen.lerp_(torch.full_like(seen, scale), white))
    return torch.stack(channels, 1)  # (B, 3, N, N)


def scattered(patient: Draws, lesion: Lesion, count: int, size: tuple[float, float], within: float = 0.9):
    """Return `count` round spots scattered over the lesion, (B, N, N) in 0..1; size: range of radii, patch units."""
    angle = patient.uniform(0, 2 * math.pi, (count,))
    away = patient.uniform(0, 1, (count,)).sqrt() * within * lesion.radius[..., 0]
    points = away[..., None] * direction(angle)
    spots = splats(points, patient.uniform(*size, (count,)), patient.chance(0.8, (count,)), lesion.line)
    return smoothstep(spots, 0.25, 0.75) * lesion.inside


def patch(patient: Draws, lesion: Lesion, cells: int, level: float, width: float = 0.5) -> torch.Tensor:
    """Return irregular patches inside the lesion, (B, N, N) in 0..1: where a smooth field exceeds a level."""
    return smoothstep(smooth_field(patient, cells, lesion.pixels), level, level + width) * lesion.inside


def vessels_in(patient: Draws, lesion: Lesion, trunks: int, thick: tuple[float, float], bend: float) -> torch.Tensor:
    """Return vessels that enter at the border and branch towards the middle, (B, N, N) in 0..1."""
    length = 40
    angle = patient.uniform(0, 2 * math.pi, (trunks,))
    radius = lesion.radius[..., 0]
    start = 1.05 * radius[..., None] * direction(angle)
    heading = angle + math.pi + patient.normal(0, 0.5, (trunks,))
    main = walk(patient, start, heading, patient.uniform(0.7, 1.5, (trunks,)) * radius / length, bend, length)
    forks = main[:, :, [length // 4, length // 2, 3 * length // 4]].flatten(1, 2)  # (B, 3 trunks, 2)
    side = torch.tensor([0.8, -0.8, 0.7]).repeat(trunks)
    heading = heading.repeat_interleave(3, dim=1) + side + patient.normal(0, 0.2, (3 * trunks,))
    twigs = walk(patient, forks, heading, 0.6 * radius / length, bend, length)
    width = patient.uniform(*thick, (trunks,))
    taper = torch.linspace(1.0, 0.5, length)
    widths = torch.cat([width, 0.6 * width.repeat_interleave(3, dim=1)], 1)[..., None] * taper
    return tubes(torch.cat([main, twigs], 1), widths, lesion.line)


def pigment(layers: Layers, lesion: Lesion, patient: Draws, amount: torch.Tensor, uneven: torch.Tensor) -> None:
    """Add melanin all over the lesion: a radial profile, and unevenness on a large and on a small scale."""
    profile = 1 + per_image(patient.uniform(-0.35, 0.35)) * (1 - 2 * lesion.shape.clamp_max(1.2).square())
    blotches = smooth_field(patient, 3, lesion.pixels) + 0.5 * smooth_field(patient, 8, lesion.pixels)
    density = per_image(amount) * profile * torch.exp(uneven * blotches)
    layers.melanin = layers.melanin + density.clamp_max(3.5) * lesion.inside


def network(layers: Layers, lesion: Lesion, patient: Draws, strength: torch.Tensor, where=1.0) -> None:
    """Turn melanin into a pigment network: dark lines round pale holes, coarser and broken where atypical."""
    holes = patient.uniform(15, 27)
    lines = honeycomb(patient, lesion.line, holes, 0.9 + 0.9 * lesion.atypia) - 0.4
    lines = lines * (1 + (0.4 + 0.6 * lesion.atypia) * smooth_field(patient, 6, lesion.pixels)).clamp(0, 2)
    layers.melanin = layers.melanin * (1 + per_image(strength) * lines * where * lesion.inside).clamp_min(0.15)
