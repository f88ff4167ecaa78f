"""The GANs behind the generator protocol: losses, growth, round trip, exact resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_blobs
from torch import nn

from nbutils import generators, training
from nbutils.generators import cellgan as cellgan_module
from nbutils.generators import fastgan as fastgan_module
from nbutils.generators.fastgan import FastGANMethod, random_hinge_loss
from nbutils.generators.gan import (
    discriminator_loss,
    frozen,
    generator_loss,
    hinge_loss,
    lazy_adam,
    mean_loss,
    r1_penalty,
)
from nbutils.generators.stylegan import at_stage, growth_stage
from nbutils.generators.stylegan2_ada import path_lengths

GANS = ["dcgan", "stylegan", "stylegan2-ada", "fastgan", "cell-gan"]


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_losses_are_the_binary_cross_entropy():
    real, fake = torch.randn(8), torch.randn(8)
    expected = -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(fake)).mean()
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), -torch.log(torch.sigmoid(fake)).mean())


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights():
    linear = nn.Linear(12, 1)
    images = torch.randn(5, 3, 2, 2, requires_grad=True)
    penalty = r1_penalty(linear(images.flatten(1))[:, 0], images)
    torch.testing.assert_close(penalty, linear.weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(linear.weight.grad, 2 * linear.weight.detach())


def test_hinge_losses():
    real, fake = torch.tensor([0.5, 3.0]), torch.tensor([-0.25, -7.0])
    assert hinge_loss(real, fake).item() == pytest.approx((0.5 + 0) / 2 + (0.75 + 0) / 2)
    assert hinge_loss(real, fake, 2.0, torch.tensor([8.0, 9.0])).item() == pytest.approx(1.5 / 2 + (7.75 + 2) / 2)
    assert mean_loss(torch.tensor([1.0, 4.0])).item() == -2.5


def test_fastgan_hinge_loss_ends_at_a_random_margin_below_one():
    torch.manual_seed(0)
    zeros = torch.zeros(4000)
    assert random_hinge_loss(zeros, zeros).item() == pytest.approx(2 * 0.9, abs=0.01)  # the mean margins
    assert random_hinge_loss(zeros + 1, zeros - 1) == 0  # beyond all margins
    assert random_hinge_loss(zeros + 0.8, zeros - 2) > 0
    assert random_hinge_loss(zeros + 2, zeros - 0.8) > 0
    assert random_hinge_loss(zeros - 1, zeros - 2).item() == pytest.approx(1.9, abs=0.01)
    assert FastGANMethod.generator_loss is mean_loss


def test_path_length_of_a_linear_generator_is_known_on_average():
    torch.manual_seed(0)
    weight = torch.randn(16 * 16, 8, requires_grad=True)  # image = weight @ (sum of the styles of all layers)
    styles = torch.randn(4000, 3, 8, requires_grad=True)
    images = (styles.sum(dim=1) @ weight.T).unflatten(1, (1, 16, 16))
    lengths = path_lengths(images, styles)
    assert lengths.shape == (4000,)
    assert lengths.requires_grad
    # E |J^T y|^2 = trace(J J^T) / (H W), the same for each layer
    expected = weight.square().sum() / 256
    torch.testing.assert_close(lengths.square().mean(), expected, rtol=0.05, atol=0.0)


def test_lazy_adam_corrects_rate_and_decay_for_the_additional_steps():
    settings = lazy_adam(nn.Linear(1, 1), 0.0025, 16).param_groups[0]
    assert settings["lr"] == pytest.approx(0.0025 * 16 / 17)
    assert settings["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    assert lazy_adam(nn.Linear(1, 1), 0.001).param_groups[0]["lr"] == 0.001


def test_frozen_networks_pass_gradients_on_but_keep_none():
    layer, x = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        y = layer(x)
    y.sum().backward()
    assert layer.weight.grad is None
    assert layer.weight.requires_grad
    torch.testing.assert_close(x.grad, layer.weight.detach())


def test_growth_visits_all_resolutions_in_the_given_proportions():
    stages = [growth_stage(step, 700, 32, growth=2.0, fade=0.5) for step in range(700)]
    resolutions = [resolution for resolution, _ in stages]
    assert [resolutions.count(size) for size in (8, 16, 32)] == [100, 200, 400]
    assert resolutions == sorted(resolutions)
    assert all(alpha == 1 for resolution, alpha in stages if resolution == 8)


def test_alpha_rises_from_zero_and_then_stays_at_one():
    alphas = [growth_stage(step, 700, 32, growth=2.0, fade=0.5)[1] for step in range(700)]
    assert (alphas[99], alphas[100], alphas[150], alphas[200]) == (1.0, 0.0, 0.5, 1.0)
    assert (alphas[299], alphas[300], alphas[400], alphas[500], alphas[699]) == (1.0, 0.0, 0.5, 1.0, 1.0)
    rises = np.diff(alphas[300:])
    assert rises.min() >= 0
    assert rises.max() == pytest.approx(1 / 200)


def test_growth_of_the_smallest_image_and_the_shortest_training():
    assert growth_stage(0, 1, 8, 1.5, 0.5) == (8, 1.0)
    assert growth_stage(0, 2, 16, 1.5, 0.5) == (8, 1.0)
    assert growth_stage(10, 10, 64, 1.5, 0.5)[0] == 64
    assert growth_stage(5, 10, 16, 1.5, 0.0) == (16, 1.0)  # no fading


def test_real_images_fade_like_the_networks():
    images = torch.randn(2, 1, 32, 32)
    small = at_stage(images, 16, 1.0)
    torch.testing.assert_close(small[0, 0, 3, 5], images[0, 0, 6:8, 10:12].mean())
    start = at_stage(images, 16, 0.0)
    torch.testing.assert_close(start, nn.functional.interpolate(at_stage(images, 8, 1.0), scale_factor=2))
    torch.testing.assert_close(at_stage(images, 16, 0.25), start.lerp(small, 0.25))


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize("image_size", [8, 24, 28])
def test_other_sizes_are_refused(name, image_size):
    with pytest.raises(ValueError, match=rf"{name} needs images of 16, 32, .*, found {image_size} px"):
        generators.create(name, "smoke").build(2, 1, image_size)


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize(("per_class", "channels"), [(False, 1), (True, 3)])
def test_round_trip(name, per_class, channels, tmp_path):
    images = make_blobs(24, seed=0, channels=channels)
    generator = generators.create(name, "smoke", per_class=per_class, num_steps=3)
    log = generator.fit(images)
    assert len(generator.networks) == (2 if per_class else 1)
    assert {"loss_generator", "loss_discriminator", "real_sign"} <= set(log.curve.columns)
    drawn = generator.sample([0, 1, 1], seed=5)
    assert drawn.images.shape == (3, channels, 16, 16)
    assert not np.array_equal(drawn.images[1], drawn.images[2])
    generator.save(tmp_path)
    again = generators.load(tmp_path)
    np.testing.assert_array_equal(again.sample([0, 1, 1], seed=5).images, drawn.images)


@pytest.mark.parametrize("name", GANS)
def test_image_i_does_not_depend_on_the_others(name):
    generator = generators.create(name, "smoke", num_steps=2)
    generator.fit(make_blobs(24, seed=0))
    together = generator.sample([0, 1, 0, 1, 1], seed=3).images.astype(int)
    generator.config = generators.create(name, "smoke", sample_batch_size=2).config
    assert abs(generator.sample([0, 1, 0, 1, 1], seed=3).images - together).max() <= 1
    assert abs(generator.sample([0, 1], seed=3).images - together[:2]).max() <= 1
    assert not np.array_equal(generator.sample([0, 1], seed=4).images, together[:2])


class Interruption(Exception):
    """What stops a training half-way in a test."""


@pytest.mark.parametrize(
    ("name", "overrides", "stop"),
    [
        ("dcgan", {}, 4),
        ("stylegan", {}, 3),  # while 16 pixels fade in
        ("fastgan", {}, 3),
        ("cell-gan", {}, 3),
        ("stylegan2-ada", {"num_steps": 8, "ada_kimg": 0.1, "ada_target": -2.0}, 6),  # p > 0, sums half-full
    ],
)
def test_an_interrupted_training_ends_in_the_same_weights(name, overrides, stop, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    images = make_blobs(24, seed=0)
    undisturbed = generators.create(name, "smoke", **overrides)
    undisturbed.fit(images)

    interrupted = generators.create(name, "smoke", **overrides)
    with monkeypatch.context() as patch:
        patch.setattr(interrupted, "build", breaking_at(stop, interrupted.build))
        with pytest.raises(Interruption):
            interrupted.fit(images, checkpoint_folder=tmp_path)
    log = interrupted.fit(images, checkpoint_folder=tmp_path)
    assert log.resumed_from == stop
    expected = undisturbed.networks[0].state_dict()
    for key, value in interrupted.networks[0].state_dict().items():
        assert torch.equal(value, expected[key]), key


def breaking_at(stop, build):
    """Wrap `build` so that its method raises at step `stop`."""

    def broken(*arguments):
        method = build(*arguments)
        step = method.step

        def step_or_break(number, *batch):
            if number == stop:
                raise Interruption
            return step(number, *batch)

        method.step = step_or_break
        return method

    return broken


def test_ada_raises_p_and_logs_it():
    generator = generators.create("stylegan2-ada", "smoke", num_steps=8, ada_kimg=0.1, ada_target=-2.0)
    curve = generator.fit(make_blobs(24, seed=0)).curve
    assert curve["ada_p"].tolist() == pytest.approx([0, 0, 0, 0.16, 0.16, 0.16, 0.16, 0.32])
    assert curve["path_length"].notna().tolist() == [True, False, False, False] * 2
    assert curve["r1"].notna().tolist() == [True] + [False] * 7


def test_stylegan_logs_its_resolution_and_grows_to_the_full_size():
    generator = generators.create("stylegan", "smoke")
    curve = generator.fit(make_blobs(24, seed=0)).curve
    assert curve["resolution"].tolist() == [8, 8, 16, 16, 16]


@pytest.fixture
def fastgan():
    """A FastGAN's training step at smoke scale, three colours."""
    torch.manual_seed(0)
    return generators.create("fastgan", "smoke").build(2, 3, 16)


