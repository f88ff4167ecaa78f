"""The leak audit lets training images pass, stops everything else and remembers who saw what."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit, LeakError, check_splits
from nbutils.images import ImageSet, concatenate, synthetic_set


def part(split: str, count: int = 8, classes=("a", "b")) -> ImageSet:
    rng = np.random.default_rng(list(split.encode()))
    pixels = rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return ImageSet(pixels, np.arange(count) % len(classes), classes, [f"{split}-{i}" for i in range(count)], split)


@pytest.fixture
def splits() -> Splits:
    return Splits("toy", part("train"), part("val"), part("test"))


def test_training_images_pass_and_are_recorded(splits):
    audit = LeakAudit(splits)
    assert audit.check("generator dcgan", splits.train) is splits.train
    (entry,) = audit.seen
    assert entry["user"] == "generator dcgan"
    assert entry["images"] == 8
    assert entry["fingerprint"] == splits.train.fingerprint()
    assert json.loads(json.dumps(audit.seen)) == audit.seen


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_images_are_stopped(splits, split):
    audit = LeakAudit(splits)
    mixed = concatenate([splits.train, splits.splits()[split].subset([0, 3, 5])], "train and more")
    with pytest.raises(LeakError) as caught:
        audit.check("the filter", mixed)
    message = str(caught.value)
    assert "the filter must not see held-out images" in message
    assert "11 it was given (train and more)" in message
    assert f"3 copies of {split} images and 3 images of {split} groups, e.g. of '{split}-0'" in message
    assert audit.seen == []


def test_an_exact_copy_under_another_group_is_stopped(splits):
    copied = replace(splits.test.subset([2]), groups=np.array(["innocent"]))
    with pytest.raises(LeakError, match="1 copies of test images and 0 images of test groups"):
        LeakAudit(splits).check("generator", copied)


def test_another_image_of_a_held_out_patient_is_stopped(splits):
    other = replace(splits.train.subset([0]), groups=np.array(["test-4"]))
    with pytest.raises(LeakError, match=r"0 copies of test images and 1 images of test groups, e\.g\. of 'test-4'"):
        LeakAudit(splits).check("generator", other)


def test_early_stopping_may_see_val_but_not_test(splits):
    audit = LeakAudit(splits)
    audit.check("early stopping", splits.val, allowed=("val",))
    assert audit.seen[0]["allowed"] == ["val"]
    with pytest.raises(LeakError, match="early stopping must not see"):
        audit.check("early stopping", splits.test, allowed=("val",))
    with pytest.raises(ValueError, match="Unknown held-out split 'vall'; allowed: 'val', 'test'"):
        audit.check("early stopping", splits.val, allowed=("vall",))


def test_synthetic_images_pass_unless_they_copy(splits):
    audit = LeakAudit(splits)
    new = synthetic_set(np.zeros((2, 1, 8, 8), np.uint8), [0, 1], ("a", "b"), "new")
    audit.check("classifier", new)
    copied = synthetic_set(splits.test.images[:1], [0], ("a", "b"), "copied")
    with pytest.raises(LeakError, match="1 copies of test images"):
        audit.check("classifier", copied)


def test_sound_splits_pass(splits):
    check_splits(splits)


def test_groups_and_copies_across_splits(splits):
    shared = replace(splits.val, groups=np.array(["train-1", *splits.val.groups[1:]]))
    with pytest.raises(
        LeakError, match=r"0 val images are identical to train images, and 1 groups are in both, e\.g\. 'train-1'"
    ):
        check_splits(replace(splits, val=shared))
    copied = replace(splits.test, images=np.concatenate([splits.val.images[:2], splits.test.images[2:]]))
    with pytest.raises(LeakError, match="2 test images are identical to val images"):
        check_splits(replace(splits, test=copied))


def test_class_missing_in_a_split(splits):
    with pytest.raises(ValueError, match="too few images in test: 'b' has 0; every class needs at least 1"):
        check_splits(replace(splits, test=splits.test.of_class(0)))


def test_one_training_image_of_a_class(splits):
    with pytest.raises(ValueError, match="too few images in train: 'b' has 1; every class needs at least 2"):
        check_splits(replace(splits, train=splits.train.subset([0, 1, 2, 4])))


def test_one_class_only():
    one = Splits("toy", *(part(split, classes=("a",)) for split in ("train", "val", "test")))
    with pytest.raises(ValueError, match=r"found one class \(a\); 2 or more are needed"):
        check_splits(one)


def test_different_classes_in_a_split(splits):
    with pytest.raises(ValueError, match="all splits need the same classes and shape"):
        check_splits(replace(splits, val=part("val", classes=("a", "c"))))


def test_the_synthetic_group_is_reserved(splits):
    named = replace(splits.train, groups=np.array(["synthetic", *splits.train.groups[1:]]))
    with pytest.raises(ValueError, match="train has a group named 'synthetic'"):
        check_splits(replace(splits, train=named))
