"""Captions: a small grammar that says what the attributes of an image are, in varied words of a closed vocabulary."""

import re
from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import torch

from nbutils.corpus.draws import Draws
from nbutils.corpus.scenes import ATTRIBUTES, FILLINGS, SHAPES, Scene, among

SHAPE_WORDS = {shape: shape for shape in SHAPES}
COLOUR_WORDS = {colour: colour for colour in ATTRIBUTES["colour"]}
PATTERN_WORDS = {filling: filling for filling in FILLINGS} | {"plain": "plain|||", "rimmed": ""}
SHADE_WORDS = {"dark": "dark", "medium": "", "light": "light"}

PHRASES: dict[str, dict[str, str]] = {
    "shape": SHAPE_WORDS,
    "shapes": {shape: f"{shape}es" if shape.endswith(("s", "ch")) else f"{shape}s" for shape in SHAPES},
    "colour": COLOUR_WORDS,
    "shade": SHADE_WORDS,
    "filling": PATTERN_WORDS,
    "accent": COLOUR_WORDS,
    "count": {"one": "a", "two": "two", "three": "three", "many": "many|several"},
    "size": {"small": "small", "medium": "medium|", "large": "large|big"},
    "position": {
        "centre": "in the centre", "left": "on the left", "right": "on the right",
        "top": "at the top", "bottom": "at the bottom", "top left": "at the top left|in the top left corner",
        "top right": "at the top right|in the top right corner",
        "bottom left": "at the bottom left|in the bottom left corner",
        "bottom right": "at the bottom right|in the bottom right corner",
    },
    "edge": {"sharp": "with sharp edges|||||", "soft": "with soft edges|with blurred edges"},
    "relation": {
        "left": "left of", "right": "right of", "above": "above",
        "below": "below", "inside": "inside|in",
    },
    "other_shape": SHAPE_WORDS,
    "other_colour": COLOUR_WORDS,
    "background": PATTERN_WORDS,
    "background_colour": COLOUR_WORDS,
    "background_shade": SHADE_WORDS,
    "scale": {"fine": "fine", "coarse": "coarse"},
    "direction": {"horizontal": "horizontal", "vertical": "vertical", "diagonal": "diagonal"},
    "focus": {"sharp": "", "blurred": "blurred"},
    "lighting": {
        "even": "", "left": "lit from the left", "right": "lit from the right", "above": "lit from above",
        "below": "lit from below", "vignette": "with dark corners|with a vignette",
    },
    "tone": {"coloured": "", "greyscale": "greyscale"},
    "contrast": {"full": "", "low": "faint"},
    "noise": {"clean": "", "noisy": "noisy"},
}  # fmt: skip
"""What is said for each value of an attribute; | parts alternatives, an empty one says nothing."""

TEXTURE_NOUNS = {
    "plain": "", "gradient": "a * gradient", "striped": "* stripes", "checkered": "a * checkered surface",
    "meshed": "a * mesh", "dotted": "* dots", "cellular": "* cells", "cloudy": "* clouds",
    "rough": "a * rough surface", "grainy": "a * grainy surface", "marbled": "a * marbled surface",
    "streaked": "* streaks", "wavy": "* waves", "ringed": "* rings", "swirled": "a * swirl", "patchy": "* patches",
    "branched": "* branches",
}  # fmt: skip
"""What an image full of one texture shows; * stands for the adjectives."""

PICTURES = ("picture", "photo")
KINDS = ("texture", "pattern")
FRAME = "a of and with rim on background"
SAID = {"size": 0.85, "position": 0.85, "shade": 0.9, "background_shade": 0.9, "scale": 0.5, "direction": 0.6,
        "focus": 0.85, "lighting": 0.8, "tone": 0.6, "contrast": 0.85, "noise": 0.85}  # fmt: skip
"""How often an attribute is mentioned at all, where not always: prompts leave things open, too."""

Words = np.ndarray  # (B,) of str objects, which numpy joins one by one with +


def describe(scene: Scene, draws: Draws) -> list[str]:
    """Return a caption for each of B images; attributes as `scenes.sample` draws them."""
    say = partial(_say, scene, draws)
    texture = (scene["shape"] < 0).numpy()
    subject = np.where(texture, _texture(say, draws), _objects(say, scene, draws))
    unsaid = texture | draws.chance("ground unsaid", 0.12).numpy()
    ground = np.where(unsaid, "", _ground(say))
    return [_tidy(line) for line in _join(_picture(say, draws), subject, ground, say("lighting"))]


