"""Colour fundus photographs: the eight classes of ODIR-5k, with the frequencies that the MAGE-adapter paper uses.

A class changes a healthy eye, or what lies in front of it, by the signs that a reader looks for. Classes overlap: early
disease hardly differs from health, healthy discs may be deeply cupped, old lenses are hazy, old arteries narrow, and
peripapillary atrophy is seen in glaucoma, myopia and without either. "Other" is one of seven findings.
"""

import math
from collections.abc import Callable

import torch

from nbutils.phantoms.base import Draws, Modality, SideDraws
from nbutils.phantoms.canvas import direction, per_image
from nbutils.phantoms.fundus_camera import Media, clear_media, take
from nbutils.phantoms.retina import DISC, Retina, colours, draw_retina
from nbutils.phantoms.retinal_lesions import (
    atrophy,
    cotton_wool,
    diabetic,
    drusen,
    exudates,
    flames,
    laser_scars,
    pigment_clumps,
    scatter,
)
from nbutils.phantoms.shapes import hump, smooth_field, smoothstep


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw photographs of one class, (B, 3, canvas, canvas), 0..255."""
    return photograph(RECIPES[label], patient, image, canvas)


def photograph(
    disease: Callable[[Retina, Media, Draws], None], patient: Draws, image: Draws, canvas: int
) -> torch.Tensor:
    """Draw photographs of eyes, (B, 3, canvas, canvas), 0..255, each the left or right one of its patient.

    disease: changes a healthy retina and what lies before it, by the draws of the eye.
    """
    side = image.chance(0.5).long()
    eye = SideDraws(patient, side)
    retina = draw_retina(patient, eye, side, image, canvas)
    media = clear_media(retina.age[:, 0, 0], image)
    drusen(retina, eye, 10 * eye.chance(0.2) * eye.uniform(), torch.zeros(len(side)))
    disease(retina, media, eye)
    return 255 * take(colours(retina, eye), media, patient, image)


def _normal(retina: Retina, media: Media, eye: Draws) -> None:
    """Leave the eye as it is."""


def _diabetes(retina: Retina, media: Media, eye: Draws) -> None:
    """Draw diabetic retinopathy of any severity, mild more often than severe."""
    diabetic(retina, eye, 1.0 + 3.0 * eye.uniform())


def _glaucoma(retina: Retina, media: Media, eye: Draws) -> None:
    """Deepen the cup, thin and pale the rim, and take nerve fibres from one sector or two."""
    loss = per_image(eye.uniform(0, 1))
    retina.cup = torch.maximum(retina.cup, 0.66 + 0.30 * loss)
    retina.oval = retina.oval * (1 + 0.06 * loss)
    retina.rim = retina.rim + (0.85 - retina.rim) * loss
    retina.crescent = torch.maximum(retina.crescent, per_image(eye.chance(0.5) * eye.uniform(0.2, 0.8)))
    u, v = retina.from_disc()
    for up in (-1, 1):
        middle = math.pi + up * per_image(eye.uniform(0.55, 1.0))
        angle = torch.remainder(torch.atan2(v, u) - middle + math.pi, 2 * math.pi) - math.pi
        wedge = hump((angle / per_image(eye.uniform(0.15, 0.35))).square()) * smoothstep(u.square() + v.square(), 1, 2)
        retina.melanin = retina.melanin + 0.45 * wedge * (0.3 + 0.7 * loss) * per_image(eye.chance(0.75))


def _cataract(retina: Retina, media: Media, eye: Draws) -> None:
    """Cloud and yellow the lens; some have dark spokes."""
    cloudy = eye.uniform()
    media.haze = torch.maximum(media.haze, 0.20 + 0.58 * cloudy)
    media.yellowing = torch.maximum(media.yellowing, eye.uniform(0.25, 1.1))
    media.opacities = eye.chance(0.3) * eye.uniform(0.1, 0.4)


def _macular_degeneration(retina: Retina, media: Media, eye: Draws) -> None:
    """Put drusen into the macula; later geographic atrophy, or new vessels beneath it that bleed and leak."""
    retina.age = 0.6 + 0.4 * retina.age
    drusen(retina, eye, eye.uniform(16, 60), eye.uniform(0.3, 1))
    stage = eye.uniform()
    dry, wet = (stage > 0.4) & (stage < 0.7), stage >= 0.7
    centre = eye.normal(0, 0.35, (2,))
    size = eye.uniform(0.7, 1.9)
    atrophy(retina, eye, centre, size, dry * eye.uniform(0.45, 0.85))
    pigment_clumps(retina, eye, eye.normal(0, 0.9, (8, 2)), 0.4 * (stage > 0.3) * eye.uniform())
    u, v = ((axis - per_image(centre[:, i])) / per_image(size) for i, axis in enumerate((retina.x, retina.y)))
    away = (u.square() + v.square()).sqrt() + 0.15 * smooth_field(eye, 6, retina.pixels)
    seen = per_image(wet.float())
    blood = hump(((away - 0.95) / 0.3).square()) * smoothstep(smooth_field(eye, 4, retina.pixels), -0.6, 0.4)
    retina.blood = torch.maximum(retina.blood, seen * per_image(eye.uniform(0.3, 1.1)) * blood)
    scar = (1 - smoothstep(away, 0.5, 0.85)) * per_image(eye.uniform(0.2, 0.65))
    retina.lipid = torch.maximum(retina.lipid, 0.8 * seen * scar)
    exudates(retina, eye, 4 * wet * eye.uniform())


def _hypertension(retina: Retina, media: Media, eye: Draws) -> None:
    """Narrow and harden the arteries, nick the veins; in later stages flame haemorrhages and cotton wool."""
    stage = eye.uniform()
    retina.artery = retina.artery * per_image(0.8 - 0.35 * stage)
    retina.vein = retina.vein * per_image(1.05 + 0.25 * stage)
    retina.copper = torch.maximum(retina.copper, per_image(eye.uniform(0.3, 1)))
    retina.nicking = torch.maximum(retina.nicking, per_image(eye.uniform(0.5, 1)))
    retina.tortuous = retina.tortuous * per_image(eye.uniform(1, 1.5))
    late = smoothstep(stage, 0.0, 0.5)
    flames(retina, eye, 18 * late * eye.uniform(0.4, 1), scatter(eye, 18, torch.tensor(DISC), 1.1, 3.6))
    cotton_wool(retina, eye, 6 * late * eye.uniform(0.3, 1))
    exudates(retina, eye, 2 * late * eye.chance(0.3))
    retina.soft = retina.soft + per_image(0.35 * smoothstep(stage, 0.85, 1.0))  # a swollen disc


def _myopia(retina: Retina, media: Media, eye: Draws) -> None:
    """Stretch the eye: little pigment, choroidal vessels that show, an oval disc, a crescent, patches of atrophy."""
    degree = per_image(eye.uniform(0, 1))
    retina.pigment = retina.pigment * (0.75 - 0.45 * degree)
    retina.choroid = retina.choroid * (1 - 0.25 * degree)
    retina.tessellation = torch.maximum(retina.tessellation, 0.3 + 0.5 * degree)
    retina.crescent = torch.maximum(retina.crescent, (0.35 + 1.9 * degree) * per_image(eye.uniform(0.6, 1)))
    retina.oval = retina.oval * (1.05 + 0.3 * degree * per_image(eye.uniform()))
    retina.tortuous = retina.tortuous * 0.6
    for _ in range(2):
        place = scatter(eye, 1, torch.tensor([0.5, 0.0]), 0.6, 3.2)[:, 0]
        shown = smoothstep(degree[:, 0, 0], 0.5, 0.9) * eye.chance(0.6) * eye.uniform(0.4, 0.85)
        atrophy(retina, eye, place, eye.uniform(0.3, 1.1), shown)


def _other(retina: Retina, media: Media, eye: Draws) -> None:
    """Draw one of seven further findings."""
    kind = (eye.uniform() * len(FINDINGS)).long()
    for number, finding in enumerate(FINDINGS):
        finding(retina, eye, (kind == number).float())


def _membrane(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Epiretinal membrane: a glistening, wrinkled sheet over the macula."""
    patch = hump((retina.from_fovea() / per_image(eye.uniform(1.2, 2.6))).square())
    turn = per_image(eye.uniform(0, math.pi))
    folds = (retina.x * turn.cos() + retina.y * turn.sin()) * 9 + 2 * smooth_field(eye, 5, retina.pixels)
    sheet = (0.55 + 0.45 * folds.cos()) * smoothstep(smooth_field(eye, 4, retina.pixels), -1.2, 0.8)
    retina.sheen = torch.maximum(retina.sheen, per_image(shown * eye.uniform(0.5, 0.85)) * patch * sheet)


