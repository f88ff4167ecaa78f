"""nbutils.models.mage and its parts, held against the equations written out and the published layout."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from nbutils.files import ROOT
from nbutils.models import mage_layout
from nbutils.models.adapter import Adapters, ClassTokenQuantizer
from nbutils.models.mage import MAGE, MageConfig, from_official
from nbutils.models.mage_decoding import decode_iteratively, hidden_counts
from nbutils.models.mage_loss import draw_masking, draw_share, reconstruction_loss
from nbutils.models.vqgan import VQGAN, VQGANConfig

TOKENIZER = VQGANConfig(channels=8, multipliers=(1, 2), num_blocks=1, code_dim=6, num_codes=12, norm_groups=4)
CONFIG = MageConfig(
    grid=4,
    num_classes=3,
    class_word=1,
    width=16,
    depth=2,
    heads=2,
    decoder_depth=2,
    decoder_heads=4,
    mlp_ratio=2.0,
    vqgan=TOKENIZER,
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MAGE(CONFIG)
    for parameter in network.parameters():  # no zeros, so that everything matters
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def some_tokens(count=3, hidden=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 12, (count, 16), generator=generator)
    places = torch.rand((count, 16), generator=generator).argsort(1)[:, :hidden]
    return tokens.scatter(1, places, CONFIG.mask_word)


def attention_block(block, x, heads):
    """A block with its attention matrix written out."""
    normed = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, eps=1e-6)
    q, k, v = F.linear(normed, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, -1)
    split = [part.unflatten(-1, (heads, -1)) for part in (q, k, v)]
    scores = torch.einsum("bqhd,bkhd->bhqk", split[0], split[1]) / math.sqrt(x.shape[-1] / heads)
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), split[2]).flatten(2)
    x = x + F.linear(mixed, block.attn.proj.weight, block.attn.proj.bias)
    normed = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, eps=1e-6)
    hidden = F.gelu(F.linear(normed, block.mlp.fc1.weight, block.mlp.fc1.bias))
    return x + F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)


def published_logits(network, tokens):
    """The published forward pass, place by place, without any of our savings."""
    config, state = network.config, network.state_dict()
    words = torch.cat([torch.full((len(tokens), 1), 12 + 1), tokens], 1)
    x = state["token_emb.word_embeddings.weight"][words] + state["token_emb.position_embeddings.weight"]
    x = F.layer_norm(x, (16,), state["token_emb.LayerNorm.weight"], state["token_emb.LayerNorm.bias"], 1e-6)
    for block in network.blocks:
        x = attention_block(block, x, config.heads)
    x = F.layer_norm(x, (16,), state["norm.weight"], state["norm.bias"], 1e-6)
    x = F.linear(x, state["decoder_embed.weight"], state["decoder_embed.bias"])
    hidden = words == config.mask_word
    for image in range(len(x)):
        for place in range(17):
            if hidden[image, place]:
                x[image, place] = x[image, 0]
    x = x + state["decoder_pos_embed_learned"]
    for block in network.decoder_blocks:
        x = attention_block(block, x, config.decoder_heads)
    x = F.layer_norm(x, (16,), state["decoder_norm.weight"], state["decoder_norm.bias"], 1e-6)
    x = F.gelu(F.linear(x, state["mlm_layer.fc.weight"], state["mlm_layer.fc.bias"]))
    x = F.layer_norm(x, (16,), state["mlm_layer.ln.weight"], state["mlm_layer.ln.bias"], 1e-5)
    logits = x @ state["token_emb.word_embeddings.weight"].T + state["mlm_layer.bias"]
    return logits[:, 1:, :12]


@torch.inference_mode()
def test_logits_are_those_of_the_equations(network):
    tokens = some_tokens()
    torch.testing.assert_close(network.logits(tokens), published_logits(network, tokens), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_results_at_some_places_are_those_of_all(network):
    tokens = some_tokens()
    hidden = tokens == CONFIG.mask_word
    places = hidden.nonzero()[:, 1].view(3, -1)
    known = (~hidden).nonzero()[:, 1].view(3, -1) + 1
    features = network.encoded(tokens, wanted=torch.cat([torch.zeros(3, 1, dtype=torch.int64), known], 1))
    some = network.predicted(network.decoded(features, hidden, known, wanted=places))
    every = network.logits(tokens).gather(1, places[..., None].expand(-1, -1, 12))
    torch.testing.assert_close(some, every, rtol=1e-4, atol=1e-5)


def test_dropped_codes_reach_nothing_and_positions_stay(network):
    masking = draw_masking(3, 16, 0.7, torch.Generator().manual_seed(1))
    tokens = torch.randint(0, 12, (3, 16))
    dropped = torch.ones(3, 17, dtype=torch.bool).scatter(1, masking.kept, False)[:, 1:]
    other = torch.where(dropped, (tokens + 5) % 12, tokens)
    shown = [t.masked_fill(masking.hidden, CONFIG.mask_word) for t in (tokens, other)]
    first, second = (network.encoded(t, masking.kept) for t in shown)
    torch.testing.assert_close(first, second)
    assert first.shape == (3, 1 + 8, 16)
    moved = masking.kept.flip(1)  # the same places in another order: the same features, in that order
    torch.testing.assert_close(network.encoded(shown[0], moved)[:, 1:].flip(1), first[:, 1:], rtol=1e-4, atol=1e-5)


def test_masking_hides_one_share_and_drops_half():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_masking(2, 256, draw_share(generator), generator) for _ in range(400)]
    counts = np.array([masking.hidden.sum(1).tolist() for masking in drawn])
    assert (counts[:, 0] == counts[:, 1]).all()
    assert all(masking.kept.shape == (2, 128) for masking in drawn)
    assert counts.mean() == pytest.approx(177.7, abs=6)  # the mean of the published schedule
    assert counts.min() >= 128
    masking = drawn[0]
    dropped = torch.ones(2, 257, dtype=torch.bool).scatter(1, masking.kept, False)[:, 1:]
    assert (masking.hidden | ~dropped).all()


def test_the_share_of_hidden_codes_is_a_cut_normal():
    generator = torch.Generator().manual_seed(0)
    shares = [draw_share(generator) for _ in range(1000)]
    cut = stats.truncnorm((0.5 - 0.55) / 0.25, (1 - 0.55) / 0.25, 0.55, 0.25)
    assert stats.kstest(shares, cut.cdf).pvalue > 0.01


def test_the_loss_smooths_labels_over_codes_alone():
    logits, codes = torch.randn(5, 12), torch.tensor([0, 3, 11, 2, 2])
    log_p = logits.log_softmax(-1)
    expected = -(0.9 * log_p[range(5), codes] + 0.1 * log_p.mean(-1)).mean()
    assert float(reconstruction_loss(logits, codes)) == pytest.approx(float(expected), rel=1e-5)


def test_no_gradient_reaches_the_words_through_the_predictor(network):
    table = network.token_emb.word_embeddings.weight
    network.predicted(torch.randn(2, 4, 16, requires_grad=True)).sum().backward()
    assert table.grad is None
    assert network.mlm_layer.fc.weight.grad is not None


def expected_shapes():
    path = ROOT.parent / "shared" / "mage_vitb_checkpoint_keys.tsv"
    if not path.is_file():
        pytest.skip("the list of published keys is not beside the repository")
    rows = list(csv.reader(path.read_text().splitlines(), delimiter="\t"))
    return {name: tuple(int(n) for n in shape.split("x")) for name, shape, _ in rows}


def test_the_published_keys_are_all_known_in_their_shapes():
    expected = expected_shapes()
    with torch.device("meta"):
        network = MAGE(MageConfig())
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert {**ours, **mage_layout.unread(MageConfig())} == expected


def official(network):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for name, shape in mage_layout.unread(network.config).items():
        state[name] = torch.arange(shape[1])[None] if name.endswith("position_ids") else torch.randn(shape)
    return state


@pytest.fixture
def small_official(monkeypatch):
    """A network in the published layout, small: heads, decoder heads, classes and norm groups are not in the shapes."""
    monkeypatch.setattr(mage_layout, "NUM_CLASSES", 3)
    monkeypatch.setattr(mage_layout, "HEAD_WIDTH", 8)
    monkeypatch.setattr(mage_layout, "DECODER_HEADS", 4)
    tokenizer = replace(TOKENIZER, channels=32, norm_groups=32)
    torch.manual_seed(1)
    return MAGE(replace(CONFIG, class_word=1, mlp_ratio=4.0, vqgan=tokenizer)).eval()


@torch.inference_mode()
def test_a_published_file_is_read_strictly_and_gives_the_same_logits(small_official, monkeypatch):
    monkeypatch.setattr(MageConfig, "__init__", with_class_word(MageConfig.__init__))
    state = official(small_official)
    loaded = from_official(state)
    tokens = some_tokens()
    torch.testing.assert_close(loaded.logits(tokens), small_official.logits(tokens))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.encode(images), small_official.encode(images))
    assert loaded.decode(loaded.encode(images)).shape == images.shape
    assert not loaded.training


def with_class_word(init):
    def changed(self, *args, **kwargs):
        init(self, *args, **{"class_word": 1, **kwargs})

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.weight"), "1 missing: norm.weight"),
        (lambda s: s.update(other=torch.ones(1)), "1 left over: other"),
        (
            lambda s: s.update(norm=s.pop("norm.weight"), cls_token=torch.ones(3)),
            "1 missing: norm.weight; 1 left over: norm; 1 of another shape: cls_token",
        ),
        (lambda s: s.pop("token_emb.word_embeddings.weight"), "Not a state dict of MAGE"),
        (lambda s: [s.pop(name) for name in list(s) if name.startswith("vqgan")], "no key starts with 'vqgan.'"),
    ],
)
def test_another_layout_is_refused_with_its_keys(small_official, change, message):
    state = official(small_official)
    change(state)
    with pytest.raises(ValueError, match=message):
        from_official(state)


@torch.inference_mode()
def test_the_tokenizer_adds_one_by_one_of_the_output_where_the_width_changes():
    tokenizer = VQGAN(TOKENIZER).eval()
    block = tokenizer.encoder.down[1].block[0]
    x = torch.randn(1, 8, 4, 4)
    h = block.conv1(F.silu(F.group_norm(x, 4, block.norm1.weight, block.norm1.bias, 1e-6)))
    h = block.conv2(F.silu(F.group_norm(h, 4, block.norm2.weight, block.norm2.bias, 1e-6)))
    torch.testing.assert_close(block(x), h + F.conv2d(h, block.nin_shortcut.weight))


@torch.inference_mode()
def test_codes_are_the_nearest_in_rows():
    tokenizer = VQGAN(TOKENIZER).eval()
    images = torch.rand(2, 3, 8, 8)
    z = tokenizer.encoder(images)
    distances = (z[:, None] - tokenizer.codebook[None, :, :, None, None]).square().sum(2)
    assert torch.equal(tokenizer.encode(images), distances.argmin(1).flatten(1))
    vectors = tokenizer.vectors(tokenizer.encode(images))
    assert torch.equal(vectors[0, :, 1, 2], tokenizer.codebook[tokenizer.encode(images)[0, 1 * 4 + 2]])


def test_gradients_go_straight_through_the_codes():
    tokenizer = VQGAN(TOKENIZER)
    rebuilt, z, tokens = tokenizer(torch.rand(2, 3, 8, 8))
    rebuilt.sum().backward()
    assert tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert tokenizer.codebook.grad is None
    torch.testing.assert_close(rebuilt, tokenizer.decode(tokens), rtol=1e-4, atol=1e-5)
    assert z.shape == (2, 6, 4, 4)


def new_adapters(**options):
    torch.manual_seed(0)
    return Adapters(2, 16, {"encoder": 2, "decoder": 2}, bottleneck=4, **options).eval()


def test_before_training_the_adapted_model_is_mage(network):
    tokens, adapters, classes = some_tokens(), new_adapters(), torch.tensor([0, 1, 1])
    assert torch.equal(network.encoded(tokens, None, adapters, classes), network.encoded(tokens))


@torch.no_grad()
def test_adapters_are_the_papers_equation_and_each_class_has_its_own(network):
    adapters = new_adapters()
    for parameter in adapters.parameters():
        parameter.normal_()
    adapter, x = adapters.parts["encoder"][0], torch.randn(2, 5, 16)
    found = adapter(x, torch.tensor([1, 0]))
    expected = 0.1 * ((x[0] @ adapter.down[1] + adapter.down_bias[1]).relu() @ adapter.up[1] + adapter.up_bias[1])
    torch.testing.assert_close(found[0], expected)
    tokens = some_tokens(2)
    both = network.encoded(tokens, None, adapters, torch.tensor([0, 1]))
    alone = [network.encoded(tokens[i : i + 1], None, adapters, torch.tensor([i])) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (both - network.encoded(tokens)).abs().max() > 0.1


@pytest.mark.parametrize(("placement", "parts"), [("encoder", ["encoder"]), ("decoder", ["decoder"])])
def test_adapters_may_stand_in_one_half_alone(placement, parts):
    adapters = new_adapters(placement=placement)
    assert list(adapters.parts) == parts
    absent = "decoder" if placement == "encoder" else "encoder"
    assert adapters.of(absent, 0, torch.zeros(1, dtype=torch.int64)) is None


def test_a_frozen_network_gets_no_gradients_but_its_adapters_do(network):
    network.requires_grad_(False)
    adapters = new_adapters()
    tokens, classes = some_tokens(2), torch.tensor([0, 1])
    features = network.encoded(tokens, None, adapters, classes)
    logits = network.predicted(network.decoded(features, tokens == CONFIG.mask_word, None, adapters, classes))
    logits.square().sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(adapter.up.grad.abs().sum() > 0 for part in adapters.parts.values() for adapter in part)


def test_the_quantisers_loss_is_the_papers_and_each_side_gets_its_own_gradient():
    quantizer = ClassTokenQuantizer(2, 3, 4)
    nn.init.normal_(quantizer.codes)
    features, classes = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 1, 1, 0, 1])
    nearest = quantizer.nearest(features, classes)
    for row in range(5):
        distances = (quantizer.codes[classes[row]] - features[row]).square().sum(-1)
        assert nearest[row] == distances.argmin()
    codes = quantizer.codes[classes, nearest]
    loss = quantizer.loss(features, classes)
    assert loss.item() == pytest.approx(1.25 * (codes - features).square().mean().item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(features.grad, 0.25 * 2 * (features - codes).detach() / 20)
    assert quantizer.codes.grad.abs().sum() > 0


def test_codes_start_from_features_and_dead_ones_are_replaced():
    quantizer = ClassTokenQuantizer(2, 3, 4)
    features = torch.randn(2, 4)
    quantizer.start_from(features, 1)
    assert {tuple(code.tolist()) for code in quantizer.codes[1]} == {tuple(row.tolist()) for row in features}
    with torch.no_grad():
        quantizer.codes[0] = torch.tensor([[0.0] * 4, [50.0] * 4, [90.0] * 4])
    near, classes = torch.full((6, 4), 0.1), torch.zeros(6, dtype=torch.int64)
    for _ in range(3):
        quantizer.loss(near, classes)
    quantizer.revive(near, classes, after=3)
    assert float(quantizer.codes[0].max().detach()) == pytest.approx(0.1)
    assert quantizer.codes[0, 0].eq(0).all()


def test_replaced_features_are_codes_with_gradients_straight_through():
    quantizer = ClassTokenQuantizer(1, 2, 4)
    nn.init.normal_(quantizer.codes)
    features, classes = torch.randn(3, 4, requires_grad=True), torch.zeros(3, dtype=torch.int64)
    replaced = quantizer.replaced(features, classes)
    torch.testing.assert_close(replaced, quantizer.codes[0, quantizer.nearest(features, classes)])
    replaced.sum().backward()
    assert torch.equal(features.grad, torch.ones(3, 4))


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (20, [255, 252, 248, 243, 236, 228, 218, 207, 194, 181, 166, 150, 133, 116, 97, 79, 59, 40, 20, 0]),
        (8, [251, 236, 212, 181, 142, 97, 49, 0]),
    ],
)
def test_the_schedule_is_the_published_one(num_steps, expected):
    assert hidden_counts(256, num_steps) == expected


@torch.inference_mode()
def test_decoding_fills_all_codes_each_image_from_its_own_seed(network):
    drawn = decode_iteratively(network, [5, 6, 7], num_steps=5)
    assert drawn.shape == (3, 16)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < 12
    assert torch.equal(decode_iteratively(network, [7], num_steps=5)[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def rows_of(module):
    """A list that grows by (images, places) with each call of a module."""
    seen = []
    module.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[:2])))
    return seen


@torch.inference_mode()
@pytest.mark.parametrize(("classes", "kinds"), [(None, 1), ([0, 1, 0], 2), ([1, 1, 1], 1)])
def test_decoding_computes_the_first_step_once_a_class_and_last_blocks_where_they_are_read(network, classes, kinds):
    first, encoder = rows_of(network.blocks[0].mlp), rows_of(network.blocks[-1].mlp)
    decoder, predictor = rows_of(network.decoder_blocks[-1].mlp), rows_of(network.mlm_layer)
    told = () if classes is None else (new_adapters(), torch.tensor(classes))
    decode_iteratively(network, [5, 6, 7], 4, 1.0, *told)
    hidden = [16, *hidden_counts(16, 4)[:-1]]
    images = [kinds, 3, 3, 3]
    assert first == [(count, 17) for count in images]
    assert encoder == [(count, 17 - unknown) for count, unknown in zip(images, hidden, strict=True)]
    assert decoder == predictor == list(zip(images, hidden, strict=True))


@torch.inference_mode()
def test_decoding_without_chance_takes_the_surest_as_the_published_loop_does(network, monkeypatch):
    """With the most probable codes and no Gumbel noise, against the plain loop on all places."""
    monkeypatch.setattr("nbutils.models.mage_decoding._draw", lambda log_p, uniform: tuple(reversed(log_p.max(-1))))
    found = decode_iteratively(network, [0], num_steps=6, temperature=0.0)
    tokens = torch.full((1, 16), CONFIG.mask_word)
    for still_hidden in hidden_counts(16, 6):
        hidden = tokens == CONFIG.mask_word
        sureness, codes = network.logits(tokens).log_softmax(-1).max(-1)
        tokens = torch.where(hidden, codes, tokens)
        sureness = sureness.masked_fill(~hidden, torch.inf)
        if still_hidden:
            tokens = tokens.scatter(1, sureness.argsort(1)[:, :still_hidden], CONFIG.mask_word)
    assert torch.equal(found, tokens)


@torch.inference_mode()
def test_codes_are_drawn_from_their_distribution(network):
    from nbutils.models.mage_decoding import _draw

    log_p = torch.tensor([0.2, 0.5, 0.3]).log().expand(1, 30000, 3)
    drawn, found = _draw(log_p, torch.rand(1, 30000, generator=torch.Generator().manual_seed(0)))
    shares = drawn.bincount() if drawn.ndim == 1 else drawn[0].bincount()
    assert (shares / 30000).tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    torch.testing.assert_close(found, log_p.gather(-1, drawn[..., None])[..., 0])


@torch.inference_mode()
def test_classes_are_decoded_by_their_own_adapters(network):
    adapters = new_adapters()
    for parameter in adapters.parameters():
        nn.init.normal_(parameter, std=2.0)
    classes = torch.tensor([0, 1, 0])
    drawn = decode_iteratively(network, [1, 2, 3], 4, 1.0, adapters, classes)
    alone = decode_iteratively(network, [2], 4, 1.0, adapters, classes[1:2])
    assert torch.equal(drawn[1:2], alone)
    other = decode_iteratively(network, [2], 4, 1.0, adapters, classes[:1])
    assert not torch.equal(alone, other)
