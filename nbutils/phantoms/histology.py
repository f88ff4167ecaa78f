"""Lymph nodes in haematoxylin and eosin: normal tissue or metastasis, as in the patches of PatchCamelyon.

A field of 93 um; it is a metastasis if tumour lies in its middle third. Normal are small round lymphocytes, densely
packed, with germinal centres, sinuses, trabeculae, vessels, capsule and fat. Tumour cells are larger and uneven,
vesicular with nucleoli and pink cytoplasm, in sheets, nests or glands. Classes overlap: germinal centres and
histiocytes have large pale nuclei, too, some tumours are of small cells, some nests are small, and some normal
patches have tumour at their border. All is drawn in micrometres as amounts of the two stains.
"""

import math
from dataclasses import astuple
from functools import partial

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.canvas import across, around, axis, direction, in_some, per_image
from nbutils.phantoms.cells import (
    TUMOUR,
    Habit,
    Tissue,
    cytoplasm,
    fibres,
    folded,
    large_cells,
    lymphocytes,
    vacuoles,
    vessel,
)
from nbutils.phantoms.shapes import outline, smooth_field, smoothstep
from nbutils.phantoms.stain import draw_slide, scan

HALF_UM = 46.5  # half of 96 px of 0.97 um
METASTASIS = 1

GERMINAL = Habit(
    step=(8.5, 11.0),
    fill=(0.36, 0.44),
    uneven=(0.08, 0.20),
    stretch=(0.05, 0.35),
    ink=(0.55, 0.85),
    pale=(0.2, 0.6),
    nucleolus=(0.0, 0.5),
    eosin=(0.15, 0.40),
    basophil=(0.10, 0.25),
    gaps=(0.0, 0.3),
    guests=(0.05, 0.30),
    radius=(25, 80),
    length=(1.0, 1.4),
)
HISTIOCYTES = Habit(
    step=(10.0, 15.0),
    fill=(0.27, 0.38),
    uneven=(0.10, 0.22),
    stretch=(0.2, 0.8),
    ink=(0.5, 0.8),
    pale=(0.2, 0.6),
    nucleolus=(0.0, 0.4),
    eosin=(0.30, 0.65),
    basophil=(0.0, 0.12),
    gaps=(0.1, 0.7),
    guests=(0.10, 0.45),
    radius=(18, 50),
    length=(1.5, 4.0),
)
HABITS = torch.tensor([astuple(habit) for habit in (GERMINAL, HISTIOCYTES, TUMOUR)])  # (3, values, 2)


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw patches of one class, (B, 3, canvas, canvas), 0..255."""
    line = axis(canvas, HALF_UM)
    slide, size = draw_slide(patient), patient.normal(1.0, 0.06).clamp(0.85, 1.15)
    kind, habit = _habit(label, image)
    tissue = _tissue(label, kind, habit, image, line)
    haematoxylin, eosin = cytoplasm(tissue, image, line)
    haematoxylin = haematoxylin + lymphocytes(tissue, habit, size, image, line)
    stains = torch.stack([haematoxylin, eosin], 1)  # (B, 2, N, N)
    stains = large_cells(stains, tissue, habit, size, image, line)
    stains = in_some(tissue.fibrous, partial(fibres, line), stains, tissue, image)
    stains = in_some(image.chance(0.15), partial(vessel, line), stains, image)
    stains = in_some(image.chance(0.05), partial(folded, line), stains, image)
    return 255 * scan(stains.clamp_min_(0), slide, image, line)


def _habit(label: int, image: Draws) -> tuple[torch.Tensor, Habit]:
    """Return which large cells there are, (B,) index in HABITS, and how they look."""
    which = image.uniform()
    kind = torch.full_like(which, 2).long() if label == METASTASIS else (which > 0.5).long() + (which > 0.92)
    low, high = HABITS[kind].unbind(-1)  # (B, values) each
    drawn = image.uniform(low, high, (HABITS.shape[1],))
    return kind, Habit(*drawn.T[..., None, None])


def _tissue(label: int, kind: torch.Tensor, habit: Habit, image: Draws, line) -> Tissue:
    """Lay out the patch: a region of large cells, fibres and empty spaces among lymphocytes."""
    pixels = len(line)
    shape = _region(label, kind, habit, image, line)
    inside = 1 - smoothstep(shape, 0.95, 1.05)
    tumour = per_image((kind == 2).float())
    seen = torch.ones_like(tumour) if label == METASTASIS else torch.maximum(tumour, per_image(image.chance(0.6)))
    # stroma round a tumour and between its nests
    scarred, septate = image.chance(0.3), image.chance(0.4)
    scar = per_image(scarred) * smoothstep(shape, 0.95, 1.05) * (1 - smoothstep(shape, 1.2, 1.4))
    septum = 1 - smoothstep(smooth_field(image, 4, pixels).abs(), 0.12, 0.3)
    fibre = torch.maximum(scar, per_image(septate) * inside * septum) * tumour
    lumens = per_image(image.chance(0.3)) * tumour * inside * smoothstep(smooth_field(image, 5, pixels), 1.1, 1.25)
    clefts = per_image(image.chance(0.3)) * (1 - smoothstep(smooth_field(image, 4, pixels).abs(), 0.03, 0.14))
    empty = torch.maximum(lumens, 0.8 * clefts * (1 - inside * tumour))
    # the border of the node, or a trabecula: a band of fibres, with fat beyond it
    along, edge = image.uniform(0, 2 * math.pi), image.chance(0.25)
    depth = across(line, direction(along + math.pi / 2)) - per_image(image.uniform(14, 50))
    depth = depth + 5 * smooth_field(image, 4, pixels)
    outside = per_image(edge) * smoothstep(depth, -1, 1)
    beyond = outside * smoothstep(depth - per_image(image.uniform(6, 30)), -1, 1)
    droplets = beyond * in_some(edge, partial(vacuoles, line), torch.zeros_like(beyond), image)
    return Tissue(
        large=inside * seen * (1 - fibre) * (1 - outside),
        fibre=torch.maximum(fibre, outside) * (1 - droplets),
        empty=torch.maximum(empty * (1 - outside), droplets),
        fibrous=edge + (scarred + septate) * tumour[:, 0, 0],
        along=along,
    )


def _region(label: int, kind: torch.Tensor, habit: Habit, image: Draws, line: torch.Tensor) -> torch.Tensor:
    """Return the distance from the middle of the large cells, (B, N, N): 1 on their border."""
    radius = habit.radius[:, 0, 0]
    angle, away = image.uniform(0, 2 * math.pi), image.uniform(0, 0.6) * radius
    beside = (kind == 2) & (label != METASTASIS)
    away = torch.where(beside, 1.5 * radius + 24, away)
    x, y = around(line, away[:, None] * direction(angle), radius)
    shape = outline(x, y, image, habit.length[:, 0, 0], image.uniform(0.02, 0.1))
    return shape + per_image(image.uniform(0.0, 0.12)) * smooth_field(image, 9, len(line))


MODALITY = Modality(
    name="histology",
    version=1,
    class_names=("normal", "metastasis"),
    channels=3,
    counts={"train": (100, 100), "val": (100, 100), "test": (100, 100)},  # the textual-inversion paper, section 3.3.3
    images_per_patient=(0.45, 0.25, 0.15, 0.1, 0.05),
    shared_patients=0.3,
    draw=draw,
)
