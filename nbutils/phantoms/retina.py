"""The retina as a fundus camera sees it: optic disc, macula, vessels, and the layers that light passes.

Colours come from what lies in the layers: sclera reflects, blood and melanin of choroid and pigment epithelium absorb
(Beer-Lambert), vessels and haemorrhages absorb again in front of them, lipid and swollen nerve fibres scatter. Lengths
are mm on the retina from the fovea: x towards the optic disc (nasal), y downwards, so that right and left eyes are one
eye and its mirror image. Maps are (B, N, N) float32.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import Batch, axis, blur, direction, per_image, plane
from nbutils.phantoms.shapes import hump, smooth_field, smoothstep, splats, tubes, walk

DISC = (4.6, -0.35)  # mm: its centre, seen from the fovea
TRUNKS, TRUNK_POINTS, TWIGS, TWIG_POINTS = 4, 150, 5, 45  # of the arteries, and of the veins

# optical density of one unit in red, green and blue
MELANIN = (0.34, 0.62, 0.80)
CHOROID = (0.12, 0.78, 1.35)  # blood in the choroid
BLOOD = (0.42, 1.00, 0.90)  # blood in front of the pigment
# colours
SCLERA = (0.98, 0.90, 0.70)
RIM, CUP = (0.93, 0.58, 0.33), (1.0, 0.91, 0.70)  # of the optic disc
DRUSE = (0.98, 0.82, 0.46)
LIPID = (1.0, 0.93, 0.52)
WOOL = (0.97, 0.92, 0.80)
SHEEN = (0.72, 0.80, 0.74)


@dataclass
class Retina(Batch):
    """One eye before the camera. Numbers are (B, 1, 1), maps (B, N, N)."""

    line: torch.Tensor  # (N,) pixel centres, patch units
    half: torch.Tensor  # mm from the middle of the picture to its edge
    mirror: torch.Tensor  # 1 = right eye, -1 = left eye
    tilt: torch.Tensor  # of the head, radians
    middle: torch.Tensor  # (B, 1, 2) what the camera looks at, mm
    x: torch.Tensor  # map: place of each pixel, mm
    y: torch.Tensor
    age: torch.Tensor  # 0 = young, 1 = old
    size: torch.Tensor  # radius of the optic disc, mm
    oval: torch.Tensor  # ratio of its axes, 1 = round, more = tall
    soft: torch.Tensor  # half width of its border, in radii
    cup: torch.Tensor  # vertical cup-to-disc ratio
    rim: torch.Tensor  # paleness of its rim, 0..1
    crescent: torch.Tensor  # peripapillary atrophy: how far it reaches beyond the disc on the temporal side, mm
    artery: torch.Tensor  # width of the arteries, 1 = usual
    vein: torch.Tensor
    copper: torch.Tensor  # how bright the walls of the arteries are, 0..1
    nicking: torch.Tensor  # how far veins seem cut where arteries cross them, 0..1
    beading: torch.Tensor  # how unevenly wide the veins are, 0..1
    tortuous: torch.Tensor  # how winding the vessels are, 1 = usual
    pigment: torch.Tensor  # melanin of the choroid
    choroid: torch.Tensor  # blood of the choroid
    tessellation: torch.Tensor  # how far choroidal vessels stand out, 0..1
    melanin: torch.Tensor  # map: melanin that a disease adds or takes
    bare: torch.Tensor  # map: part of the pigment epithelium and choroid that is gone, 0..1
    drusen: torch.Tensor  # map, 0..1
    lipid: torch.Tensor  # map: hard exudates, 0..1
    wool: torch.Tensor  # map: white of nerve fibres and scars, 0..1
    blood: torch.Tensor  # map: haemorrhages and new vessels, in units of BLOOD
    sheen: torch.Tensor  # map: reflexes of the retina's surface, 0..1

    @property
    def pixels(self) -> int:
        """Side of the drawing, N."""
        return len(self.line)

    def place(self, points: torch.Tensor) -> torch.Tensor:
        """Return where points of the retina, (B, ..., 2) in mm, lie in the picture, in patch units."""
        lead = [len(points)] + [1] * (points.ndim - 2)
        u, v = (points - self.middle.view(len(points), *lead[1:], 2)).unbind(-1)
        cos, sin, half, mirror = (
            part.view(lead) for part in (self.tilt.cos(), self.tilt.sin(), self.half, self.mirror)
        )
        u = u * mirror
        return torch.stack([(cos * u - sin * v) / half, (sin * u + cos * v) / half], -1)

    def splats(self, points: torch.Tensor, radii: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum of round Gaussians; points (B, P, 2), sd (B, P) in mm, heights (B, P)."""
        return splats(self.place(points), radii / self.half[..., 0], weights, self.line)

    def tubes(self, paths: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
        """Return tubes, 0..1; paths (B, L, length, 2), radii (B, L, length) in mm, 0 = invisible.

        No tube is thinner than three quarters of a pixel, or it would be a row of dots.
        """
        radii = radii / self.half
        thin = 0.75 / self.pixels
        return tubes(self.place(paths), torch.where(radii > 0, radii.clamp_min(thin), 0.0), self.line)

    def from_disc(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and y from the centre of the optic disc, in its radii."""
        return (self.x - DISC[0]) / self.size * self.oval.sqrt(), (self.y - DISC[1]) / self.size / self.oval.sqrt()

    def from_fovea(self) -> torch.Tensor:
        """Return the distance from the fovea, mm."""
        return (self.x.square() + self.y.square()).sqrt()


def draw_retina(patient: Draws, eye: Draws, side: torch.Tensor, image: Draws, canvas: int) -> Retina:
    """Draw healthy eyes: what both have in common, what is each one's own, and where the camera looks."""
    line, count = axis(canvas), len(side)
    mirror, tilt = per_image(1.0 - 2 * side), per_image(image.normal(0, 0.06))
    half = per_image(patient.uniform(5.8, 7.0) * image.uniform(0.96, 1.08))
    middle = torch.stack([image.uniform(0.1, 2.6), image.normal(0, 0.4)], -1)[:, None]
    u, v = (part * half for part in plane(line))
    x = mirror * (tilt.cos() * u + tilt.sin() * v) + middle[..., :1]
    y = tilt.cos() * v - tilt.sin() * u + middle[..., 1:]
    age = per_image(patient.uniform())
    nothing = torch.zeros(count, canvas, canvas)
    zero = torch.zeros(count, 1, 1)
    return Retina(
        line, half, mirror, tilt, middle, x, y, age,
        size=per_image(patient.uniform(0.78, 0.98)),
        oval=per_image(eye.uniform(1.0, 1.14)),
        soft=per_image(eye.uniform(0.05, 0.16)),
        cup=per_image(patient.normal(0.38, 0.12) + eye.normal(0, 0.04)).clamp(0.08, 0.68),
        rim=per_image(eye.uniform(0, 0.35)),
        crescent=per_image(eye.chance(0.25) * eye.uniform(0.1, 0.5)),
        artery=per_image(patient.normal(1, 0.07)) - 0.12 * age,
        vein=per_image(patient.normal(1, 0.08)),
        copper=0.3 * age * per_image(patient.uniform()),
        nicking=0.3 * age * per_image(patient.uniform()),
        beading=zero,
        tortuous=per_image(patient.uniform(0.6, 1.6)),
        pigment=per_image(patient.uniform(0.12, 0.75)),
        choroid=per_image(patient.uniform(0.75, 1.25)),
        tessellation=per_image(patient.uniform(0, 1).square()) * (0.15 + 0.3 * age),
        melanin=nothing, bare=nothing, drusen=nothing, lipid=nothing, wool=nothing, blood=nothing, sheen=nothing,
    )  # fmt: skip


def colours(retina: Retina, eye: Draws) -> torch.Tensor:
    """Return the colours of the retina, (B, 3, N, N) in 0..1, with its disc and its vessels."""
    melanin, bare = _pigmented(retina, eye)
    artery, vein = vessels(retina, eye)
    u, v = retina.from_disc()
    away = (u.square() + v.square()).sqrt() + 0.03 * smooth_field(eye, 10, retina.pixels)
    disc = 1 - smoothstep(away, 1 - retina.soft, 1 + retina.soft)
    # the cup is a little taller than wide and lies towards the macula, so that the temporal rim is thinnest
    hollow = (((u + 0.22 * (1 - retina.cup)) / 0.94).square() + v.square()).sqrt() / retina.cup
    cup = 1 - smoothstep(hollow, 0.72, 1.15)
    blood = 0.85 * vein + (0.62 - 0.3 * retina.copper) * artery + retina.blood
    drusen, lipid, wool = (part.clamp(0, 0.95) for part in (retina.drusen, retina.lipid, retina.wool))
    sheen = torch.maximum(retina.sheen, _reflexes(retina, eye)).clamp(0, 0.8) * (1 - 0.7 * disc)
    pale, gone = retina.rim, 1 - 0.92 * bare
    channels = []
    for c in range(3):
        seen = SCLERA[c] * torch.exp(-gone * (MELANIN[c] * melanin + CHOROID[c] * retina.choroid))
        seen = torch.lerp(seen, torch.full_like(seen, DRUSE[c]), drusen)
        head = torch.lerp((1 - pale) * RIM[c] + pale * CUP[c], torch.tensor(CUP[c]), cup)
        seen = torch.lerp(seen, head, disc)
        seen = torch.lerp(seen, torch.full_like(seen, LIPID[c]), lipid)
        seen = torch.lerp(seen, torch.full_like(seen, WOOL[c]), wool)
        seen = torch.lerp(seen * torch.exp(-BLOOD[c] * blood), torch.full_like(seen, SHEEN[c]), sheen)
        channels.append(seen)
    return torch.stack(channels, 1)


def _reflexes(retina: Retina, eye: Draws) -> torch.Tensor:
    """Return how the young shine: streaks along the nerve fibres, a ring round the macula, a dot in the fovea."""
    young = smoothstep(1 - retina.age, 0.5, 1.0) * per_image(eye.uniform(0, 1))
    away = retina.from_fovea()
    rough = smoothstep(smooth_field(eye, 9, retina.pixels), 0.0, 2.0)
    fibres = hump(((away - 3.4) / 1.1).square()) * rough
    ring = hump(((away - 1.15) / 0.14).square()) * smoothstep(smooth_field(eye, 5, retina.pixels), -0.5, 1.0)
    dot = hump((away / 0.12).square())
    return young * (0.35 * fibres + 0.25 * ring + 0.5 * dot)


def _pigmented(retina: Retina, eye: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the melanin and where it is gone, both maps: more of it at the macula, less over the choroid's vessels."""
    pixels, away = retina.pixels, retina.from_fovea()
    # between the choroid's vessels, broad ribbons that cross each other, lie islands of pigment
    bend = 0.5 * smooth_field(eye, 5, pixels)
    ribbons = (smooth_field(eye, 17, pixels) + bend).abs().minimum((smooth_field(eye, 23, pixels) - bend).abs())
    islands = smoothstep(ribbons, 0.0, 0.7) - 0.5
    uneven = 0.10 * smooth_field(eye, 3, pixels) + 0.06 * smooth_field(eye, 40, pixels)
    outside = smoothstep(away, 0.5, 2.5)  # at the macula the pigment epithelium hides the choroid
    melanin = retina.pigment * (1 + uneven) + 1.1 * retina.tessellation * islands * (0.3 + 0.7 * outside)
    macula = 0.38 * hump((away / 1.6).square()) + 0.32 * hump((away / 0.5).square())
    melanin = melanin + macula * (0.6 + 0.5 * retina.pigment) + retina.melanin
    u, v = retina.from_disc()
    reach = retina.crescent / retina.size
    around = (
        (u + 0.75 * reach).square() / (1 + 0.5 * reach).square() + v.square() / (1 + 0.45 * reach).square()
    ).sqrt()
    around = around + 0.05 * smooth_field(eye, 12, pixels)
    crescent = (1 - smoothstep(around, 0.92, 1.06)) * (retina.crescent > 0)
    edge = hump(((around - 1.08) / 0.12).square()) * smoothstep(-u, -0.2, 0.8)
    return (melanin + 0.35 * edge).clamp_min(0), torch.maximum(retina.bare, 0.85 * crescent).clamp(0, 1)


def vessels(retina: Retina, eye: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where arteries and veins lie, maps 0..1: arcs above and below the macula, shorter trunks to the nose."""
    artery_paths, artery_radii = _tree(retina, eye, 0.062 * retina.artery, torch.ones(1))
    along = torch.arange(TRUNK_POINTS) * 0.55
    beads = (1 + 0.45 * retina.beading * along.sin()).clamp_min(0.3)  # (B, 1, points)
    vein_paths, vein_radii = _tree(retina, eye, 0.090 * retina.vein, beads)
    artery = _drawn(retina, artery_paths, artery_radii)
    vein = _drawn(retina, vein_paths, vein_radii)
    nicks = smoothstep(blur(artery, 0.12 / retina.half[:, 0, 0], retina.line), 0.15, 0.4)
    u, v = retina.from_disc()
    nicks = nicks * smoothstep((u.square() + v.square()).sqrt(), 1.3, 1.8)  # on the disc all vessels cross
    return artery, vein * (1 - retina.nicking * nicks)


def _drawn(retina: Retina, paths: list[torch.Tensor], radii: list[torch.Tensor]) -> torch.Tensor:
    """Draw trunks and twigs, which have unlike numbers of points, as one."""
    return torch.stack([retina.tubes(p, r) for p, r in zip(paths, radii, strict=True)]).amax(0)


def _tree(retina: Retina, eye: Draws, radius: torch.Tensor, beads: torch.Tensor):
    """Return the paths (B, L, points, 2) and radii (B, L, points) of trunks and of twigs, in mm."""
    count, length = len(retina.half), TRUNK_POINTS
    up = torch.tensor([-1.0, 1.0, -1.0, 1.0])  # two arcs, two trunks to the nose
    nasal = torch.tensor([0.0, 0.0, 1.0, 1.0])
    # angles from the way to the macula; an arc bends round it
    first = 1.60 + 0.55 * nasal + eye.normal(0, 0.16, (TRUNKS,))
    last = 0.02 + 2.5 * nasal + eye.normal(0, 0.14, (TRUNKS,))
    bent = eye.uniform(0.42, 0.62, (TRUNKS,))[..., None]
    along = torch.linspace(0, 1, length)
    wander = eye.normal(0.0, 0.035, (TRUNKS, length)).cumsum(-1) * retina.tortuous
    waves = (
        0.10 * retina.tortuous * torch.sin(along * eye.uniform(18, 34, (TRUNKS, 1)) + eye.uniform(0, 6, (TRUNKS, 1)))
    )
    angle = first[..., None] + (last - first)[..., None] * smoothstep(along.expand(count, TRUNKS, -1), 0, bent)
    angle = math.pi - (angle + (wander + waves) * smoothstep(along, 0, 0.15))
    step = direction(angle) * torch.tensor([1.0, -1.0]) * (12.0 - 5.0 * nasal)[:, None, None] / length
    step = torch.stack([step[..., 0], -step[..., 1] * up[:, None]], -1)
    # vessels enter at the nasal edge of the cup
    origin = torch.tensor(DISC) + eye.normal(0, 0.07, (TRUNKS, 2))
    origin = origin + 0.35 * (retina.cup * retina.size) * torch.tensor([1.0, 0.0])
    trunks = origin[:, :, None] + step.cumsum(2)  # (B, trunks, length, 2)
    sizes = eye.uniform(0.85, 1.12, (TRUNKS,)) * (1 - 0.25 * nasal)
    trunk_radii = radius * sizes[..., None] * torch.linspace(1.0, 0.5, length) * beads

    at = (torch.linspace(0.16, 0.78, TWIGS) * length).long() + (eye.uniform(-6, 6, (TRUNKS, TWIGS))).long()
    forks = trunks.gather(2, at[..., None].expand(-1, -1, -1, 2)).flatten(1, 2)  # (B, trunks * twigs, 2)
    heading = torch.atan2(step[..., 1], step[..., 0]).gather(2, at)
    # every other twig of an arc runs towards the macula, and ends before it
    inward = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]) * (1 - nasal)[:, None]
    aside = (2 * inward - 1) * up[:, None] * eye.uniform(0.5, 1.0, (TRUNKS, TWIGS))
    reach = torch.where(inward > 0, eye.uniform(1.6, 2.9, (TRUNKS, TWIGS)), eye.uniform(2.5, 4.8, (TRUNKS, TWIGS)))
    heading, reach = (heading - aside).flatten(1), reach.flatten(1)
    twigs = walk(eye, forks, heading, reach / TWIG_POINTS, 0.05, TWIG_POINTS)
    twig_radii = 0.6 * radius * sizes.repeat_interleave(TWIGS, 1)[..., None] * torch.linspace(0.9, 0.4, TWIG_POINTS)
    return [trunks, twigs], [trunk_radii, twig_radii.expand(-1, TRUNKS * TWIGS, -1)]
