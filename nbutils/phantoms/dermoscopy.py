"""Dermoscopy of pigmented skin lesions: the seven classes of HAM10000, with its frequencies.

A class is a recipe for the layers of the skin; its criteria are those of dermoscopy teaching (pigment network,
blue-white veil, milia-like cysts, arborising vessels, strawberry pattern, scar-like centre, lacunae). Recipes overlap:
melanomas that look like naevi or hold no pigment, atypical naevi, pigmented carcinomas, flat keratoses. A lesion is
photographed once or more: it keeps its looks, while camera position, light, hair and bubbles change.
"""

from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.camera import bubbles, expose, hair, photograph, ruler
from nbutils.phantoms.canvas import around, axis, in_some, per_image
from nbutils.phantoms.shapes import honeycomb, outline, smooth_field, smoothstep
from nbutils.phantoms.skin import Layers, Lesion, colours, draw_skin, network, patch, pigment, scattered, vessels_in

MARGIN = 1.15  # the lesion is drawn on more skin than one photograph shows


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
    layers = draw_skin(patient, line)
    lesion = _lesion(HABITS[label], patient, line)
    RECIPES[label](layers, lesion, patient)
    picture = photograph(colours(layers), image, canvas, MARGIN)
    picture = in_some(patient.chance(0.3), hair, picture, patient, image)
    picture = in_some(image.chance(0.15), bubbles, picture, image)
    picture = in_some(image.chance(0.12), ruler, picture, image)
    return 255 * expose(picture, patient, image)


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


