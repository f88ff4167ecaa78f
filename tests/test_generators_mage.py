"""nbutils.generators.mage_training: what is trained, and that classes side by side do not meet."""

import pytest
import torch
from test_models_mage import CONFIG
from torch import nn

from nbutils.generators.mage_training import Additions, MageMethod, code_batches
from nbutils.models.adapter import Adapters, ClassTokenQuantizer
from nbutils.models.mage import MAGE


def codes_of(count, seed):
    codes = torch.randint(0, 12, (1, count, 16), generator=torch.Generator().manual_seed(seed))
    return torch.cat([codes, codes.flip(-1)])


def new_method(num_classes=2, quantised=True, **options):
    torch.manual_seed(0)
    network = MAGE(CONFIG)
    for block in (*network.blocks, *network.decoder_blocks):
        block.attn.attn_drop.p = block.attn.proj_drop.p = block.mlp.drop1.p = block.mlp.drop2.p = 0.0
    network.token_emb.dropout.p = 0.0
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
    both = code_batches(codes, 4, [7, 8], flip=True)(3)
    alone = code_batches(codes[1:], 4, [8], flip=True)(3)
    for together, one in zip(both[:3], alone[:3], strict=True):
        assert torch.equal(together[4:], one)
    assert both[3].tolist() == [0] * 4 + [1] * 4
    assert both[1].sum(1).unique().numel() == 1


@pytest.mark.parametrize("flip", [True, False])
def test_mirrored_codes_come_only_where_they_are_wanted(flip):
    codes = torch.stack([torch.zeros(6, 16, dtype=torch.int64), torch.ones(6, 16, dtype=torch.int64)])
    batches = code_batches([codes], 6, [0], flip)
    share = torch.cat([batches(step)[0] for step in range(30)]).float().mean()
    assert share == (pytest.approx(0.5, abs=0.15) if flip else 0)


def test_only_what_was_added_is_trained_and_the_loss_falls():
    method = new_method()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    batch = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1], flip=False)(0)
    losses = [float(method.step(step, *batch)["loss"]) for step in range(40)]
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(value, before[name]) for name, value in method.network.state_dict().items())
    assert all(p.grad is None for p in method.network.parameters())


def test_a_class_learns_as_it_would_alone():
    codes, steps = [codes_of(6, 0), codes_of(6, 1)], 5
    both, alone = new_method(2), new_method(2)
    for step in range(steps):
        both.step(step, *code_batches(codes, 3, [0, 1], flip=False)(step))
        single = code_batches(codes[1:], 3, [1], flip=False)(step)
        alone.step(step, *single[:3], torch.ones_like(single[3]))
    for name, value in both.additions.named_parameters():
        # In `alone` the mean over its images counts twice, which Adam does not see.
        torch.testing.assert_close(value[1], dict(alone.additions.named_parameters())[name][1], rtol=1e-2, atol=1e-3)


def test_the_quantiser_joins_the_loss_by_its_weight_and_may_replace_the_token():
    batch = code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1], flip=False)(0)
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
    method.step(0, *code_batches([codes_of(4, 0), codes_of(4, 1)], 4, [0, 1], flip=False)(0))
    moved = (network.token_emb.word_embeddings.weight != before).any(1)
    assert moved[12:14].all(), "the words of both classes"
    assert not moved[14]
    assert "generator" in method.averages
