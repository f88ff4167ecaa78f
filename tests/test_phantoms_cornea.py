"""The cornea phantoms: slit-lamp photographs of keratitis with the signs of each pathogen."""

import numpy as np
import pytest
import torch
from conftest import few_phantoms, middle, streams

from nbutils import phantoms
from nbutils.phantoms import cornea
from nbutils.phantoms.anterior_segment import colours, draw_segment

COUNT = 32


@pytest.fixture(scope="module")
def photographs():
    """16 photographs of each class of Kera-3k, rendered once."""
    return few_phantoms("cornea", "test", each=16, image_size=64)


def drawn(class_name: str):
    """Return 32 eyes with the keratitis of a class, and how much brighter than in health they are, (B, N, N)."""
    pictures = []
    for sick in (False, True):
        segment = draw_segment(streams(COUNT, 1), streams(COUNT, 2), 64)
        if sick:
            cornea.RECIPES[cornea.MODALITY.class_names.index(class_name)](segment, streams(COUNT, 3))
            segment.redness = torch.full_like(segment.redness, 0.5)
        pictures.append(colours(segment, streams(COUNT, 4), streams(COUNT, 5)).mean(1))
    return segment, pictures[1] - pictures[0]


def test_cornea_has_the_frequencies_of_kera():
    counts = phantoms.modality("cornea").counts
    assert counts["test"] == (77, 71, 117, 122)
    train = np.array([294, 437, 818, 1079])
    for split, total in {"train": 700, "val": 200}.items():
        assert sum(counts[split]) == total
        np.testing.assert_allclose(counts[split], train / train.sum() * total, atol=1.0)


def test_a_dark_pupil_lies_in_the_iris_and_the_iris_in_the_sclera():
    segment = draw_segment(streams(COUNT, 1), streams(COUNT, 2), 96)
    grey = colours(segment, streams(COUNT, 4), streams(COUNT, 5)).mean(1)
    away = segment.away()

    def mean(inner, outer):
        chosen = (away > inner) & (away < outer) & (segment.y.abs() < 2)  # between the lids
        return (grey * chosen).sum((1, 2)) / chosen.sum((1, 2))

    pupil = mean(torch.zeros_like(segment.pupil), segment.pupil - 0.3)
    iris = mean(segment.pupil + 0.3, segment.limbus - 1)
    sclera = mean(segment.limbus + 0.8, segment.limbus + 1.8)
    assert (pupil < iris).all()
    assert (iris < sclera).float().mean() > 0.9


def test_amoebae_leave_a_ring_and_bacteria_a_spot():
    """In the middle of what is brighter, amoebae are hollow and bacteria are not."""
    hollow = {}
    for name in ("amoeba", "bacteria"):
        segment, brighter = drawn(name)
        mass = segment.infiltrate + 1e-6
        x, y = ((mass * part).sum((1, 2)) / mass.sum((1, 2)) for part in torch.broadcast_tensors(segment.x, segment.y))
        u, v = segment.around(torch.stack([x, y], -1), torch.full((COUNT,), 0.6))
        middle_part = u.square() + v.square() < 1
        centre = (brighter * middle_part).sum((1, 2)) / middle_part.sum((1, 2))
        brightest = (brighter * (segment.away() < 5)).flatten(1).quantile(0.97, dim=1)
        hollow[name] = (centre < 0.75 * brightest).float().mean()
    assert hollow["amoeba"] > 0.6
    assert hollow["bacteria"] < 0.2


def test_the_signs_of_keratitis_differ():
    """Bacteria: yellow and with pus; fungi: grey, ragged; herpes: thin and faint."""
    scenes = {name: drawn(name)[0] for name in cornea.MODALITY.class_names}
    assert scenes["bacteria"].tone.mean() > scenes["fungal"].tone.mean() + 0.3
    pus = {name: (scene.level > 0).float().mean() for name, scene in scenes.items()}
    assert pus["bacteria"] > pus["hsk"] + 0.15

    def border(scene):  # length of the border per square root of the area
        steps = scene.infiltrate.diff(dim=1).abs().sum((1, 2)) + scene.infiltrate.diff(dim=2).abs().sum((1, 2))
        return (steps / scene.infiltrate.sum((1, 2)).clamp_min(1).sqrt()).median()

    assert border(scenes["fungal"]) > 1.1 * border(scenes["bacteria"])
    assert scenes["hsk"].infiltrate.mean() < 0.5 * scenes["bacteria"].infiltrate.mean()


def test_the_pathogen_is_seen_in_the_photograph(photographs):
    bright = middle(photographs.images).mean(1)

    def of(name):
        return np.median(bright[photographs.labels == photographs.class_names.index(name)])

    assert of("bacteria") > of("hsk") + 8


def test_photographs_of_a_patient_resemble_each_other(photographs):
    colour = photographs.images.mean((2, 3))
    repeated = [group for group in np.unique(photographs.groups) if (photographs.groups == group).sum() > 1]
    inside = np.mean([colour[photographs.groups == group].var(0, ddof=1).sum() for group in repeated])
    assert inside < 0.8 * colour.var(0, ddof=1).sum()
