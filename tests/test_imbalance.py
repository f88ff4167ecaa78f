"""nbutils.imbalance: the equations by hand, and what the policies draw."""

import numpy as np
import pytest
import torch
from conftest import make_blobs
from torch.nn.functional import cross_entropy, one_hot

from nbutils.augmentation import Plain
from nbutils.imbalance import (
    Oversampling,
    ProgressiveSampling,
    SquareRootSampling,
    accuracy_adaptive_counts,
    class_balanced_weights,
    focal_loss,
    progressive_sampling_probabilities,
    sqrt_sampling_probabilities,
)

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [-3.0, 1.0, 4.0], [0.0, -2.0, 1.0]])
LABELS = torch.tensor([0, 1, 0, 2])
WEIGHTS = torch.tensor([0.5, 2.0, 3.0])


def pool(frequent=90, rare=10):
    """Blobs of which the second class is rare."""
    blobs = make_blobs(2 * frequent, seed=0)
    return blobs.subset(np.r_[np.flatnonzero(blobs.labels == 0), np.flatnonzero(blobs.labels == 1)[:rare]])


def drawn_shares(policy, steps, batch_size=500):
    """Return the share of each class among what a policy draws in some steps."""
    batches = policy.batches(batch_size, seed=0)
    return torch.cat([batches(step)[1] for step in steps]).mean(dim=0).numpy()


def test_the_classes_read_worst_get_the_most_images():
    accuracies = np.array([0.9, 0.5, 0.1])
    shares = np.exp(1 - accuracies) / np.exp(1 - accuracies).sum()
    counts = accuracy_adaptive_counts(accuracies, total=10_000)
    assert counts.sum() == 10_000
    np.testing.assert_allclose(counts / 10_000, shares, atol=1e-4)
    sharper = accuracy_adaptive_counts(accuracies, total=10_000, temperature=0.5)
    np.testing.assert_allclose(sharper / 10_000, shares**2 / (shares**2).sum(), atol=1e-4)


@pytest.mark.parametrize("total", [0, 1, 6, 2000, 2001])
def test_no_image_is_lost_by_rounding(total):
    counts = accuracy_adaptive_counts([0.93, 0.4, 0.71, 0.3, 0.88, 0.12, 0.55], total)
    assert counts.dtype == np.int64
    assert counts.sum() == total


def test_what_is_left_over_goes_to_the_largest_remainders():
    shares = np.array([0.44, 0.30, 0.26])  # of 10 images: 4.4, 3.0, 2.6
    accuracies = -np.log(shares) / 2  # whose softmax at temperature 0.5 they are
    assert accuracy_adaptive_counts(accuracies, 10, temperature=0.5).tolist() == [4, 3, 3]


def test_before_the_first_epoch_equal_accuracies_give_equal_counts():
    assert accuracy_adaptive_counts([0.5] * 4, 600).tolist() == [150] * 4
    assert accuracy_adaptive_counts([0.0] * 4, 602).tolist() == [151, 151, 150, 150]


@pytest.mark.parametrize("wrong", [[0.5, 75.0], [-0.1, 0.5], [0.5, np.nan]])
def test_accuracies_that_are_no_fractions_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fractions from 0 to 1, one for each class, found -?[\d.]+, "):
        accuracy_adaptive_counts(wrong, 10)


@pytest.mark.parametrize("wrong", [{"total": -1}, {"total": 5, "temperature": 0.0}])
def test_a_negative_total_and_a_temperature_of_zero_are_refused(wrong):
    with pytest.raises(ValueError, match="total must be 0 or more and temperature above 0"):
        accuracy_adaptive_counts([0.5, 0.5], **wrong)


def test_focal_loss_is_the_equation():
    p = LOGITS.softmax(dim=1)[torch.arange(4), LABELS]
    torch.testing.assert_close(focal_loss(LOGITS, LABELS), -((1 - p) ** 2 * p.log()).mean())
    weighted = -(WEIGHTS[LABELS] * (1 - p) ** 0.5 * p.log()).mean()
    torch.testing.assert_close(focal_loss(LOGITS, LABELS, gamma=0.5, class_weights=WEIGHTS), weighted)


def test_without_focus_it_is_cross_entropy_of_labels_and_of_mixtures():
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6], [0.5, 0.0, 0.5]])
    for targets in (LABELS, mixed):
        torch.testing.assert_close(focal_loss(LOGITS, targets, gamma=0.0), cross_entropy(LOGITS, targets))
    torch.testing.assert_close(focal_loss(LOGITS, LABELS), focal_loss(LOGITS, one_hot(LABELS).float()))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_certain_classifier_still_has_a_gradient(gamma):
    logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 1]), gamma).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].eq(0).all()
    assert logits.grad[1, 0] > 0


