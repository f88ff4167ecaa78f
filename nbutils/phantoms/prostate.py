"""Axial multi-parametric MRI of the prostate: T2W, ADC and DWI of one slice as three channels, as PI-CAI gives them.

The anatomy is painted once, in millimetres, as three maps: the T2-weighted signal, the signal of an echo-planar
image without diffusion weighting (fat is suppressed there), and the diffusion coefficient. The scanner then makes the
channels of them: DWI = signal x exp(-b x diffusion), and the ADC map from two such images, so that partial volume,
T2 shine-through, noise where there is little signal and distortion by rectal gas come as they do in a scanner.

A tumour is dark on ADC, bright on DWI, and blurs T2W as if charcoal was rubbed out; small and early ones hardly so.
Both classes have what is mistaken for it: prostatitis, stromal nodules, haemorrhage, shine-through, indolent foci.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import axis, blur, per_image
from nbutils.phantoms.mri import distort, magnitude
from nbutils.phantoms.shapes import outline, smooth_field, smoothstep, splats

HALF_MM = 75.0  # half the width of the field
POSITIVE = 1  # label of the cases with a clinically significant tumour

# T2W signal, echo-planar signal, diffusion coefficient (1e-3 mm^2/s), and the sd of each between patients
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


@dataclass(frozen=True)
class Zones:
    """The parts of the gland; maps (B, N, N), 0..1 in soft masks."""

    radius: torch.Tensor  # 1 on the capsule, less inside
    gland: torch.Tensor
    transition: torch.Tensor  # transition zone
    peripheral: torch.Tensor  # peripheral zone
    middle: torch.Tensor  # (B, 1, 1) height of the transition zone's centre, in gland depths
    reach: torch.Tensor  # (B, 1, 1) its half axes, in gland widths and depths


@dataclass(frozen=True)
class Rectum:
    """What the echo-planar image must know of the rectum; (B, 1, 1), mm and 0..1."""

    x: torch.Tensor
    front: torch.Tensor
    gas: torch.Tensor


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw slices of one class, (B, 3, canvas, canvas): T2W, ADC, DWI, each 0 to its volume's maximum as 255."""
    frame = _frame(label, patient, image, canvas)
    maps = _pelvis(frame, patient)
    rectum = _rectum(maps, frame, patient, image)
    zones = _zones(frame, patient)
    _gland(maps, zones, frame, patient)
    _nodules(maps, zones, frame, patient)
    _distractors(maps, zones, frame, patient, image)
    _focus(maps, zones, frame, patient, patient.chance(0.3) * patient.uniform(0.1, 0.45))
    _focus(maps, zones, frame, patient, patient.uniform(0.55, 1.0) * (label == POSITIVE))
    return 255 * _scanner(maps, frame, rectum, patient, image)


def _paint(maps: torch.Tensor, where: torch.Tensor, tissue: torch.Tensor) -> None:
    """Replace maps (B, 3, N, N), in place, by a tissue where a mask (B, N, N) is 1, and in part where it is less."""
    maps.lerp_(tissue, where[:, None])


def _hump(square: torch.Tensor) -> torch.Tensor:
    """Return nearly exp(-square), several times as fast: 1 at 0, and 0 from 3 on."""
    rest = (1 - square / 3).clamp_min_(0)
    return rest.square().mul_(rest)


def _frame(label: int, patient: Draws, image: Draws, canvas: int) -> Frame:
    line = axis(canvas, HALF_MM)
    # negative cases show the middle slice of the gland, positive ones that with most of the tumour
    level = image.normal(0, 0.45 if label == POSITIVE else 0.3)
    turn = image.normal(0, 0.05)
    shift = image.normal(0, 1, (2,)) * torch.tensor([2.5, 4.5]) - torch.tensor([0.0, 4.0])
    across, down = line[None, None, :] - per_image(shift[:, 0]), line[None, :, None] - per_image(shift[:, 1])
    cos, sin = per_image(turn.cos()), per_image(turn.sin())
    x = cos * across + sin * down + 2.2 * smooth_field(patient, 6, canvas)
    y = cos * down - sin * across + 2.2 * smooth_field(patient, 6, canvas)
    growth = patient.uniform()
    width = (22.5 + 8.0 * growth + patient.normal(0, 1.5)) * (1 - 0.1 * level.square())
    depth = width * (0.64 + 0.2 * growth + patient.normal(0, 0.05))
    numbers = (per_image(values) for values in (level, growth, width, depth))
    mean, sd = torch.tensor(list(TISSUES.values())).unbind(1)  # (tissues, 3)
    tissues = patient.normal(mean, sd, mean.shape).clamp_min(0)[..., None, None].unbind(1)
    textures = (smooth_field(patient, cells, canvas) for cells in (10, 18, 34))
    return Frame(line, x, y, turn, shift, *numbers, dict(zip(TISSUES, tissues, strict=True)), *textures)


