"""Class-conditional latent diffusion's networks and the layout of the published checkpoints."""

import pytest
import torch
from diffusers import VQModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from nbutils.models.ldm import ClassConditionalUNet, UNetConfig, build_vq_f8, noise_schedule
from nbutils.models.ldm_layout import load_first_stage, load_unet

SMALL = UNetConfig(widths=(8, 16, 24), layers_per_block=2, head_channels=4, norm_groups=4, class_width=12)
WIDTHS = (8, 8, 16, 16)
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def small_vq(codes: int = 16) -> VQModel:
    """Return VQ-f8 in small, attention at its lowest resolution included."""
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        latent_channels=4,
        num_vq_embeddings=codes,
        norm_num_groups=4,
    )


class Official(dict):
    """A state dict in CompVis' names, made from the layout of ldm/modules, with random numbers."""

    def add(self, name: str, *shape: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = torch.randn(shape)
        if bias:
            self[f"{name}.bias"] = torch.randn(shape[0])

    def norm(self, name: str, width: int) -> None:
        self.add(name, width)

    def vq_block(self, name: str, inputs: int, outputs: int) -> None:
        self.norm(f"{name}.norm1", inputs)
        self.add(f"{name}.conv1", outputs, inputs, 3, 3)
        self.norm(f"{name}.norm2", outputs)
        self.add(f"{name}.conv2", outputs, outputs, 3, 3)
        if inputs != outputs:
            self.add(f"{name}.nin_shortcut", outputs, inputs, 1, 1)

    def vq_attention(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.add(f"{name}.{part}", width, width, 1, 1)

    def middle(self, name: str, width: int) -> None:
        self.vq_block(f"{name}.block_1", width, width)
        self.vq_attention(f"{name}.attn_1", width)
        self.vq_block(f"{name}.block_2", width, width)

    def unet_block(self, name: str, inputs: int, outputs: int, time: int) -> None:
        self.norm(f"{name}.in_layers.0", inputs)
        self.add(f"{name}.in_layers.2", outputs, inputs, 3, 3)
        self.add(f"{name}.emb_layers.1", outputs, time)
        self.norm(f"{name}.out_layers.0", outputs)
        self.add(f"{name}.out_layers.3", outputs, outputs, 3, 3)
        if inputs != outputs:
            self.add(f"{name}.skip_connection", outputs, inputs, 1, 1)

    def transformer(self, name: str, width: int, context: int) -> None:
        self.norm(f"{name}.norm", width)
        self.add(f"{name}.proj_in", width, width, 1, 1)
        inner = f"{name}.transformer_blocks.0"
        for attention, seen in (("attn1", width), ("attn2", context)):
            self.add(f"{inner}.{attention}.to_q", width, width, bias=False)
            self.add(f"{inner}.{attention}.to_k", width, seen, bias=False)
            self.add(f"{inner}.{attention}.to_v", width, seen, bias=False)
            self.add(f"{inner}.{attention}.to_out.0", width, width)
        self.add(f"{inner}.ff.net.0.proj", 8 * width, width)
        self.add(f"{inner}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            self.norm(f"{inner}.norm{number}", width)
        self.add(f"{name}.proj_out", width, width, 1, 1)


def official_vq(widths=WIDTHS, codes: int = 16, blocks: int = 2) -> Official:
    state, last = Official(), len(widths) - 1
    state.add("encoder.conv_in", widths[0], 3, 3, 3)
    inputs = widths[0]
    for level, width in enumerate(widths):
        for block in range(blocks):
            state.vq_block(f"encoder.down.{level}.block.{block}", inputs, width)
            inputs = width
            if level == last:
                state.vq_attention(f"encoder.down.{level}.attn.{block}", width)
        if level < last:
            state.add(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    state.middle("encoder.mid", inputs)
    state.norm("encoder.norm_out", inputs)
    state.add("encoder.conv_out", 4, inputs, 3, 3)
    state.add("decoder.conv_in", inputs, 4, 3, 3)
    state.middle("decoder.mid", inputs)
    for level, width in reversed(list(enumerate(widths))):
        for block in range(blocks + 1):
            state.vq_block(f"decoder.up.{level}.block.{block}", inputs, width)
            inputs = width
            if level == last:
                state.vq_attention(f"decoder.up.{level}.attn.{block}", width)
        if level > 0:
            state.add(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    state.norm("decoder.norm_out", inputs)
    state.add("decoder.conv_out", 3, inputs, 3, 3)
    state.add("quantize.embedding", codes, 4, bias=False)
    state.add("quant_conv", 4, 4, 1, 1)
    state.add("post_quant_conv", 4, 4, 1, 1)
    return state


def official_unet(config: UNetConfig = SMALL) -> Official:
    state, widths, time = Official(), config.widths, 4 * config.widths[0]
    state.add("time_embed.0", time, widths[0])
    state.add("time_embed.2", time, time)
    state.add("input_blocks.0.0", widths[0], 4, 3, 3)
    skips, inputs, place = [widths[0]], widths[0], 1
    for level, width in enumerate(widths):
        for _ in range(config.layers_per_block):
            state.unet_block(f"input_blocks.{place}.0", inputs, width, time)
            state.transformer(f"input_blocks.{place}.1", width, config.class_width)
            inputs, place = width, place + 1
            skips.append(width)
        if level < len(widths) - 1:
            state.add(f"input_blocks.{place}.0.op", width, width, 3, 3)
            skips.append(width)
            place += 1
    state.unet_block("middle_block.0", inputs, inputs, time)
    state.transformer("middle_block.1", inputs, config.class_width)
    state.unet_block("middle_block.2", inputs, inputs, time)
    place = 0
    for level, width in reversed(list(enumerate(widths))):
        for block in range(config.layers_per_block + 1):
            state.unet_block(f"output_blocks.{place}.0", inputs + skips.pop(), width, time)
            state.transformer(f"output_blocks.{place}.1", width, config.class_width)
            inputs = width
            if level > 0 and block == config.layers_per_block:
                state.add(f"output_blocks.{place}.2.conv", width, width, 3, 3)
            place += 1
    state.norm("out.0", inputs)
    state.add("out.2", 4, inputs, 3, 3)
    return state


def checkpoint(num_classes: int = 3, averaged: bool = False) -> dict[str, torch.Tensor]:
    """Return a whole checkpoint of cin-ldm-vq-f8 in small."""
    unet = official_unet()
    whole = {f"model.diffusion_model.{name}": value for name, value in unet.items()}
    whole |= {f"first_stage_model.{name}": value for name, value in official_vq().items()}
    whole |= {"betas": torch.zeros(1000), "logvar": torch.zeros(1000), "scale_factor": torch.tensor(1.0)}
    whole["cond_stage_model.embedding.weight"] = torch.randn(num_classes, SMALL.class_width)
    if averaged:
        whole |= {f"model_ema.diffusion_model{name.replace('.', '')}": value + 1 for name, value in unet.items()}
        whole |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
    return whole


def network(num_classes: int = 3) -> ClassConditionalUNet:
    return ClassConditionalUNet(SMALL, num_classes, side=8)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_first_stage_is_what_diffusers_makes_of_it(prefix):
    official, ours = official_vq(), small_vq()
    others = {"": {"loss.discriminator.main.0.weight": torch.zeros(2)}, "first_stage_model.": {"betas": torch.zeros(9)}}
    load_first_stage(ours, {**{prefix + key: value for key, value in official.items()}, **others[prefix]})
    expected = convert_ldm_vae_checkpoint(dict(official), ours.config)
    # their converter knows no attention outside the middle, and no codebook
    found = ours.state_dict()
    beyond = {key for key in found if key not in expected}
    assert all("blocks.3.attentions" in k or "blocks.0.attentions" in k or k.startswith("quantize") for k in beyond)
    for key in set(found) - beyond:
        assert torch.equal(found[key], expected[key]), key
    for block, theirs in (("encoder.down_blocks.3", "encoder.down.3"), ("decoder.up_blocks.0", "decoder.up.3")):
        for part, name in ATTENTION.items():
            weight = found[f"{block}.attentions.1.{part}.weight"]
            assert torch.equal(weight, official[f"{theirs}.attn.1.{name}.weight"].reshape(weight.shape)), (block, part)
    assert torch.equal(found["quantize.embedding.weight"], official["quantize.embedding.weight"])


@pytest.mark.parametrize("averaged", [False, True])
def test_a_unet_is_what_diffusers_makes_of_it(averaged):
    official, ours = checkpoint(averaged=averaged), network()
    assert load_unet(ours, official)
    expected = convert_ldm_unet_checkpoint(official, ours.unet.config, extract_ema=averaged)
    found = ours.unet.state_dict()
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key
    assert torch.equal(ours.classes.weight, official["cond_stage_model.embedding.weight"])


def test_classes_of_another_number_stay_as_they_are():
    ours = network(num_classes=2)
    before = ours.classes.weight.clone()
    assert not load_unet(ours, checkpoint(num_classes=3))
    assert torch.equal(ours.classes.weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("model.diffusion_model.out.2.bias"), r"1 missing: out\.2\.bias"),
        (lambda state: state.update(surprise=torch.zeros(1)), "1 not expected: surprise"),
        (
            lambda state: state.update({"model.diffusion_model.out.2.bias": torch.zeros(5)}),
            r"1 of another shape: out\.2\.bias \(5,\) instead of \(4,\)",
        ),
    ],
)
def test_another_unet_is_refused(change, message):
    state = checkpoint()
    change(state)
    with pytest.raises(ValueError, match=f"U-Net of class-conditional latent diffusion. {message}"):
        load_unet(network(), state)


def test_another_first_stage_is_refused():
    with pytest.raises(ValueError, match=r"not that of a first stage VQ-f8\. 1 of another shape: quantize"):
        load_first_stage(small_vq(codes=8), official_vq())


def test_published_sizes():
    with torch.device("meta"):
        first_stage, unet = build_vq_f8(), ClassConditionalUNet(UNetConfig(), 2, 32)
        vq, layout = official_vq((128, 256, 256, 512), 16384), official_unet(UNetConfig())
    counts = [sum(p.numel() for p in part.parameters()) for part in (first_stage, unet.unet)]
    assert [round(count / 1e6, 1) for count in counts] == [67.7, 395.0]
    assert counts == [sum(value.numel() for value in state.values()) for state in (vq, layout)]
    assert unet.classes.weight.shape == (2, 512)
    attention = unet.unet.down_blocks[2].attentions[0].transformer_blocks[0].attn1
    assert (attention.heads, attention.inner_dim // attention.heads) == (32, 32)


def test_the_noise_is_that_of_the_configuration():
    scheduler = noise_schedule("epsilon")
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod, torch.cumprod(1 - betas, 0))


def test_the_class_adds_the_same_everywhere_whatever_the_queries():
    unet = network().unet
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    states = torch.randn(1, 1, SMALL.class_width)
    one, other = (attention(torch.randn(1, 9, 8), states) for _ in range(2))
    torch.testing.assert_close(one, other)
    assert one.std(dim=1).max() < 1e-6
