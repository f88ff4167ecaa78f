"""Data sets by name: load("folder:PATH") -> train, val and test images that share no patient and no copy.

A further data set is one module here, with `load(where, image_size, seed, duplicates) -> Splits`, and one line in
dataset_names.FORMS.
"""

from importlib import import_module

from nbutils import phantoms
from nbutils.dataset_names import FORMS
from nbutils.datasets.assembly import DUPLICATE_RULES
from nbutils.datasets.audit import check_splits
from nbutils.datasets.splits import Splits
from nbutils.images import check_image_size
from nbutils.scales import choose

__all__ = ["Splits", "load", "names"]


def names() -> list[str]:
    """Return what `load` takes: every phantom by name, and the forms in which real data are asked for."""
    real = [form for kind, forms in FORMS.items() if kind != "phantom" for form in forms]
    return [f"phantom:{name}" for name in phantoms.names()] + real


def load(name: str, image_size: int = 32, seed: int = 0, duplicates: str = "error") -> Splits:
    """Load a data set as train, val and test, resized once to image_size pixels.

    name: one of `names()`, with a path or a MedMNIST name filled in.
    seed: of the phantom's random numbers; of the sample that is drawn from a large data set; of the split where the
        data set comes without one; else without effect.
    duplicates: what to do with identical images in different splits: "error" stops with the counts; "drop" removes
        them from train (and from val if the other one is in test), with all images of their group, and notes it.

    Raises ValueError for bad input, LeakError (a ValueError) for copies or groups across splits.
    """
    check_image_size(image_size)
    choose("rule for duplicates", duplicates, dict.fromkeys(DUPLICATE_RULES))
    kind, _, where = str(name).partition(":")
    if kind not in FORMS:
        choose("data set", name, dict.fromkeys(names()))
    splits = import_module(f"{__name__}.{kind}").load(where, image_size, seed, duplicates)
    check_splits(splits)
    return splits