def test_fastgan_judges_only_augmented_images_and_the_same_fakes_twice(fastgan, monkeypatch):
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4) % 2
    monkeypatch.setattr(fastgan_module, "diff_augment", lambda images, policy: images * 0 + 0.25)
    seen, features = [], fastgan.discriminator.features
    monkeypatch.setattr(fastgan.discriminator, "features", lambda *views: seen.append(views) or features(*views))
    fastgan.step(0, images, labels)
    assert [(len(large), large.shape[-1], small.shape[-1]) for large, small in seen] == [(4, 16, 8)] * 3
    assert all((view == 0.25).all() for views in seen for view in views)
    assert [views[0].requires_grad for views in seen] == [False, False, True]  # real, fake, fake for the generator


def test_fastgan_discriminator_learns_to_rebuild_real_images(fastgan):
    images, labels = torch.rand(4, 3, 16, 16) - 0.5, torch.arange(4) % 2
    fastgan.config = replace(fastgan.config, augmentation=(), reconstruction_weight=0.0)
    before = [value.clone() for value in fastgan.discriminator.decoders.parameters()]
    fastgan.step(0, images, labels)
    assert all(map(torch.equal, before, fastgan.discriminator.decoders.parameters()))  # no other loss reaches them
    fastgan.config = replace(fastgan.config, reconstruction_weight=8.0)
    errors = [float(fastgan.step(step, images, labels)["reconstruction"]) for step in range(12)]
    assert np.mean(errors[-4:]) < 0.8 * np.mean(errors[:4])


