"""MedMNIST: published sets by name, any file of the layout by path, and files that do not fit."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from nbutils import datasets
from nbutils.artefacts import cache_folder
from nbutils.datasets import medmnist
from nbutils.datasets.audit import LeakError
from nbutils.datasets.medmnist_sets import PUBLISHED


def arrays(train=40, val=8, test=10, shape=(28, 28), classes=2, seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    layout = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        layout[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        layout[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    return layout


@pytest.fixture
def save(tmp_path):
    """Write arrays as a .npz file and return the name to load it by."""

    def save(layout):
        np.savez(tmp_path / "own.npz", **layout)
        return f"medmnist:{tmp_path / 'own.npz'}"

    return save


@pytest.fixture
def published(monkeypatch):
    """The file of pneumoniamnist (28 px), made here, and its MD5 sum in place of the true one; returns its bytes."""
    path = cache_folder() / "made.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays())
    content = path.read_bytes()
    md5 = (hashlib.md5(content).hexdigest(), *PUBLISHED["pneumoniamnist"].md5[1:])
    monkeypatch.setitem(PUBLISHED, "pneumoniamnist", replace(PUBLISHED["pneumoniamnist"], md5=md5))
    return content


def no_network(url, root, filename, md5):
    raise OSError("Name or service not known")


def test_file_by_path(save):
    layout = arrays()
    splits = datasets.load(save(layout), image_size=28)
    assert splits.name == "medmnist:own"
    assert [len(images) for images in splits.splits().values()] == [40, 8, 10]
    assert splits.train.class_names == ("class 0", "class 1")
    assert np.array_equal(splits.val.images[:, 0], layout["val_images"])
    assert splits.test.labels.tolist() == layout["test_labels"][:, 0].tolist()
    assert splits.test.groups[3] == "test[3]"
    assert "patients are unknown" in splits.notes[0]


def test_colour_and_resizing_in_chunks(save, monkeypatch):
    monkeypatch.setattr(medmnist, "CHUNK", 7)
    layout = arrays(shape=(20, 20, 3))
    whole = datasets.load(save(layout), image_size=20)
    assert np.array_equal(whole.train.images, np.moveaxis(layout["train_images"], -1, 1))
    assert datasets.load(save(layout), image_size=8).train.images.shape == (40, 3, 8, 8)


def test_val_and_test_are_carved_where_missing(save):
    layout = {key: array for key, array in arrays(train=100).items() if key.startswith("train")}
    splits = datasets.load(save(layout), image_size=8)
    assert [len(images) for images in splits.splits().values()] == [68, 12, 20]


def test_copies_across_splits(save):
    layout = arrays()
    layout["test_images"][:3] = layout["train_images"][:3]
    with pytest.raises(
        LeakError, match=r"3 of 10 test images are identical to train images \(e\.g\. test\[0\] = train\[0\]\)"
    ):
        datasets.load(save(layout), image_size=8)
    assert len(datasets.load(save(layout), image_size=8, duplicates="drop").train) == 37


def test_published_set_is_downloaded_once_and_checked(published, monkeypatch):
    def download(url, root, filename, md5):
        assert url == "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"
        (root / filename).write_bytes(published)

    monkeypatch.setattr(medmnist, "download_url", download)
    assert datasets.load("medmnist:pneumoniamnist", image_size=28).train.class_names == ("normal", "pneumonia")
    monkeypatch.setattr(medmnist, "download_url", no_network)
    assert len(datasets.load("medmnist:pneumoniamnist", image_size=16).test) == 10


@pytest.mark.parametrize(
    ("image_size", "file"), [(28, "s.npz"), (32, "s_64.npz"), (64, "s_64.npz"), (512, "s_224.npz")]
)
def test_published_size_that_fits(monkeypatch, image_size, file):
    asked = []
    monkeypatch.setitem(PUBLISHED, "s", PUBLISHED["bloodmnist"])
    monkeypatch.setattr(medmnist, "_download", lambda path, md5: asked.append((path.name, md5)))
    monkeypatch.setattr(medmnist, "calculate_md5", lambda path: "")
    with pytest.raises(ValueError, match="damaged"):
        datasets.load("medmnist:s", image_size=image_size)
    index = ["s.npz", "s_64.npz", "s_128.npz", "s_224.npz"].index(file)
    assert asked == [(file, PUBLISHED["bloodmnist"].md5[index])]


def test_no_network_tells_what_to_do_by_hand(monkeypatch):
    monkeypatch.setattr(medmnist, "download_url", no_network)
    with pytest.raises(ValueError, match="Cannot download") as caught:
        datasets.load("medmnist:breastmnist", image_size=28)
    message = str(caught.value)
    target = cache_folder() / "medmnist" / "breastmnist.npz"
    assert "Name or service not known" in message
    assert "MD5 sum is 750601b1f35ba3300ea97c75c52ff8f6" in message
    assert f"put it at {target}" in message
    assert not list(target.parent.iterdir())  # nothing half-loaded stays behind


def test_damaged_published_file(published):
    path = cache_folder() / "medmnist" / "pneumoniamnist.npz"
    path.parent.mkdir()
    path.write_bytes(published[:-9])
    with pytest.raises(ValueError, match=r"pneumoniamnist\.npz is damaged: its MD5 sum is .* Delete it and load again"):
        datasets.load("medmnist:pneumoniamnist", image_size=28)


def test_leaky_published_set_is_noted(published, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "dermamnist", replace(PUBLISHED["dermamnist"], md5=PUBLISHED["pneumoniamnist"].md5))
    path = cache_folder() / "medmnist" / "dermamnist.npz"
    path.parent.mkdir()
    np.savez(path, **arrays(classes=7))
    monkeypatch.setattr(medmnist, "calculate_md5", lambda path: PUBLISHED["dermamnist"].md5[0])
    assert "images of one lesion lie in several of its splits" in datasets.load("medmnist:dermamnist", 28).notes[1]


def test_unknown_and_multi_label_names():
    with pytest.raises(
        ValueError, match=r"Unknown MedMNIST set 'pneumonia'; allowed: .* Did you mean 'pneumoniamnist'"
    ):
        datasets.load("medmnist:pneumonia")
    with pytest.raises(ValueError, match="medmnist:chestmnist has several labels per image"):
        datasets.load("medmnist:chestmnist")


def test_the_table_of_published_sets():
    assert len(PUBLISHED) == 11
    sums = [md5 for published in PUBLISHED.values() for md5 in published.md5]
    assert len(set(sums)) == 44
    assert all(len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in sums)
    assert len(PUBLISHED["organamnist"].class_names) == 11


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"No file at .*none\.npz; medmnist: takes the path of a \.npz file or one of"):
        datasets.load(f"medmnist:{tmp_path / 'none.npz'}")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_unreadable_file(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read .*bad\.npz as a \.npz file of plain arrays"):
        datasets.load(f"medmnist:{tmp_path / 'bad.npz'}")


def test_one_array_under_the_name_of_an_archive(tmp_path):
    with open(tmp_path / "bad.npz", "wb") as handle:
        np.save(handle, np.zeros(3))
    with pytest.raises(ValueError, match=r"Cannot read .*bad\.npz as a \.npz file of plain arrays"):
        datasets.load(f"medmnist:{tmp_path / 'bad.npz'}")


def test_pickled_objects_are_refused(save):
    layout = arrays()
    layout["train_labels"] = np.array([[0]] * 40, dtype=object)
    with pytest.raises(ValueError, match=r"plain arrays: Object arrays cannot be loaded"):
        datasets.load(save(layout))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels": None},
            "needs the arrays train_images, train_labels, val_images, .*; found train_images, val_i",
        ),
        ({"train_images": None, "train_labels": None}, "needs the arrays train_images, train_labels"),
        ({"val_images": None}, "needs the arrays .*val_images"),
        (
            {"train_images": np.zeros((40, 28, 28), np.float32)},
            r"train: images must be uint8 .* found float32 \(40, 28",
        ),
        ({"val_images": np.zeros((8, 28, 28, 28), np.uint8)}, r"val: images must be .* \(8, 28, 28, 28\); 3-D sets"),
        ({"train_labels": np.zeros((40, 14), np.uint8)}, "train: found 14 labels per image"),
        ({"train_labels": np.zeros(39, np.uint8)}, r"train: 40 images need as many labels, found an array \(39,\)"),
        ({"train_labels": np.array(["cat"] * 40)}, "train: labels must be integers 0, 1, 2 ..., found <U3"),
        ({"train_labels": np.zeros(40)}, "train: labels must be integers 0, 1, 2 ..., found float64"),
        ({"train_labels": np.arange(40) - 1}, "train: labels must be integers .* found the minimum -1"),
        ({"train_labels": np.arange(40) % 2 * 2}, "'class 1' has 0"),
        (
            {"val_images": np.zeros((0, 28, 28), np.uint8), "val_labels": np.zeros(0, int)},
            r"own\.npz, val: there are no images, found an array \(0, 28, 28\)\. .*val and test may be left out",
        ),
        ({"train_images": np.zeros((40, 0, 28), np.uint8)}, r"train: there are no images, found .*\(40, 0, 28\)"),
        ({"test_labels": np.zeros(10, np.uint8)}, "too few images in test: 'class 1' has 0"),
        ({"train_labels": np.eye(40, dtype=int)[0]}, "too few images in train: 'class 1' has 1"),
    ],
)
def test_files_that_do_not_fit(save, changes, message):
    layout = {key: array for key, array in (arrays() | changes).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        datasets.load(save(layout), image_size=8)


@pytest.mark.parametrize(
    ("labels", "message"),
    [((1, 3), "0 is missing; found 1, 3"), ((*range(12), 13), "12 is missing; found 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ...")],
)
def test_labels_with_a_gap(save, labels, message):
    layout = arrays(train=40, val=20, test=20, classes=len(labels))
    for split in ("train", "val", "test"):
        layout[f"{split}_labels"] = np.array(labels)[layout[f"{split}_labels"]]
    with pytest.raises(ValueError, match=rf"own\.npz: labels must run .* without a gap, but {message}\. Renumber"):
        datasets.load(save(layout), image_size=8)


def test_no_images_at_all(save):
    with pytest.raises(ValueError, match=r"own\.npz, train: there are no images"):
        datasets.load(save(arrays(train=0, val=0, test=0)), image_size=8)


def test_one_class_only(save):
    layout = arrays(classes=1)
    with pytest.raises(ValueError, match=r"found one class \(class 0\); 2 or more are needed"):
        datasets.load(save(layout), image_size=8)
