"""Adaptive augmentation: exact cases of the warps and colours, second derivatives, feedback."""

from math import pi

import pytest
import torch
import torch.nn.functional as F

from nbutils.models.ada import (
    SYM6,
    AdaptiveProbability,
    _GridSample,
    _rotation,
    _scaling,
    _translation,
    _warp,
    augment,
    recolour,
    sample_colour,
    sample_geometry,
    warp,
)


@pytest.fixture
def smooth():
    """Four smooth grey images of 32 px."""
    coarse = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=32, mode="bicubic")


def constant(value, count=4):
    return torch.full((count,), float(value))


def test_sym6_is_orthonormal():
    taps = torch.tensor(SYM6, dtype=torch.float64)
    products = [(taps[2 * k :] * taps[: len(taps) - 2 * k]).sum().item() for k in range(6)]
    assert products == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-9)
    assert taps.sum().item() == pytest.approx(2**0.5)


def test_nothing_changes_at_zero_probability():
    images = torch.rand(3, 3, 16, 16)
    assert augment(images, 0.0) is images
    assert torch.equal(sample_geometry(3, 0.0, 16), torch.eye(3).expand(3, 3, 3))
    assert torch.equal(sample_colour(3, 0.0, hue=True), torch.eye(4).expand(3, 4, 4))


@pytest.mark.parametrize("channels", [1, 3])
def test_doubling_and_halving_without_a_warp_change_nothing(channels):
    noise = torch.randn(4, channels, 32, 32)
    torch.testing.assert_close(_warp(noise, torch.eye(3).repeat(4, 1, 1)), noise, atol=1e-4, rtol=0)


def test_translation_by_whole_pixels_is_exact(smooth):
    moved = warp(smooth, _translation(constant(3), constant(-2)))  # right and up
    torch.testing.assert_close(moved[:, :, :-2, 3:], smooth[:, :, 2:, :-3], atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[:, :, :-2, 0], smooth[:, :, 2:, 3], atol=0.2, rtol=0)  # mirrored beyond the border


def test_mirroring_and_quarter_turns(smooth):
    mirrored = warp(smooth, _scaling(constant(-1), constant(1)))
    torch.testing.assert_close(mirrored, smooth.flip(3), atol=0.1, rtol=0)
    turned = warp(smooth, _rotation(constant(pi / 2)))
    torch.testing.assert_close(turned, torch.rot90(smooth, -1, (2, 3)), atol=0.1, rtol=0)


def test_scaling_by_two_enlarges_the_centre(smooth):
    enlarged = warp(smooth, _scaling(constant(2), constant(2)))
    expected = F.interpolate(smooth[:, :, 8:24, 8:24], size=32, mode="bicubic")
    torch.testing.assert_close(enlarged[:, :, 4:-4, 4:-4], expected[:, :, 4:-4, 4:-4], atol=0.2, rtol=0)


def test_untouched_images_are_passed_by_exactly(smooth):
    geometry = torch.eye(3).repeat(4, 1, 1)
    geometry[1, 0, 2] = 5
    moved = warp(smooth, geometry)
    assert [torch.equal(a, b) for a, b in zip(moved, smooth, strict=True)] == [True, False, True, True]


def test_flips_and_turns_are_unbiased_at_full_probability():
    torch.manual_seed(0)
    geometry = sample_geometry(4000, 1.0, 32)
    determinants = torch.linalg.det(geometry[:, :2, :2])
    assert (determinants < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert geometry[:, :2, 2].mean().abs() < 0.5
    assert determinants.abs().log2().std().item() == pytest.approx(2 * 0.2, rel=0.1)  # area = isotropic scale squared


def test_the_two_rotations_together_have_probability_p():
    torch.manual_seed(0)
    linear = sample_geometry(4000, 0.3, 32)[:, :2, :2]
    # without rotation every entry of the matrix is on the diagonal or, after a quarter turn, off it
    turned = ((linear[:, 0, 0].abs() > 1e-5) & (linear[:, 0, 1].abs() > 1e-5)).float().mean().item()
    assert turned == pytest.approx(0.3, abs=0.03)


def test_grid_sampling_has_right_first_and_second_derivatives():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    grid = torch.rand(2, 4, 3, 2, dtype=torch.float64, generator=generator) * 2.4 - 1.2
    assert torch.autograd.gradcheck(lambda x: _GridSample.apply(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: _GridSample.apply(x, grid).sin(), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_pipeline_is_differentiable_twice(channels):
    torch.manual_seed(0)
    images = torch.randn(4, channels, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(augment(images, 1.0).square().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().sum() > 0


def test_each_image_has_parameters_of_its_own():
    torch.manual_seed(0)
    images = torch.rand(1, 1, 16, 16).expand(6, 1, 16, 16)
    augmented = augment(images, 1.0)
    assert len({round(image.sum().item(), 3) for image in augmented}) == 6


def test_colour_transforms_keep_grey_grey_and_turn_hues():
    torch.manual_seed(0)
    grey = torch.rand(8, 1, 4, 4).expand(8, 3, 4, 4)
    torch.manual_seed(1)
    of_rgb = recolour(grey, sample_colour(8, 1.0, hue=True))
    torch.testing.assert_close(of_rgb[:, :1].expand_as(of_rgb), of_rgb, atol=1e-5, rtol=1e-5)
    torch.manual_seed(1)
    of_grey = recolour(grey[:, :1], sample_colour(8, 1.0, hue=False))
    torch.testing.assert_close(of_grey, of_rgb[:, :1], atol=1e-5, rtol=1e-5)
    coloured = torch.zeros(8, 3, 1, 1)
    coloured[:, 0] = 1
    assert (recolour(coloured, sample_colour(8, 1.0, hue=True)).std(dim=1) > 0.05).all()


def test_luma_is_flipped_in_half_of_the_images():
    torch.manual_seed(0)
    colour = sample_colour(4000, 1.0, hue=False)
    assert (colour[:, :3, :3].sum(dim=(1, 2)) < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_probability_rises_when_the_discriminator_is_too_sure():
    control = AdaptiveProbability(target=0.6, speed_kimg=1.0)
    sure, unsure = torch.ones(10), torch.tensor([1.0, -1.0] * 5)
    for _ in range(3):
        control.update(sure)
    assert control.p == 0
    control.update(sure)
    assert control.p == pytest.approx(40 / 1000)
    for _ in range(4):
        control.update(unsure)
    assert control.p == 0
    for _ in range(4):
        control.update(unsure)
    assert control.p == 0  # never below


def test_probability_never_exceeds_one_and_survives_a_restart():
    control = AdaptiveProbability(speed_kimg=0.02)
    for _ in range(9):
        control.update(torch.ones(10))
    assert control.p == 1
    other = AdaptiveProbability(speed_kimg=0.02)
    other.load_state_dict(control.state_dict())
    assert other.state_dict() == control.state_dict()
