"""Cells and fibres in stained tissue, as painters: each fills its part of a patch with what grows there.

All is drawn in micrometres as amounts of haematoxylin and eosin, (B, 2, N, N); `line` holds the pixel centres.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import Batch, around, direction, per_image
from nbutils.phantoms.shapes import outline, smooth_field, smoothstep
from nbutils.phantoms.stain import Nuclei, borders, draw_nuclei, fold, lattice

SMALLEST_STEP = 8.5  # um, from one large cell to the next


@dataclass(frozen=True)
class Habit:
    """How a kind of large cells looks and where it lies: the ends of a uniform range, or (B, 1, 1) what was drawn."""

    step: tuple[float, float]  # from cell to cell, um
    fill: tuple[float, float]  # radius of the nucleus, steps
    uneven: tuple[float, float]  # sd of the logarithm of its size and ink
    stretch: tuple[float, float]  # mean of the ratio of its axes, above 1
    ink: tuple[float, float]  # haematoxylin
    pale: tuple[float, float]  # how much of it is missing in the middle
    nucleolus: tuple[float, float]  # ink of the nucleolus
    eosin: tuple[float, float]  # of the cytoplasm
    basophil: tuple[float, float]  # haematoxylin of the cytoplasm
    gaps: tuple[float, float]  # how pale the borders between cells are
    guests: tuple[float, float]  # share of the lymphocytes that stay among them
    radius: tuple[float, float]  # of the region, um
    length: tuple[float, float]  # ratio of its axes


TUMOUR = Habit(
    step=(9.5, 16.0),
    fill=(0.36, 0.48),
    uneven=(0.12, 0.34),
    stretch=(0.1, 0.7),
    ink=(0.55, 1.0),
    pale=(0.1, 0.65),
    nucleolus=(0.0, 0.9),
    eosin=(0.25, 0.75),
    basophil=(0.05, 0.25),
    gaps=(0.0, 0.5),
    guests=(0.0, 0.25),
    radius=(18, 95),
    length=(1.0, 2.0),
)


@dataclass(frozen=True)
class Tissue(Batch):
    """What lies where: maps (B, N, N) in 0..1."""

    large: torch.Tensor  # large cells: tumour, or germinal centre, or histiocytes
    fibre: torch.Tensor
    empty: torch.Tensor  # where light passes: fat, lumen, cleft
    fibrous: torch.Tensor  # (B,) whether there may be fibres: drawn, not seen, to be the same on every canvas
    along: torch.Tensor  # (B,) direction of the fibres


def vacuoles(line: torch.Tensor, nothing: torch.Tensor, image: Draws) -> torch.Tensor:
    """Return what the droplets of fat cells fill, (B, N, N) in 0..1."""
    return nothing + 1 - borders(lattice(image, line, image.uniform(30, 42), 30), 0.09)


def cytoplasm(tissue: Tissue, image: Draws, line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return haematoxylin and eosin between the nuclei of lymphocytes, (B, N, N) each."""
    cloud = 1 + 0.2 * smooth_field(image, 6, len(line)) + 0.15 * smooth_field(image, 40, len(line))
    there = (1 - tissue.empty) * cloud
    return per_image(image.uniform(0.05, 0.2)) * there, per_image(image.uniform(0.12, 0.35)) * there


def lymphocytes(tissue: Tissue, habit: Habit, size: torch.Tensor, image: Draws, line) -> torch.Tensor:
    """Return the haematoxylin of small round nuclei, (B, N, N): everywhere but where others are."""
    on = lattice(image, line, image.uniform(6.0, 7.6), 6.0)
    cells, one = on.shape, torch.ones(1, 1, 1)
    share = per_image(image.uniform(0.75, 1.0)) * (1 - on.sample(tissue.large) * (1 - habit.guests))
    share = share * (1 - 0.95 * on.sample(tissue.fibre)) * (1 - on.sample(tissue.empty))
    nuclei = Nuclei(
        radius=3.1 * per_image(size) * image.normal(0, 0.1, cells).exp(),
        stretch=one,
        angle=one,
        ink=image.normal(1.0, 0.14, cells).clamp_min(0.3) * image.chance(share, cells),
        pale=per_image(image.uniform(0, 0.3)),
        nucleolus=0 * one,
    )
    clumps = 1 + 0.15 * smooth_field(image, 50, len(line))
    return draw_nuclei(on, nuclei) * clumps


