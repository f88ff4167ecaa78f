"""PI-CAI: the right slice at the right place, from files in the published layout, and patients kept apart."""

import shutil

import numpy as np
import pytest

from nbutils import datasets
from nbutils.datasets import picai

sitk = pytest.importorskip("SimpleITK", reason="MRI volumes need the extra 'datasets'")

SPACING = (0.5, 0.5, 3.0)
SHAPE = (8, 40, 40)  # z, y, x
RESAMPLED = "human_expert/resampled"


def write_volume(path, array, spacing=SPACING, origin=(0.0, 0.0, 0.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def delineation_path(folder, case, source=RESAMPLED):
    return folder / picai.LABELS / "csPCa_lesion_delineations" / source / f"{case}.nii.gz"


def write_case(folder, case, lesion_slices=()):
    """Write a case whose slices tell themselves apart: T2W is 10 z, ADC 100 - 10 z, DWI 5 z, with noise of the case."""
    noise = np.random.default_rng(int(case[-7:])).uniform(-1, 1, SHAPE)
    z = np.arange(SHAPE[0])[:, None, None]
    for modality, levels in {"t2w": 10 * z, "adc": 100 - 10 * z, "hbv": 5 * z}.items():
        write_volume(picai._image_path(folder, case, modality), (levels + noise).astype(np.float32))
    lesion, gland = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for index, side, grade in lesion_slices:
        lesion[index, 10 : 10 + side, 10 : 10 + side] = grade
    gland[2:7, 10:30, 10:30] = 1  # median slice 4
    write_volume(delineation_path(folder, case), lesion)
    write_volume(folder / picai.GLANDS / f"{case}.nii.gz", gland)


@pytest.fixture(scope="module")
def study_files(tmp_path_factory):
    """14 patients, those with odd numbers positive; patients 3 and 4 came twice."""
    folder = tmp_path_factory.mktemp("picai")
    for patient, study in [(10000 + i, 1000000 + i) for i in range(14)] + [(10003, 1000103), (10004, 1000104)]:
        write_case(folder, f"{patient}_{study}", [(5, 8, 2), (2, 7, 5)] if patient % 2 else [])
    return folder


@pytest.fixture(scope="module")
def splits(study_files):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picai, "PER_CLASS", 2)
        return datasets.load(f"picai:{study_files}", image_size=300)


@pytest.fixture
def study(study_files, tmp_path):
    """A copy of the study, to be spoilt at will."""
    return shutil.copytree(study_files, tmp_path / "picai")


def load(study):
    return datasets.load(f"picai:{study}", image_size=16)


def slice_of(folder, case):
    return picai.case_slice(folder, case, delineation_path(folder, case))


def test_as_many_of_each_class_in_each_split_and_one_case_per_patient(splits):
    assert splits.train.class_names == ("negative", "positive")
    for images in splits.splits().values():
        assert images.class_counts().tolist() == [2, 2]
        assert [int(group) % 2 for group in images.groups] == images.labels.tolist()
    patients = np.concatenate([images.groups for images in splits.splits().values()])
    assert len(set(patients)) == 12
    assert "delineations: human_expert/resampled 16" in splits.notes


def test_slice_and_modalities_of_each_class(splits):
    """Negative: the median of the gland, 4; positive: most tumour pixels, 5, though the grades' sum is larger in 2."""
    for images in splits.splits().values():
        inside = images.images[:, :, 140:160, 140:160].mean(axis=(2, 3))  # (N, 3)
        level = np.where(images.labels == 0, 4, 5)
        assert np.abs(inside[:, 0] - 255 * level / 7).max() < 6
        assert np.abs(inside[:, 1] - 255 * (7 - level) / 7).max() < 6
        assert np.abs(inside[:, 2] - 255 * level / 7).max() < 8


def test_the_volume_lies_in_the_centre_on_black(splits):
    around = splits.train.images.copy()
    around[:, :, 130:170, 130:170] = 0
    assert around.max() == 0
    assert splits.train.images[:, :, 130:170, 130:170].min() > 0


def test_crop_is_central_and_at_whole_voxels():
    image = sitk.Image((640, 640, 21), sitk.sitkUInt8)
    image.SetSpacing((0.3, 0.3, 3.6))
    grid = picai.crop_grid(image)
    assert grid.GetSize() == (300, 300, 30)
    assert grid.GetSpacing() == (0.5, 0.5, 3.0)
    # 384 x 384 x 25 voxels of the new size: 42 are cut before, 2 are added
    assert np.allclose(grid.GetOrigin(), (21, 21, -6))


def test_modalities_are_laid_on_each_other_in_the_scanner(tmp_path):
    """A square at the same place in millimetres, in volumes of different spacing and extent."""
    write_case(tmp_path, "1_1000001", [(4, 8, 2)])
    origin = {"t2w": (0.0, 0.0, 0.0), "adc": (-10.0, 4.0, 0.0), "hbv": (0.0, -6.0, 3.0)}
    spacing = {"t2w": (0.5, 0.5, 3.0), "adc": (1.0, 1.0, 3.0), "hbv": (0.5, 0.5, 3.0)}
    for modality, first in origin.items():
        step = spacing[modality]
        z, y, x = np.meshgrid(
            *(first[i] + step[i] * np.arange(n) for i, n in ((2, 8), (1, 40), (0, 40))), indexing="ij"
        )
        square = (np.abs(x - 10) < 4) & (np.abs(y - 10) < 4) & (np.abs(z - 12) < 4)
        write_volume(picai._image_path(tmp_path, "1_1000001", modality), square.astype(np.float32), step, first)
    t2w, adc, hbv = slice_of(tmp_path, "1_1000001") > 127
    assert 200 < t2w.sum() < 260
    assert (t2w != hbv).sum() == 0
    assert (t2w != adc).sum() < 70  # half a voxel of 1 mm around


def test_resampling_keeps_millimetres(tmp_path):
    """A ramp along x of 1 a millimetre has a step of half as much in a pixel, whatever the spacing of the file."""
    write_case(tmp_path, "1_1000001", [(4, 8, 2)])
    ramp = np.broadcast_to(np.arange(50, dtype=np.float32) * 0.4, (8, 50, 50)).copy()  # 0 to 19.6 mm
    write_volume(picai._image_path(tmp_path, "1_1000001", "t2w"), ramp, (0.4, 0.4, 3.0))
    row = slice_of(tmp_path, "1_1000001")[0, 150].astype(float)
    middle = row[row > 0][10:30]
    assert np.abs(np.diff(middle) - 255 * 0.5 / 19.6).max() <= 1
    assert np.diff(middle).mean() == pytest.approx(255 * 0.5 / 19.6, abs=0.1)


def test_experts_come_before_the_ai(study_files, tmp_path):
    for source in ("AI/Bosma22a", "human_expert/Pooch25", RESAMPLED, "combined"):
        path = delineation_path(tmp_path, "1_1", source)
        path.parent.mkdir(parents=True)
        path.touch()
        assert picai._delineation(tmp_path, "1_1") == path  # better than those before


# bad input


def test_no_folder_and_no_images(tmp_path):
    with pytest.raises(
        ValueError, match=r"No folder at '.*nowhere'; picai:PATH takes a folder of images and picai_labels"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"holds no images/PATIENT/PATIENT_STUDY_\{t2w,adc,hbv\}\.mha; picai:PATH takes"
    ):
        load(tmp_path)


def test_missing_modality(study):
    picai._image_path(study, "10005_1000005", "adc").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 48 files are missing, first images/10005/10005_1000005_adc\.mha\. Every"
    ):
        load(study)


