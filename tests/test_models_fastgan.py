"""FastGAN networks: shapes at all sizes, gates, noise, what the discriminator rebuilds, where the class enters."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from nbutils.models.fastgan import FastGANDiscriminator, FastGANGenerator, small_size
from nbutils.models.fastgan_layers import (
    NoiseInjection,
    NoisyUpBlock,
    ResidualDownBlock,
    SkipLayerExcitation,
    UpBlock,
    crop_quarter,
    gate_span,
    shrink,
    skips,
)

SIZES = [16, 32, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize("image_size", SIZES)
@pytest.mark.parametrize(("num_classes", "channels"), [(1, 1), (3, 3)])
def test_shapes_and_range(image_size, num_classes, channels):
    labels = torch.arange(2) % num_classes
    images, small = FastGANGenerator(8, num_classes, channels, image_size, width=2)(labels)
    small_pixels = min(128, image_size // 2)
    assert images.shape == (2, channels, image_size, image_size)
    assert small.shape == (2, channels, small_pixels, small_pixels)
    assert max(images.abs().max(), small.abs().max()) <= 1
    discriminator = FastGANDiscriminator(num_classes, channels, image_size, width=2)
    features = discriminator.features(images, small)
    assert [x.shape[-1] for x in features] == [16, 8, 8]
    assert discriminator.logits(features, labels).shape == (2, 50)
    rebuilt, targets = discriminator.rebuild(features, 3), discriminator.targets(images, 3)
    assert [x.shape for x in rebuilt] == [x.shape for x in targets] == [small.shape] * 3


def test_blocks_and_gates_at_256_pixels_are_the_published_ones():
    generator = FastGANGenerator(8, 1, 3, 256, width=64)
    assert [type(block) for block in generator.blocks] == [NoisyUpBlock, UpBlock] * 3
    assert generator.gated_by == {64: 4, 128: 8, 256: 16}
    convolutions = [module for module in generator.modules() if isinstance(module, nn.Conv2d)]
    assert [c.out_channels for c in convolutions if c.kernel_size == (3, 3)] == [
        *(1024, 1024, 512, 256, 256, 256, 128, 128, 64),  # twice the maps, which the linear units halve
        3,
    ]
    discriminator = FastGANDiscriminator(1, 3, 256, width=64)
    assert discriminator.gated_by == {32: 256, 16: 128, 8: 64}
    assert [block.direct[1].out_channels for block in discriminator.blocks] == [32, 64, 128, 256, 512]
    assert [c.out_channels for c in discriminator.small_blocks.modules() if isinstance(c, nn.Conv2d)] == [
        *(32, 64, 128, 256)
    ]
    decoder = [c.out_channels for c in discriminator.decoders["whole"].modules() if isinstance(c, nn.Conv2d)]
    assert decoder == [256, 128, 128, 64, 3]


def test_gates_of_other_sizes():
    found = {size: FastGANGenerator(8, 1, 1, size, width=1).gated_by for size in (16, 32, 64, 512, 1024)}
    assert found[16] == {16: 4}
    assert found[32] == {16: 4, 32: 8}
    assert found[64] == {16: 4, 32: 8, 64: 16}
    assert found[512] == found[1024] == {64: 4, 128: 8, 256: 16, 512: 32}
    found = {size: FastGANDiscriminator(1, 1, size, width=1).gated_by for size in (16, 32, 64, 1024)}
    assert found == {16: {8: 16}, 32: {8: 32}, 64: {16: 64, 8: 32}, 1024: {32: 256, 16: 128, 8: 64}}
    assert [gate_span(blocks, 4) for blocks in range(1, 9)] == [1, 2, 2, 2, 3, 4, 4, 4]
    assert skips([64, 32, 16, 8], longest=2) == {16: 64, 8: 32}


def test_small_images_have_half_the_size_up_to_128_pixels():
    assert [small_size(size) for size in SIZES] == [8, 16, 32, 64, 128, 128, 128]


def test_a_gate_multiplies_each_channel_of_the_large_map():
    excitation = SkipLayerExcitation(6, 5)
    gating, gated = torch.randn(3, 6, 8, 8), torch.randn(3, 5, 32, 32)
    factors = (excitation(gating, gated) / gated).flatten(2)
    torch.testing.assert_close(factors, factors[:, :, :1].expand_as(factors))
    assert factors.min() > 0
    assert factors.max() < 1
    assert not torch.equal(factors[0, :, 0], factors[1, :, 0])  # each image by its own small map
    nn.init.zeros_(excitation.gate[3].weight)
    torch.testing.assert_close(excitation(gating, gated), gated / 2)


@pytest.mark.parametrize("size", [16, 32])
def test_a_closed_gate_of_the_generator_blanks_its_map(size):
    generator = FastGANGenerator(8, 1, 3, 32, width=2)
    by = generator.gated_by[size]
    seen = {}
    excitation = generator.gates[str(size)]
    excitation.register_forward_pre_hook(lambda _, inputs: seen.update(zip(("gating", "gated"), inputs, strict=True)))
    excitation.register_forward_hook(lambda _, inputs, output: output * 0)
    images, small = generator(torch.zeros(2, dtype=torch.int64))
    assert (seen["gating"].shape[-1], seen["gated"].shape[-1]) == (by, size)
    assert (images == 0).all()
    assert (small == 0).all() == (size == 16)  # it is made of the map of its size, behind the gate


@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_a_gate_of_the_discriminator_decides_over_what_is_judged(image_size):
    discriminator = FastGANDiscriminator(1, 3, image_size, width=2)
    excitation = discriminator.gates["8"]
    excitation.register_forward_hook(lambda _, inputs, output: output * 0)
    views = torch.randn(2, 3, image_size, image_size), torch.randn(2, 3, image_size // 2, image_size // 2)
    features = discriminator.features(*views)
    assert (features.whole == 0).all()
    assert not (features.small == 0).all()


def test_noise_inputs_are_used_in_order_and_only_once_learned():
    generator = FastGANGenerator(8, 1, 1, 32, width=2).eval()
    assert generator.noise_sizes == [8, 8, 32, 32]
    labels, z = torch.zeros(2, dtype=torch.int64), torch.randn(2, 8)
    noise = generator.split_noise(torch.randn(2, generator.num_noise))
    other = generator.split_noise(torch.randn(2, generator.num_noise))
    assert torch.equal(generator(labels, z, noise)[0], generator(labels, z, other)[0])  # strengths start at zero
    injections = [module for module in generator.modules() if isinstance(module, NoiseInjection)]
    for index, injection in enumerate(injections):
        nn.init.ones_(injection.strength)
        mixed = [other[k] if k == index else one for k, one in enumerate(noise)]
        assert not torch.equal(generator(labels, z, noise)[0], generator(labels, z, mixed)[0])
        nn.init.zeros_(injection.strength)
    nn.init.ones_(injections[0].strength)
    assert torch.equal(generator(labels, z, noise)[0], generator(labels, z, noise)[0])
    assert not torch.equal(generator(labels, z)[0], generator(labels, z)[0])  # drawn anew


def test_a_residual_block_is_the_mean_of_its_paths():
    block, x = ResidualDownBlock(3, 4).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(block(x), (block.main(x) + block.direct(x)) / 2)
    assert block(x).shape == (2, 4, 4, 4)
    nn.init.zeros_(block.main[3].weight)
    assert not torch.equal(block(x), torch.zeros(2, 4, 4, 4))


def test_quarters_and_targets_show_the_same_place():
    images = torch.arange(32.0 * 32).reshape(1, 1, 32, 32)
    quarters = [crop_quarter(images, quarter)[0, 0, 0, 0].item() for quarter in range(4)]
    assert quarters == [0, 16, 16 * 32, 16 * 32 + 16]
    assert torch.equal(shrink(images, 16)[0, 0, 2, 3], images[0, 0, 4:6, 6:8].mean())
    targets = FastGANDiscriminator(1, 1, 32, width=2).targets(images, 2)
    assert torch.equal(targets.part, images[:, :, 16:, :16])
    assert torch.equal(targets.whole, shrink(images, 16))
    assert torch.equal(targets.small, targets.whole)


def test_a_part_is_rebuilt_from_its_quarter_of_the_map_of_16_pixels():
    discriminator = FastGANDiscriminator(1, 1, 32, width=2).eval()
    features = discriminator.features(torch.randn(1, 1, 32, 32), torch.randn(1, 1, 16, 16))
    before = discriminator.rebuild(features, 1)
    elsewhere = features.part.clone()
    elsewhere[:, :, 8:] = 0
    elsewhere[:, :, :, :8] = 0
    after = discriminator.rebuild(features._replace(part=elsewhere), 1)
    assert torch.equal(before.part, after.part)
    assert not torch.equal(before.part, discriminator.rebuild(features, 0).part)
    other = discriminator.rebuild(features._replace(whole=features.whole * 2), 1)
    assert [torch.equal(a, b) for a, b in zip(before, other, strict=True)] == [True, False, True]


def test_both_images_are_judged_each_by_half_of_the_logits():
    discriminator = FastGANDiscriminator(1, 1, 32, width=2).eval()
    images, small, labels = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64)
    logits = discriminator(images, small, labels)
    changed = discriminator(images * 2, small, labels), discriminator(images, small * 2, labels)
    assert [torch.equal(logits[:, :25], other[:, :25]) for other in changed] == [False, True]
    assert [torch.equal(logits[:, 25:], other[:, 25:]) for other in changed] == [True, False]


def test_the_class_changes_image_and_logits():
    generator, discriminator = FastGANGenerator(8, 2, 1, 16, 2).eval(), FastGANDiscriminator(2, 1, 16, 2).eval()
    z, labels = torch.randn(1, 8), (torch.tensor([0]), torch.tensor([1]))
    one, two = (generator(label, z)[0] for label in labels)
    assert not torch.equal(one, two)
    logits = [discriminator(one, shrink(one, 8), label) for label in labels]
    assert (logits[0] != logits[1]).all()


def test_all_convolutions_have_spectral_norm_one():
    for network in (FastGANGenerator(8, 2, 1, 16, 2), FastGANDiscriminator(2, 1, 16, 2)):
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.ConvTranspose2d):
                matrix = module.weight.transpose(0, 1).flatten(1)
            elif isinstance(module, nn.Conv2d):
                matrix = module.weight.flatten(1)
            else:
                continue
            assert parametrize.is_parametrized(module)
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.15)
