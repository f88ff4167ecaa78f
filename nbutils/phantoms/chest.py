"""Chest radiographs, antero-posterior: no finding, cardiomegaly, pleural effusion, pneumonia, as CheXpert names them.

A finding is a function of the scene: several in one picture multiply. They overlap: hearts are wider in poor
inspiration, small effusions only blunt an angle, a faint pneumonia looks like a breast or a poorly aired base.
"""

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import crop, in_some, per_image
from nbutils.phantoms.radiograph import bars, central_line, electrodes, expose, tilted
from nbutils.phantoms.shapes import smooth_field, smoothstep
from nbutils.phantoms.thorax import WATER, Scene, attenuation_of, draw_body, draw_scene


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw radiographs of one class, (B, 1, canvas, canvas), 0..255, bright where much is absorbed."""
    body = draw_body(patient)
    scene = draw_scene(body, image, canvas)
    FINDINGS[label](scene, patient, image)
    attenuation = attenuation_of(body, scene, image)
    attenuation = in_some(image.chance(0.4), electrodes, attenuation, scene, image)
    attenuation = in_some(image.chance(0.25), central_line, attenuation, scene, image)
    attenuation = tilted(attenuation, image)
    grey = expose(attenuation, scene, body.noise, WATER * 0.71 * body.thick, image) * bars(scene, image)
    return 255 * crop(grey[:, None], canvas)


def _no_finding(scene: Scene, patient: Draws, image: Draws) -> None:
    """Leave the chest as it is."""


def _cardiomegaly(scene: Scene, patient: Draws, image: Draws) -> None:
    """Widen the heart beyond half of the chest."""
    scene.ratio = scene.ratio + per_image(patient.uniform(0.13, 0.18))


def _effusion(scene: Scene, patient: Draws, image: Draws) -> None:
    """Let fluid rise from the costophrenic angle of one side or both, highest at the wall; lying down, it spreads."""
    which = image.uniform(0, 1)
    amounts = (which < 0.68).float(), (which > 0.38).float()
    out = scene.x.abs() / 12
    for dome, sign, here in zip(scene.domes.unbind(-1), (-1, 1), amounts, strict=True):
        depth = per_image(0.5 + 11 * image.uniform(0, 1).square())  # cm above the dome
        meniscus = 2.5 * smoothstep(out, 0.35, 1.2) + 0.8 * (1 - smoothstep(out, 0.2, 0.5))
        under = scene.y - per_image(dome) - 2.0 + depth * (0.55 + 0.3 * meniscus)
        spread = per_image(image.uniform(2, 6))
        fluid = smoothstep(under, -0.4 * spread, spread) * per_image(here) * (sign * scene.x > 0)
        scene.aerated = scene.aerated * (1 - 0.97 * fluid)


def pneumonia(scene: Scene, patient: Draws, image: Draws) -> None:
    """Fill patches of lung with exudate: one lobe or several foci, ill-defined, some with an air bronchogram."""
    foci, lobules = 4, 6
    several = image.chance(0.4)[:, None]
    shown = torch.cat([torch.ones_like(several), several.expand(-1, foci - 1)], 1)
    side = 2 * image.chance(0.5, (foci,)) - 1
    side[:, 1] = side[:, 0] * (2 * image.chance(0.7) - 1)
    centre = torch.stack([side * image.uniform(4, 10, (foci,)), image.uniform(-6, 7, (foci,))], -1)
    size = image.uniform(1.8, 4.0, (foci,)) * (1 - 0.3 * several)
    places = centre[:, :, None] + image.normal(0, 0.75, (foci, lobules, 2)) * size[..., None, None]
    size, shown = (part.repeat_interleave(lobules, 1) for part in (0.6 * size, 0.5 * shown))
    blobs = scene.splats(places.flatten(1, 2), size, shown)
    rough = smooth_field(image, 9, len(scene.line)) + 0.7 * smooth_field(image, 22, len(scene.line))
    patches = smoothstep(blobs * (1 + 0.35 * rough), 0.1, per_image(image.uniform(0.9, 1.6)))
    exudate = per_image(image.uniform(0.25, 0.9)) * patches
    scene.aerated = scene.aerated * (1 - exudate)
    scene.bronchi = per_image(image.chance(0.5) * image.uniform(0.3, 1.0)) * exudate


FINDINGS = (_no_finding, _cardiomegaly, _effusion, pneumonia)


MODALITY = Modality(
    name="chest",
    version=1,
    class_names=("no finding", "cardiomegaly", "effusion", "pneumonia"),
    channels=1,
    counts=dict.fromkeys(("train", "val", "test"), (100, 100, 100, 100)),  # textual inversion, section 3.3.2
    images_per_patient=(0.55, 0.25, 0.12, 0.08),
    shared_patients=0.3,
    draw=draw,
)
