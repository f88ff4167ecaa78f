"""Focal liver lesions in portal-venous CT patches: cyst, hemangioma, metastasis.

What is drawn follows the reading of GenMix, "Image Assessment": cysts dark and homogeneous, hemangiomas with
vessel-bright nodules around them, metastases with indistinct borders and an inhomogeneous inside; distinct when
large, hardly so when small, because a slice of 3 to 5 mm averages over a small sphere. All is drawn in Hounsfield
units, blurred and made noisy in millimetres as a scanner would, and shown in one window.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import (
    MARGIN,
    Batch,
    across,
    around,
    crop,
    direction,
    filtered,
    in_some,
    per_image,
    squared_frequency,
    wide_axis,
)
from nbutils.phantoms.shapes import outline, smooth_field, smoothstep, splats, tubes, walk

WINDOW_HU = (-60.0, 180.0)
"""Shown as black and as white: level 60, width 240 HU, a usual window for the contrast-enhanced liver."""

MEDIAN_MM = (13.0, 17.0, 19.0)  # diameter of a typical cyst, hemangioma, metastasis


@dataclass(frozen=True)
class Scan(Batch):
    """What all images of a patient share; each field (B, 1, 1)."""

    liver: torch.Tensor  # HU of the parenchyma, low in steatosis
    vessel: torch.Tensor  # HU of the veins, by the phase of the contrast agent
    noise: torch.Tensor  # sd of the noise, HU
    blur: torch.Tensor  # sd of the point spread function, mm
    slice: torch.Tensor  # slice thickness, mm
    patchy: torch.Tensor  # sd of the coarse unevenness of the parenchyma, HU


@dataclass(frozen=True)
class Scene(Batch):
    """The geometry of each image; numbers (B, 1, 1), maps (B, N, N)."""

    line: torch.Tensor  # (N,) pixel centres, -MARGIN to MARGIN
    half: torch.Tensor  # half the width of the patch, mm
    radius: torch.Tensor  # of the lesion, patch units
    centre: torch.Tensor  # (B, 2)
    x: torch.Tensor  # (B, N, N) from the lesion's centre, in its radii
    y: torch.Tensor

    @property
    def radius_mm(self) -> torch.Tensor:
        """Radius of the lesion, mm."""
        return self.radius * self.half


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw patches of one class, (B, 1, canvas, canvas), 0..255 for the window WINDOW_HU."""
    scan = _scan(patient)
    scene = _scene(label, image, canvas)
    vessels = _vessels(scene, image)
    hu = scan.liver + scan.patchy * smooth_field(image, 5, len(scene.line))
    hu = hu + (scan.vessel - hu) * vessels
    hu = in_some(image.chance(0.35), _surroundings, hu, scene, image)
    hu = in_some(image.chance(0.2), partial(_second_lesion, label), hu, scan, scene, image)
    hu = LESIONS[label](hu, scan, scene, image)
    hu = _scanner(hu, scan, scene, image)
    low, high = WINDOW_HU
    return (crop(hu[:, None], canvas) - low) * (255 / (high - low))


def _scan(patient: Draws) -> Scan:
    fatty = per_image(patient.chance(0.25))
    liver = per_image(patient.normal(112, 9)) - fatty * per_image(patient.uniform(15, 45))
    return Scan(
        liver=liver,
        vessel=per_image(patient.normal(170, 14)).clamp_min(liver + 38),
        noise=per_image(patient.uniform(7, 17)),
        blur=per_image(patient.uniform(0.5, 1.0)),
        slice=per_image(patient.uniform(3, 5)),
        patchy=per_image(patient.uniform(1.5, 6)),
    )


def _scene(label: int, image: Draws, canvas: int) -> Scene:
    diameter = (image.normal(0.0, 0.5).exp() * MEDIAN_MM[label]).clamp(5, 80)
    width = (diameter / image.uniform(0.2, 0.8)).clamp_min(22)  # mm
    radius = diameter / width
    line = wide_axis(canvas)
    centre = image.uniform(-0.22, 0.22, (2,)) + image.normal(0, 0.03, (2,))
    return Scene(line, per_image(width / 2), per_image(radius), centre, *around(line, centre, radius))


