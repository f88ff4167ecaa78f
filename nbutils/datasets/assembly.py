"""From a heap of labelled images to splits: copies found, splits carved where none are given, groups kept whole."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from nbutils.datasets.audit import LeakError
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.images import ImageSet
from nbutils.seeds import derive_seed

DUPLICATE_RULES = ("error", "drop")
TEST_SHARE = 0.20  # of all images, where no test split is given
VAL_SHARE = 0.15  # of the remaining training images, where no val split is given and no paper says otherwise
HOME = ("test", "val", "train")  # of a group found in several splits, only the images in the first of these are kept
PATIENTS_UNKNOWN = "patients are unknown: each image is its own group, so one patient may be in several splits"


@dataclass(frozen=True, eq=False)
class Collection:
    """All images of a data set as they were read, before it is looked at which belong together.

    images: all N images at their final size; groups are the patients or lesions as far as they are known.
    digests: (N,) str, equal if and only if the original pixels (before any crop or resizing) are equal.
    splits: (N,) str, "train", "val" or "test"; what is not given there is carved from train.
    ids: (N,) str, the file or position of each image, for messages.
    notes: what was noticed when reading.
    """

    images: ImageSet
    digests: np.ndarray
    splits: np.ndarray
    ids: np.ndarray
    notes: tuple[str, ...] = ()

    def subset(self, keep: np.ndarray, *notes: str) -> "Collection":
        """Return the images where the mask `keep` is true, with further notes."""
        return Collection(
            self.images.subset(keep), self.digests[keep], self.splits[keep], self.ids[keep], (*self.notes, *notes)
        )


def digest(pixels: np.ndarray) -> str:
    """Return a hash of an image's original pixels, shape and dtype."""
    header = f"{pixels.shape} {pixels.dtype}".encode()
    return hashlib.blake2b(header + np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def assemble(
    collection: Collection, seed: int, duplicates: str, val_share: float = VAL_SHARE, test_share: float = TEST_SHARE
) -> Splits:
    """Turn a collection into splits that share no group and no image.

    Identical images (by their original pixels, or at their final size) form one group, with all images of their
    groups. duplicates: "error" or "drop", see `nbutils.datasets.load`. seed: of what is carved. test_share: of
    all images, val_share: of the remaining ones, if these splits are carved.

    Raises LeakError for a group in two given splits, and for identical images in two of them unless dropped.
    """
    _refuse_groups_across_splits(collection)
    collection = _without_copies_across_splits(collection, duplicates)
    collection = _with_copies_in_one_group(collection)
    collection = _carve(collection, "test", test_share, seed)
    collection = _carve(collection, "val", val_share, seed)
    images = collection.images
    parts = {
        split: replace(images.subset(collection.splits == split), name=f"{images.name} {split}") for split in SPLITS
    }
    return Splits(images.name, **parts, notes=collection.notes)


def linked(*keys: np.ndarray) -> np.ndarray:
    """Number the images, (N,) int, so that two share a number if a chain of equal keys (each (N,)) joins them."""
    count = len(keys[0])
    nodes, offset = [], count
    for key in keys:
        values, inverse = np.unique(key, return_inverse=True)
        nodes.append(offset + inverse)
        offset += len(values)
    columns = np.concatenate(nodes)
    rows = np.tile(np.arange(count), len(keys))
    graph = csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(offset, offset))
    return connected_components(graph, directed=False)[1][:count]


