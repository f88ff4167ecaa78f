"""VQ-VAE-2 behind the generator protocol: stages, codes computed once, exact resume in each stage, seeds."""

import numpy as np
import pytest
import torch
from conftest import make_blobs
from test_generators_gans import Interruption, breaking_at
from torch.nn import functional as F

from nbutils import generators, paper_build, training
from nbutils.generators.vqvae2_training import CodeBatches, stage_at, stages
from nbutils.models.codes import perplexity
from nbutils.models.vqvae2 import VQVAE2


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smoke(**changes):
    return generators.create("vqvae2", "smoke", **changes)


def weights_of(method, name):
    return {key: value.clone() for key, value in method.networks.get_submodule(name).state_dict().items()}


def test_stages_take_their_shares_of_whatever_number_of_steps():
    parts = stages(smoke(num_steps=20, stage_steps=(6, 3, 1), top_batch_size=7).config)
    assert [(stage.name, stage.first, stage.num_steps) for stage in parts] == [
        ("autoencoder", 0, 12),
        ("top", 12, 6),
        ("bottom", 18, 2),
    ]
    assert [stage.batch_size for stage in parts] == [4, 7, 4]
    assert [stage_at(parts, step).name for step in (0, 11, 12, 17, 18, 19)] == [
        *("autoencoder", "autoencoder", "top", "top", "bottom", "bottom")
    ]
    for scale in ("smoke", "demo", "gpu", "paper"):
        config = generators.create("vqvae2", scale).config
        assert [stage.num_steps for stage in stages(config)] == list(config.stage_steps)


@pytest.mark.parametrize(("step", "trained"), [(0, "autoencoder"), (3, "top"), (6, "bottom")])
def test_a_step_trains_the_networks_of_its_stage_alone(step, trained):
    generator, images = smoke(), make_blobs(12, seed=0)
    generator.card = generator._new_card(images)
    method = generator._new_method(0)
    batches = generator._batches(method, images, 0)
    before = {name: weights_of(method, name) for name in ("autoencoder", "top", "bottom")}
    method.step(step, *batches(step))
    for name, state in before.items():
        moved = [key for key, value in weights_of(method, name).items() if not torch.equal(value, state[key])]
        assert bool(moved) == (name == trained)


def test_the_first_stage_goes_down_the_published_loss():
    method = smoke(commitment=0.5).build(2, 1, 16)
    images, labels = torch.rand(4, 1, 16, 16), torch.arange(4) % 2
    autoencoder = method.networks.autoencoder
    with torch.no_grad():
        rebuilt, levels = autoencoder(images)
        expected = F.mse_loss(rebuilt, images) + 0.5 * sum(
            F.mse_loss(z, autoencoder.get_submodule(level).vectors(codes)) for level, (z, codes) in levels.items()
        )
    codes_before = autoencoder.bottom.codes.clone()
    loss, scalars = method._rebuild(images, labels)
    torch.testing.assert_close(loss.detach(), expected)
    assert {"loss_reconstruction", "commitment_top", "commitment_bottom"} <= set(scalars)
    assert not torch.equal(autoencoder.bottom.codes, codes_before), "codebooks follow the vectors"


def test_priors_learn_the_codes_of_their_level():
    method = smoke(num_steps=120, stage_steps=(0, 1, 1), prior_learning_rate=0.02).build(2, 1, 16)
    top, labels = torch.randint(8, (4, 2, 2)), torch.arange(4) % 2
    bottom = top.repeat_interleave(2, 1).repeat_interleave(2, 2)  # all of it is told by the top codes
    losses = [method.step(step, top, bottom, labels) for step in range(120)]
    assert losses[0]["loss_top"] > 1.9
    assert losses[119]["loss_bottom"] < 0.5 < losses[60]["loss_bottom"]
    method.networks.eval()
    expected = F.cross_entropy(method.networks.bottom(bottom, labels, top), bottom)
    torch.testing.assert_close(method._predict("bottom", top, bottom, labels)[0], expected)


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.tensor([[0, 1], [2, 3]]), 9).item() == pytest.approx(4)
    assert perplexity(torch.tensor([0, 0, 0, 1]), 9).item() == pytest.approx(0.75**-0.75 * 0.25**-0.25)
    assert perplexity(torch.tensor([5, 5, 5]), 9).item() == pytest.approx(1)


def test_each_image_is_encoded_once_by_the_autoencoder_of_its_first_stage(monkeypatch):
    images, counts = make_blobs(24, seed=0), []
    encode = VQVAE2.encode
    monkeypatch.setattr(VQVAE2, "encode", lambda self, given: counts.append(len(given)) or encode(self, given))
    smoke(flip=True, num_steps=60, stage_steps=(1, 1, 1)).fit(images)
    assert sum(counts) == 48  # as they are and mirrored
    counts.clear()
    smoke(num_steps=2, stage_steps=(3, 0, 0)).fit(images)
    assert counts == []


def test_codes_of_mirrored_images_come_second_and_as_often():
    generator, images = smoke(), make_blobs(12, seed=0)
    autoencoder = generator.build(2, 1, 16).networks.autoencoder
    codes = generator._codes(autoencoder, images.images)
    mirrored = generator._codes(autoencoder, np.ascontiguousarray(images.images[..., ::-1]))
    for level, side in (("top", 2), ("bottom", 4)):
        assert codes[level].shape == (2, 12, side, side)
        assert torch.equal(codes[level].flip(0), mirrored[level])
    marked = {
        level: torch.stack([torch.zeros_like(rows[0]), torch.ones_like(rows[0])]) for level, rows in codes.items()
    }
    batches = CodeBatches(marked, images.labels, 6, seed=0)
    drawn = [batches(step) for step in range(40)]
    assert torch.cat([top for top, _, _ in drawn]).float().mean() == pytest.approx(0.5, abs=0.15)
    assert all(torch.equal(top[:, 0, 0], bottom[:, 0, 0]) for top, bottom, _ in drawn), "both levels of one image"
    order = CodeBatches(codes, images.labels, 6, seed=0)
    assert torch.equal(order(1)[2], torch.from_numpy(images.labels)[order.indices(1)])


