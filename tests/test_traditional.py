"""nbutils.traditional: each image is changed on its own, and only as far as asked."""

import numpy as np
import pytest
import torch
from conftest import make_blobs
from torch.nn.functional import interpolate

from nbutils.augmentation import Plain
from nbutils.papers import reported
from nbutils.traditional import Traditional, few_cases, geometric_changes, table_arms

STILL = {
    "flip": 0.0,
    "rotation": 0.0,
    "translation": 0.0,
    "scaling": 0.0,
    "gamma": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "noise": 0.0,
    "channel_dropout": 0.0,
}


def batch(policy, seed=0):
    torch.manual_seed(seed)
    return policy.batches(16, seed=0)(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_change_and_labels_do_not(channels):
    pool = make_blobs(16, seed=0, channels=channels)
    images, targets = batch(Traditional(pool))
    plain, expected = batch(Plain(pool))
    assert images.shape == plain.shape
    assert images.min() >= -1
    assert images.max() <= 1
    assert not torch.allclose(images, plain, atol=0.1)
    assert torch.equal(targets, expected)
    assert torch.equal(images, batch(Traditional(pool))[0])
    assert not torch.equal(images, batch(Traditional(pool), seed=1)[0])


def test_without_any_strength_nothing_changes():
    pool = make_blobs(16, seed=0, channels=3)
    torch.testing.assert_close(batch(Traditional(pool, **STILL))[0], batch(Plain(pool))[0], rtol=0, atol=1e-5)


def test_images_are_reduced_before_they_are_changed():
    pool = make_blobs(16, seed=0, channels=3)
    reduced = interpolate(batch(Plain(pool))[0], size=8, mode="bilinear", antialias=True)
    torch.testing.assert_close(batch(Traditional(pool, **STILL, input_size=8))[0], reduced, rtol=0, atol=1e-5)
    noisy = batch(Traditional(pool, **{**STILL, "noise": 0.2}, input_size=8))[0]
    assert (noisy - reduced).std() > 0.2  # 0.4 on a scale from -1 to 1, but for what is cut off; averaged it were 0.2


def test_each_image_is_changed_on_its_own():
    pool = make_blobs(2, seed=0).subset(np.zeros(16, int))
    images, _ = batch(Traditional(pool, **{**STILL, "brightness": 0.2}))
    assert len(images.mean((1, 2, 3)).unique()) > 8


@pytest.mark.parametrize(("channels", "empty"), [(1, 0), (3, 16)])
def test_a_channel_is_emptied_only_where_another_is_left(channels, empty):
    pool = make_blobs(16, seed=0, channels=channels)
    images, _ = batch(Traditional(pool, **{**STILL, "channel_dropout": 1.0}))
    assert int((images == -1).all(-1).all(-1).sum()) == empty


def test_the_key_holds_every_strength(blobs):
    policy = Traditional(blobs)
    assert {"policy": "Traditional", "pool": blobs.fingerprint()}.items() <= policy.key().items()
    assert all(Traditional(blobs, **{name: value}).key() != policy.key() for name, value in STILL.items())


def test_few_cases_are_one_in_ten_of_each_class():
    cases = make_blobs(80, 0)
    few = few_cases(cases)
    assert few.class_counts().tolist() == (cases.class_counts() // 10).tolist()
    assert set(few.groups) < set(cases.groups)
    with pytest.raises(ValueError, match="One in 10 of 19 cases cannot show 2 classes: num_cases must be 20 or more"):
        few_cases(make_blobs(19, 0))


def test_table_4_has_the_rows_of_the_paper():
    real, many = make_blobs(20, 0), [make_blobs(200, seed) for seed in (1, 2)]
    arms = table_arms(real, *many)
    assert set(arms) == set(reported("textual_inversion").query("item == 'Table 4'")["method"])
    sizes = {name: len(arm.pool) for name, arm in arms.items()}
    assert sizes == {
        "real": 20, "synthetic x1": 20, "synthetic x10": 200, "real + synthetic x1": 40,
        "real + synthetic x10": 220, "few-case x10": 200, "real + few-case x10": 220,
    }  # fmt: skip
    assert np.array_equal(arms["real + few-case x10"].pool.images[20:], many[1].images)


def ramp(count, size=64):
    """Images whose grey value rises from -1 at the left to 1 at the right."""
    return torch.linspace(-1, 1, size).expand(count, 1, size, size).clone()


def test_without_any_geometric_change_images_are_as_they_were():
    images = ramp(2)
    assert geometric_changes(crop=1.0, rotation=0.0, flip=0.0)(images) is images


def test_a_crop_is_a_window_anywhere_in_the_image():
    torch.manual_seed(0)
    cropped = geometric_changes(crop=0.5, rotation=0.0, flip=0.0)(ramp(400))
    left, right = cropped[:, 0, 32, 1], cropped[:, 0, 32, -2]
    torch.testing.assert_close(right - left, torch.ones(400), rtol=0, atol=0.06)  # half of the width, of 2 in all
    assert left.min().item() == pytest.approx(-1, abs=0.05)
    assert right.max().item() == pytest.approx(1, abs=0.05)
    assert left.mean().item() == pytest.approx(-0.5, abs=0.05)
    assert len(left.unique()) > 390


def test_images_are_rotated_up_to_the_angle_either_way():
    torch.manual_seed(0)
    rotated = geometric_changes(crop=1.0, rotation=30.0, flip=0.0)(ramp(400))
    across, down = (rotated[:, 0, 32, 40] - rotated[:, 0, 32, 24]), (rotated[:, 0, 40, 32] - rotated[:, 0, 24, 32])
    angles = torch.rad2deg(torch.atan2(down, across))
    assert angles.abs().max() <= 30.5
    assert angles.max() > 27
    assert angles.min() < -27
    assert (rotated[:, 0, 0, 0] == 0).any(), "corners from outside of the image are a medium grey"


def test_as_many_images_are_mirrored_as_asked_for():
    torch.manual_seed(0)
    images = ramp(400)
    mirrored = geometric_changes(crop=1.0, rotation=0.0, flip=0.25)(images)
    turned = (mirrored == images.flip(-1)).flatten(1).all(dim=1)
    assert ((mirrored == images).flatten(1).all(dim=1) | turned).all()
    assert turned.float().mean().item() == pytest.approx(0.25, abs=0.06)