def _vessels(scene: Scene, image: Draws) -> torch.Tensor:
    """Return the part of each pixel that is vein: three trees of a trunk and two branches, and some cut across."""
    trees, length, batch = 3, 30, len(scene.centre)
    half = scene.half[..., 0]  # (B, 1)
    seen = image.chance((0.2 + half / 60).clamp_max(0.85), (trees,))
    radius = image.normal(math.log(1.6), 0.45, (trees,)).exp() / half * seen  # (B, trees)
    angle = image.uniform(0, 2 * math.pi, (trees,))
    start = 1.2 * direction(angle)
    heading = angle + math.pi + image.normal(0, 0.5, (trees,))
    trunks = walk(image, start, heading, 2.6 / length, 0.03, length)
    fork = image.uniform(0.2, 0.7, (trees, 2)).mul(length).long()  # (B, trees, 2)
    forks = trunks.gather(2, fork[..., None].expand(-1, -1, -1, 2)).reshape(batch, -1, 2)
    spread = image.uniform(0.4, 1.0, (trees, 2)) * torch.tensor([1.0, -1.0])
    branches = walk(image, forks, (heading[..., None] + spread).flatten(1), 1.7 / length, 0.035, length)
    taper = torch.linspace(1.0, 0.55, length)
    thin = (radius[..., None] * image.uniform(0.5, 0.8, (trees, 2))).flatten(1)
    paths = torch.cat([trunks, branches], 1)
    veins = tubes(paths, torch.cat([radius, thin], 1)[..., None] * taper, scene.line)
    holes = splats(
        image.uniform(-1.1, 1.1, (8, 2)),
        image.uniform(0.6, 1.8, (8,)) / half,
        image.chance((half / 40).clamp_max(0.7), (8,)),
        scene.line,
    )
    return torch.maximum(veins, smoothstep(holes, 0.3, 0.7))


def _surroundings(hu: torch.Tensor, scene: Scene, image: Draws) -> torch.Tensor:
    """Let the liver end: a layer of fat, then muscle with a rib, lung, kidney or stomach."""
    normal = direction(image.uniform(0, 2 * math.pi))
    offset = per_image((normal * scene.centre).sum(-1)) + scene.radius * per_image(image.uniform(0.85, 1.2))
    offset = offset.maximum(per_image(image.uniform(0.3, 0.95)))
    along = across(scene.line, torch.stack([-normal[:, 1], normal[:, 0]], -1))
    bend = per_image(image.uniform(-0.1, 0.45))
    depth = across(scene.line, normal) - offset + bend * along.square() + 0.03 * smooth_field(image, 4, len(scene.line))
    depth = depth * scene.half  # mm beyond the liver's surface
    kind = image.uniform(0, 4).long()
    organ = torch.tensor([60.0, -820.0, 165.0, 25.0])[kind]  # muscle, lung, kidney, stomach
    rough = torch.tensor([8.0, 40.0, 14.0, 22.0])[kind]
    organ = per_image(organ) + per_image(rough) * smooth_field(image, 9, len(scene.line))
    place = per_image(image.uniform(-0.6, 0.6)) * scene.half
    rib = ((depth - 9) / 4).square() + ((along * scene.half - place) / 9).square()
    organ = organ + per_image((kind < 1).float()) * 330 * (1 - smoothstep(rib, 0.6, 1.2))
    layer = per_image(image.uniform(0.5, 7))  # mm
    beyond = -98 + (organ + 98) * smoothstep(depth, layer - 0.5, layer + 0.5)
    return hu + (beyond - hu) * smoothstep(depth, -0.4, 0.4)


