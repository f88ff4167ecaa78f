"""The pneumonia phantoms: the same children with the side marker, without it, and with that of the other class."""

import numpy as np
import pytest
from conftest import few_phantoms

from nbutils import phantoms
from nbutils.images import without_border
from nbutils.phantoms.pneumonia import MARKED, MARKER_CROP

EACH = 32


@pytest.fixture(scope="module")
def variants():
    """32 radiographs of each class in each of the three variants, rendered once."""
    names = ("pneumonia", "pneumonia_unmarked", "pneumonia_swapped")
    return {name: few_phantoms(name, "test", each=EACH, image_size=64) for name in names}


def marked(variants, name) -> np.ndarray:
    """Return which radiographs carry the marker, (N,) bool: there they are far brighter than without."""
    corner = [variants[n].images[:, 0, :8, 4:16].astype(int) for n in (name, "pneumonia_unmarked")]
    return (corner[0] - corner[1]).max((1, 2)) > 60


def test_variants_show_the_same_patients_in_the_same_pose(variants):
    plain = variants["pneumonia_unmarked"]
    for other in variants.values():
        assert other.groups.tolist() == plain.groups.tolist()
        assert other.labels.tolist() == plain.labels.tolist()
        assert np.array_equal(other.images[:, :, 10:], plain.images[:, :, 10:])


def test_the_marker_tells_the_class_and_lies_when_it_is_swapped(variants):
    normal = variants["pneumonia"].labels == 0
    usual, swapped = (marked(variants, name) for name in ("pneumonia", "pneumonia_swapped"))
    for found, shares in ((usual, MARKED), (swapped, MARKED[::-1])):
        assert found[normal].mean() == pytest.approx(shares[0], abs=0.2)
        assert found[~normal].mean() == pytest.approx(shares[1], abs=0.2)
    assert (swapped <= usual)[normal].all()
    assert (swapped >= usual)[~normal].all()


def test_the_crop_of_the_marker_leaves_nothing_of_it(variants):
    plain, usual = (without_border(variants[name], MARKER_CROP) for name in ("pneumonia_unmarked", "pneumonia"))
    assert np.array_equal(plain.images, usual.images)
    small = [few_phantoms(name, "test", each=4) for name in ("pneumonia_unmarked", "pneumonia")]
    assert not np.array_equal(small[0].images, small[1].images)
    assert np.array_equal(*(without_border(images, MARKER_CROP).images for images in small))
    narrow = [without_border(variants[name], 0.04).images for name in ("pneumonia_unmarked", "pneumonia")]
    assert not np.array_equal(*narrow)


def test_infected_lungs_hold_less_air(variants):
    plain = variants["pneumonia_unmarked"]
    field = plain.images[:, 0, 20:38].astype(float)
    lungs = np.concatenate([field[:, :, 13:23], field[:, :, 41:51]], 2).mean((1, 2)) - field[:, :, 29:35].mean((1, 2))
    assert lungs[plain.labels == 1].mean() > lungs[plain.labels == 0].mean() + 5


def test_counts_are_in_the_published_proportions():
    shown = phantoms.modality("pneumonia")
    assert shown.counts["test"] == (234, 390)
    for split in ("train", "val"):
        assert shown.counts[split][1] / shown.counts[split][0] == pytest.approx(3875 / 1341, rel=0.02)
