"""DCGAN networks: shapes, initial weights, where the class enters."""

import pytest
import torch

from nbutils.models.dcgan import DCGANDiscriminator, DCGANGenerator, layer_widths
from nbutils.models.gan_layers import projection_logits


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [16, 32, 64, 256])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_shapes_and_range(channels, image_size, num_classes):
    generator = DCGANGenerator(8, num_classes, channels, image_size, width=2)
    images = generator(torch.randn(4, 8), torch.arange(4) % num_classes)
    assert images.shape == (4, channels, image_size, image_size)
    assert images.abs().max() <= 1
    logits = DCGANDiscriminator(num_classes, channels, image_size, width=2)(images, torch.arange(4) % num_classes)
    assert logits.shape == (4,)


def test_widths_double_towards_small_resolutions_up_to_a_maximum():
    assert layer_widths(64, 128, 1024) == [1024, 512, 256, 128]  # Radford et al. 2015, Fig. 1
    assert layer_widths(256, 64, 512) == [512, 512, 512, 256, 128, 64]


def test_initial_weights_are_normal_with_deviation_two_hundredths():
    network = DCGANGenerator(64, 3, 1, 32, width=32)
    for module in network.modules():
        if isinstance(module, torch.nn.ConvTranspose2d | torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.02)


def test_batch_norm_is_in_all_but_the_outer_layers():
    discriminator = list(DCGANDiscriminator(1, 1, 32, width=4).layers)
    assert [isinstance(layer, torch.nn.BatchNorm2d) for layer in discriminator[:4]] == [False, False, False, True]
    generator = list(DCGANGenerator(8, 1, 1, 32, width=4).layers)
    assert isinstance(generator[0], torch.nn.BatchNorm2d)
    assert isinstance(generator[-1], torch.nn.Tanh)
    assert not isinstance(generator[-2], torch.nn.BatchNorm2d)


def test_the_class_changes_image_and_logit():
    generator, discriminator = DCGANGenerator(8, 2, 1, 16, 4).eval(), DCGANDiscriminator(2, 1, 16, 4).eval()
    z = torch.randn(1, 8)
    one, two = (generator(z, torch.tensor([label])) for label in (0, 1))
    assert not torch.equal(one, two)
    assert discriminator(one, torch.tensor([0])) != discriminator(one, torch.tensor([1]))


def test_projection_adds_the_output_of_the_label():
    outputs = torch.tensor([[1.0, 10.0, 20.0], [2.0, 30.0, 40.0]])
    assert projection_logits(outputs, torch.tensor([1, 0])).tolist() == [21.0, 32.0]
    assert projection_logits(outputs[:, :1], torch.tensor([0, 0])).tolist() == [1.0, 2.0]
