"""Slit-lamp photographs of infectious keratitis: the four classes of Kera-3k, as in the MAGE-adapter paper.

Each class is drawn by its textbook signs: the ring of acanthamoeba, the dense round infiltrate of bacteria, the grey
and feathery one of fungi with its satellites, the branching ulcers and the round swelling of herpes simplex. They
overlap: early amoebae leave pseudodendrites or a mere haze, fungal infiltrates may be dense and yellow, late herpes is
a scar, and pus and redness are seen with all. Lesions belong to the patient; zoom, gaze, lids and lamp to the picture.
"""

import math

import torch

from nbutils.phantoms.anterior_segment import Segment, colours, draw_segment, lamp
from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.camera import expose
from nbutils.phantoms.canvas import direction, per_image
from nbutils.phantoms.shapes import hump, outline, smooth_field, smoothstep, walk


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw photographs of one class, (B, 3, canvas, canvas), 0..255; a patient has one sick eye."""
    segment = draw_segment(patient, image, canvas)
    RECIPES[label](segment, patient)
    picture = lamp(colours(segment, patient, image), segment, image)
    return 255 * expose(picture, patient, image)


def _somewhere(patient: Draws, far: float) -> torch.Tensor:
    """Return a place on the cornea, (B, 2), up to `far` mm from its middle."""
    away = far * patient.uniform(0, 1).sqrt()
    return away[:, None] * direction(patient.uniform(0, 2 * math.pi))


def _swell(segment: Segment, patient: Draws, centre: torch.Tensor, radius: torch.Tensor, amount: torch.Tensor) -> None:
    """Swell the cornea round a place: a soft, uneven haze; radius (B,) in mm, amount (B,) 0..1."""
    u, v = segment.around(centre, radius)
    cloud = hump(0.6 * (u.square() + v.square())) * (1 + 0.3 * smooth_field(patient, 7, segment.pixels))
    segment.haze = torch.maximum(segment.haze, per_image(amount) * cloud)


def _ulcer(segment: Segment, patient: Draws, centre: torch.Tensor, radius: torch.Tensor, *, lobes, soft, ragged):
    """Return a patch with a random border, a map 0..1.

    centre (B, 2) and radius (B,) in mm; ranges, in radii: lobes of the outline, softness and raggedness of the border.
    """
    x, y = segment.around(centre, radius)
    away = outline(x, y, patient, 1 + patient.uniform(0, 0.6), patient.uniform(*lobes))
    rough = smooth_field(patient, 22, segment.pixels) + smooth_field(patient, 45, segment.pixels)
    soft = per_image(patient.uniform(*soft))
    return 1 - smoothstep(away + per_image(patient.uniform(*ragged)) * rough, 1 - soft, 1 + soft)


def _branches(segment: Segment, patient: Draws, centre: torch.Tensor, size: torch.Tensor, knobs: float) -> torch.Tensor:
    """Return a branching figure with knobs at its ends, a map 0..1; size (B,): length of its stem in mm."""
    length, twigs = 24, 6
    turn = patient.uniform(0, 2 * math.pi)[:, None]
    start = centre[:, None] - 0.5 * size[:, None, None] * direction(turn)
    stem = walk(patient, start, turn, size[:, None] / length, 0.08, length)
    forks = stem[:, 0, torch.linspace(3, length - 3, twigs).long()]  # (B, twigs, 2)
    aside = torch.tensor([0.9, -0.9]).repeat(twigs // 2) + patient.normal(0, 0.2, (twigs,))
    reach = size[:, None] * patient.uniform(0.15, 0.5, (twigs,))
    limbs = walk(patient, forks, turn + aside, reach / length, 0.09, length)
    thick = per_image(patient.uniform(0.10, 0.20))
    figure = segment.tubes(torch.cat([stem, limbs], 1), thick.expand(-1, twigs + 1, length))
    ends = torch.cat([stem[:, :, -1], limbs[:, :, -1]], 1)
    bulbs = segment.splats(ends, (1.3 * thick[..., 0]).expand(-1, twigs + 1), torch.full(ends.shape[:2], knobs))
    return torch.maximum(figure, smoothstep(bulbs, 0.3, 0.8))


def _hypopyon(segment: Segment, patient: Draws, probability: float) -> None:
    """Let pus settle in the chamber of some eyes."""
    segment.level = per_image(patient.chance(probability) * patient.uniform(0.5, 2.8))


def _amoeba(segment: Segment, patient: Draws) -> None:
    """Acanthamoeba: a ring, mostly incomplete, streaks along the nerves; early a haze with pseudodendrites."""
    early = patient.chance(0.15)
    centre, radius = _somewhere(patient, 0.9), patient.uniform(2.0, 3.6)
    u, v = segment.around(centre, radius)
    away = outline(u, v, patient, 1 + patient.uniform(0, 0.3), patient.uniform(0.02, 0.07))
    wide = per_image(patient.uniform(0.14, 0.32))
    gaps = smoothstep(smooth_field(patient, 4, segment.pixels), per_image(patient.uniform(-2.6, -0.6)), 0.6)
    ring = hump(((away - 1) / wide).square()) * gaps * (1 + 0.25 * smooth_field(patient, 24, segment.pixels))
    segment.infiltrate = per_image((1 - early) * patient.uniform(0.6, 1.0)) * ring
    _swell(segment, patient, centre, 1.3 * radius, patient.uniform(0.1, 0.5))
    nerves, length = 5, 40
    angle = patient.uniform(0, 2 * math.pi, (nerves,))
    course = walk(
        patient, 5.2 * direction(angle), angle + math.pi, patient.uniform(2, 4, (nerves,)) / length, 0.03, length
    )
    thick = 0.06 * patient.chance(0.6, (nerves,)) * patient.chance(0.5)[:, None]
    streaks = segment.tubes(course, thick[..., None].expand(-1, -1, length))
    false = _branches(segment, patient, _somewhere(patient, 2.0), patient.uniform(1.0, 2.5), 0.3) * per_image(early)
    segment.infiltrate = torch.maximum(segment.infiltrate, torch.maximum(0.35 * streaks, 0.45 * false))
    segment.redness = segment.redness + 0.25 * (1 - segment.redness)
    _hypopyon(segment, patient, 0.12)


def _bacteria(segment: Segment, patient: Draws) -> None:
    """Bacteria: one dense, well-defined, whitish yellow infiltrate, a halo of swelling, often pus."""
    centre, radius = _somewhere(patient, 3.0), patient.uniform(1.1, 2.7)
    patch = _ulcer(segment, patient, centre, radius, lobes=(0.02, 0.08), soft=(0.08, 0.28), ragged=(0.01, 0.05))
    segment.infiltrate = per_image(patient.uniform(0.75, 0.98)) * patch
    segment.tone = 0.55 + 0.45 * segment.tone
    _swell(segment, patient, centre, radius + patient.uniform(0.6, 2.2), patient.uniform(0.15, 0.65))
    segment.redness = segment.redness + 0.2 * (1 - segment.redness)
    _hypopyon(segment, patient, 0.45)


def _fungal(segment: Segment, patient: Draws) -> None:
    """Fungi: a grey, dry infiltrate with feathery borders, and satellites; some as dense and yellow as bacteria's."""
    centre, radius = _somewhere(patient, 2.4), patient.uniform(1.6, 3.2)
    patch = _ulcer(segment, patient, centre, radius, lobes=(0.07, 0.18), soft=(0.2, 0.5), ragged=(0.05, 0.22))
    most = 5
    angle = patient.uniform(0, 2 * math.pi, (most,))
    far = radius[:, None] * patient.uniform(1.3, 1.9, (most,))
    shown = patient.chance(0.7, (most,)) * patient.chance(0.65)[:, None]
    beside = segment.splats(
        centre[:, None] + far[..., None] * direction(angle), patient.uniform(0.2, 0.5, (most,)), shown
    )
    rough = 1 + 0.3 * smooth_field(patient, 30, segment.pixels)
    mottled = 1 + 0.15 * smooth_field(patient, 14, segment.pixels)
    satellites = 0.8 * smoothstep(beside * rough, 0.25, 0.9)
    segment.infiltrate = per_image(patient.uniform(0.5, 0.9)) * torch.maximum(patch * mottled, satellites)
    segment.tone = 0.6 * segment.tone
    _swell(segment, patient, centre, radius + patient.uniform(0.4, 2.0), patient.uniform(0.1, 0.5))
    _hypopyon(segment, patient, 0.25)


