"""Things to touch: pictures of textual inversion, drawn anew when a slider moves, and a test of reading images."""

import io
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
from PIL import Image

from nbutils.composition import box_masks, interpolated
from nbutils.figures import tile
from nbutils.files import atomic
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.reading import ReadingTest
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


ANSWERS = {"r": "real", "f": "fake"}
"""The keys of a reading test, and what they mean."""


class Reading(ipywidgets.VBox):
    """A reading test to take: one image after the other, without its source, each to be called real or fake.

    Answers are given with the keys of ANSWERS while the box below the image has the focus, or with the buttons. After
    each of them the answers so far are written to `path` (CSV, atomically, columns of ReadingTest.answered); if that
    file is there, the test goes on where it stood. reader: who reads, for the tables.

    Raises ValueError if the file holds answers to another test, or of another reader.
    """

    def __init__(self, test: ReadingTest, reader: str, path: Path):
        self.test, self.reader, self.path = test, reader, Path(path)
        self.fake = self._earlier()
        self.picture, self.place = ipywidgets.Image(format="png"), ipywidgets.Label()
        self.key = ipywidgets.Text(placeholder="type r (real) or f (fake)")
        self.key.observe(self._typed, names="value")
        self.buttons = {key: ipywidgets.Button(description=word) for key, word in ANSWERS.items()}
        for key, button in self.buttons.items():
            button.on_click(lambda _, key=key: self.answer(key))
        super().__init__([self.place, self.picture, self.key, ipywidgets.HBox(list(self.buttons.values()))])
        self._show()

    def answer(self, key: str) -> None:
        """Take the answer to the image that is shown, a key of ANSWERS, save all answers, and show the next image."""
        if key not in ANSWERS or len(self.fake) == len(self.test):
            return
        self.fake.append(ANSWERS[key] == "fake")
        with atomic(self.path) as temporary:
            self.answers().to_csv(temporary, index=False)
        self._show()

    def answers(self) -> pd.DataFrame:
        """Return the answers so far, as ReadingTest.answered."""
        return self.test.answered(self.fake, self.reader)

    def _earlier(self) -> list[bool]:
        """Return the answers in the file, none if there is no file."""
        if not self.path.is_file():
            return []
        found = pd.read_csv(self.path)
        fake = found["fake"].tolist() if "fake" in found and len(found) <= len(self.test) else []
        if not found.astype(str).equals(self.test.answered(fake, self.reader).astype(str)):
            raise ValueError(
                f"{self.path} holds answers to another test, or of another reader than {self.reader!r}; give another "
                "file, or move this one away."
            )
        return fake

    def _typed(self, change) -> None:
        if change["new"]:
            self.key.value = ""
            self.answer(change["new"][-1].lower())

    def _show(self) -> None:
        done, count = len(self.fake), len(self.test)
        if done < count:
            self.place.value = f"image {done + 1} of {count}"
            self.picture.value = _png(self.test.images.images[done : done + 1])
            return
        self.place.value = f"all {count} images are read; the answers are in {self.path}"
        self.picture.layout.display = "none"
        for control in (self.key, *self.buttons.values()):
            control.disabled = True


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
