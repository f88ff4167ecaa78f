"""phantom:NAME — digital phantoms as a data set; they come with their splits and patients."""

from nbutils import phantoms
from nbutils.datasets.splits import SPLITS, Splits


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Render the phantom named `where`; `duplicates` has no effect, because no two of its images are alike.

    Raises ValueError for an unknown phantom.
    """
    parts = {split: phantoms.render(where, split, seed=seed, image_size=image_size) for split in SPLITS}
    return Splits(f"phantom:{where}", **parts, notes=("digital phantom: drawn by code, patients known",))
