"""StyleGAN2 networks: modulation against an explicit computation, shapes, filters, conditioning."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F

from nbutils.models.stylegan2 import ModulatedConv2d, ResidualBlock, StyleGAN2Discriminator, StyleGAN2Generator


def small_generator(num_classes=1, channels=1, image_size=32):
    return StyleGAN2Generator(num_classes, channels, image_size, z_dim=8, w_dim=8, mapping_layers=2, base=64, maximum=8)


def small_discriminator(num_classes=1, channels=1, image_size=32):
    return StyleGAN2Discriminator(num_classes, channels, image_size, w_dim=8, mapping_layers=2, base=64, maximum=8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [16, 32, 128])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_shapes(channels, image_size, num_classes):
    generator = small_generator(num_classes, channels, image_size)
    labels = torch.arange(4) % num_classes
    images = generator.synthesize(generator.random_styles(labels, mixing=0.9))
    assert images.shape == (4, channels, image_size, image_size)
    assert small_discriminator(num_classes, channels, image_size)(images, labels).shape == (4,)


def explicit_weights(layer, w):
    """Modulate and demodulate one kernel per image, as Eqs. 1 and 3 say."""
    style = layer.affine(w)
    weights = layer.weight * layer.weight_gain * style[:, None, :, None, None]  # (B, out, in, k, k)
    if layer.demodulate:
        weights = weights / (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return weights


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_equals_one_kernel_per_image(demodulate):
    layer = ModulatedConv2d(4, 6, 3, w_dim=5, demodulate=demodulate)
    x, w = torch.randn(3, 4, 8, 8), torch.randn(3, 5)
    weights = explicit_weights(layer, w)
    expected = torch.cat([F.conv2d(x[i : i + 1], weights[i], padding=1) for i in range(3)])
    torch.testing.assert_close(layer(x, w), expected, atol=1e-5, rtol=1e-5)


def test_doubling_is_zeros_in_between_then_convolution_then_bilinear_filter():
    layer = ModulatedConv2d(4, 6, 3, w_dim=5, double=True)
    x, w = torch.randn(2, 4, 8, 8), torch.randn(2, 5)
    weights = explicit_weights(layer, w).flip(3, 4)
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear")
    expected = torch.cat([F.conv2d(bilinear[i : i + 1], weights[i], padding=1) for i in range(2)])
    assert layer(x, w).shape == (2, 6, 16, 16)
    torch.testing.assert_close(layer(x, w)[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4, rtol=1e-4)


def test_demodulation_gives_unit_deviation_whatever_the_style():
    torch.manual_seed(0)
    layer = ModulatedConv2d(32, 64, 3, w_dim=16)
    y = layer(torch.randn(8, 32, 32, 32), 10 * torch.randn(8, 16))
    deviations = y[:, :, 1:-1, 1:-1].std(dim=(2, 3))
    torch.testing.assert_close(deviations, torch.ones_like(deviations), atol=0.15, rtol=0)


def test_styled_layers_apply_the_gain_of_leaky_relu():
    generator = small_generator()
    layer, x, w = generator.first, torch.randn(2, 8, 4, 4), torch.randn(2, 8)
    torch.nn.init.constant_(layer.noise_strength, 0.5)
    torch.nn.init.constant_(layer.bias, 0.3)
    noise = torch.randn(2, 1, 4, 4)
    plain = layer.conv(x, w) / layer.conv.gain
    expected = F.leaky_relu(plain + 0.5 * noise + 0.3, 0.2) * sqrt(2)
    torch.testing.assert_close(layer(x, w, noise), expected, atol=1e-5, rtol=1e-5)


def test_residual_block_halves_the_size_and_keeps_the_variance():
    torch.manual_seed(0)
    block, x = ResidualBlock(64, 64), torch.randn(8, 64, 32, 32)
    y = block(x)
    assert y.shape == (8, 64, 16, 16)
    assert 0.1 < y.square().mean() < 1.1  # white noise loses power in the low-pass filter


def test_output_and_next_convolution_share_a_style():
    generator = small_generator(image_size=16)
    assert generator.num_layers == 6
    assert generator.noise_sizes == [4, 8, 8, 16, 16]
    styles = torch.randn(1, 6, 8)
    noise = generator.split_noise(torch.randn(1, generator.num_noise))
    base = generator.synthesize(styles, noise)
    for layer in range(6):
        changed = styles.clone()
        changed[:, layer] += 1
        assert not torch.allclose(generator.synthesize(changed, noise), base)


def test_conditional_networks_use_the_label():
    generator, discriminator = small_generator(num_classes=2), small_discriminator(num_classes=2)
    z = torch.randn(1, 8)
    styles = [generator.styles(z, torch.tensor([label])) for label in (0, 1)]
    assert not torch.equal(*styles)
    images = torch.randn(1, 1, 32, 32)
    assert discriminator(images, torch.tensor([0])) != discriminator(images, torch.tensor([1]))
    assert small_discriminator(num_classes=1).mapping is None
