"""The male pelvis in axial slices, as magnetic resonance sees it: fat, muscle, bone, bladder, vessels and rectum.

Anatomy is painted in millimetres into maps (B, 3, N, N): the T2-weighted signal, the signal of an echo-planar image
without diffusion weighting (fat is suppressed there), and the diffusion coefficient in 1e-3 mm^2/s.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import axis, per_image, plane
from nbutils.phantoms.mri import Gas
from nbutils.phantoms.shapes import hump, outline, smooth_field, smoothstep, splats

HALF_MM = 42.0  # half the width of the field: the gland and what touches it, so that 64 px show a tumour

# T2-weighted signal, echo-planar signal, diffusion coefficient, and the sd of each between patients
TISSUES = {
    "fat": ((0.80, 0.05, 0.25), (0.07, 0.01, 0.05)),
    "muscle": ((0.17, 0.22, 1.30), (0.03, 0.02, 0.08)),
    "cortex": ((0.05, 0.02, 0.30), (0.01, 0.00, 0.00)),
    "marrow": ((0.52, 0.05, 0.30), (0.08, 0.01, 0.05)),
    "wall": ((0.30, 0.35, 1.40), (0.04, 0.04, 0.10)),
    "urine": ((1.15, 1.60, 2.80), (0.08, 0.15, 0.10)),
    "blood": ((0.95, 0.70, 1.90), (0.12, 0.10, 0.15)),
    "gas": ((0.02, 0.00, 0.30), (0.00, 0.00, 0.00)),
    "stool": ((0.40, 0.15, 1.00), (0.15, 0.08, 0.20)),
    "peripheral": ((0.88, 0.80, 1.75), (0.09, 0.08, 0.14)),
    "transition": ((0.48, 0.60, 1.35), (0.05, 0.05, 0.09)),
    "stroma": ((0.16, 0.32, 1.10), (0.03, 0.03, 0.08)),
    "inflamed": ((0.48, 0.55, 1.25), (0.06, 0.06, 0.08)),
    "haemorrhage": ((0.32, 0.25, 1.00), (0.05, 0.04, 0.10)),
    "shining": ((1.00, 1.45, 1.65), (0.05, 0.15, 0.10)),
    "tumour": ((0.27, 0.72, 0.52), (0.03, 0.05, 0.05)),
}


@dataclass(frozen=True)
class Frame:
    """Where each pixel lies in the pelvis, and the size of what lies there; numbers (B, 1, 1), maps (B, N, N), mm."""

    line: torch.Tensor  # (N,) pixel centres
    x: torch.Tensor  # from the middle of the gland to the patient's left
    y: torch.Tensor  # and to the back
    turn: torch.Tensor  # (B,) of the patient in the scanner, radians
    shift: torch.Tensor  # (B, 2) of the gland from the middle of the field
    level: torch.Tensor  # of the slice in the gland: about -1 at the apex, 1 at the base
    growth: torch.Tensor  # of the transition zone by benign hyperplasia, 0..1
    width: torch.Tensor  # half axes of the gland
    depth: torch.Tensor
    tissue: dict[str, torch.Tensor]  # the person's own variety of each of TISSUES, (B, 3, 1, 1)
    coarse: torch.Tensor  # textures (B, N, N) of unit variance: grains of 15 mm
    medium: torch.Tensor  # 8 mm
    fine: torch.Tensor  # and 4 mm

    def field(self, draws: Draws, cells: int) -> torch.Tensor:
        """Return a smooth random map (B, N, N) of unit variance."""
        return smooth_field(draws, cells, len(self.line))

    def dots(self, x: torch.Tensor, y: torch.Tensor, radii: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return round dots at x, y of the pelvis, (B, P) each, as a map (B, N, N) in 0..1."""
        cos, sin = self.turn.cos()[:, None], self.turn.sin()[:, None]
        points = torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + self.shift[:, None]
        return smoothstep(splats(points, radii, seen, self.line), 0.2, 0.8)


