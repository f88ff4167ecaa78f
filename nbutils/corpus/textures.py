"""The patterns of the corpus: each returns tones (B, S, S) in 0..1, 0 = the first colour, 1 = the second."""

import math
from collections.abc import Callable

import torch

from nbutils.corpus.draws import Draws
from nbutils.corpus.fields import Frame, noise, octaves, smoothstep, strokes, tree, wide
from nbutils.corpus.scenes import FILLINGS

TABLE_SIDE = 16  # cells after which a lattice repeats: more than a canvas shows, and a power of two


def paint(kinds: torch.Tensor, frame: Frame, draws: Draws) -> torch.Tensor:
    """Return the tones of B patterns, (B, S, S) in 0..1; kinds: (B,) int64, indices into FILLINGS."""
    tones = torch.zeros_like(frame.x)
    for kind, name in enumerate(FILLINGS):
        rows = (kinds == kind).nonzero()[:, 0]
        if len(rows) and name in PATTERNS:
            tones[rows] = PATTERNS[name](frame.rows(rows), draws.rows(rows))
    return tones


def _bands(phase: torch.Tensor, duty, pixel) -> torch.Tensor:
    """Return 1 in bands that take the part `duty` of each turn of `phase`, else 0; pixel: size of one in turns."""
    distance = phase.sub(phase.floor()).sub_(0.5).abs_().sub_(duty / 2)
    return distance.div_(-pixel).add_(0.5).clamp_(0, 1)


def _shift(draws: Draws, name: str = "shift") -> torch.Tensor:
    return wide(draws.uniform(name))


def _contrast(field: torch.Tensor, draws: Draws, low: float, high: float) -> torch.Tensor:
    """Press a field of unit variance into 0..1, softly or harshly."""
    return field.mul_(wide(draws.uniform("gain", low, high))).sigmoid_()


def gradient(frame: Frame, draws: Draws) -> torch.Tensor:
    """From one side to the other, or from the middle outwards."""
    linear = frame.x / wide(frame.extent) / 2 + 0.5
    radial = (frame.x.square() + frame.y.square()).sqrt() / wide(frame.extent)
    return torch.where(wide(draws.chance("radial", 0.35)), radial, linear).clamp_(0, 1)


def striped(frame: Frame, draws: Draws) -> torch.Tensor:
    """Parallel stripes."""
    return _bands(frame.x / wide(frame.period) + _shift(draws), wide(draws.uniform("duty", 0.35, 0.6)), frame.pixel)


def checkered(frame: Frame, draws: Draws) -> torch.Tensor:
    """A checkerboard."""
    cell, pixel = wide(frame.period) * 1.6, frame.pixel / 1.6
    first = _bands(frame.x / cell + _shift(draws, "x"), 0.5, pixel)
    second = _bands(frame.y / cell + _shift(draws, "y"), 0.5, pixel)
    return first + second - 2 * first * second


def meshed(frame: Frame, draws: Draws) -> torch.Tensor:
    """A grid of lines."""
    cell, duty = wide(frame.period) * 1.25, wide(draws.uniform("duty", 0.2, 0.36))
    first = _bands(frame.x / cell + _shift(draws, "x"), duty, frame.pixel / 1.25)
    return torch.maximum(first, _bands(frame.y / cell + _shift(draws, "y"), duty, frame.pixel / 1.25))


def dotted(frame: Frame, draws: Draws) -> torch.Tensor:
    """Dots, in rows or scattered, alike or not."""
    scatter, uneven = draws.uniform("scatter", -0.25, 0.65).clamp_min(0), draws.uniform("uneven", 0, 0.5)
    distance, _, size, _ = _cells(frame, draws, scatter, 1.2)
    radius = wide(draws.uniform("radius", 0.27, 0.38)) * (1 - wide(uneven) * size)
    return distance.sub_(radius).div_(-frame.pixel / 1.2).add_(0.5).clamp_(0, 1)


def cellular(frame: Frame, draws: Draws) -> torch.Tensor:
    """Voronoi cells of different tones, most with walls."""
    first, second, tone, next_tone = _cells(frame, draws, draws.uniform("scatter", 0.5, 0.95), 1.4)
    gap, pixel = second.sub_(first), frame.pixel / 1.4
    share = (gap / pixel).clamp_(0, 1).mul_(0.5).add_(0.5)
    tone = (next_tone + (tone - next_tone) * share) * wide(draws.uniform("variety", 0.35, 0.9))
    wall = wide(draws.uniform("wall", 0.08, 0.2) * draws.chance("walled", 0.75))
    walls = gap.sub_(wall).div_(-2 * pixel).add_(0.5).clamp_(0, 1) * (wall > 0)
    return tone + (1 - tone) * walls


