"""ODIR-5k: classes of eyes from their keywords, eyes left out, patients kept apart, both published layouts."""

import sys

import pandas as pd
import pytest
from conftest import write_noise

from nbutils import datasets
from nbutils.datasets import odir

pytest.importorskip("openpyxl", reason="ODIR-5k needs the extra 'datasets'")

CLASSES = "NDGCAHMO"
WORDS = {
    "N": "normal fundus",
    "D": "moderate non proliferative retinopathy",
    "G": "suspected glaucoma",
    "C": "cataract",
    "A": "dry age-related macular degeneration",
    "H": "hypertensive retinopathy",
    "M": "pathological myopia",
    "O": "drusen",
}
CHALLENGE = "ODIR-5K_Training_Annotations(Updated)_V2.xlsx", "ODIR-5K_Training_Dataset"
SETS = {"Training Set": "training", "Off-site Test Set": "off-site test", "On-site Test Set": "on-site test"}


def patient(number, left, right, classes=None):
    """Return a row of the table; classes None = as the keywords say."""
    classes = odir.patient_classes(left, right) if classes is None else classes
    sides = [("Left-Fundus", f"{number}_left.jpg"), ("Right-Fundus", f"{number}_right.jpg")]
    keywords = [("Left-Diagnostic Keywords", left), ("Right-Diagnostic Keywords", right)]
    marks = [(name, int(name in classes)) for name in CLASSES]
    return dict([("ID", number), ("Patient Age", 60), ("Patient Sex", "Male"), *sides, *keywords, *marks])


def patients(count):
    """Return `count` patients of each class, both of whose eyes have it."""
    return [patient(8 * i + k, WORDS[name], WORDS[name]) for i in range(count) for k, name in enumerate(CLASSES)]


def write_set(root, table, images, rows):
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_excel(root / table, index=False)
    for row in rows:
        for side in ("Left", "Right"):
            write_noise(root / images / row[f"{side}-Fundus"], (9, 12, 3))
    return root


@pytest.fixture
def study(tmp_path):
    """10 patients of each class as the challenge gave them, and 5 of whom at least one eye is left out."""
    special = [
        patient(100, "normal fundus", "low image quality"),
        patient(101, "lens dust，normal fundus", "lens dust，low image quality"),
        patient(102, "cataract，hypertensive retinopathy", "cataract"),
        patient(103, "macular hole,drusen", "", classes="O"),
        patient(104, "no fundus image", "glaucoma", classes="GO"),
    ]
    return write_set(tmp_path, *CHALLENGE, patients(10) + special)


@pytest.fixture
def whole(tmp_path):
    """OIA-ODIR: 10 patients of each class to train, one in each of the test sets; their numbers begin anew."""
    for (name, table), count in zip(SETS.items(), (10, 1, 1), strict=True):
        write_set(tmp_path, f"{name}/Annotation/{table} annotation (English).xlsx", f"{name}/Images", patients(count))
    return tmp_path


def load(study, **options):
    return datasets.load(f"odir:{study}", **{"image_size": 8, **options})


@pytest.mark.parametrize(
    ("keywords", "classes"),
    [
        ("normal fundus", "N"),
        ("Normal  fundus ", "N"),
        ("normal fundus，lens dust", "N"),  # a full-width comma, as published
        ("mild nonproliferative retinopathy", "D"),
        ("suspected moderate non proliferative retinopathy", "D"),
        ("severe proliferative diabetic retinopathy", "D"),
        ("post laser photocoagulation,diabetic retinopathy,maculopathy", "DO"),
        ("suspected glaucoma", "G"),
        ("suspected cataract", "C"),
        ("wet age-related macular degeneration", "A"),
        ("hypertensive retinopathy，diabetic retinopathy", "HD"),
        ("myopic maculopathy", "M"),
        ("myopia retinopathy，cataract", "MC"),
        ("maculopathy", "O"),
        ("retinitis pigmentosa，epiretinal membrane", "O"),
        ("anterior segment image", ""),
        ("image offset，optic disk photographically invisible", ""),
        ("", ""),
    ],
)
def test_classes_of_an_eye(keywords, classes):
    assert odir.eye_classes(keywords) == frozenset(classes)


def test_a_patient_is_normal_only_if_both_eyes_are():
    assert odir.patient_classes("normal fundus", "normal fundus") == {"N"}
    assert odir.patient_classes("normal fundus", "cataract，drusen") == {"C", "O"}
    assert odir.patient_classes("normal fundus", "low image quality") == {"N"}