def test_fastgan_reconstruction_error_is_the_sum_of_three_distances(fastgan):
    images = torch.rand(4, 3, 16, 16) - 0.5
    fastgan.distance = lambda one, two: (one - two).abs().mean()
    targets = fastgan.discriminator.targets(images, quarter=2)
    shifted = [part + by for part, by in zip(targets, (0.1, 0.2, 0.3), strict=True)]
    assert fastgan.reconstruction_error(images, shifted, quarter=2).item() == pytest.approx(0.6)
    assert fastgan.reconstruction_error(images, shifted, quarter=1) > 0.6


def test_fastgan_trains_with_the_pretrained_perceptual_network(monkeypatch):
    used, load = [], fastgan_module.perceptual.load_distance

    def recording(name, pretrained=True):
        distance = load(name, pretrained)
        return lambda one, two: used.append((name, pretrained)) or distance(one, two)

    monkeypatch.setattr(fastgan_module.perceptual, "load_distance", recording)
    generator = generators.create("fastgan", "smoke", num_steps=1)
    generator.fit(make_blobs(24, seed=0))
    assert used == [("prior-backbone", True)]
    assert set(generator.key(make_blobs(24, seed=0))["perceptual"]) == {"prior-backbone"}


def test_fastgan_batch_norms_have_the_statistics_of_the_averaged_weights():
    generator = generators.create("fastgan", "smoke")
    generator.fit(make_blobs(24, seed=0))
    (network,) = generator.networks
    inputs = []
    network.first[1].register_forward_hook(lambda module, arguments, output: inputs.append(arguments[0]))
    with torch.no_grad():
        network(torch.arange(4000) % 2)
    x = inputs[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(network.first[1].running_var, x.var(1), rtol=0.25, atol=0.0)


@pytest.fixture
def cellgan():
    """A Cell-GAN's training step at smoke scale, three colours."""
    torch.manual_seed(0)
    return generators.create("cell-gan", "smoke").build(2, 3, 16)


def test_cellgan_judges_augmented_images_and_penalises_gradients_at_real_ones(cellgan, monkeypatch):
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4) % 2
    monkeypatch.setattr(cellgan_module, "diff_augment", lambda images, policy: images * 0 + 0.25)
    seen, features = [], cellgan.discriminator.features
    monkeypatch.setattr(cellgan.discriminator, "features", lambda images: seen.append(images) or features(images))
    cellgan.step(0, images, labels)
    real, fake, penalised, judged = seen
    assert all((view == 0.25).all() for view in (real, fake, judged))
    assert torch.equal(penalised, images)
    assert [view.requires_grad for view in seen] == [False, False, True, True]
    assert cellgan.discriminator_loss is hinge_loss
    assert cellgan.generator_loss is mean_loss


