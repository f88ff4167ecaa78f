"""Dermoscopy of pigmented skin lesions: the seven classes of HAM10000, with its frequencies.

Colours come from what lies in the skin: melanin, blood and keratin absorb light (Beer-Lambert, each with its own
spectrum), pigment that lies deep looks blue, scars and scales scatter white. A class is a recipe for these layers;
its criteria are those of dermoscopy teaching (pigment network, blue-white veil, milia-like cysts, arborising
vessels, strawberry pattern, scar-like centre, lacunae). Recipes overlap: melanomas that look like naevi or hold no
pigment, atypical naevi, pigmented carcinomas, flat keratoses. A lesion is photographed once or more: it keeps its
looks, while camera position, light, hair and bubbles change.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.camera import bubbles, expose, hair, photograph, ruler
from nbutils.phantoms.canvas import around, axis, direction, in_some, per_image
from nbutils.phantoms.shapes import honeycomb, outline, smooth_field, smoothstep, splats, tubes, walk

MARGIN = 1.15  # the lesion is drawn on more skin than one photograph shows
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


@dataclass(frozen=True)
class Habit:
    """How lesions of a class are built; pairs are the ends of a uniform range."""

    radius: tuple[float, float]  # patch units, 1 = half the photograph
    lobes: tuple[float, float]  # size of the outline's harmonics, from typical to fully atypical
    soft: tuple[float, float]  # half width of the border in radii
    ragged: tuple[float, float]  # small-scale unevenness of the border in radii
    atypia: tuple[float, float]


HABITS = (
    Habit(radius=(0.35, 0.75), lobes=(0.04, 0.10), soft=(0.15, 0.45), ragged=(0.05, 0.15), atypia=(0.0, 1.0)),  # akiec
    Habit(radius=(0.30, 0.75), lobes=(0.03, 0.09), soft=(0.08, 0.35), ragged=(0.03, 0.10), atypia=(0.0, 1.0)),  # bcc
    Habit(radius=(0.35, 0.85), lobes=(0.03, 0.09), soft=(0.03, 0.22), ragged=(0.02, 0.10), atypia=(0.0, 1.0)),  # bkl
    Habit(radius=(0.30, 0.60), lobes=(0.02, 0.05), soft=(0.20, 0.45), ragged=(0.02, 0.06), atypia=(0.0, 0.6)),  # df
    Habit(radius=(0.40, 0.90), lobes=(0.03, 0.14), soft=(0.04, 0.22), ragged=(0.02, 0.10), atypia=(0.15, 1.0)),  # mel
    Habit(radius=(0.25, 0.80), lobes=(0.02, 0.08), soft=(0.06, 0.30), ragged=(0.01, 0.07), atypia=(0.0, 0.7)),  # nv
    Habit(radius=(0.25, 0.65), lobes=(0.03, 0.10), soft=(0.04, 0.30), ragged=(0.02, 0.10), atypia=(0.0, 1.0)),  # vasc
)


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw photographs of lesions of one class, (B, 3, canvas, canvas), 0..255; a "patient" is one lesion."""
    line = axis(int(canvas * MARGIN), MARGIN)
    layers = _skin(patient, line)
    lesion = _lesion(HABITS[label], patient, line)
    RECIPES[label](layers, lesion, patient)
    picture = photograph(_colours(layers), image, canvas, MARGIN)
    picture = in_some(patient.chance(0.3), hair, picture, patient, image)
    picture = in_some(image.chance(0.15), bubbles, picture, image)
    picture = in_some(image.chance(0.12), ruler, picture, image)
    return 255 * expose(picture, patient, image)


def _skin(patient: Draws, line: torch.Tensor) -> Layers:
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


def _lesion(habit: Habit, patient: Draws, line: torch.Tensor) -> Lesion:
    pixels = len(line)
    atypia = patient.uniform(*habit.atypia)
    radius = patient.uniform(*habit.radius)
    low, high = habit.lobes
    x, y = around(line, torch.zeros(len(radius), 2), radius)
    shape = outline(x, y, patient, 1 + patient.uniform(0, 0.5), low + (high - low) * atypia)
    shape = shape + per_image(patient.uniform(*habit.ragged)) * smooth_field(patient, 16, pixels)
    soft = per_image(patient.uniform(*habit.soft))
    return Lesion(line, per_image(radius), shape, 1 - smoothstep(shape, 1 - soft, 1 + soft), per_image(atypia))


