"""The corpus: one image per number, captions that are true, everything in it, and nothing medical."""

import ast
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from nbutils import corpus
from nbutils.corpus import ATTRIBUTES, captions
from nbutils.corpus.draws import Draws
from nbutils.corpus.painting import paint
from nbutils.corpus.scenes import sample

SIZE = 16


@cache
def few(count: int = 512, **settings):
    """Render a few images, once for all tests."""
    return corpus.render(count, image_size=SIZE, **settings)


@cache
def many():
    """Attributes and captions of 8,192 images, without pixels."""
    draws = Draws.of_images(3, np.arange(8192))
    scene = sample(draws.part("scene"))
    return {name: values.numpy() for name, values in scene.items()}, captions.describe(scene, draws.part("words"))


def word(attributes, name: str, index: int) -> str | None:
    """Return the word of an image's attribute, None = it has none."""
    value = attributes[name][index]
    return None if value < 0 else ATTRIBUTES[name][value]


def chosen(images: corpus.Corpus, **words: str) -> np.ndarray:
    """Return which images have these words, (N,) bool."""
    hits = [images.attributes[name] == ATTRIBUTES[name].index(value) for name, value in words.items()]
    return np.logical_and.reduce(hits)


def test_images_captions_and_attributes_belong_together():
    images = few()
    assert images.images.shape == (512, 3, SIZE, SIZE)
    assert images.images.dtype == np.uint8
    assert len(images) == len(images.captions) == 512
    assert set(images.attributes) == set(ATTRIBUTES)
    for name, values in images.attributes.items():
        assert values.dtype == np.int64
        assert values.shape == (512,)
        assert values.min() >= -1
        assert values.max() < len(ATTRIBUTES[name])


def test_an_image_belongs_to_seed_and_number_alone():
    whole = few(1040)
    across = corpus.render(25, image_size=SIZE, start=1015)  # from one chunk into the next
    np.testing.assert_array_equal(across.images, whole.images[1015:])
    np.testing.assert_array_equal(few().images, whole.images[:512])
    assert across.captions == whole.captions[1015:]
    for name in ATTRIBUTES:
        np.testing.assert_array_equal(across.attributes[name], whole.attributes[name][1015:])
    assert (few(1040, seed=1).images != whole.images).any((1, 2, 3)).all(), "another seed, other images"
    assert len(np.unique(whole.images.reshape(1040, -1), axis=0)) == 1040


def test_chunks_begin_where_they_always_do():
    assert [first for first, _, _ in corpus._chunks(99, 3, size=100)] == [0, 100]
    assert [corpus._chunk_size(pixels) for pixels in (8, 32, 64, 1024)] == [1024, 1024, 256, 1]


def test_numbers_of_an_image_do_not_depend_on_its_batch():
    every, some = Draws.of_images(0, np.arange(40)), torch.tensor([3, 31])
    alone = Draws.of_images(0, np.array([3, 31]))
    for drawn in (lambda d: d.normal("a", (5,)), lambda d: d.part("b").uniform("a"), lambda d: d.choice("c", [1, 2])):
        torch.testing.assert_close(drawn(every)[some], drawn(alone), rtol=0, atol=0)
        torch.testing.assert_close(drawn(every.rows(some)), drawn(alone), rtol=0, atol=0)


def test_draws_have_their_distributions():
    draws = Draws.of_images(0, np.arange(20_000))
    uniform, normal = draws.uniform("u", -1, 3, (2,)), draws.normal("n", (3,))
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert uniform.mean().item() == pytest.approx(1, abs=0.03)
    assert uniform.var().item() == pytest.approx(16 / 12, rel=0.03)
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.var().item() == pytest.approx(1, rel=0.03)
    assert (normal**4).mean().item() == pytest.approx(3, rel=0.08)
    off_diagonal = torch.corrcoef(torch.cat([uniform, normal], 1).T) - torch.eye(5)
    assert off_diagonal.abs().max() < 0.03, "streams are independent"
    shares = torch.bincount(draws.choice("c", [1, 0, 3])) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0, 0.75]), atol=0.015, rtol=0)


def test_the_same_scene_at_another_size():
    small, large = few(), corpus.render(512, image_size=2 * SIZE)
    assert small.captions == large.captions
    halved = large.images.reshape(512, 3, SIZE, 2, SIZE, 2).mean((3, 5))
    quiet = chosen(small, noise="clean")
    for name in ("filling", "background"):  # what varies from pixel to pixel, or nearly so, is lost in halving
        quiet &= ~np.isin(small.attributes[name], [ATTRIBUTES[name].index(word) for word in ("grainy", "rough")])
    off = np.abs(small.images - halved).mean((1, 2, 3))[quiet]
    assert np.median(off) < 4
    assert np.quantile(off, 0.95) < 16


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_an_attribute_occurs(name):
    attributes, _ = many()
    counts = np.bincount(attributes[name] + 1, minlength=len(ATTRIBUTES[name]) + 1)[1:]
    assert counts.min() >= 20, dict(zip(ATTRIBUTES[name], counts, strict=True))


