"""Liver lesions in CT: the patch on the right slice, in millimetres and in the window, and the split by date."""

import shutil

import numpy as np
import pandas as pd
import pytest

from nbutils import datasets
from nbutils.datasets import liver
from nbutils.datasets.audit import LeakError

sitk = pytest.importorskip("SimpleITK", reason="liver volumes need the extra 'datasets'")

LOW, HIGH = liver.WINDOW_HU
LESION_HU = (0.0, 60.0, 120.0)  # of each class
SPACING = (0.8, 0.8, 4.0)  # x, y, z in mm


def write_volume(path, array, spacing=SPACING, direction=None):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    if direction:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def scan(seed=0, shape=(6, 48, 64), value=60.0):
    """A noisy liver of 60 HU, (Z, Y, X), and an empty mask."""
    noise = np.random.default_rng(seed).normal(0, 10, shape)
    return (noise + value).astype(np.float32), np.zeros(shape, np.uint8)


@pytest.fixture(scope="module")
def study_files(tmp_path_factory):
    """12 patients with a scan each and one or two lesions in it, two a month from January 2010."""
    folder, rows = tmp_path_factory.mktemp("study"), []
    for patient in range(12):
        volume, mask = scan(patient)
        volume_file, mask_file = f"p{patient}.nii.gz", f"p{patient}_mask.mha"
        for number in range(1 + patient % 2):
            first = 8 + 24 * number
            mask[2, 10:20, first : first + 10] = number + 1
            volume[2, 10:20, first : first + 10] = LESION_HU[len(rows) % 3]
            rows.append(
                {
                    "lesion_id": f"p{patient}-{number}",
                    "patient_id": f"p{patient}",
                    "acquisition_date": f"2010-{1 + patient // 2:02d}-{1 + patient % 2 * 14:02d}",
                    "class": liver.CLASS_NAMES[len(rows) % 3],
                    "volume": volume_file,
                    "mask": mask_file,
                    "label": str(number + 1),
                }
            )
        write_volume(folder / volume_file, volume)
        write_volume(folder / mask_file, mask)
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)  # the order of the table must not matter
    table.to_csv(folder / "lesions.csv", index=False)
    return folder


@pytest.fixture
def study(study_files, tmp_path):
    """A copy of the study, to be spoilt at will."""
    return shutil.copytree(study_files, tmp_path / "study")


def rewrite(study, change):
    table = change(pd.read_csv(study / "lesions.csv", dtype=str).sort_values("lesion_id", ignore_index=True))
    table.to_csv(study / "lesions.csv", index=False)


def load(study, **options):
    return datasets.load(f"liver:{study}", **options)


def test_whole_study(study):
    splits = load(study, image_size=16)
    assert splits.name == "liver"
    assert splits.train.class_names == ("cyst", "hemangioma", "metastasis")
    assert splits.train.images.shape[1:] == (1, 16, 16)
    assert sum(len(images) for images in splits.splits().values()) == 18
    dates = {split: {int(group[1:]) for group in images.groups} for split, images in splits.splits().items()}
    assert max(dates["train"]) < min(dates["val"])
    assert max(dates["val"]) < min(dates["test"])
    assert abs(len(splits.train) - 18 * 681 / 1290) <= 1
    assert "patches of 1.5 times the lesion's extent, at least 22 mm, window -60 to 180 HU" in splits.notes
    assert any("split by acquisition date, patients whole: train 2010-01-01 to 2010-" in note for note in splits.notes)
    assert not any("unknown" in note for note in splits.notes)


def test_each_lesion_gets_its_own_patch(study):
    """The table is shuffled, and lesions of one volume are read together."""
    for images in load(study, image_size=16).splits().values():
        centres = images.images[:, 0, 8, 8] / 255 * (HIGH - LOW) + LOW
        assert np.abs(centres - np.take(LESION_HU, images.labels)).max() < 2


def test_the_seed_has_no_effect(study):
    first, second = load(study, seed=0), load(study, seed=1)
    assert first.test.groups.tolist() == second.test.groups.tolist()
    assert np.array_equal(first.test.images, second.test.images)


