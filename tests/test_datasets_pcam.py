"""Patch Camelyon: published splits, seeded draws, and only the drawn patches in memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from nbutils import datasets
from nbutils.datasets import pcam
from nbutils.datasets.audit import LeakError

h5py = pytest.importorskip("h5py", reason="PCam needs the extra 'datasets'")

SPLITS = ("train", "valid", "test")  # as in the names of the files
COUNT = 20  # patches of each split


def path(folder, split, ending):
    return folder / f"camelyonpatch_level_2_split_{split}_{ending}"


def write(file, name, array):
    with h5py.File(file, "w") as target:
        target.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), compression="gzip")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """20 patches of each split from 4 slides: red says the split and place, green the label, blue is noise."""
    monkeypatch.setattr(pcam, "PER_CLASS", 3)
    rng = np.random.default_rng(0)
    for number, split in enumerate(SPLITS):
        labels = np.arange(COUNT) % 2
        x = rng.integers(0, 255, (COUNT, 96, 96, 3), dtype=np.uint8)
        x[..., 0] = (80 * number + np.arange(COUNT))[:, None, None]
        x[..., 1] = 200 * labels[:, None, None]
        write(path(tmp_path, split, "x.h5"), "x", x)
        write(path(tmp_path, split, "y.h5"), "y", labels.astype(np.uint8).reshape(-1, 1, 1, 1))
        slides = [f"camelyon16_{split}_{i % 4:03d}" for i in range(COUNT)]
        columns = {"coord_y": 0, "coord_x": 0, "tumor_patch": labels == 1, "center_tumor_patch": labels == 1}
        pd.DataFrame({**columns, "wsi": slides}).to_csv(path(tmp_path, split, "meta.csv"))
    return tmp_path


def load(study, **options):
    return datasets.load(f"pcam:{study}", **{"image_size": 96, **options})


def test_published_splits_are_kept_and_each_patch_has_its_label_and_slide(study):
    splits = load(study)
    for number, (split, images) in enumerate(splits.splits().items()):
        assert images.images.shape == (6, 3, 96, 96)
        assert images.class_counts().tolist() == [3, 3]
        assert (images.images[:, 1, 48, 48] == 200 * images.labels).all()
        index = images.images[:, 0, 48, 48].astype(int) - 80 * number
        assert len(set(index)) == 6
        assert images.groups.tolist() == [f"camelyon16_{pcam.PUBLISHED[split]}_{i % 4:03d}" for i in index]
    assert "drawn at random with seed 0: 3 images of each class for val" in splits.notes
    assert "groups are slides; their patients are not published" in splits.notes


def test_patches_are_resized(study):
    assert load(study, image_size=32).val.images.shape == (6, 3, 32, 32)


def test_the_draw_depends_on_the_seed_alone(study):
    first, again, other = load(study, seed=0), load(study, seed=0), load(study, seed=1)
    assert first.test.fingerprint() == again.test.fingerprint()
    assert first.test.fingerprint() != other.test.fingerprint()


def test_only_the_drawn_patches_are_read(tmp_path):
    """A file with the size of the published training split: 7 GB, of which 200 patches need 6 MB."""
    file, count = tmp_path / "x.h5", 2**18
    with h5py.File(file, "w") as target:
        x = target.create_dataset("x", (count, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))  # unwritten chunks are 0
        x[count - 1] = 7
    tracemalloc.start()
    patches = pcam.read_patches(file, np.append(np.arange(199), count - 1), count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20
    assert (patches[-1] == 7).all()
    assert patches[:-1].max() == 0


# bad input


def test_missing_and_packed_files(study):
    with pytest.raises(ValueError, match=r"No folder at '.*nowhere'; pcam:PATH takes a folder of the published files"):
        load(study / "nowhere")
    x = path(study, "valid", "x.h5")
    x.rename(f"{x}.gz")
    with pytest.raises(
        ValueError, match=r"1 of 9 files are missing, .*valid_x\.h5\. Unpack them first: gunzip --keep cam"
    ):
        load(study)
    path(study, "train", "meta.csv").unlink()
    with pytest.raises(
        ValueError, match=r"2 of 9 files are missing, first camelyonpatch_level_2_split_train_meta\.csv"
    ):
        load(study)


def test_file_cut_off(study):
    x = path(study, "train", "x.h5")
    x.write_bytes(x.read_bytes()[: x.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"Cannot read .*train_x\.h5: .* It may be cut off: get it again"):
        load(study)


@pytest.mark.parametrize(
    ("ending", "name", "array", "message"),
    [
        ("x.h5", "images", np.zeros((COUNT, 96, 96, 3), np.uint8), "x.h5 holds no data set 'x'; found images"),
        (
            "x.h5",
            "x",
            np.zeros((COUNT, 64, 64, 3), np.uint8),
            r"x must be uint8 \(20, 96, 96, 3\), .*\(20, 64, 64, 3\)",
        ),
        ("x.h5", "x", np.zeros((9, 96, 96, 3), np.uint8), r"one for each label, found uint8 \(9, 96, 96, 3\)"),
        ("x.h5", "x", np.zeros((COUNT, 96, 96, 3), np.float32), "found float32"),
        ("y.h5", "y", np.zeros((COUNT, 1), np.uint8), r"y must be \(N, 1, 1, 1\), found \(20, 1\)"),
        ("y.h5", "y", np.full((COUNT, 1, 1, 1), 2, np.uint8), "y must be 0 or 1, found 2 to 2"),
        ("y.h5", "y", np.zeros((9, 1, 1, 1), np.uint8), "train: 9 labels but 20 rows in the meta file"),
        ("y.h5", "y", np.zeros((COUNT, 1, 1, 1), np.uint8), "Too few images of class 'tumour' for train: found 0"),
    ],
)
def test_files_of_another_shape(study, ending, name, array, message):
    write(path(study, "train", ending), name, array)
    with pytest.raises(ValueError, match=message):
        load(study)


def test_a_slide_in_two_splits(study):
    meta = path(study, "test", "meta.csv")
    meta.write_text(meta.read_text().replace("camelyon16_test_00", "camelyon16_train_00"))
    with pytest.raises(LeakError, match=r"groups are in more than one given split, e\.g\. 'camelyon16_train_00"):
        load(study)


def test_without_h5py(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py, which is not installed: pip install -e \"\.\[datasets\]\""):
        load(study)