def large_cells(stains: torch.Tensor, tissue: Tissue, habit: Habit, size, image: Draws, line) -> torch.Tensor:
    """Put large cells into their region: cytoplasm with paler borders, then nuclei."""
    on = lattice(image, line, habit.step[:, 0, 0] * size, 0.85 * SMALLEST_STEP)
    cells = on.shape
    border = habit.gaps * borders(on, 0.2)
    there = tissue.large * (1 - tissue.empty)
    foam = 1 + 0.2 * smooth_field(image, 30, len(line)) + 0.15 * smooth_field(image, 5, len(line))
    foam = foam * (1 - border) * (1 - tissue.empty)
    plasm = torch.stack([habit.basophil * foam, habit.eosin * foam], 1)
    stains = stains + (plasm - stains) * tissue.large[:, None]
    present = image.chance(on.sample(there).clamp(0, 0.96), cells)
    uneven = image.normal(0, 1, cells)
    nuclei = Nuclei(
        radius=habit.fill * on.step * (habit.uneven * uneven).exp().clamp(0.5, 1.5),
        stretch=(1 + habit.stretch * (1 + 0.5 * image.normal(0, 1, cells))).clamp(1, 2.2),
        angle=image.uniform(0, math.pi, cells),
        ink=habit.ink * (habit.uneven * image.normal(0, 1, cells)).exp() * present,
        pale=(habit.pale + 0.15 * image.normal(0, 1, cells)).clamp(0, 0.9),
        nucleolus=habit.nucleolus,
    )
    clumps = 1 + 0.18 * smooth_field(image, 50, len(line))
    stains[:, 0] += draw_nuclei(on, nuclei) * clumps
    return stains


def fibres(line: torch.Tensor, stains: torch.Tensor, tissue: Tissue, image: Draws) -> torch.Tensor:
    """Fill the stroma with wavy collagen and spindle-shaped nuclei along it."""
    on = lattice(image, line, image.uniform(12, 17), 12, tissue.along)
    cells = on.shape
    strands = (2 * math.pi * on.v * per_image(image.uniform(2, 4)) + 1.5 * smooth_field(image, 8, len(line))).cos()
    eosin = per_image(image.uniform(0.35, 0.75)) * (1 + 0.25 * strands + 0.15 * smooth_field(image, 25, len(line)))
    collagen = torch.stack([0.06 * torch.ones_like(eosin), eosin], 1)
    stains = stains + (collagen - stains) * (tissue.fibre * (1 - tissue.empty))[:, None]
    there = on.sample(tissue.fibre) * (1 - on.sample(tissue.empty))
    nuclei = Nuclei(
        radius=image.normal(2.6, 0.3, cells).clamp(1.8, 3.4),
        stretch=image.uniform(2.0, 6.0, cells),
        angle=image.normal(0, 0.2, cells),
        ink=image.normal(0.85, 0.15, cells) * image.chance(0.8 * there, cells),
        pale=per_image(image.uniform(0, 0.3)),
        nucleolus=torch.zeros(1, 1, 1),
    )
    stains[:, 0] += draw_nuclei(on, nuclei)
    return stains


def vessel(line: torch.Tensor, stains: torch.Tensor, image: Draws) -> torch.Tensor:
    """Cut a small vessel across: a pink wall round plasma and red cells."""
    angle, away = image.uniform(0, 2 * math.pi), image.uniform(30, 52)  # not over the middle, which the label is about
    x, y = around(line, away[:, None] * direction(angle), image.uniform(7, 16))
    shape = outline(x, y, image, image.uniform(1, 2.2), image.uniform(0.02, 0.06))
    inside, wall = 1 - smoothstep(shape, 0.9, 1.05), 1 - smoothstep(shape, 1.2, 1.45)
    on = lattice(image, line, image.uniform(5.5, 7.0), 5.5)
    cells, none = on.shape, torch.zeros(1, 1, 1)
    discs = Nuclei(3.0 + none, 1 + none, none, image.chance(per_image(image.uniform(0, 1)), cells), none + 0.3, none)
    red = draw_nuclei(on, discs).clamp_max(1.2) * per_image(image.uniform(0.7, 1.1))
    pink = per_image(image.uniform(0.4, 0.7))
    content = torch.stack([torch.zeros_like(red), 0.05 + red], 1)
    lining = torch.stack([0.15 + 0.35 * (smooth_field(image, 14, len(line)) > 0.9), pink + torch.zeros_like(red)], 1)
    stains = stains + (lining - stains) * wall[:, None]
    return stains + (content - stains) * inside[:, None]


def folded(line: torch.Tensor, stains: torch.Tensor, image: Draws) -> torch.Tensor:
    """Fold the section."""
    return stains * fold(image, line)[:, None]
