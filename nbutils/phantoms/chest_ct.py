"""The chest in axial CT: wall, bones, heart, great vessels, airways and lungs of a patient, at any height.

Lengths are cm, in a field of view that just holds the patient; x runs to her left, y to her back, t from the apex of
the lungs (0) to their base (1). A slice is a row: numbers (S, 1, 1), maps (S, N, N).
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import Batch, per_image, plane
from nbutils.phantoms.shapes import smoothstep, splats

AIR, FAT, SOFT, LIVER, BONE, TABLE = -1000.0, -100.0, 40.0, 55.0, 420.0, -350.0  # HU
HILUM = 0.46  # t at which vessels enter the lungs
TRUNKS, LENGTH = 16, 14  # vessels of a lung, and points along each


@dataclass(frozen=True)
class Chest(Batch):
    """A patient's build; numbers (B, 1, 1), lengths in cm."""

    width: torch.Tensor  # half of the trunk's
    depth: torch.Tensor  # half of it
    fat: torch.Tensor  # below the skin
    lung: torch.Tensor  # size of the lungs, 1 = usual
    long: torch.Tensor  # height of the lungs
    dome: torch.Tensor  # t of the top of the diaphragm
    heart: torch.Tensor  # size, 1 = usual
    shift: torch.Tensor  # of the patient on the table
    density: torch.Tensor  # HU of aerated lung
    dependent: torch.Tensor  # how much denser the back of the lungs is, 1 = usual
    noise: torch.Tensor  # sd, HU
    blur: torch.Tensor  # sd of the kernel, patch units
    ribs: torch.Tensor  # phase
    tree: torch.Tensor  # (B, points, 3) places of the vessels: x, y and height above the base, cm
    calibre: torch.Tensor  # (B, points) their radii

    @property
    def half(self) -> torch.Tensor:
        """Half the width of the field of view."""
        return self.width * 1.08


def draw_chest(patient: Draws, shrunken: bool) -> Chest:
    """Draw each patient's build; shrunken: lungs have lost up to a sixth of their size."""
    stout = per_image(patient.uniform())
    loss = per_image(patient.uniform(0, 0.16)) * shrunken
    long = per_image(patient.normal(23, 1.6)) * (1 - loss)
    tree, calibre = _tree(patient, long)
    return Chest(
        width=per_image(patient.normal(15.6, 0.7)) + 2.6 * stout,
        depth=per_image(patient.normal(10.6, 0.6)) + 1.6 * stout,
        fat=0.6 + 2.2 * stout,
        lung=per_image(patient.normal(1.0, 0.04)) * (1 - 0.6 * loss),
        long=long,
        dome=per_image(patient.uniform(0.58, 0.76)) - 0.4 * loss,
        heart=per_image(patient.uniform(0.85, 1.15)),
        shift=per_image(patient.normal(0, 0.4)),
        density=per_image(patient.normal(-855, 28)),
        dependent=per_image(patient.uniform(0.3, 2.2)),
        noise=per_image(patient.uniform(15, 70)),
        blur=per_image(patient.uniform(0.003, 0.008)),
        ribs=per_image(patient.uniform(0, 2 * math.pi)),
        tree=tree,
        calibre=calibre,
    )


