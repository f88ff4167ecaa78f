"""The phantoms: reproducible, no patient in two splits, and showing the class they are asked for."""

from functools import cache

import numpy as np
import pytest

from nbutils import phantoms
from nbutils.phantoms.liver import WINDOW_HU

NAMES = phantoms.names()
SIZE = 32


@cache
def few(name: str, split: str = "train", each: int = 3, classes: int | None = None, **settings):
    """Render a few images of the first classes, once for all tests."""
    shown = phantoms.modality(name).num_classes
    counts = [each if classes is None or label < classes else 0 for label in range(shown)]
    return phantoms.render(name, split, counts=counts, **settings)


@pytest.fixture(scope="module")
def liver():
    """48 liver patches of each class, rendered once."""
    return few("liver", "test", each=48, image_size=64)


@pytest.fixture(scope="module")
def dermoscopy():
    """16 photographs of each kind of skin lesion, rendered once."""
    return few("dermoscopy", "test", each=16, image_size=64)


@pytest.fixture(scope="module")
def prostate():
    """48 slices of the prostate of each class, rendered once."""
    return few("prostate", "test", each=48, image_size=64)


def chest():
    """24 radiographs of each class, rendered once."""
    return few("chest", "test", each=24, image_size=64)


def histology():
    """32 patches of normal and 32 of metastatic lymph node, rendered once."""
    return few("histology", "test", each=32, image_size=64)


