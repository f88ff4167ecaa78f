"""Data sets by name, and how a heap of images becomes splits."""

from types import SimpleNamespace

import numpy as np
import pytest

from nbutils import datasets, phantoms
from nbutils.dataset_names import FORMS
from nbutils.datasets.assembly import Collection, assemble, digest, held_out, linked
from nbutils.datasets.audit import LeakError
from nbutils.images import ImageSet
from nbutils.scales import choose


@pytest.fixture
def two_phantoms(monkeypatch):
    """Stand-ins for the phantoms, so that this file tests the route and not the drawing."""

    def render(name, split, seed=0, image_size=32):
        choose("phantom", name, dict.fromkeys(phantoms.names()))
        rng = np.random.default_rng([seed, *split.encode()])
        pixels = rng.integers(0, 256, (12, 1, image_size, image_size), dtype=np.uint8)
        groups = [f"{split}-{i // 2}" for i in range(12)]
        return ImageSet(
            pixels, np.arange(12) % 2, ("a", "b"), groups, f"phantom:{name} {split}", origin=f"{name} {split}"
        )

    def modality(name):
        choose("phantom", name, dict.fromkeys(phantoms.names()))
        return SimpleNamespace(name=name, version=1, class_names=("a", "b"))

    monkeypatch.setattr(phantoms, "names", lambda: ["liver", "dermoscopy"])
    monkeypatch.setattr(phantoms, "modality", modality)
    monkeypatch.setattr(phantoms, "render", render)


def collection(labels, splits, groups=None, pixels=None, seed=0) -> Collection:
    """A collection of 8 px noise images, distinct unless `pixels` (one number per image) says otherwise."""
    count = len(labels)
    numbers = range(count) if pixels is None else pixels
    images = np.stack([np.random.default_rng([seed, n]).integers(0, 256, (1, 8, 8), dtype=np.uint8) for n in numbers])
    ids = np.array([f"file{i}" for i in range(count)])
    names = tuple("abc"[: max(labels) + 1])
    image_set = ImageSet(images, labels, names, ids if groups is None else groups, "heap")
    return Collection(image_set, np.array([digest(image) for image in images]), np.array(splits), ids)


def test_phantoms_come_with_their_splits(two_phantoms):
    splits = datasets.load("phantom:liver", image_size=16, seed=3)
    assert splits.name == "phantom:liver"
    assert {split: len(images) for split, images in splits.splits().items()} == {"train": 12, "val": 12, "test": 12}
    assert splits.train.image_size == 16
    assert splits.train.origin == "liver train"  # the identity in caches survives the route
    other = datasets.load("phantom:liver", image_size=16, seed=4)
    assert not np.array_equal(splits.train.images, other.train.images)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("livr", "Did you mean 'liver'"),
        ("dermoscopy", "Did you mean 'phantom:dermoscopy'"),
        ("foldr:PATH", "Did you mean 'folder:PATH'"),
        ("", "Unknown data set ''; allowed: 'phantom:liver', 'phantom:dermoscopy', 'folder:PATH', 'medmnist:NAME'"),
    ],
)
def test_unknown_names_get_a_hint(two_phantoms, name, hint):
    with pytest.raises(ValueError, match=hint):
        datasets.load(name)


def test_unknown_phantom(two_phantoms):
    with pytest.raises(ValueError, match="Unknown phantom 'spleen'; allowed: 'liver', 'dermoscopy'"):
        datasets.load("phantom:spleen")


@pytest.mark.parametrize("size", [0, 7, 2000, 32.0, True])
def test_bad_image_size(size):
    with pytest.raises(ValueError, match="image_size must be a whole number of pixels from 8 to 1024"):
        datasets.load("phantom:liver", image_size=size)


def test_bad_duplicates_rule():
    with pytest.raises(ValueError, match="Unknown rule for duplicates 'ignore'; allowed: 'error', 'drop'"):
        datasets.load("phantom:liver", duplicates="ignore")


def test_every_form_has_its_module():
    for kind in FORMS:
        module = __import__(f"nbutils.datasets.{kind}", fromlist=["load"])
        assert callable(module.load)


def test_linked_joins_chains_of_equal_keys():
    first = np.array(["a", "a", "b", "c", "d"])
    second = np.array(["x", "y", "y", "z", "w"])
    numbers = linked(first, second)
    assert numbers[0] == numbers[1] == numbers[2]  # a joins 0 and 1, y joins 1 and 2
    assert len(set(numbers.tolist())) == 3


def test_held_out_is_exact_for_single_images_and_spares_no_class():
    labels = np.repeat([0, 1, 2], [100, 40, 2])
    groups = np.array([f"g{i}" for i in range(142)])
    chosen = held_out(labels, groups, 0.15, seed=0, split="val")
    assert np.bincount(labels[chosen], minlength=3).tolist() == [15, 6, 1]
    assert np.array_equal(chosen, held_out(labels, groups, 0.15, seed=0, split="val"))
    assert not np.array_equal(chosen, held_out(labels, groups, 0.15, seed=1, split="val"))