def _cells(frame: Frame, draws: Draws, scatter: torch.Tensor, coarseness: float):
    """Return the distances (in cells) to the nearest and the next point of a scattered lattice, and their tones.

    scatter: (B,) 0 = a square lattice, 1 = anywhere in the cell. Cellular texture after Worley 1996 (SIGGRAPH).
    """
    cell = wide(frame.period) * coarseness
    u, v = frame.x / cell + _shift(draws, "x"), frame.y / cell + _shift(draws, "y")
    column, row = u.floor(), v.floor()
    u, v = u - column, v - row
    columns = [(column.long() + right) & (TABLE_SIDE - 1) for right in (-1, 0, 1)]
    rows = [((row.long() + down) & (TABLE_SIDE - 1)) * TABLE_SIDE for down in (-1, 0, 1)]
    offsets = (draws.uniform("points", -0.5, 0.5, (2, TABLE_SIDE**2)) * scatter[:, None, None]).add_(0.5)
    tones = frame.tints.uniform("tones", shape=(TABLE_SIDE**2,))
    first, second = torch.full_like(u, 9.0), torch.full_like(u, 9.0)
    tone, next_tone = torch.zeros_like(u), torch.zeros_like(u)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            index = (rows[down + 1] + columns[right + 1]).flatten(1)
            dx = offsets[:, 0].gather(1, index).view_as(u).add_(right).sub_(u)
            dy = offsets[:, 1].gather(1, index).view_as(u).add_(down).sub_(v)
            distance, own = dx.square_().add_(dy.square_()), tones.gather(1, index).view_as(u)
            nearest, nearer = distance < first, distance < second
            next_tone = torch.where(nearest, tone, torch.where(nearer, own, next_tone))
            second = torch.where(nearest, first, torch.minimum(distance, second))
            tone = torch.where(nearest, own, tone)
            first = torch.minimum(distance, first)
    return first.sqrt_(), second.sqrt_(), tone, next_tone


def cloudy(frame: Frame, draws: Draws) -> torch.Tensor:
    """Smooth noise, of a steep spectrum."""
    period, slope = frame.period * 1.7, draws.uniform("slope", 0.8, 1.7)
    return _contrast(octaves(frame.tints, frame.line, period, slope, 4, 0.4), draws, 1.2, 3.5)


def rough(frame: Frame, draws: Draws) -> torch.Tensor:
    """Noise of a flat spectrum: all sizes at once."""
    period, slope = draws.uniform("period", 0.35, 0.7), draws.uniform("slope", 0.1, 0.6)
    return _contrast(octaves(frame.tints, frame.line, period, slope, 4, 0.35), draws, 1.2, 2.5)


def grainy(frame: Frame, draws: Draws) -> torch.Tensor:
    """Grain, hardly larger than a pixel."""
    return _contrast(noise(draws, "grain", frame.line, draws.uniform("period", 0.065, 0.1), 0.065), draws, 0.8, 2.0)


def marbled(frame: Frame, draws: Draws) -> torch.Tensor:
    """Veins: waves that noise has led astray."""
    astray = octaves(draws, frame.line, frame.period * 2.2, 1.0, 3, 0.5)
    astray = astray * wide(draws.uniform("astray", 0.3, 0.6)) + frame.x / wide(frame.period) / 2.2
    waves = astray.add_(_shift(draws)).mul_(2 * math.pi).sin_().mul_(0.5).add_(0.5)
    return waves ** wide(draws.uniform("thinness", 0.7, 2.5))


def streaked(frame: Frame, draws: Draws) -> torch.Tensor:
    """Streaks like brush strokes: waves across of many frequencies, slowly changing along."""
    waves = 9
    across, along = draws.uniform("across", 0.5, 5.0, (waves,)), draws.uniform("along", -0.45, 0.45, (waves,))
    phase = draws.uniform("phase", shape=(waves,))
    total = torch.zeros_like(frame.x)
    for k in range(waves):
        angle = (frame.x * wide(across[:, k])).addcmul_(frame.y, wide(along[:, k])).add_(wide(phase[:, k]))
        total += angle.mul_(2 * math.pi).cos_()
    return _contrast(total / math.sqrt(waves / 2), draws, 1.2, 3.0)


def wavy(frame: Frame, draws: Draws) -> torch.Tensor:
    """Stripes that wind."""
    u, v = frame.x / wide(frame.period), frame.y / wide(frame.period)
    bend = v.div_(wide(draws.uniform("length", 2.0, 3.5))).add_(_shift(draws, "bend")).mul_(2 * math.pi).sin_()
    phase = bend.mul_(wide(draws.uniform("height", 0.35, 0.6))).add_(u)
    return _bands(phase.add_(_shift(draws)), wide(draws.uniform("duty", 0.35, 0.6)), 1.3 * frame.pixel)


