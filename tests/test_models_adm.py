"""ADM: the official forward pass written a second time, functional, from the names in a state dict; layout; adapt."""

import hashlib
import math

import pytest
import torch
from torch.nn import functional as F

from nbutils.models.adm import ADM, adapt, from_official

SMALL = {
    "image_size": 32,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2,2",
    "attention_resolutions": "16,8",
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "learn_sigma": True,
    "class_cond": True,
    "use_new_attention_order": False,
}
LAYOUT_OF_SMALL = "ecdd3aee2b69a571"  # SHA-256 of "name shape" lines of an example checkpoint layout, sorted


def official_layout(arguments: dict, num_classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """List names and shapes of an official checkpoint, block by block as the paper describes them."""
    a = {
        "class_cond": False,
        "learn_sigma": False,
        "resblock_updown": False,
        "use_scale_shift_norm": False,
        **arguments,
    }
    base, blocks = a["num_channels"], a["num_res_blocks"]
    widths = [int(float(mult) * base) for mult in a["channel_mult"].split(",")]
    factors = [a["image_size"] // int(size) for size in a["attention_resolutions"].split(",")]
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def resblock(name, width_in, width):
        layer(f"{name}.in_layers.0", width_in)
        layer(f"{name}.in_layers.2", width, width_in, 3, 3)
        layer(f"{name}.emb_layers.1", width * (2 if a["use_scale_shift_norm"] else 1), 4 * base)
        layer(f"{name}.out_layers.0", width)
        layer(f"{name}.out_layers.3", width, width, 3, 3)
        if width_in != width:
            layer(f"{name}.skip_connection", width, width_in, 1, 1)

    def attention(name, width):
        layer(f"{name}.norm", width)
        layer(f"{name}.qkv", 3 * width, width, 1)
        layer(f"{name}.proj_out", width, width, 1)

    layer("time_embed.0", 4 * base, base)
    layer("time_embed.2", 4 * base, 4 * base)
    if a["class_cond"]:
        shapes["label_emb.weight"] = (num_classes, 4 * base)
    layer("input_blocks.0.0", widths[0], 3, 3, 3)
    width, kept, index = widths[0], [widths[0]], 1
    for level, new in enumerate(widths):
        for _ in range(blocks):
            resblock(f"input_blocks.{index}.0", width, new)
            width = new
            if 2**level in factors:
                attention(f"input_blocks.{index}.1", width)
            kept.append(width)
            index += 1
        if level < len(widths) - 1:
            if a["resblock_updown"]:
                resblock(f"input_blocks.{index}.0", width, width)
            else:
                layer(f"input_blocks.{index}.0.op", width, width, 3, 3)
            kept.append(width)
            index += 1
    resblock("middle_block.0", width, width)
    attention("middle_block.1", width)
    resblock("middle_block.2", width, width)
    for index in range(len(widths) * (blocks + 1)):
        level = len(widths) - 1 - index // (blocks + 1)
        resblock(f"output_blocks.{index}.0", width + kept.pop(), widths[level])
        width = widths[level]
        if 2**level in factors:
            attention(f"output_blocks.{index}.1", width)
        if level and index % (blocks + 1) == blocks:
            place = f"output_blocks.{index}.{2 if 2**level in factors else 1}"
            if a["resblock_updown"]:
                resblock(place, width, width)
            else:
                layer(f"{place}.conv", width, width, 3, 3)
    layer("out.0", width)
    layer("out.2", 6 if a["learn_sigma"] else 3, width, 3, 3)
    return shapes


def random_state(shapes: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Fill a layout with random weights that keep activations near 1; no layer is zero."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        fan_in = max(1, math.prod(shape[1:]))
        state[name] = value / math.sqrt(fan_in) if len(shape) > 1 else 0.2 * value + (name.endswith("weight"))
    return state


def reference(sd: dict, x, t, y, arguments: dict) -> torch.Tensor:
    """Run the official network: everything but the head count and the order of qkv is read off the names."""
    blocks = arguments["num_res_blocks"]
    new_order = arguments.get("use_new_attention_order", False)
    dim = sd["time_embed.0.weight"].shape[1]

    def linear(h, name):
        return F.linear(h, sd[f"{name}.weight"], sd[f"{name}.bias"])

    def conv(h, name, stride=1):
        weight = sd[f"{name}.weight"]
        return F.conv2d(h, weight, sd[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

    def norm(h, name):
        return F.group_norm(h, 32, sd[f"{name}.weight"], sd[f"{name}.bias"], 1e-5)

    def doubled(h):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def resblock(h, emb, name, resample=lambda h: h):
        inner = conv(resample(F.silu(norm(h, f"{name}.in_layers.0"))), f"{name}.in_layers.2")
        emb = linear(F.silu(emb), f"{name}.emb_layers.1")[:, :, None, None]
        if emb.shape[1] == 2 * inner.shape[1]:
            scale, shift = emb.chunk(2, 1)
            inner = norm(inner, f"{name}.out_layers.0") * (1 + scale) + shift
        else:
            inner = norm(inner + emb, f"{name}.out_layers.0")
        inner = conv(F.silu(inner), f"{name}.out_layers.3")
        h = resample(h)
        return (conv(h, f"{name}.skip_connection") if f"{name}.skip_connection.weight" in sd else h) + inner

    def attention(h, name, num_heads):
        c, height, width = h.shape[1:]
        per_head = arguments.get("num_head_channels", -1)
        heads = num_heads if per_head == -1 else c // per_head
        qkv = torch.einsum("oi,bin->bon", sd[f"{name}.qkv.weight"][..., 0], norm(h, f"{name}.norm").flatten(2))
        qkv = qkv + sd[f"{name}.qkv.bias"][:, None]
        split = (3, heads) if new_order else (heads, 3)
        q, k, v = qkv.unflatten(1, (*split, c // heads)).movedim(1 if new_order else 2, 0)  # each (b, heads, d, n)
        q, k = (z * (c // heads) ** -0.25 for z in (q, k))
        weights = torch.einsum("bhdm,bhdn->bhmn", q, k).softmax(-1)
        mixed = torch.einsum("bhmn,bhdn->bhdm", weights, v).flatten(1, 2)
        mixed = torch.einsum("oi,bin->bon", sd[f"{name}.proj_out.weight"][..., 0], mixed)
        return h + (mixed + sd[f"{name}.proj_out.bias"][:, None]).unflatten(2, (height, width))

    frequencies = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))
    angles = t[:, None] * frequencies
    emb = linear(F.silu(linear(torch.cat([angles.cos(), angles.sin()], 1), "time_embed.0")), "time_embed.2")
    emb = emb if y is None else emb + sd["label_emb.weight"][y]

    heads = arguments.get("num_heads", 1)
    h = conv(x, "input_blocks.0.0")
    kept, index = [h], 1
    while any(name.startswith(f"input_blocks.{index}.") for name in sd):
        name = f"input_blocks.{index}"
        if f"{name}.0.op.weight" in sd:
            h = conv(h, f"{name}.0.op", stride=2)
        else:
            between_levels = index % (blocks + 1) == 0
            h = resblock(h, emb, f"{name}.0", (lambda h: F.avg_pool2d(h, 2)) if between_levels else lambda h: h)
        if f"{name}.1.qkv.weight" in sd:
            h = attention(h, f"{name}.1", heads)
        kept.append(h)
        index += 1
    h = resblock(attention(resblock(h, emb, "middle_block.0"), "middle_block.1", heads), emb, "middle_block.2")
    up_heads = arguments.get("num_heads_upsample", -1)
    for index in range(len(kept)):
        name = f"output_blocks.{index}"
        h = resblock(torch.cat([h, kept.pop()], 1), emb, f"{name}.0")
        if f"{name}.1.qkv.weight" in sd:
            h = attention(h, f"{name}.1", heads if up_heads == -1 else up_heads)
        for place in (1, 2):
            if f"{name}.{place}.conv.weight" in sd:
                h = conv(doubled(h), f"{name}.{place}.conv")
            elif f"{name}.{place}.in_layers.0.weight" in sd:
                h = resblock(h, emb, f"{name}.{place}", doubled)
    return conv(F.silu(norm(h, "out.0")), "out.2")


def test_layout_is_that_of_the_example():
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in official_layout(SMALL).items())
    assert len(lines) == 217
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(LAYOUT_OF_SMALL)


VARIANTS = {
    "example": {},
    "new attention order": {"use_new_attention_order": True},
    "heads by number": {"num_head_channels": -1, "num_heads": 4},
    "heads by number, new order": {"num_head_channels": -1, "num_heads": 4, "use_new_attention_order": True},
    "other heads going up": {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4},
    "plain resampling": {"resblock_updown": False},
    "plain resampling, no attention above 8 px": {"resblock_updown": False, "attention_resolutions": "8"},
    "added time": {"use_scale_shift_norm": False},
    "unconditional": {"class_cond": False},
    "noise alone": {"learn_sigma": False},
    "two blocks": {"num_res_blocks": 2, "attention_resolutions": "16"},
    "official multipliers": {"image_size": 64, "channel_mult": ""},
    "narrow first level": {"num_channels": 64, "channel_mult": "0.5,1"},
    "checkpointing, half, dropout": {"use_checkpoint": True, "use_fp16": True, "dropout": 0.3},
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_official_weights_give_the_official_output(change):
    arguments = {**SMALL, **change}
    layout = official_layout({**arguments, "channel_mult": arguments["channel_mult"] or "1,2,3,4"}, num_classes=7)
    sd = random_state(layout)
    x = torch.randn(2, 3, arguments["image_size"], arguments["image_size"], generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 977])
    y = torch.tensor([6, 2]) if arguments["class_cond"] else None
    model = from_official(sd, **arguments)
    with torch.inference_mode():
        expected, found = reference(sd, x, t, y, arguments), model(x, t, y)
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_precision_weights_become_float32():
    sd = {name: value.half() for name, value in random_state(official_layout(SMALL, 7)).items()}
    assert {p.dtype for p in from_official(sd, **SMALL).parameters()} == {torch.float32}


def test_all_differences_of_a_state_dict_are_in_one_message():
    sd = random_state(official_layout(SMALL, 7))
    del sd["middle_block.1.qkv.bias"]
    sd["spare"] = torch.zeros(1)
    sd["out.2.weight"] = torch.zeros(3, 32, 3, 3)
    with pytest.raises(ValueError, match=r"1 missing: middle_block.1.qkv.bias; 1 not expected: spare; 1 of another"):
        from_official(sd, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_cond": False}, "not expected: label_emb.weight"),
        ({"channel_mult": ""}, "give channel_mult"),
        ({"num_head_channels": 24}, "cannot be split into heads of 24"),
        ({"image_size": 30, "attention_resolutions": "15"}, "divisible by 4"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        from_official(random_state(official_layout(SMALL, 7)), **{**SMALL, **change})


def test_unknown_argument():
    with pytest.raises(TypeError, match="image_sise"):
        from_official({}, image_sise=32)


def test_new_network_predicts_zero_and_folds_patches():
    model = ADM(16, 1, 16, 1, (1, 2), (4,), num_classes=3, norm_groups=8, patch_size=2)
    out = model(torch.randn(2, 1, 16, 16), torch.tensor([0, 9]), torch.tensor([0, 2]))
    assert out.shape == (2, 2, 16, 16)
    assert not out.any()


def test_adapt_keeps_the_prediction_for_grey_images():
    sd = random_state(official_layout(SMALL, 7))
    sd["label_emb.weight"][:] = sd["label_emb.weight"][:1]  # all classes alike, so that their mean is each of them
    model = from_official(sd, **SMALL)
    grey, t = torch.randn(2, 1, 32, 32), torch.tensor([3, 977])
    with torch.inference_mode():
        before = model(grey.expand(-1, 3, -1, -1), t, torch.tensor([0, 6]))
        report = adapt(model, num_classes=3, channels=1)
        after = model(grey, t, torch.tensor([0, 2]))
        adapt(model, num_classes=None, channels=1)
        unconditional = model(grey, t)
    torch.testing.assert_close(after, before.unflatten(1, (2, 3)).mean(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(unconditional, after, rtol=0, atol=1e-5)
    assert [line.split(":")[0] for line in report] == ["conv_in", "conv_out", "class_embedding"]


def test_adapt_starts_new_classes_at_the_mean_of_the_old():
    model = from_official(random_state(official_layout(SMALL, 7)), **SMALL)
    mean = model.unet.class_embedding.weight.detach().mean(0)
    adapt(model, num_classes=3, channels=3)
    torch.testing.assert_close(model.unet.class_embedding.weight.detach(), mean.expand(3, -1))


def test_adapt_refuses_other_channels():
    model = from_official(random_state(official_layout(SMALL, 7)), **SMALL)
    with pytest.raises(ValueError, match="3 or 1 channels, asked for 4"):
        adapt(model, num_classes=3, channels=4)


def test_adapt_keeps_the_prediction_of_a_network_without_classes_that_folds_patches():
    model = ADM(16, 3, 16, 1, (1, 2), (4,), norm_groups=8, patch_size=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    grey, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 977])
    with torch.inference_mode():
        before = model(grey.expand(-1, 3, -1, -1), t)
        adapt(model, num_classes=3, channels=1)
        after = model(grey, t, torch.tensor([0, 2]))
    assert before.std() > 0.01
    torch.testing.assert_close(after, before.unflatten(1, (2, 3)).mean(2), rtol=0, atol=1e-5)


def test_imagenet_network_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        mult, attention = (1, 1, 2, 2, 4, 4), (32, 16, 8)
        model = ADM(256, 3, 256, 2, mult, attention, num_classes=1000, num_head_channels=64)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(554e6, abs=0.5e6)