def vocabulary() -> tuple[str, ...]:
    """Return every word that a caption can hold, in alphabetical order."""
    phrases = [phrase for table in PHRASES.values() for phrase in table.values()]
    text = " ".join([*phrases, *TEXTURE_NOUNS.values(), *PICTURES, *KINDS, FRAME])
    return tuple(sorted({"an", *re.findall("[a-z]+", text)}))


def _picture(say: Callable, draws: Draws) -> Words:
    """Say what kind of picture it is: always if there is something to say about it, else now and then."""
    adjectives = _join(say("contrast"), say("noise"), say("tone"))
    noun = np.array(PICTURES, object)[draws.choice("picture", [1, 1]).numpy()]
    silent = (np.char.strip(adjectives.astype(str)) == "") & ~draws.chance("picture said", 0.3).numpy()
    return np.where(silent, "", _join("a", adjectives, noun, "of"))


def _texture(say: Callable, draws: Draws) -> Words:
    """Describe an image full of one texture: "fine red and white stripes", "a red striped texture"."""
    accent = say("accent")
    colours = _join(say("shade"), say("colour"), np.where(accent == "", "", "and"), accent)
    adjectives = _join(say("focus"), say("scale"), say("direction"), colours)
    named = _fill(say("filling", TEXTURE_NOUNS), adjectives)
    kind = np.array(KINDS, object)[draws.choice("kind", [1, 1]).numpy()]
    return np.where(draws.chance("by name", 0.6).numpy(), named, _join("a", adjectives, say("filling"), kind))


def _objects(say: Callable, scene: Scene, draws: Draws) -> Words:
    """Describe one object, a group, or two objects: "a small red striped disc left of a blue square"."""
    rimmed = among("filling", scene["filling"], "rimmed").numpy()
    accent, pattern = say("accent"), say("filling")
    two_colours = (accent != "") & ~rimmed
    colours = _join(say("shade"), say("colour"), np.where(two_colours, "and", ""), np.where(two_colours, accent, ""))
    pattern_first = draws.chance("pattern first", 0.3).numpy() & ~two_colours
    adjectives = np.where(pattern_first, _join(pattern, colours), _join(colours, pattern))
    noun = np.where(scene["count"].numpy() > 0, say("shape", PHRASES["shapes"]), say("shape"))
    article = np.where(scene["count"].numpy() < 0, "a", say("count"))
    rim = np.where(rimmed, _fill("with a * rim", accent), "")
    other = np.where(scene["relation"].numpy() < 0, "", _join("a", say("other_colour"), say("other_shape")))
    edge = np.where(rimmed, "", say("edge"))
    return _join(article, say("size"), adjectives, noun, rim, say("position"), say("relation"), other, edge)


def _ground(say: Callable) -> Words:
    """Describe what lies behind: "on a blurred dark blue striped background"."""
    adjectives = _join(say("focus"), say("scale"), say("direction"), say("background_shade"), say("background_colour"))
    return _join("on a", adjectives, say("background"), "background")


def _say(scene: Scene, draws: Draws, name: str, phrases: dict[str, str] | None = None) -> Words:
    """Return what is said about one attribute, "" where nothing is."""
    said = draws.chance(f"{name} said", SAID.get(name, 1.0))
    value = torch.where(said, scene[name], -1).numpy()
    chance = draws.uniform(f"{name} alternative").numpy()
    texts = [(phrases or PHRASES[name]).get(word, "").split("|") for word in ATTRIBUTES[name]] + [[""]]
    result = np.empty(len(value), object)
    result[:] = [texts[v][int(u * len(texts[v]))] for v, u in zip(value, chance, strict=True)]  # -1 is the last
    return result


def _join(*parts: Words | str) -> Words:
    """Join words with spaces."""
    return reduce(lambda left, right: left + " " + right, parts)


def _fill(frame: Words | str, words: Words) -> Words:
    """Put words in the place of the * in a frame."""
    frames = np.broadcast_to(np.array(frame, object), words.shape)
    return np.array([text.replace("*", word) for text, word in zip(frames, words, strict=True)], object)


def _tidy(line: str) -> str:
    """Drop needless spaces, and say "an" before vowels."""
    return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(line.split()))
