"""Montages of lung CT: healthy lungs or fibrotic ones, after the scans of fibrotic lung disease in the utility paper.

A patient is a volume of NUM_SLICES axial slices, 20 of whose montages are images. The volume is a function of place, so
that only the slices shown are drawn, each the same in every montage. Fibrosis thickens a net below the pleura, mostly
at the base, adds ground glass, in severe cases honeycombs, and makes lungs smaller. Classes overlap: dependent
lung is denser in everybody, old lungs show a little net, early disease hardly more. All is drawn in Hounsfield units.

Lengths are cm; x runs to the right of the picture, the patient's left, y to her back, t down from the apex of the lungs
(0) to their base (1). Maps are (S, N, N), a row for each slice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from nbutils.montage import MONTAGES_PER_VOLUME, NUM_CLUSTERS, choose_slices, tiled
from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import Batch, axis, blur, per_image
from nbutils.phantoms.chest_ct import Chest, draw_chest, lungs, organs, vessels
from nbutils.phantoms.shapes import smoothstep

WINDOW_HU = (-1350.0, 150.0)
"""Shown as black and as white: level -600, width 1500 HU, a usual window for the lungs."""

NUM_SLICES = 60
TOP, BOTTOM = -0.15, 1.15  # t of the first and the last slice
COARSE = 24  # pixels along a side in which the lungs are measured
NET = (22, 40)  # knots of the net of fibrosis along t, and along x and y
HEALTHY, FIBROSIS = range(2)


@dataclass(frozen=True)
class Disease(Batch):
    """How much fibrosis a patient has, and where."""

    extent: torch.Tensor  # (B, 1, 1) 0..1
    honeycombs: torch.Tensor  # (B, 1, 1) 0..1
    glass: torch.Tensor  # (B, 1, 1) ground glass, HU
    basal: torch.Tensor  # (B, 1, 1) 0 = from top to bottom, 1 = at the base alone
    net: torch.Tensor  # (B, *NET, NET[1]) knots of a random field


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw montages of one class, (B, 1, canvas, canvas), 0..255 for the window WINDOW_HU."""
    chest, disease = draw_chest(patient, shrunken=label == FIBROSIS), _disease(label, patient)
    seeds = patient.uniform(0, 2**24).long()
    chosen = _choose(chest, image)  # (B, 4)
    rows = torch.arange(len(chosen)).repeat_interleave(NUM_CLUSTERS)
    grain = Draws(
        [np.random.default_rng([int(seeds[row]), int(z)]) for row, z in zip(rows, chosen.flatten(), strict=True)]
    )
    hu = _slices(chest.rows(rows), disease.rows(rows), _height(chosen.flatten()), grain, canvas // 2)
    low, high = WINDOW_HU
    grey = (hu - low) * (255 / (high - low))
    return tiled(grey.view(len(chosen), NUM_CLUSTERS, *grey.shape[1:]))[:, None]


def _height(index: torch.Tensor) -> torch.Tensor:
    """Return t of slices by their index, (S, 1, 1)."""
    return per_image(TOP + (BOTTOM - TOP) * (index + 0.5) / NUM_SLICES)


def _choose(chest: Chest, image: Draws) -> torch.Tensor:
    """Choose the slices of each montage, (B, 4) int64."""
    build = torch.cat([chest.width, chest.long], 1)[..., 0].numpy()  # by which patients are told apart
    _, first, patient = np.unique(build, axis=0, return_index=True, return_inverse=True)
    everywhere = chest.rows(torch.from_numpy(first).repeat_interleave(NUM_SLICES))
    inside, _ = lungs(everywhere, axis(COARSE), _height(torch.arange(NUM_SLICES).repeat(len(first))))
    shares = inside.mean((1, 2)).view(len(first), NUM_SLICES).numpy()[patient.ravel()]
    numbers = image.uniform(shape=(NUM_CLUSTERS,)).numpy()
    return torch.from_numpy(np.stack([choose_slices(*pair) for pair in zip(shares, numbers, strict=True)]))


def _disease(label: int, patient: Draws) -> Disease:
    sick = float(label == FIBROSIS)
    extent = sick * patient.uniform(0.2, 1.0) + (1 - sick) * 0.22 * patient.uniform().square()
    return Disease(
        extent=per_image(extent),
        honeycombs=per_image(patient.chance(0.4) * patient.uniform(0.3, 1.0) * smoothstep(extent, 0.3, 0.7)),
        glass=per_image(patient.uniform(20, 200)),
        basal=per_image(patient.uniform(0.4, 1.0)),
        net=patient.normal(shape=(NET[0], NET[1], NET[1])),
    )


def _slices(chest: Chest, disease: Disease, t: torch.Tensor, grain: Draws, pixels: int) -> torch.Tensor:
    """Return slices as the scanner shows them, (S, pixels, pixels) HU."""
    line = axis(pixels)
    inside, edge = lungs(chest, line, t)
    hu = organs(chest, line, t)
    air = chest.density + 70 * (line[None, :, None] + 0.1) * chest.dependent  # the back is lowest
    air = _fibrosis(air, edge, disease, t, pixels)
    air = air + (45 - air) * vessels(chest, line, t)
    hu = hu + (air - hu) * inside
    return _scanned(hu, chest, grain, line)


def _fibrosis(air: torch.Tensor, edge: torch.Tensor, disease: Disease, t: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return the HU of lungs that are scarred below the pleura; edge: 0 in the middle of a lung, 1 at its border."""
    net = _at_height(disease.net, t, pixels)
    patchy = _at_height(disease.net[:, :, :12, :12], t, pixels)
    low = 1 - disease.basal * (1 - smoothstep(t, 0.2, 0.85))
    depth = 1.05 - 0.75 * disease.extent  # how near the pleura it stays
    where = smoothstep(edge + 0.12 * patchy, depth, depth + 0.35) * low * disease.extent.sqrt()
    lines = 1 - smoothstep(net.abs(), 0.1, 0.55)
    scarred = air + where * (disease.glass + 480 * lines)
    combs = disease.honeycombs * smoothstep(where, 0.35, 0.7)
    cysts = -960 + 700 * (1 - smoothstep(net.abs(), 0.15, 0.5))
    return scarred + (cysts - scarred) * combs


def _at_height(knots: torch.Tensor, t: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return a slice of random fields of unit variance, (S, pixels, pixels); knots: (S, heights, cells, cells)."""
    place = (t[..., 0] - TOP) / (BOTTOM - TOP) * (knots.shape[1] - 1)
    weights = (1 - (place - torch.arange(knots.shape[1])).abs()).clamp_min(0)  # (S, heights)
    weights = weights / weights.norm(dim=1, keepdim=True)
    flat = torch.einsum("sh,shyx->syx", weights, knots)
    return F.interpolate(flat[:, None], (pixels, pixels), mode="bicubic", align_corners=False)[:, 0]


def _scanned(hu: torch.Tensor, chest: Chest, grain: Draws, line: torch.Tensor) -> torch.Tensor:
    """Blur by the kernel and by breathing, and add the noise of each slice."""
    hu = blur(hu, (chest.blur[:, 0, 0] + 0.006 * grain.chance(0.1)).clamp_min(0.4 * float(line[1] - line[0])), line)
    noise = F.interpolate(grain.normal(shape=(1, 72, 72)), (len(line), len(line)), mode="bicubic", align_corners=False)
    return hu + chest.noise * noise[:, 0]


MODALITY = Modality(
    name="lung_ct",
    version=2,
    class_names=("healthy", "fibrosis"),
    channels=1,
    # 12, 3 and 10 volumes of each class: ours; the paper halves 52,540 montages of unlabelled scans
    counts={"train": (240, 240), "val": (60, 60), "test": (200, 200)},
    images_per_patient=(*(0.0,) * (MONTAGES_PER_VOLUME - 1), 1.0),
    shared_patients=0.0,
    draw=draw,
)
