"""Textual inversion: files, text encoder, training, sampling; held against diffusers' own pipeline."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_blobs, save_small_pipeline
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from nbutils import generators, pipelines, training
from nbutils.generators import latent_diffusion
from nbutils.generators import textual_inversion as ti
from nbutils.generators.text_sampling import Conditions, Known, draw_latents, guided, new_sampler
from nbutils.generators.token_embeddings import TokenEmbedding, encode_nothing, encode_vectors, initial_vectors
from nbutils.seeds import derive_seed, image_seeds, seeded_normal

WIDTH, SIZE = 16, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    save_small_pipeline(path)
    return path


@pytest.fixture
def pipeline(folder):
    return pipelines.load_pipeline(folder)


def make(folder, **changes):
    settings = {"num_vectors": 3, "num_steps": 4, "sampler": "euler-ancestral", "pipeline": f"folder:{folder}"}
    return generators.create("textual-inversion", "smoke", **{**settings, "initial_scale": 1.0, **changes})


@pytest.fixture
def blobs():
    return make_blobs(12, 0, image_size=SIZE)


@pytest.fixture
def trained(folder, blobs):
    generator = make(folder)
    generator.fit(blobs)
    return generator


def random_vectors(count: int, seed: int = 0) -> Tensor:
    return torch.randn((count, WIDTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 5, 64, 75])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_text_encoder_reads_a_concept_as_diffusers_does_after_loading_the_file(folder, tmp_path, count, suffix):
    path = tmp_path / f"concept{suffix}"
    ti.save_embedding(TokenEmbedding("<concept>", random_vectors(count)), path)
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    theirs.load_textual_inversion(str(path))
    expected, _ = theirs.encode_prompt("<concept>", "cpu", 1, do_classifier_free_guidance=False)
    own = pipelines.load_pipeline(folder)
    with torch.inference_mode():
        states = encode_vectors(own.tokenizer, own.text_encoder, [ti.load_embedding(path).vectors])
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)


def test_concepts_of_several_sizes_are_read_side_by_side_as_alone(pipeline):
    concepts = [random_vectors(count, count) for count in (1, 8, 75)]
    with torch.inference_mode():
        together = encode_vectors(pipeline.tokenizer, pipeline.text_encoder, concepts)
        alone = [encode_vectors(pipeline.tokenizer, pipeline.text_encoder, [vectors]) for vectors in concepts]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_no_vectors_are_the_empty_text(pipeline):
    with torch.inference_mode():
        states = encode_vectors(pipeline.tokenizer, pipeline.text_encoder, [random_vectors(0)])
    torch.testing.assert_close(states[0], encode_nothing(pipeline.tokenizer, pipeline.text_encoder))


def test_the_text_encoder_is_left_as_it_was(pipeline):
    before = encode_nothing(pipeline.tokenizer, pipeline.text_encoder)
    encode_vectors(pipeline.tokenizer, pipeline.text_encoder, [random_vectors(3)])
    assert torch.equal(encode_nothing(pipeline.tokenizer, pipeline.text_encoder), before)


def test_files_of_three_programs_give_the_same_vectors(tmp_path):
    vectors = random_vectors(4).half()
    save_file({"<one>": vectors}, tmp_path / "ours.safetensors")
    torch.save({"<one>": vectors.float()}, tmp_path / "learned_embeds.bin")
    a1111 = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(vectors)}, "name": "<one>"}
    torch.save({**a1111, "step": 3, "sd_checkpoint": None}, tmp_path / "webui.pt")
    for name in ("ours.safetensors", "learned_embeds.bin", "webui.pt"):
        found = ti.load_embedding(tmp_path / name)
        assert found.name == "<one>"
        assert found.vectors.dtype == torch.float32
        assert torch.equal(found.vectors, vectors.float())


def test_one_vector_may_come_without_its_first_dimension(tmp_path):
    torch.save({"<one>": torch.ones(5)}, tmp_path / "learned_embeds.bin")
    assert ti.load_embedding(tmp_path / "learned_embeds.bin").vectors.shape == (1, 5)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, "must hold one token with its vectors, .*; found a, b"),
        ({"a": torch.ones(2, 3, 4)}, r"must hold vectors \(n, dim\), found torch.Size\(\[2, 3, 4\]\)"),
        ({"a": 3}, "must hold vectors"),
        ({"a": Bomb()}, "nothing in it was executed"),
    ],
)
def test_files_that_hold_no_embedding_are_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=message):
        ti.load_embedding(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_and_another_suffix_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No embedding at .*gone.pt"):
        ti.load_embedding(tmp_path / "gone.pt")
    with pytest.raises(ValueError, match=r"written as .safetensors or .pt, found 'x.ckpt'"):
        ti.save_embedding(TokenEmbedding("x", torch.ones(1, 2)), tmp_path / "x.ckpt")


def test_paper_scale_vectors_weigh_less_than_a_megabyte(tmp_path):
    ti.save_embedding(TokenEmbedding("<prostate>", torch.randn(64, 1024)), tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").stat().st_size < 1e6


def test_vectors_start_from_words_with_jitter(pipeline):
    tokenizer, text_encoder = pipeline.tokenizer, pipeline.text_encoder
    table = text_encoder.get_input_embeddings().weight
    red, disc = tokenizer("red disc", add_special_tokens=False).input_ids
    copies = initial_vectors(tokenizer, text_encoder, "red disc", 5, jitter=0.0, seed=0)
    assert torch.equal(copies, table[[red, disc, red, disc, red]])
    jittered = initial_vectors(tokenizer, text_encoder, "red disc", 5, jitter=0.1, seed=0)
    assert 0 < float((jittered - copies).abs().max()) < 0.6 * float(table.std(0).max())
    assert len(jittered.unique(dim=0)) == 5
    noise = initial_vectors(tokenizer, text_encoder, "", 75, jitter=0.0, seed=0)
    assert len(noise.unique(dim=0)) == 75


@pytest.mark.parametrize("count", [0, 76])
def test_more_vectors_than_a_text_holds_are_refused(folder, blobs, count):
    with pytest.raises(ValueError, match=rf"num_vectors must be 1..75: .* 77 tokens; found {count}"):
        make(folder, num_vectors=count).fit(blobs)


def test_only_the_vectors_are_trained(folder, trained):
    start, pipeline = make(folder), trained.pipeline
    start.card = trained.card
    method = start.build(2, 1, SIZE)
    for before, after in zip(method.modules["generator"].vectors, trained.networks[0].vectors, strict=True):
        assert (before - after).abs().min(dim=1).values.max() > 1e-3, "AdamW moves each by about its learning rate"
    fresh = pipelines.load_pipeline(folder)
    for part in ("unet", "vae", "text_encoder"):
        for name, value in getattr(pipeline, part).state_dict().items():
            assert torch.equal(value, getattr(fresh, part).state_dict()[name]), name
        assert all(p.grad is None and not p.requires_grad for p in getattr(pipeline, part).parameters())


def test_classes_train_side_by_side_as_they_would_alone(folder, blobs):
    both = make(folder)
    both.fit(blobs)
    method = make(folder)
    method.card = both.card
    alone = method.build(2, 1, SIZE)
    seeds = [derive_seed(0, "textual-inversion", "batches", 0, label) for label in range(2)]
    moments = both._moments(blobs.of_class(1).images)
    batches = ti.concept_batches([moments], 2, [seeds[1]], 0.5, 1000)
    single = ti.TextualInversionMethod(
        both.pipeline, ti.Embeddings([alone.modules["generator"].vectors[1].data]), 0.005
    )
    training.train(single, batches, 4, seed=0, description="alone")
    torch.testing.assert_close(
        single.modules["generator"].vectors[0], both.networks[0].vectors[1], rtol=2e-3, atol=2e-3
    )


def test_the_loss_falls_on_one_batch(folder, pipeline):
    torch.manual_seed(0)
    method = ti.TextualInversionMethod(pipeline, ti.Embeddings([random_vectors(8)]), 0.05)
    batch = (torch.randn(1, 4, 4, 8, 8), torch.randn(1, 4, 4, 8, 8), torch.tensor([[100, 300, 600, 900]]))
    losses = [float(method.step(step, *batch)["loss"]) for step in range(30)]
    assert losses[-1] < losses[0] - 0.005


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_network_that_predicts_what_it_was_trained_for_has_no_loss(folder, prediction_type, monkeypatch):
    pipeline = pipelines.load_pipeline(folder)
    pipeline.scheduler.register_to_config(prediction_type=prediction_type)
    method = ti.TextualInversionMethod(pipeline, ti.Embeddings([random_vectors(2)]), 0.005)
    latents, noise, t = torch.randn(1, 2, 4, 8, 8), torch.randn(1, 2, 4, 8, 8), torch.tensor([[10, 700]])
    right = noise[0] if prediction_type == "epsilon" else method.scheduler.get_velocity(latents[0], noise[0], t[0])

    def perfect(noisy, times, states):
        return SimpleNamespace(sample=right + 0 * states.sum())

    monkeypatch.setattr(pipeline.unet, "forward", perfect)
    assert float(method.step(0, latents, noise, t)["loss"]) == 0


def test_an_interrupted_training_ends_in_the_same_vectors(folder, blobs, trained, tmp_path, monkeypatch):
    step = ti.TextualInversionMethod.step

    def killed(self, number, *batch):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *batch)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(ti.TextualInversionMethod, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        make(folder).fit(blobs, tmp_path)
    monkeypatch.setattr(ti.TextualInversionMethod, "step", step)
    resumed = make(folder)
    assert resumed.fit(blobs, tmp_path).resumed_from == 3
    assert resumed.weights_hash() == trained.weights_hash()


def test_what_was_saved_draws_the_same(trained, tmp_path):
    trained.save(tmp_path)
    loaded = generators.load(tmp_path)
    assert np.array_equal(loaded.sample([0, 1, 1], seed=3).images, trained.sample([0, 1, 1], seed=3).images)
    shapes = {name: tuple(found.vectors.shape) for name, found in loaded.embeddings.items()}
    assert shapes == dict.fromkeys(trained.card["class_names"], (3, WIDTH))


def test_the_key_holds_the_pipelines_files(folder, blobs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    ours, theirs = (make(where).key(blobs)["pretrained"] for where in (folder, copy))
    assert list(ours.values()) == list(theirs.values())
    (copy / "scheduler" / "scheduler_config.json").write_text("{}")
    assert list(make(copy).key(blobs)["pretrained"].values()) != list(ours.values())


def given(pipeline, *concepts: Tensor, weights: list[float]) -> Conditions:
    with torch.inference_mode():
        states = encode_vectors(pipeline.tokenizer, pipeline.text_encoder, concepts)
    return Conditions(states[None], torch.tensor([weights]), encode_nothing(pipeline.tokenizer, pipeline.text_encoder))


@torch.inference_mode()
def test_conditions_are_composed_each_on_its_own(pipeline):
    asked = given(pipeline, random_vectors(2, 1), random_vectors(3, 2), weights=[0.7, -0.2])
    x, t = torch.randn(1, 4, 8, 8), torch.tensor(300)
    one, other, empty = (pipeline.unet(x, t, states[None]).sample for states in (*asked.states[0], asked.empty))
    expected = empty + 2.5 * (0.7 * (one - empty) - 0.2 * (other - empty))
    torch.testing.assert_close(guided(pipeline.unet, x, t, asked, 2.5), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_without_guidance_the_empty_text_is_not_asked(pipeline, monkeypatch):
    asked = given(pipeline, random_vectors(2, 1), random_vectors(3, 2), weights=[0.25, 0.75])
    x, t, rows, forward = torch.randn(1, 4, 8, 8), torch.tensor(300), [], pipeline.unet.forward
    one, other = (pipeline.unet(x, t, states[None]).sample for states in asked.states[0])
    monkeypatch.setattr(pipeline.unet, "forward", lambda *inputs: rows.append(len(inputs[0])) or forward(*inputs))
    found = guided(pipeline.unet, x, t, asked, 1.0)
    torch.testing.assert_close(found, 0.25 * one + 0.75 * other, rtol=1e-4, atol=1e-5)
    assert rows == [2]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_concept_is_drawn_as_by_diffusers_own_pipeline(folder, prediction_type):
    pipeline = pipelines.load_pipeline(folder)
    pipeline.scheduler.register_to_config(prediction_type=prediction_type)
    asked = given(pipeline, random_vectors(2), weights=[1.0])
    seeds = [4, 9]
    both = Conditions(asked.states.repeat(2, 1, 1, 1), asked.weights.repeat(2, 1), asked.empty)
    sampler = new_sampler(pipeline.scheduler, "euler-ancestral", 5)
    with torch.inference_mode():
        found = draw_latents(pipeline.unet, sampler, both, seeds, 2.0)
        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
        expected = pipeline(
            prompt_embeds=asked.states[0].repeat(2, 1, 1),
            negative_prompt_embeds=asked.empty.repeat(2, 1, 1),
            latents=seeded_normal(seeds, (4, 8, 8)),
            generator=[torch.Generator().manual_seed(derive_seed(seed, "steps")) for seed in seeds],
            guidance_scale=2.0,
            num_inference_steps=5,
            output_type="latent",
        ).images
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_an_image_depends_on_its_seed_and_class_alone(trained):
    together = trained.sample([0, 1, 0, 1, 1], seed=2).images
    assert np.array_equal(trained.sample([0, 1, 0], seed=2).images, together[:3])
    other = trained.sample([1, 1, 0], seed=2).images
    assert np.array_equal(other[1:], together[1:3])
    assert together.shape == (5, 1, SIZE, SIZE)


def test_the_whole_weight_on_one_class_is_that_class(trained):
    seeds = image_seeds(2, 3, "sample")
    composed = trained.compose([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], seeds)
    drawn = trained.sample([0, 1, 0], seed=2).images
    assert np.abs(composed[:2].astype(int) - drawn[:2]).max() <= 1
    assert composed.shape == drawn.shape


def test_inpainting_keeps_what_is_not_masked(trained, blobs):
    images, seeds = blobs.images[:2], [3, 4]
    kept = np.zeros((2, SIZE, SIZE), bool)
    rebuilt = trained.inpaint(images, kept, [0, 1], seeds)
    again = pipelines.reconstruct(trained.autoencoder, images.repeat(3, axis=1)).mean(1, keepdims=True)
    assert np.abs(rebuilt - again).max() <= 1
    left = kept.copy()
    left[:, :, : SIZE // 2] = True
    drawn = trained.inpaint(images, left, [0, 1], seeds)
    assert not np.array_equal(drawn[..., : SIZE // 4], rebuilt[..., : SIZE // 4])
    whole = trained.inpaint(images, ~kept, [0, 1], seeds)
    assert np.array_equal(whole, trained.compose(np.eye(2), seeds))


def test_latents_outside_of_the_mask_come_out_as_they_went_in(pipeline):
    latents, cells = torch.randn(1, 4, 8, 8), torch.zeros(1, 1, 8, 8)
    cells[..., 2:5, 3:6] = 1
    sampler = new_sampler(pipeline.scheduler, "euler-ancestral", 4)
    with torch.inference_mode():
        asked = given(pipeline, random_vectors(2), weights=[1.0])
        found = draw_latents(pipeline.unet, sampler, asked, [1], 2.0, Known(latents, cells))
    inside = cells.expand_as(latents) > 0
    assert torch.equal(found[~inside], latents[~inside])
    assert (found[inside] - latents[inside]).abs().min() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_another_size_are_resized_there_and_back(folder, channels):
    images = make_blobs(6, 0, image_size=24, channels=channels)
    generator = make(folder, num_steps=1)
    generator.fit(images)
    drawn = generator.sample([0, 1], seed=0)
    assert drawn.images.shape == (2, channels, 24, 24)
    assert generator.working_size == SIZE


def test_paper_scale_has_the_papers_numbers():
    config = generators.create("textual-inversion", "paper").config
    found = (config.num_vectors, config.learning_rate, config.num_steps, config.batch_size, config.image_size)
    assert found == (64, 0.005, 50_000, 1, 512)
    assert (config.guidance_scale, config.num_sampling_steps, config.sampler) == (2.0, 100, "euler-ancestral")


def test_each_class_may_have_its_own_number_of_vectors(folder, blobs):
    generator = make(folder, num_vectors=(2, 5))
    generator.fit(blobs)
    assert [len(found.vectors) for found in generator.embeddings.values()] == [2, 5]
    with pytest.raises(ValueError, match=r"num_vectors gives 3 numbers of vectors for 2 classes: \(1, 2, 3\)"):
        make(folder, num_vectors=(1, 2, 3)).fit(blobs)


def test_the_same_embeddings_are_drawn_otherwise(folder, blobs, trained):
    others = [trained.drawn_with(guidance_scale=5.0), trained.drawn_with(num_sampling_steps=6)]
    assert all(other.weights_hash() == trained.weights_hash() for other in others)
    images = [generator.sample([0, 1], seed=0).images for generator in (trained, *others)]
    assert not any(np.array_equal(images[0], other) for other in images[1:])
    fresh = make(folder, guidance_scale=5.0)
    fresh.fit(blobs)
    assert np.array_equal(fresh.sample([0, 1], seed=0).images, images[1])
    assert fresh.card == others[0].card
    with pytest.raises(ValueError, match="Unknown sampling setting 'num_vectors'"):
        trained.drawn_with(num_vectors=3)


def test_the_time_of_a_training_is_foretold(folder, blobs):
    assert make(folder).estimate_seconds(blobs, num_steps=1) > 0


def test_long_vectors_learn_in_proportion(folder, blobs):
    """Gradients of Adam's steps do not know their scale, so that all is as with short ones but forty times as long."""
    methods = []
    for scale in (1.0, 40.0):
        generator = make(folder, initial_scale=scale)
        generator.card = generator._new_card(blobs)
        methods.append(generator.build(2, 1, SIZE))
    short, long = (method.modules["generator"].vectors[0] for method in methods)
    torch.testing.assert_close(long, 40 * short)
    rates = [method.optimizers["generator"].param_groups[0]["lr"] for method in methods]
    assert rates == [0.005, pytest.approx(0.2)]


