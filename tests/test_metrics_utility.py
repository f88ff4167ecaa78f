"""Metrics of utility, detection and the two-sample test: worked by hand, orientation, limits."""

import numpy as np
import pytest
from scipy import stats

from nbutils.metrics.detection import d_prime, exact_interval
from nbutils.metrics.manifold import precision_recall, precision_recall_over_k
from nbutils.metrics.two_sample import classifier_two_sample_test
from nbutils.metrics.utility import combined_p, mcnemar, rank_correlation


def gaussian(count, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, (count, 4))


def test_mcnemar_counts_only_images_on_which_two_classifiers_differ():
    right = np.array([True] * 6 + [False] * 1 + [True] * 50 + [False] * 9)
    reference = np.array([False] * 6 + [True] * 1 + [True] * 50 + [False] * 9)
    assert mcnemar(right, reference) == pytest.approx((6, 1, 2 * (1 + 7) / 2**7))  # by hand: both tails of 7 coins
    assert mcnemar(reference, right)[:2] == (1, 6)
    assert mcnemar(right, right) == (0, 0, 1.0)


def test_p_values_of_dependent_tests_make_one_that_is_twice_their_median():
    assert combined_p([0.001, 0.02, 0.3]) == pytest.approx(0.04)
    assert combined_p([0.9, 0.8]) == 1.0


def test_the_rank_correlation_has_the_exact_p_of_all_permutations():
    found = rank_correlation([1, 2, 3, 4, 5], [10, 20, 30, 50, 40])
    assert found == pytest.approx((0.9, 2 * 5 / 120, 5))  # rho of 1 once, of 0.9 four times among 120 permutations
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx((-1, 1 / 3, 3))


def test_pairs_without_a_number_are_left_out_and_too_few_or_constant_ones_tell_nothing():
    assert rank_correlation([1, 2, 3, 9], [1, 2, 3, np.nan]).n == 3
    assert np.isnan(rank_correlation([1, 2], [1, 2])[:2]).all()
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]).rho)


def test_many_pairs_have_the_p_of_random_permutations():
    x, y = gaussian(30, 0)[:, 0], gaussian(30, 1)[:, 0]
    found = rank_correlation(x, x + 2 * y)
    reference = stats.spearmanr(x, x + 2 * y)
    assert found.rho == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue, abs=0.02)


def test_the_exact_interval_of_ten_of_twelve():
    """The share of VQ-VAE-2 images spotted in Table I of the utility paper."""
    low, high = exact_interval(10, 12)
    assert stats.binom.sf(9, 12, low) == pytest.approx(0.025, abs=1e-6)
    assert stats.binom.cdf(10, 12, high) == pytest.approx(0.025, abs=1e-6)
    assert exact_interval(0, 12)[0] == 0
    assert exact_interval(12, 12)[1] == 1


def test_d_prime_is_zero_for_chance_and_finite_for_a_perfect_reader():
    assert d_prime(6, 12, 6, 12) == 0
    assert d_prime(2, 12, 6, 12) < 0
    best = d_prime(12, 12, 0, 10)
    assert best == pytest.approx(stats.norm.ppf(12.5 / 13) - stats.norm.ppf(0.5 / 11))
    many = d_prime(8413, 10000, 5000, 10000)  # one standard deviation above the mean, against the mean
    assert many == pytest.approx(1, abs=1e-3)


def test_what_comes_from_elsewhere_is_told_apart_and_what_does_not_is_not():
    far = classifier_two_sample_test(gaussian(60, 0, shift=2), gaussian(40, 1))
    assert far.n == 80  # as many of each side
    assert far.accuracy > 0.9
    assert far.p == pytest.approx(stats.binom.sf(round(80 * far.accuracy) - 1, 80, 0.5))
    same = classifier_two_sample_test(gaussian(60, 0), gaussian(60, 1))
    assert same.accuracy == pytest.approx(0.5, abs=0.15)
    assert same.p > 0.05


def test_permutations_need_no_independence_and_have_a_p_of_their_own():
    far = classifier_two_sample_test(gaussian(20, 0, shift=2), gaussian(20, 1), permutations=19)
    assert far.p == pytest.approx(1 / 20)
    with pytest.raises(ValueError, match="two-sample test needs at least 5 images on each side, found 4 generated"):
        classifier_two_sample_test(gaussian(4, 0), gaussian(20, 1))


def test_precision_and_recall_over_k_are_those_of_each_k():
    ours, theirs = gaussian(30, 0, shift=1), gaussian(30, 1)
    found = precision_recall_over_k(ours, theirs, (1, 5, 10))
    assert found == {k: precision_recall(ours, theirs, k) for k in (1, 5, 10)}
    assert [found[k][0] for k in (1, 5, 10)] == sorted(found[k][0] for k in (1, 5, 10))
    assert found[1] != found[10]
