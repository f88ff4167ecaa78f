"""nbutils.comparison: arms x seeds, beside each other, from the cache, audited."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_blobs

from nbutils import comparison
from nbutils.artefacts import cache_folder, find
from nbutils.augmentation import GenMix, Plain, table_arms
from nbutils.classification import classifier_key
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


def test_a_method_may_have_settings_of_its_own(splits, threads):
    threads(1)
    arms, focal = [{"real": Plain(splits.train), "focal": Plain(splits.train)}], replace(CONFIG, loss="focal")
    options = {"seeds": [0], "max_steps": 2}
    trained = TrainedArms(arms, splits, CONFIG, LeakAudit(splits), configs={"focal": focal}, **options)
    assert [trained.classifier(job).config for job in trained.jobs] == [CONFIG, focal]
    first, second = (trained.classifier(job).network.state_dict() for job in trained.jobs)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    key = classifier_key(arms[0]["real"], splits.val, CONFIG, seed=0, epoch_images=60, max_steps=2)
    assert find("classifier", key).source == "cache"  # the name of one whose method has none
    with pytest.raises(ValueError, match=r"Unknown method 'fokal'; allowed: 'real', 'focal'\. Did you mean 'focal'"):
        TrainedArms(arms, splits, CONFIG, LeakAudit(splits), configs={"fokal": focal}, **options)


def test_policies_may_differ_by_classifier_seed_and_rows_tell_the_generator_seed_behind(splits, threads):
    threads(1)
    arms = [{"g": Plain(make_blobs(20, 10 + seed))} for seed in range(3)]
    options = {"seeds": [4, 5, 6], "generator_seeds": [0, 1, 0], "max_steps": 1}
    audit = LeakAudit(splits)
    trained = TrainedArms(arms, splits, CONFIG, audit, **options)
    assert [trained.policy(job).pool.name for job in trained.jobs] == ["blobs10", "blobs11", "blobs12"]
    assert trained.results()[["seed", "generator_seed"]].to_numpy().tolist() == [[4, 0], [5, 1], [6, 0]]
    seen = [(row["user"], row["name"]) for row in audit.seen[1:]]
    assert seen == [(f"classifier g (generator seed {g}, pool)", f"blobs1{i}") for i, g in enumerate((0, 1, 0))]


def test_an_arm_that_several_seeds_share_is_audited_once(splits, threads):
    threads(1)
    audit, shared = LeakAudit(splits), Plain(splits.train)
    options = {"seeds": [0, 1], "generator_seeds": [0, 0], "max_steps": 1}
    TrainedArms([{"real": shared}, {"real": shared}], splits, CONFIG, audit, **options)
    assert len(audit.seen) == 2


def test_a_leaking_selection_takes_the_test_images_and_says_so(splits, threads):
    threads(1)
    audit, arms = LeakAudit(splits), [{"real": Plain(splits.train)}]
    trained = TrainedArms(arms, splits, CONFIG, audit, seeds=[0], max_steps=2, leaking_selection=True)
    assert audit.seen[0]["user"] == "leaking selection"
    assert (audit.seen[0]["fingerprint"], audit.seen[0]["allowed"]) == (splits.test.fingerprint(), ["test"])
    options = {"seed": 0, "epoch_images": 60, "max_steps": 2}
    assert find("classifier", classifier_key(arms[0]["real"], splits.test, CONFIG, **options)) is not None
    assert find("classifier", classifier_key(arms[0]["real"], splits.val, CONFIG, **options)) is None
    assert trained.selection is splits.test