def test_held_out_keeps_groups_whole_and_the_share():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 60, 600)).astype(str)
    labels = rng.integers(0, 3, 600)
    chosen = held_out(labels, groups, 0.2, seed=0, split="test")
    assert not set(groups[chosen]) & set(groups[~chosen])
    share = np.bincount(labels[chosen]) / np.bincount(labels)
    assert np.abs(share - 0.2).max() < 0.03


def test_carving_does_not_depend_on_the_other_images():
    """Each group's place comes from its own name, so a file more does not reshuffle all splits."""
    labels = [0] * 40 + [1] * 40
    before = assemble(collection(labels, ["train"] * 80), 0, "error")
    after = assemble(collection([*labels, 1], ["train"] * 81), 0, "error")
    assert len(set(before.test.groups) - set(after.test.groups)) <= 1


def test_carved_splits_are_disjoint_and_noted():
    labels = [0] * 60 + [1] * 40
    groups = [f"p{i // 2}" for i in range(100)]
    splits = assemble(collection(labels, ["train"] * 100, groups), 0, "error")
    parts = [set(images.groups) for images in splits.splits().values()]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert splits.test.class_counts().tolist() == [12, 8]  # 20 % of all
    assert abs(splits.val.class_counts() - [7.2, 4.8]).max() <= 1  # 15 % of the rest, in pairs
    assert splits.val.name == "heap val"
    assert "no test split was given: 20 of 100 train images were held out (20% of each class" in splits.notes[0]
    assert "no val split was given" in splits.notes[1]


def test_given_splits_are_left_alone():
    given = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    splits = assemble(collection([0, 1] * 4, given), 0, "error")
    assert splits.notes == ()
    assert splits.test.groups.tolist() == ["file6", "file7"]


def test_copies_across_splits_stop_with_counts():
    given = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    pixels = [0, 1, 2, 3, 4, 4, 6, 0, 1, 1, 6]  # train repeats 4; val 7 = train 0; test 8, 9 = train 1; test 10 = val 6
    heap = collection([0, 1] * 5 + [0], given, pixels=pixels)
    with pytest.raises(LeakError) as caught:
        assemble(heap, 0, "error")
    message = str(caught.value)
    assert "2 of 3 test images are identical to train images" in message
    assert "1 of 2 val images are identical to train images" in message
    assert "1 of 3 test images are identical to val images" in message
    assert "e.g. file8 = file1" in message
    assert "train 1, val 0, test 1" in message
    assert "\n" not in message


def test_drop_keeps_test_whole():
    given = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    pixels = [0, 1, 2, 3, 4, 4, 6, 0, 1, 1, 6]
    splits = assemble(collection([0, 1] * 5 + [0], given, pixels=pixels), 0, "drop")
    assert [len(images) for images in splits.splits().values()] == [4, 1, 3]
    assert splits.notes[0].startswith("dropped 2 train, 1 val images")
    assert "identical images within a split were kept, as one group each: 1 in train, 1 in test" in splits.notes
    assert "2 identical images carry different labels" in splits.notes
    assert splits.train.groups.tolist() == ["file2", "file3", "file4", "file4"]  # the repeat has become one group


def test_drop_takes_the_whole_patient_of_a_copy():
    """If a test image is found in train under patient p, then p's other images show the test patient too."""
    given = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    heap = collection(
        [0, 1] * 4, given, groups=["p", "p", "q", "r", "s", "t", "u", "v"], pixels=[0, 1, 2, 3, 4, 5, 0, 7]
    )
    splits = assemble(heap, 0, "drop")
    assert splits.train.groups.tolist() == ["q", "r"]


def test_images_equal_only_after_resizing_are_copies_too():
    heap = collection([0, 1] * 4, ["train"] * 4 + ["val"] * 2 + ["test"] * 2, pixels=[0, 1, 2, 3, 4, 5, 0, 7])
    heap.digests[:] = [f"original {i}" for i in range(8)]
    with pytest.raises(LeakError, match="1 of 2 test images are identical to train images"):
        assemble(heap, 0, "error")


def test_repeats_do_not_part_when_splits_are_carved():
    labels = [0, 1] * 50
    pixels = list(range(50)) * 2  # each picture twice
    splits = assemble(collection(labels, ["train"] * 100, pixels=pixels), 0, "error")
    hashes = [set(images.hashes()) for images in splits.splits().values()]
    assert not hashes[0] & hashes[1]
    assert not hashes[0] & hashes[2]
    assert not hashes[1] & hashes[2]


def test_group_in_two_given_splits():
    heap = collection([0, 1] * 3, ["train"] * 3 + ["test"] * 3, groups=["p", "q", "r", "s", "t", "q"])
    with pytest.raises(
        LeakError, match=r"1 of 5 groups are in more than one given split, e\.g\. 'q' in train and test"
    ):
        assemble(heap, 0, "drop")
