"""APTOS 2019: grades, shares of the splits, copies in one split, and the field of view of a photograph."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_noise
from PIL import Image

from nbutils import datasets
from nbutils.datasets.fundus import FUNDUS_NOTE, fundus_square

EACH = 40  # photographs of each grade


def name(grade, number):
    return f"{grade}{number:011x}"  # twelve hexadecimal digits, as published


def write_table(folder, rows):
    pd.DataFrame(rows, columns=["id_code", "diagnosis"]).to_csv(folder / "train.csv", index=False)


@pytest.fixture
def study(tmp_path):
    """40 photographs of each grade; the first digit of a name is the grade."""
    rows = [(name(grade, i), grade) for grade in range(5) for i in range(EACH)]
    for image, _ in rows:
        write_noise(tmp_path / "train_images" / f"{image}.png", (10, 10, 3))
    write_table(tmp_path, rows)
    (tmp_path / "test.csv").write_text("id_code\n0005cfc8afb6\n")
    return tmp_path


def load(study, **options):
    return datasets.load(f"aptos:{study}", **{"image_size": 8, **options})


def test_grades_and_shares_of_iois(study):
    splits = load(study)
    assert splits.train.class_names == ("no DR", "mild", "moderate", "severe", "proliferative")
    for images, each in zip(splits.splits().values(), (28, 4, 8), strict=True):  # 70, 10 and 20 %
        assert images.class_counts().tolist() == [each] * 5
        assert [int(group[0]) for group in images.groups] == images.labels.tolist()
        assert images.images.shape[1:] == (3, 8, 8)
    assert any("40 of 200 train images were held out (20% of each class" in note for note in splits.notes)
    assert any("20 of 160 train images were held out (12.5% of each class" in note for note in splits.notes)
    assert any("patients are unknown" in note for note in splits.notes)
    assert FUNDUS_NOTE in splits.notes
    assert load(study, seed=1).test.fingerprint() != splits.test.fingerprint()


@pytest.mark.parametrize("seed", range(3))
def test_copies_stay_in_one_split_whatever_their_grades(study, seed):
    """Ten photographs four times each, every other time with another grade."""
    folder = study / "train_images"
    for original in range(10):
        for grade, number in ((0, 10 + original), (3, original), (3, 10 + original)):
            shutil.copy(folder / f"{name(0, original)}.png", folder / f"{name(grade, number)}.png")
    splits = load(study, seed=seed)
    assert "identical images within a split were kept, as one group each: 30 in train" in splits.notes
    assert "10 identical images carry different labels" in splits.notes
    seen = [set(images.hashes()) for images in splits.splits().values()]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 170


def test_the_field_of_view_is_kept_whole_and_round():
    """A disc of 200 pixels in a photograph of 300 x 400, cut off above and below, whose border is not quite black."""
    y, x = np.mgrid[:300, :400]
    disc = ((y - 120) ** 2 + (x - 220) ** 2 <= 100**2) & (y >= 40) & (y < 200)
    photograph = np.where(disc[..., None], [200, 120, 60], 8).astype(np.uint8)
    red, green, blue = fundus_square(Path("eye.png"), photograph, 40)
    assert (red[20] > 150).all()
    assert (red > 100).any(axis=1).sum() == 32  # of 40, as 160 of 200 pixels
    assert red[:4].max() == red[-4:].max() == 0
    assert (red[20, 20], green[20, 20], blue[20, 20]) == (200, 120, 60)


# bad input


def test_missing_files(study):
    (study / "train_images" / f"{name(2, 0)}.png").unlink()
    with pytest.raises(ValueError, match=rf"1 of 200 files are missing, first train_images/{name(2, 0)}\.png\. Unpack"):
        load(study)
    (study / "train.csv").unlink()
    with pytest.raises(ValueError, match=r"1 of 1 files are missing, first train\.csv\. aptos:PATH takes the folder"):
        load(study)
    with pytest.raises(
        ValueError, match=r"No folder at '.*nowhere'; aptos:PATH takes a folder of train\.csv and train_"
    ):
        load(study / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"diagnosis": "level"}), "has the columns id_code,level; needed are id_code,diagn"),
        (lambda t: pd.concat([t, t[:2]]), "2 of 202 rows repeat an id_code, first '000000000000'"),
        (lambda t: t.replace({"diagnosis": {"4": "5"}}), "40 of 200 rows have a diagnosis other than 0, .*, first '5'"),
    ],
)
def test_bad_tables(study, change, message):
    change(pd.read_csv(study / "train.csv", dtype=str)).to_csv(study / "train.csv", index=False)
    with pytest.raises(ValueError, match=message):
        load(study)


def test_a_black_photograph(study):
    Image.fromarray(np.full((9, 9, 3), 9, np.uint8)).save(study / "train_images" / f"{name(1, 5)}.png")
    with pytest.raises(ValueError, match=rf"{name(1, 5)}\.png is black all over; get the file again or take its row"):
        load(study)
