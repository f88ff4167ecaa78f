"""Latent diffusion with LoRA: what is trained, what the others see of it, captions, files; held against diffusers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_blobs, save_small_pipeline
from diffusers import DPMSolverMultistepScheduler
from peft.tuners.lora import LoraLayer
from torch import Tensor

from nbutils import generators, phantoms, pipelines, training, weights
from nbutils.generators.ldm_lora import AdaptedUNet, LDMLoRAMethod
from nbutils.seeds import image_seeds, seeded_normal

SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    save_small_pipeline(path)
    return path


@pytest.fixture
def blobs():
    return make_blobs(12, 0, image_size=SIZE)


def make(folder, **changes):
    settings = {"num_steps": 4, "rank": 2, "alpha": 6.0, "learning_rate": 0.01, "guidance_scale": 2.0, **changes}
    return generators.create("ldm-lora", "smoke", pipeline=f"folder:{folder}", **settings)


def trained(folder, blobs, **changes):
    generator = make(folder, **changes)
    generator.fit(blobs)
    return generator


def inputs(width: int = 16, channels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy latents, a time, and states of a text, to hold one U-Net against another."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((2, channels, 8, 8), generator=generator)
    return latents, torch.tensor(300), torch.randn((2, 77, width), generator=generator)


def predicted(unet, *given: Tensor) -> Tensor:
    with torch.inference_mode():
        return unet(*(given or inputs())).sample


def test_before_training_the_adapted_network_is_the_pretrained_one(folder):
    pipeline = pipelines.load_pipeline(folder)
    adapted = AdaptedUNet(pipeline.unet, rank=2, alpha=6.0)
    assert torch.equal(predicted(adapted.unet), predicted(pipeline.unet))


def test_each_projection_of_each_attention_has_its_update(folder):
    pipeline = pipelines.load_pipeline(folder)
    adapted = AdaptedUNet(pipeline.unet, rank=2, alpha=6.0)
    layers = {name for name, layer in adapted.unet.named_modules() if isinstance(layer, LoraLayer)}
    attentions = [name for name, _ in pipeline.unet.named_modules() if name.endswith(("attn1", "attn2"))]
    assert layers == {f"{name}.{part}" for name in attentions for part in ("to_q", "to_k", "to_v", "to_out.0")}
    assert set(adapted.state_dict()) == {f"{name}.lora_{matrix}.weight" for name in layers for matrix in "AB"}
    for name in layers:
        layer, x = adapted.unet.get_submodule(name), torch.randn(3, pipeline.unet.get_submodule(name).in_features)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        b.data.normal_()
        expected = layer.base_layer(x) + 6.0 / 2 * x @ a.T @ b.T
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_only_the_lora_is_trained(folder, blobs):
    generator, fresh = make(folder), pipelines.load_pipeline(folder)
    generator.card = generator._new_card(blobs)
    start = {name: value.clone() for name, value in generator._new_method(0).modules["generator"].state_dict().items()}
    generator.fit(blobs)
    network = generator.networks[0]
    assert all((value - start[name]).abs().max() > 1e-3 for name, value in network.state_dict().items())
    plain = {name.replace(".base_layer", ""): value for name, value in network.unet.state_dict().items()}
    for name, value in fresh.unet.state_dict().items():
        assert torch.equal(plain[name], value), name
    for part in ("vae", "text_encoder"):
        for name, value in getattr(fresh, part).state_dict().items():
            assert torch.equal(getattr(generator.pipeline, part).state_dict()[name], value), name


def test_what_others_see_of_the_pipeline_stays_as_it_was(folder, blobs):
    generator = make(folder)
    before, names = predicted(generator.pipeline.unet), list(generator.pipeline.unet.state_dict())
    first = trained(folder, blobs)
    drawn = first.sample([0, 1], seed=3).images
    second = trained(folder, blobs, learning_rate=0.1)
    assert torch.equal(predicted(generator.pipeline.unet), before)
    assert list(generator.pipeline.unet.state_dict()) == names
    assert np.array_equal(first.sample([0, 1], seed=3).images, drawn)
    assert not np.array_equal(second.sample([0, 1], seed=3).images, drawn)
    assert not any(p.requires_grad or p.grad is not None for p in generator.pipeline.unet.parameters())


def test_the_frozen_weights_are_there_once(folder):
    unet = pipelines.load_pipeline(folder).unet
    copies = AdaptedUNet(unet, rank=2, alpha=2.0).unet
    frozen = {p.data_ptr() for p in copies.parameters() if not p.requires_grad}
    assert frozen == {p.data_ptr() for p in unet.parameters()}


def test_the_loss_falls_on_one_batch(folder):
    pipeline = pipelines.load_pipeline(folder)
    torch.manual_seed(0)
    method = LDMLoRAMethod(pipeline, AdaptedUNet(pipeline.unet, rank=4, alpha=4.0), 0.01)
    latents, _, states = inputs()
    batch = (latents, torch.randn_like(latents), torch.tensor([100, 600]), states)
    losses = [float(method.step(step, *batch)["loss"]) for step in range(30)]
    assert losses[-1] < losses[0] - 0.05


def test_an_interrupted_training_ends_in_the_same_weights(folder, blobs, tmp_path, monkeypatch):
    undisturbed, step = trained(folder, blobs), LDMLoRAMethod.step

    def killed(self, number, *batch):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *batch)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(LDMLoRAMethod, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        make(folder).fit(blobs, tmp_path)
    monkeypatch.setattr(LDMLoRAMethod, "step", step)
    resumed = make(folder)
    assert resumed.fit(blobs, tmp_path).resumed_from == 3
    assert resumed.weights_hash() == undisturbed.weights_hash()


def test_what_was_saved_draws_the_same_each_image_from_its_own_seed_and_class(folder, blobs, tmp_path):
    generator = trained(folder, blobs)
    generator.save(tmp_path)
    drawn = generators.load(tmp_path).sample([0, 1, 1], seed=3).images
    assert drawn.shape == (3, 1, SIZE, SIZE)
    assert np.array_equal(drawn, generator.sample([0, 1, 1], seed=3).images)
    assert np.array_equal(drawn[:2], generator.sample([0, 1], seed=3).images)
    other = generator.sample([1, 1, 1], seed=3).images
    assert np.array_equal(other[1:], drawn[1:])
    assert not np.array_equal(other[0], drawn[0])


def test_a_file_of_another_rank_is_refused(folder, blobs, tmp_path):
    trained(folder, blobs).save(tmp_path)
    card = (tmp_path / "card.json").read_text()
    (tmp_path / "card.json").write_text(card.replace('"rank": 2', '"rank": 3'))
    with pytest.raises(RuntimeError, match="size mismatch"):
        generators.load(tmp_path)


def test_other_names_than_those_of_the_lora_are_refused(folder):
    adapted = AdaptedUNet(pipelines.load_pipeline(folder).unet, rank=2, alpha=2.0)
    state = adapted.state_dict()
    state["mid_block.other"] = state.pop(next(iter(state)))
    with pytest.raises(RuntimeError, match=r"missing or extra are .*mid_block.other"):
        adapted.load_state_dict(state)


def test_the_shipped_pipeline_of_diffusers_reads_the_file_and_draws_the_same_latents(tmp_path):
    generator = generators.create("ldm-lora", "smoke", alpha=12.0, learning_rate=0.02, guidance_scale=3.0)
    generator.fit(make_blobs(8, 0, image_size=SIZE, channels=3))
    generator.save(tmp_path)
    theirs = pipelines.load_pipeline(weights.locate(generator.config.pipeline))
    given = inputs(theirs.text_encoder.config.hidden_size, theirs.unet.config.in_channels)
    before = predicted(theirs.unet, *given)
    theirs.load_lora_weights(tmp_path)
    found = predicted(theirs.unet, *given)
    torch.testing.assert_close(found, predicted(generator.networks[0].unet, *given), rtol=1e-3, atol=1e-4)
    assert (found - before).abs().max() > 0.01
    seeds = image_seeds(5, 2, "sample")
    theirs.scheduler = DPMSolverMultistepScheduler.from_config(theirs.scheduler.config)
    drawn = theirs(
        ["a photo of bright", "a photo of dark"],
        latents=seeded_normal(seeds, (theirs.unet.config.in_channels, 8, 8)),
        guidance_scale=3.0,
        num_inference_steps=2,
        output_type="latent",
    ).images
    expected = generator.sample([0, 1], seed=5).images
    assert np.abs(generator._decoded(drawn).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("flip", [True, False])
def test_images_meet_their_own_captions_and_mirrored_ones_as_often_as_others(folder, blobs, flip, monkeypatch):
    """The first pixel tells the side; instead of latents the batches carry class and side."""
    pixels = blobs.images.copy()
    pixels[:, 0, 0, 0], pixels[:, 0, 0, -1] = 0, 255

    def marked(images: np.ndarray) -> Tensor:
        value = np.where(images[:, 0, 5:11, 5:11].mean((1, 2)) > 128, 1.0, -1.0) * (1 + images[:, 0, 0, 0] / 255)
        means = torch.from_numpy(value)[:, None, None, None].expand(-1, 4, 8, 8)
        return torch.cat([means, torch.full_like(means, -30.0)], 1).half()

    generator = make(folder, flip=flip, batch_size=8)
    monkeypatch.setattr(generator, "_moments", marked)
    generator.card = generator._new_card(blobs)
    batches = generator._batches(generator._new_method(0), replace(blobs, images=pixels), 0)
    coders, sides = (generator.pipeline.tokenizer, generator.pipeline.text_encoder), []
    bright, dark = pipelines.encode_texts(*coders, ["a photo of bright", "a photo of dark"])
    for step in range(20):
        latents, noise, t, states = batches(step)
        values = latents.mean((1, 2, 3)) / generator.pipeline.vae.config.scaling_factor
        for value, found in zip(values, states, strict=True):
            torch.testing.assert_close(found, bright if value > 0 else dark, rtol=1e-4, atol=1e-5)
        sides += (values.abs() > 1.5).tolist()
        assert noise.shape == latents.shape == (8, 4, 8, 8)
        assert sorted(t.tolist()) == sorted(set(t.tolist())), "times are spread"
    assert np.mean(sides) == (pytest.approx(0.5, abs=0.15) if flip else 0)


@pytest.mark.parametrize(
    ("class_names", "caption"),
    [(("α", "β"), "a photo of {}"), (("x" * 99 + "a", "x" * 99 + "b"), "a photo of {}"), (("a", "b"), "a photo")],
    ids=["unknown characters", "too long", "no name"],
)
def test_captions_that_the_tokenizer_reads_alike_are_refused(folder, blobs, class_names, caption):
    with pytest.raises(ValueError, match=r"reads captions of different classes alike: \['a photo"):
        make(folder, caption=caption).fit(replace(blobs, class_names=class_names))


@pytest.mark.parametrize("modality", phantoms.names())
def test_the_small_prior_tells_the_classes_of_every_phantom_apart(modality):
    """It does not know most of their names, and spells them."""
    generator = generators.create("ldm-lora", "demo")
    names = phantoms.modality(modality).class_names
    assert generator.captions(names) == [f"a photo of {name}" for name in names]
    states = generator._states(names).flatten(1)
    known = pipelines.encode_texts(
        generator.pipeline.tokenizer, generator.pipeline.text_encoder, ["a photo of a disc", "a photo of a star"]
    ).flatten(1)
    distances = torch.cdist(states, states)[~torch.eye(len(names), dtype=torch.bool)]
    assert distances.min() > 0.2 * (known[0] - known[1]).norm()  # of the single letters of fundus, 0.26


def test_one_lora_for_each_class_is_refused(folder, blobs):
    with pytest.raises(ValueError, match="one LoRA for all classes: per_class=True is not allowed"):
        make(folder, per_class=True).fit(blobs)


def test_only_the_lora_counts_as_kept(folder, blobs):
    generator = trained(folder, blobs)
    counted = sum(p.numel() for p in generator.networks[0].parameters() if p.requires_grad)
    assert generator.cost()["parameters"] == counted
    assert generator.cost()["images_seen"] == 16


def test_the_key_holds_the_pipelines_files(folder, blobs):
    assert make(folder).key(blobs)["pretrained"][f"folder:{folder}"] == weights.checksum(f"folder:{folder}")


def test_paper_scale_has_the_papers_numbers():
    generator = generators.create("ldm-lora", "paper")
    epochs = generator.config.num_steps * generator.config.batch_size / 2628
    assert (generator.config.learning_rate, epochs) == (5e-4, 1000)


def test_adam_has_the_learning_rate_and_no_weight_decay(folder):
    method = make(folder).build(2, 1, SIZE)
    (group,) = method.optimizers["generator"].param_groups
    assert type(method.optimizers["generator"]) is torch.optim.Adam
    assert (group["lr"], group["weight_decay"]) == (0.01, 0)
