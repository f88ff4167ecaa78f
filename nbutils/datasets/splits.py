"""Splits: the training, validation and test images of one data set."""

from dataclasses import dataclass, replace

from nbutils.images import ImageSet

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set ready for use.

    name: short name for tables, without the path.
    train, val, test: images of one size and the same classes; no group and no image is in two of them.
    notes: what a reader of the results should know: what was carved, dropped or cropped, whether patients are known.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()

    def splits(self) -> dict[str, ImageSet]:
        """Return {"train": ..., "val": ..., "test": ...}."""
        return {split: getattr(self, split) for split in SPLITS}

    def thinned(self, count: int | None) -> "Splits":
        """Return about `count` images of each split, see ImageSet.thinned, None = all of them."""
        if count is None:
            return self
        return replace(self, **{split: images.thinned(count, seed=0) for split, images in self.splits().items()})
