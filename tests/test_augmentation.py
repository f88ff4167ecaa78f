"""nbutils.augmentation: what the policies make of real and synthetic images."""

import numpy as np
import pytest
import torch
from conftest import make_blobs

from nbutils.augmentation import (
    AugMix,
    GenMix,
    MixUp,
    Plain,
    append,
    labels_for_share,
    labels_to_fill,
    repeated,
    table_arms,
    total_to_fill,
)
from nbutils.images import ImageSet


def constant(value, count=40, label=0):
    images = np.full((count, 1, 16, 16), value, np.uint8)
    return ImageSet(images, np.full(count, label), ("a", "b"), [f"{value}-{i}" for i in range(count)], name=str(value))


def test_genmix_weighs_the_synthetic_side_by_beta_alpha_1():
    white, black = constant(255, label=1), constant(0, label=0)
    torch.manual_seed(0)
    images, targets = GenMix(white, real=black, alpha=0.3).batches(4000, seed=0)(0)
    weights = (images[:, 0, 0, 0] + 1) / 2  # 1 = all synthetic
    assert torch.allclose(weights, targets[:, 1], atol=1e-5)
    assert weights.mean().item() == pytest.approx(0.3 / 1.3, abs=0.02)  # the mean of Beta(a, 1) is a / (a + 1)
    assert weights.square().mean().item() == pytest.approx(0.3 / 2.3, abs=0.02)  # its second moment a / (a + 2)
    assert len(weights.unique()) > 3900  # a lambda for each image


def test_genmix_from_the_mixed_pool_also_mixes_real_with_real():
    real, synthetic = constant(0), constant(255, label=1)
    arms = table_arms(real, {"g": synthetic}, alpha=0.3)
    assert sorted(set(arms["genmix(g)"].pool.groups)) == sorted([*real.groups, *synthetic.groups])
    only = table_arms(real, {"g": synthetic}, alpha=0.3, mix_from="synthetic")["genmix(g)"]
    assert only.pool is synthetic
    assert only.key() != arms["genmix(g)"].key()


def test_the_arms_are_those_of_table_1():
    arms = table_arms(make_blobs(8, 0), {"dcgan": make_blobs(8, 1), "diffusion": make_blobs(8, 2)}, alpha=0.3)
    assert list(arms) == ["real", "mixup", "augmix", "dcgan", "diffusion", "genmix(dcgan)", "genmix(diffusion)"]
    with pytest.raises(ValueError, match="Unknown value of mix_from 'real'"):
        table_arms(make_blobs(8, 0), {}, alpha=0.3, mix_from="real")


@pytest.mark.parametrize(("share", "expected"), [(0.5, [30, 30]), (0.4, [20, 20]), (0.75, [90, 90])])
def test_the_share_is_that_of_synthetic_images_in_the_pool(blobs, share, expected):
    labels = labels_for_share(blobs, share)
    assert np.bincount(labels).tolist() == expected


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_an_impossible_share_is_refused(blobs, share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        labels_for_share(blobs, share)


@pytest.mark.parametrize(("total", "expected"), [(50, [20, 20]), (31, [1, 1])])
def test_classes_are_filled_up_to_a_total(blobs, total, expected):
    assert np.bincount(labels_to_fill(blobs, total)).tolist() == expected


def test_a_full_class_gets_no_synthetic_image():
    real = append(constant(0, count=8, label=0), constant(9, count=3, label=1))
    assert labels_to_fill(real, 5).tolist() == [1, 1]
    with pytest.raises(ValueError, match="filled up to 3 images already have 8, 3: ask for more"):
        labels_to_fill(real, 3)


def test_where_all_classes_are_full_the_smallest_is_doubled():
    real = append(constant(0, count=8, label=0), constant(9, count=3, label=1))
    assert [total_to_fill(real, total) for total in (5, 4, 3, 2)] == [5, 4, 6, 6]


def test_plain_targets_are_one_hot_and_images_are_untouched(blobs):
    images, targets = Plain(blobs).batches(60, seed=0)(0)
    assert targets.sum(dim=1).eq(1).all()
    assert targets.max(dim=1).values.eq(1).all()
    assert torch.isclose(images.mean(), torch.from_numpy(blobs.images).float().mean() / 127.5 - 1, atol=1e-5)


def test_mixup_mixes_labels_as_it_mixes_images():
    both = append(constant(0, label=0), constant(255, label=1))
    torch.manual_seed(0)
    images, targets = MixUp(both, alpha=1.0).batches(80, seed=0)(0)
    assert torch.allclose((images[:, 0, 0, 0] + 1) / 2, targets[:, 1], atol=1e-5)
    assert ((targets[:, 1] > 0.01) & (targets[:, 1] < 0.99)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_augmix_changes_images_but_not_labels(channels):
    images = make_blobs(16, seed=0, channels=channels)
    plain, labels = Plain(images).batches(16, seed=0)(0)
    mixed, targets = AugMix(images).batches(16, seed=0)(0)
    assert mixed.shape == plain.shape
    assert not torch.equal(mixed, plain)
    assert torch.equal(targets, labels)


def test_examples_are_the_same_for_the_same_seed(blobs):
    policy = GenMix(blobs, real=blobs, alpha=0.3)
    assert np.array_equal(policy.examples(10, seed=1)[0], policy.examples(10, seed=1)[0])
    assert not np.array_equal(policy.examples(10, seed=1)[0], policy.examples(10, seed=2)[0])
    assert len(policy.example_set(10, seed=1)) == 10


def test_real_images_are_repeated_as_often_as_each_other():
    real = make_blobs(10, seed=0)
    labels = np.repeat([0, 1], [13, 2])
    copies = repeated(real, labels, seed=0)
    assert copies.labels.tolist() == labels.tolist()
    _, counts = np.unique(copies.of_class(0).hashes(), return_counts=True)
    assert set(copies.hashes()) <= set(real.hashes())
    assert counts.max() - counts.min() <= 1
    assert copies.fingerprint() != repeated(real, labels, seed=1).fingerprint()
    with pytest.raises(ValueError, match="no image of"):
        repeated(real.of_class(0), [1], seed=0)
