"""The fundus camera: its round field on black, its flash, what lies between it and the retina, and its sensor.

Pictures are (B, 3, N, N) float32, 0..1. `patient` holds what a practice keeps from picture to picture, `image` what
changes with each.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import axis, filtered, per_image, plane, squared_frequency
from nbutils.phantoms.shapes import hump, smooth_field, smoothstep, splats

YELLOW = (1.0, 0.90, 0.55)  # what an old lens lets through
VEIL = (0.80, 0.58, 0.34)  # light that a cloudy lens scatters into the picture


@dataclass
class Media:
    """What lies between the camera and the retina; each (B,)."""

    haze: torch.Tensor  # part of the light that a cloudy lens scatters, 0..1
    yellowing: torch.Tensor  # of the lens, 0..1
    opacities: torch.Tensor  # how dark the spokes of a cortical cataract are, 0..1


def clear_media(age: torch.Tensor, image: Draws) -> Media:
    """Return the media of an eye without cataract: an old lens is yellower, some pictures are hazy."""
    haze = 0.22 * image.uniform() ** 3 + 0.10 * age * image.uniform()
    return Media(haze, 0.45 * age * image.uniform(), torch.zeros_like(haze))


def take(picture: torch.Tensor, media: Media, patient: Draws, image: Draws) -> torch.Tensor:
    """Return the photograph of a retina, (B, 3, N, N): media, focus, flash, reflexes, sensor and the round field."""
    pixels, line = picture.shape[-1], axis(picture.shape[-1])
    picture = _through(picture, media, image)
    blurred = 0.3 + 1.0 * image.uniform().square() + 4.5 * media.haze.square()
    focus = per_image(blurred * pixels / 128)  # sd in pixels
    transfer = torch.exp(-2 * math.pi**2 * focus.square() * squared_frequency(pixels))[:, None]
    picture = filtered(picture, transfer)
    picture = picture * _flash(line, image)[:, None]
    picture = _reflexes(picture, line, image)
    cast = patient.normal(1, 0.045, (3,)) * image.normal(1, 0.015, (3,)) * image.normal(1.1, 0.08)[:, None]
    gamma = patient.uniform(0.85, 1.25)[:, None, None, None]
    picture = (picture * cast[..., None, None]).clamp(1e-3, 1) ** gamma
    noise = smooth_field(image, 96, pixels) * per_image(patient.uniform(0.004, 0.018))
    return (picture + noise[:, None]) * _field(line, patient, image)[:, None]


def _through(picture: torch.Tensor, media: Media, image: Draws) -> torch.Tensor:
    """Look through the lens: yellow, cloudy, and darker where it has spokes."""
    line = axis(picture.shape[-1])
    yellow = torch.tensor(YELLOW) ** media.yellowing[:, None]
    uneven = 1 + 0.25 * smooth_field(image, 3, len(line))
    haze = (per_image(media.haze) * uneven).clamp(0, 0.95)[:, None]
    veil = torch.tensor(VEIL) * image.uniform(0.65, 1.1)[:, None]
    picture = picture * (1 - haze) + haze * veil[..., None, None]
    x, y = plane(line)
    turn = per_image(image.uniform(0, 2 * math.pi))
    angle = torch.atan2(y, x) + 0.4 * smooth_field(image, 4, len(line))
    spokes = smoothstep(torch.cos(9 * angle + turn) + 0.8 * smooth_field(image, 6, len(line)), 0.3, 1.8)
    spokes = spokes * smoothstep((x.square() + y.square()).sqrt(), 0.1, 0.6)
    return picture * yellow[..., None, None] * (1 - per_image(media.opacities) * spokes)[:, None]


def _flash(line: torch.Tensor, image: Draws) -> torch.Tensor:
    """Return how much light reaches each place: less at the border, uneven, at times shaded on one side."""
    x, y = plane(line)
    slope = image.normal(0, 0.10, (2,))
    light = 1 + per_image(slope[:, 0]) * x + per_image(slope[:, 1]) * y
    light = light - per_image(image.uniform(0.1, 0.42)) * (x.square() + y.square())
    side = image.uniform(0, 2 * math.pi)
    aside = per_image(side.cos()) * x + per_image(side.sin()) * y
    shade = per_image(image.chance(0.2) * image.uniform(0.2, 0.7))  # a small pupil
    return (light * (1 - shade * smoothstep(aside, 0.3, 1.1))).clamp_min(0.05)


def _reflexes(picture: torch.Tensor, line: torch.Tensor, image: Draws) -> torch.Tensor:
    """Add a crescent of light from the edge of the pupil to some pictures, and specks of dust on the lens to some."""
    x, y = plane(line)
    side, away = image.uniform(0, 2 * math.pi), image.uniform(1.25, 1.5)
    from_edge = (x - per_image(away * side.cos())).square() + (y - per_image(away * side.sin())).square()
    flare = hump(from_edge / per_image(image.uniform(0.12, 0.35))) * per_image(
        image.chance(0.25) * image.uniform(0.3, 0.9)
    )
    colour = torch.tensor([0.85, 0.75, 0.62]) + image.normal(0, 0.08, (3,))
    picture = torch.lerp(picture, colour[..., None, None].expand_as(picture), flare[:, None])
    specks = 6
    shown = image.chance(0.2)[:, None] * image.chance(0.5, (specks,)) * image.uniform(-0.35, 0.25, (specks,))
    dust = splats(image.uniform(-0.9, 0.9, (specks, 2)), image.uniform(0.008, 0.022, (specks,)), shown, line)
    return picture * (1 + dust)[:, None]


def _field(line: torch.Tensor, patient: Draws, image: Draws) -> torch.Tensor:
    """Return 1 in the field of view and 0 around it: round, cut off above and below by some cameras."""
    pixel = 2 / len(line)
    radius = per_image(patient.uniform(0.9, 1.0))
    shift = image.normal(0, 0.008, (2,))
    x, y = plane(line)
    x, y = x - per_image(shift[:, 0]), y - per_image(shift[:, 1])
    inside = 1 - smoothstep((x.square() + y.square()).sqrt(), radius - pixel, radius + pixel)
    cut = per_image(torch.where(patient.chance(0.4) > 0, patient.uniform(0.74, 0.95), 2.0)) * radius
    return inside * (1 - smoothstep(y.abs(), cut - pixel, cut + pixel))