def held_out(labels: np.ndarray, groups: np.ndarray, share: float, seed: int, split: str) -> np.ndarray:
    """Choose whole groups so that about `share` of each class, and at least one image of it, is held out; (N,) bool.

    Groups are tried in an order that depends on the seed and each group's name alone; one is taken if that brings
    the class counts closer to the target. Unlike scikit-learn's StratifiedGroupKFold this meets any share, and
    gives a rare class its image.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (inverse, labels), 1)
    total = counts.sum(axis=0)
    target = np.maximum(share * total, 1)
    weight = 1 / np.maximum(total, 1)  # so that rare classes count as much as frequent ones
    missing, taken = target.copy(), np.zeros(len(names), dtype=bool)
    for group in sorted(range(len(names)), key=lambda group: derive_seed(seed, "split", split, str(names[group]))):
        rest = missing - counts[group]
        if (weight * rest**2).sum() < (weight * missing**2).sum():
            missing, taken[group] = rest, True
    return taken[inverse]


def _refuse_groups_across_splits(collection: Collection) -> None:
    names, inverse = np.unique(collection.images.groups, return_inverse=True)
    present = np.stack([np.bincount(inverse, collection.splits == split, len(names)) > 0 for split in SPLITS])
    spread = np.flatnonzero(present.sum(axis=0) > 1)
    if spread.size:
        where = " and ".join(split for split, there in zip(SPLITS, present[:, spread[0]], strict=True) if there)
        raise LeakError(
            f"{collection.images.name}: {spread.size} of {len(names)} groups are in more than one given split, "
            f"e.g. {str(names[spread[0]])!r} in {where}. A patient must be in one split only: move the images."
        )


def _without_copies_across_splits(collection: Collection, duplicates: str) -> Collection:
    """Keep of every group of linked images only those in its home split; raise LeakError unless duplicates="drop"."""
    picture = linked(collection.digests, collection.images.hashes())  # equal number = the same picture
    family = linked(picture, collection.images.groups)
    rank = np.array([HOME.index(split) for split in collection.splits])
    home = np.full(family.max() + 1, len(HOME))
    np.minimum.at(home, family, rank)
    stray = rank > home[family]
    if not stray.any():
        return collection
    if duplicates == "error":
        raise LeakError(_copies_message(collection, picture))
    dropped = ", ".join(f"{(stray & (rank == HOME.index(split))).sum()} {split}" for split in ("train", "val"))
    return collection.subset(
        ~stray, f"dropped {dropped} images: copies of images in a later split, or of the same group as such a copy"
    )


def _copies_message(collection: Collection, picture: np.ndarray) -> str:
    at = {split: np.flatnonzero(collection.splits == split) for split in SPLITS}
    across, example = [], ""
    for later, earlier in (("test", "train"), ("val", "train"), ("test", "val")):
        copies = at[later][np.isin(picture[at[later]], picture[at[earlier]])]
        if copies.size:
            across.append(f"{copies.size} of {at[later].size} {later} images are identical to {earlier} images")
            original = at[earlier][picture[at[earlier]] == picture[copies[0]]][0]
            example = example or f"{collection.ids[copies[0]]} = {collection.ids[original]}"
    within = ", ".join(f"{split} {at[split].size - np.unique(picture[at[split]]).size}" for split in SPLITS)
    return (
        f"{collection.images.name}: copies across splits: {'; '.join(across)} (e.g. {example}); repeats within a "
        f'split: {within}. Clean the data, or load it with duplicates="drop", which keeps test whole and removes '
        f"the copies from train and val."
    )


def _with_copies_in_one_group(collection: Collection) -> Collection:
    """Give all linked images the group name of the first of them, and note how many repeats there are."""
    images = collection.images
    picture = linked(collection.digests, images.hashes())
    _, first, family = np.unique(linked(picture, images.groups), return_index=True, return_inverse=True)
    return replace(
        collection,
        images=replace(images, groups=images.groups[first][family]),
        notes=(*collection.notes, *_repeat_notes(collection, picture)),
    )


def _repeat_notes(collection: Collection, picture: np.ndarray) -> list[str]:
    """Note the repeats within each given split, and pictures that carry two labels."""
    repeats = {split: picture[collection.splits == split] for split in SPLITS}
    repeats = {split: numbers.size - np.unique(numbers).size for split, numbers in repeats.items()}
    notes = []
    if any(repeats.values()):
        listed = ", ".join(f"{count} in {split}" for split, count in repeats.items() if count)
        notes.append(f"identical images within a split were kept, as one group each: {listed}")
    pairs = np.unique(np.stack([picture, collection.images.labels]), axis=1)
    contradictory = pairs.shape[1] - np.unique(pairs[0]).size
    if contradictory:
        notes.append(f"{contradictory} identical images carry different labels")
    return notes


def _carve(collection: Collection, split: str, share: float, seed: int) -> Collection:
    """Hold out a split from train if the data set has none."""
    if np.any(collection.splits == split):
        return collection
    train = np.flatnonzero(collection.splits == "train")
    images = collection.images
    chosen = train[held_out(images.labels[train], images.groups[train], share, seed, split)]
    splits = collection.splits.copy()
    splits[chosen] = split
    note = (
        f"no {split} split was given: {chosen.size} of {train.size} train images were held out "
        f"({100 * share:.3g}% of each class, whole groups, seed {seed})"
    )
    return replace(collection, splits=splits, notes=(*collection.notes, note))