def _pelvis(frame: Frame, patient: Draws) -> torch.Tensor:
    """Return maps (B, 3, N, N) of the pelvis round the gland and the rectum."""
    marbling = 1 + 0.06 * frame.coarse + 0.05 * frame.fine
    maps = frame.tissue["fat"] * marbling[:, None]
    muscle = frame.tissue["muscle"] * (1 + 0.12 * frame.fine)[:, None]
    marrow = frame.tissue["marrow"] * (1 + 0.10 * frame.medium)[:, None]
    cortex = frame.tissue["cortex"]
    _muscles_behind(maps, muscle, frame, patient)
    wall, pubis = _side_walls(maps, muscle, frame, patient), _front(maps, muscle, frame, patient)
    for depth in (wall, pubis):  # mm below the surface of a bone
        _paint(maps, smoothstep(depth, -0.7, 0.7), cortex)
        _paint(maps, smoothstep(depth, 1.8, 3.4), marrow)
    _vessels(maps, _bladder(maps, frame, patient), frame, patient)
    return maps


def _muscles_behind(maps: torch.Tensor, muscle: torch.Tensor, frame: Frame, patient: Draws) -> None:
    """Paint the gluteus maximus on both sides of the cleft, and the levator ani, a sling round gland and rectum."""
    side = frame.x.abs()
    below = frame.y - per_image(patient.uniform(52, 64)) + 0.25 * side + 4 * frame.field(patient, 4)
    bundles = smoothstep(frame.coarse, -1.5, -0.9)
    _paint(maps, smoothstep(below, -1.5, 1.5) * smoothstep(side, 8, 14) * bundles, muscle)
    half = frame.width + 6
    sling = ((frame.x / half).square() + ((frame.y - 20) / 46).square()).sqrt() + 0.04 * frame.coarse
    band = (sling - 1) * half / per_image(patient.uniform(1.5, 2.6))
    _paint(maps, 0.9 * _hump(band.square()) * smoothstep(frame.y, -12, 4), muscle)


def _side_walls(maps: torch.Tensor, muscle: torch.Tensor, frame: Frame, patient: Draws) -> torch.Tensor:
    """Paint the obturator internus, and return how deep each pixel lies in acetabulum and ischium, mm."""
    side, y = frame.x.abs(), frame.y
    inner = torch.maximum(per_image(patient.normal(45, 3)), frame.width + 13) - 0.005 * (y + 4).square()
    thick = per_image(patient.uniform(12, 19)) * (1 - 0.8 * ((y + 2) / 46).square()).clamp_min(0.2)
    _paint(maps, smoothstep(side - inner, -0.8, 0.8) * (1 - smoothstep(y, 42, 50)), muscle)
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
    _paint(maps, smoothstep(depth - thick, 2, 4) * smoothstep(frame.coarse, -0.8, -0.4), muscle)
    return torch.minimum(torch.minimum(depth, thick - depth), side - per_image(patient.uniform(1, 3)))


def _bladder(maps: torch.Tensor, frame: Frame, patient: Draws) -> torch.Tensor:
    """Paint the bladder before the upper part of the gland; return where it is, (B, N, N) in 0..1."""
    wide, high = per_image(patient.uniform(20, 34)), per_image(patient.uniform(9, 15))
    shape = ((frame.x / wide).square() + ((frame.y + frame.depth + high - 2) / high).square()).sqrt()
    seen = smoothstep(frame.level, 0.2, 0.35)
    bladder = (1 - smoothstep(shape, 1.1, 1.2)) * seen
    _paint(maps, bladder, frame.tissue["wall"])
    _paint(maps, (1 - smoothstep(shape, 0.88, 0.96)) * seen, frame.tissue["urine"])
    return bladder