def test_missing_delineation(study):
    delineation_path(study, "10005_1000005").unlink()
    with pytest.raises(ValueError, match=r"No lesion delineation of case 10005_1000005 in .*combined, .*AI/Bosma22a"):
        load(study)


def test_missing_gland(study, monkeypatch):
    monkeypatch.setattr(picai, "PER_CLASS", 2)
    shutil.rmtree(study / picai.GLANDS)
    with pytest.raises(ValueError, match=r"Bosma22b: 6 of 6 files are missing, first 10\d{3}_\d+\.nii\.gz"):
        load(study)


def test_too_few_positive_cases(study):
    for patient in (10003, 10005, 10007):
        shutil.rmtree(study / "images" / str(patient))
    with pytest.raises(
        ValueError, match="Too few images of class 'positive' for train, val, test: found 4, needed are at"
    ):
        load(study)


def test_lesion_out_of_the_crop(tmp_path):
    write_case(tmp_path, "1_1000001")
    far = np.ones((2, 4, 4), np.uint8)
    write_volume(delineation_path(tmp_path, "1_1000001"), far, origin=(500.0, 0.0, 0.0))
    with pytest.raises(
        ValueError, match=r"The lesion of case 1_1000001 in .* has no voxel in the central 150 x 150 x 90"
    ):
        slice_of(tmp_path, "1_1000001")


def test_empty_gland_and_flat_modality(tmp_path):
    write_case(tmp_path, "1_1000001")
    write_volume(picai._image_path(tmp_path, "1_1000001", "hbv"), np.full(SHAPE, 7, np.float32))
    with pytest.raises(ValueError, match=r"1_1000001_hbv\.mha holds one value only \(7\)"):
        slice_of(tmp_path, "1_1000001")
    write_volume(tmp_path / picai.GLANDS / "1_1000001.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"The prostate of case 1_1000001 in .* has no voxel"):
        slice_of(tmp_path, "1_1000001")


@pytest.mark.parametrize("kind", ["image", "delineation"])
def test_file_cut_off(tmp_path, kind):
    """Of a .gz file whose header is whole, SimpleITK alone would return zeros for what is cut off."""
    write_case(tmp_path, "1_1000001")
    noise = np.random.default_rng(0).integers(0, 6, SHAPE, dtype=np.uint8)
    write_volume(delineation_path(tmp_path, "1_1000001"), noise)
    image, label = picai._image_path(tmp_path, "1_1000001", "t2w"), delineation_path(tmp_path, "1_1000001")
    path = image if kind == "image" else label
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"Cannot read the volume .*{path.name}: it is cut off, damaged or no volume"):
        slice_of(tmp_path, "1_1000001")
