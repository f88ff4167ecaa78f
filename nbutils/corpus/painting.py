"""From a scene to pixels: background, objects one over another, light, contrast and noise."""

import math
from dataclasses import replace

import numpy as np
import torch

from nbutils.corpus import textures
from nbutils.corpus.colours import COLOURS, SHADES, rgb
from nbutils.corpus.draws import Draws
from nbutils.corpus.fields import Frame, axis, blur, noise, smoothstep, turned, wide
from nbutils.corpus.layout import Objects, place
from nbutils.corpus.scenes import COLOURFUL, LINE_SHAPES, Scene, among
from nbutils.corpus.shapes import distances

MEDIUM = SHADES.index("medium")
PERIODS = torch.tensor([[0.26, 0.36], [0.55, 0.85]])  # of fine and coarse textures, in canvas units
FIGURES = ("dotted", "branched")  # textures named after what lies on their ground
LIT_FROM = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]]).float()  # as in ATTRIBUTES["lighting"]


def paint(scene: Scene, draws: Draws, image_size: int) -> np.ndarray:
    """Paint B scenes, (B, 3, image_size, image_size) uint8; attributes as `scenes.sample` draws them."""
    line = axis(image_size)
    pictures = _canvas(scene, draws.part("canvas"), line)  # (B, 3, S, S)
    objects = place(scene, draws.part("layout"))
    if len(objects.image):
        _put(pictures, objects, _render(objects, scene, draws.part("objects"), line), draws.part("halo"))
    _light(pictures, scene, draws.part("light"), line)
    _develop(pictures, scene, draws.part("development"))
    return pictures.mul_(255).round_().clamp_(0, 255).to(torch.uint8).numpy()


def _canvas(scene: Scene, draws: Draws, line: torch.Tensor) -> torch.Tensor:
    """Paint what fills the canvas, (B, 3, S, S): a texture, or the background of objects."""
    texture = scene["shape"] < 0
    kind = torch.where(texture, scene["filling"], scene["background"])
    colour = torch.where(texture, scene["colour"], scene["background_colour"])
    shade = torch.where(texture, scene["shade"], scene["background_shade"])
    frame = _canvas_frame(scene, draws, line)
    tones = textures.paint(kind, frame, draws)
    first = _rgb(colour, shade, draws.part("colour"))
    grey = among("tone", scene["tone"], "greyscale").float()
    behind = draws.uniform("strength", 0.35, 0.9) * (1 - 0.35 * grey)  # objects must stand out, with no hue above all
    strength = torch.where(texture, 1.0, behind)
    second = _second(first, torch.where(texture, scene["accent"], -1), strength, draws.part("second"))
    figure = (texture & among("filling", kind, *FIGURES))[:, None]
    pictures = _mix(torch.where(figure, second, first), torch.where(figure, first, second), tones)
    rows = (colour == COLOURFUL).nonzero()[:, 0]
    pictures[rows] = _motley(kind[rows], frame.rows(rows), draws.rows(rows))
    rows = among("focus", scene["focus"], "blurred").nonzero()[:, 0]
    width = PERIODS[scene["scale"].clamp_min(0), 0] * draws.uniform("blur", 0.17, 0.27)
    pictures[rows] = blur(pictures[rows], width[rows])
    return pictures


def _motley(kind: torch.Tensor, frame: Frame, draws: Draws) -> torch.Tensor:
    """Paint a pattern in all hues, (B, 3, S, S): one lay-out, but tones of their own in red, green and blue."""
    batch, size = len(kind), len(frame.line)
    thrice = torch.arange(batch).repeat(3)
    tints = Draws(np.concatenate([draws.part(name).keys for name in ("red", "green", "blue")]))
    frame = replace(frame.rows(thrice), tints=tints)
    tones = textures.paint(kind[thrice], frame, draws.rows(thrice))  # (3 B, S, S)
    return tones.view(3, batch, size, size).transpose(0, 1).mul(0.9).add_(0.08)  # walls of cells are not quite white


def _canvas_frame(scene: Scene, draws: Draws, line: torch.Tensor) -> Frame:
    """Turn, shift and (some) bend the pattern of the canvas."""
    angles = torch.tensor([math.pi / 2, 0.0, math.pi / 4])  # stripes lie across the axis along which they follow
    angle = angles[scene["direction"].clamp_min(0)] + draws.uniform("lean", -0.12, 0.12)
    angle = torch.where(
        among("direction", scene["direction"], "diagonal") & draws.chance("falling", 0.5), -angle, angle
    )
    angle = torch.where(scene["direction"] < 0, draws.uniform("turn", 0, 2 * math.pi), angle)
    x, y = turned(line, draws.uniform("centre", -0.5, 0.5, (2,)), angle)
    rows = draws.chance("bent", 0.3).nonzero()[:, 0]
    bent, force = draws.rows(rows), wide(draws.uniform("force", 0.03, 0.12)[rows])
    for name, coordinate in (("bend x", x), ("bend y", y)):
        coordinate[rows] += force * noise(bent, name, line, torch.full((len(rows),), 0.8), 0.8)
    bounds = PERIODS[scene["scale"]]  # a texture without a scale takes the coarse ones
    period = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * draws.uniform("period")
    return Frame(line, x, y, period, draws.uniform("extent", 0.9, 1.4), draws.part("tints"))


