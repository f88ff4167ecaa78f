"""Where the objects of a scene lie, and how large and turned they are: words become numbers."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from nbutils.corpus.draws import Draws
from nbutils.corpus.scenes import FILLINGS, LINE_SHAPES, Scene, among, weights_of

MOST = 6  # objects in a group
SIZES = torch.tensor([[0.21, 0.27], [0.38, 0.50], [0.62, 0.85]])  # radius of small, medium and large objects
GROUP_SIZES = torch.tensor([[0.20, 0.26], [0.34, 0.42]])
CENTRES = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [-1, -1], [1, -1], [-1, 1], [1, 1]]).float()
REACH = torch.tensor([0.58, 0.44, 0.0])  # how far off the centre a small, medium or large object lies
SIDES = CENTRES[1:5]  # left, right, above, below
UPRIGHT = ("triangle", "square", "diamond", "star", "cross", "branch")
OTHER_WEIGHTS = {"plain": 5, "shaded": 2, "gradient": 2, "cloudy": 1, "rough": 1}


@dataclass(frozen=True)
class Objects:
    """M objects, in the order in which they are painted.

    image: (M,) int64, its row in the batch; slot: (M,) int64, ascending, at most one object per image and slot.
    is_other: (M,) bool, the second object of a pair, or the outer one of nested ones.
    shape, filling: (M,) int64; centre: (M, 2), radius, angle: (M,), canvas units and radians.
    draws: one stream per object.
    """

    image: torch.Tensor
    slot: torch.Tensor
    is_other: torch.Tensor
    shape: torch.Tensor
    filling: torch.Tensor
    centre: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor
    draws: Draws


def place(scene: Scene, draws: Draws) -> Objects:
    """Place the objects of B scenes: slot 0 holds the second object of a pair or the outer one, the others the rest."""
    other_centre, other_radius, centre, radius = _pairs(scene, draws)
    alike_centre, alike_radius = _alike(scene, draws)  # (B, MOST, 2), (B, MOST)
    paired = scene["relation"] >= 0
    alike_centre[paired, 0], alike_radius[paired, 0] = centre[paired], radius[paired]
    number = _number(scene, draws)
    present = torch.cat([paired[:, None], torch.arange(MOST) < number[:, None]], 1)  # (B, 1 + MOST)
    slot, image = present.T.nonzero().unbind(1)
    centres = torch.cat([other_centre[:, None], alike_centre], 1)[image, slot]
    radii = torch.cat([other_radius[:, None], alike_radius], 1)[image, slot]
    keys = [draws.part(f"object {k}").keys[image[slot == k].numpy()] for k in range(1 + MOST)]
    own, is_other = Draws(np.concatenate(keys)), slot == 0
    shape = torch.where(is_other, scene["other_shape"][image], scene["shape"][image])
    filling = torch.where(is_other, _other_filling(shape, own), scene["filling"][image])
    return Objects(image, slot, is_other, shape, filling, centres, radii, _angle(shape, own), own)


def _number(scene: Scene, draws: Draws) -> torch.Tensor:
    """Return how many like objects there are, (B,) int64; 0 in a texture."""
    many = among("count", scene["count"], "many")
    number = torch.where(many, 4 + draws.choice("how many", [1, 1, 1]), scene["count"].clamp_min(0) + 1)
    return torch.where(scene["shape"] < 0, 0, number)


def _alike(scene: Scene, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centres (B, MOST, 2) and radii (B, MOST) of one object or a group; a group's hardly touch."""
    size, count = scene["size"].clamp_min(0), scene["count"]
    jitter = draws.uniform("jitter", -1, 1, (MOST, 2))
    single = (CENTRES[scene["position"].clamp_min(0)] * REACH[size, None])[:, None] + jitter * 0.07
    slots = torch.arange(MOST)
    turn = draws.uniform("turn")[:, None] + slots / (count.clamp_min(1)[:, None] + 1)  # (B, MOST)
    circle = torch.stack([(2 * math.pi * turn).cos(), (2 * math.pi * turn).sin()], -1)
    around = circle * torch.where(count == 1, 0.50, 0.56)[:, None, None] + jitter * 0.04
    cells = draws.uniform("cells", shape=(9,)).argsort(1)[:, :MOST]
    grid = torch.stack([cells % 3 - 1, cells // 3 - 1], -1) * 0.62 + jitter * 0.07
    few, many = among("count", count, "two", "three"), among("count", count, "many")
    centre = torch.where(few[:, None, None], around, torch.where(many[:, None, None], grid, single))
    share = draws.uniform("radius")[:, None] * 0.7 + draws.uniform("radii", shape=(MOST,)) * 0.3
    bounds = torch.where((few | many)[:, None], GROUP_SIZES[size.clamp_max(1)], SIZES[size])  # (B, 2)
    return centre, bounds[:, :1] + (bounds[:, 1:] - bounds[:, :1]) * share


def _pairs(scene: Scene, draws: Draws):
    """Return centre and radius of the second and of the first of two objects, side by side or nested."""
    nested = among("scene", scene["scene"], "nested")
    side = SIDES[scene["relation"].clamp(0, 3)]
    aside = side.flip(1) * draws.uniform("aside", -0.16, 0.16)[:, None]
    apart = side * draws.uniform("apart", 0.44, 0.5)[:, None] + aside
    middle, within = draws.uniform("middle", -0.1, 0.1, (2,)), draws.uniform("within", -0.22, 0.22, (2,))
    within = torch.where(among("other_shape", scene["other_shape"], "ring")[:, None], within * 0.4, within)
    other_radius = torch.where(nested, draws.uniform("outer", 0.68, 0.86), draws.uniform("second", 0.3, 0.4))
    radius = torch.where(nested, draws.uniform("inner", 0.23, 0.33), draws.uniform("first", 0.3, 0.4))
    nested = nested[:, None]
    return torch.where(nested, middle, -apart), other_radius, torch.where(nested, middle + within, apart), radius


def _other_filling(shape: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw fillings that no caption mentions, (M,) int64."""
    filling = draws.choice("other filling", weights_of(FILLINGS, OTHER_WEIGHTS))
    return torch.where(among("shape", shape, *LINE_SHAPES), FILLINGS.index("plain"), filling)


def _angle(shape: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw how far objects are turned, (M,) radians; shapes that have an upper side mostly stand nearly upright."""
    upright = among("shape", shape, *UPRIGHT) & draws.chance("upright", 0.7)
    return torch.where(upright, draws.uniform("lean", -0.2, 0.2), draws.uniform("turn", 0, 2 * math.pi))