def _nv(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Naevus: brown and orderly; reticular, globular or homogeneous; some pink and dermal, a few blue."""
    pink, blue = patient.chance(0.15), patient.chance(0.03)
    amount = patient.uniform(0.3, 1.25) * (1 - 0.75 * pink)
    pigment(layers, lesion, patient, amount, 0.05 + 0.35 * lesion.atypia)
    network(layers, lesion, patient, patient.chance(0.6) * patient.uniform(0.15, 0.8))
    globules = scattered(patient, lesion, 40, (0.018, 0.045), 0.95) * per_image(patient.chance(0.3))
    layers.melanin = layers.melanin + globules * per_image(patient.uniform(0.3, 0.9) * (1 - pink))
    dark = patch(patient, lesion, 4, 0.9) * lesion.atypia * per_image(patient.chance(0.5))
    layers.melanin = layers.melanin + 0.9 * dark
    redness = patient.uniform(0, 0.2) + pink * patient.uniform(0.1, 0.5)
    layers.blood = layers.blood + per_image(redness) * lesion.inside
    layers.keratin = per_image(patient.uniform(0, 0.3)) * lesion.inside
    layers.veil = 0.8 * per_image(blue) * lesion.inside


def _mel(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Melanoma: asymmetric, of several colours: black blotches, blue-white veil, regression; one in eight pale."""
    pale = patient.chance(0.13)
    amount = patient.uniform(0.4, 1.6) * (1 - 0.8 * pale)
    pigment(layers, lesion, patient, amount, 0.12 + 0.5 * lesion.atypia)
    reticular = patch(patient, lesion, 3, -0.3)
    network(layers, lesion, patient, patient.chance(0.55) * patient.uniform(0.3, 1.2), reticular)
    black = patch(patient, lesion, 4, 0.5) * per_image((1 - pale) * patient.uniform(0.2, 2.2)) * lesion.atypia
    dots = scattered(patient, lesion, 24, (0.015, 0.04), 1.1) * per_image(patient.chance(0.5) * (1 - 0.7 * pale))
    layers.melanin = layers.melanin + black + 1.2 * dots
    red = patch(patient, lesion, 4, 0.3) * per_image(patient.chance(0.45) + 0.7 * pale)
    vessels = vessels_in(patient, lesion, 3, (0.012, 0.022), 0.10) * per_image(pale * patient.chance(0.6))
    layers.blood = layers.blood + (0.55 * red + 0.12 + 0.8 * vessels) * lesion.inside
    veil = patch(patient, lesion, 3, 0.2) * per_image(patient.chance(0.5) * patient.uniform(0.3, 0.85))
    layers.veil = veil * lesion.atypia.sqrt()
    scar = patch(patient, lesion, 4, 0.7) * per_image(patient.chance(0.35) * patient.uniform(0.3, 0.75))
    layers.white = scar * (1 - layers.veil)


def _bkl(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Benign keratosis: stuck on and waxy, with milia, comedo-like openings and ridges; some flat, some grey."""
    flat = patient.chance(0.3)
    pigment(layers, lesion, patient, patient.uniform(0.15, 0.95), 0.08 + 0.25 * lesion.atypia)
    layers.keratin = per_image(patient.uniform(0.05, 0.7)) * lesion.inside
    ridges = smoothstep(honeycomb(patient, lesion.line, patient.uniform(6, 11), 2.2), 0.35, 0.75)
    thick = per_image((1 - flat) * patient.chance(0.6) * patient.uniform(0.15, 0.7))
    layers.melanin = layers.melanin + thick * ridges * lesion.inside
    openings = scattered(patient, lesion, 14, (0.02, 0.05)) * per_image((1 - flat) * patient.chance(0.6))
    layers.melanin, layers.keratin = layers.melanin + 1.1 * openings, layers.keratin + 0.8 * openings
    network(layers, lesion, patient, patient.chance(0.25) * patient.uniform(0.2, 0.7))
    milia = scattered(patient, lesion, 16, (0.015, 0.04)) * per_image((1 - flat) * patient.chance(0.7))
    layers.white = 0.8 * milia
    grey = patch(patient, lesion, 12, 0.4) * per_image(patient.chance(0.2) * patient.uniform(0.3, 0.7))
    layers.veil = grey * (1 - milia)
    layers.blood = layers.blood + per_image(patient.uniform(0, 0.25)) * lesion.inside


def _bcc(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Basal cell carcinoma: pearly pink, sharp branching vessels, blue-grey nests, ulcers; one in six dark."""
    dark = patient.chance(0.17)
    pigment(layers, lesion, patient, patient.uniform(0, 0.25) + dark * patient.uniform(0.3, 0.9), 0.4)
    blush = patch(patient, lesion, 4, -0.6, 1.6)
    layers.blood = layers.blood + per_image(patient.uniform(0.2, 0.6)) * (0.4 * lesion.inside + 0.6 * blush)
    vessels = vessels_in(patient, lesion, 4, (0.014, 0.030), 0.07) * (lesion.shape < 1.15)
    layers.blood = layers.blood + vessels * per_image(patient.chance(0.75) * patient.uniform(0.4, 1.4))
    nests = scattered(patient, lesion, 9, (0.04, 0.12), 0.8) * per_image(patient.chance(0.5 + 0.3 * dark))
    layers.veil = per_image(patient.uniform(0.4, 0.9)) * nests
    ulcer = scattered(patient, lesion, 2, (0.06, 0.16), 0.6) * per_image(patient.chance(0.35))
    layers.blood = layers.blood + 1.5 * ulcer
    layers.keratin = layers.keratin + 0.9 * ulcer * (1 + 0.4 * smooth_field(patient, 20, lesion.pixels))
    shine = patch(patient, lesion, 5, 0.4) * per_image(patient.uniform(0, 0.45))
    layers.white = shine * (1 - ulcer) * (1 - nests)


def _akiec(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Actinic keratosis, Bowen's disease: red with pale follicles ("strawberry"), scaly, crusts; some pigmented."""
    brown = patient.chance(0.22)
    pigment(layers, lesion, patient, patient.uniform(0.02, 0.3) + brown * patient.uniform(0.2, 0.7), 0.45)
    redness = per_image(patient.uniform(0.2, 0.8)) * (1 + 0.3 * smooth_field(patient, 6, lesion.pixels))
    follicles = 1 - smoothstep(honeycomb(patient, lesion.line, patient.uniform(7, 12), 0.6), 0.15, 0.5)
    strawberry = per_image(patient.chance(0.55) * patient.uniform(0.4, 0.9))
    layers.blood = layers.blood + (redness * (1 - strawberry * follicles)).clamp_min(0) * lesion.inside
    knots = scattered(patient, lesion, 30, (0.012, 0.03)) * per_image(patient.chance(0.35))
    layers.blood = layers.blood + 0.8 * knots
    rough = 1 + 0.5 * smooth_field(patient, 30, lesion.pixels)
    scales = patch(patient, lesion, 8, 0.5, 0.7) * rough.clamp(0, 1.6) * per_image(patient.uniform(0.0, 0.7))
    crust = patch(patient, lesion, 5, 1.0) * per_image(patient.chance(0.4) * patient.uniform(0.4, 1.0))
    layers.keratin = layers.keratin + 1.2 * crust * rough + 0.5 * scales
    layers.white = scales.clamp(0, 0.85) * (1 - 0.6 * crust)


def _df(layers: Layers, lesion: Lesion, patient: Draws) -> None:
    """Dermatofibroma: a white scar-like centre in a delicate, fading brown network; some plainly brown or pink."""
    pigment(layers, lesion, patient, patient.uniform(0.15, 0.6), 0.05 + 0.15 * lesion.atypia)
    network(layers, lesion, patient, patient.uniform(0.3, 0.9), smoothstep(lesion.shape, 0.3, 0.6))
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
    lakes = scattered(patient, lesion, 18, (0.05, 0.13), 0.85)
    merged = per_image(patient.uniform(0, 1))
    amount = per_image(patient.uniform(0.25, 1.5) + 0.8 * dark)
    layers.blood = layers.blood + amount * (merged * lesion.inside + (1 - merged) * lakes + 0.15 * lesion.inside)
    pigment(layers, lesion, patient, patient.uniform(0, 0.2), 0.3)
    layers.melanin = layers.melanin + per_image(dark * patient.uniform(0.3, 1.3)) * lakes
    layers.veil = per_image(patient.uniform(0, 0.45)) * lakes * patch(patient, lesion, 4, -0.5, 1.5)
    layers.white = per_image(patient.chance(0.4) * patient.uniform(0, 0.5)) * patch(patient, lesion, 5, 0.3)


RECIPES = (_akiec, _bcc, _bkl, _df, _mel, _nv, _vasc)


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
