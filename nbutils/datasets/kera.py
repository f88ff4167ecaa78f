"""kera:PATH — anterior segment photographs in four classes of keratitis, like Kera-3k of the MAGE-adapter paper.

The paper's images are private and how their files lie is not published. The layout here is ours: train and test, as the
paper's Table 1 counts them, with a class folder each for CLASS_NAMES in both. All else is as for folder:PATH, also
groups.csv, which should tell the patients.
"""

from nbutils.datasets.folder import read_folder, subfolders
from nbutils.datasets.layout import data_folder
from nbutils.datasets.splits import Splits

CLASS_NAMES = ("amoeba", "bacteria", "fungal", "hsk")  # hsk = herpes simplex; the paper's order is the alphabet's


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Read train and test, centre-cropped to squares of image_size; val is carved from train. seed: of val.

    Raises ValueError for folders or files that do not fit.
    """
    root = data_folder(where, "kera:PATH", f"train and test, each with {', '.join(CLASS_NAMES)}")
    for split in ("train", "test"):
        folder = root / split
        found = [entry.name for entry in subfolders(folder)] if folder.is_dir() else []
        if found != list(CLASS_NAMES):
            raise ValueError(
                f"{folder} must hold the class folders {', '.join(CLASS_NAMES)}, found {', '.join(found) or 'none'}. "
                f"For other classes use folder:PATH."
            )
    return read_folder(root, "kera", image_size, seed, duplicates)
