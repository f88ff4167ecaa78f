"""Paediatric radiographs: patients by file names, val put back into train and carved anew."""

import numpy as np
import pytest
from conftest import write_noise

from nbutils import datasets
from nbutils.datasets.audit import LeakError
from nbutils.datasets.pneumonia import patient_of


@pytest.fixture
def study(tmp_path):
    """20 normal radiographs and 20 with pneumonia of 10 patients each for training, 2 for val, 4 for test."""
    for i in range(10):
        for number in (1, 2):
            write_noise(tmp_path / f"train/NORMAL/IM-{i:04d}-000{number}.jpeg", (20, 30))
            write_noise(tmp_path / f"train/PNEUMONIA/person{i}_bacteria_{2 * i + number}.jpeg", (20, 30))
    write_noise(tmp_path / "val/NORMAL/NORMAL2-IM-1427-0001.jpeg", (20, 30))
    write_noise(tmp_path / "val/PNEUMONIA/person1946_bacteria_4874.jpeg", (30, 20, 3))
    for i in range(2):
        write_noise(tmp_path / f"test/NORMAL/IM-{i:04d}-0001.jpeg", (20, 30))
        write_noise(tmp_path / f"test/PNEUMONIA/person{i}_virus_{i}.jpeg", (20, 30))
    return tmp_path


def load(study, **options):
    return datasets.load(f"pneumonia:{study}", **{"image_size": 16, **options})


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person123_bacteria_45.jpeg", "train-person123"),
        ("person123_virus_9.jpeg", "train-person123"),
        ("person1180_virus_2010_1.jpeg", "train-person1180"),
        ("IM-0115-0001.jpeg", "train-IM-0115"),
        ("IM-0511-0001-0002.jpeg", "train-IM-0511"),
        ("NORMAL2-IM-0373-0001.jpeg", "train-NORMAL2-IM-0373"),
        ("BACTERIA-1008087-0001.jpeg", "patient1008087"),
    ],
)
def test_patients_come_from_the_names_of_files(tmp_path, name, patient):
    assert patient_of(tmp_path / name, "train") == patient


def test_val_is_carved_from_train_by_patients_and_test_is_kept(study):
    splits = load(study)
    assert splits.train.class_names == ("normal", "pneumonia")
    assert splits.test.class_counts().tolist() == [2, 2]
    assert len(splits.train) + len(splits.val) == 42
    assert 3 <= splits.val.class_counts()[0] <= 4  # 15 %, in pairs
    assert not set(splits.train.groups) & set(splits.val.groups)
    assert "2 images of val were put back into train" in splits.notes
    assert {"train-NORMAL2-IM-1427", "train-person1946"} <= {*splits.train.groups, *splits.val.groups}


def test_a_radiograph_is_shown_whole_and_grey(study):
    from PIL import Image

    halves = np.zeros((20, 40), np.uint8)
    halves[:, :5], halves[:, -5:] = 255, 255  # a central square would lose these
    Image.fromarray(halves).save(study / "test/NORMAL/IM-0000-0001.jpeg", quality=100)
    images = load(study).test
    assert images.images.shape[1:] == (1, 16, 16)
    shown = images.images[images.groups == "test-IM-0000"][0, 0]
    assert shown[:, [0, -1]].min() > 200
    assert shown[:, 6:10].max() < 30


def test_a_published_patient_in_both_folders_is_a_leak(study):
    for split in ("train", "test"):
        write_noise(study / split / "PNEUMONIA/VIRUS-77-0001.jpeg", (20, 30))
    with pytest.raises(LeakError, match=r"1 of .* groups are in more than one given split, e\.g\. 'patient77'"):
        load(study)


def test_bad_layouts(study):
    write_noise(study / "train/NORMAL/scan7.png")
    with pytest.raises(ValueError, match=r"scan7\.png is named like no published file: person123_bacteria_45"):
        load(study)
    (study / "test/NORMAL").rename(study / "test/normal")
    with pytest.raises(ValueError, match=r"test must hold the folders NORMAL, PNEUMONIA, found PNEUMONIA, normal"):
        load(study)
    with pytest.raises(ValueError, match=r"No folder at .*nowhere'; pneumonia:PATH takes a folder of train and test"):
        load(study / "nowhere")