def _vessels(maps: torch.Tensor, bladder: torch.Tensor, frame: Frame, patient: Draws) -> None:
    """Paint the veins before and beside the gland, and the neurovascular bundles at five and seven o'clock."""
    width, depth = frame.width[..., 0], frame.depth[..., 0]  # (B, 1)
    angle, away = patient.uniform(-0.3, math.pi + 0.3, (26,)), patient.uniform(1.06, 1.22, (26,))
    x, y = away * angle.cos() * width, -away * angle.sin() * depth - 1
    veins = frame.dots(x, y, patient.uniform(0.8, 1.9, (26,)), patient.chance(0.7, (26,)))
    _paint(maps, veins * (1 - bladder), frame.tissue["blood"])
    x = torch.tensor([1.0, -1.0]).repeat(5) * (0.72 * width + patient.normal(0, 2, (10,)))
    y = 0.80 * depth + 2.5 + patient.normal(0, 1.5, (10,))
    bundles = frame.dots(x, y, patient.uniform(0.5, 1.1, (10,)), torch.ones_like(x))
    _paint(maps, bundles, frame.tissue["wall"])


def _rectum(maps: torch.Tensor, frame: Frame, patient: Draws, image: Draws) -> Rectum:
    """Paint the rectum behind the gland: collapsed, or with stool below and gas above."""
    full = image.chance(0.75)
    radius = per_image(image.uniform(6, 9) + full * image.uniform(1, 10))
    gas = per_image(full * image.chance(0.65))
    middle = per_image(image.normal(0, 4))
    height = frame.depth + radius * 0.95 + 4.5
    x, y = (frame.x - middle) / radius, (frame.y - height) / radius
    shape = outline(x, y, image, 1 + image.uniform(0, 0.35), image.uniform(0.02, 0.08))
    beyond = (shape - 1) * radius  # mm outside the lumen
    _paint(maps, 1 - smoothstep(beyond, 3, 4.5), frame.tissue["wall"])
    lumen = 1 - smoothstep(beyond, -0.8, 0.8)
    lumps = 1 + 0.45 * frame.medium
    _paint(maps, lumen, frame.tissue["stool"] * lumps[:, None])
    surface = per_image(image.uniform(-0.3, 1.6))  # of the stool: gas rises to the front
    _paint(maps, lumen * gas * (1 - smoothstep(y, surface - 0.08, surface + 0.08)), frame.tissue["gas"])
    return Rectum(middle, frame.depth + 4, gas)


def _zones(frame: Frame, patient: Draws) -> Zones:
    """Part the gland: the transition zone has two lobes, which grow with age and press the rest to a rim."""
    u, v = (frame.x / frame.width).clamp(-1.6, 1.6), (frame.y / frame.depth).clamp(-1.6, 1.6)
    v = v + 0.10 * _hump((u / 0.3).square()) * smoothstep(v, 0.3, 0.9)  # the furrow in the middle of the back
    radius = (u.square() + v.square() - 0.22 * (u * v).square()).clamp_min(0).sqrt() + 0.02 * frame.coarse
    gland = 1 - smoothstep(radius, 0.97, 1.03)
    reach = 0.50 + 0.32 * frame.growth
    middle = -0.17 + 0.07 * frame.growth
    lobe = ((u.abs() - 0.34 * reach) / (0.66 * reach)).square() + ((v - middle) / reach).square()
    lobe = lobe.sqrt() + 0.04 * frame.coarse
    transition = (1 - smoothstep(lobe, 0.94, 1.04)) * gland
    return Zones(radius, gland, transition, gland - transition, middle, reach)


