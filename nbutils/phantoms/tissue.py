"""Tissues in haematoxylin and eosin: the six classes that the utility paper cuts from BCSS and Lizard.

A patch of 128 um shows its class in more than half of it and, mostly, a neighbour in the rest, as patches labelled by
the majority of a mask do. Classes overlap: infiltrates and tumours of small cells are both blue, necrosis and dense
stroma both pink, dysplastic glands crowd like tumours, some tumours form lumens. All is drawn in micrometres as amounts
of the two stains.
"""

import math
from dataclasses import astuple, dataclass
from functools import partial

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import Batch, across, axis, direction, in_some, per_image
from nbutils.phantoms.cells import TUMOUR, Habit, Tissue, fibres, folded, large_cells, vessel
from nbutils.phantoms.glands import glands
from nbutils.phantoms.shapes import smooth_field, smoothstep
from nbutils.phantoms.stain import Nuclei, borders, draw_nuclei, draw_slide, lattice, scan

HALF_UM = 64.0  # half of 256 px of 0.5 um
NEIGHBOURS = torch.tensor(
    [  # how often a class (row) is met beside another (column); beside itself: it fills the patch
        [0.15, 0.05, 0.40, 0.25, 0.05, 0.10],
        [0.15, 0.15, 0.20, 0.50, 0.00, 0.00],
        [0.20, 0.00, 0.25, 0.35, 0.10, 0.10],
        [0.15, 0.12, 0.45, 0.25, 0.03, 0.00],
        [0.10, 0.00, 0.50, 0.10, 0.30, 0.00],
        [0.25, 0.00, 0.30, 0.05, 0.00, 0.40],
    ]
)


@dataclass(frozen=True)
class Patch(Batch):
    """The part of a patch that one tissue fills."""

    where: torch.Tensor  # (B, N, N) in 0..1
    size: torch.Tensor  # (B,) of the patient's cells, 1 = usual


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw patches of one class, (B, 3, canvas, canvas), 0..255."""
    line = axis(canvas, HALF_UM)
    slide, size = draw_slide(patient), patient.normal(1.0, 0.06).clamp(0.85, 1.15)
    neighbour = (image.uniform()[:, None] > NEIGHBOURS[label].cumsum(0)[:-1]).sum(1)
    own = torch.maximum(_side(image, line), per_image((neighbour == label).float()))
    stains = torch.zeros(len(own), 2, *own.shape[1:])
    for kind, paint in enumerate(PAINTERS):
        here = torch.ones_like(size) if kind == label else (neighbour == kind).float()
        patch = Patch(own if kind == label else 1 - own, size)
        stains = in_some(here, partial(paint, line), stains, patch, image)
    stains = in_some(image.chance(0.05), partial(folded, line), stains, image)
    return 255 * scan(stains.clamp_min_(0), slide, image, line)


def _side(image: Draws, line: torch.Tensor) -> torch.Tensor:
    """Return one side of a wavy border, (B, N, N) in 0..1: a little more than half of the patch, up to all of it."""
    depth = across(line, direction(image.uniform(0, 2 * math.pi))) + 9 * smooth_field(image, 5, len(line))
    return 1 - smoothstep(depth - per_image(image.uniform(8, HALF_UM)), -1.5, 1.5)


def _filled(stains: torch.Tensor, where: torch.Tensor, haematoxylin, eosin) -> torch.Tensor:
    """Return stains with a ground of two amounts, (B, N, N) each, where it is."""
    return stains + (torch.stack([haematoxylin, eosin], 1) - stains) * where[:, None]


def _cloud(image: Draws, line: torch.Tensor) -> torch.Tensor:
    return 1 + 0.2 * smooth_field(image, 6, len(line)) + 0.15 * smooth_field(image, 40, len(line))


def _cracks(image: Draws, line: torch.Tensor) -> torch.Tensor:
    """Return where the section has come apart, (B, N, N) in 0..1: thin, wavy, of any length."""
    open_ = 0.2 * smooth_field(image, 4, len(line)).clamp(0, 1)
    return 1 - smoothstep(smooth_field(image, 5, len(line)).abs() - open_, -0.06, 0.02)


def _round_cells(stains: torch.Tensor, share: torch.Tensor, patch: Patch, image: Draws, line) -> torch.Tensor:
    """Put lymphocytes and plasma cells in a share, (B, N, N), of the places for them."""
    on = lattice(image, line, image.uniform(6.3, 8.6), 6.3)
    cells, one = on.shape, torch.ones(1, 1, 1)
    plasma = image.chance(per_image(image.uniform(0, 0.7)), cells)
    nuclei = Nuclei(
        radius=(3.0 + 0.5 * plasma) * per_image(patch.size) * image.normal(0, 0.1, cells).exp(),
        stretch=1 + 0.25 * plasma,
        angle=image.uniform(0, math.pi, cells),
        ink=image.normal(1.0, 0.14, cells).clamp_min(0.3) * image.chance(on.sample(share * patch.where), cells),
        pale=per_image(image.uniform(0, 0.35)),
        nucleolus=0 * one,
    )
    stains[:, 0] += draw_nuclei(on, nuclei) * (1 + 0.15 * smooth_field(image, 50, len(line)))
    return stains


def _inflammatory(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Lymphocytes and plasma cells, dense or loose, on pale ground."""
    cloud = _cloud(image, line)
    ground = per_image(image.uniform(0.05, 0.22)) * cloud, per_image(image.uniform(0.15, 0.5)) * cloud
    stains = _filled(stains, patch.where, *ground)
    uneven = per_image(image.uniform(0, 0.35)) * smooth_field(image, 6, len(line))
    share = (per_image(image.uniform(0.5, 1.0)) + uneven).clamp(0.1, 1)
    return _round_cells(stains, share, patch, image, line)