def test_patients_follow_their_first_date():
    patients = pd.Series(["a", "b", "c", "d", "a"])
    dates = pd.to_datetime(pd.Series(["2001-01-01", "2002-01-01", "2003-01-01", "2004-01-01", "2009-01-01"]))
    assert liver.split_by_date(patients, dates).tolist() == ["train", "train", "val", "test", "train"]


def test_the_papers_own_numbers():
    days = pd.Series(pd.date_range("2005-01-01", periods=1290))
    splits = liver.split_by_date(pd.Series([f"p{i}" for i in range(1290)]), days)
    assert {split: int((splits == split).sum()) for split in ("train", "val", "test")} == liver.LESIONS


def test_the_slice_with_the_largest_section_is_taken():
    volume, mask = scan()
    mask[1, 20:24, 30:34] = 1
    mask[4, 18:26, 28:36] = 1
    volume[4] += 500
    assert liver.lesion_patch(volume, mask == 1, (0.8, 0.8)).min() > 400


def test_the_patch_is_centred_and_measured_in_millimetres():
    volume, mask = scan()
    volume[3, 10:30, 20:40], mask[3, 10:30, 20:40] = 150, 1
    patch = liver.lesion_patch(volume, mask == 1, (1.0, 1.0))
    assert patch.shape == (30, 30)  # 1.5 x 20 mm
    assert (patch[5:25, 5:25] == 150).all()
    assert liver.lesion_patch(volume, mask == 1, (0.5, 1.0)).shape == (30, 60)  # 20 mm high, 10 mm wide
    small = np.zeros_like(mask, dtype=bool)
    small[3, 20, 30] = True
    assert liver.lesion_patch(volume, small, (1.0, 1.0)).shape == (22, 22)  # the least side


def test_beyond_the_edge_lies_air():
    volume, mask = scan()
    mask[0, 0:4, 60:64] = 1
    patch = liver.lesion_patch(volume, mask == 1, (1.0, 1.0))
    assert patch.shape == (22, 22)
    assert (patch[:9] == liver.AIR_HU).all()
    assert (patch[:, 13:] == liver.AIR_HU).all()
    assert np.array_equal(patch[9:, :13], volume[0, :13, 51:])


def test_the_window_goes_to_black_and_white():
    ramp = np.linspace(LOW, HIGH, 16, dtype=np.float32)[None].repeat(16, 0)
    assert liver._shown(ramp, 16)[0, 0].tolist() == [17 * i for i in range(16)]
    assert set(np.unique(liver._shown(np.array([[-1000, 3000]], np.float32).repeat(8, 0).repeat(4, 1), 8))) == {0, 255}


def test_anisotropic_pixels_show_a_round_lesion_round():
    z, y, x = np.mgrid[:3, :60, :120]
    inside = ((y - 29.5) * 1.0) ** 2 + ((x - 59.5) * 0.5) ** 2 < 12**2
    volume = np.where(inside, 150, 0).astype(np.float32)
    shown = liver._shown(liver.lesion_patch(volume, inside & (z == 1), (0.5, 1.0)), 32)[0] > 150
    assert abs(int(shown.any(0).sum()) - int(shown.any(1).sum())) <= 1


def test_orientation_is_turned_to_one_view(tmp_path):
    """A NIfTI with x to the right and y to the front shows the same patch as one in the usual order."""
    volume, mask = scan()
    volume[2, 10:20, 8:18] = np.arange(100).reshape(10, 10)
    mask[2, 10:20, 8:18] = 1
    write_volume(tmp_path / "v.nii.gz", volume)
    write_volume(tmp_path / "m.nii.gz", mask)
    turned = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    write_volume(tmp_path / "tv.nii.gz", volume[:, ::-1, ::-1].copy(), direction=turned)
    write_volume(tmp_path / "tm.nii.gz", mask[:, ::-1, ::-1].copy(), direction=turned)
    plain = liver._read_pair(tmp_path / "v.nii.gz", tmp_path / "m.nii.gz")
    other = liver._read_pair(tmp_path / "tv.nii.gz", tmp_path / "tm.nii.gz")
    assert np.array_equal(plain[0], other[0])
    assert np.array_equal(plain[1], other[1])


