"""What an image of the corpus shows, in words: every attribute with its values, and how often they come together."""

import torch

from nbutils.corpus.colours import COLOURS, EXISTS, IS_GREY, SHADES, typical
from nbutils.corpus.draws import Draws

SIMPLE_SHAPES = ("disc", "ellipse", "blob", "flower", "triangle", "square", "diamond", "star", "cross", "bar")
LINE_SHAPES = ("ring", "crescent", "wave", "spiral", "branch")  # too thin to hold a pattern, or to be small
SHAPES = SIMPLE_SHAPES + LINE_SHAPES
HOLDERS = ("disc", "ellipse", "blob", "flower", "square", "ring")  # wide enough to hold another object
TEXTURES = (
    "plain", "gradient", "striped", "checkered", "meshed", "dotted", "cellular", "cloudy", "rough", "grainy",
    "marbled", "streaked", "wavy", "ringed", "swirled", "patchy", "branched",
)  # fmt: skip
FILLINGS = (*TEXTURES, "shaded", "rimmed", "hollow")
COLOURFUL = len(COLOURS)  # index of the "colour" of a pattern in which all hues occur

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "scene": ("object", "group", "pair", "nested", "texture"),
    "tone": ("coloured", "greyscale"),
    "shape": SHAPES,
    "colour": (*COLOURS, "colourful"),
    "shade": SHADES,
    "filling": FILLINGS,
    "accent": COLOURS,
    "count": ("one", "two", "three", "many"),
    "size": ("small", "medium", "large"),
    "position": ("centre", "left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right"),
    "edge": ("sharp", "soft"),
    "other_shape": SHAPES,
    "other_colour": COLOURS,
    "relation": ("left", "right", "above", "below", "inside"),
    "background": TEXTURES,
    "background_colour": (*COLOURS, "colourful"),
    "background_shade": SHADES,
    "scale": ("fine", "coarse"),
    "direction": ("horizontal", "vertical", "diagonal"),
    "focus": ("sharp", "blurred"),
    "lighting": ("even", "left", "right", "above", "below", "vignette"),
    "contrast": ("full", "low"),
    "noise": ("clean", "noisy"),
}
"""The values of each attribute, in label order; -1 stands for an attribute that an image does not have.

scene: one object, a group of like ones, a pair side by side, one nested in another, or a texture all over.
shape, colour, shade, filling, accent: of the object (in a pair the first, nested the inner one), or of the texture;
    accent is the second colour of a pattern, undefined where it is a shade of the first. Black and white have no shade.
count: of one object or a group. size: likewise. position: of one object. edge: of all objects' outlines.
other_shape, other_colour: of the second object; relation: where the first one is, seen from it.
background, background_*: what lies behind objects; a texture has none.
scale, direction, focus: of the texture or else the background, where it has a period, a direction, or crisp lines.
lighting, contrast, noise: of the whole image.
"""

BACKGROUND_WEIGHTS = dict.fromkeys(TEXTURES, 1.0) | {"plain": 9, "gradient": 4, "cloudy": 2}
TEXTURE_WEIGHTS = dict.fromkeys(TEXTURES, 1.0) | {"plain": 0, "gradient": 0.6, "patchy": 2}
OBJECT_WEIGHTS = dict.fromkeys(FILLINGS, 0) | {
    "plain": 6, "shaded": 4, "rimmed": 3, "hollow": 3, "gradient": 2, "striped": 3, "checkered": 2, "meshed": 2,
    "dotted": 3, "cellular": 2, "cloudy": 2, "rough": 2, "marbled": 1, "ringed": 2,
}  # fmt: skip
SMALL_WEIGHTS = dict.fromkeys(FILLINGS, 0) | {"plain": 5, "shaded": 2, "rimmed": 2, "hollow": 2, "gradient": 1}
LINE_WEIGHTS = dict.fromkeys(FILLINGS, 0) | {"plain": 4, "gradient": 1, "rough": 1}
CRISP = ("striped", "checkered", "meshed", "dotted", "cellular", "wavy", "ringed", "swirled", "patchy", "branched")
PERIODIC = (*CRISP[:-1], "marbled", "cloudy")
DIRECTED = ("striped", "streaked", "wavy")
ACCENTED = (*CRISP, "gradient", "marbled", "cloudy", "streaked")
MOTLEY = ("cellular", "patchy", "cloudy")  # may show all hues at once