def _macular_hole(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Macular hole: a round red hole in the fovea with a grey cuff."""
    away = retina.from_fovea() / per_image(eye.uniform(0.3, 0.7))
    hole, cuff = 1 - smoothstep(away, 0.85, 1.1), hump(((away - 1.45) / 0.4).square())
    retina.blood = torch.maximum(retina.blood, per_image(shown * eye.uniform(0.5, 1.0)) * hole)
    retina.sheen = torch.maximum(retina.sheen, 0.35 * per_image(shown) * cuff)


def _branch_occlusion(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Branch vein occlusion: flame haemorrhages and cotton wool in the sector of one arcade."""
    up = 2 * eye.chance(0.35) - 1
    most = 40
    along, across = eye.uniform(0, 1, (most,)), eye.normal(0, 1, (most,))
    x = DISC[0] - 0.8 - 5.5 * along
    y = up[:, None] * (1.2 + 1.9 * along.sqrt() + (0.4 + 0.6 * along) * across)
    flames(retina, eye, most * shown * eye.uniform(0.4, 1), torch.stack([x, y], -1))
    cotton_wool(retina, eye, 4 * shown * eye.uniform())
    retina.vein = retina.vein * (1 + 0.15 * per_image(shown))


def _laser(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Scars of laser treatment."""
    laser_scars(retina, eye, shown)


def _scar(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Chorioretinal scar: white, with clumps of pigment in it and round it."""
    centre = scatter(eye, 1, torch.tensor([0.0, 0.0]), 0.0, 4.5)[:, 0]
    radius = eye.uniform(0.4, 1.4)
    atrophy(retina, eye, centre, radius, shown * eye.uniform(0.7, 1.0))
    angle = eye.uniform(0, 2 * math.pi, (9,))
    rim = centre[:, None] + (radius[:, None] * eye.uniform(0.2, 1.15, (9,)))[..., None] * direction(angle)
    pigment_clumps(retina, eye, rim, shown)


def _retinitis_pigmentosa(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Retinitis pigmentosa: pigment outside the arcades, thin vessels, a waxy disc."""
    pigment_clumps(retina, eye, scatter(eye, 50, torch.tensor([1.6, 0.0]), 3.6, 7.0), shown * eye.uniform(0.5, 1.1))
    outside = smoothstep(retina.from_fovea(), 2.5, 5.0)
    retina.bare = torch.maximum(retina.bare, 0.45 * per_image(shown) * outside)
    retina.artery = retina.artery * (1 - 0.4 * per_image(shown))
    retina.vein = retina.vein * (1 - 0.25 * per_image(shown))
    retina.rim = torch.maximum(retina.rim, 0.6 * per_image(shown))


def _myelinated_fibres(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Myelinated nerve fibres: a white, feathery sheet that fans out from the disc."""
    u, v = retina.from_disc()
    away = (u.square() + v.square()).sqrt()
    angle = torch.remainder(torch.atan2(v, u) - per_image(eye.uniform(0, 2 * math.pi)), 2 * math.pi) - math.pi
    wide, far = per_image(eye.uniform(0.4, 0.9)), per_image(eye.uniform(1.8, 3.2))
    feathered = away + 0.45 * smooth_field(eye, 12, retina.pixels)
    fan = (1 - smoothstep(feathered, 0.75 * far, far)) * smoothstep(away, 0.85, 1.1) * hump((angle / wide).square())
    retina.wool = torch.maximum(retina.wool, per_image(shown * eye.uniform(0.6, 0.9)) * smoothstep(fan, 0.1, 0.6))


FINDINGS = (
    _membrane,
    _macular_hole,
    _branch_occlusion,
    _laser,
    _scar,
    _retinitis_pigmentosa,
    _myelinated_fibres,
)
RECIPES = (
    _normal,
    _diabetes,
    _glaucoma,
    _cataract,
    _macular_degeneration,
    _hypertension,
    _myopia,
    _other,
)


MODALITY = Modality(
    name="fundus",
    version=1,
    class_names=("N", "D", "G", "C", "A", "H", "M", "O"),
    channels=3,
    # Yuan et al., Table 1: legible are 3104 training images of N, and how many were generated for each class. As in
    # the other two data sets of the table, both add up to a round number (5000, 3000, five times 1000, 2000), so that
    # the training images are 3104, 1706, 326, 313, 280, 193, 261, 964; they sum to 7147, as many labels as 7,000
    # images of 3,500 patients would have. The rarest keep ten images in every split.
    counts={
        "train": (391, 215, 41, 39, 35, 24, 33, 121),
        "val": (130, 72, 14, 13, 12, 10, 11, 40),
        "test": (174, 95, 18, 18, 16, 11, 15, 54),
    },
    images_per_patient=(0.45, 0.55),
    shared_patients=0.2,
    draw=draw,
)
