"""The thorax as X-rays see it: lungs, heart, vessels, airways and bones.

Nothing is painted in grey. A body is built of thicknesses along the ray (soft tissue, air, bone, in cm), each the
chord of a round thing; their attenuations add up, the beam is weakened (Beer-Lambert), scattered, blurred and made
noisy, and the film's curve makes grey of it. So a border is seen only where air meets water: fluid and pneumonia
replace air and wipe out the borders of heart and diaphragm that they touch. Lengths are cm; x runs to the right of
the picture, the patient's left, y downwards, from the middle of the chest. Thicknesses are (B, N, N) float32.
"""

import math
from dataclasses import dataclass

import torch

from nbutils.phantoms.base import Draws
from nbutils.phantoms.canvas import per_image, wide_axis
from nbutils.phantoms.radiograph import View
from nbutils.phantoms.shapes import smooth_field, smoothstep, walk

WATER, BONE = 0.17, 0.32  # attenuation per cm at about 100 kV; bone beyond the water that it displaces
APEX, BASE = -11.5, 5.5  # cm: top of the lungs, and the level below which the rib cage grows no wider
FIRST_RIB, NUM_RIBS = -7.2, 12  # cm: where the first rib turns from back to front


@dataclass(frozen=True)
class Body:
    """What all images of a patient share; each (B, 1, 1), lengths in cm."""

    chest: torch.Tensor  # half the width of the rib cage inside
    wall: torch.Tensor  # fat and muscle beside it
    thick: torch.Tensor  # of the trunk, from front to back
    ratio: torch.Tensor  # cardiothoracic ratio in full inspiration
    lie: torch.Tensor  # angle of the heart's long axis, radians
    mediastinum: torch.Tensor  # half width
    ribs: torch.Tensor  # from one rib to the next
    bone: torch.Tensor  # density, 1 = usual
    breast: torch.Tensor  # thickness of the breasts, 0 = flat
    noise: torch.Tensor  # sd of the detector's noise, part of the open beam's square root


@dataclass
class Scene(View):
    """One radiograph: where everything lies; numbers (B, 1, 1) unless said otherwise, lengths in cm."""

    domes: torch.Tensor  # (B, 2) height of the right and the left diaphragm
    turn: torch.Tensor  # how far the front of a turned patient lies to her left
    inflation: torch.Tensor  # part of the lungs that is air, 0..1
    ratio: torch.Tensor  # cardiothoracic ratio
    aerated: torch.Tensor  # (B, N, N) part of the lungs' air that fluid or exudate has left there, 0..1
    bronchi: torch.Tensor  # (B, N, N) or (B, 1, 1) how clearly air in the airways stands out, 0..1


def draw_body(patient: Draws) -> Body:
    """Draw each patient's build."""
    stout = per_image(patient.uniform(0, 1))
    female = per_image(patient.chance(0.45))
    return Body(
        chest=per_image(patient.normal(13.6, 0.6)) - 0.9 * female,
        wall=1.8 + 3.2 * stout + per_image(patient.uniform(-0.4, 0.4)),
        thick=19.5 + 6 * stout + per_image(patient.normal(0, 0.8)),
        ratio=per_image(patient.uniform(0.40, 0.50)),
        lie=per_image(patient.normal(0.62, 0.1)) - 0.15 * stout,
        mediastinum=per_image(patient.uniform(2.3, 3.4)),
        ribs=per_image(patient.normal(2.2, 0.08)),
        bone=per_image(patient.uniform(0.65, 1.25)),
        breast=female * per_image(patient.uniform(0.5, 3.6)),
        noise=per_image(patient.uniform(0.004, 0.014)),
    )


