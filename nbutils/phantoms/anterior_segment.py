"""The front of the eye at the slit lamp: lids and lashes, sclera with its vessels, iris, pupil, cornea, and the lamp.

What a disease adds lies in the layers of the cornea: haze and infiltrates scatter light in front of iris and pupil,
pus settles in the chamber behind. Lengths are mm from the middle of the cornea; x runs to the right, y downwards.
Maps are (B, N, N) float32.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import Batch, axis, direction, per_image, plane
from nbutils.phantoms.shapes import hump, smooth_field, smoothstep, splats, tubes, walk

# optical density of blood in red, green and blue
BLOOD = (0.16, 0.95, 0.85)
# colours
SCLERA = (0.90, 0.87, 0.82)
BROWN, BLUE = (0.34, 0.20, 0.11), (0.42, 0.52, 0.58)  # irises
PUPIL = (0.05, 0.04, 0.04)
SKIN = (0.80, 0.60, 0.49)
WET = (0.84, 0.58, 0.52)  # the edge of a lid
LASH = (0.10, 0.07, 0.06)
HAZE = (0.60, 0.66, 0.68)  # of a swollen cornea
GREY, YELLOW = (0.84, 0.86, 0.83), (0.99, 0.95, 0.80)  # infiltrates
PUS = (0.90, 0.82, 0.58)
BEAM = (0.85, 0.92, 1.0)  # what a slit of light shows of a clear cornea


@dataclass
class Segment(Batch):
    """One eye at the slit lamp. Numbers are (B, 1, 1), maps (B, N, N)."""

    line: torch.Tensor  # (N,) pixel centres, patch units
    half: torch.Tensor  # mm from the middle of the picture to its edge
    gaze: torch.Tensor  # (B, 1, 2) where the middle of the cornea lies in the picture, mm
    x: torch.Tensor  # place of each column, (B, 1, N), mm
    y: torch.Tensor  # place of each row, (B, N, 1), mm
    limbus: torch.Tensor  # radius of the cornea, mm
    pupil: torch.Tensor  # its radius, mm
    iris: torch.Tensor  # 0 = brown, 1 = blue
    redness: torch.Tensor  # of the conjunctiva, 0..1
    ingrown: torch.Tensor  # how far vessels grow into the cornea, mm
    tone: torch.Tensor  # colour of the infiltrates, 0 = grey, 1 = yellow
    level: torch.Tensor  # depth of the pus in the chamber, mm
    haze: torch.Tensor  # map: swelling of the cornea, 0..1
    infiltrate: torch.Tensor  # map, 0..1

    @property
    def pixels(self) -> int:
        """Side of the drawing, N."""
        return len(self.line)

    def away(self) -> torch.Tensor:
        """Return the distance from the middle of the cornea, a map, mm."""
        return (self.x.square() + self.y.square()).sqrt()

    def around(self, centre: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and y from a centre, (B, 2) in mm, in radii, (B,) in mm, as maps."""
        x, y = self.x - per_image(centre[:, 0]), self.y - per_image(centre[:, 1])
        return torch.broadcast_tensors(x / per_image(radius), y / per_image(radius))

    def splats(self, points: torch.Tensor, radii: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum of round Gaussians; points (B, P, 2), sd (B, P) in mm, heights (B, P)."""
        return splats((points + self.gaze) / self.half, radii / self.half[..., 0], weights, self.line)

    def tubes(self, paths: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
        """Return tubes, 0..1, none thinner than three quarters of a pixel; paths (B, L, length, 2), radii in mm."""
        radii = radii / self.half
        radii = torch.where(radii > 0, radii.clamp_min(0.75 / self.pixels), 0.0)
        return tubes((paths + self.gaze[:, None]) / self.half[..., None], radii, self.line)


def draw_segment(patient: Draws, image: Draws, canvas: int) -> Segment:
    """Draw inflamed eyes without any lesion of the cornea, and how the camera stands before them."""
    line = axis(canvas)
    half = per_image(image.uniform(6.4, 8.8))
    gaze = image.normal(0, 0.5, (1, 2))
    x, y = plane(line)
    nothing = torch.zeros(len(half), canvas, canvas)
    return Segment(
        line, half, gaze, x * half - gaze[..., :1], y * half - gaze[..., 1:],
        limbus=per_image(patient.normal(5.7, 0.2)),
        pupil=per_image((patient.uniform(1.3, 3.0) + image.normal(0, 0.25)).clamp(1.0, 3.6)),
        iris=per_image(patient.uniform() ** 4),
        redness=per_image(patient.uniform(0.15, 0.9)),
        ingrown=torch.zeros_like(half),
        tone=per_image(patient.uniform(0, 1)),
        level=torch.zeros_like(half),
        haze=nothing, infiltrate=nothing,
    )  # fmt: skip


def colours(segment: Segment, patient: Draws, image: Draws) -> torch.Tensor:
    """Return the colours of the eye in even light, (B, 3, N, N) in 0..1, its lids before it."""
    away = segment.away()
    iris, pupil = _iris(segment, away, patient)
    cornea = 1 - smoothstep(
        away + 0.06 * smooth_field(patient, 8, segment.pixels), segment.limbus - 0.55, segment.limbus + 0.35
    )
    redness, vessels = _injection(segment, away, patient)
    blood = redness * (1 - cornea) + 0.9 * vessels
    floor = (segment.limbus - 0.4).square() - segment.x.square()  # the chamber ends behind the edge of the cornea
    surface = segment.limbus - 0.4 - segment.level
    pus = (segment.level > 0) * smoothstep(segment.y, surface - 0.12, surface + 0.12) * (segment.y.square() < floor)
    lit = (1 + 0.10 * smooth_field(patient, 5, segment.pixels)) * (1 - 0.02 * (away - segment.limbus).clamp_min(0))
    haze, infiltrate = (part.clamp(0, 0.96) * cornea for part in (segment.haze, segment.infiltrate))
    channels = []
    for c in range(3):
        coloured = (1 - segment.iris) * BROWN[c] + segment.iris * BLUE[c]
        seen = torch.lerp(coloured * iris, torch.full_like(iris, PUPIL[c]), pupil)
        seen = torch.lerp(seen, torch.full_like(seen, PUS[c]), 0.9 * pus)
        seen = torch.lerp(seen, torch.full_like(seen, HAZE[c]), haze)
        seen = torch.lerp(seen, ((1 - segment.tone) * GREY[c] + segment.tone * YELLOW[c]).expand_as(seen), infiltrate)
        seen = torch.lerp(SCLERA[c] * lit, seen, cornea) * torch.exp(-BLOOD[c] * blood)
        channels.append(seen)
    return _lids(torch.stack(channels, 1), segment, patient, image)


def _iris(segment: Segment, away: torch.Tensor, patient: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the brightness of the iris, with its radial fibres, and where the pupil is, both maps."""
    steps, count = 512, len(away)
    waves = patient.normal(shape=(2, steps + 8)).unfold(-1, 9, 1).mean(-1) * 3  # (B, 2, steps): fibres by angle
    angle = torch.atan2(segment.y, segment.x.expand_as(away))
    index = ((angle + math.pi) * ((steps - 1) / (2 * math.pi))).long().flatten(1)
    inner, outer = (waves[:, i].gather(1, index).view(count, *away.shape[1:]) for i in range(2))
    radius = (away - segment.pupil) / (segment.limbus - segment.pupil)  # 0 at the pupil, 1 at the limbus
    fibres = torch.lerp(inner, outer, smoothstep(radius, 0.2, 0.7))
    bright = 0.95 + 0.15 * fibres + 0.25 * hump(((radius - 0.3) / 0.16).square()) - 0.45 * smoothstep(radius, 0.75, 1.0)
    bright = bright * (1 + 0.12 * smooth_field(patient, 12, segment.pixels))
    return bright.clamp_min(0.2), 1 - smoothstep(away, segment.pupil - 0.15, segment.pupil + 0.15)


def _injection(segment: Segment, away: torch.Tensor, patient: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the redness of the conjunctiva, deepest round the cornea, and its vessels, both maps.

    Where vessels have grown into the cornea, a few run on beyond the limbus.
    """
    number, length = 34, 40
    angle = torch.linspace(0, 2 * math.pi, number + 1)[:-1] + patient.normal(0, 0.12, (number,))
    start = (segment.limbus + 5.0) * direction(angle + patient.normal(0, 0.15, (number,)))
    inside = patient.chance(0.3, (number,)) * segment.ingrown[..., 0]
    reach = 4.6 + inside + patient.uniform(-1.2, 0.3, (number,))
    paths = walk(patient, start, angle + math.pi, reach / length, 0.05, length)
    radii = patient.uniform(0.03, 0.085, (number,))[..., None] * torch.linspace(1.0, 0.55, length)
    vessels = segment.tubes(paths, radii) * (0.3 + 0.8 * segment.redness)
    ring = hump(((away - segment.limbus - 0.6) / 1.8).square())
    uneven = 1 + 0.3 * smooth_field(patient, 7, segment.pixels)
    return segment.redness * (0.22 + 0.55 * ring) * uneven.clamp(0.2, 2), vessels


def _lids(picture: torch.Tensor, segment: Segment, patient: Draws, image: Draws) -> torch.Tensor:
    """Close the lids as far as they are in this picture: skin, a wet edge, a shadow of the upper lid, lashes."""
    x, y = segment.x, segment.y
    bow, aside = per_image(patient.uniform(0.010, 0.028)), per_image(image.normal(0, 0.8))
    top, bottom = per_image(image.uniform(4.3, 7.5)), per_image(image.uniform(5.2, 8.0))
    arch = bow * (x - aside).square()
    above, below = arch - top - y, y - bottom + 0.7 * arch
    covered = torch.maximum(above, below)  # mm beyond the edge of a lid
    lid = smoothstep(covered, -0.08, 0.08)[:, None]
    shadow = 1 - 0.45 * smoothstep(above, -1.6, 0.0)[:, None]
    tone = per_image(patient.uniform(0.55, 1.08)) * (1 + 0.08 * smooth_field(patient, 9, segment.pixels))
    skin = torch.tensor(SKIN)[:, None, None] * (tone * (1 - 0.05 * covered.clamp(0, 6)))[:, None]
    edge = hump(((covered - 0.25) / 0.3).square())[:, None]  # pink, wet and bright
    skin = torch.lerp(skin, torch.tensor(WET)[:, None, None].expand_as(skin), 0.7 * edge)
    picture = torch.lerp(picture * shadow, skin, lid)

    number, length = 34, 14
    across = torch.linspace(-11, 11, number) + image.normal(0, 0.25, (number,))
    root = torch.stack([across, bow[..., 0] * (across - aside[..., 0]).square() - top[..., 0]], -1)
    heading = math.pi / 2 - 0.09 * across + image.normal(0, 0.2, (number,))  # down and outwards
    hairs = walk(image, root, heading, image.uniform(0.6, 2.6, (number,)) / length, 0.06, length)
    thick = 0.055 * image.chance(0.75, (number,)) * image.chance(0.6)[:, None]  # some lids are held up
    lashes = segment.tubes(hairs, thick[..., None] * torch.linspace(1.0, 0.4, length))[:, None]
    return torch.lerp(picture, torch.tensor(LASH)[:, None, None].expand_as(picture), 0.85 * lashes)


def lamp(picture: torch.Tensor, segment: Segment, image: Draws) -> torch.Tensor:
    """Light the eye: broad and even, or by a slit with the rest in the dark; the cornea mirrors the lamp."""
    x, y, away = segment.x, segment.y, segment.away()
    inside = 1 - smoothstep(away, segment.limbus - 0.4, segment.limbus + 0.1)
    slope = image.normal(0, 0.035, (2,))
    light = (1 + per_image(slope[:, 0]) * x + per_image(slope[:, 1]) * y).clamp(0.3, 1.7)
    slit = per_image(image.chance(0.3))
    light = light * (1 - slit * per_image(image.uniform(0.1, 0.5)))
    place, width = per_image(image.uniform(-3.5, 3.5)), per_image(image.uniform(0.25, 0.8))
    bulge = per_image(2 * image.chance(0.5) - 1) * 0.9 * (1 - (y / segment.limbus).square())
    # the beam is bent where it crosses the cornea, and falls straight on the iris behind it
    beam = hump(((x - place - bulge) / width).square()) * inside
    behind = hump(((x - place + 0.6 * bulge.sign()) / width).square())
    scattering = 0.12 + 0.5 * segment.infiltrate.clamp(0, 1) + 0.35 * segment.haze.clamp(0, 1)
    picture = picture * (light + slit * (0.8 * behind + 0.5 * beam))[:, None]
    picture = picture + (slit * beam * scattering)[:, None] * torch.tensor(BEAM)[:, None, None]

    glare = torch.zeros_like(away)
    for shown in (torch.ones(len(x)), image.chance(0.4)):  # one lamp, at times a second
        u, v = segment.around(image.normal(0, 1.5, (2,)), image.uniform(0.12, 0.35))
        turn = per_image(image.uniform(0, math.pi))
        window = (turn.cos() * u + turn.sin() * v) ** 4 + (0.6 * (turn.cos() * v - turn.sin() * u)) ** 4
        glare = torch.maximum(glare, per_image(shown) * (1 - smoothstep(window, 0.5, 1.6)))
    return torch.lerp(picture, torch.ones_like(picture), 0.95 * glare[:, None])
