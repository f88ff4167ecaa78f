"""nbutils.placement: points in each arm's own classifier, measures in one."""

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import placement
from nbutils.augmentation import table_arms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.placement import Placements
from nbutils.protocols import ClassifierConfig

CONFIG = ClassifierConfig("test_resnet", num_epochs=2, batch_size=16, learning_rate=3e-3, patience=2)


@pytest.fixture
def placements():
    splits = Splits("blobs", train=make_blobs(60, 0), val=make_blobs(40, 1), test=make_blobs(20, 2))
    synthetic = [{"g": make_blobs(60, 3 + s)} for s in range(2)]
    arms = [table_arms(splits.train, images, alpha=0.3) for images in synthetic]
    return Placements(arms, synthetic, splits, CONFIG, LeakAudit(splits), seeds=[7, 8])


def test_the_methods_are_those_of_the_figure(placements):
    assert placements.methods() == ["real", "g", "genmix(g)"]


@pytest.mark.parametrize(
    ("method", "kinds"), [("real", ["real"]), ("g", ["real", "synthetic"]), ("genmix(g)", ["genmix", "real"])]
)
def test_points_hold_real_images_and_the_methods_own(placements, method, kinds):
    cloud = placements.points(method, count=20)
    assert sorted(np.unique(cloud.kinds)) == kinds
    assert len(cloud.features) == len(cloud.labels) == 20 * len(kinds)
    assert set(cloud.labels) == {0, 1}


def test_measures_have_a_row_for_each_method_and_seed(placements):
    table = placements.measure(600)
    assert list(table.columns) == ["method", "seed", "generator_seed", "recall", "mean_shift", "boundary"]
    assert len(table) == 8
    assert table["method"].tolist()[:4] == ["real", "g", "genmix(g)", "mixup"]
    assert table[["recall", "boundary"]].to_numpy().min() >= 0
    assert table[["recall", "boundary"]].to_numpy().max() <= 1


def test_the_arms_of_a_seed_are_measured_in_the_classifier_of_real_images(placements, monkeypatch):
    spaces = []
    monkeypatch.setattr(placement, "variety", lambda points, labels, real, real_labels: spaces.append(real) or {})
    placements.measure(600)
    first, second = spaces[:4], spaces[4:]
    assert all(np.array_equal(space, first[0]) for space in first)
    assert all(np.array_equal(space, second[0]) for space in second)
    assert not np.array_equal(first[0], second[0])


@pytest.mark.parametrize(("allowed", "most"), [(600, 30), (12, 12)])  # the smallest arm has about 30 of each class
def test_every_arm_is_measured_with_as_many_points_of_each_class(placements, monkeypatch, allowed, most):
    counts = []
    monkeypatch.setattr(
        placement, "variety", lambda points, labels, real, real_labels: counts.append(np.bincount(labels)) or {}
    )
    placements.measure(allowed)
    assert len({tuple(count) for count in counts}) == 1
    assert counts[0].max() <= most
