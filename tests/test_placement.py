"""nbutils.placement: points and measures of each arm in its own classifier."""

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import classification
from nbutils.augmentation import Plain, table_arms
from nbutils.classification import ClassifierConfig
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit, LeakError
from nbutils.placement import Placements

CONFIG = ClassifierConfig("test_resnet", num_epochs=2, batch_size=16, learning_rate=3e-3, patience=2)


@pytest.fixture
def placements():
    splits = Splits("blobs", train=make_blobs(60, 0), val=make_blobs(40, 1), test=make_blobs(20, 2))
    synthetic = [{"g": make_blobs(60, 3)}]
    arms = [table_arms(splits.train, images, alpha=0.3) for images in synthetic]
    return Placements(arms, synthetic, splits, CONFIG, LeakAudit(splits))


def test_the_methods_are_those_of_the_figure(placements):
    assert placements.methods() == ["real", "g", "genmix(g)"]


@pytest.mark.parametrize(
    ("method", "kinds"), [("real", ["real"]), ("g", ["real", "synthetic"]), ("genmix(g)", ["genmix", "real"])]
)
def test_points_hold_real_images_and_the_methods_own(placements, method, kinds):
    cloud = placements.points(method, seed=0, count=20)
    assert sorted(np.unique(cloud.kinds)) == kinds
    assert len(cloud.features) == len(cloud.labels) == 20 * len(kinds)
    assert set(cloud.labels) == {0, 1}


def test_measures_have_a_row_for_each_method_and_seed(placements):
    table = placements.measure([0, 1])
    assert list(table.columns) == ["method", "seed", "generator_seed", "recall", "mean_shift", "boundary"]
    assert len(table) == 6
    assert table[["recall", "boundary"]].to_numpy().min() >= 0
    assert table[["recall", "boundary"]].to_numpy().max() <= 1


def test_an_arm_with_test_images_is_refused_whatever_its_generator_seed(placements):
    leaking = [placements.arms[0], {"g": Plain(placements.splits.test)}]
    with pytest.raises(LeakError, match=r"classifier g \(generator seed 1\)"):
        Placements(leaking, placements.synthetic, placements.splits, CONFIG, LeakAudit(placements.splits))


def test_retraining_trains_each_classifier_once(placements, monkeypatch):
    trained = []
    original = classification.train_classifier
    monkeypatch.setattr(
        classification, "train_classifier", lambda *a, **k: trained.append(k["description"]) or original(*a, **k)
    )
    placements.training["retrain"] = True
    placements.points("g", seed=0, count=5)
    placements.measure([0])
    assert sorted(trained) == ["g (seed 0)", "genmix(g) (seed 0)", "real (seed 0)"]