def ringed(frame: Frame, draws: Draws) -> torch.Tensor:
    """Rings about a centre."""
    radius = (frame.x.square() + frame.y.square()).sqrt_().div_(wide(frame.period) * 1.1)
    return _bands(radius.add_(_shift(draws)), wide(draws.uniform("duty", 0.35, 0.6)), frame.pixel / 1.1)


def swirled(frame: Frame, draws: Draws) -> torch.Tensor:
    """Arms that wind about a centre, from spirals to rays."""
    radius, period = (frame.x.square() + frame.y.square()).sqrt_(), wide(frame.period)
    arms = wide(2 + draws.choice("arms", [1, 1, 1, 1, 1, 1]).float())
    winding = wide(draws.uniform("winding", -1.0, 1.0)) / (1.6 * period)
    phase = arms * torch.atan2(frame.y, frame.x) / (2 * math.pi) + winding * radius
    slope = (winding.square() + (arms / (2 * math.pi * radius.clamp_min(0.03))).square()).sqrt_()
    return _bands(phase, wide(draws.uniform("duty", 0.4, 0.6)), slope * frame.pixel * period)


def patchy(frame: Frame, draws: Draws) -> torch.Tensor:
    """Dead leaves: patches of all sizes that hide each other (Lee, Mumford and Huang 2001, IJCV 41).

    Areas follow the scale-invariant law, radii with density r^-3 between two bounds. Discs and rectangles.
    """
    leaves = 56
    smallest, largest = frame.period[:, None] * 0.42, frame.period[:, None] * 1.9
    share = draws.uniform("radius", shape=(leaves,))
    radius = (smallest**-2 * (1 - share) + largest**-2 * share).rsqrt()  # (B, leaves)
    centre, angle = draws.uniform("centre", -1.1, 1.1, (leaves, 2)), draws.uniform("angle", 0, math.pi, (leaves,))
    longer, slope = draws.uniform("longer", 0.45, 1.0, (leaves,)), draws.uniform("slope", -0.2, 0.2, (leaves,))
    cos, sin = (angle.cos() / radius)[..., None], (angle.sin() / radius)[..., None]
    x, y = frame.line - centre[..., :1], frame.line - centre[..., 1:]  # (B, leaves, S)
    # along and across each leaf, in its radii: sums of what depends on x alone and on y alone
    across = longer[..., None]
    parts = [part.unbind(1) for part in (cos * x, sin * y, -sin * x / across, cos * y / across)]
    tones, slopes = frame.tints.uniform("tones", shape=(leaves,)).unbind(1), slope.unbind(1)
    sharpness = (radius / (2 / len(frame.line))).unbind(1)
    tone = wide(draws.uniform("ground")).expand_as(frame.x).clone()
    for k in range(leaves):
        u_x, u_y, v_x, v_y = (part[k] for part in parts)  # (B, S) each
        u, v = u_x[:, None] + u_y[:, :, None], v_x[:, None] + v_y[:, :, None]
        own = (u * wide(slopes[k])).add_(wide(tones[k]))
        is_disc = k % 5 < 3
        distance = u.square_().add_(v.square_()).sqrt_() if is_disc else torch.maximum(u.abs_(), v.abs_())
        cover = distance.sub_(1).mul_(wide(-sharpness[k])).add_(0.5).clamp_(0, 1)
        tone += cover.mul_(own.sub_(tone))
    return tone.clamp_(0, 1)


def branched(frame: Frame, draws: Draws) -> torch.Tensor:
    """Branching strokes that grow in from the border."""
    trunks = 3
    side = draws.uniform("side", 0, 2 * math.pi)[:, None] + torch.arange(trunks) * (2 * math.pi / trunks)
    side = side + draws.uniform("aside", -0.6, 0.6, (trunks,))
    start = torch.stack([side.cos(), side.sin()], -1) * 1.25  # (B, trunks, 2)
    heading = side + math.pi + draws.uniform("turn", -0.5, 0.5, (trunks,))
    length, radius = draws.uniform("length", 1.0, 1.9, (trunks,)), draws.uniform("radius", 0.085, 0.15, (trunks,))
    field = strokes(*tree(draws, start, heading, length, radius), frame.line)
    softness = (0.6 * (2 / len(frame.line)) / radius.mean(1)).clamp(0.12, 0.42)  # about a pixel at the walls
    return smoothstep(field.sub_(0.5).div_(wide(softness)))


PATTERNS: dict[str, Callable[[Frame, Draws], torch.Tensor]] = {
    pattern.__name__: pattern
    for pattern in (
        gradient, striped, checkered, meshed, dotted, cellular, cloudy, rough, grainy, marbled, streaked, wavy,
        ringed, swirled, patchy, branched,
    )
}  # fmt: skip
