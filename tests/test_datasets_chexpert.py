"""CheXpert: which rows count as a single class, how a radiograph becomes a square, and patients kept apart."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbutils import datasets
from nbutils.datasets import chexpert

COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *chexpert.OBSERVATIONS]  # as published


def row(patient, view="AP", study=1, **observations):
    """Return a row of train.csv; observations by their names with _ for the space."""
    named = {name.replace("_", " "): value for name, value in observations.items()}
    path = f"CheXpert-v1.0-small/train/patient{patient:05d}/study{study}/view1_frontal.jpg"
    return {"Path": path, "Sex": "Female", "Age": "68", "Frontal/Lateral": "Frontal", "AP/PA": view, **named}


def write_table(folder, rows):
    table = pd.DataFrame([{**dict.fromkeys(COLUMNS, ""), **row} for row in rows])
    table.to_csv(folder / "train.csv", index=False)


def read(tmp_path, rows):
    write_table(tmp_path, rows)
    return chexpert.single_class(chexpert._read_table(tmp_path))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """8 patients of each class with two radiographs each, noise with a black border, and 10 unsuitable rows."""
    monkeypatch.setattr(chexpert, "PER_CLASS", 2)
    rng, rows = np.random.default_rng(0), []
    for patient in range(32):
        finding = {chexpert.CLASS_NAMES[patient % 4].replace(" ", "_"): "1.0"}
        rows += [row(patient, study=study, **finding) for study in (1, 2)]
    for wanted in rows:
        pixels = np.zeros((40, 30), np.uint8)
        pixels[2:38, 5:25] = rng.integers(100, 200, (36, 20))
        path = tmp_path / wanted["Path"].partition("/")[2]
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path, format="PNG")  # lossless in a .jpg, so that black stays black
    write_table(tmp_path, rows + [row(100 + i, Edema="1.0") for i in range(10)])
    return tmp_path


def load(study, **options):
    return datasets.load(f"chexpert:{study}", image_size=36, **options)


@pytest.mark.parametrize(
    ("view", "observations", "label"),
    [
        ("AP", {"No_Finding": "1.0"}, 0),
        ("AP", {"Cardiomegaly": "1.0", "Edema": "0.0", "Pneumonia": ""}, 1),
        ("AP", {"Pleural_Effusion": "1.0"}, 2),
        ("AP", {"Pneumonia": "1.0"}, 3),
        ("PA", {"Pneumonia": "1.0"}, None),  # another view
        ("", {"Pneumonia": "1.0"}, None),  # lateral
        ("AP", {"Pneumonia": "-1.0"}, None),  # uncertain
        ("AP", {"Pneumonia": "1.0", "Cardiomegaly": "1.0"}, None),  # two of ours
        ("AP", {"Pneumonia": "1.0", "Lung_Opacity": "1.0"}, None),  # one of ours and one of the others
        ("AP", {"Pneumonia": "1.0", "Atelectasis": "-1.0"}, None),  # and perhaps another one
        ("AP", {"No_Finding": "1.0", "Support_Devices": "1.0"}, None),
        ("AP", {"Fracture": "1.0"}, None),  # a single class, not ours
        ("AP", {}, None),  # nothing mentioned
    ],
)
def test_single_class(tmp_path, view, observations, label):
    found = read(tmp_path, [row(1, view, **observations)])
    assert found["label"].tolist() == ([] if label is None else [label])


def test_files_and_patients_come_from_the_path(tmp_path):
    (found,) = read(tmp_path, [row(7, Pneumonia="1.0")]).to_dict("records")
    assert found == {"file": "train/patient00007/study1/view1_frontal.jpg", "patient": "patient00007", "label": 3}


def test_as_many_of_each_class_in_each_split_and_one_image_per_patient(study):
    splits = load(study)
    assert splits.train.class_names == ("No Finding", "Cardiomegaly", "Pleural Effusion", "Pneumonia")
    for images in splits.splits().values():
        assert images.class_counts().tolist() == [2, 2, 2, 2]
        assert [int(group[7:]) % 4 for group in images.groups] == images.labels.tolist()
    patients = np.concatenate([images.groups for images in splits.splits().values()])
    assert len(set(patients)) == 24
    assert any("of 64 AP views of 32 patients with one observation positive" in note for note in splits.notes)


def test_images_are_cropped_filled_and_padded(study):
    """36 x 20 pixels inside the border fill the height of 36 and are centred in the width."""
    images = load(study).train.images
    assert images.shape[1:] == (1, 36, 36)
    assert images[:, :, :, 8:28].min() >= 100
    assert images[:, :, :, :8].max() == images[:, :, :, 28:].max() == 0


def test_the_draw_depends_on_the_seed_alone(study):
    first, again, other = load(study, seed=0), load(study, seed=0), load(study, seed=1)
    assert first.train.fingerprint() == again.train.fingerprint()
    assert set(first.train.groups) != set(other.train.groups)


def test_a_rare_class_is_shared_and_noted(study, monkeypatch):
    monkeypatch.setattr(chexpert, "PER_CLASS", 3)
    splits = load(study)
    assert splits.test.class_counts().tolist() == [2, 2, 2, 2]
    assert "only 2 of 'Pneumonia' for train, val, test: 8 were found" in splits.notes


# bad input


def test_no_table(tmp_path):
    with pytest.raises(
        ValueError, match=r"1 of 1 files are missing, first train\.csv\. chexpert:PATH takes the folder"
    ):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"No folder at '.*nowhere'; chexpert:PATH takes a folder of train\.csv"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="AP/PA"), r"train\.csv has the columns .*; needed are Path,AP/PA,No Finding"),
        (lambda t: t.replace("1.0", "yes"), r"74 of 74 rows have an observation other than '', '0.0', '1.0', '-1.0'"),
        (lambda t: pd.concat([t, t[:1]]), "1 of 75 rows repeat a Path, first 'CheXpert-v1.0-small/train/patient00000"),
        (lambda t: t.replace({"Path": {t["Path"][3]: "a.jpg"}}), "1 of 74 rows have no Path like .*first 'a.jpg'"),
        (lambda t: t[:60], "Too few images of class 'No Finding' .*: found 5, needed are at least 6, and 6 for"),
    ],
)
def test_bad_tables(study, change, message):
    table = pd.read_csv(study / "train.csv", dtype=str, keep_default_na=False)
    if "Too few" in message:
        table = table[~table["Path"].str.contains("patient0000[048]")]
    change(table.reset_index(drop=True)).to_csv(study / "train.csv", index=False)
    with pytest.raises(ValueError, match=message):
        load(study)


def test_missing_and_damaged_images(study):
    files = sorted(study.rglob("*.jpg"))
    for file in files:
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"Cannot read the image .*view1_frontal\.jpg"):
        load(study)
    for file in files:
        file.unlink()
    with pytest.raises(
        ValueError, match=r"24 of 24 files are missing, first train/patient000\d\d/.* Unpack the images"
    ):
        load(study)
