"""The optics of photographed phantoms: where the camera stands, what lies in its way, and how it records.

Pictures are (B, 3, H, W) float32, 0..1. `patient` holds what a person or a practice keeps from picture to picture
(hair, camera, dermatoscope), `image` what changes with each.
"""

import math

import torch
from torch.nn import functional as F

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import axis, filtered, per_image, plane, squared_frequency
from nbutils.phantoms.shapes import smooth_field, smoothstep


def photograph(drawing: torch.Tensor, image: Draws, canvas: int, margin: float) -> torch.Tensor:
    """Return what the camera sees of a drawing (B, 3, N, N), `margin` times as wide: turned, shifted, near or far."""
    angle, zoom = image.uniform(0, 2 * math.pi), image.uniform(0.85, 1.15)
    cos, sin = zoom * angle.cos() / margin, zoom * angle.sin() / margin
    x, y = image.uniform(-0.14, 0.14, (2,)).unbind(-1)
    affine = torch.stack([torch.stack([cos, -sin, x], -1), torch.stack([sin, cos, y], -1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(affine, [len(angle), 3, canvas, canvas], align_corners=False)
    return F.grid_sample(drawing, grid, padding_mode="reflection", align_corners=False)


def hair(picture: torch.Tensor, patient: Draws, image: Draws) -> torch.Tensor:
    """Lay up to twelve gently bent hairs over the picture, of the person's colour and thickness."""
    most, line = 12, axis(picture.shape[-1])
    number = patient.uniform(2, most + 1).floor()
    angle = patient.uniform(0, math.pi)[:, None] + image.normal(0, 0.45, (most,))
    across = image.uniform(-1.1, 1.1, (most,))[..., None, None]
    bend = image.normal(0, 0.18, (most,))[..., None, None]
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    x, y = line[None, :], line[:, None]
    distance = (cos * y - sin * x - across - bend * (cos * x + sin * y).square()).abs()  # (B, hairs, H, W)
    thick = per_image(patient.uniform(0.008, 0.016))[..., None]
    hairs = 1 - smoothstep(distance, 0.5 * thick, 1.3 * thick)
    hairs = (hairs * (torch.arange(most) < number[:, None])[..., None, None]).amax(1)[:, None]  # (B, 1, H, W)
    fair = patient.chance(0.2)[:, None, None, None]
    colour = torch.tensor([0.16, 0.11, 0.08])[:, None, None] + fair * torch.tensor([0.62, 0.5, 0.36])[:, None, None]
    return picture + (colour - picture) * hairs * (0.85 - 0.25 * fair)


def bubbles(picture: torch.Tensor, image: Draws) -> torch.Tensor:
    """Leave air in the immersion gel: rings with a bright rim and a glint."""
    line = axis(picture.shape[-1])
    centre = image.uniform(-1, 1, (6, 2))[..., None, None, :]  # (B, bubbles, 1, 1, 2)
    radius = image.uniform(0.03, 0.13, (6,))[..., None, None]
    x, y = (line[None, :] - centre[..., 0]) / radius, (line[:, None] - centre[..., 1]) / radius
    from_rim = (x.square() + y.square()).sqrt_().sub_(0.9).abs_()
    ring = 1 - smoothstep(from_rim.amin(1), 0.02, 0.2)[:, None]
    from_glint = (x - 0.4).square() + (y + 0.4).square()
    glint = 1 - smoothstep(from_glint.amin(1), 0.01, 0.09)[:, None]
    return picture + (0.95 - picture) * (0.35 * ring + 0.8 * glint).clamp(0, 1)


def ruler(picture: torch.Tensor, image: Draws) -> torch.Tensor:
    """Show the scale of the contact plate: ticks along one side, every fifth one longer."""
    line = axis(picture.shape[-1])
    step, edge = image.uniform(0.08, 0.16), image.uniform(0.8, 0.95)
    position = line / step[:, None]  # (B, W), in ticks
    tick = 1 - smoothstep((position - position.round()).abs() * step[:, None], 0.006, 0.016)
    longer = 0.08 + 0.08 * (position.round() % 5 == 0)
    depth = line[None, :, None] - per_image(edge)  # (B, H, 1)
    marks = tick[:, None] * (depth > -longer[:, None]) * (depth < 0.01)  # (B, H, W)
    side = image.chance(0.5)[:, None, None]
    marks = torch.where(side > 0, marks, marks.transpose(1, 2))[:, None]
    return picture * (1 - 0.75 * marks)


def expose(picture: torch.Tensor, patient: Draws, image: Draws) -> torch.Tensor:
    """Light the picture, focus, and record it: uneven light, vignette, colour cast, exposure, blur and noise."""
    pixels = picture.shape[-1]
    x, y = plane(axis(pixels))
    from_centre = x.square() + y.square()
    slope = image.normal(0, 0.05, (2,))
    light = 1 + per_image(slope[:, 0]) * x + per_image(slope[:, 1]) * y
    light = light - per_image(patient.uniform(0, 0.16)) * from_centre
    tube = per_image(patient.chance(0.1))  # the rim of the dermatoscope, black in the corners
    light = light * (1 - tube * smoothstep(from_centre.sqrt(), 1.05, 1.2))
    cast = patient.normal(1, 0.05, (3,)) * image.normal(1, 0.015, (3,)) * image.normal(1, 0.06)[:, None]
    focus = per_image(image.uniform(0.1, 0.9).square() * pixels / 128)  # sd in pixels of the canvas
    transfer = torch.exp(-2 * math.pi**2 * focus.square() * squared_frequency(pixels))[:, None]
    picture = filtered(picture * light[:, None], transfer)
    gamma = (patient.uniform(0.85, 1.25))[:, None, None, None]
    picture = (picture * cast[..., None, None]).clamp(1e-3, 1) ** gamma
    noise = smooth_field(image, 96, pixels) * per_image(patient.uniform(0.004, 0.02))
    return picture + noise[:, None]
