"""nbutils.metrics: hand-computed cases, orientation, limits."""

import numpy as np
import pytest

from nbutils.metrics.classification import auc, macro_f1, scores
from nbutils.metrics.manifold import precision_recall
from nbutils.metrics.memorisation import nearer_to_train, nearest, nearest_distances
from nbutils.metrics.variety import boundary_share, mean_shift, variety
from nbutils.papers import reported_value

NAMES = ("cyst", "hemangioma", "metastasis")
LABELS = np.repeat([0, 1, 2], [128, 30, 149])


def predictions(hits, misses):
    """Return predictions with `hits` right answers a class; the wrong ones go to the class of `misses`."""
    parts = [
        np.r_[np.full(right, label), np.full(total - right, wrong)]
        for label, (right, total, wrong) in enumerate(zip(hits, (128, 30, 149), misses, strict=True))
    ]
    return np.concatenate(parts)


def certain(predicted, num_classes):
    """Return probabilities of a classifier that is sure of every prediction."""
    return np.eye(num_classes)[predicted]


def test_scores_match_a_confusion_matrix_worked_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 2, 2, 2, 0, 2])
    found = scores(labels, certain(predicted, 3), NAMES)
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 3 / 4) / 3)
    assert found["sensitivity:hemangioma"] == pytest.approx(1 / 2)
    assert found["specificity:cyst"] == pytest.approx(5 / 6)
    assert found["published_specificity:cyst"] == pytest.approx(4 / 6)  # hits among the others: 1 + 3
    f1 = [2 * 3 / (4 + 4), 2 * 1 / (2 + 2), 2 * 3 / (4 + 4)]
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    truth, claimed = np.array([4, 2, 4]), np.array([4, 2, 4])
    independent = truth @ claimed
    assert found["mcc"] == pytest.approx((7 * 10 - independent) / (10**2 - independent))  # Gorodkin 2004


def test_the_published_specificity_is_the_one_of_the_papers_dcgan_row():
    found = scores(LABELS, certain(predictions(hits=(114, 8, 99), misses=(2, 0, 1)), 3), NAMES)
    for name in NAMES:
        for metric in ("sensitivity", "published_specificity"):
            printed = reported_value("genmix", "dcgan", f"{metric}:{name}")
            assert found[f"{metric}:{name}"] == pytest.approx(printed, abs=0.0006), (metric, name)
    assert found["accuracy"] == pytest.approx(reported_value("genmix", "dcgan", "accuracy"), abs=0.0006)
    assert found["specificity:cyst"] != pytest.approx(found["published_specificity:cyst"], abs=0.01)


def test_a_class_never_predicted_counts_zero_and_one_without_images_is_left_out():
    assert macro_f1(np.array([0, 0, 1, 1]), certain([0, 0, 0, 0], 2)) == pytest.approx((2 * 2 / 6 + 0) / 2)
    found = scores(np.array([0, 0, 1]), certain([0, 1, 1], 3), NAMES)
    assert np.isnan(found["sensitivity:metastasis"])
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)


def test_auc_counts_pairs_in_the_right_order():
    labels = np.array([0, 0, 1, 1, 1])
    positive = np.array([0.1, 0.6, 0.5, 0.7, 0.6])
    pairs = [(b > a) + 0.5 * (b == a) for a in positive[labels == 0] for b in positive[labels == 1]]
    assert auc(labels, np.stack([1 - positive, positive], 1)) == pytest.approx(np.mean(pairs))


def test_auc_is_the_mean_over_classes_and_leaves_out_those_without_images():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    by_hand = [0.75, 0.75]  # of 2 x 2 pairs each, three in order
    assert auc(np.array([0, 1, 1, 0]), probabilities) == pytest.approx(np.mean(by_hand))
    assert np.isnan(auc(np.zeros(4, int), probabilities))


def gaussian(count, seed, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (count, 4))


def test_the_mean_shift_is_measured_in_spreads():
    real = gaussian(20000, 0)
    assert mean_shift(real, real) == 0
    assert mean_shift(real + 1.0, real) == pytest.approx(
        2.0 / 2.0, rel=0.02
    )  # |(1,1,1,1)| = 2, root of 4 variances = 2


def test_boundary_points_are_those_between_the_classes():
    real = np.r_[gaussian(200, 0, shift=-3), gaussian(200, 1, shift=3)]
    labels = np.repeat([0, 1], 200)
    assert boundary_share(gaussian(100, 2, shift=-3), real, labels) == 0
    assert boundary_share(gaussian(100, 2, scale=0.3), real, labels) > 0.3


def test_variety_is_the_mean_over_the_classes_and_leaves_tiny_ones_out():
    real, labels = gaussian(100, 0), np.repeat([0, 1, 2], [50, 45, 5])
    ours, our_labels = gaussian(60, 1), np.repeat([0, 1, 2], [30, 25, 5])
    found = variety(ours, our_labels, real, labels)
    expected = [precision_recall(ours[:30], real[:50])[1], precision_recall(ours[30:55], real[50:95])[1]]
    assert found["recall"] == pytest.approx(np.mean(expected))
    assert np.isnan(variety(ours[55:], our_labels[55:], real, labels)["recall"])


def test_remembered_images_lie_nearer_to_train():
    train, test = gaussian(200, 1), gaussian(400, 2)
    remembered = nearer_to_train(train[:50] + 0.01, train, test)
    assert remembered.shape == (50,)
    assert remembered.mean() > 0.95
    fresh = nearer_to_train(gaussian(400, 3), train, test)
    assert fresh.mean() == pytest.approx(0.5, abs=0.08)
    assert (nearer_to_train(test, train, train) == 0.5).all(), "ties count half"


def test_the_nearest_is_the_nearest():
    points, real = gaussian(20, 1), gaussian(30, 2)
    by_hand = np.linalg.norm(points[:, None] - real[None], axis=2).min(1)
    np.testing.assert_allclose(nearest_distances(points, real), by_hand)


def test_the_nearest_real_points_come_in_order_with_their_rows():
    real = np.array([[0.0, 0.0], [3.0, 0.0], [10.0, 0.0]])
    distances, rows = nearest(np.array([[4.0, 0.0], [-1.0, 0.0]]), real, count=2)
    assert rows.tolist() == [[1, 0], [0, 1]]
    assert distances.tolist() == [[1.0, 4.0], [1.0, 4.0]]
    with pytest.raises(ValueError, match="n_neighbors"):
        nearest(real, real, count=4)
