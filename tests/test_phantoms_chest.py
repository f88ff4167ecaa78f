"""The chest phantoms: radiographs whose findings lie where a radiologist looks."""

import numpy as np
import pytest
from conftest import few_phantoms

from nbutils import phantoms


@pytest.fixture(scope="module")
def chest():
    """24 radiographs of each class, rendered once."""
    return few_phantoms("chest", "test", each=24, image_size=64)


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
