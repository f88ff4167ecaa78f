"""HAM10000: the published files in their forms, lesions kept apart, the challenge's test set given or not."""

import numpy as np
import pandas as pd
import pytest
from conftest import write_noise

from nbutils import datasets
from nbutils.datasets import ham10000
from nbutils.datasets.audit import LeakError

CLASSES = ("bkl", "nv", "df", "mel", "vasc", "bcc", "akiec")
LESIONS, EACH = 20, 2  # lesions of each class, images of each lesion


def metadata(prefix, first, lesions):
    """Return a table as published; the names of lesions begin with their class."""
    names = [(dx, f"{prefix}_{dx}{i:04d}") for dx in CLASSES for i in range(lesions)]
    rows = [(lesion, dx, "histo", "60.0", "male", "back") for dx, lesion in names for _ in range(EACH)]
    table = pd.DataFrame(rows, columns=["lesion_id", "dx", "dx_type", "age", "sex", "localization"])
    table.insert(1, "image_id", [f"ISIC_{first + i:07d}" for i in range(len(table))])
    return table


def write_images(folder, image_ids):
    for image in image_ids:
        write_noise(folder / f"{image}.jpg", (9, 12, 3))


@pytest.fixture
def study(tmp_path):
    """40 images of each class in two folders, as Kaggle has them."""
    table = metadata("HAM", 24306, LESIONS)
    table.to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    for part, images in enumerate(np.array_split(table["image_id"], 2), 1):
        write_images(tmp_path / f"HAM10000_images_part_{part}", images)
    return tmp_path


@pytest.fixture
def tested(study):
    """The same with the Dataverse's test set: 4 images of each class, and the image that is not scored."""
    table = metadata("HAMTEST", 34524, 2)
    write_images(study / "ISIC2018_Task3_Test_Images", table["image_id"])
    unscored = {**table.iloc[-1].to_dict(), "image_id": "ISIC_0035068"}
    pd.concat([table, pd.DataFrame([unscored])]).to_csv(study / "ISIC2018_Task3_Test_GroundTruth.csv", index=False)
    return study


