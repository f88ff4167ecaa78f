"""nbutils.utility: what is trained on what, what the gains are over, and of what the pairs are."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blobs
from scipy import stats

from nbutils import utility
from nbutils.augmentation import Plain
from nbutils.comparison import Job, TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit, LeakError
from nbutils.metrics.utility import mcnemar
from nbutils.protocols import ClassifierConfig, tuning_config
from nbutils.utility import (
    TunedExtractors,
    augmentation_arms,
    augmentation_utility,
    extraction_arms,
    extraction_utility,
    side_by_side,
)

CONFIG = ClassifierConfig(
    "test_byobnet", num_epochs=2, batch_size=16, learning_rate=3e-3, patience=2, initial_weights="prior"
)


@pytest.fixture
def splits():
    return Splits("blobs", train=make_blobs(60, 0), val=make_blobs(30, 1), test=make_blobs(30, 2))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(splits, arms, **options):
    return TrainedArms([arms], splits, CONFIG, LeakAudit(splits), **{"seeds": [0, 1], "max_steps": 2, **options})


def test_augmentation_appends_and_extraction_learns_from_synthetic_images_alone(splits):
    synthetic = {"g": make_blobs(20, 9)}
    arms = augmentation_arms(splits.train, synthetic, input_size=12)
    assert list(arms) == ["real", "traditional", "g"]
    assert [len(arm.pool) for arm in arms.values()] == [60, 60, 80]
    assert arms["traditional"].input_size == 12
    alone = extraction_arms(splits.train, synthetic)
    assert list(alone) == ["real", "g"]
    assert alone["g"].pool is synthetic["g"]


def test_traditional_augmentation_flips_turns_and_changes_contrast_and_nothing_else():
    flat = make_blobs(2, 0, channels=3)
    grey = type(flat)(np.full((8, 3, 16, 16), 100, np.uint8), np.zeros(8), ("a",), ["p"] * 8)
    middles = utility.traditional(grey).examples(40, seed=0)[0][:, :, 6:10, 6:10]
    spread = middles.reshape(40, -1)
    assert (spread.max(1) - spread.min(1) <= 1).all()  # no noise, no channel emptied
    assert np.ptp(spread.mean(1)) > 5  # contrast
    bright = make_blobs(1, 0).images.copy()
    bright[:] = 0
    bright[:, :, 6:10, 1:4] = 255  # a block at the left
    block = type(flat)(bright, np.zeros(1), ("a",), ["p"])
    drawn = utility.traditional(block).examples(40, seed=0)[0].astype(float)[:, 0]
    columns = (drawn.sum(1) * np.arange(16)).sum(1) / drawn.sum((1, 2))
    assert (columns < 5).any()
    assert (columns > 10).any()
    rows = (drawn.sum(2) * np.arange(16)).sum(1) / drawn.sum((1, 2))
    assert 0.3 < rows.std() < 2  # turned a little


def test_extractors_are_tuned_on_the_same_half_and_start_where_they_should(splits):
    pretrained = trained(splits, extraction_arms(splits.train, {"g": make_blobs(20, 9)}))
    tuned = TunedExtractors(pretrained, tuning_config(CONFIG, "smoke"), LeakAudit(splits))
    assert [(job.method, job.seed) for job in tuned.jobs[:4]] == [("real", 0), ("g", 0), ("scratch", 0), ("prior", 0)]
    pools = {tuned.policy(job).pool.fingerprint() for job in tuned.jobs}
    assert len(pools) == 1
    assert tuned.policy(tuned.jobs[0]).pool.class_counts().tolist() == [15, 15]
    configs = [tuned._arguments(job)[2] for job in tuned.jobs[4:]]
    starts = [(config.initial_classifier, config.initial_weights) for config in configs]
    names = [pretrained.artefact(job) for job in pretrained.jobs if job.seed == 1]
    assert starts == [(names[0], "prior"), (names[1], "prior"), (None, "scratch"), (None, "prior")]
    for job in tuned.jobs[:2]:
        features = [arms.classifier(job).features(splits.test) for arms in (tuned, pretrained)]
        np.testing.assert_array_equal(*features)


def test_synthetic_images_that_copy_test_images_stop_an_extractor(splits):
    with pytest.raises(LeakError, match="classifier g"):
        trained(splits, extraction_arms(splits.train, {"g": splits.test}))


class Answers:
    """Trained arms that answer as they are told: (method, seed) -> right, (N,) bool."""

    def __init__(self, right):
        self.right = right
        self.jobs = [Job(method, seed, 0) for seed in range(8) for method in right[seed]]

    def classifier(self, job):
        return Fixed(self.right[job.seed][job.method])


class Fixed:
    def __init__(self, right):
        self.right = right

    def predict(self, images):
        return np.where(self.right, images.labels, 1 - images.labels)


@pytest.fixture
def answers():
    random = np.random.default_rng(0)
    real = [random.random(30) < 0.6 for _ in range(8)]
    better = [right | (random.random(30) < 0.4) for right in real]
    return [{"real": right, "g": more} for right, more in zip(real, better, strict=True)]


def test_gains_are_over_real_images_paired_by_seed(splits, answers):
    found = augmentation_utility(Answers(answers), splits.test)
    by_hand = np.array([row["g"].mean() - row["real"].mean() for row in answers])
    gains = found.gains[found.gains["method"] == "g"]
    np.testing.assert_allclose(gains["gain"], by_hand)
    np.testing.assert_allclose(gains["accuracy"], [row["g"].mean() for row in answers])
    tests = found.tests.set_index("method")
    assert tests.loc["g", "gain"] == pytest.approx(by_hand.mean())
    assert tests.loc["g", "p_wilcoxon"] == pytest.approx(stats.wilcoxon(by_hand).pvalue)
    assert tests.loc["g", "pairs"] == 8
    assert tests.loc["real", ["gain", "p_wilcoxon", "p_mcnemar"]].tolist() == [0, 1, 1]


def test_mcnemar_is_made_of_the_images_of_each_seed(splits, answers):
    row = augmentation_utility(Answers(answers), splits.test).tests.set_index("method").loc["g"]
    each = [mcnemar(row["g"], row["real"]) for row in answers]
    assert row["p_mcnemar"] == pytest.approx(min(1, 2 * np.median([one.p for one in each])))
    assert row["gained"] == np.mean([one.gained for one in each]) > 0
    assert row["lost"] == 0
    assert row["paired"] == ("p, p_wilcoxon: 8 seeds; p_mcnemar: 30 test images in each seed, twice the median p")


def test_the_reference_of_extraction_is_the_classifier_that_real_images_trained_whole(splits, answers):
    tuned = Answers([{"real": row["g"], "g": row["real"], "scratch": ~row["g"]} for row in answers])
    tuned.pretrained = Answers(answers)
    found = extraction_utility(tuned, splits.test).tests.set_index("method")
    assert found.index.tolist() == ["real", "real, tuned", "g", "scratch"]
    assert found.loc["g", "gain"] == 0
    assert found.loc["real", "gain"] == 0
    assert found.loc["real, tuned", "gain"] > 0 > found.loc["scratch", "gain"]


def test_both_gains_stand_beside_each_other_by_method_and_seed(splits, answers):
    tuned = Answers([{"real": row["g"], "g": row["real"]} for row in answers])
    tuned.pretrained = Answers(answers)
    found = [augmentation_utility(Answers(answers), splits.test), extraction_utility(tuned, splits.test)]
    table = side_by_side(*found)
    assert len(table) == 3 * 8
    row = table.set_index(["method", "seed"]).loc[("g", 3)]
    assert row["augmentation"] == pytest.approx(answers[3]["g"].mean() - answers[3]["real"].mean())
    assert row["augmentation_accuracy"] == answers[3]["g"].mean()
    assert row["extraction"] == 0
    lone = table[table["method"] == "real, tuned"]
    assert lone["augmentation"].isna().all()
    assert (lone["extraction"] > 0).all()
    assert (lone["generator_seed"] == 0).all()


def test_arms_are_trained_tested_and_told_apart_from_end_to_end(splits):
    arms = {"real": Plain(splits.train), "g": Plain(make_blobs(20, 9))}
    pretrained = trained(splits, arms, seeds=[0])
    tuned = TunedExtractors(pretrained, tuning_config(CONFIG, "smoke"), LeakAudit(splits))
    found = extraction_utility(tuned, splits.test)
    assert found.gains["method"].tolist() == ["real", "real, tuned", "g", "scratch", "prior"]
    whole = pretrained.classifier(pretrained.jobs[0])
    assert found.gains["accuracy"].iloc[0] == np.mean(whole.predict(splits.test) == splits.test.labels)
    assert isinstance(found.tests, pd.DataFrame)
