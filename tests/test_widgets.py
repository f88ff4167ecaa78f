"""nbutils.widgets: a picture without a browser, and another one when a slider moves."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nbutils import widgets


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