def test_one_lesion_per_mask_needs_no_label(study):
    def one_each(table):
        table = table.drop(columns="label").drop_duplicates("mask")
        return table.assign(**{"class": [liver.CLASS_NAMES[int(patient[1:]) % 3] for patient in table["patient_id"]]})

    rewrite(study, one_each)
    assert sum(len(images) for images in load(study, image_size=16).splits().values()) == 12


# bad input


def test_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"No lesions\.csv in .*; liver:PATH takes a folder with lesions\.csv"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns=["patient_id"]),
            r"lesions\.csv has the columns lesion_id,acquisition_date,.*; needed are lesion_id,patient_id,",
        ),
        (lambda t: t[:0], "lists no lesion; one row per lesion is needed"),
        (
            lambda t: t.replace({"class": {"cyst": "Cyst"}}),
            "Unknown class of lesion p0-0 in .*'Cyst'; .* Did you mean 'cyst'",
        ),
        (
            lambda t: t.replace("2010-03-01", "01.03.2010"),
            "1 of 18 lesions have no acquisition_date YYYY-MM-DD, first 'p4-0'",
        ),
        (lambda t: pd.concat([t, t[:1]]), "1 of 19 lesions repeat a lesion_id, first 'p0-0'"),
        (lambda t: t.replace({"patient_id": {"p0": ""}}), "1 of 18 lesions have no patient_id"),
        (lambda t: t.replace({"label": {"2": "two"}}), "6 of 18 lesions have no label >= 1"),
        (lambda t: t.drop(columns="label"), "6 of 18 lesions share a mask, but there is no column label"),
        (lambda t: t.replace("p3.nii.gz", "q.nii.gz"), "2 of 18 lesions name a volume that does not exist in"),
        (lambda t: t.replace({"label": {"2": "7"}}), "Lesion 'p1-1' has no voxel in .*p1_mask.mha"),
        (lambda t: t.replace("p3_mask.mha", "p3.nii.gz"), "Lesion 'p3-0' has no voxel in"),
        (lambda t: t[t["patient_id"].isin(["p0", "p1"])], "3 lesions of 2 patients are too few for a split by date"),
    ],
)
def test_bad_tables(study, change, message):
    rewrite(study, change)
    with pytest.raises(ValueError, match=message):
        load(study, image_size=16)


def test_damaged_volume(study):
    (study / "p5.nii.gz").write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"Cannot read the volume .*p5\.nii\.gz: "):
        load(study, image_size=16)


def test_flat_image_in_place_of_a_volume(study):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8), np.uint8)), str(study / "p5_mask.mha"))
    with pytest.raises(ValueError, match=r"p5_mask\.mha must be a scalar 3-D volume, found 2-D"):
        load(study, image_size=16)


def test_mask_on_another_grid(study):
    write_volume(study / "p5_mask.mha", scan()[1], spacing=(1.0, 1.0, 4.0))
    with pytest.raises(
        ValueError, match=r"p5_mask\.mha does not lie on .*p5\.nii\.gz: spacing \(1\.0, 1\.0, 4\.0\), needed"
    ):
        load(study, image_size=16)
    write_volume(study / "p5_mask.mha", scan(shape=(5, 48, 64))[1])
    with pytest.raises(ValueError, match=r"size \(64, 48, 5\), needed \(64, 48, 6\)"):
        load(study, image_size=16)


def test_volume_that_is_not_in_hounsfield_units(study):
    write_volume(study / "p5.nii.gz", scan(value=1084.0)[0])
    with pytest.raises(ValueError, match=r"Lesion 'p5-[01]': its patch holds .* is the volume in Hounsfield units"):
        load(study, image_size=16)


def test_one_scan_under_two_patients(study):
    rewrite(study, lambda table: table.replace({"volume": {"p11.nii.gz": "p1.nii.gz"}}))
    with pytest.raises(LeakError, match=r"2 of .* test images are identical to train images"):
        load(study, image_size=16)


def test_without_simpleitk(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"SimpleITK, which is not installed: pip install -e \"\.\[datasets\]\""):
        load(study)