def test_attributes_are_undefined_where_an_image_does_not_have_them():
    attributes, _ = many()
    has = {name: values >= 0 for name, values in attributes.items()}
    kind = {value: attributes["scene"] == index for index, value in enumerate(ATTRIBUTES["scene"])}
    for name in ("shape", "edge", "background", "background_colour"):
        np.testing.assert_array_equal(has[name], ~kind["texture"])
    for name in ("relation", "other_shape", "other_colour"):
        np.testing.assert_array_equal(has[name], kind["pair"] | kind["nested"])
    np.testing.assert_array_equal(has["position"], kind["object"])
    np.testing.assert_array_equal(has["count"], kind["object"] | kind["group"])
    np.testing.assert_array_equal(has["size"], kind["object"] | kind["group"])
    for name in ("scene", "tone", "colour", "filling", "lighting", "contrast", "noise"):
        assert has[name].all()


def test_captions_use_the_vocabulary_and_all_of_it():
    _, lines = many()
    words = corpus.vocabulary()
    assert len(words) <= 125
    assert list(words) == sorted(set(words))
    assert set(" ".join(lines).split()) == set(words)
    assert max(len(line.split()) for line in lines) < 40
    assert len(set(lines)) > 7000, "captions vary"


def test_captions_speak_english():
    _, lines = many()
    pairs = {pair for line in lines for pair in zip(line.split(), line.split()[1:], strict=False)}
    assert {second for first, second in pairs if first == "an"} == {"orange"}, "the only colour with a vowel"
    assert not any(word[0] in "aeiou" for first, word in pairs if first == "a")
    singular = {word for first, word in pairs if first in ("two", "three", "many") and word in ATTRIBUTES["shape"]}
    assert singular == set()


def sayable(attributes, names, index: int) -> set[str]:
    """Return the words by which a caption may name these attributes of an image."""
    values = [(name, word(attributes, name, index)) for name in names]
    return {said for name, value in values if value for said in captions.PHRASES[name][value].replace("|", " ").split()}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("colour", "accent", "background_colour", "other_colour"), ATTRIBUTES["colour"]),
        (("filling", "background"), set(ATTRIBUTES["filling"]) - {"rimmed"}),
        (("shade", "background_shade"), ("light",)),
        (("scale",), ATTRIBUTES["scale"]),
        (("direction",), ATTRIBUTES["direction"]),
        (("size",), ("small", "large", "big", "medium")),
        (("count",), ("two", "three", "many", "several")),
        (("position",), ("centre", "top", "bottom", "corner")),
        (("edge",), ("edges", "soft")),
        (("relation",), ("above", "below", "inside")),
        (("lighting",), ("lit", "corners", "vignette")),
        (("tone",), ("greyscale",)),
        (("contrast",), ("faint",)),
        (("noise",), ("noisy",)),
    ],
)
def test_captions_say_nothing_that_is_not_so(names, words):
    attributes, lines = many()
    heard = 0
    for index, line in enumerate(lines):
        if "relation" in names:
            line = line.replace("lit from above", "").replace("lit from below", "")
        said = set(line.split()) & set(words)
        wrong = said - sayable(attributes, names, index)
        assert not wrong, f"{lines[index]!r} says {wrong}"
        heard += bool(said)
    assert heard > 100


def test_captions_name_the_colour_of_what_lies_behind():
    attributes, lines = many()
    grounds = {index: line.split(" on a")[-1] for index, line in enumerate(lines) if line.count("background")}
    assert len(grounds) > 4000
    for index, ground in grounds.items():
        said = [colour for colour in ground.split() if colour in ATTRIBUTES["colour"]]
        assert said == [word(attributes, "background_colour", index)], lines[index]


def test_a_phrase_names_no_other_value_of_its_attribute():
    for name, values in ATTRIBUTES.items():
        for value, phrase in captions.PHRASES.get(name, {}).items():
            said = set(phrase.replace("|", " ").split())
            assert said & set(values) <= {value, *value.split()}, f"{name} {value}: {phrase}"


def test_captions_name_colour_and_shape_of_the_subject():
    attributes, lines = many()
    plural = captions.PHRASES["shapes"]
    for index, line in enumerate(lines):
        said = line.split()
        assert word(attributes, "colour", index) in said
        if word(attributes, "scene", index) == "texture":
            continue
        shape, other = word(attributes, "shape", index), word(attributes, "other_shape", index)
        right = [plural[shape]] if attributes["count"][index] > 0 else [name for name in (shape, other) if name]
        assert [name for name in said if name in plural or name in plural.values()] == right


