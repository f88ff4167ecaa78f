"""BCSS and Lizard: patches of one physical size, classes by the majority, patients whole."""

import shutil

import numpy as np
import pytest
from conftest import write_noise
from PIL import Image
from scipy.io import savemat

from nbutils import datasets
from nbutils.datasets import bcss
from nbutils.datasets.bcss import Region, patches_of

CODE = {"tumor": 1, "stroma": 2, "inflammatory": 3, "necrosis": 4, "fat": 9}
SIDE = 64  # of a patch of BCSS at 2 um


def write_region(folder, patient: str, codes, mpp: str = "2.0000"):
    """Write an image of noise and a mask of one row of patches, each of one code."""
    name = f"TCGA-A1-{patient}-DX1_xmin10_ymin20_MPP-{mpp}.png"
    mask = np.repeat(np.repeat(np.array([codes], np.uint8), SIDE, 0), SIDE, 1)
    write_noise(folder / "bcss/images" / name, (*mask.shape, 3))
    path = folder / "bcss/masks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def write_lizard(folder, name: str, kinds):
    """Write an image of one patch and its nuclei, one of each kind in `kinds`."""
    instances = np.zeros((256, 256), np.int32)
    for number, _ in enumerate(kinds):
        instances[8 * (number // 16) : 8 * (number // 16) + 4, 8 * (number % 16) : 8 * (number % 16) + 4] = number + 1
    write_noise(folder / f"lizard/Lizard_Images1/Lizard_Images1/{name}.png", (256, 256, 3))
    path = folder / f"lizard/Lizard_Labels/Labels/{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(1, len(kinds) + 1)[:, None]
    savemat(path, {"inst_map": instances, "id": numbers, "class": np.array(kinds)[:, None]})
    return path


@pytest.fixture(scope="module")
def study_files(tmp_path_factory):
    """10 patients with all tissues of BCSS, and 10 images of glands."""
    folder = tmp_path_factory.mktemp("study")
    for i in range(10):
        write_region(folder, f"A{i:03d}", [*CODE.values(), 0, 7])
        write_lizard(folder, f"glas_{i}", [2] * 20 + [6] * 5)
    return folder


@pytest.fixture
def study(study_files, tmp_path):
    return shutil.copytree(study_files, tmp_path / "study")


def load(study, **options):
    return datasets.load(f"bcss:{study}", **{"image_size": 16, **options})


def test_classes_splits_and_groups(study):
    splits = load(study)
    assert splits.train.class_names == ("inflammatory", "necrosis", "stroma", "tumor", "fat", "gland")
    counts = [images.class_counts().tolist() for images in splits.splits().values()]
    assert np.sum(counts, axis=0).tolist() == [10] * 6
    assert [len(images) for images in splits.splits().values()] == [24, 12, 24]  # 40/20/40
    assert splits.train.images.shape[1:] == (3, 16, 16)
    groups = np.concatenate([np.unique(images.groups) for images in splits.splits().values()])
    assert len(groups) == len(set(groups)) == 20
    assert "patches of 128 um; 20 of 80 left out: no class in more than half" in splits.notes


def test_a_patch_has_the_class_of_more_than_half_of_its_area(tmp_path):
    path = write_region(tmp_path, "A000", [1, 2, 3, 10])
    mask = np.array(Image.open(path))
    mask[: SIDE // 2, :SIDE] = 2  # exactly half
    mask[:20, SIDE : 2 * SIDE] = 1
    mask[:32, 2 * SIDE : 3 * SIDE] = 11  # other inflammatory cells
    mask[:33, 3 * SIDE :] = 15  # undetermined
    Image.fromarray(mask).save(path)
    region = Region(tmp_path / "bcss/images" / path.name, path, "p", SIDE)
    patches, classes = patches_of(region)
    assert classes.tolist() == [bcss.NONE, 2, 0, bcss.NONE]
    picture = np.array(Image.open(region.image))
    assert np.array_equal(patches[1], picture[:, SIDE : 2 * SIDE].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("kinds", "class_name"),
    [
        ([2] * 6 + [3] * 5, "gland"),
        ([1, 3, 4, 5] * 4, "inflammatory"),
        ([6] * 11 + [2] * 10, "stroma"),
        ([2] * 5 + [3] * 5, None),  # no majority
        ([2] * 9, None),  # too few
    ],
)
def test_nuclei_make_a_tissue(tmp_path, kinds, class_name):
    labels = write_lizard(tmp_path, "a", kinds)
    image = next(tmp_path.rglob("*.png"))
    expected = bcss.NONE if class_name is None else bcss.CLASS_NAMES.index(class_name)
    assert patches_of(Region(image, labels, "g", 256))[1].tolist() == [expected]


def test_patches_are_of_one_size_in_micrometres(tmp_path):
    for mpp in ("0.2500", "0.5000", "2.0000"):
        write_region(tmp_path, "A000", [1], mpp)
    assert [region.side for region in bcss._bcss_regions(tmp_path)] == [512, 256, 64]


# bad input


def test_missing_files(study):
    next((study / "bcss/images").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"bcss/masks/TCGA.* has no image of its name\. Fetch BCSS again"):
        load(study)
    shutil.rmtree(study / "bcss/masks")
    with pytest.raises(ValueError, match=r"holds no bcss/masks/\*\.png with bcss/images beside it"):
        load(study)


def test_lizard_without_labels(study):
    next(study.rglob("*.mat")).unlink()
    with pytest.raises(ValueError, match=r"found 10 images and 9 \.mat files, 9 with the same names"):
        load(study)


def test_a_mask_without_its_resolution(study):
    path = next((study / "bcss/masks").iterdir())
    path.rename(path.with_name("TCGA-A1-A000.png"))
    with pytest.raises(ValueError, match=r"is not named TCGA-XX-XXXX-\.\.\._MPP-0\.2500\.png"):
        load(study)


def test_masks_and_labels_that_do_not_fit(study):
    mask = next((study / "bcss/masks").iterdir())
    Image.fromarray(np.full((SIDE, 7 * SIDE), 255, np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"must be a grey mask \(64, 448\) like its image, with codes 0 to 21, .* 255"):
        load(study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "Cannot read inst_map, id and class in .*glas_3"),
        (lambda path: savemat(path, {"inst_map": np.zeros((256, 256))}), "Cannot read inst_map, id and class in"),
        (
            lambda path: savemat(path, {"inst_map": np.zeros((9, 9)), "id": [[1]], "class": [[7]]}),
            r"must hold inst_map \(256, 256\) .* found \(9, 9\), 1 ids and 1 classes up to 7",
        ),
    ],
)
def test_damaged_labels(study, change, message):
    change(next(study.rglob("glas_3.mat")))
    with pytest.raises(ValueError, match=message):
        load(study)
