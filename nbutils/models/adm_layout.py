"""The layout of openai/guided-diffusion checkpoints, and how it maps to the layers of diffusers' UNet2DModel."""

from collections.abc import Mapping, Sequence

from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

RESBLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "qkv", "to_k": "qkv", "to_v": "qkv", "to_out.0": "proj_out"}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def load_official(unet: UNet2DModel, state_dict: Mapping[str, Tensor], new_attention_order: bool) -> None:
    """Copy the weights of an official state dict, of any float type, into a network of the same architecture.

    new_attention_order: the file keeps all queries, then all keys, then all values; else head after head.

    Raises ValueError when keys are missing, left over or of another shape, with all of them in one message.
    """
    names = _official_names(unet)
    check_layout(state_dict, _official_shapes(unet, names), "an ADM with these arguments")
    unet.load_state_dict(_converted(state_dict, unet, names, new_attention_order))


def _official_names(unet: UNet2DModel) -> dict[str, str]:
    """Return, for every layer of ours that has weights, the name of the official layer that they come from."""
    names = {ours: theirs for ours, theirs in ENDS.items() if ours != "class_embedding"}
    if unet.class_embedding is not None:
        names["class_embedding"] = "label_emb"
    modules = dict(unet.named_modules())
    for ours, theirs in official_blocks(unet).items():
        if isinstance(modules[ours], (ResnetBlock2D, Attention)):
            parts = RESBLOCK if isinstance(modules[ours], ResnetBlock2D) else ATTENTION
            names |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items() if f"{ours}.{a}" in modules}
        else:  # a plain convolution that changes the resolution
            names[f"{ours}.conv"] = f"{theirs}.{'op' if ours.startswith('down') else 'conv'}"
    return names


def official_blocks(unet: UNet2DModel | UNet2DConditionModel) -> dict[str, str]:
    """Return our blocks with their place in the official lists, which count through all levels."""
    blocks = {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1"}
    blocks["mid_block.resnets.1"] = "middle_block.2"
    for side, theirs, index in (("down_blocks", "input_blocks", 1), ("up_blocks", "output_blocks", 0)):
        for level, stage in enumerate(getattr(unet, side)):
            attends = hasattr(stage, "attentions")
            for layer in range(len(stage.resnets)):
                blocks[f"{side}.{level}.resnets.{layer}"] = f"{theirs}.{index}.0"
                if attends:
                    blocks[f"{side}.{level}.attentions.{layer}"] = f"{theirs}.{index}.1"
                index += 1
            if side == "down_blocks" and stage.downsamplers is not None:
                blocks[f"{side}.{level}.downsamplers.0"] = f"{theirs}.{index}.0"
                index += 1
            if side == "up_blocks" and stage.upsamplers is not None:
                # going up, the change of resolution shares its place in the list with the last block of the level
                blocks[f"{side}.{level}.upsamplers.0"] = f"{theirs}.{index - 1}.{1 + attends}"
    return blocks


def _official_shapes(unet: UNet2DModel, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shape that every entry of the official state dict must have."""
    shapes = {}
    for key, value in unet.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        shape = tuple(value.shape)
        if ".attentions." in layer and value.ndim == 2:
            shape = (*shape, 1)  # a linear layer here is a convolution of width 1 there
        if layer.endswith((".to_q", ".to_k", ".to_v")):
            shape = (3 * shape[0], *shape[1:])
        shapes[f"{names[layer]}.{kind}"] = shape
    return shapes


def check_layout(state_dict: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], of: str) -> None:
    """Raise one ValueError with everything that is missing, left over or of another shape; of: whose weights it is."""
    problems = {
        "missing": [key for key in shapes if key not in state_dict],
        "not expected": [key for key in state_dict if key not in shapes],
        "of another shape": [
            f"{key} {tuple(state_dict[key].shape)} instead of {shape}"
            for key, shape in shapes.items()
            if key in state_dict and tuple(state_dict[key].shape) != shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {problem}: {_shortened(keys)}" for problem, keys in problems.items() if keys)
        raise ValueError(f"The state dict is not that of {of}. {found}.")


def _shortened(keys: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _converted(
    state_dict: Mapping[str, Tensor], unet: UNet2DModel, names: Mapping[str, str], new_order: bool
) -> dict[str, Tensor]:
    """Return the official weights under our names and in our shapes, float32."""
    converted = {}
    for key, ours in unet.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        value = state_dict[f"{names[layer]}.{kind}"].float()
        if layer.endswith((".to_q", ".to_k", ".to_v")):
            heads = unet.get_submodule(layer.rsplit(".", 1)[0]).heads
            value = _split_qkv(value, heads, new_order)["qkv".index(layer[-1])]
        converted[key] = value.reshape(ours.shape)
    return converted


def _split_qkv(value: Tensor, heads: int, new_order: bool) -> Tensor:
    """Part the rows (3 C, ...) of an official qkv layer into (3, C, ...), each head after head.

    The older official order goes through the heads, and within each through q, k, v; the new one the other way round.
    """
    if new_order:
        return value.unflatten(0, (3, -1))
    return value.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(1, 2)