BASE = {
    "scene": "object", "tone": "coloured", "shape": "disc", "colour": "red", "filling": "plain", "count": "one",
    "size": "medium", "position": "centre", "edge": "sharp", "background": "plain", "background_colour": "white",
    "lighting": "even", "contrast": "full", "noise": "clean",
}  # fmt: skip
TEXTURE = {"scene": "texture", "shape": None, "edge": None, "count": None, "size": None, "position": None,
           "background": None, "background_colour": None}  # fmt: skip


def ask(number: int = 48, pixels: int = 32, /, **words) -> np.ndarray:
    """Paint a number of images of a red disc on white, but for the attributes given; None = undefined."""
    asked = dict.fromkeys(ATTRIBUTES) | BASE | words
    scene = {name: -1 if value is None else ATTRIBUTES[name].index(value) for name, value in asked.items()}
    columns = {name: torch.full((number,), index) for name, index in scene.items()}
    return paint(columns, Draws.of_images(0, np.arange(number)), pixels).astype(float)


def steepest(images: np.ndarray) -> np.ndarray:
    """Return the largest step between neighbouring pixels of a row, (N,)."""
    return np.abs(np.diff(images)).max((1, 2, 3))


def grey_levels(images: corpus.Corpus) -> np.ndarray:
    """Return images as grey levels 0..1, (N, S, S)."""
    return images.images.mean(1) / 255


def test_pixels_use_their_range():
    images = few().images
    assert images.min() == 0
    assert images.max() == 255
    assert np.bincount(images.ravel(), minlength=256).min() > 20, "every level"
    assert 80 < images.mean() < 150
    assert (images.std((1, 2, 3)) > 2).mean() > 0.99, "hardly an image is flat"


def test_a_greyscale_image_is_grey_and_no_other():
    images = few()
    spread = np.ptp(images.images.astype(int), axis=1).max((1, 2))
    grey = chosen(images, tone="greyscale")
    assert 0.25 < grey.mean() < 0.4
    assert spread[grey].max() == 0
    assert (spread[~grey] > 20).mean() > 0.98


@pytest.fixture(scope="module")
def pictures():
    """2,048 images, rendered once."""
    return corpus.render(2048, image_size=SIZE, seed=5)


def test_colours_have_their_hue(pictures):
    hues = {"red": 0, "yellow": 0.15, "green": 0.34, "cyan": 0.5, "blue": 0.62, "purple": 0.77}
    clear = chosen(pictures, noise="clean", contrast="full", lighting="even", background="plain")
    right = total = 0
    for name, hue in hues.items():
        corners = pictures.images[clear & chosen(pictures, background_colour=name), :, :2, :2].mean((2, 3))
        red, green, blue = corners.T - corners.min(1)
        found = np.arctan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * np.pi)
        off = np.abs((found - hue + 0.5) % 1 - 0.5)
        right, total = right + (off < 0.07).sum(), total + len(off)
    assert total > 40
    assert right / total > 0.9


def test_objects_lie_where_they_should():
    line = (np.arange(32) + 0.5) / 16 - 1
    for position in ATTRIBUTES["position"]:
        dark = 255 - ask(position=position, size="small")[:, 1]  # red on white is dark in green
        dark = np.where(dark > 100, dark, 0)
        x, y = (dark * line).sum((1, 2)) / dark.sum((1, 2)), (dark * line[:, None]).sum((1, 2)) / dark.sum((1, 2))
        right, down = ("right" in position) - ("left" in position), ("bottom" in position) - ("top" in position)
        np.testing.assert_allclose(x, 0.58 * right, atol=0.15, err_msg=position)
        np.testing.assert_allclose(y, 0.58 * down, atol=0.15, err_msg=position)


def test_the_first_of_two_objects_lies_where_the_relation_says():
    line = (np.arange(32) + 0.5) / 16 - 1
    way = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    for relation, (right, down) in way.items():
        two = {"scene": "pair", "count": None, "size": None, "position": None, "relation": relation}
        pictures = ask(other_shape="disc", other_colour="blue", **two)
        redness = pictures[:, 0] - pictures[:, 2]
        for side, area in ((1, redness > 80), (-1, redness < -80)):  # the red one, the blue one
            total = area.sum((1, 2))
            x, y = (area * line).sum((1, 2)) / total, (area * line[:, None]).sum((1, 2)) / total
            assert (side * (right * x + down * y) > 0.3).all(), relation
            assert np.abs(down * x + right * y).max() < 0.35, relation


