"""The leak audit: nothing of the validation or test images may reach whatever learns or chooses."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from nbutils.datasets.splits import Splits
from nbutils.images import ImageSet
from nbutils.scales import choose

HELD_OUT = ("val", "test")
SYNTHETIC = "synthetic"  # the group of generated images, see nbutils.images.synthetic_set
MIN_TRAIN_IMAGES = 2  # of each class: with a single image nothing can be learned about a class


class LeakError(ValueError):
    """Images that must be kept apart were found together."""


class LeakAudit:
    """Knows the held-out images of a data set, and records which images each user of the data saw.

    seen: one dict per check that passed: user, name, images (how many), fingerprint, allowed (held-out splits that
        this user may see), all JSON values.
    """

    def __init__(self, splits: Splits):
        held_out = {split: images for split, images in splits.splits().items() if split in HELD_OUT}
        self._groups = {split: np.unique(images.groups) for split, images in held_out.items()}
        self._hashes = {split: np.unique(images.hashes()) for split, images in held_out.items()}
        self.seen: list[dict] = []

    def check(self, user: str, images: ImageSet, allowed: Sequence[str] = ()) -> ImageSet:
        """Return `images` if `user` may see them, and record it.

        user: who is about to see them, for the message and the record: "generator dcgan", "early stopping" ...
        allowed: held-out splits that this user may see: ("val",) for early stopping; () = none.
        Synthetic images belong to no held-out group (check_splits keeps their group's name free), but an exact copy of
        a held-out image is a leak in them too.

        Raises LeakError, naming the user, the split and the counts, ValueError for an unknown split in `allowed`.
        """
        for split in allowed:
            choose("held-out split", split, dict.fromkeys(HELD_OUT))
        hashes = images.hashes()
        leaks = [self._leak(split, images, hashes) for split in HELD_OUT if split not in allowed]
        if any(leaks):
            raise LeakError(
                f"Leak: {user} must not see held-out images, but the {len(images)} it was given ({images.name}) "
                f"hold {' and '.join(filter(None, leaks))}. Give it training images only."
            )
        self.seen.append(
            {
                "user": user,
                "name": images.name,
                "images": len(images),
                "fingerprint": images.fingerprint(),
                "allowed": list(allowed),
            }
        )
        return images

    def _leak(self, split: str, images: ImageSet, hashes: np.ndarray) -> str | None:
        """Say how much of a held-out split is among `images`, None = nothing."""
        copies = np.isin(hashes, self._hashes[split])
        related = np.isin(images.groups, self._groups[split])
        if not (copies | related).any():
            return None
        example = f", e.g. of {str(images.groups[related][0])!r}" if related.any() else ""
        return f"{copies.sum()} copies of {split} images and {related.sum()} images of {split} groups{example}"


def check_splits(splits: Splits) -> None:
    """Check that a data set can be used: equal classes and sizes, every class in every split, nothing in two splits.

    Raises ValueError for classes and sizes, LeakError for groups or identical images in two splits.
    """
    _check_classes(splits)
    for split, images in splits.splits().items():
        if np.any(images.groups == SYNTHETIC):
            raise ValueError(
                f"{splits.name}: {split} has a group named {SYNTHETIC!r}, a name kept for generated images; rename it."
            )
    hashes = {split: images.hashes() for split, images in splits.splits().items()}
    for (first, a), (second, b) in combinations(splits.splits().items(), 2):
        copies = np.isin(hashes[second], hashes[first]).sum()
        groups = np.intersect1d(a.groups, b.groups)
        if copies or groups.size:
            example = f", e.g. {str(groups[0])!r}" if groups.size else ""
            raise LeakError(
                f"{splits.name}: {copies} {second} images are identical to {first} images, and {groups.size} groups "
                f"are in both{example}. Each patient and each image must be in one split only."
            )


def _check_classes(splits: Splits) -> None:
    """Check classes, sizes and the number of images of each class."""
    train = splits.train
    if train.num_classes < 2:
        raise ValueError(f"{splits.name}: found one class ({', '.join(train.class_names)}); 2 or more are needed.")
    for split, images in splits.splits().items():
        if images.class_names != train.class_names or images.images.shape[1:] != train.images.shape[1:]:
            raise ValueError(
                f"{splits.name}: {split} has {images.images.shape[1:]} images of {images.class_names}, train "
                f"{train.images.shape[1:]} of {train.class_names}; all splits need the same classes and shape."
            )
        least = MIN_TRAIN_IMAGES if split == "train" else 1
        few = [
            f"{name!r} has {n}" for name, n in zip(images.class_names, images.class_counts(), strict=True) if n < least
        ]
        if few:
            raise ValueError(
                f"{splits.name}: too few images in {split}: {', '.join(few)}; every class needs at least {least} "
                f"there. Add images of it or leave the class out."
            )
