"""Fréchet and kernel distance: closed forms, agreement with torch-fidelity and scipy, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from nbutils import metrics
from nbutils.metrics import fidelity

DISTANCES = (metrics.frechet_distance, metrics.kernel_distance)


def cloud(count, size, seed, shift=0.0, scale=1.0):
    """Correlated, skewed features (count, size): what extractors give is not a standard normal."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size)) / size**0.5
    return shift + scale * np.maximum(rng.normal(size=(count, size)) @ mixing, -0.5)


def exact_sample(mean, root, count=40):
    """Points (count, D) whose sample mean is exactly `mean` and whose unbiased covariance is root.T @ root."""
    points = np.random.default_rng(0).normal(size=(count, len(mean)))
    white, _ = np.linalg.qr(points - points.mean(axis=0))
    return mean + white * (count - 1) ** 0.5 @ root


def frechet_of_torch_fidelity(generated, real):
    statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (generated, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def frechet_by_matrix_root(generated, real):
    ours, theirs = np.cov(generated, rowvar=False), np.cov(real, rowvar=False)
    shift = generated.mean(axis=0) - real.mean(axis=0)
    return shift @ shift + np.trace(ours + theirs - 2 * sqrtm(ours @ theirs).real)


def kernel_of_torch_fidelity(generated, real, size, subsets, seed=0):
    sides = [torch.from_numpy(features) for features in (generated, real)]
    options = {"kid_subset_size": size, "kid_subsets": subsets, "rng_seed": seed, "verbose": False}
    return kid_features_to_metric(*sides, **options)["kernel_inception_distance_mean"]


@pytest.mark.parametrize(("n", "m", "size"), [(90, 70, 12), (20, 25, 40), (20, 300, 40), (300, 20, 40)])
def test_frechet_agrees_with_torch_fidelity_and_with_the_matrix_root(n, m, size):
    generated, real = cloud(n, size, 0, shift=0.1), cloud(m, size, 1, scale=1.2)
    found = metrics.frechet_distance(generated, real)
    assert found == pytest.approx(frechet_of_torch_fidelity(generated, real), rel=1e-6)
    assert found == pytest.approx(frechet_by_matrix_root(generated, real), rel=1e-6)


def test_frechet_of_two_gaussians_in_closed_form():
    ours, theirs = np.diag([1.0, 2.0, 0.5]), np.diag([3.0, 2.0, 0.0])
    generated, real = exact_sample(np.array([1.0, 0.0, 0.0]), ours), exact_sample(np.array([0.0, 0.0, 2.0]), theirs)
    assert metrics.frechet_distance(generated, real) == pytest.approx(1 + 4 + (2**2 + 0 + 0.5**2), rel=1e-12)


def test_frechet_of_two_gaussians_whose_axes_differ():
    ours, theirs = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    product = ours.T @ ours @ theirs.T @ theirs
    root = (np.trace(product) + 2 * np.linalg.det(product) ** 0.5) ** 0.5  # trace of the root of a 2 x 2 matrix
    expected = (ours**2).sum() + (theirs**2).sum() - 2 * root
    generated, real = exact_sample(np.zeros(2), ours), exact_sample(np.zeros(2), theirs)
    assert metrics.frechet_distance(generated, real) == pytest.approx(expected, rel=1e-12)


def test_frechet_does_not_depend_on_whether_there_are_fewer_images_than_features():
    generated, real = cloud(60, 10, 0), cloud(50, 10, 1, shift=0.2)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 100)))
    wide = [features @ turn[:10] for features in (generated, real)]  # (N, 100), the same points in a larger space
    assert metrics.frechet_distance(*wide) == pytest.approx(metrics.frechet_distance(generated, real), rel=1e-10)


@pytest.mark.parametrize("count", [30, 300])
def test_frechet_of_a_set_with_itself_is_zero(count):
    features = cloud(count, 50, 0)
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-12 * features.var() * 50)