def _gland(maps: torch.Tensor, zones: Zones, frame: Frame, patient: Draws) -> None:
    """Paint the zones, the capsules, the fibromuscular stroma in front, and the urethra."""
    stroma = frame.tissue["stroma"]
    capsule = _hump((((zones.radius - 1) * frame.width - 0.8) / 0.9).square())
    _paint(maps, 0.85 * capsule, stroma)
    septa = 1 + 0.08 * frame.coarse + 0.08 * frame.fine
    _paint(maps, zones.gland, frame.tissue["peripheral"] * septa[:, None])
    uneven = 1 + (0.10 + 0.16 * frame.growth) * frame.medium + 0.10 * frame.fine
    border = 4 * zones.transition * zones.peripheral
    _paint(maps, zones.transition, frame.tissue["transition"] * uneven.clamp(0.5, 1.6)[:, None])
    _paint(maps, 0.6 * border, stroma)
    front = (frame.x / (0.42 * frame.width)).square() + (frame.y / frame.depth + 0.98).square() / 0.07
    _paint(maps, _hump(front) * zones.gland, stroma)
    place = (frame.y / frame.depth - zones.middle - 0.25 * zones.reach) * frame.depth
    urethra = (frame.x / 3).square() + (place / 2.2).square()
    _paint(maps, 0.8 * _hump(urethra), frame.tissue["peripheral"])


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
    _paint(maps, (1 - smoothstep(nearest, 0.8, 0.95)) * zones.transition, contents)
    rim = _hump(((nearest - 0.97) / 0.1).square()) * zones.transition
    _paint(maps, 0.75 * rim, frame.tissue["stroma"])


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
        _paint(maps, patches * strength * zones.peripheral, frame.tissue[name])


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
    _paint(maps, (1 - smoothstep(shape, 0.7, 1.25)) * zone * per_image(strength), frame.tissue["tumour"])


def _scanner(maps: torch.Tensor, frame: Frame, rectum: Rectum, patient: Draws, image: Draws) -> torch.Tensor:
    """Return the channels T2W, ADC and DWI of painted maps, (B, 3, N, N) in 0..1."""
    t2w = blur(maps[:, :1], patient.uniform(0.3, 0.7), frame.line)[:, 0]
    t2w = t2w * _coil(frame, patient) * _ghosts(frame, image)
    t2w = magnitude(t2w, per_image(patient.uniform(0.01, 0.035)), image, 100)

    most = rectum.gas * per_image(image.normal(0, 3))  # mm
    epi, diffusion = distort(maps[:, 1:], frame.line, frame.x - rectum.x, frame.y - rectum.front, most).unbind(1)
    b_adc, b_dwi = 0.8, per_image(patient.uniform(1.2, 1.6))  # 1e3 s/mm^2
    signals = torch.stack([epi, epi * torch.exp(-b_adc * diffusion), epi * torch.exp(-b_dwi * diffusion)], 1)
    signals = blur(signals, patient.uniform(1.0, 1.8), frame.line) * _coil(frame, patient)[:, None]
    noise = per_image(patient.uniform(0.006, 0.014))
    plain, weighted, dwi = (
        magnitude(signal, noise * part, image, 56)  # part: fewer averages without weighting, but a smoothed map
        for signal, part in zip(signals.unbind(1), (0.6, 0.6, 0.8), strict=True)
    )
    adc = (plain / weighted).log().div(b_adc).clamp(0, 3.5) * smoothstep(plain, 0.06, 0.14)
    # the minimum and maximum are those of the volume: other slices may hold brighter things than this one
    tops = ((t2w, patient.uniform(0.9, 1.25)), (adc, patient.uniform(2.3, 3.2)), (dwi, patient.uniform(0.2, 0.34)))
    return torch.stack([channel / channel.amax((1, 2), True).maximum(per_image(top)) for channel, top in tops], 1)


def _coil(frame: Frame, patient: Draws) -> torch.Tensor:
    """Return how well the coil receives at each place, (B, N, N): best near its elements before and behind."""
    y = frame.y / HALF_MM
    near = per_image(patient.uniform(0.0, 0.35)) * y.square() + per_image(patient.normal(0, 0.12)) * y
    return (near + 0.06 * frame.field(patient, 2)).exp()


def _ghosts(frame: Frame, image: Draws) -> torch.Tensor:
    """Return waves along the phase encoding, (B, N, N) round 1, in the slices of those who moved."""
    height = per_image(image.chance(0.25) * image.uniform(0.01, 0.05))
    return 1 + height * torch.cos(frame.y * per_image(image.uniform(0.3, 0.9)) + 3 * frame.field(image, 3))


MODALITY = Modality(
    name="prostate",
    version=1,
    class_names=("negative", "positive"),
    channels=3,
    counts=dict.fromkeys(("train", "val", "test"), (100, 100)),  # textual inversion, section 3.3.1
    images_per_patient=(0.75, 0.2, 0.05),
    shared_patients=0.1,
    draw=draw,
)
