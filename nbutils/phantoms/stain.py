"""Stained tissue under the microscope: cells on a bent lattice, two stains that absorb light, a slide scanner.

Lengths are micrometres. Maps are (B, N, N) float32; concentrations of a stain are 0 where there is none and about 1
in a dark nucleus (haematoxylin) or a red cell (eosin).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import across, blur, direction, half_width, per_image, plane
from nbutils.phantoms.shapes import smooth_field, smoothstep

# optical density of one unit of stain in red, green and blue (natural logarithm)
HAEMATOXYLIN = (0.98, 1.22, 0.58)
EOSIN = (0.16, 0.95, 0.52)
JITTER = 0.36  # how far a cell lies from its place on the lattice at most, in lattice steps


@dataclass(frozen=True)
class Slide:
    """How a laboratory stains and scans; what all images of a patient share."""

    haematoxylin: torch.Tensor  # (B, 3) optical density of one unit
    eosin: torch.Tensor  # (B, 3)
    light: torch.Tensor  # (B, 3) colour of the empty slide, 0..1
    gamma: torch.Tensor  # (B,)
    focus: torch.Tensor  # (B,) sd of the blur, um
    colour_blur: torch.Tensor  # (B,) sd of the further blur of colour, as JPEG stores it, um
    noise: torch.Tensor  # (B,) sd, of a light of 1


def draw_slide(patient: Draws) -> Slide:
    """Draw the laboratory and the scanner of each patient."""
    spectra = []
    for spectrum in (HAEMATOXYLIN, EOSIN):
        hue = patient.normal(1.0, 0.09, (3,))  # batches of dye and the scanner's filters
        strength = patient.normal(0.0, 0.24).exp()
        spectra.append(torch.tensor(spectrum) * hue * strength[:, None])
    return Slide(
        *spectra,
        light=patient.uniform(0.88, 1.0)[:, None] * patient.normal(1, 0.015, (3,)),
        gamma=patient.uniform(0.85, 1.2),
        focus=patient.uniform(0.3, 0.75),
        colour_blur=patient.uniform(0.3, 1.8),
        noise=patient.uniform(0.004, 0.018),
    )


@dataclass(frozen=True)
class Lattice:
    """A lattice of cells, turned and bent at random, with M cells along a side; its unit is one step."""

    step: torch.Tensor  # (B, 1, 1) um
    u: torch.Tensor  # (B, N, N) each pixel's place
    v: torch.Tensor
    cell_u: torch.Tensor  # (B, M, M) each cell's centre
    cell_v: torch.Tensor
    where: torch.Tensor  # (B, M, M, 2) each cell's centre as x, y in patch units

    @property
    def shape(self) -> tuple[int, int]:
        """What to draw for one number per cell, (M, M)."""
        return tuple(self.cell_u.shape[1:])

    def sample(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the value of a map (B, N, N) at each cell's centre, (B, M, M)."""
        return F.grid_sample(maps[:, None], self.where, padding_mode="border", align_corners=False)[:, 0]

    @cached_property
    def corner(self) -> torch.Tensor:
        """Index of the first of the four cells round each pixel, (B, N * N).

        Four are enough: a cell two places away is more than 1 - JITTER = 0.64 steps away.
        """
        side = self.cell_u.shape[1]
        column, row = (self.u - 0.5).long().clamp_(0, side - 2), (self.v - 0.5).long().clamp_(0, side - 2)
        return row.mul_(side).add_(column).flatten(1)

    @cached_property
    def ways(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The ways from each pixel to the centres of the four cells round it, along u and along v, (B, N, N) each."""
        return [(self.of(k, self.cell_u).sub_(self.u), self.of(k, self.cell_v).sub_(self.v)) for k in range(4)]

    def of(self, k: int, part: torch.Tensor) -> torch.Tensor:
        """Return what the k-th of the four cells round each pixel has, (B, N, N).

        part: (B, M, M), or (B, 1, 1) where all cells of an image are alike, which is returned as it is.
        """
        side = self.cell_u.shape[1]
        if part.shape[1:] == (1, 1):
            return part
        return part.flatten(1)[:, (0, 1, side, side + 1)[k] :].gather(1, self.corner).view(self.u.shape)


def lattice(
    draws: Draws, line: torch.Tensor, step: torch.Tensor, smallest_step: float, angle=None, bend: float = 0.3
) -> Lattice:
    """Lay lattices over the images.

    line: (N,) pixel centres; step: (B,) >= smallest_step; angle: (B,) of the rows with the x axis, None = any;
    bend: sd of how far a place is moved, in steps.
    """
    angle = draws.uniform(0, 2 * math.pi) if angle is None else angle
    pixels, half = len(line), half_width(line)
    side = 2 * math.ceil((1.5 * half) / smallest_step) + 2  # the turned image and its bending, for any step
    step, angle = per_image(step), per_image(angle)
    cos, sin = angle.cos() / step, angle.sin() / step
    bend_u, bend_v = (bend * smooth_field(draws, 5, pixels) for _ in range(2))
    x, y = plane(line)
    u, v = bend_u.add_(cos * x + sin * y + side / 2), bend_v.add_(cos * y - sin * x + side / 2)
    places = torch.arange(side) + 0.5
    cell_u = places[None, None, :] + draws.uniform(-JITTER, JITTER, (side, side))
    cell_v = places[None, :, None] + draws.uniform(-JITTER, JITTER, (side, side))
    a, b = (cell_u - side / 2) * step**2 / half, (cell_v - side / 2) * step**2 / half
    where = torch.stack([cos * a - sin * b, sin * a + cos * b], -1)
    return Lattice(step, u, v, cell_u, cell_v, where)


@dataclass(frozen=True)
class Nuclei:
    """Nuclei on a lattice; each (B, M, M), or (B, 1, 1) where all of an image are alike."""

    radius: torch.Tensor  # um, at most 0.6 steps along the longer axis
    stretch: torch.Tensor  # ratio of the axes
    angle: torch.Tensor  # of the longer axis with the rows of the lattice
    ink: torch.Tensor  # haematoxylin, 0 = no cell
    pale: torch.Tensor  # part of the ink that is missing in the middle
    nucleolus: torch.Tensor  # ink of a dot in the middle, as a part


def draw_nuclei(on: Lattice, nuclei: Nuclei) -> torch.Tensor:
    """Return the haematoxylin of nuclei, (B, N, N): darker where they overlap, without texture."""
    cos, sin, stretch = nuclei.angle.cos(), nuclei.angle.sin(), nuclei.stretch
    # the outline is uu u^2 + uv u v + vv v^2 = size
    uu, vv = cos**2 / stretch + sin**2 * stretch, sin**2 / stretch + cos**2 * stretch
    uv = 2 * cos * sin * (1 / stretch - stretch)
    parts = (uu, uv, vv, (on.step / nuclei.radius).square(), nuclei.ink, nuclei.pale, nuclei.nucleolus)
    total = torch.zeros_like(on.u)
    for k, (u, v) in enumerate(on.ways):
        uu, uv, vv, size, ink, pale, dot = (on.of(k, part) for part in parts)
        away = (u * uu).addcmul_(v, uv).mul_(u).addcmul_(v * v, vv).mul_(size)  # squared; 1 on the outline
        shade = (1 - away).clamp_min_(0).mul_(pale).neg_().add_(1)
        shade.add_((1 - 10 * away).clamp_min_(0).mul_(dot)).mul_(ink)
        total.addcmul_(away.neg_().add_(1.15).mul_(1 / 0.45).clamp_(0, 1), shade)
    return total


def borders(on: Lattice, width: float) -> torch.Tensor:
    """Return the borders between cells, (B, N, N): 1 where two centres are equally far, 0 from `width` steps on."""
    first = second = torch.full_like(on.u, math.inf)
    for u, v in on.ways:
        away = (u * u).addcmul_(v, v)
        second = torch.minimum(second, torch.maximum(first, away))
        first = torch.minimum(first, away)
    return 1 - smoothstep(second.sqrt_().sub_(first.sqrt_()), 0, width)


def fold(draws: Draws, line: torch.Tensor) -> torch.Tensor:
    """Return how many times thicker the section is along a fold, (B, N, N): 1 beside it, up to 2.2 on it."""
    away = across(line, direction(draws.uniform(0, 2 * math.pi)))
    away = away - per_image(draws.uniform(-45, 45)) + 6 * smooth_field(draws, 3, len(line))
    width = per_image(draws.uniform(3, 9))
    return 1 + per_image(draws.uniform(0.5, 1.2)) * (1 - smoothstep(away.abs(), 0.5 * width, width))


def scan(stains: torch.Tensor, slide: Slide, image: Draws, line: torch.Tensor) -> torch.Tensor:
    """Return what the scanner records of haematoxylin and eosin, (B, 2, N, N), as (B, 3, N, N) in 0..1."""
    slope = image.normal(0, 0.02, (2,)) / line[-1]
    x, y = plane(line)
    bright = 1 + per_image(slope[:, 0]) * x + per_image(slope[:, 1]) * y
    density = torch.stack([slide.haematoxylin, slide.eosin], 2)  # (B, 3, 2)
    seen = torch.exp(-(density @ stains.flatten(2))).view(len(stains), 3, *stains.shape[2:])
    seen = seen * bright[:, None] * slide.light[..., None, None]
    focus = slide.focus * image.normal(0, 0.25).exp() + image.chance(0.12) * image.uniform(0.3, 1.0)
    finest = 0.35 * float(line[1] - line[0])  # a narrower kernel would fall between the pixels
    green = blur(seen[:, 1:2], focus.clamp_min(finest), line)
    colour_focus = (focus.square() + slide.colour_blur.square()).sqrt().clamp_min(finest)
    others = green + blur(seen[:, ::2] - seen[:, 1:2], colour_focus, line)
    seen = torch.cat([others[:, :1], green, others[:, 1:]], 1)
    noise = smooth_field(image, 96, len(line))[:, None] * slide.noise[:, None, None, None]
    return seen.clamp_(1e-3, 1) ** slide.gamma[:, None, None, None] + noise