def draw_frame(off_middle: float, patient: Draws, image: Draws, canvas: int) -> Frame:
    """Draw each patient's gland and tissues, and a slice through them; off_middle: sd of its level in the gland."""
    line = axis(canvas, HALF_MM)
    level = image.normal(0, off_middle)
    turn = image.normal(0, 0.05)
    shift = image.normal(0, 1, (2,)) * torch.tensor([2.5, 4.5]) - torch.tensor([0.0, 4.0])
    x, y = plane(line)
    x, y = x - per_image(shift[:, 0]), y - per_image(shift[:, 1])
    cos, sin = per_image(turn.cos()), per_image(turn.sin())
    x, y = cos * x + sin * y, cos * y - sin * x
    x, y = (place + 2.2 * smooth_field(patient, 6, canvas) for place in (x, y))  # no two people are built alike
    growth = patient.uniform()
    width = (22.5 + 8.0 * growth + patient.normal(0, 1.5)) * (1 - 0.1 * level.square())
    depth = width * (0.64 + 0.2 * growth + patient.normal(0, 0.05))
    numbers = (per_image(values) for values in (level, growth, width, depth))
    mean, sd = torch.tensor(list(TISSUES.values())).unbind(1)  # (tissues, 3)
    tissues = patient.normal(mean, sd, mean.shape).clamp_min(0)[..., None, None].unbind(1)
    textures = (smooth_field(patient, cells, canvas) for cells in (10, 18, 34))
    return Frame(line, x, y, turn, shift, *numbers, dict(zip(TISSUES, tissues, strict=True)), *textures)


def paint(maps: torch.Tensor, where: torch.Tensor, tissue: torch.Tensor) -> None:
    """Replace maps (B, 3, N, N), in place, by a tissue where a mask (B, N, N) is 1, and in part where it is less."""
    maps.lerp_(tissue, where[:, None])


def draw_pelvis(frame: Frame, patient: Draws) -> torch.Tensor:
    """Return maps (B, 3, N, N) of the pelvis round the gland and the rectum."""
    marbling = 1 + 0.06 * frame.coarse + 0.05 * frame.fine
    maps = frame.tissue["fat"] * marbling[:, None]
    muscle = frame.tissue["muscle"] * (1 + 0.12 * frame.fine)[:, None]
    marrow = frame.tissue["marrow"] * (1 + 0.10 * frame.medium)[:, None]
    cortex = frame.tissue["cortex"]
    _muscles_behind(maps, muscle, frame, patient)
    wall, pubis = _side_walls(maps, muscle, frame, patient), _front(maps, muscle, frame, patient)
    for depth in (wall, pubis):  # mm below the surface of a bone
        paint(maps, smoothstep(depth, -0.7, 0.7), cortex)
        paint(maps, smoothstep(depth, 1.8, 3.4), marrow)
    _vessels(maps, _bladder(maps, frame, patient), frame, patient)
    return maps


def _muscles_behind(maps: torch.Tensor, muscle: torch.Tensor, frame: Frame, patient: Draws) -> None:
    """Paint the gluteus maximus on both sides of the cleft, and the levator ani, a sling round gland and rectum."""
    side = frame.x.abs()
    below = frame.y - per_image(patient.uniform(52, 64)) + 0.25 * side + 4 * frame.field(patient, 4)
    bundles = smoothstep(frame.coarse, -1.5, -0.9)
    paint(maps, smoothstep(below, -1.5, 1.5) * smoothstep(side, 8, 14) * bundles, muscle)
    half = frame.width + 6
    sling = ((frame.x / half).square() + ((frame.y - 20) / 46).square()).sqrt() + 0.04 * frame.coarse
    band = (sling - 1) * half / per_image(patient.uniform(1.5, 2.6))
    paint(maps, 0.9 * hump(band.square()) * smoothstep(frame.y, -12, 4), muscle)


def _side_walls(maps: torch.Tensor, muscle: torch.Tensor, frame: Frame, patient: Draws) -> torch.Tensor:
    """Paint the obturator internus, and return how deep each pixel lies in acetabulum and ischium, mm."""
    side, y = frame.x.abs(), frame.y
    inner = torch.maximum(per_image(patient.normal(45, 3)), frame.width + 13) - 0.005 * (y + 4).square()
    thick = per_image(patient.uniform(12, 19)) * (1 - 0.8 * ((y + 2) / 46).square()).clamp_min(0.2)
    paint(maps, smoothstep(side - inner, -0.8, 0.8) * (1 - smoothstep(y, 42, 50)), muscle)
    end = per_image(patient.uniform(32, 46)) + 0.35 * (side - 60)  # of the ischium
    return torch.minimum(side - inner - thick, end - y)


