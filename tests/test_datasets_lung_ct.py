"""CT volumes: montages from top to bottom, twenty of each volume, volumes and patients whole."""

import numpy as np
import pandas as pd
import pytest

from nbutils import datasets
from nbutils.datasets.lung_ct import montages
from nbutils.phantoms.lung_ct import WINDOW_HU

sitk = pytest.importorskip("SimpleITK", reason="CT volumes need the extra 'datasets'")
LUNG = range(3, 15)  # slices with lung, counted from the feet


def scan(seed: int, slices: int = 18, side: int = 16) -> np.ndarray:
    """Return HU (Z, Y, X) from the feet up: a body of 40 HU in air, with lungs that grow denser slice by slice."""
    hu = np.full((slices, side, side), -1000, np.int16)
    hu[:, 2:-2, 2:-2] = 40
    for z in LUNG:
        hu[z, 5:11, 4:12] = -900 + 20 * z
    return hu + np.random.default_rng(seed).integers(-3, 3, hu.shape, dtype=np.int16)


def write(path, hu):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(hu), str(path))


@pytest.fixture
def study(tmp_path):
    """8 volumes of each of two classes."""
    for i in range(8):
        write(tmp_path / f"healthy/{i}.nii.gz", scan(i))
        write(tmp_path / f"fibrosis/{i}.mha", scan(100 + i))
    return tmp_path


def load(study, **options):
    return datasets.load(f"lung_ct:{study}", **{"image_size": 32, **options})


def test_half_of_the_volumes_are_test_and_each_gives_twenty_montages(study):
    splits = load(study)
    assert splits.train.class_names == ("fibrosis", "healthy")
    assert splits.test.class_counts().tolist() == [80, 80]
    for images in splits.splits().values():
        assert images.images.shape[1:] == (1, 32, 32)
        assert set(np.unique(images.groups, return_counts=True)[1]) == {20}
    assert "20 montages per volume, window -1350 to 150 HU" in splits.notes
    assert any("patients are unknown" in note for note in splits.notes)


def test_montages_show_one_slice_of_each_quarter_from_the_top(study):
    low, high = WINDOW_HU
    shown = montages(study / "healthy/0.nii.gz", seed=0)
    assert shown.shape == (20, 1, 32, 32)
    hu = shown.reshape(20, 2, 16, 2, 16)[:, :, 8, :, 8] / 255 * (high - low) + low  # in the middle of each tile
    index = np.round((hu.reshape(20, 4) + 900) / 20).astype(int)
    assert [sorted(set(column)) for column in index.T] == [[12, 13, 14], [9, 10, 11], [6, 7, 8], [3, 4, 5]]


def test_the_seed_chooses_slices(study):
    first, again, other = (montages(study / "healthy/0.nii.gz", seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scans_of_a_patient_stay_together(study):
    files = [f"{name}/{i}.{end}" for name, end in (("healthy", "nii.gz"), ("fibrosis", "mha")) for i in range(8)]
    patients = ["p0", "p0", *files[2:]]
    pd.DataFrame({"file": files, "group": patients}).to_csv(study / "groups.csv", index=False)
    splits = load(study)
    sizes = [np.unique(images.groups, return_counts=True)[1] for images in splits.splits().values()]
    assert sorted(np.concatenate(sizes)) == [20] * 14 + [40]
    assert not any("unknown" in note for note in splits.notes)


def test_bad_volumes(study):
    write(study / "healthy/0.nii.gz", scan(0)[:6])
    with pytest.raises(ValueError, match=r"healthy/0\.nii\.gz: A montage needs 4 slices .* found 3 of 6"):
        load(study)
    write(study / "healthy/0.nii.gz", scan(0)[:, :, :12])
    with pytest.raises(ValueError, match=r"0\.nii\.gz must have square axial slices, found 16 x 12 pixels"):
        load(study)


def test_bad_folders(study):
    (study / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"2 or more class folders of volumes .* found empty with 0 volumes, fibrosis w"
    ):
        load(study)
    with pytest.raises(ValueError, match=r"No folder at .*; lung_ct:PATH takes a folder of class folders of volumes"):
        load(study / "nowhere")
