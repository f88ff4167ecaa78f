"""Latent diffusion behind the generator protocol: vectors encoded once, codes at the end, exact resume, seeds."""

import numpy as np
import pytest
import torch
from conftest import make_blobs
from diffusers import VQModel
from safetensors.torch import save_file
from test_generators_gans import Interruption, breaking_at
from test_models_ldm import checkpoint, official_vq, small_vq

from nbutils import generators, paper_build, pipelines, training, weights
from nbutils.generators import ldm
from nbutils.generators.latent_training import VectorBatches
from nbutils.generators.text_sampling import new_sampler
from nbutils.images import ImageSet, in_colour, resize
from nbutils.models.ldm import noise_schedule

LEVELS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small VQ autoencoder of factor 8, with random weights and a codebook among its vectors."""
    path = tmp_path_factory.mktemp("first-stage")
    torch.manual_seed(0)
    autoencoder = VQModel(
        down_block_types=("DownEncoderBlock2D",) * LEVELS,
        up_block_types=("UpDecoderBlock2D",) * LEVELS,
        block_out_channels=(8,) * LEVELS,
        latent_channels=4,
        num_vq_embeddings=32,
        norm_num_groups=4,
        scaling_factor=1.5,
    )
    torch.nn.init.normal_(autoencoder.quantize.embedding.weight)
    autoencoder.save_pretrained(path)
    return path


@pytest.fixture
def smoke(folder):
    return lambda **changes: generators.create("ldm", "smoke", **{"first_stage": f"folder:{folder}", **changes})


@pytest.fixture
def blobs():
    return make_blobs(12, seed=0)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batches_of(generator, images: ImageSet):
    generator.card = generator._new_card(images)
    return generator._batches(generator._new_method(0), images, 0)


def test_batches_are_scaled_vectors_before_they_become_codes(smoke, blobs, folder):
    first_stage = pipelines.load_autoencoder(folder, VQModel)
    generator = smoke()
    latents, noise, t, labels = batches_of(generator, blobs)(1)
    pixels = in_colour(resize(blobs.images, 64))
    with torch.inference_mode():
        vectors = first_stage.encoder(torch.from_numpy(pixels).float() / 127.5 - 1)
        vectors = first_stage.quant_conv(vectors)
    assert latents.shape == noise.shape == (4, 4, 8, 8)
    distances = (latents[:, None] / 1.5 - vectors[None]).abs().flatten(2).amax(2)
    assert distances.amin(1).max() < 5e-3  # kept in half precision
    assert torch.equal(torch.from_numpy(blobs.labels)[distances.argmin(1)], labels)
    assert ((t >= 0) & (t < 1000)).all()


def test_each_image_is_encoded_once_by_however_many_generators(smoke, blobs, monkeypatch):
    counts, encode = [], ldm.encode
    monkeypatch.setattr(ldm, "encode", lambda stage, images: counts.append(images) or encode(stage, images))
    smoke(flip=True).fit(blobs)
    smoke(flip=True, num_steps=2).fit(blobs)
    assert [len(images) for images in counts] == [12, 12]
    np.testing.assert_array_equal(counts[1], counts[0][..., ::-1])


def test_mirrored_vectors_are_taken_as_often():
    vectors = torch.stack([torch.zeros(6, 4, 2, 2), torch.ones(6, 4, 2, 2)])
    batches = VectorBatches(vectors, 6, seed=0, scale=2.0, num_timesteps=10)
    drawn = torch.cat([batches(step)[0] for step in range(40)])
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert drawn.mean() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(("image_size", "expected"), [(16, 64), (32, 64), (64, 64), (100, 112), (128, 128)])
def test_small_images_are_enlarged_and_others_fit_the_levels(smoke, image_size, expected):
    generator = smoke()
    assert generator._working_size(image_size) == expected
    assert generator.build(2, 1, image_size).modules["generator"].unet.config.sample_size == expected // 8


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_squared_error_of_the_prediction(smoke, prediction):
    method = smoke(prediction=prediction).build(2, 1, 16)
    network, labels, t = method.modules["generator"], torch.tensor([0, 1]), torch.tensor([100, 700])
    latents, noise = torch.randn(2, 2, 4, 8, 8)
    kept = method.scheduler.alphas_cumprod[t][:, None, None, None]
    with torch.no_grad():
        found = network.unet(kept.sqrt() * latents + (1 - kept).sqrt() * noise, t, network.classes(labels)[:, None])
    target = {"epsilon": noise, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * latents}[prediction]
    expected = (found.sample - target).square().mean()
    torch.testing.assert_close(method.step(0, latents, noise, t, labels)["loss"], expected)


def test_the_classes_are_trained_and_the_first_stage_is_not(smoke, blobs, folder):
    generator = smoke(learning_rate=0.01)
    generator.card = generator._new_card(blobs)
    before = generator._new_method(0).modules["generator"].classes.weight.clone()
    generator.fit(blobs)
    assert ((generator.networks[0].classes.weight - before).abs().amax(1) > 1e-4).all()
    fresh = pipelines.load_autoencoder(folder, VQModel).state_dict()
    for name, value in generator.first_stage.state_dict().items():
        assert torch.equal(value, fresh[name]), name
    assert not any("quantize" in name or "encoder" in name for name in generator.networks[0].state_dict())


def test_what_is_drawn_is_decoded_from_codes(smoke, blobs, monkeypatch):
    generator, seen = smoke(), []
    generator.fit(blobs)
    decoder = generator.first_stage.post_quant_conv
    handle = decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    generator.sample([0, 1], seed=0)
    handle.remove()
    vectors = seen[0].movedim(1, -1).flatten(0, 2)
    codebook = generator.first_stage.quantize.embedding.weight
    assert torch.cdist(vectors, codebook).amin(1).max() < 1e-3


def test_drawn_latents_are_put_back_to_the_first_stages_scale(smoke, blobs, monkeypatch):
    generator, seen, decode = smoke(), [], ldm.decode
    generator.fit(blobs)
    monkeypatch.setattr(ldm, "draw_latents", lambda *given, **more: torch.full((1, 4, 8, 8), 3.0))
    monkeypatch.setattr(ldm, "decode", lambda stage, latents: seen.append(latents) or decode(stage, latents))
    generator.sample([0], seed=0)
    assert torch.equal(seen[0], torch.full((1, 4, 8, 8), 2.0))


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_training_ends_in_the_same_weights(smoke, blobs, stop, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    undisturbed, interrupted = smoke(), smoke()
    undisturbed.fit(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(interrupted, "build", breaking_at(stop, interrupted.build))
        with pytest.raises(Interruption):
            interrupted.fit(blobs, checkpoint_folder=tmp_path)
    assert interrupted.fit(blobs, checkpoint_folder=tmp_path).resumed_from == stop
    expected = undisturbed.networks[0].state_dict()
    for key, value in interrupted.networks[0].state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(("per_class", "channels"), [(False, 1), (True, 3)])
def test_round_trip(smoke, per_class, channels, tmp_path):
    generator = smoke(per_class=per_class)
    log = generator.fit(make_blobs(12, seed=0, channels=channels))
    assert len(generator.networks) == (2 if per_class else 1)
    assert "loss" in log.curve.columns
    drawn = generator.sample([0, 1, 1], seed=5)
    assert drawn.images.shape == (3, channels, 16, 16)
    generator.save(tmp_path)
    np.testing.assert_array_equal(generators.load(tmp_path).sample([0, 1, 1], seed=5).images, drawn.images)
    assert generator.estimate_seconds(make_blobs(12, seed=0, channels=channels), num_steps=1) > 0


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_an_image_depends_on_its_seed_and_label_alone(smoke, blobs, sampler):
    generator = smoke(sampler=sampler, sample_batch_size=5)
    generator.fit(blobs)
    together = generator.sample([0, 1, 0, 1, 1], seed=3).images.astype(int)
    generator.config = smoke(sampler=sampler, sample_batch_size=2).config
    assert abs(generator.sample([0, 1, 0, 1, 1], seed=3).images - together).max() <= 1
    assert not np.array_equal(generator.sample([0, 1], seed=4).images, together[:2])
    assert not np.array_equal(together[3], together[4])


def test_the_class_reaches_the_image(smoke, blobs):
    generator = smoke()
    generator.fit(blobs)
    torch.nn.init.normal_(generator.networks[0].classes.weight, std=30)
    one, two = (generator.sample([label] * 3, seed=3).images for label in (0, 1))
    assert not np.array_equal(one, two)


def test_ddim_takes_the_times_of_compvis():
    """Times of make_ddim_timesteps, and noise levels before and after each of make_ddim_sampling_parameters."""
    sampler = new_sampler(noise_schedule("epsilon"), "ddim", 50)
    assert sampler.timesteps.tolist() == list(range(981, 0, -20))
    alpha_bar, x, noise = sampler.alphas_cumprod, torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for t, before in ((981, 961), (1, 0)):
        start = (x - (1 - alpha_bar[t]).sqrt() * noise) / alpha_bar[t].sqrt()
        expected = alpha_bar[before].sqrt() * start + (1 - alpha_bar[before]).sqrt() * noise
        torch.testing.assert_close(sampler.step(noise, t, x).prev_sample, expected)


def test_the_key_holds_the_first_stages_files(smoke, blobs, folder):
    found = smoke().key(blobs)["pretrained"]
    assert found == {f"folder:{folder}": weights.checksum(f"folder:{folder}")}


def test_training_can_start_from_a_published_checkpoint(smoke, blobs, tmp_path):
    path = tmp_path / "ldm.pt"
    state = {name: 0.02 * value for name, value in checkpoint(num_classes=2, averaged=True).items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    sizes = {"widths": (8, 16, 24), "layers_per_block": 2, "head_channels": 4, "norm_groups": 4, "class_width": 12}
    generator = smoke(initial_weights=f"folder:{path}", learning_rate=0.0, num_steps=1, **sizes)
    generator.fit(blobs)
    found, given = generator.networks[0], state["cond_stage_model.embedding.weight"]
    assert torch.equal(found.classes.weight, given.half().float())
    assert torch.equal(found.unet.conv_out.weight, state["model_ema.diffusion_modelout2weight"].half().float())
    assert generator.card["initial_weights"]["changed"] == []
    assert generator.key(blobs)["pretrained"][f"folder:{path}"] == weights.checksum(f"folder:{path}")


def test_a_published_first_stage_is_read(tmp_path, monkeypatch):
    state = official_vq()
    save_file(dict(state), tmp_path / "vq.safetensors")
    monkeypatch.setattr(ldm, "build_vq_f8", small_vq)
    found = generators.create("ldm", "smoke", first_stage=f"folder:{tmp_path / 'vq.safetensors'}").first_stage
    assert torch.equal(found.quantize.embedding.weight, state["quantize.embedding.weight"])
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_paper_scale_has_the_numbers_of_the_configuration():
    generator = generators.create("ldm", "paper")
    config = generator.config
    assert (config.image_size, config.batch_size, config.learning_rate) == (256, 8, 8 * 1e-6)
    assert (config.widths, config.layers_per_block, config.head_channels) == ((256, 512, 1024), 2, 32)
    assert (config.class_width, config.prediction, config.initial_weights) == (512, "epsilon", None)
    with torch.device("meta"):
        network = generator.build(6, 3, 256).modules["generator"]
    assert (network.unet.config.sample_size, network.unet.config.in_channels) == (32, 4)
    assert generator._working_size(512) // 8 == 64


def test_the_step_is_adamw(smoke):
    (group,) = smoke(learning_rate=0.01, weight_decay=0.3).build(2, 1, 16).optimizers["generator"].param_groups
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.3)


def test_paper_build_steps_and_decodes(monkeypatch):
    create = generators.create
    monkeypatch.setattr(generators, "create", lambda name, scale, **settings: create(name, "smoke", **settings))
    monkeypatch.setattr(paper_build, "build_vq_f8", small_vq)
    candidate = paper_build._ldm()
    assert set(candidate.step()) == {"loss"}
    assert len(list(candidate.networks())) == 2
