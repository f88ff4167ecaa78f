"""nbutils.widgets: a picture without a browser, another one when a slider moves, answers to a reading test."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import make_blobs
from PIL import Image

from nbutils import widgets
from nbutils.reading import reading_test


def image_of(widget) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(widget.children[-1].value)))


def grey(value, count=1):
    return np.full((count, 1, 16, 16), value, np.uint8)


class Generator:
    """Draws grey images that say what was asked for."""

    config = SimpleNamespace(guidance_scale=2.0, num_sampling_steps=25)
    card: dict = {"class_names": ["well", "ill"]}  # noqa: RUF012

    def drawn_with(self, guidance_scale, num_sampling_steps):
        value = 10 * guidance_scale + num_sampling_steps
        return SimpleNamespace(sample=lambda labels, seed: SimpleNamespace(images=grey(value, len(labels))))

    def compose(self, weights, seeds):
        return grey(100 * np.asarray(weights)[0, 1], len(weights))

    def inpaint(self, images, masks, labels, seeds):
        return np.where(masks[:, None], np.uint8(255), images)


@pytest.mark.parametrize(
    ("make", "before", "slider", "value", "after"),
    [
        (lambda: widgets.guidance(Generator(), 0), 45, 0, 8.0, 105),
        (lambda: widgets.guidance(Generator(), 0), 45, 1, 50, 70),
        (lambda: widgets.disease(Generator(), "well", "ill"), 50, 0, 1.0, 100),
    ],
)
def test_a_slider_draws_anew(make, before, slider, value, after):
    widget = make()
    assert image_of(widget)[0, 0] == before
    widget.children[slider].value = value
    assert image_of(widget)[0, 0] == after
    assert image_of(widget).shape == (192, 4 * 17 * 12 - 12)


def test_the_box_is_where_the_sliders_say():
    widget = widgets.mask(Generator(), grey(0)[0], label=1)
    down, right, extent, _ = widget.children
    for slider, value in ((down, 0.25), (right, 0.75), (extent, 0.5)):
        slider.value = value
    picture = image_of(widget)[::12, ::12]  # two images of 16 px with a gap of one
    assert (picture[:, :16] == 0).all()
    assert np.argwhere(picture[:, 17:] == 255).min(0).tolist() == [0, 8]
    assert np.argwhere(picture[:, 17:] == 255).max(0).tolist() == [7, 15]


@pytest.fixture
def four():
    return reading_test({"real": make_blobs(10, 0), "fakes": make_blobs(10, 1)}, per_class=1, seed=0)


def shown(widget):
    return np.asarray(Image.open(io.BytesIO(widget.picture.value)))[::12, ::12]


def test_a_reading_is_answered_by_keys_and_buttons_and_saved_after_each(four, tmp_path):
    path = tmp_path / "new" / "answers.csv"
    widget = widgets.Reading(four, "someone", path)
    for position, answer in enumerate("FrX"):
        assert (shown(widget) == four.images.images[position, 0]).all()
        widget.key.value = answer
        assert widget.key.value == ""
    assert widget.place.value == "image 3 of 4"  # another key is no answer
    widget.buttons["f"].click()
    saved = pd.read_csv(path)
    pd.testing.assert_frame_equal(saved, four.answered([True, False, True], "someone"))
    assert [name.name for name in path.parent.iterdir()] == ["answers.csv"]


def test_a_reading_goes_on_where_it_stood_and_ends(four, tmp_path):
    path = tmp_path / "answers.csv"
    widgets.Reading(four, "someone", path).answer("f")
    widget = widgets.Reading(four, "someone", path)
    assert (shown(widget) == four.images.images[1, 0]).all()
    for _ in range(4):
        widget.buttons["r"].click()
    assert widget.answers()["fake"].tolist() == [True, False, False, False]
    assert widget.key.disabled
    assert "all 4 images are read" in widget.place.value


@pytest.mark.parametrize("other", ["reader", "test"])
def test_answers_to_another_test_are_not_overwritten(four, other, tmp_path):
    path = tmp_path / "answers.csv"
    widgets.Reading(four, "someone", path).answer("f")
    another = reading_test({"real": make_blobs(10, 0), "fakes": make_blobs(10, 1)}, per_class=1, seed=2)
    with pytest.raises(ValueError, match="holds answers to another test, or of another reader"):
        widgets.Reading(four if other == "reader" else another, "someone" if other == "test" else "me", path)
    assert len(pd.read_csv(path)) == 1


def test_nothing_on_the_screen_tells_the_source(four, tmp_path):
    widget = widgets.Reading(four, "someone", tmp_path / "answers.csv")
    texts = [widget.place.value, widget.key.placeholder, *(button.description for button in widget.buttons.values())]
    assert texts == ["image 1 of 4", "type r (real) or f (fake)", "real", "fake"]
