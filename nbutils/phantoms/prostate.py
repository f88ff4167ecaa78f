"""Axial multi-parametric MRI of the prostate: T2W, ADC and DWI of one slice as three channels, as PI-CAI gives them.

The gland is painted into the maps of the pelvis, and a scanner makes the channels of them. A tumour is dark on ADC,
bright on DWI, and blurs T2W as if charcoal was rubbed out; small and early ones hardly so. Both classes have what is
mistaken for it: prostatitis, stromal nodules, haemorrhage, shine-through, indolent foci. The field is narrower than the
150 mm that de Wilde et al. crop, or a tumour would be four of 64 pixels.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import per_image
from nbutils.phantoms.mri import scan
from nbutils.phantoms.pelvis import Frame, draw_frame, draw_pelvis, draw_rectum, paint
from nbutils.phantoms.shapes import hump, outline, smoothstep

POSITIVE = 1  # label of the cases with a clinically significant tumour


@dataclass(frozen=True)
class Zones:
    """The parts of the gland; maps (B, N, N), 0..1 in soft masks."""

    radius: torch.Tensor  # 1 on the capsule, less inside
    gland: torch.Tensor
    transition: torch.Tensor  # transition zone
    peripheral: torch.Tensor  # peripheral zone
    middle: torch.Tensor  # (B, 1, 1) height of the transition zone's centre, in gland depths
    reach: torch.Tensor  # (B, 1, 1) its half axes, in gland widths and depths


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw slices of one class, (B, 3, canvas, canvas): T2W, ADC, DWI, each 0 to its volume's maximum as 255."""
    # negative cases show the middle slice of the gland, positive ones that with most of the tumour
    frame = draw_frame(0.45 if label == POSITIVE else 0.3, patient, image, canvas)
    maps = draw_pelvis(frame, patient)
    gas = draw_rectum(maps, frame, image)
    zones = _zones(frame)
    _gland(maps, zones, frame)
    _nodules(maps, zones, frame, patient)
    _distractors(maps, zones, frame, patient, image)
    _focus(maps, zones, frame, patient, patient.chance(0.3) * patient.uniform(0.1, 0.45))
    _focus(maps, zones, frame, patient, patient.uniform(0.3, 0.9) * (label == POSITIVE))
    return 255 * scan(maps, gas, frame.y, frame.line, patient, image)


def _zones(frame: Frame) -> Zones:
    """Part the gland: the transition zone has two lobes, which grow with age and press the rest to a rim."""
    u, v = (frame.x / frame.width).clamp(-1.6, 1.6), (frame.y / frame.depth).clamp(-1.6, 1.6)
    v = v + 0.10 * hump((u / 0.3).square()) * smoothstep(v, 0.3, 0.9)  # the furrow in the middle of the back
    radius = (u.square() + v.square() - 0.22 * (u * v).square()).clamp_min(0).sqrt() + 0.02 * frame.coarse
    gland = 1 - smoothstep(radius, 0.97, 1.03)
    reach = 0.50 + 0.32 * frame.growth
    middle = -0.17 + 0.07 * frame.growth
    lobe = ((u.abs() - 0.34 * reach) / (0.66 * reach)).square() + ((v - middle) / reach).square()
    lobe = lobe.sqrt() + 0.04 * frame.coarse
    transition = (1 - smoothstep(lobe, 0.94, 1.04)) * gland
    return Zones(radius, gland, transition, gland - transition, middle, reach)


def _gland(maps: torch.Tensor, zones: Zones, frame: Frame) -> None:
    """Paint the zones, the capsules, the fibromuscular stroma in front, and the urethra."""
    stroma = frame.tissue["stroma"]
    capsule = hump((((zones.radius - 1) * frame.width - 0.8) / 0.9).square())
    paint(maps, 0.85 * capsule, stroma)
    septa = 1 + 0.08 * frame.coarse + 0.08 * frame.fine
    paint(maps, zones.gland, frame.tissue["peripheral"] * septa[:, None])
    uneven = 1 + (0.10 + 0.16 * frame.growth) * frame.medium + 0.10 * frame.fine
    border = 4 * zones.transition * zones.peripheral
    paint(maps, zones.transition, frame.tissue["transition"] * uneven.clamp(0.5, 1.6)[:, None])
    paint(maps, 0.6 * border, stroma)
    front = (frame.x / (0.42 * frame.width)).square() + (frame.y / frame.depth + 0.98).square() / 0.07
    paint(maps, hump(front) * zones.gland, stroma)
    place = (frame.y / frame.depth - zones.middle - 0.25 * zones.reach) * frame.depth
    urethra = (frame.x / 3).square() + (place / 2.2).square()
    paint(maps, 0.8 * hump(urethra), frame.tissue["peripheral"])


