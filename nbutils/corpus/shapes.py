"""The shapes of the corpus: signed distances from outlines, (B, S, S), negative inside, in units of the radius."""

import math
from collections.abc import Callable

import torch

from nbutils.corpus.draws import Draws
from nbutils.corpus.fields import tree, wide
from nbutils.corpus.scenes import SHAPES


def distances(kinds: torch.Tensor, u: torch.Tensor, v: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return signed distances from the outlines of B shapes, (B, S, S).

    kinds: (B,) int64, indices into SHAPES; u, v: (B, S, S) coordinates from the centre, 1 = the radius. Near the
    outline they are distances; farther off only their sign and order count.
    """
    result = torch.empty_like(u)
    for kind, name in enumerate(SHAPES):
        rows = (kinds == kind).nonzero()[:, 0]
        if len(rows):
            result[rows] = OUTLINES[name](u[rows], v[rows], draws.rows(rows))
    return result


def _norm(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (u.square() + v.square()).sqrt_()


def disc(u, v, draws):
    """A round disc."""
    return _norm(u, v) - 1


def ellipse(u, v, draws):
    """An ellipse whose axes are clearly different."""
    long, short = 1.15, wide(draws.uniform("short", 0.5, 0.75))
    size = _norm(u / long, v / short)
    return size * (size - 1) / _norm(u / long**2, v / short**2).clamp_min(1e-3)


def blob(u, v, draws):
    """A round outline with irregular lobes."""
    angle, radius = torch.atan2(v, u), _norm(u, v)
    heights, phases = draws.normal("heights", (4,)) * 0.14, draws.uniform("phases", 0, 2 * math.pi, (4,))
    outline = 0.95 * torch.ones_like(u)
    for k in range(4):
        order = k + 2
        outline += (angle * order + wide(phases[:, k])).cos_().mul_(wide(heights[:, k]) / order**0.25)
    return (radius - outline.clamp_min(0.35)) * 0.9


def flower(u, v, draws):
    """A rosette of five to seven petals."""
    petals = wide(5 + draws.choice("petals", [1, 1, 1]).float())
    return (_norm(u, v) - 0.85 - 0.26 * torch.cos(petals * torch.atan2(v, u))) * 0.7


def _polygon(u, v, corners: int, radius: float) -> torch.Tensor:
    """Return the distance from a regular polygon, one corner up; `radius` is that of its corners."""
    turns = [2 * math.pi * (k + 0.5) / corners - math.pi / 2 for k in range(corners)]
    sides = torch.stack([math.cos(turn) * u + math.sin(turn) * v for turn in turns])
    return sides.amax(0) - radius * math.cos(math.pi / corners)


def triangle(u, v, draws):
    """A triangle of equal sides."""
    return _polygon(u, v + 0.12, 3, 1.25)


def square(u, v, draws):
    """A square, upright but for its turn."""
    return torch.maximum(u.abs(), v.abs()) - 0.86


def diamond(u, v, draws):
    """A rhombus on its tip."""
    narrow = wide(draws.uniform("narrow", 0.5, 0.72))
    return (u.abs() / narrow + v.abs() - 1.15) / (1 + narrow**-2).sqrt()


def star(u, v, draws):
    """A star of five points."""
    angle = torch.atan2(u, -v)  # from the upper point
    sector = 2 * math.pi / 5
    folded = ((angle / sector + 0.5) % 1 - 0.5).abs_() * sector
    radius = _norm(u, v)
    x, y = radius * folded.sin(), radius * folded.cos()
    tip, dent = 1.15, 0.5
    dent_x, dent_y = dent * math.sin(sector / 2), dent * math.cos(sector / 2)
    normal_x, normal_y = tip - dent_y, dent_x
    return (x * normal_x + (y - tip) * normal_y) / math.hypot(normal_x, normal_y)


def cross(u, v, draws):
    """An upright cross of two bars."""
    width = wide(draws.uniform("width", 0.26, 0.36))
    a, b = u.abs(), v.abs()
    first, second = torch.maximum(a - 1.05, b - width), torch.maximum(a - width, b - 1.05)
    return torch.minimum(first, second)


def bar(u, v, draws):
    """A long rectangle."""
    return torch.maximum(u.abs() - 1.15, v.abs() - wide(draws.uniform("width", 0.22, 0.36)))


def ring(u, v, draws):
    """A ring."""
    return (_norm(u, v) - 0.82).abs_().sub_(wide(draws.uniform("width", 0.16, 0.26)))


def crescent(u, v, draws):
    """A disc without its overlap with a second one."""
    away = wide(draws.uniform("away", 0.5, 0.7))
    return torch.maximum(_norm(u, v) - 1, 0.92 - _norm(u - away, v))


def wave(u, v, draws):
    """A winding line."""
    height, turns = wide(draws.uniform("height", 0.3, 0.45)), wide(draws.uniform("turns", 2.6, 4.6))
    angle = u * turns + wide(draws.uniform("phase", 0, 2 * math.pi))
    slope = (1 + (height * turns * angle.cos()).square()).sqrt_()
    off = (v - height * angle.sin()).abs_().div_(slope).sub_(wide(draws.uniform("width", 0.11, 0.17)))
    return torch.maximum(off, u.abs() - 1.15)


def spiral(u, v, draws):
    """A line that winds outwards, two turns."""
    hand = wide(draws.chance("hand", 0.5).float() * 2 - 1)
    step = 0.5
    radius, angle = _norm(u, v), torch.atan2(v * hand, u) / (2 * math.pi)
    turn = ((radius / step - angle).round() + angle).clamp(0.25, 2.1)
    return (radius - turn * step).abs_().sub_(0.115)


def branch(u, v, draws):
    """A stroke that branches upwards."""
    steps = 6
    start = torch.tensor([[[0.0, 1.1]]]).expand(len(u), -1, -1)  # (B, 1, 2)
    one = torch.ones(len(u), 1)
    points, radii, _ = tree(draws, start, -math.pi / 2 * one, 1.8 * one, 0.15 * one, steps=steps)
    nearest = torch.full_like(u, 99.0)
    for k in range(points.shape[1] - 1):
        if (k + 1) % steps:  # else the path ends here, and another begins
            nearest = torch.minimum(nearest, _off(u, v, points[:, k], points[:, k + 1]).sub_(wide(radii[:, k])))
    return nearest


def _off(u, v, first, last) -> torch.Tensor:
    """Return the distance from the straight line between two points, (B, 2) each."""
    u, v, move = u - wide(first[:, 0]), v - wide(first[:, 1]), last - first
    right, down = wide(move[:, 0]), wide(move[:, 1])
    part = (u * right).addcmul_(v, down).div_(wide(move.square().sum(1))).clamp_(0, 1)
    return u.addcmul_(part, right, value=-1).square_().add_(v.addcmul_(part, down, value=-1).square_()).sqrt_()


OUTLINES: dict[str, Callable[[torch.Tensor, torch.Tensor, Draws], torch.Tensor]] = {
    outline.__name__: outline
    for outline in (
        disc, ellipse, blob, flower, triangle, square, diamond, star, cross, bar, ring, crescent, wave, spiral,
        branch,
    )
}  # fmt: skip