def _scattered(patient: Draws, lesion: Lesion, count: int, size: tuple[float, float], within: float = 0.9):
    """Return `count` round spots scattered over the lesion, (B, N, N) in 0..1; size: range of radii, patch units."""
    angle = patient.uniform(0, 2 * math.pi, (count,))
    away = patient.uniform(0, 1, (count,)).sqrt() * within * lesion.radius[..., 0]
    points = away[..., None] * direction(angle)
    spots = splats(points, patient.uniform(*size, (count,)), patient.chance(0.8, (count,)), lesion.line)
    return smoothstep(spots, 0.25, 0.75) * lesion.inside


def _patch(patient: Draws, lesion: Lesion, cells: int, level: float, width: float = 0.5) -> torch.Tensor:
    """Return irregular patches inside the lesion, (B, N, N) in 0..1: where a smooth field exceeds a level."""
    return smoothstep(smooth_field(patient, cells, lesion.pixels), level, level + width) * lesion.inside


def _vessels(patient: Draws, lesion: Lesion, trunks: int, thick: tuple[float, float], bend: float) -> torch.Tensor:
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


def _pigment(layers: Layers, lesion: Lesion, patient: Draws, amount: torch.Tensor, uneven: torch.Tensor) -> None:
    """Add melanin all over the lesion: a radial profile, and unevenness on a large and on a small scale."""
    profile = 1 + per_image(patient.uniform(-0.35, 0.35)) * (1 - 2 * lesion.shape.clamp_max(1.2).square())
    blotches = smooth_field(patient, 3, lesion.pixels) + 0.5 * smooth_field(patient, 8, lesion.pixels)
    density = per_image(amount) * profile * torch.exp(uneven * blotches)
    layers.melanin = layers.melanin + density.clamp_max(3.5) * lesion.inside


def _network(layers: Layers, lesion: Lesion, patient: Draws, strength: torch.Tensor, where=1.0) -> None:
    """Turn melanin into a pigment network: dark lines round pale holes, coarser and broken where atypical."""
    holes = patient.uniform(15, 27)
    lines = honeycomb(patient, lesion.line, holes, 0.9 + 0.9 * lesion.atypia) - 0.4
    lines = lines * (1 + (0.4 + 0.6 * lesion.atypia) * smooth_field(patient, 6, lesion.pixels)).clamp(0, 2)
    layers.melanin = layers.melanin * (1 + per_image(strength) * lines * where * lesion.inside).clamp_min(0.15)