def _render(objects: Objects, scene: Scene, draws: Draws, line: torch.Tensor):
    """Return colours (M, 3, S, S), covers (M, S, S) in 0..1, and distances from outlines (M, S, S) of M objects."""
    radius, own, image = objects.radius, objects.draws, objects.image
    u, v = turned(line, objects.centre, objects.angle)
    distance = distances(objects.shape, u / wide(radius), v / wide(radius), own.part("shape")).mul_(wide(radius))
    frame = _filling_frame(objects, line)
    tones = textures.paint(objects.filling, frame, own.part("filling"))
    rows = among("filling", objects.filling, "shaded").nonzero()[:, 0]
    tones[rows] = _shading(frame.rows(rows), own.rows(rows))
    rows, pixel = among("filling", objects.filling, "rimmed").nonzero()[:, 0], 2 / len(line)
    tones[rows] = (distance[rows] + wide(0.22 * radius[rows])).div_(pixel).add_(0.5).clamp_(0, 1)
    first, second = _object_colours(objects, scene, draws)
    return _mix(first, second, tones), _covers(objects, distance, scene["edge"][image], pixel), distance


def _filling_frame(objects: Objects, line: torch.Tensor) -> Frame:
    """Lay the patterns of objects about their centres, in directions of their own."""
    own, radius = objects.draws, objects.radius
    x, y = turned(line, objects.centre, own.uniform("pattern turn", 0, 2 * math.pi))
    period = (radius * own.uniform("pattern period", 0.5, 0.8)).clamp_min(0.24)
    return Frame(line, x, y, period, radius, own.part("tints"))


def _shading(frame: Frame, draws: Draws) -> torch.Tensor:
    """Return the darkness (0..1) of a ball of the objects' radius, lit from one side (Lambert)."""
    x, y = frame.x / wide(1.25 * frame.extent), frame.y / wide(1.25 * frame.extent)
    towards = (1 - x.square() - y.square()).clamp_min_(0).sqrt_()
    height = wide(draws.uniform("height", 0.5, 0.85))
    return (1.05 - towards.mul_(height).add_(x * (1 - height.square()).sqrt())).clamp_(0, 1)