def draw_scene(body: Body, image: Draws, canvas: int) -> Scene:
    """Draw how the patient lies and breathes, without any finding."""
    line = wide_axis(canvas)
    breath = image.uniform(0, 1).sqrt()  # 0 = poor inspiration
    right = 3.8 + 4.4 * breath + image.normal(0, 0.4)
    return Scene(
        line=line,
        half=body.chest * per_image(image.uniform(1.16, 1.4)),
        shift=image.normal(0, 0.8, (1, 2)),
        domes=torch.stack([right, right + image.normal(1.3, 0.5)], -1),
        turn=per_image(image.normal(0, 0.6)),
        inflation=per_image(0.62 + 0.14 * breath),
        ratio=body.ratio + 0.04 * per_image(1 - breath),
        aerated=torch.ones(len(breath), len(line), len(line)),
        bronchi=torch.zeros(len(breath), 1, 1),
    )


def _chord(squared: torch.Tensor) -> torch.Tensor:
    """Return the relative thickness of an ellipsoid at a squared distance from its centre (1 = at its border)."""
    return (1 - squared).clamp_min_(0).sqrt_()


def attenuation_of(body: Body, scene: Scene, image: Draws) -> torch.Tensor:
    """Return the line integral of the attenuation through the patient, (B, N, N)."""
    lungs = (_lungs(body, scene) - _heart(body, scene) - _mediastinum(body, scene)).clamp_min_(0)
    tree = _tree(scene, image)
    texture = smooth_field(image, 30, len(scene.line)).mul_(0.05).add_(1)
    air = torch.sub(lungs, tree, alpha=2.2).clamp_min_(0).mul_(scene.aerated).mul_(texture).mul_(scene.inflation)
    air.add_(torch.minimum(lungs, tree).mul_(scene.bronchi)).add_(_airways(scene)).add_(_stomach(scene, image))
    water = _trunk(body, scene).add_(_breasts(body, scene)).sub_(air).clamp_min_(0)
    return WATER * water + BONE * body.bone * _bones(body, scene, image)


def _trunk(body: Body, scene: Scene) -> torch.Tensor:
    """Return the thickness of the body without its lungs filled: trunk, neck and arms, cm."""
    out, y = scene.x.abs(), scene.y
    half = body.chest + body.wall + 2.5 * smoothstep(-y, -3.0, 7.0)
    shoulder = -16.5 + 7.5 * (out / half).square()  # cm: the line from neck to shoulder
    top = _chord((1 - (y - shoulder) / 9).clamp_(0, 1).square_())
    trunk = body.thick * _chord((out / half).square_().square_()) * top
    neck = 0.6 * body.thick * _chord((out / 6.5).square())
    arm = (out - half - 2.5) / 4.5
    arms = 10 * _chord(arm.square() + ((-6 - y).clamp_min(0) / 4.5).square())
    return torch.maximum(torch.maximum(trunk, neck), arms)


def _breasts(body: Body, scene: Scene) -> torch.Tensor:
    """Return the thickness of the breasts, cm: densest below, where they fold."""
    x = (scene.x.abs() - 8.2) / 6
    y = (scene.y - 4.5) / (5.5 - 2.0 * (scene.y > 4.5))
    return body.breast * _chord(x.square() + y.square())


def _rib_cage(body: Body, scene: Scene) -> torch.Tensor:
    """Return half the width of the rib cage at the height of each pixel, cm."""
    return body.chest * _chord(((BASE - scene.y).clamp_min(0) / (BASE - APEX + 1.2)).square()).clamp_min(0.05)


def _lungs(body: Body, scene: Scene) -> torch.Tensor:
    """Return the thickness of the lungs, cm: an ellipsoid each, cut by the domes of the diaphragm."""
    out = scene.x.abs()
    summit = 4.8  # the apex lies this far from the middle
    across = (out - summit) / torch.where(out > summit, body.chest - summit, 4.4)
    along = (BASE - scene.y).clamp_min(0) / (BASE - APEX)
    lung = 0.74 * body.thick * _chord(across.square() + along.square())
    lateral = ((out - 6) / (body.chest - 6)).clamp_min(0)
    medial = ((6 - out) / 6).clamp_min(0)
    right, left = per_image(scene.domes[:, 0]), per_image(scene.domes[:, 1])
    dome = torch.where(scene.x < 0, right, left) + 5.2 * lateral.square() + 1.5 * medial.square()
    # below the dome a little lung is left behind it, more so at the side
    recess = 1.0 + 6.0 * (out / body.chest).clamp_max(1).square()
    return lung * (1 - ((scene.y - dome) / recess).clamp_(0, 1).sqrt_())


