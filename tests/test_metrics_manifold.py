"""Precision and recall, density and coverage: hand-made cases, agreement with torch-fidelity and with full matrices."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from nbutils import metrics
from nbutils.metrics import manifold

METRICS = (metrics.precision_recall, metrics.density_coverage)


def cloud(count, seed, size=8, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (count, size))


def full_matrices(generated, real, k):
    """All four values from full matrices of differences: slow, plain, exact for whole numbers."""

    def squared(x, y):
        return ((x[:, None] - y[None]) ** 2).sum(axis=2)

    radius_generated, radius_real = (np.sort(squared(x, x), axis=1)[:, k] for x in (generated, real))
    between = squared(generated, real)
    inside = between <= radius_real
    recalled = (between <= radius_generated[:, None]).any(axis=0)
    return inside.any(axis=1).mean(), recalled.mean(), inside.sum() / (k * len(generated)), inside.any(axis=0).mean()


def ours(generated, real, k):
    return *metrics.precision_recall(generated, real, k), *metrics.density_coverage(generated, real, k)


def test_balls_on_a_line_worked_by_hand():
    real = np.array([[0.0], [1.0], [3.0]])  # balls of radius 1, 1 and 2: -1..1, 0..2, 1..5
    generated = np.array([[-1.5], [0.5], [1.5], [4.5], [9.0]])  # radius 2, 1, 1, 3, 4.5: balls -3.5..0.5, -0.5..1.5 ...
    assert metrics.precision_recall(generated, real, k=1) == (3 / 5, 1.0)
    assert metrics.density_coverage(generated, real, k=1) == ((0 + 2 + 2 + 1 + 0) / 5, 1.0)
    assert metrics.precision_recall(generated[:2], real, k=1) == (1 / 2, 2 / 3)  # balls -3.5..0.5 and -1.5..2.5
    assert metrics.density_coverage(generated[:2], real, k=1) == (2 / 2, 2 / 3)


@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_agree_with_torch_fidelity(k):
    generated, real = cloud(700, 0, shift=0.3), cloud(600, 1, scale=1.3)
    sides = [torch.from_numpy(features) for features in (generated, real)]
    expected = prc_features_to_metric(*sides, prc_neighborhood=k, verbose=False)
    precision, recall = metrics.precision_recall(generated, real, k)
    assert 0.1 < recall < precision < 0.99
    assert precision == pytest.approx(expected["precision"], abs=1e-6)  # float32 there
    assert recall == pytest.approx(expected["recall"], abs=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_all_values_agree_with_full_matrices(k):
    generated, real = cloud(300, 0, shift=0.3), cloud(200, 1, scale=1.3)
    assert ours(generated, real, k) == pytest.approx(full_matrices(generated, real, k), abs=1e-12)


def test_copies_on_the_border_of_balls_count_as_inside():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 4, (300, 5))  # on a grid: nearly every distance occurs many times
    generated = rng.integers(0, 4, (250, 5)) + np.array([2, 0, 0, 0, 0])
    expected = full_matrices(generated, real, 5)
    assert all(0.05 < value < 0.95 for value in expected)
    assert ours(0.1 * generated + 12.3, 0.1 * real + 12.3, 5) == pytest.approx(expected, abs=1e-12)


def test_tight_clusters_far_apart_are_told_apart():
    places = np.where(np.arange(300) % 2, 1.0, -1.0)[:, None]  # float32 cannot see the distances within a cluster
    generated, real = places + cloud(300, 0, shift=1e-3, scale=1.5e-3), places + cloud(300, 1, scale=1.3e-3)
    expected = full_matrices(generated, real, 5)
    assert all(0.05 < value < 0.95 for value in expected[:2])
    assert ours(generated, real, 5) == pytest.approx(expected, abs=1e-12)


def test_images_that_are_all_the_same_lie_in_balls_without_extent():
    same = np.full((8, 3), 0.5)
    assert metrics.precision_recall(same, same) == (1, 1)
    assert metrics.precision_recall(same + 0.1, same) == (0, 0)


def test_a_set_lies_in_itself():
    features = cloud(100, 0)
    assert metrics.precision_recall(features, features) == (1, 1)
    density, coverage = metrics.density_coverage(features, features)
    assert (density, coverage) == (pytest.approx(6 / 5), 1)  # the five nearest and the image itself


def test_values_of_the_same_distribution():
    precision, recall = metrics.precision_recall(cloud(600, 0), cloud(600, 1))
    density, coverage = metrics.density_coverage(cloud(600, 0), cloud(600, 1))
    assert min(precision, recall) > 0.85
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)  # Naeem et al. 2020: 1 - 2^-k at equal numbers


def test_mode_collapse_leaves_precision_and_takes_recall():
    real, collapsed = cloud(400, 0), cloud(400, 1, scale=0.05)
    precision, recall = metrics.precision_recall(collapsed, real)
    assert (precision, recall) == (1, pytest.approx(0, abs=0.01))
    assert metrics.precision_recall(real, collapsed) == (recall, precision)
    density, coverage = metrics.density_coverage(collapsed, real)
    assert density > 1.5 > 0.5 > coverage


def test_noise_leaves_recall_and_takes_precision():
    precision, recall = metrics.precision_recall(cloud(400, 1, scale=4), cloud(400, 0))
    assert recall > 0.9 > 0.1 > precision


def test_one_outlier_lifts_recall_but_not_coverage():
    real, collapsed = cloud(400, 0), cloud(400, 1, scale=0.05)
    collapsed[:6] = cloud(6, 2, scale=6)
    assert metrics.precision_recall(collapsed, real)[1] > 0.5
    assert metrics.density_coverage(collapsed, real)[1] < 0.5


@pytest.mark.parametrize("block", [4, 37, 1000])
def test_the_size_of_the_blocks_and_the_order_of_images_do_not_matter(block, monkeypatch):
    generated, real = cloud(150, 0, shift=0.5), cloud(120, 1)
    generated[::7] = real[: len(generated[::7])]  # copies
    expected = ours(generated, real, 5)
    monkeypatch.setattr(manifold, "BLOCK", block)
    orders = (np.random.default_rng(seed).permutation(len(x)) for seed, x in enumerate((generated, real)))
    shuffled = [x[order] for x, order in zip((generated, real), orders, strict=True)]
    assert ours(generated, real, 5) == expected
    assert ours(*shuffled, 5) == expected


def test_values_do_not_depend_on_where_the_features_lie():
    generated, real = cloud(200, 0, shift=0.5), cloud(200, 1)
    assert ours(generated + 1e7, real + 1e7, 5) == pytest.approx(ours(generated, real, 5), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_unusable_features_are_refused_in_one_line(metric):
    good, bad = cloud(9, 0, size=4), cloud(9, 1, size=4)
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"with k = 5 needs at least 6 images on each side, found 9 .* and 5 real\.$"):
        metric(good, good[:5])
    assert len(metric(good[:6], good[:6])) == 2
    with pytest.raises(ValueError, match="found 0 generated and 9 real"):
        metric(good[:0], good)
    with pytest.raises(ValueError, match="found 4 columns generated and 3 real"):
        metric(good, good[:, :3])
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 9 generated rows"):
        metric(bad, good)
    with pytest.raises(ValueError, match="needs k of at least 1, found 0"):
        metric(good, good, k=0)
