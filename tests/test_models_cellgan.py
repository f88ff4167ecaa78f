"""Cell-GAN networks: the class in every block, global context, projection, rebuilt parts, spectral norm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from nbutils.models.cellgan import (
    CellGANDiscriminator,
    CellGANGenerator,
    ClassMapping,
    ConditionalUpBlock,
    DecoderBlock,
    SkipLayerGlobalContext,
    SummedDownBlock,
    crop_half,
    init_xavier,
)
from nbutils.models.fastgan_layers import shrink

SIZES = [16, 32, 64, 128, 256, 512, 1024]


def small_generator(num_classes=3, channels=1, image_size=32):
    return CellGANGenerator(8, num_classes, channels, image_size, width=1, embedding_dim=6, mapping_layers=4)


def small_discriminator(num_classes=3, channels=1, image_size=32):
    return CellGANDiscriminator(num_classes, channels, image_size, width=1)


@pytest.mark.parametrize("image_size", SIZES)
@pytest.mark.parametrize(("num_classes", "channels"), [(1, 1), (3, 3)])
def test_shapes_and_range(image_size, num_classes, channels):
    labels = torch.arange(2) % num_classes
    images = small_generator(num_classes, channels, image_size)(torch.randn(2, 8), labels)
    assert images.shape == (2, channels, image_size, image_size)
    assert images.abs().max() <= 1
    discriminator = small_discriminator(num_classes, channels, image_size)
    features = discriminator.features(images)
    assert [x.shape[-1] for x in features] == [16, 8]
    assert discriminator(images, labels).shape == (2, 64)
    rebuilt, targets = discriminator.rebuild(features, 3, 8), discriminator.targets(images, 3, 8)
    small = min(128, image_size // 2)
    assert [x.shape for x in rebuilt] == [x.shape for x in targets] == [(2, channels, small, small)] * 2


def test_networks_at_256_pixels_are_the_published_ones():
    generator = CellGANGenerator(128, 5, 3, 256, width=32, embedding_dim=128, mapping_layers=4)
    assert generator.first.out_channels == 512
    assert [block.conv.out_channels for block in generator.blocks] == [512, 256, 256, 128, 64, 32]
    assert [block.affine.in_features for block in generator.blocks] == [128] * 6
    assert generator.context_of == {64: 8, 128: 16, 256: 32}
    assert [layer.in_features for layer in generator.mapping if isinstance(layer, nn.Linear)] == [5, 128, 128, 128]
    context = generator.contexts["64"]
    assert [context.attention.in_channels, context.transform[0].out_channels] == [512, 32]
    discriminator = CellGANDiscriminator(5, 3, 256, width=32)
    assert discriminator.stem.out_channels == 32
    assert [block.main[0].out_channels for block in discriminator.blocks] == [64, 128, 256, 256, 512]
    for decoder, before in ((discriminator.decode_part, 256), (discriminator.decode_whole, 512)):
        convolutions = [module for module in decoder.modules() if isinstance(module, nn.Conv2d)]
        assert [convolutions[0].in_channels, *(c.out_channels for c in convolutions)] == [before, 128, 64, 64, 32, 3]


def test_skips_of_other_sizes_leave_the_first_map_out():
    found = {size: small_generator(image_size=size).context_of for size in (16, 32, 64, 128, 512)}
    assert found[16] == {16: 8}
    assert found[32] == {32: 8}
    assert found[64] == {32: 8, 64: 16}
    assert found[128] == {32: 8, 64: 16, 128: 32}
    assert found[512] == {64: 8, 128: 16, 256: 32, 512: 64}


def test_class_mapping_is_a_perceptron_of_the_one_hot_label():
    mapping = ClassMapping(3, 6, 4)
    layers = [layer for layer in mapping if isinstance(layer, nn.Linear)]
    x = layers[0].weight[:, 2] + layers[0].bias  # the row of class 2
    for layer in layers[1:]:
        x = layer(F.leaky_relu(x, 0.2))
    torch.testing.assert_close(mapping(torch.tensor([0, 2]))[1], F.leaky_relu(x, 0.2))
    assert len(layers) == 4


def test_an_up_block_doubles_first_in_the_code_and_last_here():
    block, x, embedding = ConditionalUpBlock(3, 5, 4), torch.randn(2, 3, 8, 8), torch.randn(2, 4)
    scale, shift = block.affine(embedding)[:, :, None, None].chunk(2, dim=1)
    doubled = F.interpolate(x, scale_factor=2)
    expected = block.conv(F.leaky_relu(F.instance_norm(doubled) * (1 + scale) + shift, 0.2))
    torch.testing.assert_close(block(x, embedding), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_the_class_reaches_every_block(image_size):
    generator = small_generator(image_size=image_size).eval()
    seen = []
    for block in generator.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    z, labels = torch.randn(2, 8), torch.tensor([0, 2])
    images = generator(z, labels)
    assert len(seen) == len(generator.blocks)
    assert all(torch.equal(embedding, generator.mapping(labels)) for embedding in seen)
    others = generator.mapping(torch.tensor([1, 1]))
    for block in generator.blocks:
        with_other_class = block.register_forward_pre_hook(lambda _, inputs: (inputs[0], others))
        assert (generator(z, labels) - images).abs().amax(dim=(1, 2, 3)).min() > 0
        with_other_class.remove()


def test_global_context_adds_the_mean_of_what_it_attends_to():
    block, small, large = SkipLayerGlobalContext(6, 8), torch.randn(3, 6, 4, 4), torch.randn(3, 8, 16, 16)
    weights = (block.attention.weight[0, :, 0, 0, None, None] * small).sum(1).exp()  # (B, h, w)
    context = (weights[:, None] * small).sum((2, 3)) / weights.sum((1, 2))[:, None]  # (B, c)
    first, last = (block.transform[index].weight[:, :, 0, 0] for index in (0, 2))
    added = F.leaky_relu(context @ first.T, 0.2) @ last.T
    torch.testing.assert_close(block(small, large), large + added[:, :, None, None])
    assert first.shape == (2, 6)  # a bottleneck of a quarter


@pytest.mark.parametrize(("image_size", "to", "of"), [(16, 16, 8), (32, 32, 8), (64, 32, 8), (64, 64, 16)])
def test_context_comes_from_the_smaller_map_and_reaches_the_image(image_size, to, of):
    generator = small_generator(image_size=image_size).eval()
    outputs, z, labels = [], torch.randn(2, 8), torch.tensor([0, 1])
    for block in generator.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    seen = {}
    generator.contexts[str(to)].register_forward_pre_hook(lambda _, inputs: seen.update(of=inputs[0], to=inputs[1]))
    images = generator(z, labels)
    by_size = {x.shape[-1]: x for x in outputs}
    assert torch.equal(seen["to"], by_size[to])
    assert seen["of"].shape == by_size[of].shape
    generator.contexts[str(to)].register_forward_hook(lambda module, inputs, output: inputs[1])
    assert not torch.equal(generator(z, labels), images)


def test_a_down_block_activates_once_for_both_paths():
    block, x = SummedDownBlock(3, 4), torch.randn(2, 3, 8, 8)
    activated = F.leaky_relu(x, 0.2)
    first, _, second = block.main
    expected = second(F.leaky_relu(first(activated), 0.2)) + block.direct[1](F.avg_pool2d(activated, 2))
    torch.testing.assert_close(block(x), expected)
    assert block(x).shape == (2, 4, 4, 4)


def test_decoder_blocks_activate_then_double_then_convolve():
    block, x = DecoderBlock(3, 5), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(block(x), block[2](F.interpolate(F.leaky_relu(x, 0.2), scale_factor=2)))


def test_logits_are_the_unconditional_ones_plus_an_inner_product_with_the_class():
    discriminator, labels = small_discriminator(), torch.tensor([2, 0])
    maps = torch.randn(2, 16, 8, 8)
    judge, classes = (layer.weight[:, :, 0, 0] for layer in (discriminator.eval().judge, discriminator.classes))
    expected = torch.einsum("bcyx,c->byx", maps, judge[0]) + torch.einsum("bcyx,bc->byx", maps, classes[labels])
    torch.testing.assert_close(discriminator.logits(maps, labels), expected.flatten(1))
    images = torch.randn(2, 1, 32, 32)
    whole = discriminator.features(images)[1]
    assert torch.equal(discriminator(images, labels), discriminator.logits(whole, labels))
    single = small_discriminator(num_classes=1).eval()
    expected = torch.einsum("bcyx,c->byx", maps, single.judge.weight[0, :, 0, 0])
    torch.testing.assert_close(single.logits(maps, torch.zeros(2, dtype=torch.int64)), expected.flatten(1))


def test_halves_begin_at_sixteenths_of_the_image():
    images = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)
    assert torch.equal(crop_half(images, 3, 8), images[:, :, 12:44, 32:])
    maps = shrink(images, 16)
    assert torch.equal(shrink(crop_half(images, 5, 2), 8), crop_half(maps, 5, 2))  # map and image show the same place
    targets = small_discriminator(image_size=64).targets(images, 8, 0)
    assert torch.equal(targets[0], images[:, :, 32:, :32])
    assert torch.equal(targets[1], shrink(images, 32))


def test_a_part_is_rebuilt_from_its_part_of_the_map_of_16_pixels():
    discriminator = small_discriminator().eval()
    part, whole = discriminator.features(torch.randn(1, 1, 32, 32))
    before = discriminator.rebuild((part, whole), 2, 5)
    elsewhere = torch.zeros_like(part)
    elsewhere[:, :, 2:10, 5:13] = part[:, :, 2:10, 5:13]
    after = discriminator.rebuild((elsewhere, whole), 2, 5)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[0], discriminator.rebuild((part, whole), 3, 5)[0])
    other = discriminator.rebuild((part, whole * 2), 2, 5)
    assert [torch.equal(a, b) for a, b in zip(before, other, strict=True)] == [True, False]


def test_all_layers_have_spectral_norm_one():
    generator, discriminator = small_generator().eval(), small_discriminator().eval()
    linear = 0
    for module in [*generator.modules(), *discriminator.modules()]:
        if isinstance(module, nn.ConvTranspose2d):
            matrix = module.weight.transpose(0, 1).flatten(1)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            matrix = module.weight.flatten(1)
            linear += isinstance(module, nn.Linear)
        else:
            continue
        assert parametrize.is_parametrized(module)
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.15)
    assert linear == len(generator.blocks) + 4  # the class mapping is under it, too


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 32, 3)
    init_xavier(layer)
    assert layer.weight.std().item() == pytest.approx(0.02 * (2 / (9 * (64 + 32))) ** 0.5, rel=0.05)
    assert (layer.bias == 0).all()
    for layer in (small_generator().blocks[0].conv, small_discriminator().blocks[-1].main[2]):  # 16 -> 16 maps
        original = layer.parametrizations.weight.original  # before spectral norm
        assert original.std().item() == pytest.approx(0.02 * (2 / (9 * (16 + 16))) ** 0.5, rel=0.1)
