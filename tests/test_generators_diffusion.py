"""The diffusion generator: samplers on a denoiser known in closed form, training, resume, pre-trained weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_models_adm import official_layout, random_state

from nbutils import generators, training, weights
from nbutils.artefacts import write_manifest
from nbutils.generators.diffusion import Diffusion
from nbutils.generators.diffusion_sampling import new_sampler, sample
from nbutils.generators.diffusion_training import DiffusionConfig, DiffusionMethod
from nbutils.images import ImageSet, unlabelled
from nbutils.models.diffusion_loss import HybridLoss
from nbutils.scales import SCALES

MEAN, SD = 0.1, 0.2


def smoke(**overrides) -> Diffusion:
    return generators.create("diffusion", scale="smoke", **overrides)


def gaussian_denoiser(schedule: str, num_timesteps: int, prediction: str):
    """Return the best possible network for pixels that are independent N(MEAN, SD²), variance included."""
    loss = HybridLoss(schedule, num_timesteps, prediction)

    def network(x, t):
        signal, spread = loss.signal[t], loss.spread[t]
        total = signal**2 * SD**2 + spread**2
        start = MEAN + signal * SD**2 / total * (x - signal * MEAN)
        noise = (x - signal * start) / spread
        variance = loss.log_smallest[t].exp() + loss.mean_from_start[t] ** 2 * SD**2 * spread**2 / total
        fraction = (variance.log() - loss.log_smallest[t]) / (loss.log_largest[t] - loss.log_smallest[t])
        predicted = noise if prediction == "epsilon" else signal * noise - spread * start
        return torch.cat([predicted, (2 * fraction - 1).nan_to_num(0).expand_as(x)], 1)

    return network


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("name", "steps", "num_timesteps"), [("dpm++", 20, 1000), ("ddim", 250, 1000), ("ddpm", 200, 1000)]
)
def test_samplers_draw_the_distribution_of_a_known_denoiser(name, steps, num_timesteps, schedule, prediction):
    config = DiffusionConfig(
        16,
        1,
        1,
        sampler=name,
        num_sampling_steps=steps,
        num_timesteps=num_timesteps,
        schedule=schedule,
        prediction=prediction,
    )
    network = gaussian_denoiser(schedule, num_timesteps, prediction)
    images = sample(network, new_sampler(config), range(100), (1, 8, 8))
    assert images.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert images.std().item() == pytest.approx(SD, rel=0.05)


@pytest.mark.parametrize("name", ["dpm++", "ddim", "ddpm"])
def test_image_depends_on_its_seed_alone(name):
    config = DiffusionConfig(16, 1, 1, sampler=name, num_sampling_steps=10)
    network = gaussian_denoiser("linear", 1000, "epsilon")
    together = sample(network, new_sampler(config), [5, 6, 7], (1, 8, 8))
    torch.testing.assert_close(sample(network, new_sampler(config), [6], (1, 8, 8)), together[1:2])
    assert (together[0] - together[2]).abs().max() > 0.1


def test_unknown_sampler():
    with pytest.raises(ValueError, match=r"Unknown sampler 'dpm'; allowed: 'ddpm', 'ddim', 'dpm\+\+'"):
        new_sampler(DiffusionConfig(16, 1, 1, sampler="dpm"))


@pytest.mark.parametrize("per_class", [False, True])
def test_fit_save_load_sample(blobs, tmp_path, per_class):
    generator = smoke(per_class=per_class)
    log = generator.fit(blobs)
    assert set(log.curve) >= {"loss_simple", "loss_bound"}
    labels = [0, 1, 1, 0, 1]
    drawn = generator.sample(labels, seed=3)
    assert drawn.images.shape == (5, 1, 16, 16)
    generator.save(tmp_path)
    again = generators.load(tmp_path).sample(labels, seed=3)
    np.testing.assert_array_equal(again.images, drawn.images)
    assert (generator.networks[0].num_classes is None) == per_class


def test_image_does_not_depend_on_the_batch(blobs):
    generator = smoke(sample_batch_size=64)
    generator.fit(blobs)
    many = generator.sample([0, 1] * 5, seed=1).images
    few = smoke(sample_batch_size=3)
    few.card, few.networks = generator.card, generator.networks
    difference = np.abs(few.sample([0, 1] * 3, seed=1).images.astype(int) - many[:6])
    assert difference.max() <= 1


def test_classes_and_seeds_make_a_difference(blobs):
    generator = smoke(num_steps=15)
    generator.fit(blobs)
    a, b = (generator.sample([label], seed=1).images for label in (0, 1))
    assert (a != b).any()
    assert (generator.sample([0], seed=2).images != a).any()


def test_training_lowers_the_loss(blobs):
    curve = smoke(num_steps=30).fit(blobs).curve["loss_simple"]
    assert curve.tail(5).mean() < 0.8 * curve.head(3).mean()


def test_interrupted_training_ends_in_the_same_weights(blobs, tmp_path, monkeypatch):
    undisturbed, resumed = smoke(), smoke()
    undisturbed.fit(blobs)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    step = DiffusionMethod.step

    def interrupted(self, number, *batch):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *batch)

    monkeypatch.setattr(DiffusionMethod, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resumed.fit(blobs, checkpoint_folder=tmp_path)
    monkeypatch.setattr(DiffusionMethod, "step", step)
    assert resumed.fit(blobs, checkpoint_folder=tmp_path).resumed_from == 3
    for a, b in zip(undisturbed.networks[0].parameters(), resumed.networks[0].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_can_be_built(scale):
    config = Diffusion.scales[scale]
    with torch.device("meta"):
        method = generators.create("diffusion", scale=scale).build(3, 1, config.image_size)
    parameters = sum(p.numel() for p in method.modules["generator"].parameters())
    limits = {"smoke": (0, 2.5e5), "demo": (0, 7e5), "gpu": (1e6, 1e8), "paper": (5.5e8, 5.6e8)}
    assert limits[scale][0] < parameters < limits[scale][1]


PRETRAINED = {
    "patch_size": 1,
    "num_channels": 32,
    "channel_mult": (1, 1),
    "norm_groups": 32,
    "schedule": "linear",
    "prediction": "epsilon",
    "initial_weights": "adm-imagenet-256",
}


@pytest.fixture
def official_file(tmp_path, monkeypatch):
    """A small checkpoint in the official layout under the official name."""
    words = {
        "image_size": 16,
        "num_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": "1,1",
        "attention_resolutions": "8",
    }
    words |= {"class_cond": True, "learn_sigma": True, "resblock_updown": True, "use_scale_shift_norm": True}
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path / "paper"))
    (tmp_path / "paper").mkdir()
    torch.save(random_state(official_layout(words, 7)), tmp_path / "paper" / "256x256_diffusion.pt")
    return tmp_path / "paper" / "256x256_diffusion.pt"


@pytest.mark.parametrize("per_class", [False, True])
def test_training_starts_from_the_pretrained_weights(blobs, official_file, tmp_path, per_class):
    generator = smoke(num_steps=1, learning_rate=0.0, per_class=per_class, **PRETRAINED)
    generator.fit(blobs)
    state = torch.load(official_file, weights_only=True)
    kept = generator.networks[0].unet.mid_block.resnets[0].conv1.weight
    torch.testing.assert_close(kept, state["middle_block.0.in_layers.2.weight"], atol=1e-3, rtol=0)
    assert len(generator.card["initial_weights"]["sha256"]) == 64
    assert len(generator.card["initial_weights"]["changed"]) == 3
    generator.save(tmp_path / "saved")
    official_file.unlink()  # what was trained can be loaded without the file
    assert generators.load(tmp_path / "saved").sample([0, 1], seed=0).images.shape == (2, 1, 16, 16)
    assert load_file(tmp_path / "saved" / "weights.safetensors")


def test_key_holds_the_checksum_of_the_pretrained_weights(blobs, official_file):
    before = smoke(**PRETRAINED).key(blobs)
    torch.save({}, official_file)
    assert smoke(**PRETRAINED).key(blobs) != before
    assert "initial_weights" not in smoke().key(blobs)


def test_missing_pretrained_weights(blobs, tmp_path, monkeypatch):
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"get 256x256_diffusion\.pt from openai/guided-diffusion"):
        smoke(**PRETRAINED).fit(blobs)


def test_pretrained_weights_belong_to_one_image_size(blobs, official_file):
    with pytest.raises(ValueError, match="for images of 32 px, found 16 px"):
        smoke(**{**PRETRAINED, "image_size": 32}).fit(blobs)


def test_random_weights_can_be_asked_for_where_the_scale_starts_elsewhere():
    assert generators.create("diffusion", scale="paper").config.initial_weights is not None
    assert generators.create("diffusion", scale="paper", initial_weights="random").config.initial_weights is None


@pytest.mark.parametrize("per_class", [False, True])
def test_snapshots_show_the_same_noise_from_the_first_weights_on(blobs, tmp_path, per_class):
    generator = smoke(num_steps=27, num_snapshots=3, learning_rate=0.0, per_class=per_class)
    generator.fit(blobs)
    assert list(generator.snapshots) == [0, 1, 8, 27]
    assert {images.shape for images in generator.snapshots.values()} == {(2, 1, 16, 16)}
    np.testing.assert_array_equal(generator.snapshots[0], generator.snapshots[27])  # nothing was learned
    generator.save(tmp_path)
    loaded = generators.load(tmp_path).snapshots
    assert list(loaded) == [0, 1, 8, 27]
    np.testing.assert_array_equal(loaded[8], generator.snapshots[8])


def test_snapshots_change_with_the_training_and_do_not_change_it(blobs):
    with_snapshots, without = smoke(num_steps=30, num_snapshots=3), smoke(num_steps=30, num_snapshots=0)
    for generator in (with_snapshots, without):
        generator.fit(blobs)
    assert with_snapshots.weights_hash() == without.weights_hash()
    first, *_, last = with_snapshots.snapshots.values()
    assert (first != last).any()


@pytest.fixture
def prior_file(tmp_path, monkeypatch):
    """A prior without classes, in colour, of the smoke scale's network."""
    monkeypatch.setattr(weights, "PRIORS", tmp_path / "priors")
    colours = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    prior = smoke(num_steps=2)
    prior.fit(ImageSet(colours, np.zeros(8), ("corpus",), np.arange(8)))
    prior.save(tmp_path / "priors" / "diffusion")
    write_manifest(tmp_path / "priors" / "diffusion", "prior", {})
    return prior


