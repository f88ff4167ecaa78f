"""The priors at toy size: each trains, resumes, is kept as its card says, and works as what it stands in for."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file

from nbutils import backbone, corpus, generators, pipelines, priors, weights
from nbutils.artefacts import cache_folder
from nbutils.files import read_json
from nbutils.priors import autoencoder as kl
from nbutils.priors import backbone as reading
from nbutils.priors import mage, text, text_to_image, vq_autoencoder, vqgan
from nbutils.protocols import SMALL_TRANSFORMERS

SMALL = {"num_images": 48, "num_steps": 6, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for the module, so that each toy prior is trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBUTILS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(weights, "PRIORS", tmp_path_factory.mktemp("shipped"))
        yield


def toy_backbone():
    return priors.Backbone("backbone", priors.BackboneRecipe(**SMALL, image_sizes=(16, 32)))


def toy_vit():
    options = (("img_size", 16), ("patch_size", 4))
    return priors.Backbone(
        "backbone-vit",
        priors.SizedBackboneRecipe(**SMALL, image_sizes=(16,), network="test_vit", options=options),
    )


def toy_autoencoder(aligned_with=None, **changes):
    needs = {"backbone": toy_backbone()} | ({"aligned_with": aligned_with} if aligned_with else {})
    widths = {
        "widths": (8, 8, 16),
        "latent_channels": 2,
        "image_size": 16,
        "adversarial_from": 0.5,
        "discriminator_warmup": 1,
    }
    return priors.Autoencoder("autoencoder", priors.AutoencoderRecipe(**SMALL | widths | changes), needs)


def toy_vqgan():
    sizes = {"image_size": 16, "channels": 8, "multipliers": (1, 2), "code_dim": 4, "num_codes": 16, "norm_groups": 4}
    late = {"adversarial_from": 0.5, "discriminator_warmup": 1, "revived_after": 2}
    return priors.VQGANPrior("vqgan", priors.VQGANRecipe(**SMALL | sizes | late), {"backbone": toy_backbone()})


def toy_vq_autoencoder():
    sizes = {"image_size": 16, "widths": (8, 8), "code_dim": 4, "num_codes": 16, "norm_groups": 4}
    late = {"adversarial_from": 0.5, "discriminator_warmup": 1, "revived_after": 2}
    recipe = priors.VQAutoencoderRecipe(**SMALL | sizes | late)
    return priors.VQAutoencoder("vq-f8", recipe, {"backbone": toy_backbone()})


def toy_mage():
    sizes = {"num_classes": 2, "width": 16, "depth": 2, "heads": 2, "decoder_depth": 1, "decoder_heads": 2}
    return priors.MagePrior("mage", priors.MageRecipe(**SMALL, **sizes), {"vqgan": toy_vqgan()})


def toy_text_to_image():
    sizes = {"widths": (16, 16), "head_channels": 8, "text_width": 16, "text_layers": 1, "text_heads": 2}
    recipe = priors.TextToImageRecipe(**SMALL, **sizes, norm_groups=8)
    return priors.TextToImage("text-to-image", recipe, {"autoencoder": toy_autoencoder()})


def toy_diffusion():
    return priors.PixelDiffusion("diffusion", priors.PixelDiffusionRecipe(**SMALL, scale="smoke"))


TOYS = [
    toy_backbone,
    toy_vit,
    toy_autoencoder,
    toy_vqgan,
    toy_vq_autoencoder,
    toy_mage,
    toy_text_to_image,
    toy_diffusion,
]


@pytest.mark.parametrize("make", TOYS)
def test_weights_are_half_precision_with_a_card_of_recipe_and_cost(make):
    prior = make()
    card = read_json(prior.folder() / weights.PRIOR_CARD)
    assert card["recipe"]["num_steps"] == card["cost"]["steps"] == 6
    assert {key: card[key] for key in prior.key()} == prior.key()
    files = list(prior.folder().rglob("*.safetensors"))
    assert card["cost"]["bytes"] == sum(file.stat().st_size for file in files) > 0
    dtypes = {tensor.dtype for file in files for tensor in load_file(file).values()}
    assert dtypes <= {torch.float16, torch.int64}
    assert not list(prior.folder().rglob("*.pt"))


@pytest.mark.parametrize("make", TOYS)
def test_an_interrupted_training_ends_in_the_same_weights(make, tmp_path, monkeypatch):
    monkeypatch.setattr("nbutils.training.CHECKPOINT_SECONDS", -1.0)
    undisturbed = make().folder()
    method = type(_method_of(make, tmp_path / "peek"))
    real_step = method.step

    def interrupted(self, step, *batch):
        if step == 4:
            raise KeyboardInterrupt
        return real_step(self, step, *batch)

    monkeypatch.setattr(method, "step", interrupted)
    folder = tmp_path / "training"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        make().build(folder)
    monkeypatch.setattr(method, "step", real_step)
    log = make().fit(folder)
    assert log.resumed_from == 4
    files = list(folder.rglob("*.safetensors"))
    assert files
    for file in files:
        for name, tensor in load_file(undisturbed / file.relative_to(folder)).items():
            torch.testing.assert_close(load_file(file)[name], tensor, rtol=0, atol=0)


def _method_of(make, folder):
    """Return the training method that a prior builds."""
    found = []

    def spy(method, *arguments, **options):
        found.append(method)
        raise KeyboardInterrupt

    folder.mkdir()
    prior = make()
    for needed in prior.needs.values():
        needed.folder()
    with pytest.MonkeyPatch.context() as patch:
        for module in (reading, kl, vqgan, vq_autoencoder, mage, text_to_image):
            patch.setattr(module, "train", spy)
        patch.setattr("nbutils.generators.base.train", spy)
        with pytest.raises(KeyboardInterrupt):
            prior.fit(folder)
    return found[0]


def test_the_key_holds_what_a_prior_is_trained_with():
    one, other = toy_autoencoder(), toy_autoencoder()
    other.needs["backbone"].recipe = priors.BackboneRecipe(**SMALL | {"num_steps": 7}, image_sizes=(16, 32))
    assert one.key() != other.key()
    assert toy_autoencoder(kl_weight=1.0).key() != one.key()


def test_shipping_copies_and_is_noticed_until_the_recipe_changes():
    prior = toy_diffusion()
    folder = prior.ship()
    assert folder == prior.folder() == weights.PRIORS / "diffusion"
    assert prior.is_shipped()
    prior.recipe = priors.PixelDiffusionRecipe(**SMALL | {"num_steps": 5}, scale="smoke")
    assert not prior.is_shipped()
    (folder / "weights.safetensors").write_bytes(b"cut off")
    assert not toy_diffusion().is_shipped()


def test_the_attribute_loss_leaves_out_what_an_image_does_not_have():
    logits = torch.zeros(2, sum(backbone.NUM_VALUES))
    targets = torch.full((2, len(backbone.NUM_VALUES)), -1)
    targets[0, 1] = 0  # tone, of two values
    assert float(reading.attribute_loss(logits, targets)) == pytest.approx(np.log(2))
    targets[1, 0] = 3  # scene, of five
    assert float(reading.attribute_loss(logits, targets)) == pytest.approx((np.log(2) + np.log(5)) / 2)


def test_attributes_are_read_by_name():
    class Reader(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), sum(backbone.NUM_VALUES))
            logits[:, 2] = 1  # the third scene
            logits[:, backbone.NUM_VALUES[0] + 1] = 1  # the second tone
            return logits

    found = backbone.read_attributes(Reader(), np.zeros((3, 3, 16, 16), np.uint8))
    assert list(found) == list(corpus.ATTRIBUTES)
    assert found["scene"].tolist() == [2, 2, 2]
    assert found["tone"].tolist() == [1, 1, 1]


def test_a_backbone_is_loaded_with_the_options_it_was_built_with():
    network = backbone.load_backbone(toy_vit().folder())
    assert network.patch_embed.img_size == (16, 16)
    assert network.patch_embed.patch_size == (4, 4)


@pytest.mark.parametrize("name", SMALL_TRANSFORMERS)
def test_small_transformers_are_those_of_their_priors(name):
    network, options = (SMALL_TRANSFORMERS[name][part] for part in ("network", "options"))
    recipe = priors.get(backbone.backbone_of(network).removeprefix("prior-")).recipe
    assert (recipe.network, recipe.options, recipe.image_sizes) == (network, options, (32,))
    reader = backbone.build_reader(network, json.loads(json.dumps(options)))  # as a card gives them
    assert reader(torch.zeros(2, 3, 32, 32)).shape == (2, sum(backbone.NUM_VALUES))
    assert sum(p.numel() for p in reader.parameters()) < 1e6


def test_batches_of_the_backbone_take_turns_in_size_and_keep_labels_with_images():
    batches = reading.attribute_batches(48, (16, 32), 8)
    (small, labels), (large, _) = batches(0), batches(1)
    assert (small.shape[-1], large.shape[-1]) == (16, 32)
    rendered = corpus.render(48, 16)
    row = next(i for i in range(48) if np.allclose(backbone.to_float(rendered.images[i : i + 1]), small[:1]))
    assert labels[0].tolist() == [values[row] for values in rendered.attributes.values()]


def test_latents_have_unit_variance_at_the_scale_of_the_config():
    prior = toy_autoencoder()
    loaded = prior.load()
    moments = torch.from_numpy(prior.latents(48))
    latents = pipelines.sampled(moments, torch.Generator().manual_seed(0)) * loaded.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=0.05)
    assert moments.shape == (48, 4, 4, 4)


def test_alignment_draws_latents_to_those_of_the_other_autoencoder():
    other = toy_autoencoder(image_size=32, widths=(8, 8, 8, 16))
    aligned = toy_autoencoder(aligned_with=other, alignment_weight=10.0, num_steps=60)
    free = toy_autoencoder(num_steps=60)
    target = other.latents(48)[:, :2].astype(float)
    errors = [np.square(prior.latents(48)[:, :2] - target).mean() for prior in (aligned, free)]
    assert errors[0] < 0.5 * errors[1]


def test_known_words_are_one_token_each_and_unknown_ones_are_spelled():
    tokenizer = text.build_tokenizer(corpus.vocabulary())
    assert all(len(tokenizer(word).input_ids) == 3 for word in corpus.vocabulary())
    ids = tokenizer("a red liver, X-ray", padding="max_length").input_ids
    assert len(ids) == 77
    assert tokenizer.unk_token_id not in ids[1 : ids.index(tokenizer.eos_token_id)]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "aredliver,x-ray"


def test_the_text_to_image_folder_is_a_pipeline_of_diffusers():
    folder = toy_text_to_image().folder() / "pipeline"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline("a red disc", num_inference_steps=2, height=16, width=16, output_type="np").images
    assert images.shape == (1, 16, 16, 3)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    kept = load_file(toy_autoencoder().folder() / "vae" / "diffusion_pytorch_model.safetensors")
    for name, tensor in pipeline.vae.state_dict().items():
        torch.testing.assert_close(tensor, kept[name].float(), rtol=0, atol=0)
    assert isinstance(pipeline.vae, AutoencoderKL)


def test_a_continued_training_starts_from_the_other_ones_weights():
    start = toy_text_to_image()
    still = replace(start.recipe, learning_rate=0.0)
    continued = priors.TextToImage(start.name, still, {**start.needs, "start": start})
    assert continued.key() != start.key()
    names = [f"pipeline/{part}.safetensors" for part in ("unet/diffusion_pytorch_model", "text_encoder/model")]
    for before, after in ((load_file(prior.folder() / name) for prior in (start, continued)) for name in names):
        assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    costs = [read_json(prior.folder() / weights.PRIOR_CARD)["cost"] for prior in (start, continued)]
    assert [cost["steps"] for cost in costs] == [6, 12]


def test_the_text_to_image_folder_does_not_name_the_machine():
    folder = toy_text_to_image().folder()
    texts = {path: path.read_text() for path in folder.rglob("*.json")}
    assert len(texts) > 5
    assert [path for path, text in texts.items() if str(cache_folder()) in text] == []


def test_the_pixel_prior_is_a_generator_without_classes():
    generator = generators.load(toy_diffusion().folder())
    assert generator.sample([0, 0], seed=0).images.shape == (2, 3, 16, 16)
    assert generator.networks[0].num_classes is None


def test_an_unknown_prior_is_named():
    with pytest.raises(ValueError, match=r"Unknown prior 'backbones'.*Did you mean 'backbone'"):
        priors.get("backbones")


def test_an_aligned_autoencoder_takes_over_the_scale():
    other = toy_autoencoder(image_size=32, widths=(8, 8, 8, 16))
    aligned = toy_autoencoder(aligned_with=other)
    assert aligned.load().config.scaling_factor == other.load().config.scaling_factor
    assert toy_autoencoder().load().config.scaling_factor != other.load().config.scaling_factor


def test_the_adversarial_loss_is_balanced_by_gradients_in_the_last_layer():
    network = backbone.load_backbone(toy_backbone().folder())
    method = kl.AutoencoderMethod(toy_autoencoder(adversarial_weight=0.25).recipe, network)
    last = method.modules["autoencoder"].decoder.conv_out.weight
    weight = method._balance(6 * last.sum(), 2 * last.sum())
    assert float(weight) == pytest.approx(0.25 * 6 / 2, rel=1e-3)
    assert not weight.requires_grad


def test_the_decoders_step_leaves_the_discriminator_to_its_own():
    network = backbone.load_backbone(toy_backbone().folder())
    method = kl.AutoencoderMethod(toy_autoencoder().recipe, network)
    before = {name: value.clone() for name, value in method.modules["discriminator"].named_parameters()}
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    method.step(2, images)
    assert all(torch.equal(value, before[name]) for name, value in method.modules["discriminator"].named_parameters())
    learning = method.step(
        3, images
    )  # half of the six steps are done: the discriminator learns, and a step later tells
    assert "discriminator" in learning
    assert "adversarial" not in learning
    assert {"adversarial", "discriminator"} <= set(method.step(4, images))
    assert any((value != before[name]).any() for name, value in method.modules["discriminator"].named_parameters())


def test_from_the_discriminator_on_the_autoencoder_learns_slower():
    network = backbone.load_backbone(toy_backbone().folder())
    method = kl.AutoencoderMethod(toy_autoencoder(adversarial_learning_rate=1e-5, cooldown=0.0).recipe, network)
    images, rates = torch.rand(4, 3, 16, 16) * 2 - 1, []
    for step in (2, 3):
        method.step(step, images)
        rates.append([method.optimizers[name].param_groups[0]["lr"] for name in ("autoencoder", "discriminator")])
    assert rates == [[1e-3, 1e-3], [1e-5, 1e-3]]


def test_vectors_have_unit_variance_at_the_scale_of_the_config():
    loaded = toy_vq_autoencoder().load()
    vectors = pipelines.encode(loaded, corpus.render(48, 16).images)
    assert vectors.shape == (48, 4, 8, 8)
    assert float(vectors.float().std()) * loaded.config.scaling_factor == pytest.approx(1, abs=0.02)


def test_the_vq_autoencoder_rebuilds_images_from_its_codes():
    loaded, images = toy_vq_autoencoder().load(), corpus.render(3, 16).images
    with torch.inference_mode():
        z = loaded.quant_conv(loaded.encoder(torch.from_numpy(images) / 127.5 - 1))
        nearest = torch.cdist(z.movedim(1, -1).flatten(0, 2), loaded.quantize.embedding.weight).argmin(1)
        codes = loaded.quantize.embedding(nearest).unflatten(0, (3, 8, 8)).movedim(-1, 1)
        expected = loaded.decoder(loaded.post_quant_conv(codes))
    rebuilt = pipelines.reconstruct(loaded, images).astype(int)
    assert abs(rebuilt - ((expected + 1) * 127.5).round().clamp(0, 255).numpy()).max() <= 3  # kept in half precision


@pytest.mark.parametrize("make", [toy_vqgan, toy_vq_autoencoder])
def test_a_codebook_learns_from_its_vectors_and_they_from_it(make, tmp_path):
    method = _method_of(make, tmp_path / "peek")
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    _, z, tokens = method.through_codes(images)
    codes = method.codebook[tokens.flatten()]
    expected = (z.movedim(1, -1).flatten(0, 2) - codes).square().mean()
    _, scalars, penalty = method.rebuild(images)
    torch.testing.assert_close(scalars["codebook"], expected)
    torch.testing.assert_close(penalty, expected * (1 + method.recipe.commitment_weight))
    to_codes, to_vectors = (
        torch.autograd.grad(scalars[name], method.codebook, retain_graph=True, allow_unused=True)[0]
        for name in ("codebook", "commitment")
    )
    assert to_codes.abs().sum() > 0
    assert to_vectors is None


@pytest.mark.parametrize("make", [toy_vqgan, toy_vq_autoencoder])
def test_codes_that_nothing_chose_become_vectors_of_the_batch(make, tmp_path):
    method = _method_of(make, tmp_path / "peek")
    method.codebook.data.fill_(100.0)
    method.codebook.data[3] = 0.0
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    _, z, _ = method.through_codes(images)
    vectors = z.movedim(1, -1).flatten(0, 2)
    for _ in range(method.recipe.revived_after):
        method.rebuild(images)
    assert (method.codebook[3] == 0).all()
    others = method.codebook[torch.arange(16) != 3]
    away = torch.cdist(others, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    assert away.amin(1).max() < 1e-6


def test_the_corpus_is_kept_as_codes():
    prior = toy_vqgan()
    codes, network = prior.tokens(5), prior.load()
    assert codes.shape == (5, 64)
    assert codes.dtype == np.int16
    images = torch.from_numpy(corpus.render(5, 16).images)
    assert np.array_equal(codes, network.encode(images / 255).numpy())


def test_mage_learns_the_codes_alone_and_keeps_its_tokenizer():
    prior = toy_mage()
    network, tokenizer = prior.load(), toy_vqgan().load()
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(network.vqgan.state_dict()[name], value), name
    start = prior._new_network().state_dict()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, start[name].half().float())}
    assert "blocks.0.attn.qkv.weight" in moved
    assert not any(name.startswith("vqgan.") for name in moved)
    images = torch.from_numpy(corpus.render(2, 16).images) / 255
    assert network.logits(network.encode(images)).shape == (2, 64, 16)


def test_mage_draws_each_image_from_its_own_seed_and_rebuilds_images_by_its_tokenizer():
    prior = toy_mage()
    drawn = prior.draw(3, seed=0, num_steps=4)
    assert drawn.shape == (3, 3, 16, 16)
    assert drawn.dtype == np.uint8
    assert np.array_equal(prior.draw(2, seed=0, num_steps=4), drawn[:2])
    assert not np.array_equal(prior.draw(3, seed=1, num_steps=4), drawn)
    images, network = corpus.render(2, 16).images, prior.load()
    expected = network.decode(network.encode(torch.from_numpy(images) / 255)).clamp(0, 1)
    assert np.abs(prior.rebuilt(images) - 255 * expected.numpy()).max() < 1


def test_codes_that_nothing_chooses_become_vectors_of_the_batch():
    network = backbone.load_backbone(toy_backbone().folder())
    method = vqgan.VQGANMethod(toy_vqgan().recipe, network)
    tokenizer = method.modules["autoencoder"]
    with torch.no_grad():
        tokenizer.codebook.copy_(100 + torch.arange(16.0)[:, None].expand(-1, 4))
        tokenizer.codebook[3] = 0  # so near to all vectors that nothing else is chosen
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    perplexities = [float(method.step(step, images)["perplexity"]) for step in range(3)]
    assert perplexities[0] == pytest.approx(1)
    assert perplexities[2] > 2
    assert (tokenizer.codebook < 50).all(1).sum() > 8


def test_what_the_autoencoder_rebuilds_does_not_depend_on_the_batch():
    images = corpus.render(5, 16).images
    whole, parts = (pipelines.reconstruct(toy_autoencoder().load(), images, size) for size in (5, 2))
    assert whole.shape == images.shape
    assert whole.dtype == np.uint8
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_each_sample_is_its_seeds_and_its_captions():
    pipeline = pipelines.load_pipeline(toy_text_to_image().folder() / "pipeline")
    one = pipelines.generate(pipeline, ["a red disc"] * 3, [5, 6, 5], num_steps=2)
    assert one.shape == (3, 3, 16, 16)
    np.testing.assert_array_equal(one[0], one[2])
    assert (one[0] != one[1]).any()
    alone = pipelines.generate(pipeline, ["a red disc"], [6], num_steps=2)
    assert np.abs(alone[0].astype(int) - one[1]).max() <= 1
    other = pipelines.generate(pipeline, ["blue stripes"], [6], num_steps=2, guidance_scale=20.0)
    assert (other[0] != one[1]).any()


def test_reading_counts_only_what_images_have():
    values = {"tone": np.array([0, 1, 1, -1]), "scene": np.array([-1, -1, -1, -1])}
    found = {"tone": np.array([0, 0, 1, 1]), "scene": np.array([0, 1, 2, 3])}
    table = backbone.reading_accuracy(found, values).set_index("attribute")
    assert table.loc["tone", ["accuracy", "chance", "n"]].tolist() == pytest.approx([2 / 3, 2 / 3, 3])
    assert np.isnan(table.loc["scene", "accuracy"])


def test_captions_that_steer_are_told_from_captions_that_do_not():
    wished = corpus.render(120, 32, start=500)

    class Perfect(torch.nn.Module):
        """Reads the tone, which is grey or not, from the pixels."""

        def forward(self, images):
            logits = torch.zeros(len(images), sum(backbone.NUM_VALUES))
            grey = (images.amax(1) - images.amin(1)).flatten(1).amax(1) < 0.02
            logits[:, backbone.NUM_VALUES[0] + 1] = torch.where(grey, 1.0, -1.0)
            return logits

    table = backbone.caption_accuracy(Perfect(), wished.images, wished).set_index("attribute").loc["tone"]
    assert table["samples"] == table["real"] > 0.95
    assert table["shuffled"] < 0.8


def test_cards_list_what_is_shipped():
    assert priors.cards().empty
    prior = toy_diffusion()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(priors, "_PRIORS", {"diffusion": prior})
        prior.ship()
        card = priors.cards().iloc[0]
    assert card["prior"] == "diffusion"
    assert (card["steps"], card["images_seen"]) == (6, 48)
    assert prior.curve()["step"].iloc[-1] == 6


def test_a_shortened_prior_is_another():
    short = priors.shortened("text-to-image", num_steps=3, num_images=64)
    assert (short.recipe.num_steps, short.recipe.num_images) == (3, 64)
    assert short.key() != priors.get("text-to-image").key()


def test_a_shortened_prior_waits_for_no_training_of_hours():
    assert "start" in priors.get("text-to-image").needs
    assert set(priors.shortened("text-to-image", num_steps=3).needs) == {"autoencoder"}