PAIRS = EXISTS.nonzero()  # (P, 2): all that a colour can be, as colour and shade
PAIR_RGB = typical(PAIRS[:, 0], PAIRS[:, 1])  # (P, 3)
PAIR_WEIGHTS = torch.tensor([1.0, 2.0, 1.0])[PAIRS[:, 1]] / (1 + EXISTS.sum(1))[PAIRS[:, 0]]  # a colour weighs 1
PAIR_IS_GREY = IS_GREY[PAIRS[:, 0]]
PAIR_IS_MEDIUM = PAIRS[:, 1] == SHADES.index("medium")
HAS_SHADES = torch.tensor([name not in ("black", "white") for name in COLOURS])
DISTANCES = (PAIR_RGB[:, None] - PAIR_RGB).norm(dim=-1)  # (P, P)
DISTANCES[(PAIRS[:, :1] == PAIRS[:, 0]) & ~PAIR_IS_GREY] = 0.0  # two shades of a hue are of one name
APART = 0.38  # least distance in RGB of two colours that must be told apart: one step of grey

Scene = dict[str, torch.Tensor]


def among(attribute: str, values: torch.Tensor, *words: str) -> torch.Tensor:
    """Return where `values` (indices into the words of an attribute, any shape) are one of `words`; bool."""
    indices = torch.tensor([ATTRIBUTES[attribute].index(word) for word in words])
    return torch.isin(values, indices)


def sample(draws: Draws) -> Scene:
    """Draw what B images show: the index of each attribute, (B,) int64, -1 where an image does not have it."""
    kind = draws.choice("scene", [0.40, 0.13, 0.12, 0.13, 0.22])
    scene: Scene = {"scene": kind, "tone": draws.choice("tone", [0.68, 0.32])}
    scene |= _arrangement(kind, draws)
    scene |= _shapes(scene, draws)
    scene |= _patterns(scene, draws)
    scene |= _colours(scene, draws)
    scene["lighting"] = draws.choice("lighting", [0.64, 0.06, 0.06, 0.06, 0.06, 0.12])
    scene["contrast"] = draws.choice("contrast", [0.9, 0.1])
    scene["noise"] = draws.choice("noise", [0.85, 0.15])
    return {name: scene[name] for name in ATTRIBUTES}


def _arrangement(kind: torch.Tensor, draws: Draws) -> Scene:
    """Draw how many objects there are, how large, and where."""
    single, group = among("scene", kind, "object"), among("scene", kind, "group")
    count = torch.where(single, 0, torch.where(group, draws.choice("count", [0, 0.4, 0.3, 0.3]), -1))
    size = draws.choice("size of one", [0.25, 0.4, 0.35])
    size = torch.where(group, draws.choice("size of some", [0.45, 0.55]), size)
    size = torch.where(among("count", count, "many"), 0, size)
    position = draws.choice("position", [0.28] + 8 * [0.09])
    position = torch.where(among("size", size, "large"), 0, position)
    beside = draws.choice("beside", [1, 1, 1, 1, 0])
    relation = torch.where(among("scene", kind, "pair"), beside, -1)
    return {
        "count": count,
        "size": torch.where(single | group, size, -1),
        "position": torch.where(single, position, -1),
        "relation": torch.where(among("scene", kind, "nested"), len(ATTRIBUTES["relation"]) - 1, relation),
    }


def _shapes(scene: Scene, draws: Draws) -> Scene:
    """Draw the shapes; small objects and those inside another are simple."""
    kind = scene["scene"]
    nested, texture = among("scene", kind, "nested"), among("scene", kind, "texture")
    simple = nested | among("size", scene["size"], "small")
    weights = torch.where(simple[:, None], weights_of(SHAPES, SIMPLE_SHAPES), 1.0)
    other_weights = torch.where(nested[:, None], weights_of(SHAPES, HOLDERS), 1.0)
    has_other = scene["relation"] >= 0
    return {
        "shape": torch.where(texture, -1, draws.choice("shape", weights)),
        "other_shape": torch.where(has_other, draws.choice("other shape", other_weights), -1),
    }