@pytest.mark.parametrize("r1_weight", [0.0, 3.0])
def test_cellgan_discriminator_goes_down_the_sum_of_its_three_losses(cellgan, r1_weight, monkeypatch):
    images, fakes, labels = torch.rand(4, 3, 16, 16) - 0.5, torch.rand(4, 3, 16, 16) - 0.5, torch.arange(4) % 2
    cellgan.config = replace(cellgan.config, augmentation=(), r1_weight=r1_weight)
    cellgan.discriminator.eval()  # no further power iterations
    minimized = []
    monkeypatch.setattr(cellgan_module, "minimize", lambda optimizer, loss: minimized.append(loss.item()))
    scalars = cellgan.update_discriminator(images, fakes, labels)
    expected = scalars["loss_discriminator"] + scalars["reconstruction"] + r1_weight * scalars["r1"]
    assert minimized == pytest.approx([expected.item()])
    logits = [cellgan.discriminator(each, labels) for each in (images.requires_grad_(), fakes)]
    assert scalars["loss_discriminator"].item() == pytest.approx(hinge_loss(*logits).item())
    assert scalars["r1"].item() == pytest.approx(r1_penalty(logits[0], images).item())


def test_cellgan_reconstruction_error_is_the_sum_of_two_mean_absolute_errors(cellgan, monkeypatch):
    images, corners = torch.rand(4, 3, 16, 16) - 0.5, []

    def shifted(features, row, column):
        corners.append((row, column))
        targets = cellgan.discriminator.targets(images, row, column)
        return [target + by for target, by in zip(targets, (0.1, -0.2), strict=True)]

    monkeypatch.setattr(cellgan.discriminator, "rebuild", shifted)
    errors = [cellgan.reconstruction_error(images, ()).item() for _ in range(200)]
    assert errors == pytest.approx([0.3] * 200)
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(9))


