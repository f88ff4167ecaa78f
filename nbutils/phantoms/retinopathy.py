"""Colour fundus photographs graded for diabetic retinopathy: the five grades of APTOS 2019, with its frequencies.

A grade is a range on one scale of severity, and the ranges overlap, as graders do: a few microaneurysms are easily
missed, and one haemorrhage more makes an eye moderate.
"""

import torch

from nbutils.phantoms.base import Draws, Modality
from nbutils.phantoms.fundus import photograph
from nbutils.phantoms.retinal_lesions import diabetic


def draw(label: int, patient: Draws, image: Draws, canvas: int) -> torch.Tensor:
    """Draw photographs of one grade, (B, 3, canvas, canvas), 0..255."""
    return photograph(
        lambda retina, media, eye: diabetic(retina, eye, label + eye.normal(0, 0.15)), patient, image, canvas
    )


MODALITY = Modality(
    name="retinopathy",
    version=1,
    class_names=("none", "mild", "moderate", "severe", "proliferative"),
    channels=3,
    # train.csv of APTOS 2019 has 1805, 370, 999, 193, 295
    counts={"train": (345, 71, 191, 37, 56), "val": (74, 15, 41, 10, 12), "test": (148, 30, 82, 16, 24)},
    images_per_patient=(0.5, 0.5),
    shared_patients=0.2,
    draw=draw,
)