def test_kernel_agrees_with_torch_fidelity_on_all_pairs():
    generated, real = cloud(200, 30, 0, shift=0.1), cloud(200, 30, 1)
    expected = kernel_of_torch_fidelity(generated, real, size=200, subsets=1)
    assert metrics.kernel_distance(generated, real) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(101, 130), (12, 130), (130, 12)])
@pytest.mark.parametrize("seed", [0, 7])
def test_kernel_agrees_with_torch_fidelity_on_its_subsets(n, m, seed, monkeypatch):
    assert DEFAULTS["kid_subsets"] == fidelity.SUBSETS
    assert DEFAULTS["kid_subset_size"] == fidelity.SUBSET_SIZE
    monkeypatch.setattr(fidelity, "SUBSETS", 10)
    monkeypatch.setattr(fidelity, "SUBSET_SIZE", 100)
    generated, real = cloud(n, 6, 0, shift=0.1), cloud(m, 6, 1)
    expected = kernel_of_torch_fidelity(generated, real, size=min(100, n, m), subsets=10, seed=seed)
    assert metrics.kernel_distance(generated, real, seed=seed) == pytest.approx(expected, rel=1e-9)


def test_kernel_worked_by_hand_for_sets_of_different_size():
    generated, real = np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 3.0]])
    kernel = [[(sum(a * b for a, b in zip(x, y, strict=True)) / 2 + 1) ** 3 for y in real] for x in generated]
    among_generated = (2**3) + (3**3) + (2**3)  # x·y = 2, 4 and 2
    among_real = 2**3  # x·y = 2
    expected = 2 * among_generated / (3 * 2) + 2 * among_real / (2 * 1) - 2 * np.sum(kernel) / (3 * 2)
    assert metrics.kernel_distance(generated, real) == pytest.approx(expected, rel=1e-12)


def test_kernel_is_zero_on_average_for_the_same_distribution():
    values = [metrics.kernel_distance(cloud(40, 8, seed), cloud(60, 8, 1000 + seed)) for seed in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert min(values) < 0 < metrics.kernel_distance(cloud(40, 8, 0, shift=1), cloud(60, 8, 1))


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_symmetric_and_grow_with_the_shift_and_with_collapse(distance):
    real, other = cloud(400, 16, 0), cloud(400, 16, 1)
    assert distance(other, real) == pytest.approx(distance(real, other), rel=1e-9)
    assert distance(other, real) < distance(other + 0.1, real) < distance(other + 0.2, real)
    assert (
        distance(other, real) < distance(0.3 * other, real) < distance(0.01 * other, real)
    )  # ever fewer different ones


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("count", [5, 100])
def test_the_order_of_images_and_the_precision_they_come_in_do_not_matter(distance, count):
    generated, real = (cloud(count, 6, seed).astype(np.float32) for seed in (0, 1))
    order = np.random.default_rng(0).permutation(count)
    expected = distance(generated.astype(np.float64), real.astype(np.float64))
    assert distance(generated[order], real) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [100, 1001])
def test_kernel_does_not_depend_on_the_size_of_the_blocks(count, monkeypatch):
    generated, real = cloud(count, 6, 0), cloud(count, 6, 1)
    expected = metrics.kernel_distance(generated, real)
    monkeypatch.setattr(fidelity, "BLOCK", 37)
    assert metrics.kernel_distance(generated, real) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
def test_unusable_features_are_refused_in_one_line(distance):
    good, bad = cloud(9, 4, 0), cloud(9, 4, 1)
    bad[[2, 5], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"needs at least 2 images on each side, found 1 generated and 9 real\.$"):
        distance(good[:1], good)
    with pytest.raises(ValueError, match="at least 2 images on each side, found 9 generated and 0 real"):
        distance(good, good[:0])
    with pytest.raises(ValueError, match="features of one extractor, found 3 columns generated and 4 real"):
        distance(good[:, :3], good)
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 9 real rows"):
        distance(good, bad)
    with pytest.raises(ValueError, match=r"takes features \(N, D\), found generated ones of shape \(9, 2, 2\)"):
        distance(good.reshape(9, 2, 2), good)
