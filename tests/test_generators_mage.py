"""nbutils.generators.mage and its training: what is trained, that classes side by side do not meet, what is drawn."""

import shutil

import numpy as np
import pytest
import torch
from conftest import make_blobs
from test_models_mage import CONFIG, rows_of
from torch import nn
from torch.nn import functional as F

from nbutils import generators, paper_build, training
from nbutils.generators import mage_weights
from nbutils.generators.mage_training import Additions, MageMethod, code_batches
from nbutils.generators.mage_weights import load_mage, save_mage
from nbutils.images import resize
from nbutils.models.adapter import Adapters, ClassTokenQuantizer
from nbutils.models.mage import MAGE
from nbutils.models.mage_decoding import decode_iteratively
from nbutils.models.mage_loss import reconstruction_loss


def codes_of(count, seed):
    codes = torch.randint(0, 12, (1, count, 16), generator=torch.Generator().manual_seed(seed))
    return torch.cat([codes, codes.flip(-1)])


def new_method(num_classes=2, quantised=True, **options):
    torch.manual_seed(0)
    network = MAGE(CONFIG)
    network.requires_grad_(False)
    adapters = Adapters(num_classes, 16, {"encoder": 2, "decoder": 2}, bottleneck=4, scale=1.0, dropout=0.0)
    quantizer = ClassTokenQuantizer(num_classes, 3, 16) if quantised else None
    if quantised:
        nn.init.normal_(quantizer.codes)
    additions = Additions(adapters, quantizer)
    adam = torch.optim.Adam(additions.parameters(), 0.01)
    return MageMethod(network, additions, adam, **options)


def test_a_batch_of_several_classes_has_that_of_each_alone_in_it():
    codes = [codes_of(9, 0), codes_of(5, 1)]
    both = code_batches(codes, 4, [7, 8])(3)
    alone = code_batches(codes[1:], 4, [8])(3)
    for together, one in zip(both[:3], alone[:3], strict=True):
        assert torch.equal(together[4:], one)
    assert both[3].tolist() == [0] * 4 + [1] * 4
    assert both[1].sum(1).unique().numel() == 1


def test_mirrored_codes_come_as_often():
    codes = torch.stack([torch.zeros(6, 16, dtype=torch.int64), torch.ones(6, 16, dtype=torch.int64)])
    batches = code_batches([codes], 6, [0])
    share = torch.cat([batches(step)[0] for step in range(30)]).float().mean()
    assert share == pytest.approx(0.5, abs=0.15)


def test_only_what_was_added_is_trained_and_the_loss_falls():
    method = new_method()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    batch = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1])(0)
    losses = [float(method.step(step, *batch)["loss"]) for step in range(40)]
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(value, before[name]) for name, value in method.network.state_dict().items())
    assert all(p.grad is None for p in method.network.parameters())


def test_last_blocks_run_at_the_places_that_are_read_and_the_loss_is_that_of_all_places():
    method = new_method(quantised=False)
    for parameter in (*method.network.parameters(), *method.additions.parameters()):
        nn.init.normal_(parameter, std=0.2)
    codes, hidden, kept, classes = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1])(0)
    network, adapters = method.network.eval(), method.additions.adapters
    features = network.encoded(codes.masked_fill(hidden, CONFIG.mask_word), kept, adapters, classes)
    logits = network.predicted(network.decoded(features, hidden, kept, adapters, classes))
    expected = reconstruction_loss(logits[hidden], codes[hidden])
    expected.backward()
    gradients = all_gradients(adapters)

    seen = rows_of(network.blocks[-1].mlp), rows_of(network.decoder_blocks[-1].mlp), rows_of(network.mlm_layer)
    found = method.step(0, codes, hidden, kept, classes)["loss_reconstruction"]
    num_hidden = int(hidden[0].sum())
    assert 8 < num_hidden < 15, "some of the kept codes are hidden, some are known"
    assert seen == ([(8, 1 + 16 - num_hidden)], [(8, num_hidden)], [(8, num_hidden)])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    direction = F.cosine_similarity(all_gradients(adapters), gradients, dim=0)  # the step clips their length
    assert float(direction) == pytest.approx(1.0, abs=1e-5)


def all_gradients(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def test_a_frozen_network_computes_in_training_what_it_does_in_drawing():
    batch = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1])(0)
    losses = []
    for seed in (0, 1):
        method = new_method()  # its adapters have no dropout
        torch.manual_seed(seed)
        losses.append(float(method.step(0, *batch)["loss"]))
    assert losses[0] == losses[1]


