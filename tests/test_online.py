"""nbutils.online: how many images of each class join an epoch, who decides it, resuming, and what must not leak."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blobs

from nbutils import classification, generators, training
from nbutils.augmentation import Plain
from nbutils.classification import Classifier, build_network, classifier_key, fitted_classifier, train_classifier
from nbutils.comparison import TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit, LeakError
from nbutils.guidance import GUIDANCE, Guidance, GuidedSampler
from nbutils.imbalance import accuracy_adaptive_counts
from nbutils.online import (
    REAL_FOR_EACH,
    REFRESH,
    OnlineBatches,
    OnlineSynthesis,
    class_accuracies,
    equal_labels,
    offline_synthesis,
)
from nbutils.protocols import ClassifierConfig
from nbutils.scales import SCALES

CONFIG = ClassifierConfig(network="test_resnet", num_epochs=3, batch_size=8, learning_rate=3e-3, patience=3, flip=0.5)
COUNTS, ACCURACIES = ["count:bright", "count:dark"], ["accuracy:bright", "accuracy:dark"]
MADE = ["synthesised", "network_evaluations"]
SECONDS = ["seconds_synthesis", "seconds_training"]


@pytest.fixture(scope="module")
def splits():
    return Splits("blobs", train=make_blobs(32, 0), val=make_blobs(12, 1), test=make_blobs(12, 2))


@pytest.fixture(scope="module")
def diffusion(splits):
    made = generators.create("unconditional-diffusion", scale="smoke", num_snapshots=0)
    made.fit(splits.train)
    return made


@pytest.fixture
def online(splits, diffusion):
    """Return a function that makes a policy with other settings."""

    def make(num_images: int = 8, **settings) -> OnlineSynthesis:
        return OnlineSynthesis(splits.train, diffusion, Guidance(num_steps=2), num_images, **settings)

    return make


def fit(policy, splits, config=CONFIG, **training_options):
    return train_classifier(policy, splits.val, config, seed=0, epoch_images=32, **training_options)


def new_batches(policy, seed=0, steps_per_epoch=4) -> OnlineBatches:
    torch.manual_seed(0)
    return policy.adaptive_batches(Classifier(build_network(CONFIG, 2, 1), CONFIG), seed, steps_per_epoch)


def readings(monkeypatch, *accuracies):
    """Let the classifier's accuracies be these, one pair after the other, and return what it was asked to read."""
    given, asked = iter(accuracies), []
    read = lambda classifier, images: asked.append(images) or np.array(next(given))  # noqa: E731
    monkeypatch.setattr("nbutils.online.class_accuracies", read)
    return asked


def test_each_epoch_has_as_many_images_of_a_class_as_its_accuracy_asks_for(splits, online, monkeypatch):
    asked = readings(monkeypatch, [0.9, 0.1], [0.2, 0.6])
    trace = fit(online(num_images=10), splits).trace
    assert trace["epoch"].tolist() == [1, 2, 3]
    expected = [[5, 5], accuracy_adaptive_counts([0.9, 0.1], 10), accuracy_adaptive_counts([0.2, 0.6], 10)]
    np.testing.assert_array_equal(trace[COUNTS], expected)
    np.testing.assert_array_equal(trace[ACCURACIES], [[np.nan] * 2, [0.9, 0.1], [0.2, 0.6]])
    assert [images is splits.train for images in asked] == [True, True]


def test_without_adaptive_sampling_all_classes_get_the_same(splits, online, monkeypatch):
    readings(monkeypatch, [0.9, 0.1], [0.2, 0.6])
    trace = fit(online(sampling="equal", num_images=9), splits).trace
    assert trace[COUNTS].to_numpy().tolist() == [[5, 4]] * 3
    with pytest.raises(ValueError, match="Unknown sampling 'adaptive'; allowed: 'equal', 'accuracy-adaptive'"):
        online(sampling="adaptive")