def _front(maps: torch.Tensor, muscle: torch.Tensor, frame: Frame, patient: Draws) -> torch.Tensor:
    """Paint the muscles before the pubic bones, and return how deep each pixel lies in these, mm.

    They meet in the symphysis; slices of the gland's upper part lie farther from them.
    """
    side = frame.x.abs()
    gap = frame.depth + per_image(patient.uniform(9, 17)) + 13 * (frame.level + 0.3).clamp(0, 1)
    bent = per_image(patient.uniform(0.4, 0.65)) * (side.square() + 120).sqrt() - 5
    depth, thick = bent - gap - frame.y, per_image(patient.uniform(14, 20))
    paint(maps, smoothstep(depth - thick, 2, 4) * smoothstep(frame.coarse, -0.8, -0.4), muscle)
    return torch.minimum(torch.minimum(depth, thick - depth), side - per_image(patient.uniform(1, 3)))


def _bladder(maps: torch.Tensor, frame: Frame, patient: Draws) -> torch.Tensor:
    """Paint the bladder before the upper part of the gland; return where it is, (B, N, N) in 0..1."""
    wide, high = per_image(patient.uniform(20, 34)), per_image(patient.uniform(9, 15))
    shape = ((frame.x / wide).square() + ((frame.y + frame.depth + high - 2) / high).square()).sqrt()
    seen = smoothstep(frame.level, 0.2, 0.35)
    bladder = (1 - smoothstep(shape, 1.1, 1.2)) * seen
    paint(maps, bladder, frame.tissue["wall"])
    paint(maps, (1 - smoothstep(shape, 0.88, 0.96)) * seen, frame.tissue["urine"])
    return bladder


def _vessels(maps: torch.Tensor, bladder: torch.Tensor, frame: Frame, patient: Draws) -> None:
    """Paint the veins before and beside the gland, and the neurovascular bundles at five and seven o'clock."""
    width, depth = frame.width[..., 0], frame.depth[..., 0]  # (B, 1)
    angle, away = patient.uniform(-0.3, math.pi + 0.3, (26,)), patient.uniform(1.06, 1.22, (26,))
    x, y = away * angle.cos() * width, -away * angle.sin() * depth - 1
    veins = frame.dots(x, y, patient.uniform(0.8, 1.9, (26,)), patient.chance(0.7, (26,)))
    paint(maps, veins * (1 - bladder), frame.tissue["blood"])
    x = torch.tensor([1.0, -1.0]).repeat(5) * (0.72 * width + patient.normal(0, 2, (10,)))
    y = 0.80 * depth + 2.5 + patient.normal(0, 1.5, (10,))
    bundles = frame.dots(x, y, patient.uniform(0.5, 1.1, (10,)), torch.ones_like(x))
    paint(maps, bundles, frame.tissue["wall"])


def draw_rectum(maps: torch.Tensor, frame: Frame, image: Draws) -> Gas:
    """Paint the rectum behind the gland, collapsed or with stool below and gas above; return the gas."""
    full = image.chance(0.75)
    radius = per_image(image.uniform(6, 9) + full * image.uniform(1, 10))
    gas = per_image(full * image.chance(0.65))
    middle = per_image(image.normal(0, 4))
    height = frame.depth + radius * 0.95 + 4.5
    x, y = (frame.x - middle) / radius, (frame.y - height) / radius
    shape = outline(x, y, image, 1 + image.uniform(0, 0.35), image.uniform(0.02, 0.08))
    beyond = (shape - 1) * radius  # mm outside the lumen
    paint(maps, 1 - smoothstep(beyond, 3, 4.5), frame.tissue["wall"])
    lumen = 1 - smoothstep(beyond, -0.8, 0.8)
    lumps = 1 + 0.45 * frame.medium
    paint(maps, lumen, frame.tissue["stool"] * lumps[:, None])
    surface = per_image(image.uniform(-0.3, 1.6))  # of the stool: gas rises to the front
    paint(maps, lumen * gas * (1 - smoothstep(y, surface - 0.08, surface + 0.08)), frame.tissue["gas"])
    return Gas(frame.x - middle, frame.y - (frame.depth + 4), gas)
