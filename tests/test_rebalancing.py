"""nbutils.rebalancing: the rows of IOIS's Table 1, who guides which images, what it costs, and what a leak gains."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import make_blobs

from nbutils import generators, rebalancing
from nbutils.claims import IOIS_COPIES, IOIS_METHODS
from nbutils.classification import Classifier, build_network
from nbutils.comparison import Job, TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.guidance import Guidance, guided_samples
from nbutils.online import OnlineSynthesis, equal_labels
from nbutils.protocols import ClassifierConfig
from nbutils.rebalancing import OURS

CONFIG = ClassifierConfig(network="test_resnet", num_epochs=3, batch_size=8, learning_rate=3e-3, patience=3)
GUIDANCE = Guidance(num_steps=2)


@pytest.fixture(scope="module")
def splits():
    train = make_blobs(40, 0).subset([*range(0, 40, 2), *range(1, 13, 2)])  # 20 bright, 6 dark
    return Splits("blobs", train=train, val=make_blobs(12, 1), test=make_blobs(12, 2))


@pytest.fixture(scope="module")
def diffusion(splits):
    made = generators.create("unconditional-diffusion", scale="smoke", num_snapshots=0, num_steps=1)
    made.fit(splits.train)
    return made


@pytest.fixture
def online(splits, diffusion):
    return OnlineSynthesis(splits.train, diffusion, GUIDANCE, num_images=8)


@pytest.fixture
def arms(online):
    synthetic = {name: make_blobs(8, 5) for name in ("cell-gan", "stylegan2-ada")}
    return rebalancing.table_arms(CONFIG, synthetic, online)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_arms_are_the_rows_of_table_1_and_two_of_copies(splits, arms):
    assert {*arms, "offline"} == {*IOIS_METHODS, *IOIS_COPIES}
    assert [name for name in arms if name in IOIS_METHODS] == [name for name in IOIS_METHODS if name != "offline"]
    assert arms["oversampling"].pool.class_counts().tolist() == [20, 20]
    assert set(arms["oversampling"].pool.hashes()) == set(splits.train.hashes())
    for name in ("real, repeated", "cell-gan", "stylegan2-ada"):
        assert arms[name].pool.class_counts().tolist() == [24, 10]
    assert (arms["pg-rs"].steps_per_epoch, arms["pg-rs"].num_epochs) == (4, 3)
    assert (arms["ois"].sampling, arms[OURS].sampling) == ("equal", "accuracy-adaptive")
    assert {name: config.loss for name, config in rebalancing.losses(CONFIG).items()} == {
        "focal": "focal",
        "cb-focal": "class-balanced-focal",
    }


def test_classes_of_equal_size_are_not_filled_up(online):
    balanced = replace(online, pool=make_blobs(10, 0))
    assert len(rebalancing.table_arms(CONFIG, {}, balanced)["oversampling"].pool) == 10


def test_offline_images_are_guided_by_the_classifier_of_the_same_seed(splits, arms, online):
    options = {"seeds": [3, 4], "max_steps": 1}
    guides = TrainedArms([{"real": arms["real"]}], splits, CONFIG, LeakAudit(splits), **options)
    found = rebalancing.with_offline([arms], guides)
    assert [list(policies)[-3:] for policies in found] == [["offline", "ois", OURS]] * 2
    labels = equal_labels(splits.train, 8)
    for job, policies in zip(guides.jobs, found, strict=True):
        guide = guides.classifier(job)
        drawn = guided_samples(online.diffusion, guide, labels, splits.train.class_names, job.seed, GUIDANCE)
        assert (policies["offline"].pool.images[26:] == drawn.images).all()
        assert policies["sqrt-rs"] is arms["sqrt-rs"]
    assert (found[0]["offline"].pool.images[26:] != found[1]["offline"].pool.images[26:]).any()


def test_what_online_synthesis_took_is_summed_over_epochs_and_averaged_over_seeds(splits, arms):
    chosen = {name: arms[name] for name in ("real", "ois")}
    trained = TrainedArms([chosen], splits, CONFIG, LeakAudit(splits), seeds=[0, 1], max_steps=5)
    traced = rebalancing.traces(trained)
    assert traced[["method", "seed", "epoch"]].to_numpy().tolist() == [
        ["ois", seed, e] for seed in (0, 1) for e in (1, 2)
    ]
    table = pd.DataFrame(
        {
            "method": "ois",
            "seed": [0, 0, 1, 1],
            "epoch": [1, 2, 1, 2],
            "synthesised": [4, 0, 6, 0],
            "network_evaluations": [8, 0, 12, 0],
            "seconds_synthesis": [3.0, 0.0, 3.0, 0.0],
            "seconds_training": [0.5, 0.5, 0.5, 0.5],
        }
    )
    (row,) = rebalancing.cost(table).to_dict("records")
    assert row == {
        "method": "ois", "epochs": 2, "synthesised": 5, "network_evaluations": 10, "seconds_synthesis": 3.0,
        "seconds_training": 1.0, "ratio": 3.0, "share": 0.75,
    }  # fmt: skip


def test_evaluations_are_those_of_the_trace_or_were_spent_in_advance():
    results = pd.DataFrame({"method": ["real", "offline", "ois", "ois"], "seed": [0, 0, 0, 1], "mcc": 0.5})
    traced = pd.DataFrame({"method": "ois", "seed": [0, 0, 1], "network_evaluations": [5, 6, 7]})
    found = rebalancing.with_evaluations(results, traced, offline=40)
    assert found["network_evaluations"].tolist() == [0, 40, 11, 7]


def test_budgets_change_one_thing_each(online):
    base = replace(online, guidance=Guidance(num_steps=5), refresh=5)
    found = rebalancing.budgets(base, num_epochs=15)
    spent = {label: (policy.guidance.num_steps, policy.refresh) for label, policy in found.items()}
    assert spent == {"2 steps": (2, 5), "10 steps": (10, 5), "every epoch": (5, 1), "drawn once": (5, 15)}
    assert "every epoch" not in rebalancing.budgets(online, num_epochs=3)


def test_the_published_protocol_selects_on_test_and_counts_by_it(splits, arms, monkeypatch):
    given = {}
    monkeypatch.setattr(rebalancing, "compare", lambda arms, *_, **options: given.update(arms=arms, options=options))
    rebalancing.published([arms], splits, CONFIG, LeakAudit(splits), seeds=[0])
    assert given["options"] == {"leaking_selection": True, "seeds": [0]}
    (leaking,) = given["arms"]
    assert leaking["real"] is arms["real"]
    assert leaking[OURS].leaking_accuracies is splits.test
    assert replace(leaking[OURS], leaking_accuracies=None) == arms[OURS]


def test_gains_are_paired_by_seed():
    rows = [("real", 0, 0.5), ("real", 1, 0.7), (OURS, 1, 0.9), (OURS, 0, 0.5), ("ois", 0, 0.1)]
    honest = pd.DataFrame(rows, columns=["method", "seed", "mcc"]).assign(generator_seed=0)
    leaking = honest.assign(mcc=honest["mcc"] + 0.1 * (honest["method"] == OURS))
    found = rebalancing.gains({"honest": honest, "leaking": leaking}, ["mcc"])
    assert found["method"].tolist() == ["honest"] * 2 + ["leaking"] * 2
    assert found.set_index(["method", "seed"])["mcc"].loc["honest"].to_dict() == pytest.approx({0: 0.0, 1: 0.2})
    assert found.set_index(["method", "seed"])["mcc"].loc["leaking"].to_dict() == pytest.approx({0: 0.1, 1: 0.3})


def test_early_and_late_classifiers_have_done_so_many_steps_and_the_last_is_that_of_the_table(splits, arms):
    found = rebalancing.early_and_late(arms[OURS], splits, CONFIG, LeakAudit(splits), seed=0)
    assert list(found) == ["0 epochs", "1 epoch", "3 epochs"]
    assert [classifier.log.num_steps for classifier in found.values()] == [1, 4, 12]
    trained = TrainedArms([{OURS: arms[OURS]}], splits, CONFIG, LeakAudit(splits), seeds=[0])
    weights = trained.classifier(Job(OURS, 0, 0)).network.state_dict()
    last = found["3 epochs"].network.state_dict()
    assert all(torch.equal(last[name], value) for name, value in weights.items())
    cut = rebalancing.early_and_late(arms[OURS], splits, CONFIG, LeakAudit(splits), seed=0, max_steps=2)
    assert [classifier.log.num_steps for classifier in cut.values()] == [1, 2, 2]


def test_each_classifier_guides_the_same_noise(splits, online):
    torch.manual_seed(0)
    classifiers = {name: Classifier(build_network(CONFIG, 2, 1), CONFIG) for name in ("early", "late")}
    found = rebalancing.guided_by(classifiers | {"again": classifiers["late"]}, online, [0, 1], seed=3)
    assert (found["early"].images != found["late"].images).any()
    assert (found["again"].images == found["late"].images).all()
    assert found["late"].labels.tolist() == [0, 1]
    larger = replace(online, pool=make_blobs(10, 0, image_size=24))
    assert rebalancing.guided_by(classifiers, larger, [0], seed=3)["early"].image_size == 24