def test_sizes_and_numbers_of_objects_show():
    def cover(**words):
        return (ask(**words)[:, 1] < 130).mean((1, 2))

    small, medium, large = (cover(size=size) for size in ATTRIBUTES["size"])
    assert small.max() < medium.min()
    assert medium.max() < large.min()
    group = {"scene": "group", "size": "small", "position": None}
    two, three, many = (cover(count=count, **group) / small.mean() for count in ("two", "three", "many"))
    np.testing.assert_allclose([two.mean(), three.mean()], [2, 3], rtol=0.15)
    assert many.mean() > 3.8


def test_light_comes_from_where_it_should(pictures):
    levels = grey_levels(pictures)
    right, below = levels[..., SIZE // 2 :].mean((1, 2)), levels[:, SIZE // 2 :].mean((1, 2))
    left, above = levels[..., : SIZE // 2].mean((1, 2)), levels[:, : SIZE // 2].mean((1, 2))
    for name, bright, dark in (
        ("left", left, right), ("right", right, left), ("above", above, below), ("below", below, above)
    ):  # fmt: skip
        lit = chosen(pictures, lighting=name, contrast="full")
        assert (bright[lit] > dark[lit]).mean() > 0.85, name
    corners = levels[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1) / levels.mean((1, 2))
    dark = chosen(pictures, lighting="vignette", contrast="full", noise="clean")
    assert np.median(corners[dark]) < 0.4 < 0.85 < np.median(corners[chosen(pictures, lighting="even")])


def test_contrast_noise_and_sharpness_show():
    clear = ask()
    assert (ask(contrast="low").std((1, 2, 3)) < 0.6 * clear.std((1, 2, 3))).all()
    assert (np.abs(ask(noise="noisy") - clear).mean((1, 2, 3)) > 4).all()
    assert (steepest(ask(edge="soft")) < 0.75 * steepest(clear)).all()
    for scale in ATTRIBUTES["scale"]:
        stripes = {**TEXTURE, "filling": "striped", "direction": "vertical", "scale": scale}
        blurred, sharp = (steepest(ask(focus=focus, **stripes)) for focus in ("blurred", "sharp"))
        assert np.median(blurred / sharp) < 0.8


def test_stripes_run_as_they_should():
    stripes = {**TEXTURE, "filling": "striped", "scale": "coarse", "focus": "sharp"}
    for direction in ATTRIBUTES["direction"]:
        grey = ask(direction=direction, **stripes).mean(1)
        across, down = np.abs(np.diff(grey, axis=2)).mean((1, 2)), np.abs(np.diff(grey, axis=1)).mean((1, 2))
        low, high = {"horizontal": (0, 0.5), "vertical": (2, np.inf), "diagonal": (0.5, 2)}[direction]
        assert ((across / down > low) & (across / down < high)).mean() > 0.9, direction


def test_shapes_are_read_by_a_small_classifier():
    shapes, each, size = ATTRIBUTES["shape"], 64, 24
    dark = np.stack([ask(each, size, shape=shape, size="large")[:, 1].reshape(each, -1) for shape in shapes], 1)
    labels = np.tile(np.arange(len(shapes)), each)
    dark, train = dark.reshape(each * len(shapes), -1), 45 * len(shapes)
    reader = ExtraTreesClassifier(200, random_state=0, n_jobs=1).fit(dark[:train], labels[:train])
    assert reader.score(dark[train:], labels[train:]) > 0.7, "chance is 1 in 15"


@pytest.mark.parametrize("settings", [{"count": -1}, {"count": 1, "start": -2}])
def test_there_are_no_images_before_the_first(settings):
    with pytest.raises(ValueError, match="give both >= 0"):
        corpus.render(**settings)


def test_a_size_must_be_one():
    with pytest.raises(ValueError, match="image_size must be a whole number"):
        corpus.render(1, image_size=4)


def test_no_images_are_none():
    empty = corpus.render(0, image_size=SIZE, start=7)
    assert empty.images.shape == (0, 3, SIZE, SIZE)
    assert empty.captions == []


def test_the_key_tells_all_that_determines_the_images(monkeypatch):
    keys = [corpus.key(8), corpus.key(9), corpus.key(8, 64), corpus.key(8, seed=1), corpus.key(8, start=1)]
    monkeypatch.setattr(corpus, "VERSION", corpus.VERSION + 1)
    keys.append(corpus.key(8))
    assert len({tuple(key.items()) for key in keys}) == len(keys)


def test_another_corpus_needs_another_version():
    images = few()
    digest = hashlib.sha256("|".join(images.captions).encode()).hexdigest()[:12]
    assert corpus.VERSION == 1
    assert digest == "b43ca9e827ab", "captions or attributes changed: raise VERSION"
    assert images.images.mean() == pytest.approx(105.18, abs=0.05), "pixels changed: raise VERSION"


def test_the_corpus_knows_no_phantom():
    for path in Path(corpus.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                part = (node.module + ".").split(".")[1]
                assert not node.module.startswith("nbutils") or part in {"corpus", "images", "progress", "seeds"}