def test_class_balanced_weights_are_inverse_effective_numbers():
    effective = np.array([sum(0.9**i for i in range(count)) for count in (1, 3, 50)])  # a geometric series
    weights = class_balanced_weights([1, 3, 50], beta=0.9)
    np.testing.assert_allclose(weights, 3 / effective / (1 / effective).sum(), rtol=1e-6)
    assert class_balanced_weights([1, 3, 50], beta=0.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("beta", [1.0, -0.1])
def test_a_beta_without_effective_number_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be 0 or more and less than 1, found"):
        class_balanced_weights([1, 3], beta)


def test_square_root_sampling_takes_the_root_of_the_counts():
    np.testing.assert_allclose(sqrt_sampling_probabilities([900, 100]), [0.75, 0.25])


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, [0.9, 0.1]), (1, [0.8, 0.2]), (2, [0.7, 0.3]), (4, [0.5, 0.5]), (9, [0.5, 0.5])]
)
def test_progressive_sampling_goes_from_the_images_shares_to_equal_ones(epoch, expected):
    np.testing.assert_allclose(progressive_sampling_probabilities([900, 100], epoch, num_epochs=5), expected)


def test_a_single_epoch_of_progressive_sampling_is_as_the_images_are():
    np.testing.assert_allclose(progressive_sampling_probabilities([900, 100], 0, num_epochs=1), [0.9, 0.1])


@pytest.mark.parametrize(
    "function",
    [
        lambda counts: class_balanced_weights(counts, 0.9),
        sqrt_sampling_probabilities,
        lambda counts: progressive_sampling_probabilities(counts, 0, 2),
        lambda _: Oversampling(pool(rare=0)).batches(4, seed=0)(0),
    ],
)
def test_a_class_without_images_is_refused(function):
    with pytest.raises(ValueError, match=r"Every class needs training images to be weighed or drawn, found \d+, 0"):
        function([7, 0])


@pytest.mark.parametrize(("policy", "expected"), [(Plain, 0.1), (SquareRootSampling, 0.25), (Oversampling, 0.5)])
def test_classes_are_drawn_as_often_as_the_policy_says(policy, expected):
    assert drawn_shares(policy(pool()), range(20))[1] == pytest.approx(expected, abs=0.02)


def test_the_classes_of_progressive_sampling_change_with_the_epoch():
    policy = ProgressiveSampling(pool(), steps_per_epoch=20, num_epochs=3)
    shares = [drawn_shares(policy, range(20 * epoch, 20 * epoch + 20))[1] for epoch in range(3)]
    assert shares == pytest.approx([0.1, 0.3, 0.5], abs=0.02)


def test_all_images_of_a_class_are_drawn_alike_and_keep_their_labels():
    images = pool()
    drawn, targets = Oversampling(images).batches(4000, seed=0)(0)
    whole = torch.from_numpy(images.images).flatten(1).float() / 127.5 - 1
    matches = (torch.cdist(drawn.flatten(1), whole) < 1e-2).float()  # (4000, N)
    assert matches.sum(dim=1).eq(1).all()
    assert torch.equal(matches.argmax(dim=1) >= 90, targets[:, 1].bool())
    assert matches.mean(dim=0)[:90].numpy() == pytest.approx(0.5 / 90, abs=0.005)
    assert matches.mean(dim=0)[90:].numpy() == pytest.approx(0.5 / 10, abs=0.015)


def test_a_batch_depends_on_the_seed_and_its_number_alone():
    policy = SquareRootSampling(pool())
    batches, again = policy.batches(16, seed=1), policy.batches(16, seed=1)
    for step in range(3):
        batches(step)
    assert torch.equal(batches(7)[0], again(7)[0])
    assert not torch.equal(batches(7)[0], batches(8)[0])
    assert not torch.equal(batches(7)[0], policy.batches(16, seed=2)(7)[0])


def test_policies_that_draw_otherwise_have_other_keys():
    images = pool()
    progressive = [ProgressiveSampling(images, steps, epochs) for steps, epochs in ((4, 3), (5, 3), (4, 2))]
    policies = [Plain(images), Oversampling(images), SquareRootSampling(images), *progressive]
    assert len({repr(policy.key()) for policy in policies}) == len(policies)