def test_small_images_have_an_autoencoder_of_their_own(folder, monkeypatch):
    asked, small = [], SimpleNamespace(config=SimpleNamespace(latent_channels=4))
    monkeypatch.setattr(latent_diffusion, "_autoencoder", lambda name, checksum: asked.append(name) or small)
    generator = make(folder)
    for image_size, own in ((SIZE, False), (SIZE // 2 + 1, False), (SIZE // 2, True)):
        generator.card = {"image_size": image_size}
        assert (generator.autoencoder is small) == own, image_size
    assert asked == ["prior-autoencoder-32"]
    small.config.latent_channels = 8  # of another pipeline than this one
    assert generator.autoencoder is generator.pipeline.vae


def test_a_mask_that_reaches_no_latent_is_refused(trained, blobs):
    masks = np.zeros((1, SIZE, SIZE), bool)
    assert trained.inpaint(blobs.images[:1], masks, [1], [0]).shape == (1, 1, SIZE, SIZE), "nothing was asked for"
    masks[0, 3, 3] = True
    with pytest.raises(ValueError, match="A mask covers less than half of every cell"):
        trained.inpaint(blobs.images[:1], masks, [1], [0])


def test_images_seen_are_those_of_all_classes(trained):
    assert trained.cost()["images_seen"] == 4 * 2 * 2


def test_a_pipeline_that_was_first_used_for_drawing_can_be_trained_through(folder, blobs, trained, tmp_path):
    trained.save(tmp_path / "saved")
    copy = tmp_path / "pipeline"
    shutil.copytree(folder, copy)
    (copy / "scheduler" / "other.json").write_text("{}")  # another checksum, so that it is loaded anew
    with torch.inference_mode():
        make(copy).pipeline  # noqa: B018
    assert make(copy).fit(blobs).num_steps == 4
