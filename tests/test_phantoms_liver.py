"""The liver phantoms: lesions as a radiologist sees them, one scanner to a patient."""

import numpy as np
import pytest
from conftest import few_phantoms, middle

from nbutils import phantoms
from nbutils.phantoms.liver import WINDOW_HU


@pytest.fixture(scope="module")
def liver():
    """48 liver patches of each class, rendered once."""
    return few_phantoms("liver", "test", each=48, image_size=64)


def test_liver_has_the_counts_of_the_paper_and_their_label_shift():
    counts = phantoms.modality("liver").counts
    assert counts == {"train": (433, 70, 178), "val": (115, 30, 157), "test": (128, 30, 149)}


def test_patients_of_the_liver_may_have_lesions_of_two_classes():
    images = few_phantoms("liver", each=32)
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