def _herpes(segment: Segment, patient: Draws) -> None:
    """Herpes simplex: a dendrite with knobs, a geographic ulcer, or a round swelling of the stroma; old ones scar."""
    kind = patient.uniform()
    dendritic, geographic, disciform = kind < 0.45, (kind >= 0.45) & (kind < 0.65), kind >= 0.65
    centre = _somewhere(patient, 2.4)
    figure = _branches(segment, patient, centre, patient.uniform(3.0, 5.5), 0.9)
    size = patient.uniform(1.0, 2.4)
    island = _ulcer(segment, patient, centre, size, lobes=(0.12, 0.22), soft=(0.06, 0.2), ragged=(0.02, 0.06))
    segment.infiltrate = torch.maximum(
        per_image(dendritic * patient.uniform(0.6, 0.95)) * figure,
        per_image(geographic * patient.uniform(0.25, 0.6)) * island,
    )
    _swell(segment, patient, centre, patient.uniform(1.0, 2.5), patient.uniform(0, 0.25))
    size = patient.uniform(1.8, 3.4)
    disc = _ulcer(segment, patient, 0.5 * centre, size, lobes=(0.01, 0.05), soft=(0.25, 0.5), ragged=(0.0, 0.03))
    segment.haze = torch.maximum(segment.haze, per_image(disciform * patient.uniform(0.35, 0.8)) * disc)
    size = patient.uniform(0.6, 1.8)
    scar = _ulcer(segment, patient, centre, size, lobes=(0.05, 0.15), soft=(0.3, 0.6), ragged=(0.02, 0.1))
    segment.infiltrate = torch.maximum(
        segment.infiltrate, per_image(patient.chance(0.3) * patient.uniform(0.2, 0.6)) * scar
    )
    segment.ingrown = per_image(patient.chance(0.35) * patient.uniform(1.0, 3.5))
    segment.tone, segment.redness = 0.5 * segment.tone, 0.75 * segment.redness
    _hypopyon(segment, patient, 0.04)


RECIPES = (_amoeba, _bacteria, _fungal, _herpes)


MODALITY = Modality(
    name="cornea",
    version=1,
    class_names=("amoeba", "bacteria", "fungal", "hsk"),
    channels=3,
    # Kera-3k has 294, 437, 818, 1079 training and 77, 71, 117, 122 test images (Yuan et al., Table 1)
    counts={"train": (78, 116, 218, 288), "val": (22, 33, 62, 83), "test": (77, 71, 117, 122)},
    images_per_patient=(0.4, 0.3, 0.2, 0.1),
    shared_patients=0.0,
    draw=draw,
)