def test_eyes_with_one_class_are_split_by_patients(study):
    splits = load(study)
    assert splits.train.class_names == tuple(CLASSES)
    counts = sum(images.class_counts() for images in splits.splits().values())
    assert counts.tolist() == [21, 20, 21, 21, 20, 20, 20, 21]
    assert [len(images) for images in splits.splits().values()] == pytest.approx([111, 20, 33], abs=6)
    groups = [set(images.groups) for images in splits.splits().values()]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 84
    numbers = [group.split("/")[-1] for group in splits.train.groups]
    pairs = zip(numbers, splits.train.labels, strict=True)
    assert all(int(number) % 8 == label for number, label in pairs if int(number) < 100)
    assert any("no test split was given" in note for note in splits.notes)


def test_what_is_left_out_is_counted(study):
    notes = load(study).notes
    assert notes[:3] == (
        "classes read from the keywords of both eyes are those of the table for 84 of 85 patients",
        "4 of 170 eyes were left out for their photograph (lens dust 2, low image quality 2, no fundus image 1)",
        "1 more eyes were left out with several classes, 1 without keywords",
    )


def test_only_eyes_that_are_kept_need_a_file(study):
    (study / CHALLENGE[1] / "100_right.jpg").unlink()
    (study / CHALLENGE[1] / "102_left.jpg").unlink()
    assert sum(len(images) for images in load(study).splits().values()) == 164


def test_both_test_sets_of_the_whole_set_are_test(whole):
    splits = load(whole)
    assert splits.test.class_counts().tolist() == [4] * 8
    assert {group.partition("/")[0] for group in splits.test.groups} == {"Off-site Test Set", "On-site Test Set"}
    assert {group.partition("/")[0] for group in splits.train.groups} == {"Training Set"}
    assert [int(group.split("/")[-1]) % 8 for group in splits.test.groups] == splits.test.labels.tolist()
    assert splits.val.class_counts().tolist() == [2] * 8  # 15 % of 20, by patients


def test_photographs_are_padded(study):
    image = load(study, image_size=12).train.images  # of 9 x 12 pixels
    assert image.shape[1:] == (3, 12, 12)
    assert image[:, :, 0].max() == image[:, :, -1].max() == 0
    assert image[:, :, 1:10].max(axis=(1, 2, 3)).min() > 100


# bad input


def test_missing_files(study, whole):
    (study / CHALLENGE[1] / "3_left.jpg").unlink()
    (whole / "Training Set").rename(whole / "elsewhere")
    with pytest.raises(ValueError, match=r"1 of 164 files are missing, first ODIR-5K_Training_Dataset/3_left\.jpg"):
        load(study)
    (study / CHALLENGE[0]).unlink()
    with pytest.raises(ValueError, match=r"holds neither Training Set/Annotation/training .* nor ODIR-5K_Training_Ann"):
        load(study)
    with pytest.raises(ValueError, match=r"No folder at '.*nowhere'; odir:PATH takes a folder of the published tables"):
        load(study / "nowhere")


def test_half_of_the_whole_set(whole):
    (whole / "On-site Test Set").rename(whole / "elsewhere")
    with pytest.raises(
        ValueError, match=r"1 of 3 files are missing, first On-site Test Set/Annotation/on-site test ann"
    ):
        load(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns="Left-Fundus"),
            "has the columns ID,Patient Age,.*; needed are ID,Left-Fundus,Left-D",
        ),
        (lambda t: pd.concat([t, t[:2]]), "2 of 87 rows repeat an ID, first '0'"),
        (lambda t: t.replace({"G": {1: 2}}), "11 of 85 rows have a class other than 0 or 1, first '2'"),
    ],
)
def test_bad_tables(study, change, message):
    path = study / CHALLENGE[0]
    change(pd.read_excel(path)).to_excel(path, index=False)
    with pytest.raises(ValueError, match=message):
        load(study)


@pytest.mark.parametrize("size", [0, 60, 3000])
def test_a_damaged_workbook(study, size):
    path = study / CHALLENGE[0]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"Cannot read .*_V2\.xlsx as an Excel workbook: .*Get the file again"):
        load(study)


def test_without_openpyxl(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"openpyxl, which is not installed: pip install -e \"\.\[datasets\]\""):
        load(study)
