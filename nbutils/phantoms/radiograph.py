"""The film of radiographs: where it lies behind the patient, what lies on her, and how it is exposed.

Lengths are in cm at the patient; x runs to the right of the picture, the patient's left, y downwards.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import MARGIN, Batch, filtered, per_image, plane, squared_frequency
from nbutils.phantoms.shapes import smooth_field, smoothstep, splats, tubes, walk

STEEL = 2.5  # attenuation per cm, at about 100 kV
STROKE = 0.085  # half the width of a marker's lines, of its height


@dataclass
class View(Batch):
    """How the patient lies on the film."""

    line: torch.Tensor  # (N,) pixel centres, -MARGIN to MARGIN
    half: torch.Tensor  # (B, 1, 1) half the width of the film
    shift: torch.Tensor  # (B, 1, 2) of the patient on the film

    @property
    def x(self) -> torch.Tensor:
        """Place of each column, (B, 1, N)."""
        return self.line[None, None, :] * self.half - self.shift[..., :1]

    @property
    def y(self) -> torch.Tensor:
        """Place of each row, (B, N, 1)."""
        return self.line[None, :, None] * self.half - self.shift[..., 1:]

    def splats(self, points: torch.Tensor, radii: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum of round Gaussians, (B, N, N); points (B, P, 2), sd (B, P) in cm, heights (B, P)."""
        return splats((points + self.shift) / self.half, radii / self.half[..., 0], weights, self.line)

    def cords(self, paths: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
        """Return the thickness in cm of round cords, (B, N, N); paths (B, L, length, 2), radii (B, L, length) in cm."""
        spacing = (paths[:, :, 1:] - paths[:, :, :-1]).norm(dim=-1).mean(-1, keepdim=True)  # (B, L, 1)
        sigma = 0.7 * radii.clamp_min(0.1)
        # a row of Gaussians adds up to a ridge; its section has the area of the cord's, pi r^2
        weights = radii.square() * spacing / (2 * sigma.square())
        return self.splats(paths.flatten(1, 2), sigma.flatten(1), weights.flatten(1))


def electrodes(attenuation: torch.Tensor, view: View, image: Draws) -> torch.Tensor:
    """Lay three ECG electrodes on the chest, with their wires."""
    leads, length = 3, 90
    places = torch.tensor([[-9.5, -6.0], [9.5, -6.0], [10.0, 7.0]]) + image.normal(0, 1.6, (leads, 2))
    heading = torch.tensor([1.2, 1.9, 1.7]) + image.normal(0, 0.5, (leads,))
    wires = walk(image, places, heading, 20 / length, 0.03, length)
    shown = image.chance(0.8, (leads,))[..., None]
    metal = view.cords(wires, (0.11 * shown).expand(-1, -1, length))
    snaps = view.splats(places, torch.full((len(places), leads), 0.35), 0.3 * shown[..., 0])
    return attenuation + STEEL * (metal + snaps)


def central_line(attenuation: torch.Tensor, view: View, image: Draws) -> torch.Tensor:
    """Lead a venous catheter from the right side of the neck down to the heart."""
    t = torch.linspace(0, 1, 110)[:, None]
    start = torch.tensor([-5.0, -17.0]) + image.normal(0, 1.0, (1, 1, 2))
    bend = torch.tensor([-2.2, -9.0]) + image.normal(0, 0.5, (1, 1, 2))
    tip = torch.tensor([-2.2, 0.0]) + image.normal(0, 0.9, (1, 1, 2))
    path = (1 - t).square() * start + 2 * t * (1 - t) * bend + t.square() * tip  # (B, 1, 110, 2)
    return attenuation + 0.5 * STEEL * view.cords(path, torch.full(path.shape[:3], 0.13))


def side_marker(centre: torch.Tensor, height: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Return where an R is written on the film, (B, N, N) in 0..1; centre (B, 2) and height (B,) in patch units."""
    t = torch.linspace(0, 1, 30)
    turn = math.pi * (t - 0.5)
    stem = torch.stack([torch.full_like(t, -0.3), t - 0.5], -1)
    bowl = torch.stack([-0.3 + 0.58 * turn.cos(), -0.24 + 0.26 * turn.sin()], -1)
    leg = torch.stack([-0.05 + 0.36 * t, 0.02 + 0.48 * t], -1)
    letter = torch.stack([stem, bowl, leg])  # (3, 30, 2), of height 1 about its middle
    paths = centre[:, None, None] + letter * height[:, None, None, None]
    radii = (STROKE * height)[:, None, None].expand(-1, *letter.shape[:2])
    return tubes(paths, radii, line)


def tilted(attenuation: torch.Tensor, image: Draws) -> torch.Tensor:
    """Turn the patient on the film by a few degrees, (B, N, N)."""
    tilt = image.normal(0, 0.045)
    cos, sin, zero = tilt.cos(), tilt.sin(), torch.zeros_like(tilt)
    turn = torch.stack([cos, sin, zero, -sin, cos, zero], -1).view(-1, 2, 3)
    grid = F.affine_grid(turn, [len(tilt), 1, *attenuation.shape[1:]], align_corners=False)
    return F.grid_sample(attenuation[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def expose(attenuation: torch.Tensor, view: View, noise: torch.Tensor, middle: torch.Tensor, image: Draws):
    """Return the grey values, 0..1: scatter and blur, quantum noise, grid lines, and the curve of the detector.

    noise: (B, 1, 1) sd relative to the root of the signal; middle: (B, 1, 1) attenuation that is shown as middle grey.
    """
    pixels = attenuation.shape[-1]
    pixel = 2 * MARGIN * view.half / pixels  # cm
    squared = squared_frequency(pixels) / pixel.square()  # (B, N, N // 2 + 1), per cm^2
    sharp = torch.exp(-2 * (math.pi * per_image(image.uniform(0.04, 0.16))).square() * squared)
    veil = per_image(image.uniform(0.1, 0.5))  # scattered per unscattered photons, less with a grid
    transfer = sharp + veil * torch.exp(-2 * (math.pi * 2.5) ** 2 * squared)
    beam = filtered(torch.exp(-attenuation), transfer).clamp_min(1e-4)
    beam = beam + noise * beam.sqrt() * smooth_field(image, 110, pixels)
    grid = per_image(image.chance(0.3) * image.uniform(0.01, 0.03))
    grid = grid * torch.cos(view.x * per_image(2 * math.pi / image.uniform(0.8, 1.3)))
    density = -(beam / (1 + veil)).clamp_min(1e-4).log() + grid
    middle = middle + per_image(image.normal(0, 0.2))  # no exposure is quite right
    contrast = per_image(image.uniform(1.5, 2.5))
    return torch.sigmoid(contrast * (density - middle))


def bars(view: View, image: Draws) -> torch.Tensor:
    """Return 1 on the film and 0 on the black bars that make a square of it, (B, N, N)."""
    short = per_image(image.uniform(0.86, 1.0)).clamp_max(0.97)
    upright = per_image(image.chance(0.5))
    x, y = plane(view.line.abs())
    return 1 - smoothstep(upright * x + (1 - upright) * y, short, short + 0.01)
