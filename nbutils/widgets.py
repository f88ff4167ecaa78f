"""Things to touch: pictures of textual inversion, drawn anew when a slider moves, and once without a browser."""

import io
from collections.abc import Callable

import ipywidgets
import numpy as np
from PIL import Image

from nbutils.composition import box_masks, interpolated
from nbutils.figures import tile
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.seeds import image_seeds

SHOWN_PIXELS = 192
"""Height at which an image is shown; smaller ones are magnified by a whole number."""


def guidance(generator: TextualInversion, label: int, seed: int = 0, count: int = 4) -> ipywidgets.VBox:
    """Return a picture of one class' images with sliders for the guidance scale and the sampler's steps."""

    def draw(guidance_scale: float, steps: int) -> np.ndarray:
        other = generator.drawn_with(guidance_scale=guidance_scale, num_sampling_steps=steps)
        return other.sample([label] * count, seed).images

    scale = _slider(ipywidgets.FloatSlider, "guidance", generator.config.guidance_scale, 1.0, 8.0, 0.5)
    steps = _slider(ipywidgets.IntSlider, "steps", generator.config.num_sampling_steps, 2, 100, 1)
    return _explorer(draw, guidance_scale=scale, steps=steps)


def disease(generator: TextualInversion, start: str, end: str, seed: int = 0, count: int = 4) -> ipywidgets.VBox:
    """Return a picture of images between two classes with a slider for the weight of the second."""

    def draw(weight: float) -> np.ndarray:
        return interpolated(generator, start, end, count, seed, levels=[weight])[0]

    return _explorer(draw, weight=_slider(ipywidgets.FloatSlider, f"weight of {end}", 0.5, 0.0, 1.0, 0.05))


def mask(generator: TextualInversion, image: np.ndarray, label: int, seed: int = 0) -> ipywidgets.VBox:
    """Return an image (C, H, W) uint8, as it is and inpainted with a class, with sliders for the box that is drawn."""

    def draw(down: float, right: float, extent: float) -> np.ndarray:
        masks = box_masks(1, image.shape[-1], (down, right), extent)
        return np.concatenate(
            [image[None], generator.inpaint(image[None], masks, [label], image_seeds(seed, 1, "box"))]
        )

    places = {"down": 0.5, "right": 0.5, "extent": 0.4}
    sliders = {name: _slider(ipywidgets.FloatSlider, name, value, 0.25, 1.0, 0.05) for name, value in places.items()}
    return _explorer(draw, **sliders)


def _slider(kind: type, description: str, value, low, high, step):
    """Return a slider that reports its value when it is let go."""
    range_ = {"value": value, "min": low, "max": high, "step": step}
    return kind(**range_, description=description, continuous_update=False, style={"description_width": "initial"})


def _explorer(draw: Callable[..., np.ndarray], **controls: ipywidgets.Widget) -> ipywidgets.VBox:
    """Return controls above a picture of draw(values of the controls), images (N, C, H, W) uint8 side by side."""
    picture = ipywidgets.Image(format="png")

    def redraw(change=None) -> None:
        picture.value = _png(draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])


def _png(images: np.ndarray) -> bytes:
    """Return images (N, C, H, W) uint8 side by side as a PNG, magnified."""
    sheet = tile(images, columns=len(images))
    times = max(1, SHOWN_PIXELS // images.shape[2])
    sheet = sheet.repeat(times, axis=0).repeat(times, axis=1)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(file, "PNG")
    return file.getvalue()