def _object_colours(objects: Objects, scene: Scene, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two colours of each object, (M, 3) each; like objects of one image share them."""
    image, is_other = objects.image, objects.is_other[:, None]
    first = _rgb(scene["colour"], scene["shade"], draws.part("colour"))
    second = _second(first, scene["accent"], torch.ones(len(first)), draws.part("second"))
    other = _rgb(scene["other_colour"], torch.full_like(scene["shade"], MEDIUM), draws.part("other"))
    none = torch.full_like(scene["accent"], -1)
    other_second = _second(other, none, torch.ones(len(other)), draws.part("other second"))
    first = torch.where(is_other, other[image], first[image])
    second = torch.where(is_other, other_second[image], second[image])
    shaded = among("filling", objects.filling, "shaded")[:, None]
    is_black = first.amax(1, keepdim=True) < 0.15  # has no darker side: its other shade is a lighter one
    lit, unlit = torch.where(is_black, second, first), torch.where(is_black, first, 0.15 * first)
    return torch.where(shaded, lit, first), torch.where(shaded, unlit, second)


def _covers(objects: Objects, distance: torch.Tensor, edge: torch.Tensor, pixel: float) -> torch.Tensor:
    """Return how much each object hides, (M, S, S) in 0..1: 1 inside, 1/2 on the outline; only a line if hollow."""
    radius, own = objects.radius, objects.draws
    soft = torch.where(
        among("shape", objects.shape, *LINE_SHAPES), own.uniform("thin edge", 0.12, 0.2), own.uniform("edge", 0.25, 0.5)
    )
    width = torch.where(edge == 1, soft * radius, own.uniform("sharp edge", 0.6, 1.0) * pixel)
    line = wide((0.13 * radius).clamp_min(0.045))
    drawn = torch.where(wide(among("filling", objects.filling, "hollow")), (distance + line).abs() - line, distance)
    return smoothstep(drawn / -wide(width))


def _put(pictures: torch.Tensor, objects: Objects, rendered, draws: Draws) -> None:
    """Put objects into their pictures, slot after slot, some with a dark or bright halo about them."""
    colours, covers, distance = rendered
    haloed, halo = draws.chance("haloed", 0.25), draws.uniform("halo", -0.5, 0.3)
    reach = draws.uniform("reach", 0.08, 0.25)
    for slot in objects.slot.unique():
        rows = (objects.slot == slot).nonzero()[:, 0]
        some = rows[haloed[objects.image[rows]]]
        image = objects.image[some]
        fall = (distance[some].clamp_min(0) / -wide(reach[image])).clamp_min_(-20).exp_()
        pictures[image] *= fall.mul_(wide(halo[image])).add_(1)[:, None]
        image = objects.image[rows]
        pictures[image] = torch.lerp(pictures[image], colours[rows], covers[rows][:, None])


def _light(pictures: torch.Tensor, scene: Scene, draws: Draws, line: torch.Tensor) -> None:
    """Light the scene from one side, or darken its corners; a little of the former is in every picture."""
    kind = scene["lighting"]
    towards = LIT_FROM[kind] * draws.uniform("force", 0.35, 0.5)[:, None] + draws.uniform("uneven", -0.08, 0.08, (2,))
    x, y = line[None, None, :] * wide(towards[:, 0]), line[None, :, None] * wide(towards[:, 1])
    light = x + y + 1.02 - wide(towards.abs().sum(1)) * 0.55  # (B, S, S)
    rows = among("lighting", kind, "vignette").nonzero()[:, 0]
    radius = (line[None, :, None].square() + line.square()).sqrt()
    inner, fall = wide(draws.uniform("inner", 0.8, 1.05)[rows]), wide(draws.uniform("fall", 0.1, 0.4)[rows])
    light[rows] *= 1 - wide(draws.uniform("depth", 0.7, 1.0)[rows]) * smoothstep((radius - inner) / fall)
    pictures.mul_(light.clamp_min_(0)[:, None])


def _develop(pictures: torch.Tensor, scene: Scene, draws: Draws) -> None:
    """Set the exposure, the white balance (in colour), the contrast, and add noise."""
    grey = among("tone", scene["tone"], "greyscale")
    cast = draws.uniform("cast", -0.05, 0.05, (3,)).masked_fill(grey[:, None], 0.0) + 1
    gain = (cast * draws.uniform("gain", 0.9, 1.08)[:, None])[..., None, None]
    pictures.mul_(gain).clamp_(0, 1)
    rows = among("noise", scene["noise"], "noisy").nonzero()[:, 0]
    pictures[rows] += _film_grain(draws.rows(rows), grey[rows], pictures.shape[-1])
    rows = among("contrast", scene["contrast"], "low").nonzero()[:, 0]
    level, share = draws.uniform("level", 0.35, 0.65)[rows], draws.uniform("share", 0.3, 0.45)[rows]
    level, share = level[:, None, None, None], share[:, None, None, None]
    pictures[rows] = level + (pictures[rows] - level) * share


def _film_grain(draws: Draws, grey: torch.Tensor, size: int) -> torch.Tensor:
    """Return noise of independent pixels, (B, 3, S, S): the same in all channels in greyscale, else partly."""
    shared, own = draws.normal("shared", (1, size, size)), draws.normal("own", (3, size, size))
    share = torch.where(grey, 0.0, draws.uniform("share", 0, 0.8))[:, None, None, None]
    noisy = shared * (1 - share.square()).sqrt() + own * share
    return noisy * draws.uniform("strength", 0.04, 0.085)[:, None, None, None]


def _rgb(colour: torch.Tensor, shade: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return colours (B, 3); of those without a name, or a shade, any."""
    return rgb(colour.clamp(0, len(COLOURS) - 1), torch.where(shade < 0, MEDIUM, shade), draws)


def _second(first: torch.Tensor, accent: torch.Tensor, strength: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the second colour of a pattern, (B, 3): the accent, or, where that is undefined, another shade."""
    named = _rgb(accent, torch.full_like(accent, -1), draws)
    darker = first * draws.uniform("darker", 0.35, 0.6)[:, None]
    brightest = first.amax(1, keepdim=True)
    lighter = first + draws.uniform("lighter", 0.3, 0.45)[:, None] * (first + 0.02) / (brightest + 0.02)
    shade = torch.where(brightest > 0.45, darker, lighter)
    return torch.where(accent[:, None] < 0, first + (shade - first) * strength[:, None], named)


def _mix(first: torch.Tensor, second: torch.Tensor, tones: torch.Tensor) -> torch.Tensor:
    """Return `first` (B, 3) where tones (B, S, S) are 0 and `second` where they are 1, (B, 3, S, S)."""
    return torch.lerp(first[..., None, None], second[..., None, None], tones[:, None])
