"""Drawing tools of the phantoms, all in batches: (B, H, W) float32 in patch units, where the canvas spans -1..1."""

import math
from functools import cache

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import direction, per_image, plane


def smoothstep(values: torch.Tensor, low, high) -> torch.Tensor:
    """Return a soft step: 0 below low, 1 above high, a cubic between."""
    t = (values - low).div_(high - low).clamp_(0, 1)  # in place, because most of the time goes into memory
    return t.square().mul_(t.mul_(-2).add_(3))


def hump(square: torch.Tensor) -> torch.Tensor:
    """Return nearly exp(-square), several times as fast: 1 at 0, and 0 from 3 on."""
    rest = (1 - square / 3).clamp_min_(0)
    return rest.square().mul_(rest)


def smooth_field(draws: Draws, cells: int, pixels: int) -> torch.Tensor:
    """Return a random field (B, pixels, pixels) of about unit variance: a cubic spline of `cells` normals a side."""
    knots = draws.normal(shape=(cells + 3, cells + 3))
    basis = _spline_basis(cells, pixels)  # (pixels, cells + 3)
    return basis @ knots @ basis.T


@cache
def _spline_basis(cells: int, pixels: int) -> torch.Tensor:
    """Return the cubic B-splines at each pixel centre, (pixels, cells + 3), scaled to keep unit variance on average."""
    position = (torch.arange(pixels) + 0.5) * cells / pixels
    t = (position[:, None] - torch.arange(-1, cells + 2)).abs()
    basis = torch.where(t < 1, 2 / 3 - t.square() + t**3 / 2, (2 - t).clamp_min(0) ** 3 / 6)
    return basis / basis.square().sum(1).mean().sqrt()


def splats(points: torch.Tensor, radii: torch.Tensor, weights: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Return the sum of P round Gaussians in each image, (B, H, W).

    points: (B, P, 2) as x, y; radii: (B, P) standard deviations; weights: (B, P) heights; line: (W,) pixel centres.
    A Gaussian is a product of its x and its y part, so that the sum is one matrix product.
    """
    scale = -0.5 / radii.square()[..., None]  # (B, P, 1)
    # bounded, because numbers too small to be normal make arithmetic slow
    x_part, y_part = (  # (B, P, W) and (B, P, H); in place, because most of the time goes into memory
        (line - points[..., i : i + 1]).square_().mul_(scale).clamp_min_(-30).exp_() for i in range(2)
    )
    x_part.mul_(weights[..., None])
    return y_part.transpose(1, 2) @ x_part  # (B, H, W)


def walk(draws: Draws, start: torch.Tensor, heading: torch.Tensor, step, bend: float, length: int) -> torch.Tensor:
    """Return L paths of `length` points that wander from `start`, (B, L, length, 2).

    start: (B, L, 2); heading: (B, L) radians; step: length of a step, number or (B, L); bend: sd of the turns, radians.
    """
    turns = draws.normal(0.0, bend, (heading.shape[1], length))
    angles = heading[..., None] + turns.cumsum(-1).cumsum(-1) / math.sqrt(length)  # a smooth, drifting course
    return start[:, :, None] + (direction(angles) * torch.as_tensor(step)[..., None, None]).cumsum(2)


def tubes(paths: torch.Tensor, radii: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Draw paths as tubes with soft walls, (B, H, W) in 0..1.

    paths: (B, L, length, 2); radii: (B, L, length), 0 = invisible; neighbours must lie closer than a radius.
    """
    batch = len(paths)
    spacing = (paths[:, :, 1:] - paths[:, :, :-1]).norm(dim=-1).mean(-1, keepdim=True)  # (B, L, 1)
    sigma = radii.clamp_min(1e-3) / math.sqrt(2 * math.log(2))  # half height lies at the wall
    weights = torch.where(radii > 0, spacing / (sigma * math.sqrt(2 * math.pi)), 0.0)
    total = splats(paths.reshape(batch, -1, 2), sigma.reshape(batch, -1), weights.reshape(batch, -1), line)
    return smoothstep(total, 0.3, 0.7)


def outline(x: torch.Tensor, y: torch.Tensor, draws: Draws, stretch, lobes) -> torch.Tensor:
    """Return each pixel's distance from the centre in units of the radius of a random closed outline, (B, H, W).

    x, y: (B, H, W) relative to the centre, in units of the mean radius; stretch: (B,) ratio of the axes >= 1;
    lobes: (B,) size of the harmonics 2 to 6 as a part of the radius. 1 lies on the outline, less is inside.
    """
    angle = per_image(draws.uniform(0, 2 * math.pi))
    u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    root = per_image(torch.as_tensor(stretch)).sqrt()
    u, v = u / root, v * root
    steps = 1024  # finer than any pixel, so that the radius is looked up and not computed at each of them
    turn = torch.linspace(-math.pi, math.pi, steps)
    orders = torch.arange(2, 7)[:, None]
    waves = torch.cat([(orders * turn).cos() / (orders - 1), (orders * turn).sin() / (orders - 1)])  # (10, steps)
    amplitude = draws.normal(shape=(10,)) * torch.as_tensor(lobes)[..., None]  # (B, 10)
    radius = (1 + amplitude @ waves).clamp_min(0.3)  # (B, steps)
    index = ((torch.atan2(v, u) + math.pi) * ((steps - 1) / (2 * math.pi))).long()
    return (u.square() + v.square()).sqrt() / radius.gather(1, index.flatten(1)).view_as(u)


def honeycomb(draws: Draws, line: torch.Tensor, cells, wander) -> torch.Tensor:
    """Return a net of lines (1) round rows of holes (0), (B, N, N) in 0..1: three crossed waves, bent by a field.

    cells: holes along the canvas, number or (B,); wander: how far the net is bent, in holes, number or (B, 1, 1).
    """
    pixels = len(line)
    turn = draws.uniform(0, math.pi)
    bend_x, bend_y = (wander * smooth_field(draws, 6, pixels) for _ in range(2))
    scale = per_image(torch.as_tensor(cells) * torch.ones(len(turn)))
    x, y = (centres * scale / 2 + bend for centres, bend in zip(plane(line), (bend_x, bend_y), strict=True))
    waves = 0.0
    for third in range(3):
        angle = per_image(turn + third * math.pi / 3)
        wave = 2 * math.pi * angle.cos() * x
        waves = wave.addcmul_(2 * math.pi * angle.sin(), y).cos_().add_(waves)
    return 1 - smoothstep(waves, -1.2, 1.2)