def test_a_class_learns_as_it_would_alone():
    codes, steps = [codes_of(6, 0), codes_of(6, 1)], 5
    both, alone = new_method(2), new_method(2)
    for step in range(steps):
        both.step(step, *code_batches(codes, 3, [0, 1])(step))
        single = code_batches(codes[1:], 3, [1])(step)
        alone.step(step, *single[:3], torch.ones_like(single[3]))
    for name, value in both.additions.named_parameters():
        # In `alone` the mean over its images counts twice, which Adam does not see.
        torch.testing.assert_close(value[1], dict(alone.additions.named_parameters())[name][1], rtol=1e-2, atol=1e-3)


def test_the_quantiser_joins_the_loss_by_its_weight_and_may_replace_the_token():
    batch = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1])(0)
    found = {name: new_method(**options).step(0, *batch) for name, options in {
        "plain": {"quantised": False}, "one": {}, "ten": {"quantisation_weight": 10.0},
        "replaced": {"replace_class_token": True},
    }.items()}  # fmt: skip
    assert "loss_quantisation" not in found["plain"]
    one = found["one"]
    assert float(one["loss"]) == pytest.approx(
        2 * float(one["loss_reconstruction"] + one["loss_quantisation"]), rel=1e-5
    )
    ten = found["ten"]
    expected = 2 * float(ten["loss_reconstruction"] + 10 * ten["loss_quantisation"])
    assert float(ten["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(found["plain"]["loss_reconstruction"]) == pytest.approx(float(one["loss_reconstruction"]), rel=1e-5)
    assert float(found["replaced"]["loss_reconstruction"]) != pytest.approx(float(one["loss_reconstruction"]), rel=1e-4)


def test_classes_may_be_told_by_the_word_of_the_slot():
    torch.manual_seed(0)
    network = MAGE(CONFIG)
    adam = torch.optim.Adam(network.parameters(), 0.01)
    method = MageMethod(network, None, adam, class_words=True, ema_decay=0.9)
    before = network.token_emb.word_embeddings.weight.detach().clone()
    method.step(0, *code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1])(0))
    moved = (network.token_emb.word_embeddings.weight != before).any(1)
    assert moved[12:14].all(), "the words of both classes"
    assert not moved[14]
    assert "generator" in method.averages