def _heart(body: Body, scene: Scene) -> torch.Tensor:
    """Return the thickness of the heart, cm: an ellipsoid that lies on the left diaphragm."""
    half = scene.ratio * body.chest
    lie = body.lie - 1.3 * (scene.ratio - 0.45)  # a wide heart lies flatter
    cos, sin = lie.cos(), lie.sin()
    slim = 0.74
    long = half / (cos.square() + (slim * sin).square()).sqrt()
    height = long * (sin.square() + (slim * cos).square()).sqrt()
    x = scene.x - 0.34 * half - scene.turn
    y = scene.y - (per_image(scene.domes[:, 1]) + 2.2 - height)
    cos, sin = cos / long, sin / long
    u, v = cos * x + sin * y, (cos * y - sin * x).div_(slim)
    return 2.2 * slim * long * _chord(u.square_().add_(v.square_()).square_())


def _mediastinum(body: Body, scene: Scene) -> torch.Tensor:
    """Return the thickness of great vessels and gullet, cm: on the left the aortic knob and the pulmonary trunk."""
    x, y = scene.x - 0.5 * scene.turn, scene.y
    left = 0.75 * body.mediastinum + 1.3 * torch.exp(-((y + 5.8) / 1.5).square())
    left = left + 0.7 * torch.exp(-((y + 1.5) / 2.2).square())
    right = 0.9 * body.mediastinum + 0.5 * smoothstep(y, -4.0, 2.0)
    return 10 * _chord((x / torch.where(x > 0, left, right)).square())


def _airways(scene: Scene) -> torch.Tensor:
    """Return the thickness of the air in the trachea and the two main bronchi, cm."""
    start = torch.tensor([[-0.2, -18.0], [-0.2, -4.6], [-0.2, -4.6]])
    end = torch.tensor([[-0.2, -4.2], [-3.2, -0.9], [3.9, -1.6]])
    t = torch.linspace(0, 1, 20)[:, None]
    paths = start[:, None] * (1 - t) + end[:, None] * t  # (3, 20, 2)
    aside = 0.3 * scene.turn[..., None] * torch.tensor([1.0, 0.0])
    radii = torch.tensor([0.95, 0.6, 0.55])[:, None].expand(len(aside), -1, 20)
    return scene.cords(paths + aside, radii)


def _stomach(scene: Scene, image: Draws) -> torch.Tensor:
    """Return the thickness of the gas under the left diaphragm, cm; in half of the patients there is none."""
    x = (scene.x - per_image(image.uniform(5, 8))) / per_image(image.uniform(1.5, 3.5))
    y = (scene.y - per_image(scene.domes[:, 1] + image.uniform(2.4, 3.4))) / per_image(image.uniform(1.1, 1.8))
    return per_image(image.chance(0.5) * image.uniform(1.5, 4.5)) * _chord(x.square() + y.square())