def _patterns(scene: Scene, draws: Draws) -> Scene:
    """Draw the filling and the background, and how crisp, fine and directed they are."""
    texture = among("scene", scene["scene"], "texture")
    small = among("size", scene["size"], "small") | among("scene", scene["scene"], "nested")
    weights = torch.where(small[:, None], weights_of(FILLINGS, SMALL_WEIGHTS), weights_of(FILLINGS, OBJECT_WEIGHTS))
    weights = torch.where(
        among("shape", scene["shape"], *LINE_SHAPES)[:, None], weights_of(FILLINGS, LINE_WEIGHTS), weights
    )
    weights = torch.where(texture[:, None], weights_of(FILLINGS, TEXTURE_WEIGHTS), weights)
    filling = draws.choice("filling", weights)
    outlined = among("filling", filling, "hollow") & among("shape", scene["shape"], "disc")  # would be a ring
    filling = torch.where(outlined, FILLINGS.index("rimmed"), filling)
    background = draws.choice("background", weights_of(TEXTURES, BACKGROUND_WEIGHTS))
    canvas = torch.where(texture, filling, background)
    drawn = among("filling", filling, "hollow", "rimmed")  # a line cannot be drawn with soft edges
    edge = torch.where(drawn, 0, draws.choice("edge", [0.68, 0.32]))
    return {
        "filling": filling,
        "background": torch.where(texture, -1, background),
        "edge": torch.where(texture, -1, edge),
        "scale": torch.where(among("filling", canvas, *PERIODIC), draws.choice("scale", [0.5, 0.5]), -1),
        "direction": torch.where(among("filling", canvas, *DIRECTED), draws.choice("direction", [1, 1, 1]), -1),
        "focus": torch.where(among("filling", canvas, *CRISP), draws.choice("focus", [0.65, 0.35]), -1),
    }


def _colours(scene: Scene, draws: Draws) -> Scene:
    """Draw colours that can be told apart: only greys in a greyscale image, at least one that is none in the others."""
    texture, has_other = scene["shape"] < 0, scene["relation"] >= 0
    grey = among("tone", scene["tone"], "greyscale")
    main = draws.choice("colour", _palette(grey, 0.35 * ~texture))
    needs_hue = ~grey & PAIR_IS_GREY[main]
    behind = _apart(draws.choice("background colour", _palette(grey, 1.6 * ~needs_hue), (16,)), main)
    other = _apart(draws.choice("other colour", _palette(grey, 0.7) * PAIR_IS_MEDIUM, (24,)), main, behind)
    around = torch.where(among("scene", scene["scene"], "nested"), other, torch.where(texture, main, behind))
    accent = _apart(draws.choice("accent", _palette(grey, 1.0) * PAIR_IS_MEDIUM, (24,)), main, around)
    accented = among("filling", scene["filling"], *ACCENTED) & draws.chance("accented", 0.4)
    accented |= among("filling", scene["filling"], "rimmed")
    motley = texture & ~grey & among("filling", scene["filling"], *MOTLEY) & draws.chance("motley", 0.4)
    motley_behind = ~grey & among("background", scene["background"], *MOTLEY) & draws.chance("motley behind", 0.15)
    colour, shade = _named(main, motley)
    background_colour, background_shade = _named(behind, motley_behind)
    return {
        "colour": colour,
        "shade": shade,
        "accent": torch.where(accented & ~motley, PAIRS[accent, 0], -1),
        "other_colour": torch.where(has_other, PAIRS[other, 0], -1),
        "background_colour": torch.where(texture, -1, background_colour),
        "background_shade": torch.where(texture, -1, background_shade),
    }


def _palette(grey: torch.Tensor, share_of_greys) -> torch.Tensor:
    """Return the weight of each pair, (B, P): greys only where `grey`, else greys weighted by `share_of_greys`."""
    share = torch.as_tensor(share_of_greys, dtype=torch.float32).expand(len(grey))[:, None]
    coloured = torch.where(PAIR_IS_GREY, share, 1.0)
    return PAIR_WEIGHTS * torch.where(grey[:, None], PAIR_IS_GREY.float(), coloured)


def _apart(candidates: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """Return the first of each image's candidates, (B, K) indices of pairs, that is apart from the others, (B,)."""
    nearest = torch.stack([DISTANCES[candidates, other[:, None]] for other in others]).amin(0)  # (B, K)
    best = torch.where((nearest > APART).any(1), (nearest > APART).int().argmax(1), nearest.argmax(1))
    return candidates.gather(1, best[:, None])[:, 0]


def _named(pair: torch.Tensor, motley: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return colour and shade as attributes, (B,) each."""
    colour, shade = PAIRS[pair].unbind(-1)
    shade = torch.where(HAS_SHADES[colour] & ~motley, shade, -1)
    return torch.where(motley, COLOURFUL, colour), shade


def weights_of(words: tuple[str, ...], chosen) -> torch.Tensor:
    """Return a weight for each word, (K,): from a table, or 1 for those in a list and 0 for the others."""
    table = chosen if isinstance(chosen, dict) else dict.fromkeys(chosen, 1.0)
    return torch.tensor([float(table.get(word, 0)) for word in words])
