"""DiffAugment: what each piece of a policy does, image by image, and that gradients pass."""

import pytest
import torch

from nbutils.models import diffaugment
from nbutils.models.diffaugment import POLICIES, brighten, contrast, cut_out, diff_augment, saturate, translate


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random_images(count=64, channels=3, size=16):
    return torch.rand(count, channels, size, size) * 2 - 1


def test_brightness_adds_one_number_of_half_at_most_to_each_image():
    images = random_images(1000)
    added = (brighten(images) - images).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-6, rtol=0)
    assert added[:, 0].min().item() == pytest.approx(-0.5, abs=0.01)
    assert added[:, 0].max().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("transform", "dims", "low", "high"), [(saturate, 1, 0.0, 2.0), (contrast, (1, 2, 3), 0.5, 1.5)]
)
def test_colours_are_spread_around_the_mean_by_one_factor_for_each_image(transform, dims, low, high):
    images = random_images(1000)
    mean = images.mean(dims, keepdim=True)
    changed = transform(images)
    torch.testing.assert_close(changed.mean(dims, keepdim=True), mean, atol=1e-5, rtol=0)
    factors = (changed - mean).abs().sum((1, 2, 3)) / (images - mean).abs().sum((1, 2, 3))
    torch.testing.assert_close(changed - mean, (images - mean) * factors[:, None, None, None], atol=1e-5, rtol=0)
    assert (factors.min().item(), factors.max().item()) == pytest.approx((low, high), abs=0.02)


def test_saturation_leaves_grey_images_as_they_are():
    images = random_images(channels=1)
    torch.testing.assert_close(saturate(images), images)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros():
    y, x = torch.meshgrid(torch.arange(1.0, 17), torch.arange(1.0, 17), indexing="ij")
    moved = translate(torch.stack([y, x]).expand(500, 2, 16, 16))
    shifts = torch.stack([y, x])[:, 8, 8] - moved[:, :, 8, 8]  # (500, 2), down and right
    assert {tuple(shift) for shift in shifts.int().tolist()} == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    for image, (down, right) in zip(moved, shifts.int().tolist(), strict=True):
        rows, columns = y - down, x - right
        inside = (rows >= 1) & (rows <= 16) & (columns >= 1) & (columns <= 16)
        assert torch.equal(image, torch.stack([rows, columns]) * inside)


@pytest.mark.parametrize("size", [16, 10])  # squares of an even and of an odd side
def test_cutout_zeroes_a_square_of_half_the_size(size):
    zeros = cut_out(torch.ones(2000, 2, size, size)) == 0
    assert torch.equal(zeros[:, 0], zeros[:, 1])
    rows, columns = zeros[:, 0].any(2), zeros[:, 0].any(1)  # (B, size)
    assert torch.equal(zeros[:, 0], rows[:, :, None] & columns[:, None, :])
    sides = rows.sum(1)
    assert sides.max() == size // 2
    assert sides.min() == size // 2 - size // 4  # the centre lies in the image, so half the square does
    assert ((rows[:, 1:] != rows[:, :-1]).sum(1) <= 2).all()  # in one piece
    assert rows.any(0).all()
    assert columns.any(0).all()


@pytest.mark.parametrize("policy", [("color",), ("translation",), ("cutout",), ("color", "translation", "cutout")])
def test_each_image_is_changed_on_its_own_and_gradients_pass(policy):
    images = random_images(1).repeat(8, 1, 1, 1).requires_grad_()
    augmented = diff_augment(images, policy)
    assert augmented.shape == images.shape
    assert len({tuple(image.flatten().tolist()) for image in augmented}) > 4
    augmented.square().sum().backward()
    assert (images.grad.flatten(1).abs().amax(1) > 0).all()


def test_a_policy_is_the_sum_of_its_pieces_in_order(monkeypatch):
    calls = []
    spies = {name: (lambda images, name=name: calls.append(name) or images,) for name in POLICIES}
    monkeypatch.setattr(diffaugment, "POLICIES", spies)
    images = random_images(2)
    assert diff_augment(images, ()) is images
    diff_augment(images, ("translation", "color"))
    assert calls == ["translation", "color"]
    with pytest.raises(ValueError, match=r"Unknown augmentation 'colour'.*Did you mean 'color'"):
        diff_augment(images, ("colour",))


def test_the_random_state_decides():
    images, drawn = random_images(4), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(diff_augment(images, tuple(POLICIES)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