def _tree(scene: Scene, image: Draws) -> torch.Tensor:
    """Return the thickness of the vessels that branch from both hila into the lungs, cm."""
    trunks, length = 6, 15
    fan = torch.linspace(-1.2, 1.25, trunks) + image.normal(0, 0.12, (2, trunks))  # up to down
    right, left = math.pi - fan[:, 0], fan[:, 1]
    heading = torch.cat([right, left], 1)  # (B, 12)
    hila = torch.tensor([[-3.2, -0.4], [3.6, -1.4]]).repeat_interleave(trunks, 0)
    start = hila + image.normal(0, 0.35, (2 * trunks, 2))
    stems = walk(image, start, heading, image.uniform(7, 10, (2 * trunks,)) / length, 0.03, length)
    forks = stems[:, :, [length // 5, length // 2]].flatten(1, 2)  # (B, 24, 2)
    spread = torch.tensor([0.5, -0.45]).repeat(2 * trunks) * (2 * image.chance(0.5, (4 * trunks,)) - 1)
    twigs = walk(image, forks, heading.repeat_interleave(2, 1) + spread, 6.0 / length, 0.035, length)
    radius = image.uniform(0.35, 0.6, (2 * trunks,))
    taper = torch.linspace(1.0, 0.25, length)
    thin = 0.6 * radius.repeat_interleave(2, 1)
    return scene.cords(torch.cat([stems, twigs], 1), torch.cat([radius, thin], 1)[..., None] * taper)


def _bones(body: Body, scene: Scene, image: Draws) -> torch.Tensor:
    """Return the thickness of bone, cm: ribs behind and in front, spine, clavicles, shoulder blades, arms."""
    out = scene.x.abs()
    width = _rib_cage(body, scene)
    round_ = _chord((out / width).square())
    # a rib is a hoop that hangs from the spine: seen from the front, two halves of an ellipse
    behind = (scene.y + 4.9 * round_ - FIRST_RIB) / body.ribs
    front = (scene.y - 4.2 * round_ - FIRST_RIB) / body.ribs
    edge_on = (1.9 - 0.9 * round_) * (round_ > 0)  # near the wall the beam runs along the rib
    bone = (0.75 * _row(behind) + 0.5 * smoothstep(out, 4.5, 8.0) * _row(front)) * edge_on
    return bone + _spine(scene) + _clavicles(scene, image) + _shoulders(body, scene, image)


def _row(position: torch.Tensor) -> torch.Tensor:
    """Return the profile of a row of ribs, 0..1, at a position counted in ribs; they are hollow, so rims are denser."""
    away = position.sub(position.round().clamp_(0, NUM_RIBS - 1)).square_().mul_(1 / 0.3**2)
    return _chord(away).mul_(away.mul_(0.35).add_(0.75))


def _spine(scene: Scene) -> torch.Tensor:
    x = (scene.x + 0.4 * scene.turn) / 1.9
    discs = 0.8 + 0.2 * torch.cos(scene.y * (2 * math.pi / 2.3))
    return 1.1 * _chord(x.square()) * discs


def _clavicles(scene: Scene, image: Draws) -> torch.Tensor:
    """Return the thickness of the clavicles, cm: two S-shaped bars over the apices."""
    out = torch.linspace(2, 16, 32)
    lift, slope = image.normal(-8.6, 0.6)[:, None], image.uniform(0.08, 0.3)[:, None]
    y = lift - slope * out - 0.55 * torch.sin((out - 2) * (2 * math.pi / 15))  # (B, 32)
    x = torch.tensor([-1.0, 1.0])[:, None] * out + 0.6 * scene.turn  # (B, 2, 32)
    paths = torch.stack([x, y[:, None].expand_as(x)], -1)
    return scene.cords(paths, torch.full(x.shape, 0.65)).mul_(1.3)


def _shoulders(body: Body, scene: Scene, image: Draws) -> torch.Tensor:
    """Return the thickness of shoulder blades and heads of the arms, cm; the blades are more or less pulled aside."""
    out, y = scene.x.abs(), scene.y
    border = body.chest - per_image(image.uniform(-0.5, 3.0)) + 0.12 * y + 0.05 * (y + 4).clamp_min(0).square()
    plate = smoothstep(out - border, 0.0, 0.6)
    blade = plate * (1.2 - plate) * smoothstep(y, -9.5, -8.0) * (1 - smoothstep(y, 2.0, 4.5))
    arm = body.chest + body.wall + 4.6
    return blade + 2.2 * _chord(((out - arm) / 2.4).square() + ((y + 7) / 2.4).square())