def one_hot(study):
    """Turn the test set into the challenge's form, with its table in a folder."""
    table = pd.read_csv(study / "ISIC2018_Task3_Test_GroundTruth.csv")
    marks = {name: (table["dx"] == name.lower()).astype(float) for name in ham10000.ONE_HOT}
    (study / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    (study / "ISIC2018_Task3_Test_Images").rename(study / "ISIC2018_Task3_Test_Input")
    path = study / "ISIC2018_Task3_Test_GroundTruth" / "ISIC2018_Task3_Test_GroundTruth.csv"
    path.parent.mkdir()
    pd.DataFrame({"image": table["image_id"], **marks}).to_csv(path, index=False)
    return path


def load(study, **options):
    return datasets.load(f"ham10000:{study}", **{"image_size": 8, **options})


def classes_of(groups):
    return [group.split("_")[1].rstrip("0123456789") for group in groups]


def test_shares_of_iois_by_whole_lesions(study):
    splits = load(study)
    assert splits.train.class_names == CLASSES
    for images, each in zip(splits.splits().values(), (28, 4, 8), strict=True):  # 70, 10 and 20 %
        assert images.class_counts().tolist() == [each] * 7
        assert classes_of(images.groups) == [CLASSES[label] for label in images.labels]
        assert set(np.unique(images.groups, return_counts=True)[1]) == {EACH}
    assert "280 of 280 images were not square: their central square was kept" in splits.notes
    assert any("no test split was given: 56 of 280" in note for note in splits.notes)
    assert load(study, seed=1).test.fingerprint() != splits.test.fingerprint()


def test_the_challenges_test_set_is_the_test_split(tested):
    splits = load(tested)
    assert splits.test.class_counts().tolist() == [4] * 7
    assert all(group.startswith("HAMTEST_") for group in splits.test.groups)
    assert len(splits.train) == 252
    assert len(splits.val) == 28  # an eighth of each class, by lesions of two images
    assert splits.notes[:2] == (
        "test is the test set of the ISIC 2018 challenge (task 3)",
        "ISIC_0035068 was left out of test: the challenge does not score it",
    )
    assert not any("lesions of the test images" in note for note in splits.notes)


def test_the_challenges_own_table_tells_the_same_labels(tested):
    before = load(tested).test
    one_hot(tested)
    splits = load(tested)
    assert np.array_equal(splits.test.images, before.images)
    assert np.array_equal(splits.test.labels, before.labels)
    assert splits.test.groups[0] == "ISIC_0034524"
    assert any("lesions of the test images are unknown" in note for note in splits.notes)


def test_dataverse_tables_and_one_folder_of_images(tested):
    before = load(tested)
    for old, new in (
        ("HAM10000_metadata.csv", "HAM10000_metadata"),
        ("ISIC2018_Task3_Test_GroundTruth.csv", "ISIC2018_Task3_Test_GroundTruth.tab"),
    ):
        pd.read_csv(tested / old).to_csv(tested / new, sep="\t", index=False)
        (tested / old).unlink()
    (tested / "HAM10000_images").mkdir()
    for path in tested.glob("HAM10000_images_part_?/*.jpg"):
        path.rename(tested / "HAM10000_images" / path.name)
    splits = load(tested)
    assert splits.train.fingerprint() == before.train.fingerprint()
    assert splits.test.fingerprint() == before.test.fingerprint()


# bad input


def test_missing_files(study):
    for number in (24306, 24400):
        next(study.glob(f"*/ISIC_{number:07d}.jpg")).unlink()
    with pytest.raises(ValueError, match=r"2 of 280 files are missing, first HAM10000_images_part_1/ISIC_0024306\.jpg"):
        load(study)
    (study / "HAM10000_metadata.csv").unlink()
    with pytest.raises(
        ValueError, match=r"lacks one of HAM10000_metadata\.csv, .*, HAM10000_metadata, needed for train"
    ):
        load(study)
    with pytest.raises(
        ValueError, match=r"No folder at '.*nowhere'; ham10000:PATH takes a folder of HAM10000_metadata"
    ):
        load(study / "nowhere")


def test_half_a_test_set(tested):
    (tested / "ISIC2018_Task3_Test_Images").rename(tested / "elsewhere")
    with pytest.raises(ValueError, match=r"lacks one of ISIC2018_Task3_Test_Images, ISIC2018_Task3_Test_Input, needed"):
        load(tested)
    (tested / "elsewhere").rename(tested / "ISIC2018_Task3_Test_Input")
    (tested / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    with pytest.raises(ValueError, match=r"lacks one of ISIC2018_Task3_Test_GroundTruth\.csv, .*, needed for test"):
        load(tested)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="lesion_id"), "has the columns image_id,dx,.*; needed are lesion_id,image_id,dx"),
        (lambda t: t.drop(columns="dx"), "has the columns lesion_id,image_id,dx_type,.*; needed are image,MEL,NV"),
        (lambda t: pd.concat([t, t[:3]]), "3 of 283 rows repeat an image_id, first 'ISIC_0024306'"),
        (lambda t: t.replace({"dx": {"df": "scc"}}), "40 of 280 rows have a dx other than bkl, .*, first 'scc'"),
        (lambda t: t.replace({"lesion_id": {"HAM_nv0003": ""}}), "2 of 280 rows have no lesion_id, first 'ISIC_"),
    ],
)
def test_bad_metadata(study, change, message):
    path = study / "HAM10000_metadata.csv"
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        load(study)


@pytest.mark.parametrize(
    ("mel", "bkl"), [("0.0", "0.0"), ("1.0", "1.0"), ("0.0", "0.5"), ("0.5", "1.0"), ("yes", "1.0")]
)
def test_a_row_with_no_class_or_several(tested, mel, bkl):
    path = one_hot(tested)
    table = pd.read_csv(path, dtype=str)
    table.loc[0, ["MEL", "BKL"]] = mel, bkl  # published are 0.0 and 1.0
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"1 of 29 rows have not one 1 among MEL, NV, .*, first 'ISIC_0034524'"):
        load(tested)


def test_a_lesion_in_train_and_test(tested):
    path = tested / "ISIC2018_Task3_Test_GroundTruth.csv"
    path.write_text(path.read_text().replace("HAMTEST_mel0001", "HAM_mel0001"))
    with pytest.raises(LeakError, match=r"1 of 153 groups are in more than one given split, e\.g\. 'HAM_mel0001'"):
        load(tested)