def test_the_images_are_drawn_by_the_classifier_as_it_is_at_the_beginning_of_each_epoch(splits, online, monkeypatch):
    guides, ends = [], []
    draw, select = GuidedSampler.draw, classification.Training._select

    def weight(network):
        return next(network.parameters()).detach().clone()

    def drawn(self, classifier, *arguments):
        guides.append(weight(classifier.network))
        return draw(self, classifier, *arguments)

    def selected(self, epoch):
        ends.append(weight(self.modules["network"]))
        return select(self, epoch)

    monkeypatch.setattr(GuidedSampler, "draw", drawn)
    monkeypatch.setattr(classification.Training, "_select", selected)
    fit(online(), splits)
    assert len(guides) == len(ends) == 3
    assert all(torch.equal(guide, end) for guide, end in zip(guides[1:], ends, strict=False))
    assert not torch.equal(guides[1], guides[2])


def test_an_epoch_shows_the_real_and_this_epochs_images_with_their_labels(online):
    batches = new_batches(online(num_images=8), steps_per_epoch=5)  # 5 batches of 8 = 32 + 8 images
    shown, targets = (torch.cat(parts) for parts in zip(*(batches(step) for step in range(5)), strict=True))
    assert torch.equal(targets.sum(dim=0), torch.tensor([20.0, 20.0]))
    drawn = batches.state_dict()
    expected = torch.cat([batches.draw.images[:32], drawn["images"]]).float() / 127.5 - 1
    distances = torch.cdist(shown.flatten(1), expected.flatten(1))
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(40))
    assert distances.min(dim=1).values.max() < 1e-2
    assert torch.equal(targets.argmax(dim=1), batches.draw.labels[distances.argmin(dim=1)])
    assert batches.trace()["synthesised"].tolist() == [8]


def test_images_that_no_batch_shows_are_not_drawn_and_the_others_are_the_same(online):
    short, whole = (new_batches(online(num_images=8), steps_per_epoch=steps) for steps in (2, 5))
    for step in range(2):
        assert torch.equal(short(step)[1], whole(step)[1])
        assert torch.allclose(short(step)[0], whole(step)[0], atol=1.01 / 127.5)
    assert 0 < short.trace()["synthesised"].item() < 8
    assert short.trace()["network_evaluations"].item() == 2 * short.trace()["synthesised"].item()
    assert short.trace()[COUNTS].sum(axis=1).item() == 8


def test_the_images_are_kept_until_the_next_refresh(splits, online):
    trace = fit(online(refresh=2), splits).trace
    assert (trace["synthesised"] > 0).tolist() == [True, False, True]
    assert (trace["network_evaluations"] > 0).tolist() == [True, False, True]
    assert trace[COUNTS].loc[0].equals(trace[COUNTS].loc[1])
    assert (trace["seconds_training"] > 0).all()
    with pytest.raises(ValueError, match="refresh is a number of epochs from 1, found 0"):
        online(refresh=0)


def test_each_scale_says_how_many_images_are_drawn_how_often_and_small_ones_take_few_steps():
    assert tuple(REFRESH) == tuple(REAL_FOR_EACH) == SCALES
    assert REFRESH["paper"] == 1
    assert all(GUIDANCE[scale].num_steps <= 10 for scale in ("smoke", "demo"))


def test_all_classes_alike_are_labels_that_sum_to_k(splits):
    assert equal_labels(splits.train, 5).tolist() == [0, 0, 0, 1, 1]


def test_each_classifier_and_each_epoch_has_noise_of_its_own(online, monkeypatch):
    seeds = []
    draw = GuidedSampler.draw
    monkeypatch.setattr(GuidedSampler, "draw", lambda self, c, y, s: seeds.append(tuple(s)) or draw(self, c, y, s))
    for seed in (0, 1):
        batches = new_batches(online(), seed, steps_per_epoch=5)
        for step in (0, 5):
            batches(step)
    assert len(set(sum(seeds, ()))) == 4 * 8


