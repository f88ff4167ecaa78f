"""What holds for all phantoms: reproducible, no patient in two splits, and of the size and classes asked for."""

import numpy as np
import pytest
from conftest import few_phantoms

from nbutils import phantoms

NAMES = phantoms.names()
SIZE = 32


@pytest.mark.parametrize("name", NAMES)
def test_a_phantom_is_an_image_set_of_its_modality(name):
    shown, images = phantoms.modality(name), few_phantoms(name)
    assert images.images.shape == (3 * shown.num_classes, shown.channels, SIZE, SIZE)
    assert images.images.dtype == np.uint8
    assert images.class_names == shown.class_names
    assert np.ptp(images.images, axis=(1, 2, 3)).min() > 20, "no image is flat"
    assert len(np.unique(images.hashes())) == len(images)
    assert sum(shown.images_per_patient) == pytest.approx(1)


def test_without_counts_a_split_has_its_own_size(monkeypatch):
    shown = phantoms.modality("liver")
    monkeypatch.setitem(shown.counts, "val", (5, 2, 3))
    images = phantoms.render("liver", "val", seed=4, image_size=16)
    assert images.class_counts().tolist() == [5, 2, 3]
    assert images.origin == f"phantom:liver v{shown.version} val size=16 seed=4"


@pytest.mark.parametrize("name", NAMES)
def test_more_images_do_not_change_the_first(name):
    few_images, more = few_phantoms(name), few_phantoms(name, each=18, classes=2)
    for label in range(2):
        first, longer = few_images.of_class(label), more.of_class(label)
        np.testing.assert_array_equal(first.images, longer.images[:3])
        assert first.groups.tolist() == longer.groups[:3].tolist()
    assert few_images.origin != more.origin


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_splits_give_other_images(name):
    pair = {"each": 16, "classes": 2}
    sets = [few_phantoms(name, seed=1, **pair), *(few_phantoms(name, split, **pair) for split in phantoms.SPLITS)]
    hashes = np.concatenate([images.hashes() for images in sets])
    assert len(np.unique(hashes)) == len(hashes)
    assert len({images.origin for images in sets}) == len(sets)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_show_the_same_picture(name):
    small, large = few_phantoms(name, classes=1), few_phantoms(name, classes=1, image_size=128)
    blocks = large.images.astype(float).reshape(*large.images.shape[:2], 32, 4, 32, 4).mean((3, 5))
    for a, b in zip(small.images, blocks, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_patients_have_several_images_and_stay_in_one_split(name):
    groups = {split: few_phantoms(name, split, each=16, classes=2).groups for split in phantoms.SPLITS}
    each = np.dot(
        phantoms.modality(name).images_per_patient, 1 + np.arange(len(phantoms.modality(name).images_per_patient))
    )
    for one in groups:
        sizes = np.unique(groups[one], return_counts=True)[1]
        assert sizes.max() > 1
        assert len(sizes) > 16 / each
        for other in groups:
            assert one == other or not set(groups[one]) & set(groups[other])


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
        few_phantoms("liver", image_size=7)
