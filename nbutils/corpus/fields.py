"""Where patterns live: turned and bent coordinates, smooth random fields, and strokes; in batches of (B, S, S) float32.

The canvas spans -1..1 on both axes, x to the right and y down, so that a scene is the same at any number of pixels.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.corpus.draws import Draws


def axis(pixels: int) -> torch.Tensor:
    """Return the pixel centres along one side of the canvas, (pixels,)."""
    return (torch.arange(pixels) + 0.5) * (2 / pixels) - 1


def wide(values: torch.Tensor) -> torch.Tensor:
    """Let one number per image, (B,), broadcast with pixels: (B, 1, 1)."""
    return values[:, None, None]


def smoothstep(values: torch.Tensor) -> torch.Tensor:
    """Return a soft step: 0 up to -1, 1 from 1 on, a cubic between; changes `values` in place."""
    t = values.add_(1).mul_(0.5).clamp_(0, 1)
    return t.square().mul_(t.mul_(-2).add_(3))


@dataclass(frozen=True)
class Frame:
    """Where the pattern of each of B images lies.

    line: (S,) pixel centres.
    x, y: (B, S, S) coordinates from the pattern's centre; the pattern runs along x.
    period: (B,) its period; extent: (B,) how far it reaches, both in canvas units.
    tints: draws of its tones; others give other tones to the same cells and patches, and other noise.
    """

    line: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    period: torch.Tensor
    extent: torch.Tensor
    tints: Draws

    @property
    def pixel(self) -> torch.Tensor:
        """Size of a pixel in periods, (B, 1, 1)."""
        return wide((2 / len(self.line)) / self.period)

    def rows(self, indices: torch.Tensor) -> "Frame":
        """Return the frames of some of the images."""
        parts = (part[indices] for part in (self.x, self.y, self.period, self.extent))
        return Frame(self.line, *parts, self.tints.rows(indices))


def turned(line: torch.Tensor, centre: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return coordinates (B, S, S) each, from `centre`, (B, 2), along axes turned by `angle`, (B,) radians."""
    x, y = line[None, None, :] - wide(centre[:, 0]), line[None, :, None] - wide(centre[:, 1])
    cos, sin = wide(angle.cos()), wide(angle.sin())
    return cos * x + sin * y, cos * y - sin * x


def noise(draws: Draws, name: str, line: torch.Tensor, period: torch.Tensor, finest: float) -> torch.Tensor:
    """Return a random field of about unit variance, (B, S, S): a cubic spline through normals on a grid.

    period: (B,) distance of the grid's knots, nowhere below `finest`.
    """
    knots = math.ceil(2 / finest) + 4
    values = draws.normal(name, (knots, knots))
    position = (line + 1) / period[:, None] + draws.uniform(f"{name} shift")[:, None]  # (B, S)
    t = (position[:, :, None] - torch.arange(-1, knots - 1)).abs()  # (B, S, knots)
    basis = torch.where(t < 1, 2 / 3 - t.square() + t**3 / 2, (2 - t).clamp_min(0) ** 3 / 6)
    basis = basis / 0.69  # keeps the variance at 1, on average over positions
    return basis @ values @ basis.transpose(1, 2)


def octaves(draws: Draws, line: torch.Tensor, period: torch.Tensor, slope, count: int, finest: float):
    """Return a sum of `count` fields of unit variance altogether, each half as coarse as the one before, (B, S, S).

    slope: (B,) or number; the amplitude falls as frequency ** -slope.
    """
    total, power = 0.0, 0.0
    for octave in range(count):
        weight = torch.as_tensor(0.5**octave) ** torch.as_tensor(slope)
        least = max(finest / 2**octave, 0.06)  # finer than a pixel at 32 px would only alias
        field = noise(draws, f"octave {octave}", line, (period / 2**octave).clamp_min(least), least)
        total, power = total + field * wide(weight.expand(len(draws))), power + weight**2
    return total / wide(torch.as_tensor(power).sqrt().expand(len(draws)))