def middle(images: np.ndarray) -> np.ndarray:
    """Return the mean of the middle ninth of each image, (N, C), where lesions lie."""
    third = images.shape[-1] // 3
    return images[:, :, third:-third, third:-third].mean((2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_phantom_is_an_image_set_of_its_modality(name):
    shown, images = phantoms.modality(name), few(name)
    assert images.images.shape == (3 * shown.num_classes, shown.channels, SIZE, SIZE)
    assert images.images.dtype == np.uint8
    assert images.class_names == shown.class_names
    assert np.ptp(images.images, axis=(1, 2, 3)).min() > 20, "no image is flat"
    assert len(np.unique(images.hashes())) == len(images)
    assert sum(shown.images_per_patient) == pytest.approx(1)


def test_liver_has_the_counts_of_the_paper_and_their_label_shift():
    counts = phantoms.modality("liver").counts
    assert counts == {"train": (433, 70, 178), "val": (115, 30, 157), "test": (128, 30, 149)}


def test_dermoscopy_has_the_frequencies_of_ham10000():
    ham = np.array([327, 514, 1099, 115, 1113, 6705, 142])
    for split, total in {"train": 1400, "val": 300, "test": 500}.items():
        counts = np.array(phantoms.modality("dermoscopy").counts[split])
        assert counts.sum() == total
        assert counts.min() >= 10
        common = ham / ham.sum() * total > 10
        np.testing.assert_allclose(counts[common], (ham / ham.sum() * total)[common], rtol=0.07)


def test_prostate_has_the_counts_of_the_paper():
    counts = phantoms.modality("prostate").counts
    assert counts == {"train": (100, 100), "val": (100, 100), "test": (100, 100)}


def test_without_counts_a_split_has_its_own_size(monkeypatch):
    shown = phantoms.modality("liver")
    monkeypatch.setitem(shown.counts, "val", (5, 2, 3))
    images = phantoms.render("liver", "val", seed=4, image_size=16)
    assert images.class_counts().tolist() == [5, 2, 3]
    assert images.origin == f"phantom:liver v{shown.version} val size=16 seed=4"


@pytest.mark.parametrize("name", NAMES)
def test_more_images_do_not_change_the_first(name):
    few_images, more = few(name), few(name, each=18, classes=2)
    for label in range(2):
        first, longer = few_images.of_class(label), more.of_class(label)
        np.testing.assert_array_equal(first.images, longer.images[:3])
        assert first.groups.tolist() == longer.groups[:3].tolist()
    assert few_images.origin != more.origin


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_splits_give_other_images(name):
    pair = {"each": 16, "classes": 2}
    sets = [few(name, seed=1, **pair), *(few(name, split, **pair) for split in phantoms.SPLITS)]
    hashes = np.concatenate([images.hashes() for images in sets])
    assert len(np.unique(hashes)) == len(hashes)
    assert len({images.origin for images in sets}) == len(sets)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_show_the_same_picture(name):
    small, large = few(name, classes=1), few(name, classes=1, image_size=128)
    blocks = large.images.astype(float).reshape(*large.images.shape[:2], 32, 4, 32, 4).mean((3, 5))
    for a, b in zip(small.images, blocks, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_patients_have_several_images_and_stay_in_one_split(name):
    groups = {split: few(name, split, each=16, classes=2).groups for split in phantoms.SPLITS}
    for one in groups:
        sizes = np.unique(groups[one], return_counts=True)[1]
        assert sizes.max() > 1
        assert len(sizes) > 8
        for other in groups:
            assert one == other or not set(groups[one]) & set(groups[other])


def test_patients_of_the_liver_may_have_lesions_of_two_classes():
    images = few("liver", each=32)
    cyst, metastasis = (set(images.of_class(label).groups) for label in (0, 2))
    assert cyst & metastasis
    assert metastasis - cyst


def test_images_of_a_patient_share_the_scanner(liver):
    """The grain of the noise differs more between patients than within: seen in the border, away from the lesion."""
    grain = np.abs(np.diff(liver.images[:, 0, :6].astype(float), axis=-1)).mean((1, 2))
    between = grain.var()
    repeated = [group for group in np.unique(liver.groups) if (liver.groups == group).sum() > 1]
    within = np.mean([grain[liver.groups == group].var(ddof=1) for group in repeated])
    assert within < between


def test_lesions_of_the_liver_differ_as_a_radiologist_says(liver):
    low, high = WINDOW_HU
    inside = middle(liver.images)[:, 0] / 255 * (high - low) + low
    cyst, hemangioma, metastasis = (inside[liver.labels == label].mean() for label in range(3))
    assert cyst < metastasis - 15
    assert cyst < hemangioma - 15
    corners = liver.images[:, :, :6, :6].mean() / 255 * (high - low) + low
    assert metastasis < corners, "metastases are darker than the liver"


def test_skin_lesions_differ_as_a_dermatologist_says(dermoscopy):
    red, green, _ = np.moveaxis(middle(dermoscopy.images), 1, 0)
    brightness = middle(dermoscopy.images).mean(1)

    def of(name, values):
        return np.median(values[dermoscopy.labels == dermoscopy.class_names.index(name)])

    assert max(of(name, green / red) for name in ("akiec", "vasc")) < min(
        of(name, green / red) for name in ("bkl", "nv")
    )
    assert of("mel", brightness) < of("df", brightness)
    assert of("mel", brightness) < of("bcc", brightness)


def test_photographs_of_one_lesion_resemble_each_other(dermoscopy):
    colour = middle(dermoscopy.images)
    between = colour.var(0).sum()
    repeated = [group for group in np.unique(dermoscopy.groups) if (dermoscopy.groups == group).sum() > 1]
    within = np.mean([colour[dermoscopy.groups == group].var(0, ddof=1).sum() for group in repeated])
    assert within < between / 4


def test_the_pelvis_looks_as_its_sequences_show_it(prostate):
    """Fat is bright on T2W and suppressed in the echo-planar images; the gland lights up on these."""
    t2w, adc, dwi = np.moveaxis(prostate.images.astype(float), 1, 0)
    fat = (t2w > np.quantile(t2w, 0.7, axis=(1, 2), keepdims=True)) & (adc < 10)
    assert fat.mean() > 0.1, "bright on T2W, and nothing to measure diffusion on"
    assert np.median(dwi[fat]) < np.median(dwi[~fat])
    gland = middle(prostate.images)
    assert (gland[:, 2] > dwi.mean((1, 2))).mean() > 0.95
    assert (gland[:, 1] > adc.mean((1, 2))).mean() > 0.95


def test_a_tumour_of_the_prostate_lights_up_on_dwi(prostate):
    dwi = prostate.images[:, 2, 20:44, 20:44].astype(float).reshape(len(prostate), -1)
    contrast = (dwi.max(1) - dwi.mean(1)) / dwi.std(1)
    positive = prostate.labels == prostate.class_names.index("positive")
    assert contrast[positive].mean() > contrast[~positive].mean() + 0.5


def test_studies_of_one_patient_show_the_same_pelvis(prostate):
    t2w = prostate.images[:, 0].astype(float).reshape(len(prostate), -1)
    alike = np.corrcoef(t2w)
    same = prostate.groups[:, None] == prostate.groups[None]
    apart = ~np.eye(len(prostate), dtype=bool)
    assert (same & apart).any()
    assert alike[same & apart].mean() > alike[~same].mean() + 0.1


def region(radiographs, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    """Return the mean grey of a region of each radiograph, (N,); rows and columns as parts of the picture."""
    top, bottom, left, right = (round(part * radiographs.image_size) for part in (*rows, *columns))
    return radiographs.images[:, 0, top:bottom, left:right].mean((1, 2))


def test_chest_has_the_counts_of_the_paper():
    assert set(phantoms.modality("chest").counts.values()) == {(100, 100, 100, 100)}


def test_radiographs_show_lungs_between_brighter_mediastinum_and_belly(chest):
    lungs = (region(chest, (0.3, 0.55), (0.2, 0.35)) + region(chest, (0.3, 0.55), (0.65, 0.8))) / 2
    assert np.mean(region(chest, (0.3, 0.55), (0.46, 0.54)) > lungs + 15) > 0.95
    assert np.mean(region(chest, (0.85, 0.92), (0.3, 0.7)) > lungs + 15) > 0.95
    assert np.mean(region(chest, (0.04, 0.1), (0.04, 0.14)) < lungs) > 0.8, "there is air above the shoulders"


def test_findings_of_the_chest_lie_where_a_radiologist_looks(chest):
    """Hearts to both sides of the spine, fluid at the base, pneumonia in the fields of the lungs."""
    upper = (region(chest, (0.25, 0.35), (0.2, 0.35)) + region(chest, (0.25, 0.35), (0.65, 0.8))) / 2
    heart = region(chest, (0.5, 0.62), (0.62, 0.75)) - upper
    base = (region(chest, (0.62, 0.74), (0.12, 0.24)) + region(chest, (0.62, 0.74), (0.76, 0.88))) / 2 - upper
    field = (region(chest, (0.35, 0.6), (0.2, 0.36)) + region(chest, (0.35, 0.6), (0.64, 0.8))) / 2 - upper

    def of(name, values):
        return values[chest.labels == chest.class_names.index(name)].mean()

    assert of("cardiomegaly", heart) > of("no finding", heart) + 40
    assert of("effusion", base) > of("no finding", base) + 10
    assert of("pneumonia", field) > of("no finding", field) + 8


def test_radiographs_of_a_patient_resemble_each_other(chest):
    flat = chest.images.reshape(len(chest), -1)
    alike = np.corrcoef(flat)
    same_class = chest.labels[:, None] == chest.labels
    same_patient = chest.groups[:, None] == chest.groups
    np.fill_diagonal(same_patient, False)
    assert alike[same_class & same_patient].mean() > alike[same_class & ~same_patient].mean() + 0.005


def nuclear_colour(images: np.ndarray) -> np.ndarray:
    """Return the mean colour of the darkest tenth of each image's pixels, (N, 3): the nuclei."""
    flat = images.reshape(*images.shape[:2], -1).astype(float)
    darkest = flat[:, 1].argsort(axis=1)[:, None, : flat.shape[-1] // 10]
    return np.take_along_axis(flat, darkest, axis=2).mean(2)


def test_lymph_nodes_are_stained_with_haematoxylin_and_eosin(histology):
    """Blue nuclei on pink: both stains absorb green most, haematoxylin absorbs more red than eosin."""
    red, green, blue = histology.images.mean((2, 3)).T
    assert (green < np.minimum(red, blue)).mean() > 0.9
    nuclei = nuclear_colour(histology.images)
    assert (nuclei[:, 0] / nuclei[:, 2] < red / blue).mean() > 0.95


def test_lymph_nodes_differ_as_a_pathologist_says(histology):
    """A metastasis has larger nuclei, so that pixels 4 um apart are alike, and pinker cytoplasm."""
    inside = histology.images[:, :, 21:-21, 21:-21].astype(float)
    green = inside[:, 1] - inside[:, 1].mean((1, 2), keepdims=True)
    alike = (green[:, :, 3:] * green[:, :, :-3]).mean((1, 2)) / green.var((1, 2))
    pink = middle(histology.images)[:, 0] / middle(histology.images)[:, 2]
    normal, metastasis = (histology.labels == label for label in range(2))
    assert np.median(alike[metastasis]) > np.median(alike[normal]) + 0.1
    assert np.median(pink[metastasis]) > np.median(pink[normal]) + 0.03


def test_a_patient_is_stained_in_one_laboratory(histology):
    colour = nuclear_colour(histology.images)
    repeated = [group for group in np.unique(histology.groups) if (histology.groups == group).sum() > 1]
    within = np.mean([colour[histology.groups == group].var(0, ddof=1).sum() for group in repeated])
    assert within < colour.var(0).sum() / 2


def test_unknown_names_say_what_is_allowed():
    with pytest.raises(ValueError, match=r"Unknown phantom 'livr'; allowed: .*'liver'.* Did you mean 'liver'\?"):
        phantoms.modality("livr")
    with pytest.raises(ValueError, match="Unknown split 'dev'; allowed: 'train', 'val', 'test', 'oracle'"):
        phantoms.render("liver", "dev")


@pytest.mark.parametrize("counts", [(3, 3), (3, 3, -1), (3, 3, 3, 3)])
def test_counts_must_fit_the_classes(counts):
    with pytest.raises(ValueError, match=r"counts must be 3 numbers >= 0.*cyst, hemangioma, metastasis"):
        phantoms.render("liver", "train", counts=counts)


def test_the_oracle_split_needs_counts():
    with pytest.raises(ValueError, match="'oracle' of phantom 'liver' has no size of its own: give counts"):
        phantoms.render("liver", "oracle")


def test_a_bad_size_is_refused():
    with pytest.raises(ValueError, match="image_size"):
        few("liver", image_size=7)