@pytest.mark.parametrize("stop", [2, 3, 5, 6, 8])
def test_an_interrupted_training_ends_in_the_same_weights(stop, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    images, settings = make_blobs(24, seed=0), {"dropout": 0.3, "revived_after": 1}
    undisturbed = smoke(**settings)
    undisturbed.fit(images)
    interrupted = smoke(**settings)
    with monkeypatch.context() as patch:
        patch.setattr(interrupted, "build", breaking_at(stop, interrupted.build))
        with pytest.raises(Interruption):
            interrupted.fit(images, checkpoint_folder=tmp_path)
    assert interrupted.fit(images, checkpoint_folder=tmp_path).resumed_from == stop
    expected = undisturbed.networks[0].state_dict()
    for key, value in interrupted.networks[0].state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(("per_class", "channels"), [(False, 1), (True, 3)])
def test_round_trip(per_class, channels, tmp_path):
    generator = smoke(per_class=per_class)
    log = generator.fit(make_blobs(24, seed=0, channels=channels))
    assert len(generator.networks) == (2 if per_class else 1)
    assert {"loss_reconstruction", "loss_top", "loss_bottom"} <= set(log.curve.columns)
    drawn = generator.sample([0, 1, 1], seed=5)
    assert drawn.images.shape == (3, channels, 16, 16)
    generator.save(tmp_path)
    again = generators.load(tmp_path)
    np.testing.assert_array_equal(again.sample([0, 1, 1], seed=5).images, drawn.images)
    assert generator.cost()["images_seen"] == 36 * len(generator.networks)


def test_an_image_depends_on_its_seed_and_label_alone():
    generator = smoke(num_steps=6, sample_batch_size=5)
    generator.fit(make_blobs(24, seed=0))
    together = generator.sample([0, 1, 0, 1, 1], seed=3).images.astype(int)
    generator.config = smoke(num_steps=6, sample_batch_size=2).config
    assert abs(generator.sample([0, 1, 0, 1, 1], seed=3).images - together).max() <= 1
    assert abs(generator.sample([0, 1], seed=3).images - together[:2]).max() <= 1
    assert not np.array_equal(generator.sample([0, 1], seed=4).images, together[:2])
    assert not np.array_equal(generator.sample([1, 1], seed=3).images[0], generator.sample([1, 1], seed=3).images[1])


def test_the_class_reaches_the_image():
    generator = smoke(num_steps=1)
    generator.fit(make_blobs(24, seed=0))
    network = generator.networks[0]
    for layer in (*network.top.layers, *network.bottom.layers):
        torch.nn.init.normal_(layer.classes.weight, std=5)
    one, two = (generator.sample([label] * 3, seed=3).images for label in (0, 1))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("image_size", [8, 20])
def test_other_sizes_are_refused(image_size):
    with pytest.raises(ValueError, match=f"needs images of a multiple of 8 px, at least 16, found {image_size} px"):
        smoke().build(2, 1, image_size)


def test_paper_scale_has_the_numbers_of_the_papers():
    generator = generators.create("vqvae2", "paper")
    config = generator.config
    assert (config.image_size, config.per_class, config.learning_rate) == (256, True, 3e-4)  # Xing et al.
    with torch.device("meta"):
        networks = generator.build(1, 3, 256).networks
    assert (networks.top.config.grid, networks.bottom.config.grid) == (32, 64)
    assert sorted(networks.top.attention, key=int) == ["4", "9", "14", "19"]
    assert len(networks.bottom.attention) == 0
    # Razavi et al.
    assert (config.channels, config.residual_channels, config.num_blocks) == (128, 64, 2)
    assert (config.code_dim, config.num_codes, config.commitment, config.codebook_decay) == (64, 512, 0.25, 0.99)
    assert (config.prior_width, config.prior_layers, config.filter_size, config.dropout) == (512, 20, 5, 0.1)
    assert (config.top_residual_channels, config.bottom_residual_channels) == (2048, 1024)
    assert (config.attention_heads, config.output_layers, config.condition_layers) == (8, 20, 20)
    assert (config.batch_size, config.top_batch_size, config.bottom_batch_size) == (128, 1024, 512)
    assert config.stage_steps == (2_207_444, 1_600_000, 754_000)


def test_paper_build_steps_each_stage(monkeypatch):
    create = generators.create
    monkeypatch.setattr(generators, "create", lambda name, scale, **settings: create(name, "smoke", **settings))
    assert {"loss_reconstruction", "loss_top", "loss_bottom"} <= set(paper_build._vqvae2().step())


def test_the_estimate_covers_all_stages(monkeypatch):
    generator, seen = smoke(), set()
    build = generator.build

    def recording(*arguments):
        method = build(*arguments)
        step = method.step
        method.step = lambda number, *batch: seen.add(stage_at(method.stages, number).name) or step(number, *batch)
        return method

    monkeypatch.setattr(generator, "build", recording)
    assert generator.estimate_seconds(make_blobs(24, seed=0)) > 0
    assert seen == {"autoencoder", "top", "bottom"}