def _nv(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Naevus: brown and orderly; reticular, globular or homogeneous; some pink and dermal, a few blue."""
    pink, blue = patient.chance(0.15), patient.chance(0.03)
    amount = patient.uniform(0.3, 1.25) * (1 - 0.75 * pink)
    _pigment(layers, lesion, patient, amount, 0.05 + 0.35 * lesion.atypia)
    _network(layers, lesion, patient, patient.chance(0.6) * patient.uniform(0.15, 0.8))
    globules = _scattered(patient, lesion, 40, (0.018, 0.045), 0.95) * per_image(patient.chance(0.3))
    layers.melanin = layers.melanin + globules * per_image(patient.uniform(0.3, 0.9) * (1 - pink))
    dark = _patch(patient, lesion, 4, 0.9) * lesion.atypia * per_image(patient.chance(0.5))
    layers.melanin = layers.melanin + 0.9 * dark
    redness = patient.uniform(0, 0.2) + pink * patient.uniform(0.1, 0.5)
    layers.blood = layers.blood + per_image(redness) * lesion.inside
    layers.keratin = per_image(patient.uniform(0, 0.3)) * lesion.inside
    layers.veil = 0.8 * per_image(blue) * lesion.inside


def _mel(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Melanoma: asymmetric, of several colours: black blotches, blue-white veil, regression; one in eight pale."""
    pale = patient.chance(0.13)
    amount = patient.uniform(0.4, 1.6) * (1 - 0.8 * pale)
    _pigment(layers, lesion, patient, amount, 0.12 + 0.5 * lesion.atypia)
    reticular = _patch(patient, lesion, 3, -0.3)
    _network(layers, lesion, patient, patient.chance(0.55) * patient.uniform(0.3, 1.2), reticular)
    black = _patch(patient, lesion, 4, 0.5) * per_image((1 - pale) * patient.uniform(0.2, 2.2)) * lesion.atypia
    dots = _scattered(patient, lesion, 24, (0.015, 0.04), 1.1) * per_image(patient.chance(0.5) * (1 - 0.7 * pale))
    layers.melanin = layers.melanin + black + 1.2 * dots
    red = _patch(patient, lesion, 4, 0.3) * per_image(patient.chance(0.45) + 0.7 * pale)
    vessels = _vessels(patient, lesion, 3, (0.012, 0.022), 0.10) * per_image(pale * patient.chance(0.6))
    layers.blood = layers.blood + (0.55 * red + 0.12 + 0.8 * vessels) * lesion.inside
    veil = _patch(patient, lesion, 3, 0.2) * per_image(patient.chance(0.5) * patient.uniform(0.3, 0.85))
    layers.veil = veil * lesion.atypia.sqrt()
    scar = _patch(patient, lesion, 4, 0.7) * per_image(patient.chance(0.35) * patient.uniform(0.3, 0.75))
    layers.white = scar * (1 - layers.veil)


def _bkl(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Benign keratosis: stuck on and waxy, with milia, comedo-like openings and ridges; some flat, some grey."""
    flat = patient.chance(0.3)
    _pigment(layers, lesion, patient, patient.uniform(0.15, 0.95), 0.08 + 0.25 * lesion.atypia)
    layers.keratin = per_image(patient.uniform(0.05, 0.7)) * lesion.inside
    ridges = smoothstep(honeycomb(patient, lesion.line, patient.uniform(6, 11), 2.2), 0.35, 0.75)
    thick = per_image((1 - flat) * patient.chance(0.6) * patient.uniform(0.15, 0.7))
    layers.melanin = layers.melanin + thick * ridges * lesion.inside
    openings = _scattered(patient, lesion, 14, (0.02, 0.05)) * per_image((1 - flat) * patient.chance(0.6))
    layers.melanin, layers.keratin = layers.melanin + 1.1 * openings, layers.keratin + 0.8 * openings
    _network(layers, lesion, patient, patient.chance(0.25) * patient.uniform(0.2, 0.7))
    milia = _scattered(patient, lesion, 16, (0.015, 0.04)) * per_image((1 - flat) * patient.chance(0.7))
    layers.white = 0.8 * milia
    grey = _patch(patient, lesion, 12, 0.4) * per_image(patient.chance(0.2) * patient.uniform(0.3, 0.7))
    layers.veil = grey * (1 - milia)
    layers.blood = layers.blood + per_image(patient.uniform(0, 0.25)) * lesion.inside


def _bcc(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Basal cell carcinoma: pearly pink, sharp branching vessels, blue-grey nests, ulcers; one in six dark."""
    dark = patient.chance(0.17)
    _pigment(layers, lesion, patient, patient.uniform(0, 0.25) + dark * patient.uniform(0.3, 0.9), 0.4)
    blush = _patch(patient, lesion, 4, -0.6, 1.6)
    layers.blood = layers.blood + per_image(patient.uniform(0.2, 0.6)) * (0.4 * lesion.inside + 0.6 * blush)
    vessels = _vessels(patient, lesion, 4, (0.014, 0.030), 0.07) * (lesion.shape < 1.15)
    layers.blood = layers.blood + vessels * per_image(patient.chance(0.75) * patient.uniform(0.4, 1.4))
    nests = _scattered(patient, lesion, 9, (0.04, 0.12), 0.8) * per_image(patient.chance(0.5 + 0.3 * dark))
    layers.veil = per_image(patient.uniform(0.4, 0.9)) * nests
    ulcer = _scattered(patient, lesion, 2, (0.06, 0.16), 0.6) * per_image(patient.chance(0.35))
    layers.blood = layers.blood + 1.5 * ulcer
    layers.keratin = layers.keratin + 0.9 * ulcer * (1 + 0.4 * smooth_field(patient, 20, lesion.pixels))
    shine = _patch(patient, lesion, 5, 0.4) * per_image(patient.uniform(0, 0.45))
    layers.white = shine * (1 - ulcer) * (1 - nests)


def _akiec(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Actinic keratosis, Bowen's disease: red with pale follicles ("strawberry"), scaly, crusts; some pigmented."""
    brown = patient.chance(0.22)
    _pigment(layers, lesion, patient, patient.uniform(0.02, 0.3) + brown * patient.uniform(0.2, 0.7), 0.45)
    redness = per_image(patient.uniform(0.2, 0.8)) * (1 + 0.3 * smooth_field(patient, 6, lesion.pixels))
    follicles = 1 - smoothstep(honeycomb(patient, lesion.line, patient.uniform(7, 12), 0.6), 0.15, 0.5)
    strawberry = per_image(patient.chance(0.55) * patient.uniform(0.4, 0.9))
    layers.blood = layers.blood + (redness * (1 - strawberry * follicles)).clamp_min(0) * lesion.inside
    knots = _scattered(patient, lesion, 30, (0.012, 0.03)) * per_image(patient.chance(0.35))
    layers.blood = layers.blood + 0.8 * knots
    rough = 1 + 0.5 * smooth_field(patient, 30, lesion.pixels)
    scales = _patch(patient, lesion, 8, 0.5, 0.7) * rough.clamp(0, 1.6) * per_image(patient.uniform(0.0, 0.7))
    crust = _patch(patient, lesion, 5, 1.0) * per_image(patient.chance(0.4) * patient.uniform(0.4, 1.0))
    layers.keratin = layers.keratin + 1.2 * crust * rough + 0.5 * scales
    layers.white = scales.clamp(0, 0.85) * (1 - 0.6 * crust)


def _df(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Dermatofibroma: a white scar-like centre in a delicate, fading brown network; some plainly brown or pink."""
    _pigment(layers, lesion, patient, patient.uniform(0.15, 0.6), 0.05 + 0.15 * lesion.atypia)
    _network(layers, lesion, patient, patient.uniform(0.3, 0.9), smoothstep(lesion.shape, 0.3, 0.6))
    size = per_image(patient.uniform(0.25, 0.6))
    wobble = 0.08 * smooth_field(patient, 9, lesion.pixels)
    scar = 1 - smoothstep(lesion.shape + wobble, size - 0.2, size + 0.2)
    seen = per_image(patient.chance(0.85) * patient.uniform(0.3, 0.85))
    layers.melanin = layers.melanin * (1 - 0.6 * scar * seen)
    layers.white = scar * seen * (1 + 0.15 * smooth_field(patient, 20, lesion.pixels)).clamp(0, 1.15)
    layers.blood = layers.blood + per_image(patient.uniform(0.0, 0.35)) * lesion.inside


def _vasc(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Angioma, angiokeratoma, haemorrhage: red to purple lacunae, divided by paler septa; some nearly black."""
    dark = patient.chance(0.3)
    lakes = _scattered(patient, lesion, 18, (0.05, 0.13), 0.85)
    merged = per_image(patient.uniform(0, 1))
    amount = per_image(patient.uniform(0.25, 1.5) + 0.8 * dark)
    layers.blood = layers.blood + amount * (merged * lesion.inside + (1 - merged) * lakes + 0.15 * lesion.inside)
    _pigment(layers, lesion, patient, patient.uniform(0, 0.2), 0.3)
    layers.melanin = layers.melanin + per_image(dark * patient.uniform(0.3, 1.3)) * lakes
    layers.veil = per_image(patient.uniform(0, 0.45)) * lakes * _patch(patient, lesion, 4, -0.5, 1.5)
    layers.white = per_image(patient.chance(0.4) * patient.uniform(0, 0.5)) * _patch(patient, lesion, 5, 0.3)


RECIPES = (_akiec, _bcc, _bkl, _df, _mel, _nv, _vasc)


def _colours(layers: Layers) -> torch.Tensor:
    """Return the colours of the layers, (B, 3, N, N) in 0..1: absorption, then what shines through from above."""
    white, channels = layers.white.clamp(0, 0.95), []
    for pale, melanin, blood, keratin, veil, scale in zip(PALE, MELANIN, BLOOD, KERATIN, VEIL, SCALE, strict=True):
        density = (-melanin * layers.melanin).sub_(layers.blood, alpha=blood).sub_(layers.keratin, alpha=keratin)
        seen = density.exp_().mul_(pale)
        # what lies deep is veiled, but not so much that nothing of the rest shines through
        seen = torch.lerp(seen, veil * (0.55 + 0.6 * seen), layers.veil)
        channels.append(seen.lerp_(torch.full_like(seen, scale), white))
    return torch.stack(channels, 1)  # (B, 3, N, N)


MODALITY = Modality(
    name="dermoscopy",
    version=1,
    class_names=("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
    channels=3,
    # HAM10000 has 327, 514, 1099, 115, 1113, 6705, 142; the rarest keep ten images in every split
    counts={
        "train": (46, 72, 154, 16, 155, 937, 20),
        "val": (10, 15, 33, 10, 33, 189, 10),
        "test": (16, 26, 55, 10, 56, 327, 10),
    },
    images_per_patient=(0.738, 0.190, 0.066, 0.006),  # of the lesions in HAM10000
    shared_patients=0.0,
    draw=draw,
)
