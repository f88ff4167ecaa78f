"""Chest radiographs of children, normal or with pneumonia, and a side marker that gives the class away.

As in the paediatric set of the utility paper (Fig. 3), most normal radiographs carry a letter R at about the same place
above the right shoulder, few of those with pneumonia do. Three modalities show the same children, so that accuracies
can be paired: `pneumonia` with the marker as it is found, `pneumonia_unmarked` without, `pneumonia_swapped` with each
class marked as the other one is. Without the marker classes overlap: a child breathes out too soon, a thymus is wide,
an early infection is a faint haze.
"""

from dataclasses import replace
from functools import partial

import torch

from nbutils.phantoms import chest
from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import crop, in_some, per_image
from nbutils.phantoms.radiograph import electrodes, expose, side_marker, tilted
from nbutils.phantoms.shapes import smooth_field, smoothstep
from nbutils.phantoms.thorax import WATER, Body, Scene, attenuation_of, draw_body, draw_scene

PNEUMONIA = 1
MARKED = (0.8, 0.15)  # share of the radiographs of each class with the marker; ours, the paper says "most" normal ones
MARKER_CROP = 0.15
"""Share of the width to cut off each side, which leaves no marker in the picture: `nbutils.images.without_border`."""

MARKER_CORNER = 0.25
"""Share of the width and of the height of the corner, upper left in the picture, in which any marker lies."""

BACTERIAL = 0.65  # share of the children with pneumonia: 2,530 of 3,875 training files are named so


def draw(marked: tuple[float, float], label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw radiographs of one class, (B, 1, canvas, canvas), 0..255; marked: share of each class with the marker."""
    body = _child(patient)
    scene = draw_scene(body, image, canvas)
    if label == PNEUMONIA:
        _infect(scene, patient, image)
    attenuation = attenuation_of(body, scene, image)
    attenuation = in_some(image.chance(0.2), electrodes, attenuation, scene, image)
    attenuation = tilted(attenuation, image)
    grey = expose(attenuation, scene, body.noise, WATER * 0.71 * body.thick, image)
    grey = _with_marker(grey, marked[label], image, scene.line)
    return 255 * crop(grey[:, None], canvas)


def _child(patient: Draws) -> Body:
    """Draw a child of one to five: a short round chest, a large heart and thymus, soft bones; in adults' lengths."""
    body = draw_body(patient)
    return replace(
        body,
        wall=0.6 * body.wall,
        thick=0.85 * body.thick,
        ratio=body.ratio + 0.07,
        mediastinum=body.mediastinum + per_image(patient.uniform(0.2, 1.6)),
        bone=0.6 * body.bone,
        breast=torch.zeros_like(body.breast),
        noise=1.5 * body.noise,
    )


def _infect(scene: Scene, patient: Draws, image: Draws) -> None:
    """Let bacteria fill patches of lung, or viruses thicken what lies round bronchi and vessels."""
    bacterial = per_image(patient.chance(BACTERIAL))
    streaks = _streaks(scene, image)
    chest.pneumonia(scene, patient, image)
    scene.aerated = bacterial * scene.aerated + (1 - bacterial) * (1 - streaks)
    scene.bronchi = scene.bronchi * bacterial


def _streaks(scene: Scene, image: Draws) -> torch.Tensor:
    """Return the part of the air that a viral infection takes, (B, N, N): haze and streaks, densest at both hila."""
    pixels = len(scene.line)
    lines = 1 - smoothstep(smooth_field(image, 26, pixels).abs(), 0.0, 0.5)
    haze = smoothstep(smooth_field(image, 5, pixels), -1.2, 1.6)
    reach = per_image(image.uniform(4, 9))  # cm
    near = torch.exp(-0.5 * (((scene.x.abs() - 3.5) / reach).square() + ((scene.y + 1) / reach).square()))
    return per_image(image.uniform(0.25, 0.75)) * near * (0.3 * lines + 0.7 * haze)


def _with_marker(grey: torch.Tensor, share: float, image: Draws, line: torch.Tensor) -> torch.Tensor:
    """Write the marker in white on a share of the films; the same is drawn whether it is shown or not."""
    shown = image.chance(share)
    usual = torch.tensor([-0.72, -0.905])
    centre = usual + image.normal(0, 1, (2,)).clamp(-1.5, 1.5) * torch.tensor([0.05, 0.006])
    letter = per_image(shown) * side_marker(centre, image.uniform(0.14, 0.175), line)
    return grey + (per_image(image.uniform(0.8, 1.0)) - grey).clamp_min(0) * letter


MODALITY = Modality(
    name="pneumonia",
    version=1,
    class_names=("normal", "pneumonia"),
    channels=1,
    # training in the proportions of the 1,341 and 3,875 published images, testing with the published 234 and 390
    counts={"train": (180, 520), "val": (40, 115), "test": (234, 390)},
    images_per_patient=(0.7, 0.18, 0.08, 0.04),
    shared_patients=0.0,
    draw=partial(draw, MARKED),
)
SWAPPED = replace(MODALITY, name="pneumonia_swapped", draw=partial(draw, MARKED[::-1]), twin_of=MODALITY.name)
UNMARKED = replace(MODALITY, name="pneumonia_unmarked", draw=partial(draw, (0.0, 0.0)), twin_of=MODALITY.name)
