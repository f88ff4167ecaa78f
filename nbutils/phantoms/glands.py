"""Glands cut across: a ring of columnar cells round a lumen, their nuclei in a row near the outside."""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import per_image
from nbutils.phantoms.shapes import smooth_field, smoothstep
from nbutils.phantoms.stain import Lattice, lattice

NUMBERS = 128  # random numbers that nuclei take in turn, for each image


@dataclass(frozen=True)
class Nearest:
    """The gland that is nearest to each pixel; each (B, N, N)."""

    away: torch.Tensor  # from its middle, um
    angle: torch.Tensor  # about its middle, -pi to pi
    radius: torch.Tensor  # of its outline in that direction, um
    first: torch.Tensor  # which of the random numbers its first nucleus takes


def glands(image: Draws, line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stains of glands, (B, 2, N, N), and where they are, (B, N, N) in 0..1.

    Some are dysplastic: their nuclei are crowded, dark and leave the row.
    """
    pixels = len(line)
    gland = _nearest(lattice(image, line, image.uniform(46, 80), 46, bend=0.05), image)
    sick = per_image(image.chance(0.25) * image.uniform(0.4, 1.0))
    height = per_image(image.uniform(11, 18))  # um, of the cells
    depth = gland.radius - gland.away  # um below the outline
    inside, lumen = smoothstep(depth, -0.6, 0.6), smoothstep(depth - height, -1.0, 1.0)
    mucus = per_image(image.chance(0.6) * image.uniform(0.3, 1.0)) * (1 - sick)  # goblets pale the cells within
    goblets = mucus * smoothstep(depth / height, 0.4, 0.6) * (0.75 + 0.35 * smooth_field(image, 18, pixels)).clamp(0, 1)
    body = (1 - lumen) * (1 - 0.85 * goblets) * (1 + 0.15 * smooth_field(image, 40, pixels))
    secretion = per_image(image.chance(0.5) * image.uniform(0, 0.25)) * lumen * smooth_field(image, 9, pixels).abs()
    haematoxylin = per_image(image.uniform(0.05, 0.2)) * body + _nuclei(gland, depth, height, sick, image)
    eosin = per_image(image.uniform(0.3, 0.65)) * body + 2 * secretion
    return torch.stack([haematoxylin + secretion, eosin], 1), inside


def _nearest(on: Lattice, image: Draws) -> Nearest:
    """Give each pixel to the gland of a lattice that is nearest, and each gland an outline of its own."""
    cells = on.shape
    size, lobes = image.uniform(0.36, 0.50, cells), image.uniform(0, 0.16, cells)
    turn, first = image.uniform(0, 2 * math.pi, cells), image.uniform(0, NUMBERS, cells)
    best, found = torch.full_like(on.u, math.inf), [torch.zeros_like(on.u) for _ in range(6)]
    for k, (u, v) in enumerate(on.ways):
        away = (u * u).addcmul_(v, v)
        closer, best = away < best, torch.minimum(away, best)
        parts = (u, v, *(on.of(k, part) for part in (size, lobes, turn, first)))
        found = [torch.where(closer, part, before) for part, before in zip(parts, found, strict=True)]
    u, v, size, lobes, turn, first = found
    angle = torch.atan2(v, u)
    radius = on.step * size * (1 + lobes * ((2 * angle + turn).cos() + 0.5 * (3 * angle - 2 * turn).cos()))
    return Nearest(on.step * best.sqrt(), angle, radius, first)


def _nuclei(gland: Nearest, depth: torch.Tensor, height: torch.Tensor, sick: torch.Tensor, image: Draws):
    """Return the haematoxylin of the nuclei, (B, N, N): one for each cell of the ring."""
    spacing = per_image(image.uniform(4.4, 5.8)) * (1 - 0.15 * sick)  # um
    count = (
        2 * math.pi * gland.radius.clamp_min(1) / spacing
    ).round()  # differs with the outline: cells keep their width
    place = (gland.angle / (2 * math.pi) + 0.5) * count
    which = (place.floor() + gland.first).long() % NUMBERS
    lift, ink = (image.normal(0, 1, (NUMBERS,)).gather(1, which.flatten(1)).view_as(depth) for _ in range(2))
    low = per_image(image.uniform(0.26, 0.36)) + (0.05 + 0.13 * sick) * lift
    across = (place - place.floor() - 0.5) * spacing / (0.5 * spacing)
    along = (depth - low * height) / per_image(image.uniform(2.8, 4.2)) / (1 + 0.3 * sick)
    shade = 1 - smoothstep(across.square() + along.square(), 0.55, 1.1)
    return shade * (per_image(image.uniform(0.65, 0.95)) + 0.2 * sick + 0.12 * ink).clamp_min(0.2)
