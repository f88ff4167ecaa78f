"""Kera-3k's layout: fixed classes in train and test, the rest as for folders."""

import shutil

import pytest
from conftest import write_classes, write_noise

from nbutils import datasets

CLASSES = ("amoeba", "bacteria", "fungal", "hsk")


@pytest.fixture
def study(tmp_path):
    """Ten images of each class to train and three to test."""
    write_classes(tmp_path / "train", CLASSES, 10)
    write_classes(tmp_path / "test", CLASSES, 3)
    return tmp_path


def load(study, **options):
    return datasets.load(f"kera:{study}", **{"image_size": 8, **options})


def test_classes_in_the_papers_order_and_the_given_test_split(study):
    splits = load(study)
    assert splits.name == "kera"
    assert splits.test.name == "kera test"
    assert splits.train.class_names == CLASSES
    assert splits.test.class_counts().tolist() == [3, 3, 3, 3]
    assert splits.train.class_counts().sum() + splits.val.class_counts().sum() == 40
    for split, images in splits.splits().items():
        folder = "test" if split == "test" else "train"
        wanted = [f"{folder}/{CLASSES[label]}/" for label in images.labels]
        assert [group.rpartition("/")[0] + "/" for group in images.groups] == wanted


def test_patients_of_groups_csv_stay_together(study):
    files = [path.relative_to(study).as_posix() for path in sorted(study.rglob("*.png"))]
    rows = [f"{file},{file.split('/')[0]} {int(file.split('/')[2][0]) // 2}" for file in files]
    (study / "groups.csv").write_text("\n".join(["file,group", *rows]))
    splits = load(study)
    assert not set(splits.train.groups) & set(splits.val.groups)
    assert set(splits.train.groups) | set(splits.val.groups) == {f"train {i}" for i in range(5)}


# bad input


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_folders(study, split):
    write_noise(study / split / "unclear" / "a.png")
    listed = "amoeba, bacteria, fungal, hsk"
    with pytest.raises(
        ValueError, match=rf"{split} must hold the class folders {listed}, found {listed}, unclear\. For"
    ):
        load(study)
    shutil.rmtree(study / split)
    with pytest.raises(ValueError, match=rf"{split} must hold the class folders {listed}, found none"):
        load(study)


def test_no_folder(study):
    with pytest.raises(ValueError, match=r"No folder at '.*nowhere'; kera:PATH takes a folder of train and test, each"):
        load(study / "nowhere")
