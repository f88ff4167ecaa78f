"""What diseases leave in the retina: haemorrhages, exudates, cotton wool, drusen, atrophy, scars, new vessels.

Every function adds to the maps of a `Retina`. `number` is (B,), how many there are; fractions are cut off.
"""

import math

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import direction, per_image
from nbutils.phantoms.retina import DISC, Retina
from nbutils.phantoms.shapes import hump, outline, smooth_field, smoothstep, walk

POLE = (1.6, 0.0)  # mm: middle of the posterior pole, between fovea and disc


def scatter(eye: Draws, count: int, centre: torch.Tensor, inner, outer) -> torch.Tensor:
    """Return `count` points, (B, count, 2), evenly between two distances (number or (B, 1)) from a centre, mm."""
    angle = eye.uniform(0, 2 * math.pi, (count,))
    away = eye.uniform(inner**2, outer**2, (count,)).sqrt()
    return centre + away[..., None] * direction(angle)


def _first(number: torch.Tensor, count: int) -> torch.Tensor:
    """Return 1 for as many of `count` things as there are to be, else 0, (B, count)."""
    return (torch.arange(count) < number.floor()[:, None]).float()


def _spots(retina: Retina, points: torch.Tensor, radii: torch.Tensor, shown: torch.Tensor, sharp: float = 0.2):
    """Return round spots, a map 0..1 with their border where a Gaussian has fallen to half."""
    total = retina.splats(points, radii / math.sqrt(2 * math.log(2)), shown)
    return smoothstep(total, 0.5 - sharp, 0.5 + sharp)


def microaneurysms(retina: Retina, eye: Draws, number: torch.Tensor, most: int = 30) -> None:
    """Scatter tiny red dots, most of them temporal of the macula."""
    points = scatter(eye, most, torch.tensor([-0.3, 0.0]), 0.5, 4.6)
    dots = _spots(retina, points, eye.uniform(0.065, 0.12, (most,)), _first(number, most))
    retina.blood = torch.maximum(retina.blood, 0.75 * dots)


def blots(retina: Retina, eye: Draws, number: torch.Tensor, most: int = 76) -> None:
    """Scatter dot and blot haemorrhages, dark red and round, over all quadrants."""
    points = scatter(eye, most, torch.tensor(POLE), 0.8, 6.2)
    radii = 0.09 + 0.28 * eye.uniform(0, 1, (most,)).square()
    ragged = 1 + 0.25 * smooth_field(eye, 40, retina.pixels)
    spots = _spots(retina, points, radii, _first(number, most)) * ragged.clamp(0.5, 1.3)
    retina.blood = torch.maximum(retina.blood, per_image(eye.uniform(0.7, 1.1)) * spots)


def flames(retina: Retina, eye: Draws, number: torch.Tensor, points: torch.Tensor) -> None:
    """Add flame haemorrhages: streaks along the nerve fibres, which run from the disc; points: (B, P, 2), mm."""
    count, length = points.shape[1], 14
    heading = torch.atan2(points[..., 1] - DISC[1], points[..., 0] - DISC[0]) + eye.normal(0, 0.12, (count,))
    paths = walk(eye, points, heading, eye.uniform(0.45, 1.1, (count,)) / length, 0.03, length)
    thick = eye.uniform(0.08, 0.19, (count,)) * _first(number, count)
    streaks = retina.tubes(paths, thick[..., None] * torch.linspace(1.0, 0.35, length))
    retina.blood = torch.maximum(retina.blood, per_image(eye.uniform(0.55, 1.0)) * streaks)


def exudates(retina: Retina, eye: Draws, number: torch.Tensor, most: int = 5) -> None:
    """Add clusters and part rings of hard exudates: yellow, sharply bordered, most near the macula."""
    each = 14
    centres = scatter(eye, most, torch.tensor([0.2, 0.0]), 0.4, 2.9)[:, :, None]
    ring = eye.uniform(0.15, 0.85, (most, 1))
    part = eye.uniform(0, 2 * math.pi, (most, 1)) + eye.uniform(0, 4.5, (most, each))
    points = centres + ring[..., None] * direction(part) + eye.normal(0, 0.13, (most, each, 2))
    shown = _first(number, most)[..., None] * eye.chance(0.8, (most, each))
    spots = _spots(retina, points.flatten(1, 2), eye.uniform(0.06, 0.17, (most * each,)), shown.flatten(1), 0.12)
    retina.lipid = torch.maximum(retina.lipid, per_image(eye.uniform(0.65, 0.95)) * spots)


