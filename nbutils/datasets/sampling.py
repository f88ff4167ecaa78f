"""Small seeded samples of large data sets: as many images of each class in each split, one per patient."""

from collections.abc import Sequence

import numpy as np

from nbutils.datasets.audit import MIN_TRAIN_IMAGES
from nbutils.seeds import derive_seed


def shuffled(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return the positions of the ids in random order, (N,) int; it depends on the seed and each id's own name."""
    return np.array(sorted(range(len(ids)), key=lambda i: derive_seed(seed, "sample", str(ids[i]))), dtype=np.int64)


def one_per_group(groups: np.ndarray, ids: Sequence[str], seed: int) -> np.ndarray:
    """Choose one image of each group (patient) at random; return their positions in order, (number of groups,) int."""
    order = shuffled(ids, seed)
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def draw(
    labels: np.ndarray, ids: Sequence[str], class_names: Sequence[str], per_class: int, seed: int, splits: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw per_class images of each class for each of the splits, no image twice.

    labels: (N,) int, index into class_names; ids: (N,) the unique name of each image.

    A class with too few images is shared equally among the splits, and noted. Returns the positions of the images in
    order, (n,) int, the split of each, (n,) str, and the notes. Raises ValueError when a class cannot give every
    split MIN_TRAIN_IMAGES.
    """
    order = shuffled(ids, seed)
    chosen, places = [], []
    notes = [f"drawn at random with seed {seed}: {per_class} images of each class for {', '.join(splits)}"]
    for label, class_name in enumerate(class_names):
        members = order[labels[order] == label]
        share = min(per_class, len(members) // len(splits))
        if share < MIN_TRAIN_IMAGES:
            raise ValueError(
                f"Too few images of class {class_name!r} for {', '.join(splits)}: found {len(members)}, needed are at "
                f"least {MIN_TRAIN_IMAGES * len(splits)}, and {per_class * len(splits)} for the whole sample. "
                f"Is the data set complete?"
            )
        if share < per_class:
            notes.append(f"only {share} of {class_name!r} for {', '.join(splits)}: {len(members)} were found")
        chosen.append(members[: share * len(splits)])
        places.append(np.repeat(splits, share))
    chosen, places = np.concatenate(chosen), np.concatenate(places)
    in_order = np.argsort(chosen)
    return chosen[in_order], places[in_order], notes