def test_accuracies_are_those_of_each_class(splits):
    classifier = Classifier(build_network(CONFIG, 2, 1), CONFIG)
    predicted = classifier.predict(splits.train)
    expected = [(predicted[splits.train.labels == label] == label).mean() for label in (0, 1)]
    assert class_accuracies(classifier, splits.train) == pytest.approx(expected)
    assert np.isnan(class_accuracies(classifier, splits.train.of_class(0))[1])


@pytest.mark.parametrize(
    ("refresh", "killed", "call", "resumed_from", "num_draws"),
    [
        (1, (classification.Training, "step"), 6, 6, 1),  # in the middle of the second epoch
        (2, (classification.Training, "step"), 6, 6, 1),
        (1, (GuidedSampler, "draw"), 1, 4, 2),  # while the images of the second epoch are drawn
    ],
)
def test_an_interrupted_training_goes_on_with_the_same_images(
    splits, online, tmp_path, monkeypatch, refresh, killed, call, resumed_from, num_draws
):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    policy, original, calls = online(num_images=24, refresh=refresh), getattr(*killed), []
    draw, draws = GuidedSampler.draw, []
    undisturbed = fit(policy, splits)

    def interrupted(*arguments):
        if len(calls) == call:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(*killed, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(policy, splits, checkpoint=tmp_path / "training.pt")
    monkeypatch.setattr(*killed, original)
    monkeypatch.setattr(GuidedSampler, "draw", lambda *a: draws.append(1) or draw(*a))
    resumed = fit(policy, splits, checkpoint=tmp_path / "training.pt")
    assert (resumed.log.resumed_from, len(draws)) == (resumed_from, num_draws)
    pd.testing.assert_frame_equal(resumed.trace.drop(columns=SECONDS), undisturbed.trace.drop(columns=SECONDS))
    weights = undisturbed.network.state_dict()
    assert all(torch.equal(resumed.network.state_dict()[name], value) for name, value in weights.items())


def test_the_trace_is_kept_with_the_classifier(splits, online):
    options = {"seed": 0, "epoch_images": 32, "max_steps": 5, "description": "test"}
    made = fitted_classifier(online(), splits.val, CONFIG, **options)
    assert list(made.trace) == ["epoch", *COUNTS, *ACCURACIES, *MADE, *SECONDS]
    assert len(made.trace) == 2
    assert fitted_classifier(Plain(splits.train), splits.val, CONFIG, **options).trace is None


def test_whatever_changes_the_images_changes_the_key(splits, online, diffusion):
    other = generators.create("unconditional-diffusion", scale="smoke", num_snapshots=0, num_steps=1)
    other.fit(splits.train)
    settings = [{}, {"sampling": "equal"}, {"num_images": 9}, {"temperature": 0.5}, {"refresh": 2}]
    policies = [online(**setting) for setting in (*settings, {"leaking_accuracies": splits.test})]
    policies += [replace(online(), diffusion=other), replace(online(), guidance=Guidance(num_steps=3))]
    assert len({repr(policy.key()) for policy in (*policies, Plain(splits.train))}) == 9


def test_another_process_gets_the_same_policy(online):
    policy = pickle.loads(pickle.dumps(online()))
    assert policy.key() == online().key()
    assert torch.equal(new_batches(policy)(0)[0], new_batches(online())(0)[0])


def test_the_key_of_a_policy_that_does_not_follow_the_classifier_stays(splits):
    key = classifier_key(Plain(splits.train), splits.val, CONFIG, seed=0)
    assert key["policy"] == {"policy": "Plain", "pool": splits.train.fingerprint()}
    assert list(key) == ["version", "config", "policy", "val", "seed"]


def test_a_diffusion_of_another_size_needs_a_classifier_that_resizes(splits, diffusion):
    larger = make_blobs(32, 0, image_size=24)
    policy = OnlineSynthesis(larger, diffusion, Guidance(num_steps=2), num_images=8)
    with pytest.raises(ValueError, match=r"draws images of 16 px, the real ones have 24 px.*input_size"):
        new_batches(policy)
    classifier = Classifier(build_network(CONFIG, 2, 1), replace(CONFIG, input_size=32))
    batches = policy.adaptive_batches(classifier, 0, steps_per_epoch=5)
    assert batches(0)[0].shape == (8, 1, 24, 24)


def test_offline_images_are_as_many_of_all_classes_alike_and_stay(splits, diffusion):
    classifier = Classifier(build_network(CONFIG, 2, 1), CONFIG)
    given = (splits.train, diffusion, classifier, Guidance(num_steps=2))
    policy = offline_synthesis(*given, seed=0, num_images=8)
    assert type(policy) is Plain
    assert policy.pool.class_counts().tolist() == [20, 20]
    assert (policy.pool.images[:32] == splits.train.images).all()
    again = offline_synthesis(*given, seed=0, num_images=8)
    assert policy.key() == again.key()


def test_the_order_of_online_batches_is_that_of_as_many_fixed_images(splits, online, diffusion):
    classifier = Classifier(build_network(CONFIG, 2, 1), CONFIG)
    given = (splits.train, diffusion, classifier, Guidance(num_steps=2))
    offline = offline_synthesis(*given, seed=0, num_images=8).batches(8, seed=0)
    batches = new_batches(online(sampling="equal"))
    for step in range(4):
        (images, labels), (fixed, fixed_labels) = batches(step), offline(step)
        same = (images == fixed).flatten(1).all(dim=1)
        assert 0 < same.sum() <= 8  # the real ones
        assert torch.equal(labels, fixed_labels)


def other_labels(images):
    return replace(images, labels=1 - images.labels)


def test_held_out_images_change_nothing(splits, online):
    """Not the diffusion, which is fitted to training images alone, nor what it is guided to draw, nor how much."""
    policy, synthetic, traces = online(), [], []
    for val in (splits.val, other_labels(splits.val), make_blobs(12, 7)):
        batches = new_batches(policy)
        classifier = train_classifier(policy, val, CONFIG, seed=0, epoch_images=32)
        batches(0)
        synthetic.append(batches.state_dict()["images"])
        traces.append(classifier.trace.drop(columns=SECONDS))
    assert torch.equal(synthetic[0], synthetic[2])
    for trace in traces[1:]:
        pd.testing.assert_frame_equal(traces[0], trace)


def test_the_published_accuracies_leak_and_say_so(splits, online, monkeypatch):
    policy = online(leaking_accuracies=splits.test)
    asked = readings(monkeypatch, [0.9, 0.1], [0.2, 0.6])
    fit(policy, splits)
    for images in asked:
        assert (images.images[:32] == splits.train.images).all()
        assert (images.images[32:44] == splits.test.images).all()
        assert set(images.groups[44:]) == {"synthetic"}
        assert 0 < len(images) - 44 <= 8
        assert images.images[44:].std(axis=(1, 2, 3)).all()  # drawn, not empty


def test_the_audit_records_what_leaks_on_purpose_and_stops_what_leaks_otherwise(splits, online):
    audit = LeakAudit(splits)
    arms = [{"ois": online(), "published": online(leaking_accuracies=splits.test)}]
    TrainedArms(arms, splits, CONFIG, audit, seeds=[0], max_steps=1)
    leaking = [seen for seen in audit.seen if "test" in seen["allowed"]]
    assert [seen["user"] for seen in leaking] == ["classifier published (generator seed 0, leaking accuracies)"]
    assert leaking[0]["fingerprint"] == splits.test.fingerprint()
    with pytest.raises(LeakError, match="classifier ois"):
        TrainedArms([{"ois": replace(online(), pool=splits.test)}], splits, CONFIG, audit, seeds=[0])