def cotton_wool(retina: Retina, eye: Draws, number: torch.Tensor, most: int = 7) -> None:
    """Add cotton-wool spots: white, feathery swellings of nerve fibres round the disc and along the arcades."""
    points = scatter(eye, most, torch.tensor([DISC[0] - 0.8, DISC[1]]), 1.6, 4.2)
    patches = retina.splats(points, eye.uniform(0.16, 0.36, (most,)), _first(number, most))
    feathery = 1 + 0.35 * smooth_field(eye, 24, retina.pixels)
    retina.wool = torch.maximum(retina.wool, 0.78 * smoothstep(patches * feathery, 0.15, 0.9))


def new_vessels(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Grow tufts of fine, winding vessels on the disc and on an arcade; shown: (B,) 0..1."""
    tufts, each, length = 3, 9, 34
    near = scatter(eye, tufts, torch.tensor(DISC), 0.2, 3.2)
    start = near.repeat_interleave(each, 1) + eye.normal(0, 0.08, (tufts * each, 2))
    heading = eye.uniform(0, 2 * math.pi, (tufts * each,))
    paths = walk(eye, start, heading, eye.uniform(0.7, 1.7, (tufts * each,)) / length, 0.22, length)
    thick = 0.05 * eye.chance(0.75, (tufts,)).repeat_interleave(each, 1) * per_image(shown)[..., 0]
    tangle = retina.tubes(paths, thick[..., None].expand(-1, -1, length))
    retina.blood = torch.maximum(retina.blood, 0.9 * tangle)


def preretinal(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Let blood settle in front of the retina: a boat with a level surface, or a cloud; shown: (B,) 0..1."""
    centre = scatter(eye, 1, torch.tensor([1.0, 1.2]), 1.0, 3.4)[:, 0]
    width, depth = per_image(eye.uniform(0.9, 2.2)), per_image(eye.uniform(0.6, 1.5))
    u, v = (retina.x - per_image(centre[:, 0])) / width, (retina.y - per_image(centre[:, 1])) / depth
    hull = (u.square() + v.clamp_min(0).square()).sqrt() + 0.05 * smooth_field(eye, 8, retina.pixels)
    boat = (1 - smoothstep(hull, 0.9, 1.05)) * smoothstep(v, -0.12, 0.06)
    cloud = smoothstep(smooth_field(eye, 5, retina.pixels), 0.5, 1.8) * hump((u.square() + v.square()) / 2.5)
    cloudy = per_image(eye.chance(0.3))
    blood = per_image(eye.uniform(0.9, 1.5)) * torch.lerp(boat, 0.8 * cloud, cloudy)
    retina.blood = torch.maximum(retina.blood, per_image(shown) * blood)


def fibrosis(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Lay grey-white strands of fibrous tissue from the disc along the arcades; shown: (B,) 0..1."""
    strands, length = 4, 40
    start = torch.tensor(DISC) + eye.normal(0, 0.35, (strands, 2))
    heading = math.pi + torch.tensor([0.9, 0.6, -0.6, -0.9]) + eye.normal(0, 0.3, (strands,))
    paths = walk(eye, start, heading, eye.uniform(2, 5, (strands,)) / length, 0.06, length)
    thick = eye.uniform(0.12, 0.4, (strands,)) * eye.chance(0.7, (strands,)) * per_image(shown)[..., 0]
    sheet = retina.tubes(paths, thick[..., None].expand(-1, -1, length))
    veiled = per_image(eye.uniform(0.3, 0.6)) * (1 + 0.4 * smooth_field(eye, 14, retina.pixels))
    retina.wool = torch.maximum(retina.wool, sheet * veiled)


def laser_scars(retina: Retina, eye: Draws, shown: torch.Tensor) -> None:
    """Burn rows of round pale scars with dark edges outside the arcades; shown: (B,) 0..1."""
    across = 11
    spacing = torch.linspace(-7.0, 9.5, across)
    grid = torch.stack(torch.meshgrid(spacing, spacing - 1.3, indexing="xy"), -1).view(-1, 2)
    points = grid + eye.normal(0, 0.3, (across**2, 2))
    outside = (points - torch.tensor(POLE)).norm(dim=-1) > 4.0
    kept = outside * eye.chance(0.8, (across**2,)) * per_image(shown)[..., 0]
    radii = eye.uniform(0.2, 0.34, (across**2,))
    scars, edges = _spots(retina, points, radii, kept), _spots(retina, points, 1.35 * radii, kept)
    retina.bare = torch.maximum(retina.bare, per_image(eye.uniform(0.4, 0.8)) * scars)
    retina.melanin = retina.melanin + 0.5 * (edges - scars).clamp_min(0)


def drusen(retina: Retina, eye: Draws, number: torch.Tensor, size: torch.Tensor, most: int = 60) -> None:
    """Scatter drusen over the macula: soft, pale yellow, the larger ones confluent; size: (B,) 0 = hard, 1 = large."""
    points = eye.normal(0, 0.95, (most, 2))
    radii = (0.05 + 0.06 * eye.uniform(0, 1, (most,))) * (1 + 1.9 * size[:, None])
    spots = _spots(retina, points, radii, _first(number, most), 0.3)
    retina.drusen = torch.maximum(retina.drusen, per_image(eye.uniform(0.5, 0.9)) * spots)


def atrophy(retina: Retina, eye: Draws, centre: torch.Tensor, radius: torch.Tensor, shown: torch.Tensor) -> None:
    """Take pigment epithelium away in a sharply bordered patch; centre (B, 2), radius (B,) in mm, shown (B,) 0..1."""
    x, y = ((axis - per_image(centre[:, i])) / per_image(radius) for i, axis in enumerate((retina.x, retina.y)))
    away = outline(x, y, eye, 1 + eye.uniform(0, 0.4), eye.uniform(0.05, 0.16))
    patch = (1 - smoothstep(away, 0.93, 1.06)) * (1 + 0.12 * smooth_field(eye, 12, retina.pixels))
    retina.bare = torch.maximum(retina.bare, per_image(shown) * patch)


def pigment_clumps(retina: Retina, eye: Draws, points: torch.Tensor, shown: torch.Tensor) -> None:
    """Heap pigment up in small dark clumps; points (B, P, 2) in mm, shown (B,) how dense they are."""
    count = points.shape[1]
    spots = _spots(retina, points, eye.uniform(0.06, 0.2, (count,)), eye.chance(0.8, (count,)))
    rough = (1 + 0.6 * smooth_field(eye, 40, retina.pixels)).clamp(0, 2)
    retina.melanin = retina.melanin + 2.2 * per_image(shown) * spots * rough


def diabetic(retina: Retina, eye: Draws, severity: torch.Tensor) -> None:
    """Draw diabetic retinopathy of a severity, (B,), on the scale of the five grades: 0 = none, 4 = proliferative.

    The signs are those of the international scale (Wilkinson et al. 2003): microaneurysms alone in 1; in 2 more
    of them, blots and exudates; in 3 haemorrhages in all quadrants and beaded veins; in 4 new vessels and what they
    lead to. How many there are of each overlaps from grade to grade.
    """
    mild, moderate = smoothstep(severity, 0.4, 1.8), smoothstep(severity, 1.3, 2.3)
    severe, proliferative = smoothstep(severity, 2.3, 3.1), smoothstep(severity, 3.3, 3.9)
    microaneurysms(retina, eye, 30 * mild * eye.uniform(0.5, 1))
    blots(retina, eye, (16 * moderate + 60 * severe * (1 - 0.4 * proliferative)) * eye.uniform(0.5, 1))
    flames(retina, eye, 12 * severe * eye.uniform(0.2, 1), scatter(eye, 12, torch.tensor(POLE), 0.8, 5.0))
    exudates(retina, eye, 6 * moderate * eye.uniform(0.2, 1))
    cotton_wool(retina, eye, (2 * moderate + 6 * severe) * eye.uniform(0.2, 1))
    retina.beading = per_image(severe * eye.uniform(0.3, 1))
    retina.vein = retina.vein * (1 + 0.25 * per_image(severe))
    # which of the signs of proliferation there are; one of the first two always is
    which = eye.uniform()
    new_vessels(retina, eye, proliferative * (which < 0.75))
    preretinal(retina, eye, proliferative * (which > 0.45))
    fibrosis(retina, eye, proliferative * eye.chance(0.55))
    laser_scars(retina, eye, proliferative * eye.chance(0.45))
