"""VQ-VAE-2: codebooks that follow their vectors, two levels of codes, causal priors, sampling that repeats nothing."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nbutils.models.autoregressive import CausalAttention, GatedLayer, Prior, PriorConfig, gate
from nbutils.models.codes import draw_codes, nearest_codes
from nbutils.models.vqvae2 import VQVAE2, AutoencoderConfig, Codebook, ResidualBlock

SIZES = {"num_codes": 11, "num_classes": 3, "width": 8, "residual_channels": 12, "num_layers": 3, "attention_heads": 2}
SIZES |= {"dropout": 0.0}


def new_prior(level, grid=4, filter_size=3, **changes):
    """Make a prior with weights large enough for every path to be seen, in double precision."""
    torch.manual_seed(0)
    kinds = {
        "top": {"attention_every": 2, "output_layers": 2},
        "bottom": {"attention_every": None, "output_layers": 0, "condition_layers": 2},
    }
    prior = Prior(PriorConfig(**{**SIZES, **kinds[level], **changes}, grid=grid, filter_size=filter_size))
    for layer in prior.layers:
        nn.init.normal_(layer.classes.weight)
    return prior.double().eval()


def inputs(level, grid=4, batch=2):
    """Return random codes, labels, and codes of the level above where there is one."""
    codes = torch.randint(11, (batch, grid, grid))
    above = torch.randint(11, (batch, grid // 2, grid // 2)) if level == "bottom" else None
    return codes, torch.arange(batch) % 3, above


def naive(prior, labels, uniform, above):
    """Draw codes by running the whole prior for each of them."""
    grid = prior.config.grid
    codes = torch.zeros(len(labels), grid, grid, dtype=torch.int64)
    for place in range(grid**2):
        row, column = divmod(place, grid)
        with torch.no_grad():
            log_p = prior(codes, labels, above)[:, :, row, column].float().log_softmax(-1)
        codes[:, row, column] = draw_codes(log_p, uniform[:, place])
    return codes


def test_codes_are_the_nearest_and_drawn_by_the_inverse_of_the_distribution():
    codebook, vectors = torch.randn(7, 3), torch.randn(2, 5, 3)
    assert torch.equal(nearest_codes(vectors, codebook), torch.cdist(vectors, codebook.expand(2, 7, 3)).argmin(-1))
    close = torch.tensor([[1.0], [1.0 + 1e-3]])
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest_codes(torch.tensor([1.0, 1.0 + 1e-3])[:, None], close).tolist() == [0, 1]
    log_p = torch.tensor([0.2, 0.5, 0.3]).log().expand(6, 3)
    assert draw_codes(log_p, torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.999])).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_codebook_follows_the_moving_averages_of_its_equation():
    torch.manual_seed(0)
    book, gamma = Codebook(3, 2, decay=0.9, revived_after=100), 0.9
    counts, sums = torch.tensor([2.0, 1.0, 4.0]), torch.randn(3, 2)
    book.load_averages({"counts": counts, "sums": sums, "unused": torch.zeros(3)})
    z = torch.randn(2, 2, 1, 2)
    codes = torch.tensor([[[0, 2]], [[2, 2]]])
    book.update(z, codes)
    n, rows = torch.tensor([1.0, 0.0, 3.0]), z.permute(0, 2, 3, 1).reshape(4, 2)
    counts = gamma * counts + (1 - gamma) * n
    sums = gamma * sums + (1 - gamma) * torch.stack([rows[0], torch.zeros(2), rows[1:].sum(0)])
    torch.testing.assert_close(book.counts, counts)
    torch.testing.assert_close(book.codes.data, sums / counts[:, None])
    assert book.unused.tolist() == [0, 1, 0]
    assert not book.codes.requires_grad


def test_codes_that_nothing_chose_for_long_become_vectors_of_the_batch():
    book = Codebook(4, 2, decay=0.5, revived_after=2)
    z = torch.arange(1.0, 13.0).view(1, 2, 2, 3)
    book.load_averages({"counts": torch.ones(4), "sums": -torch.ones(4, 2), "unused": torch.zeros(4)})
    book.update(z, torch.tensor([[[0, 0, 0], [1, 1, 1]]]))
    assert (book.codes[2:] == -1).all(), "unused once only"
    book.update(z, torch.tensor([[[0, 0, 0], [1, 1, 1]]]))
    rows = z.permute(0, 2, 3, 1).reshape(6, 2)
    assert all((rows == code).all(1).any() for code in book.codes[2:])
    assert not torch.equal(book.codes[2], book.codes[3])
    assert book.unused.tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(book.sums[2:] / book.counts[2:, None], book.codes[2:].data)


def test_the_first_batch_gives_all_codes_its_vectors():
    book, z = Codebook(6, 3, decay=0.99, revived_after=50), 5 + torch.randn(2, 3, 4, 4)
    book.update(z, book.nearest(z))
    assert book.codes.min() > 0
    few = Codebook(40, 3, decay=0.99, revived_after=50)
    chosen = few.nearest(z)
    few.update(z, chosen)  # 32 vectors for 40 codes: the others wait
    assert (few.codes[few.unused == 0] > 0).all()
    assert (few.unused > 0).sum() == 40 - 32 - len(chosen.unique())


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3)])
def test_two_levels_of_codes_rebuild_images(size, channels):
    config = AutoencoderConfig(channels, channels=8, residual_channels=4, num_blocks=1, code_dim=5, num_codes=9)
    autoencoder, images = VQVAE2(config), torch.randn(2, channels, size, size)
    rebuilt, levels = autoencoder(images)
    top, bottom = autoencoder.encode(images)
    assert rebuilt.shape == images.shape
    assert top.shape == (2, size // 8, size // 8)
    assert bottom.shape == (2, size // 4, size // 4)
    assert torch.equal(levels["top"][1], top)
    assert torch.equal(levels["bottom"][1], bottom)
    torch.testing.assert_close(autoencoder.decode(top, bottom), rebuilt, rtol=1e-4, atol=1e-4)
    other = autoencoder.decode((top + 1) % 9, bottom)
    assert not torch.allclose(other, rebuilt, atol=1e-4), "both levels are seen"


def test_gradients_pass_straight_through_the_codes():
    config = AutoencoderConfig(1, channels=8, residual_channels=4, num_blocks=1, code_dim=5, num_codes=9)
    autoencoder = VQVAE2(config)
    rebuilt, levels = autoencoder(torch.randn(2, 1, 16, 16))
    z, target = levels["bottom"][0], torch.randn_like(rebuilt)
    (found,) = torch.autograd.grad(F.mse_loss(rebuilt, target), z)
    top, bottom = (autoencoder.get_submodule(name).vectors(levels[name][1]) for name in ("top", "bottom"))
    bottom = bottom.clone().requires_grad_()
    joined = torch.cat([autoencoder.enlarge_top(top), bottom], 1)
    (expected,) = torch.autograd.grad(F.mse_loss(autoencoder.decode_both(joined), target), bottom)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert found.abs().max() > 0


def test_the_bottom_level_sees_the_top_codes():
    config = AutoencoderConfig(1, channels=8, residual_channels=4, num_blocks=1, code_dim=5, num_codes=9)
    autoencoder, images = VQVAE2(config), torch.randn(1, 1, 16, 16)
    before = autoencoder(images)[1]["bottom"][0]
    autoencoder.top.codes.data.add_(3.0)
    assert not torch.allclose(autoencoder(images)[1]["bottom"][0], before)


def test_a_residual_block_is_the_published_one():
    block, x = ResidualBlock(4, 3), torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x + block[3](F.relu(block[1](F.relu(x)))))


def test_a_gate_is_tanh_times_sigmoid():
    x = torch.randn(2, 6, 1, 1)
    torch.testing.assert_close(gate(x), torch.tanh(x[:, :3]) / (1 + torch.exp(-x[:, 3:])))


@pytest.mark.parametrize("filter_size", [3, 5])
@pytest.mark.parametrize("level", ["top", "bottom"])
def test_logits_depend_on_all_codes_before_and_on_none_later(level, filter_size):
    prior = new_prior(level, filter_size=filter_size)
    codes, labels, above = inputs(level, batch=1)
    embedded = []
    prior.codes.register_forward_hook(lambda module, given, found: embedded.append(found.requires_grad_()) or found)
    logits = prior(codes, labels, above)
    for place in range(16):
        row, column = divmod(place, 4)
        (gradient,) = torch.autograd.grad(
            logits[0, :, row, column].square().sum(), embedded[0], retain_graph=True, allow_unused=True
        )
        touched = (gradient[0].abs().sum(-1) > 0).flatten()
        assert not touched[place:].any()
        assert touched[:place].all(), "no blind spot within three layers of a grid of four"


@pytest.mark.parametrize("level", ["top", "bottom"])
def test_logits_depend_on_the_class_and_the_bottom_ones_on_the_top_codes(level):
    prior = new_prior(level)
    codes, labels, above = inputs(level)
    before = prior(codes, labels, above)
    assert (prior(codes, (labels + 1) % 3, above) - before).abs().amax(1).min() > 1e-6
    if level == "bottom":
        changed = above.clone()
        changed[0, 1, 1] = (changed[0, 1, 1] + 1) % 11
        difference = (prior(codes, labels, changed) - before).abs().amax(1)
        assert difference[0, 0, 0] > 0, "the stack for the condition sees beyond what was drawn"
        assert difference[1].max() == 0


def test_every_weight_of_a_prior_is_used():
    for level in ("top", "bottom"):
        prior = new_prior(level)
        prior(*inputs(level)).square().sum().backward()
        assert [name for name, p in prior.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_attention_is_that_of_torch_and_its_memory_gives_the_same():
    torch.manual_seed(0)
    attention, h = CausalAttention(8, 2, dropout=0.5).eval(), torch.randn(3, 8, 2, 2)
    rows = attention.qkv(attention.norm(h.flatten(2).transpose(1, 2)))
    q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in rows.chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    expected = h + attention.out(mixed).transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(attention(h), expected)
    memory = torch.full((2, 3, 2, 4, 4), torch.nan)  # nothing is read that was not written
    for place, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        found = attention.look_back(h[:, :, row, column, None, None], memory, place)
        torch.testing.assert_close(found[..., 0, 0], expected[:, :, row, column])


def test_dropout_falls_on_the_logits_of_attention_and_on_residual_blocks():
    attention = CausalAttention(8, 2, dropout=1.0 - 1e-7).train()
    h = torch.randn(1, 8, 2, 2)
    rows = attention.qkv(attention.norm(h.flatten(2).transpose(1, 2)))[..., 16:]
    means = rows.cumsum(1) / torch.arange(1, 5)[:, None]  # all logits are zero: the mean of all places before
    expected = h + attention.out(means).transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(attention(h), expected)
    layer = GatedLayer(PriorConfig(**{**SIZES, "dropout": 1.0}), last=False).train()
    row = torch.randn(1, 8, 1, 7)
    given = torch.randn(1, 12, 1, 5)
    assert torch.equal(layer.look_left(row, given), row[..., 2:])


@pytest.mark.parametrize("filter_size", [3, 5])
@pytest.mark.parametrize("level", ["top", "bottom"])
def test_sampling_draws_what_naive_autoregression_draws(level, filter_size):
    prior = new_prior(level, filter_size=filter_size)
    _, labels, above = inputs(level, batch=5)
    uniform = torch.rand(5, 16)
    codes = prior.sample(labels, uniform, above)
    assert torch.equal(codes, naive(prior, labels, uniform, above))
    assert codes.unique().numel() > 3
    assert torch.equal(prior.sample(labels[:2], uniform[:2], None if above is None else above[:2]), codes[:2])


@pytest.mark.parametrize("level", ["top", "bottom"])
def test_each_code_takes_the_same_work_wherever_it_stands(level):
    found = {}
    for grid in (4, 8):
        prior, (_, labels, above) = new_prior(level, grid=grid), inputs(level, grid)
        calls = Counter()
        for layer in prior.layers:
            layer.left.register_forward_hook(lambda *_, calls=calls: calls.update(code=1))
            layer.above.register_forward_hook(lambda *_, calls=calls: calls.update(row=1))
        with FlopCounterMode(display=False) as counter:
            prior.sample(labels, torch.rand(2, grid**2), above)
        assert calls == {"code": 3 * grid**2, "row": 3 * grid}
        flops = counter.get_flop_counts()["Global"]
        attention = sum(count for operator, count in flops.items() if "bmm" in str(operator))
        found[grid] = (sum(flops.values()) - attention) / grid**2
        # q k and weights times v, 2 B width each: a place looks at itself and all before it
        assert attention == (1 if level == "top" else 0) * 2 * 2 * 2 * 8 * sum(range(1, grid**2 + 1))
    assert found[8] == found[4]
