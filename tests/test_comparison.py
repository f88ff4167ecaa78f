"""nbutils.comparison: arms x seeds, beside each other, from the cache, audited."""

import numpy as np
import pytest
import torch
from conftest import make_blobs

from nbutils import comparison
from nbutils.artefacts import cache_folder
from nbutils.augmentation import GenMix, Plain, table_arms
from nbutils.comparison import TrainedArms, compare
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit, LeakError
from nbutils.protocols import ClassifierConfig

CONFIG = ClassifierConfig(network="test_resnet", num_epochs=4, batch_size=16, learning_rate=3e-3, patience=4)


@pytest.fixture
def splits():
    return Splits("blobs", train=make_blobs(60, 0), val=make_blobs(30, 1), test=make_blobs(30, 2))


@pytest.fixture
def threads():
    """Return torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_comparison_has_a_row_for_each_method_and_seed(splits, threads):
    threads(1)
    arms = [table_arms(splits.train, {"g": make_blobs(20, 10 + s)}, alpha=0.3) for s in range(2)]
    found = compare(arms, splits, CONFIG, LeakAudit(splits), seeds=[0, 1, 2], max_steps=5)
    assert len(found) == 3 * len(arms[0])
    assert found.groupby("seed")["generator_seed"].first().tolist() == [0, 1, 0]
    assert found["rarest_sensitivity"].between(0, 1).all()


def test_classifiers_trained_beside_each_other_are_those_trained_in_turn(splits, threads, monkeypatch, tmp_path):
    arms = [{"real": Plain(splits.train), "other": Plain(make_blobs(60, 9))}]
    probabilities = []
    for count, cache in ((1, "in turn"), (2, "beside each other"), (2, "by the workers of the run before")):
        threads(count)
        monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path / cache))
        trained = TrainedArms(arms, splits, CONFIG, LeakAudit(splits), seeds=[0, 1], max_steps=5)
        assert len([path for path in cache_folder().iterdir() if path.is_dir()]) == 4
        threads(1)
        probabilities.append([trained.classifier(job).probabilities(splits.test) for job in trained.jobs])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[0], probabilities[2])


def test_only_what_is_missing_is_trained(splits, threads, monkeypatch):
    threads(1)
    trained = []
    original = comparison._train_one
    monkeypatch.setattr(comparison, "_train_one", lambda *a, **k: trained.append(k["description"]) or original(*a, **k))
    options = {"seeds": [0, 1], "max_steps": 2}
    arms = [{"real": Plain(splits.train)}]
    TrainedArms(arms, splits, CONFIG, LeakAudit(splits), seeds=[0], max_steps=2)
    assert trained == ["real (seed 0)"]
    TrainedArms(arms, splits, CONFIG, LeakAudit(splits), **options)
    assert trained == ["real (seed 0)", "real (seed 1)"]
    TrainedArms(arms, splits, CONFIG, LeakAudit(splits), **options, retrain=True)
    assert trained[2:] == ["real (seed 0)", "real (seed 1)"]


def test_the_artefact_of_a_job_holds_its_classifier(splits, threads):
    threads(1)
    trained = TrainedArms([{"real": Plain(splits.train)}], splits, CONFIG, LeakAudit(splits), seeds=[0, 1], max_steps=2)
    names = [trained.artefact(job) for job in trained.jobs]
    assert len(set(names)) == 2
    assert all((cache_folder() / name).is_dir() for name in names)


@pytest.mark.parametrize("leaking", [lambda s: Plain(s.test), lambda s: GenMix(s.train, real=s.test)])
def test_an_arm_with_test_images_is_refused_on_each_side_and_whatever_its_generator_seed(splits, leaking):
    arms = [{"leak": Plain(splits.train)}, {"leak": leaking(splits)}]
    with pytest.raises(LeakError, match=r"classifier leak \(generator seed 1, (pool|real)\)"):
        compare(arms, splits, CONFIG, LeakAudit(splits), seeds=[0])
    assert not cache_folder().exists()