NAMES = ("mage", "mage-adapter", "mage-adapter-vq")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network with random weights for images of 8 px."""
    torch.manual_seed(0)
    network = MAGE(CONFIG)
    nn.init.normal_(network.vqgan.codebook)
    path = tmp_path_factory.mktemp("mage")
    save_mage(network, path)
    return path


def make(folder, name, **changes):
    settings = {"num_steps": 4, "batch_size": 3, "num_class_codes": 3, **changes}
    return generators.create(name, "smoke", network=f"folder:{folder}", **settings)


@pytest.fixture
def blobs():
    return make_blobs(12, 0, image_size=16)


def test_a_saved_network_is_the_same_in_half_precision(folder):
    network = load_mage(folder)
    assert network.config == CONFIG
    torch.manual_seed(0)
    expected = MAGE(CONFIG).token_emb.word_embeddings.weight
    assert torch.equal(network.token_emb.word_embeddings.weight, expected.half().float())
    assert not any(p.requires_grad for p in network.parameters())


def test_a_published_file_is_read_from_its_key(tmp_path, monkeypatch):
    state = {"a": torch.ones(1)}
    torch.save({"model": state}, tmp_path / "mage.pth")
    monkeypatch.setattr(mage_weights, "from_official", lambda found: MAGE(CONFIG) if set(found) == {"a"} else None)
    assert load_mage(tmp_path / "mage.pth").config == CONFIG


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_draws_the_same_each_image_from_its_own_seed(folder, blobs, name, tmp_path):
    generator = make(folder, name)
    generator.fit(blobs)
    generator.save(tmp_path)
    drawn = generators.load(tmp_path).sample([0, 1, 1], seed=3).images
    assert drawn.shape == (3, 1, 16, 16)
    assert np.array_equal(drawn, generator.sample([0, 1, 1], seed=3).images)
    assert np.array_equal(drawn[:1], generator.sample([0], seed=3).images)
    assert generator.cost()["images_seen"] == 4 * 3 * 2, "steps, images of each class, classes"


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_training_ends_in_the_same_weights(folder, blobs, name, tmp_path, monkeypatch):
    undisturbed, step = make(folder, name), MageMethod.step
    undisturbed.fit(blobs)

    def killed(self, number, *batch):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *batch)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(MageMethod, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        make(folder, name).fit(blobs, tmp_path)
    monkeypatch.setattr(MageMethod, "step", step)
    resumed = make(folder, name)
    assert resumed.fit(blobs, tmp_path).resumed_from == 3
    assert resumed.weights_hash() == undisturbed.weights_hash()


def test_before_training_adapters_draw_what_the_network_draws(folder, blobs):
    generator = make(folder, "mage-adapter", num_steps=1, learning_rate=1e-30)
    generator.fit(blobs)
    network = generator.pretrained_network.eval()
    codes = decode_iteratively(network, [7, 8], 4, 6.0)
    adapted = decode_iteratively(network, [7, 8], 4, 6.0, generator.networks[0].adapters.eval(), torch.tensor([0, 1]))
    assert torch.equal(codes, adapted)


def test_the_codebook_starts_from_the_class_features(folder, blobs):
    generator = make(folder, "mage-adapter-vq")
    generator.card = generator._new_card(blobs)
    method = generator._new_method(0)
    generator._batches(method, blobs, 0)
    network = generator.pretrained_network.eval()
    with torch.no_grad():
        features = network.encoded(generator._codes(blobs.of_class(1).images)[0])[:, 0]
    for code in method.additions.quantizer.codes[1]:
        assert (features - code).abs().max(1).values.min() < 1e-4


def test_mirrored_codes_are_those_of_mirrored_images(folder, blobs):
    generator = make(folder, "mage")
    codes = generator._codes(blobs.images, mirrored=True)
    mirrored = generator._codes(np.ascontiguousarray(blobs.images[..., ::-1]), mirrored=True)
    assert torch.equal(codes, mirrored.flip(0))
    assert codes.shape == (2, 12, 16)
    assert torch.equal(generator._codes(blobs.images), codes[:1])


def test_an_image_is_encoded_once_however_many_generators_are_trained_on_it(folder, blobs, monkeypatch):
    encoded, calls = MAGE.encode, []
    monkeypatch.setattr(MAGE, "encode", lambda self, images: calls.append(len(images)) or encoded(self, images))
    for name in NAMES:
        make(folder, name, flip=True).fit(blobs)
    assert sum(calls) == 2 * len(blobs)


@pytest.mark.parametrize("name", NAMES)
def test_the_stages_of_decoding_end_in_the_sample(folder, blobs, name):
    generator = make(folder, name)
    generator.fit(blobs)
    stages = generator.stages([0, 1], seed=3)
    white = [int((stage == 255).all(axis=(1,)).sum()) for stage in stages]
    assert len(stages) == generator.config.num_decoding_steps
    assert white == sorted(white, reverse=True)
    assert white[0] > white[-1]
    for stage in stages:
        assert ((stage == stages[-1]) | (stage == 255)).all()
    grey = stages[-1].mean(1, keepdims=True).round().astype(np.uint8)
    sampled = generator.sample([0, 1], seed=3).images
    assert np.abs(resize(grey, 16).astype(int) - sampled).max() < 4


def test_what_the_tokenizer_leaves_is_of_the_images_own_kind(folder, blobs):
    generator = make(folder, "mage-adapter")
    generator.fit(blobs)
    rebuilt = generator.rebuilt(blobs.images)
    assert rebuilt.shape == blobs.images.shape
    assert rebuilt.dtype == np.uint8
    assert np.array_equal(rebuilt[3:4], generator.rebuilt(blobs.images[3:4]))


@pytest.mark.parametrize("name", NAMES)
def test_the_network_of_the_paper_scale_is_stepped_and_decoded(name, monkeypatch):
    decoded = []
    monkeypatch.setattr(paper_build, "MageConfig", lambda: CONFIG)
    monkeypatch.setattr(MAGE, "decode", lambda self, codes: decoded.append(codes.shape))
    candidate = paper_build._mage(generators.generator_class(name))
    scalars = candidate.step()
    assert np.isfinite(float(scalars["loss_reconstruction"]))
    assert ("loss_quantisation" in scalars) == (name == "mage-adapter-vq")
    assert decoded == [(1, 16)]
    assert len(candidate.networks()) == (1 if name == "mage" else 2)


def test_the_key_holds_the_networks_file(folder, blobs, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(folder, other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    hashes = [list(make(path, "mage").key(blobs)["pretrained"].values()) for path in (folder, other)]
    assert hashes[0] != hashes[1]