def test_fine_tuning_starts_where_the_prior_stands(blobs, prior_file):
    generator = smoke(num_steps=1, learning_rate=0.0, initial_weights="prior-diffusion")
    generator.fit(blobs)
    kept, before = (g.networks[0].unet.mid_block.resnets[0].conv1.weight for g in (generator, prior_file))
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    np.testing.assert_array_equal(generator.snapshots[0], generator.snapshots[1])  # no step was taken: the prior
    assert (generator.snapshots[0] != smoke_start(blobs)).any()
    assert [line.split(":")[0] for line in generator.card["initial_weights"]["changed"]] == [
        "conv_in", "conv_out", "class_embedding",
    ]  # fmt: skip


def smoke_start(blobs):
    """What the network draws before its first step from scratch."""
    generator = smoke(num_steps=1, learning_rate=0.0)
    generator.fit(blobs)
    return generator.snapshots[0]


@pytest.mark.parametrize("change", [{"prediction": "epsilon"}, {"schedule": "linear"}, {"num_timesteps": 50}])
def test_weights_of_another_diffusion_are_refused(blobs, prior_file, change):
    with pytest.raises(ValueError, match=r"'prior-diffusion' were trained with .*, asked for"):
        smoke(num_steps=1, initial_weights="prior-diffusion", **change).fit(blobs)


