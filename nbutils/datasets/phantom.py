"""phantom:NAME — digital phantoms, drawn by code once and then kept in the cache."""

from pathlib import Path

import numpy as np

from nbutils import phantoms
from nbutils.artefacts import cached
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.files import atomic
from nbutils.images import ImageSet

ARRAYS = ("images", "labels", "groups")


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Return the three splits of the phantom `where`; no two images are the same, so `duplicates` has no effect.

    Raises ValueError for an unknown phantom.
    """
    kind = phantoms.modality(where)
    key = {"phantom": where, "version": kind.version, "image_size": image_size, "seed": seed}

    def build(folder: Path) -> None:
        for split in SPLITS:
            drawn = phantoms.render(where, split, seed=seed, image_size=image_size)
            with atomic(folder / f"{split}.npz") as temporary:
                np.savez_compressed(temporary, **{name: getattr(drawn, name) for name in ARRAYS}, origin=drawn.origin)

    folder = cached("phantom", key, build).path
    parts = {split: _read(folder / f"{split}.npz", kind, split) for split in SPLITS}
    return Splits(f"phantom:{where}", **parts, notes=("digital phantom: drawn by code, patients known",))


def _read(path: Path, kind: phantoms.Modality, split: str) -> ImageSet:
    """Read one split of a phantom from the cache."""
    with np.load(path, allow_pickle=False) as saved:
        arrays = {array: saved[array] for array in ARRAYS}
        origin = str(saved["origin"])
    return ImageSet(**arrays, class_names=kind.class_names, name=f"phantom:{kind.name} {split}", origin=origin)