def _nodules(maps: torch.Tensor, zones: Zones, frame: Frame, patient: Draws) -> None:
    """Paint the nodules of benign hyperplasia: bright and glandular, or dark and stromal, all with a dark rim."""
    most = 9
    growth = frame.growth[..., 0]
    angle, away = patient.uniform(0, 2 * math.pi, (most,)), patient.uniform(0, 0.85, (most,)).sqrt()
    reach, middle = zones.reach[..., 0], zones.middle[..., 0]
    x = away * angle.cos() * 0.9 * reach * frame.width[..., 0]
    y = (away * angle.sin() * 0.9 * reach + middle) * frame.depth[..., 0]
    radius = patient.uniform(2.5, 8, (most,)) * (0.55 + 0.6 * growth)
    seen = patient.chance(0.25 + 0.65 * growth, (most,))
    nearest = torch.full_like(frame.x, 1e6)  # distance from the nearest centre, in its radii
    index = torch.zeros(frame.x.shape, dtype=torch.int64)
    for nodule in range(most):
        parts = (per_image(part[:, nodule]) for part in (x, y, radius, seen))
        nodule_x, nodule_y, nodule_radius, nodule_seen = parts
        distance = (frame.x - nodule_x).square_().add_((frame.y - nodule_y).square_()).sqrt_()
        distance = distance.div_(nodule_radius).add_(1e6 * (1 - nodule_seen))
        index = torch.where(distance < nearest, nodule, index)
        nearest = torch.minimum(nearest, distance)
    stromal = patient.chance(0.35, (most,))
    signal = patient.uniform(0.5, 1.0, (most,)) * (1 - stromal) + patient.uniform(0.18, 0.34, (most,)) * stromal
    epi = patient.uniform(0.55, 0.8, (most,)) * (1 - stromal) + patient.uniform(0.38, 0.5, (most,)) * stromal
    diffusion = patient.uniform(1.3, 1.8, (most,)) * (1 - stromal) + patient.uniform(0.75, 1.1, (most,)) * stromal
    kinds = torch.stack([signal, epi, diffusion], 1)  # (B, 3, nodules)
    contents = kinds.gather(2, index.flatten(1)[:, None].expand(-1, 3, -1)).view_as(maps)
    contents = contents * (1 + 0.12 * frame.fine)[:, None]
    paint(maps, (1 - smoothstep(nearest, 0.8, 0.95)) * zones.transition, contents)
    rim = hump(((nearest - 0.97) / 0.1).square()) * zones.transition
    paint(maps, 0.75 * rim, frame.tissue["stroma"])


def _distractors(maps: torch.Tensor, zones: Zones, frame: Frame, patient: Draws, image: Draws) -> None:
    """Paint what is no tumour into the peripheral zone: prostatitis, haemorrhage, and tissue that shines through."""
    for name, chance, cells, draws in (
        ("inflamed", 0.5, 8, patient),
        ("haemorrhage", 0.15, 14, image),
        ("shining", 0.15, 14, patient),
    ):
        level = per_image(draws.uniform(-0.3, 1.0))
        patches = smoothstep(frame.field(draws, cells), level, level + 1.2)
        strength = per_image(draws.chance(chance) * draws.uniform(0.4, 1.0))
        paint(maps, patches * strength * zones.peripheral, frame.tissue[name])


def _focus(maps: torch.Tensor, zones: Zones, frame: Frame, patient: Draws, strength: torch.Tensor) -> None:
    """Paint one focus of tumour tissue with an indistinct border; strength: (B,) from 0 = none to 1 = solid.

    Seven in ten lie in the peripheral zone, along the capsule; the others in the transition zone, mostly in front.
    """
    width, depth, reach, middle = (part[:, 0, 0] for part in (frame.width, frame.depth, zones.reach, zones.middle))
    outer = patient.chance(0.7)
    angle = patient.uniform(-1.75, 1.75)  # from the back
    sin, cos = angle.sin(), angle.cos()
    # half way between the transition zone's border and the capsule
    inner = middle * cos + ((middle * cos).square() + reach.square() - middle.square()).sqrt()
    x = torch.where(outer > 0, sin * (1 + inner) / 2, patient.uniform(-0.65, 0.65) * reach) * width
    y = torch.where(outer > 0, cos * (1 + inner) / 2, middle + patient.uniform(-0.8, 0.35) * reach) * depth
    along = torch.where(outer > 0, torch.atan2(-depth * sin, width * cos), patient.normal(0, 0.3))
    radius = (patient.normal(math.log(7.5), 0.35).exp()).clamp(3, 12.5)
    stretch, lobes = patient.uniform(1.0, 1.5), patient.uniform(0.04, 0.12)
    dx, dy = frame.x - per_image(x), frame.y - per_image(y)
    turn_x, turn_y = per_image(along.cos()), per_image(along.sin())
    flat, high = per_image(radius * stretch), per_image(radius / stretch)
    u, v = (turn_x * dx + turn_y * dy) / flat, (turn_x * dy - turn_y * dx) / high
    shape = outline(u, v, patient, torch.ones_like(x), lobes) + 0.10 * frame.medium
    zone = torch.where(per_image(outer) > 0, 0.35 * zones.gland + 0.65 * zones.peripheral, zones.gland)
    paint(maps, (1 - smoothstep(shape, 0.7, 1.25)) * zone * per_image(strength), frame.tissue["tumour"])


MODALITY = Modality(
    name="prostate",
    version=2,
    class_names=("negative", "positive"),
    channels=3,
    counts=dict.fromkeys(("train", "val", "test"), (100, 100)),  # textual inversion, section 3.3.1
    images_per_patient=(0.75, 0.2, 0.05),
    shared_patients=0.1,
    draw=draw,
)