def test_a_prior_of_another_network_is_refused(blobs, prior_file):
    with pytest.raises(ValueError, match="The weights do not fit the network"):
        smoke(num_steps=1, num_channels=32, initial_weights="prior-diffusion").fit(blobs)


def test_the_cost_counts_what_the_prior_saw_before():
    scratch, tuned = (generators.create("diffusion", initial_weights=name) for name in ("random", None))
    before = [generator.cost()["images_seen_before"] for generator in (scratch, tuned)]
    assert before == [0, weights.images_seen("prior-diffusion")]
    assert before[1] > 100_000


def unconditional(**settings) -> Diffusion:
    return generators.create("unconditional-diffusion", scale="smoke", num_snapshots=0, **settings)


def test_labels_do_not_reach_an_unconditional_diffusion(blobs):
    first, second = unconditional(), unconditional()
    other = ImageSet(blobs.images, (blobs.labels + 1) % 3, ("a", "b", "c"), blobs.groups)
    first.fit(blobs)
    second.fit(other)
    assert first.weights_hash() == second.weights_hash()
    assert first.key(blobs) == first.key(other)
    assert first.networks[0].num_classes is None
    assert first.card["class_names"] == ["image"]
    first.fit(blobs.of_class(0))  # a class without images is none of its business


def test_an_unconditional_diffusion_is_kept_and_found_again(blobs):
    made, artefact = generators.fitted(unconditional(), blobs)
    again, found = generators.fitted(unconditional(), blobs)
    assert (artefact.source, found.source) == ("built", "cache")
    np.testing.assert_array_equal(made.sample([0, 0], seed=1).images, again.sample([0, 0], seed=1).images)
    with pytest.raises(ValueError, match=r"labels must be 0..0, found 0..1"):
        again.sample([0, 1], seed=1)


def test_images_named_by_their_origin_have_another_key_without_labels(blobs):
    named = ImageSet(blobs.images, blobs.labels, blobs.class_names, blobs.groups, origin="phantom:x")
    assert unlabelled(named).fingerprint() != named.fingerprint()
    assert unconditional().key(named)["images"] == unlabelled(named).fingerprint()


def test_an_unconditional_diffusion_starts_from_the_prior(blobs, prior_file):
    generator = unconditional(num_steps=1, learning_rate=0.0, initial_weights="prior-diffusion")
    generator.fit(blobs)
    kept, before = (g.networks[0].unet.mid_block.resnets[0].conv1.weight for g in (generator, prior_file))
    torch.testing.assert_close(kept, before, rtol=0, atol=0)


def test_the_paper_scale_of_unconditional_diffusion_is_adm_at_128_px():
    generator = generators.create("unconditional-diffusion", scale="paper")
    with torch.device("meta"):
        network = generator.build(7, 3, generator.config.image_size).modules["generator"]
    assert network.num_classes is None
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == pytest.approx(421.5e6 - 1000 * 1024, rel=1e-3)  # the published one has ImageNet's classes
