"""The prostate phantoms: a pelvis as three sequences show it, with a tumour that lights up."""

import numpy as np
import pytest
from conftest import few_phantoms, middle

from nbutils import phantoms


@pytest.fixture(scope="module")
def prostate():
    """48 slices of the prostate of each class, rendered once."""
    return few_phantoms("prostate", "test", each=48, image_size=64)


def test_prostate_has_the_counts_of_the_paper():
    counts = phantoms.modality("prostate").counts
    assert counts == {"train": (100, 100), "val": (100, 100), "test": (100, 100)}


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
    dwi = prostate.images[:, 2, 14:50, 14:50].astype(float).reshape(len(prostate), -1)
    contrast = (dwi.max(1) - dwi.mean(1)) / dwi.std(1)
    positive = prostate.labels == prostate.class_names.index("positive")
    assert contrast[positive].mean() > contrast[~positive].mean() + 0.25


def test_studies_of_one_patient_show_the_same_pelvis(prostate):
    t2w = prostate.images[:, 0].astype(float).reshape(len(prostate), -1)
    alike = np.corrcoef(t2w)
    same = prostate.groups[:, None] == prostate.groups[None]
    apart = ~np.eye(len(prostate), dtype=bool)
    assert (same & apart).any()
    assert alike[same & apart].mean() > alike[~same].mean() + 0.1