def _second_lesion(label: int, hu: torch.Tensor, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Put a smaller lesion of the same class beside the first."""
    angle, size = image.uniform(0, 2 * math.pi), image.uniform(0.25, 0.5)
    away = 1 + size + image.uniform(0.1, 0.7)
    x = (scene.x - per_image(away * angle.cos())) / per_image(size)
    y = (scene.y - per_image(away * angle.sin())) / per_image(size)
    step = per_image(torch.stack([angle.cos(), angle.sin()], -1))[..., 0, 0] * (away * scene.radius[:, 0, 0])[:, None]
    small = Scene(scene.line, scene.half, scene.radius * per_image(size), scene.centre + step, x, y)
    return LESIONS[label](hu, scan, small, image)


def _cyst(hu: torch.Tensor, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Water, sharply bordered and round; one in seven lobed, one in seven with denser contents."""
    lobed, dense = image.chance(0.15), image.chance(0.15)
    shape = outline(scene.x, scene.y, image, 1 + image.uniform(0, 0.3), 0.02 + 0.05 * lobed)
    inside = image.normal(9, 5) + dense * image.uniform(8, 32)
    return hu + (per_image(inside) - hu) * _filling(shape, 0.03, scan, scene, image)


def _hemangioma(hu: torch.Tensor, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Blood lakes that fill from the rim: bright nodules there, discontinuous; a small one may be filled already."""
    shape = outline(scene.x, scene.y, image, 1 + image.uniform(0, 0.5), image.uniform(0.02, 0.07))
    flash = per_image(image.chance(0.7 - scene.radius_mm[:, 0, 0] / 10))
    bright = scan.vessel + per_image(image.uniform(-12, 10))
    pool = torch.minimum(per_image(image.normal(60, 12)), scan.liver - 14)
    pool = pool + per_image(image.uniform(0, 16)) * shape.clamp_max(1).square()
    pool = pool + 5 * smooth_field(image, 6, len(scene.line))
    lakes = hu + (pool + (bright - pool) * flash - hu) * _filling(shape, 0.06, scan, scene, image)
    nodules = _rim_nodules(scene, image) * (1 - smoothstep(shape, 0.95, 1.2))
    # one in six takes up little of the agent; a nodule thinner than the slice is diluted, too
    shown = per_image(image.uniform(0.75, 1.0) - image.chance(0.16) * image.uniform(0.2, 0.6))
    shown = shown * (0.9 * scene.radius_mm / scan.slice).clamp_max(1)
    return lakes + (bright - lakes).clamp_min(0) * nodules * shown


def _rim_nodules(scene: Scene, image: Draws) -> torch.Tensor:
    """Return twelve round nodules spread over an arc of the lesion's rim, (B, N, N) in 0..1."""
    nodes = 12
    arc = image.uniform(1.2, math.pi)[:, None]
    angle = image.uniform(0, 2 * math.pi)[:, None] + arc * image.uniform(-1, 1, (nodes,))
    reach = image.uniform(0.75, 1.0, (nodes,))
    points = reach[..., None] * direction(angle) * scene.radius + scene.centre[:, None]
    size = image.uniform(0.08, 0.2, (nodes,)) * scene.radius[..., 0]
    return smoothstep(splats(points, size, image.uniform(0.5, 1.3, (nodes,)), scene.line), 0.08, 0.45)


def _metastasis(hu: torch.Tensor, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Solid tissue with an indistinct, lobed border, uneven inside; often necrotic, with a rim, rarely calcified."""
    pixels = len(scene.line)
    shape = outline(scene.x, scene.y, image, 1 + image.uniform(0, 0.6), image.uniform(0.03, 0.12))
    rough = smooth_field(image, 7, pixels)
    shape = shape + per_image(image.uniform(0.02, 0.12)) * rough
    tissue = torch.minimum(per_image(image.normal(66, 13)), scan.liver - 16)
    tissue = tissue + per_image(image.uniform(3, 16)) * smooth_field(image, 8, pixels)
    rim = per_image(image.chance(0.35) * image.uniform(15, 60))
    rim = rim * torch.exp(-(((shape - 0.88) / 0.13).square())) * (1 + 0.4 * rough).clamp(0, 1.5)
    core = per_image(image.uniform(0.35, 0.95))
    necrosis = 1 - smoothstep(shape + 0.1 * smooth_field(image, 5, pixels), core - 0.2, core + 0.15)
    dead = per_image(image.uniform(12, 40))
    inside = tissue + (dead - tissue) * necrosis * per_image(image.chance(0.45) * image.uniform(0.4, 1.0)) + rim
    chalk = smoothstep(smooth_field(image, 14, pixels), 1.6, 2.4) * per_image(image.chance(0.06))
    inside = inside + 220 * chalk
    return hu + (inside - hu) * _filling(shape, per_image(image.uniform(0.05, 0.45)), scan, scene, image)


LESIONS = (_cyst, _hemangioma, _metastasis)


def _filling(shape: torch.Tensor, soft, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Return how much of the slice the lesion fills at each pixel, 0..1.

    A body of revolution, `2 height` high above a pixel, meets a slice whose middle is off its equator; `soft` is
    the half width of a diffuse border in radii.
    """
    height = scene.radius_mm * (1 - (shape / (1 + soft)).square()).clamp_min(0).sqrt()
    middle = scene.radius_mm * per_image(image.uniform(-0.35, 0.35))
    top = torch.minimum(height, middle + scan.slice / 2)
    bottom = torch.maximum(-height, middle - scan.slice / 2)
    part = ((top - bottom) / scan.slice).clamp_min(0)
    return part * (1 - smoothstep(shape, 1 - soft, 1 + soft))


def _scanner(hu: torch.Tensor, scan: Scan, scene: Scene, image: Draws) -> torch.Tensor:
    """Blur the scene by the point spread function and add noise of the kernel's texture, both in the Fourier domain."""
    pixels = hu.shape[-1]
    pixel_mm = 2 * MARGIN * scene.half / pixels
    frequency = squared_frequency(pixels).sqrt() / pixel_mm  # (B, N, N // 2 + 1), cycles per mm
    transfer = torch.exp(-2 * (math.pi * scan.blur * frequency).square())
    # a filtered back-projection suppresses slow noise (ramp) and, like the image, fast noise (kernel)
    grain = (0.12 + frequency) * torch.exp(-2 * (math.pi * 0.8 * scan.blur * frequency).square())
    white = image.normal(shape=(144, 144))  # one grid for all canvases, so that they show the same noise
    if pixels != 144:
        white = torch.nn.functional.interpolate(white[:, None], (pixels, pixels), mode="bicubic")[:, 0]
    noise = filtered(white, grain)
    noise = noise * (scan.noise / noise.std((1, 2), keepdim=True))
    return filtered(hu, transfer) + noise


MODALITY = Modality(
    name="liver",
    version=1,
    class_names=("cyst", "hemangioma", "metastasis"),
    channels=1,
    counts={"train": (433, 70, 178), "val": (115, 30, 157), "test": (128, 30, 149)},  # GenMix, section 3
    images_per_patient=(0.48, 0.22, 0.12, 0.08, 0.10),
    shared_patients=0.4,
    draw=draw,
)
