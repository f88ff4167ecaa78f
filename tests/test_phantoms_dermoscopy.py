"""The dermoscopy phantoms: lesions as a dermatologist sees them, several photographs of one."""

import numpy as np
import pytest
from conftest import few_phantoms, middle

from nbutils import phantoms


@pytest.fixture(scope="module")
def dermoscopy():
    """16 photographs of each kind of skin lesion, rendered once."""
    return few_phantoms("dermoscopy", "test", each=16, image_size=64)


def test_dermoscopy_has_the_frequencies_of_ham10000():
    ham = np.array([327, 514, 1099, 115, 1113, 6705, 142])
    for split, total in {"train": 1400, "val": 300, "test": 500}.items():
        counts = np.array(phantoms.modality("dermoscopy").counts[split])
        assert counts.sum() == total
        assert counts.min() >= 10
        common = ham / ham.sum() * total > 10
        np.testing.assert_allclose(counts[common], (ham / ham.sum() * total)[common], rtol=0.07)


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