def blur(pictures: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Blur (B, C, S, S) by Gaussians of standard deviation `width`, (B,), in canvas units; mirrored at the border."""
    line = axis(pictures.shape[-1])
    sources = torch.stack([line, -2 - line, 2 - line])  # (3, S): the pixels and their mirror images
    scale = -0.5 / width.clamp_min(1e-3).square()[:, None, None, None]
    kernel = (scale * (line[:, None, None] - sources).square()).clamp_min(-60).exp().sum(2)  # (B, S, S)
    kernel = (kernel / kernel.sum(-1, keepdim=True))[:, None]  # (B, 1, S, S)
    return kernel @ pictures @ kernel.transpose(2, 3)


def tree(draws: Draws, start, heading, length, radius, steps: int = 20):
    """Return branching strokes for `strokes`: points (B, P, 2), radii (B, P) and spacing (B, P).

    Each of L trunks bears two twigs, and they two each. start: (B, L, 2); heading (radians), length, radius: (B, L).
    steps: points of each of them.
    """
    points, radii, spacing = [], [], []
    for level in range(3):
        paths, angles = _walk(draws.part(f"level {level}"), start, heading, length, steps)
        points.append(paths.flatten(1, 2))
        taper = torch.linspace(1, 0.65, steps)
        radii.append((radius[..., None] * taper).flatten(1))
        spacing.append((length / steps).repeat_interleave(steps, 1))
        start, heading, length, radius = _twigs(draws.part(f"twigs {level}"), paths, angles, length, radius)
    return torch.cat(points, 1), torch.cat(radii, 1), torch.cat(spacing, 1)


def _walk(draws: Draws, start, heading, length, steps: int):
    """Return smoothly wandering paths (B, L, steps, 2) and their headings (B, L, steps)."""
    bends = draws.normal("bends", (heading.shape[1], 2))
    along = torch.linspace(0, 1, steps)
    course = bends[..., :1] * 0.5 * along + bends[..., 1:] * 0.25 * torch.sin(2 * math.pi * along)
    angles = heading[..., None] + course
    moves = torch.stack([angles.cos(), angles.sin()], -1) * (length / steps)[..., None, None]
    return start[:, :, None] + moves.cumsum(2), angles


def _twigs(draws: Draws, paths, angles, length, radius):
    """Return start, heading, length and radius of two twigs for each path, one to either side: (B, 2 L, ...)."""
    batch, trunks, steps, _ = paths.shape
    where = draws.uniform("where", 0.3, 0.85, (trunks, 2)).mul(steps).long()  # (B, L, 2)
    turn = draws.uniform("turn", 0.5, 1.1, (trunks, 2)) * torch.tensor([-1.0, 1.0])
    start = paths.gather(2, where[..., None].expand(-1, -1, -1, 2)).reshape(batch, -1, 2)
    heading = (angles.gather(2, where) + turn).reshape(batch, -1)
    shorter = (length[..., None] * draws.uniform("shorter", 0.45, 0.75, (trunks, 2))).reshape(batch, -1)
    return start, heading, shorter, (radius * 0.68).repeat_interleave(2, 1)


def strokes(points: torch.Tensor, radii: torch.Tensor, spacing, line: torch.Tensor) -> torch.Tensor:
    """Return a field (B, S, S) that is about 1 on the middle of strokes and 1/2 at their walls.

    points: (B, P, 2), `spacing` apart, (B, P); radii: (B, P). A sum of round Gaussians; each is a product of its x and
    its y part, so that the sum is one matrix product.
    """
    sigma = radii / math.sqrt(2 * math.log(2))
    weight = spacing / (sigma * math.sqrt(2 * math.pi))
    scale = -0.5 / sigma.square()[..., None]
    # bounded, because numbers too small to be normal make arithmetic slow
    across = ((scale * (line - points[..., :1]).square()).clamp_min(-30)).exp() * weight[..., None]  # (B, P, S)
    down = ((scale * (line - points[..., 1:]).square()).clamp_min(-30)).exp()
    return down.transpose(1, 2) @ across