def test_cellgan_discriminator_learns_to_rebuild_real_images(cellgan):
    images, labels = torch.rand(4, 3, 16, 16) - 0.5, torch.arange(4) % 2
    cellgan.config = replace(cellgan.config, augmentation=())
    errors = [float(cellgan.step(step, images, labels)["reconstruction"]) for step in range(24)]
    assert np.mean(errors[-4:]) < 0.8 * np.mean(errors[:4])


def test_generator_average_is_what_is_kept():
    for name in ("stylegan", "stylegan2-ada", "fastgan", "cell-gan"):
        generator = generators.create(name, "smoke")
        method = generator.build(2, 1, 16)
        assert generator.sampling_network(method) is method.averages["generator"].module
    generator = generators.create("dcgan", "smoke")
    method = generator.build(2, 1, 16)
    assert generator.sampling_network(method) is method.modules["generator"]  # the paper has no average


def test_paper_scale_has_the_numbers_of_the_paper():
    for name in ("dcgan", "stylegan"):
        config = generators.create(name, "paper").config
        assert (config.num_steps, config.batch_size, config.learning_rate) == (70_000, 8, 1e-3)
    config = generators.create("stylegan", "paper").config
    assert (config.base, config.maximum, config.r1_gamma, config.mixing) == (16384, 512, 10.0, 0.9)
    config = generators.create("stylegan2-ada", "paper").config
    assert (config.z_dim, config.w_dim, config.mapping_layers, config.maximum) == (512, 512, 8, 512)
    assert (config.ada_target, config.ada_kimg, config.mixing) == (0.6, 500.0, 0.9)
    config = generators.create("fastgan", "paper").config
    assert (config.image_size, config.num_steps, config.batch_size, config.flip) == (256, 50_000, 8, True)
    assert (config.z_dim, config.generator_width, config.discriminator_width) == (256, 64, 64)
    assert (config.learning_rate, config.beta1, config.ema_decay) == (2e-4, 0.5, 0.999)
    assert (config.augmentation, config.perceptual) == (("color", "translation"), "lpips-vgg16")
    assert config.per_class  # it has no classes
    config = generators.create("cell-gan", "paper").config
    assert (config.image_size, config.num_steps, config.batch_size, config.flip) == (256, 100_000, 64, True)
    assert (config.z_dim, config.generator_width, config.discriminator_width) == (128, 32, 32)
    assert (config.embedding_dim, config.mapping_layers) == (128, 4)
    assert (config.learning_rate, config.beta1, config.ema_decay) == (2.5e-4, 0.0, 0.999)
    assert (config.r1_weight, config.augmentation) == (0.01, ("color", "translation"))
    assert not config.per_class


@pytest.mark.parametrize("name", GANS)
def test_demo_generators_are_small_enough_to_ship(name):
    method = generators.create(name, "demo").build(7, 3, 32)
    assert sum(parameter.numel() for parameter in method.modules["generator"].parameters()) <= 700_000


def test_the_estimate_covers_all_stages_of_growth(monkeypatch):
    generator, seen = generators.create("stylegan", "smoke", num_steps=9), set()
    build = generator.build

    def recording(*arguments):
        method = build(*arguments)
        step = method.step

        def record(number, *batch):
            seen.add(method.stage(number)[0])
            return step(number, *batch)

        method.step = record
        return method

    monkeypatch.setattr(generator, "build", recording)
    assert generator.estimate_seconds(make_blobs(24, seed=0)) > 0
    assert seen == {8, 16}
