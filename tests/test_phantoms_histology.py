"""The histology phantoms: stained lymph nodes, with metastases as a pathologist sees them."""

import numpy as np
import pytest
from conftest import few_phantoms, middle


@pytest.fixture(scope="module")
def histology():
    """32 patches of normal and 32 of metastatic lymph node, rendered once."""
    return few_phantoms("histology", "test", each=32, image_size=64)


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
