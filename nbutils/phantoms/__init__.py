"""Digital phantoms: small medical data sets made by code, licence-free and with known ground truth.

A further modality is one module with a `Modality` and one line in MODALITIES.
"""

from collections.abc import Sequence

from nbutils.images import ImageSet
from nbutils.phantoms import (
    chest,
    cornea,
    dermoscopy,
    fundus,
    histology,
    liver,
    lung_ct,
    pneumonia,
    prostate,
    retinopathy,
    tissue,
)
from nbutils.phantoms.base import SPLITS, Modality, render_modality
from nbutils.scales import choose

__all__ = ["SPLITS", "Modality", "modality", "names", "render"]

MODALITIES = {
    "chest": chest.MODALITY,
    "cornea": cornea.MODALITY,
    "dermoscopy": dermoscopy.MODALITY,
    "fundus": fundus.MODALITY,
    "histology": histology.MODALITY,
    "liver": liver.MODALITY,
    "lung_ct": lung_ct.MODALITY,
    "pneumonia": pneumonia.MODALITY,
    "pneumonia_swapped": pneumonia.SWAPPED,
    "pneumonia_unmarked": pneumonia.UNMARKED,
    "prostate": prostate.MODALITY,
    "retinopathy": retinopathy.MODALITY,
    "tissue": tissue.MODALITY,
}


def names() -> list[str]:
    """Return the names of all phantoms."""
    return list(MODALITIES)


def modality(name: str) -> Modality:
    """Return the description of one phantom. Raises ValueError for an unknown name."""
    return choose("phantom", name, MODALITIES)


def render(name: str, split: str, seed: int = 0, image_size: int = 32, counts: Sequence[int] | None = None) -> ImageSet:
    """Render one split of a phantom as an ImageSet, class after class, several images to a patient.

    Image i of a class depends on (name, version, split, seed, i) alone: not on the counts, nor on the other images.
    No patient is in two splits; the patients of two seeds are different people with the same numbers.
    split: "train", "val" or "test", or "oracle" (any number of further images, for training an oracle reader).
    counts: images per class; None = the modality's own for that split ("oracle" has none).

    Raises ValueError for an unknown name or split, a bad image size, or counts that do not fit the classes.
    """
    return render_modality(modality(name), split, seed, image_size, counts)