def _necrosis(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Pink debris without structure, ghosts of nuclei and dark dust of those that burst."""
    pixels = len(line)
    grain = 1 + 0.28 * smooth_field(image, 60, pixels) + 0.2 * smooth_field(image, 18, pixels)
    smudge = per_image(image.uniform(0.02, 0.22)) * (1 + 0.5 * smooth_field(image, 9, pixels)).clamp_min(0)
    stains = _filled(stains, patch.where, smudge, per_image(image.uniform(0.3, 0.8)) * grain)
    cracks = per_image(image.chance(0.4)) * _cracks(image, line)
    stains = stains * (1 - cracks * patch.where)[:, None]
    on = lattice(image, line, image.uniform(9.5, 14), 9.5)
    cells, none = on.shape, torch.zeros(1, 1, 1)
    there = on.sample(patch.where)
    ghosts = Nuclei(
        radius=0.36 * on.step * image.normal(0, 0.2, cells).exp().clamp(0.5, 1.4),
        stretch=image.uniform(1, 1.7, cells),
        angle=image.uniform(0, math.pi, cells),
        ink=per_image(image.uniform(0.05, 0.4)) * image.chance(0.7 * there, cells),
        pale=none + 0.3,
        nucleolus=none,
    )
    stains[:, 0] += draw_nuclei(on, ghosts)
    return _dust(line, stains, patch, image)


def _dust(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Scatter fragments of nuclei, in clumps."""
    on = lattice(image, line, image.uniform(5, 8), 5)
    cells, none = on.shape, torch.zeros(1, 1, 1)
    clumps = smoothstep(smooth_field(image, 6, len(line)), -0.5, 1.5) * patch.where
    shown = image.chance(on.sample(clumps) * per_image(image.uniform(0.1, 0.9)), cells)
    radius = image.uniform(0.7, 2.2, cells)
    fragments = Nuclei(radius, 1 + none, none, shown * image.uniform(0.5, 1.2, cells), none, none)
    stains[:, 0] += draw_nuclei(on, fragments)
    return stains


def _stroma(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Wavy collagen with spindle-shaped nuclei and clefts; few or many round cells, at times a vessel."""
    along = image.uniform(0, 2 * math.pi)
    clefts = per_image(image.chance(0.5)) * _cracks(image, line)
    nothing = torch.zeros_like(clefts)
    stains = stains * (1 - patch.where)[:, None]
    stains = fibres(line, stains, Tissue(nothing, patch.where, clefts, torch.ones_like(along), along), image)
    share = (0.45 * per_image(image.uniform().square()) * (1 - clefts)).expand_as(clefts)
    stains = _round_cells(stains, share, patch, image, line)
    return in_some(image.chance(0.25), partial(vessel, line), stains, image)


def _tumor(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Sheets or nests of large uneven cells, with septa of stroma, lumens and lymphocytes among them or without."""
    low, high = torch.tensor(astuple(TUMOUR)).T
    habit = Habit(*image.uniform(low, high, (len(low),)).T[..., None, None])
    pixels, along = len(line), image.uniform(0, 2 * math.pi)
    septum = per_image(image.chance(0.6)) * (1 - smoothstep(smooth_field(image, 5, pixels).abs(), 0.12, 0.35))
    lumens = per_image(image.chance(0.25)) * smoothstep(smooth_field(image, 7, pixels), 1.1, 1.25)
    tissue = Tissue(patch.where * (1 - septum), patch.where * septum, lumens, torch.ones_like(along), along)
    stains = stains * (1 - patch.where)[:, None]
    stains = fibres(line, stains, tissue, image)
    stains = large_cells(stains, tissue, habit, patch.size, image, line)
    return _round_cells(stains, 0.5 * habit.guests * (1 - lumens), patch, image, line)


def _fat(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Droplets that leave no stain, thin membranes between them, a flat nucleus here and there."""
    on = lattice(image, line, image.uniform(36, 62), 36, bend=0.12)
    walls = borders(on, 0.1)
    amount = per_image(image.uniform(0.3, 0.9))
    stains = _filled(stains, patch.where, 0.12 * walls, amount * walls * _cloud(image, line))
    on = lattice(image, line, image.uniform(9, 13), 9)
    cells, none = on.shape, torch.zeros(1, 1, 1)
    nuclei = Nuclei(
        radius=image.normal(2.3, 0.3, cells).clamp(1.6, 3.0),
        stretch=image.uniform(1.5, 3.5, cells),
        angle=image.uniform(0, math.pi, cells),
        ink=image.normal(0.85, 0.15, cells) * image.chance(0.25 * on.sample(walls * patch.where), cells),
        pale=none,
        nucleolus=none,
    )
    stains[:, 0] += draw_nuclei(on, nuclei)
    return stains


def _gland(line: torch.Tensor, stains: torch.Tensor, patch: Patch, image: Draws) -> torch.Tensor:
    """Crypts of columnar cells round lumens, in loose tissue with round cells."""
    cloud = _cloud(image, line)
    ground = per_image(image.uniform(0.03, 0.12)) * cloud, per_image(image.uniform(0.2, 0.5)) * cloud
    stains = _filled(stains, patch.where, *ground)
    crypts, inside = glands(image, line)  # (B, 2, N, N), (B, N, N)
    share = per_image(image.uniform(0.15, 0.8)) * (1 - inside)
    stains = _round_cells(stains, share, patch, image, line)
    return stains + (crypts - stains) * (inside * patch.where)[:, None]


PAINTERS = (_inflammatory, _necrosis, _stroma, _tumor, _fat, _gland)


MODALITY = Modality(
    name="tissue",
    version=1,
    class_names=("inflammatory", "necrosis", "stroma", "tumor", "fat", "gland"),
    channels=3,
    # 2 : 1 : 2; the first four as their areas in BCSS's masks (7.9, 4.9, 27.7, 30.5 %), fat and glands are ours
    counts={"train": (69, 43, 242, 267, 26, 53), "val": (35, 21, 121, 133, 13, 27), "test": (69, 43, 242, 267, 26, 53)},
    images_per_patient=(0.3, 0.25, 0.2, 0.15, 0.1),
    shared_patients=0.5,
    draw=draw,
)