def _tree(patient: Draws, long: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lead vessels from both hila into the lungs: trunks, and two branches of each; points (B, P, 3), radii (B, P)."""
    count = 2 * TRUNKS
    angle = patient.uniform(-1.5, 1.5, (count,))  # in the slice, from the side
    rise = patient.uniform(-1.7, 1.7, (count,))
    side = torch.tensor([-1.0, 1.0]).repeat_interleave(TRUNKS)
    heading = torch.stack([side * angle.cos(), angle.sin(), rise], -1)  # (B, count, 3)
    start = torch.stack([3.6 * side, torch.zeros(count), torch.zeros(count)], -1)
    steps = torch.linspace(0, 1, LENGTH)[:, None]
    reach = patient.uniform(5, 10, (count,))[..., None, None]
    bend = patient.normal(0, 0.8, (count, 1, 3))
    trunks = start[:, None] + steps * reach * heading[:, :, None] + steps.square() * bend  # (B, count, LENGTH, 3)
    spread = patient.normal(0, 0.6, (count, 2, 3))
    onward = heading[:, :, None] + spread  # (B, count, 2, 3)
    forks = trunks[:, :, [LENGTH // 3, LENGTH // 2]]
    twigs = forks[..., None, :] + steps * 5.0 * onward[..., None, :]  # (B, count, 2, LENGTH, 3)
    taper = 1 - 0.75 * steps[:, 0]
    radius = patient.uniform(0.28, 0.5, (count,))[..., None] * taper
    thin = (0.55 * radius)[:, :, None].expand(-1, -1, 2, -1)
    points = torch.cat([trunks.flatten(1, 2), twigs.flatten(1, 3)], 1)
    middle = torch.tensor([0.0, 0.0, 1.0]) * (1 - HILUM) * long  # height of the hila above the base
    return points + middle, torch.cat([radius.flatten(1), thin.flatten(1)], 1)


def _places(chest: Chest, line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x, (S, 1, N), and y, (S, N, 1), of the pixels."""
    x, y = plane(line)
    return x * chest.half - chest.shift, y * chest.half + 1.0


def _within(squared: torch.Tensor, soft: float = 0.08) -> torch.Tensor:
    """Return 1 inside and 0 outside of an outline, from the squared distance in its radii."""
    return 1 - smoothstep(squared, 1 - soft, 1 + soft)


def lungs(chest: Chest, line: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where lungs are and how near their border, (S, N, N) each: 0..1; 0 in the middle, 1 at the pleura."""
    x, y = _places(chest, line)
    out = x.abs()
    grown = (1 - (1 - t / 0.45).clamp(0, 1).square()).sqrt() * (t > 0) * (t < 1)
    size = chest.lung * grown.clamp_min(1e-3)
    summit = 0.46 * chest.width
    wide = torch.where(out > summit, 0.40 * chest.width, 0.31 * chest.width) * size
    level = ((out - summit) / wide).square() + ((y - 0.3) / (0.78 * chest.depth * size)).square()
    dome = _dome(chest, out, y, t)
    centre = torch.maximum(_heart(chest, x, y, t), _mediastinum(chest, x, y, t))
    inside = _within(level) * (1 - dome) * (1 - centre)
    return inside, torch.maximum(level.clamp(0, 1), 0.85 * dome)


def _dome(chest: Chest, out: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return where the organs below the diaphragm are: they rise into the lungs, higher in front."""
    reach = 1.25 * ((t - chest.dome) / (1 - chest.dome)).clamp(0, 1).sqrt()
    squared = ((out - 0.42 * chest.width) / (0.38 * chest.width)).square() + ((y + 1.6) / (0.74 * chest.depth)).square()
    return 1 - smoothstep(squared.sqrt(), reach - 0.12, reach)


def _heart(chest: Chest, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    bulge = (1 - ((t - 0.72) / 0.32).square()).clamp_min(1e-4).sqrt()
    cos, sin = math.cos(0.5), math.sin(0.5)
    x, y = x - 1.8, y + 2.6
    u, v = cos * x + sin * y, cos * y - sin * x
    return _within((u / (5.8 * chest.heart * bulge)).square() + (v / (4.2 * chest.heart * bulge)).square())


def _mediastinum(chest: Chest, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return what lies between the lungs: great vessels, gullet and aorta in front of the spine, and the spine."""
    vessels_ = _within(
        (x / (2.9 + 0.8 * torch.exp(-((t - 0.36) / 0.12).square()))).square() + ((y + 0.6) / 5.6).square()
    )
    spine = _within((x / 2.4).square() + ((y - 0.68 * chest.depth) / 2.6).square())
    aorta = _within(((x - 1.9) / 1.5).square() + ((y - 0.42 * chest.depth) / 1.5).square()) * (t > 0.3)
    return torch.maximum(torch.maximum(vessels_, spine), aorta)


def organs(chest: Chest, line: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the HU of everything but the lungs, (S, N, N): trunk, bones, liver, airways, and the table below."""
    x, y = _places(chest, line)
    trunk = ((x / chest.width).square() + ((y - 0.4) / chest.depth).square()).sqrt()
    skin = (chest.depth - chest.fat) / chest.depth
    hu = AIR + (FAT - AIR) * (1 - smoothstep(trunk, 0.985, 1.015))
    hu = hu + (SOFT - FAT) * (1 - smoothstep(trunk, skin - 0.02, skin + 0.02))
    hu = hu + (LIVER - SOFT) * (t > chest.dome) * (x < 2) * (trunk < 0.7)
    hu = hu + (BONE - hu) * _bones(chest, x, y, trunk, t)
    hu = hu + (AIR - hu) * _airways(x, y, t)
    bow = y - chest.depth - 1.1 + 0.012 * x.square()
    return torch.where(trunk > 1.015, hu + (TABLE - AIR) * (1 - smoothstep(bow.abs(), 0.15, 0.5)), hu)


def _bones(chest: Chest, x: torch.Tensor, y: torch.Tensor, trunk: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return where bone is, 0..1: vertebra with its arch, sternum, and ribs, which wander with the height."""
    behind = y - 0.68 * chest.depth
    body = _within((x / 1.9).square() + (behind / 1.5).square(), 0.2)
    arch = _within((x / 2.6).square() + ((behind - 2.6) / 1.1).square(), 0.3)
    sternum = _within((x / 1.8).square() + ((y + 0.76 * chest.depth) / 0.6).square(), 0.3) * (t > 0.1)
    angle = torch.atan2(y / chest.depth, x.abs() / chest.width)
    row = (9 * angle + 38 * t + chest.ribs).cos()
    cage = (chest.depth - chest.fat) / chest.depth - 0.075
    ribs = smoothstep(row, 0.2, 0.6) * (1 - smoothstep((trunk - cage).abs(), 0.02, 0.045)) * (t > 0)
    hollow = torch.maximum(0.45 * body, 0.7 * torch.maximum(arch, sternum))
    return torch.maximum(hollow, 0.85 * ribs)


def _airways(x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return where the trachea and, below its fork, the main bronchi are, 0..1."""
    apart = 11 * (t - 0.38).clamp(0, 0.2)
    radius = torch.where(t < 0.38, 0.95, 0.75) * (t < 0.54)
    squared = (x.abs() - apart).square() + (y + 0.3).square()
    return _within(squared / radius.clamp_min(1e-2).square(), 0.25) * (t < 0.54)


def vessels(chest: Chest, line: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the part of each pixel that is vessel, (S, N, N) in 0..1, where lung is."""
    away = chest.tree[..., 2] - (1 - t[..., 0]) * chest.long[..., 0]  # (S, points) cm above the slice
    reach = (chest.calibre.square() + 0.15**2).sqrt()
    weights = torch.exp((-0.5 * (away / reach).square()).clamp_min(-30))
    places = torch.stack([chest.tree[..., 0] + chest.shift[..., 0], chest.tree[..., 1] - 1.0], -1) / chest.half
    return splats(places, 0.8 * chest.calibre / chest.half[..., 0], 0.8 * weights, line).clamp_max(1)
