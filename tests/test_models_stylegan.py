"""StyleGAN 2018, and the layers that the GANs share."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F

from nbutils.models.gan_layers import (
    EqualizedConv2d,
    EqualizedLinear,
    Filter,
    MappingNetwork,
    adaptive_instance_norm,
    minibatch_stddev,
    mix_styles,
    normalize_second_moment,
)
from nbutils.models.stylegan import (
    ResampledConv2d,
    StyleGANDiscriminator,
    StyleGANGenerator,
)


def small_generator(num_classes=1, channels=1, image_size=32):
    return StyleGANGenerator(num_classes, channels, image_size, z_dim=8, w_dim=8, base=64, maximum=8)


def small_discriminator(num_classes=1, channels=1, image_size=32):
    return StyleGANDiscriminator(num_classes, channels, image_size, base=64, maximum=8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [16, 32, 128])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_shapes_at_each_resolution(channels, image_size, num_classes):
    generator = small_generator(num_classes, channels, image_size)
    discriminator = small_discriminator(num_classes, channels, image_size)
    labels = torch.arange(4) % num_classes
    styles = generator.random_styles(labels, mixing=0.9)
    for resolution in generator.resolutions:
        images = generator.synthesize(styles, resolution=resolution, alpha=1.0 if resolution == 8 else 0.5)
        assert images.shape == (4, channels, resolution, resolution)
        assert discriminator(images, labels, alpha=1.0 if resolution == 8 else 0.5).shape == (4,)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equalised_layers_keep_unit_variance(lr_multiplier):
    torch.manual_seed(0)
    linear = EqualizedLinear(256, 512, lr_multiplier=lr_multiplier)
    assert linear.weight.std().item() == pytest.approx(1 / lr_multiplier, rel=0.02)
    assert linear(torch.randn(256, 256)).std().item() == pytest.approx(1.0, rel=0.05)
    conv = EqualizedConv2d(64, 64, 3)
    assert conv(torch.randn(8, 64, 16, 16))[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1.0, rel=0.05)


def test_activation_with_its_gain_keeps_the_second_moment():
    torch.manual_seed(0)
    layer = EqualizedLinear(256, 512, activate=True, bias_init=0.5)
    x = torch.randn(256, 256)
    expected = F.leaky_relu(F.linear(x, layer.weight / 16, layer.bias), 0.2) * sqrt(2)
    torch.testing.assert_close(layer(x), expected)
    assert EqualizedLinear(256, 512, activate=True)(x).square().mean().item() == pytest.approx(1.04, rel=0.05)


def test_learning_rate_multiplier_slows_the_output_by_its_square():
    # one SGD step moves the effective weight by multiplier^2, an Adam step by multiplier
    x, moves = torch.ones(1, 4), {}
    for multiplier in (1.0, 0.1):
        layer = EqualizedLinear(4, 1, lr_multiplier=multiplier)
        before = layer(x).item()
        layer(x).sum().backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= 0.1 * parameter.grad.sign()
        moves[multiplier] = before - layer(x).item()
    assert moves[0.1] == pytest.approx(0.1 * moves[1.0], rel=1e-4)


@pytest.mark.parametrize("taps", [[1, 2, 1], [1, 3, 3, 1]])
def test_filter_keeps_a_constant_and_is_self_adjoint(taps):
    blur = Filter(taps, padding=1)
    assert torch.allclose(blur(torch.ones(2, 3, 8, 8))[:, :, 1:-1, 1:-1], torch.ones(()))
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(blur, x)
    assert torch.autograd.gradgradcheck(lambda t: blur(t).sin(), x)


def test_pixel_norm_gives_unit_second_moment():
    x = normalize_second_moment(5 * torch.randn(3, 16))
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(3))


def test_minibatch_stddev_is_zero_for_equal_images_and_known_otherwise():
    x = torch.randn(1, 3, 4, 4).repeat(4, 1, 1, 1)
    assert minibatch_stddev(x)[:, 3].abs().max() < 1e-3
    x = torch.tensor([0.0, 2.0])[:, None, None, None].expand(2, 3, 4, 4)
    torch.testing.assert_close(minibatch_stddev(x)[:, 3], torch.ones(2, 4, 4))
    assert minibatch_stddev(torch.randn(6, 2, 4, 4)).shape == (6, 3, 4, 4)  # 6 and 4 share groups of 2


def test_minibatch_stddev_groups_do_not_see_each_other():
    x = torch.randn(8, 3, 4, 4)
    changed = x.clone()
    changed[1] += 10  # images 1, 3, 5, 7 make a group
    same = (minibatch_stddev(x)[:, 3] == minibatch_stddev(changed)[:, 3]).all(dim=(1, 2))
    assert same.tolist() == [True, False] * 4


def test_adain_output_has_the_statistics_of_the_style():
    x, style = 3 + 5 * torch.randn(2, 4, 16, 16), torch.randn(2, 8)
    y = adaptive_instance_norm(x, style)
    torch.testing.assert_close(y.mean(dim=(2, 3)), style[:, 4:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y.std(dim=(2, 3), correction=0), (1 + style[:, :4]).abs(), atol=1e-4, rtol=1e-4)


def test_style_mixing_changes_only_later_layers():
    torch.manual_seed(0)
    first, second = torch.zeros(500, 2), torch.ones(500, 2)
    mixed = mix_styles(first, second, num_layers=6, probability=1.0)[:, :, 0]
    assert (mixed[:, 0] == 0).all()
    assert (mixed[:, -1] == 1).all()
    assert (mixed.diff(dim=1) >= 0).all()
    assert sorted(set((mixed == 0).sum(dim=1).tolist())) == [1, 2, 3, 4, 5]
    assert (mix_styles(first, second, 6, probability=0.0) == 0).all()
    share = (mix_styles(first, second, 6, probability=0.9)[:, -1, 0] == 1).float().mean().item()
    assert share == pytest.approx(0.9, abs=0.05)


def test_mapping_network_needs_the_label_only_with_classes():
    z = torch.randn(2, 8)
    conditional = MappingNetwork(8, 16, num_classes=3, num_layers=8)
    assert conditional(z, torch.tensor([0, 1])).shape == (2, 16)
    assert not torch.equal(conditional(z, torch.tensor([0, 1])), conditional(z, torch.tensor([0, 2])))
    unconditional = MappingNetwork(8, 16, num_classes=1, num_layers=8)
    assert torch.equal(unconditional(z, torch.tensor([0, 1])), unconditional(z, torch.tensor([0, 2])))
    assert len(unconditional.layers) == 8
    of_label = MappingNetwork(0, 16, num_classes=3, num_layers=2)(z[:, :0], torch.tensor([1, 1]))
    assert torch.equal(of_label[0], of_label[1])


def test_fused_resampling_is_nearest_doubling_and_mean_halving():
    x = torch.randn(2, 3, 8, 8)
    up = ResampledConv2d(3, 4, double=True)
    expected = F.conv2d(F.interpolate(x, scale_factor=2), up.weight.flip(2, 3) * up.gain, padding=1)
    torch.testing.assert_close(up(x), expected, atol=1e-5, rtol=1e-5)
    down = ResampledConv2d(3, 4, double=False)
    expected = F.avg_pool2d(F.conv2d(x, down.weight * down.gain, padding=1), 2)
    torch.testing.assert_close(down(x), expected, atol=1e-5, rtol=1e-5)


def test_fading_in_starts_at_the_resolution_below():
    generator, discriminator = small_generator(), small_discriminator()
    labels = torch.zeros(4, dtype=torch.int64)
    styles = generator.random_styles(labels, 0.9)
    noise = generator.split_noise(torch.randn(4, generator.num_noise))
    small = generator.synthesize(styles, noise, 16)
    grown = generator.synthesize(styles, noise, 32, alpha=0.0)
    torch.testing.assert_close(grown, F.interpolate(small, scale_factor=2))
    torch.testing.assert_close(discriminator(grown, labels, alpha=0.0), discriminator(small, labels))
    near = generator.synthesize(styles, noise, 32, alpha=1 - 1e-6)
    torch.testing.assert_close(near, generator.synthesize(styles, noise, 32), atol=1e-4, rtol=1e-4)


def test_noise_is_one_scaled_input_per_layer():
    generator = small_generator()
    assert generator.noise_sizes == [4, 4, 8, 8, 16, 16, 32, 32]
    assert generator.num_noise == 2 * (16 + 64 + 256 + 1024)
    torch.nn.init.ones_(generator.blocks[-1].epilogues[1].noise_scale)
    styles = torch.randn(2, generator.num_layers, 8)
    one, two = (generator.synthesize(styles) for _ in range(2))
    assert not torch.equal(one, two)


def test_truncation_draws_styles_to_the_mean_of_their_class():
    generator = small_generator(num_classes=2)
    generator.w_average[0] = 3.0
    for _ in range(1500):
        generator._track(torch.tensor([[1.0] * 8, [2.0] * 8]), torch.tensor([1, 1]))
    torch.testing.assert_close(generator.w_average, torch.tensor([[3.0] * 8, [1.5] * 8]), atol=1e-3, rtol=1e-3)
    z, labels = torch.randn(2, 8), torch.tensor([0, 1])
    torch.testing.assert_close(generator.styles(z, labels, 0.0)[:, 0], generator.w_average)
    torch.testing.assert_close(generator.styles(z, labels, 1.0)[:, 3], generator.mapping(z, labels))
