"""The layout of the published MAGE files: sizes read from shapes, and the keys that nothing reads."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from nbutils.models.vqgan import VQGANConfig, config_of

if TYPE_CHECKING:
    from nbutils.models.mage import MageConfig

HEAD_WIDTH, DECODER_HEADS, NUM_CLASSES = 64, 16, 1000
"""Of all published sizes, ViT-B and ViT-L: shapes do not tell."""


def sizes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the transformer's sizes as fields of MageConfig. Raises ValueError if the keys that tell are not there."""
    try:
        width = state_dict["token_emb.word_embeddings.weight"].shape[1]
        places = state_dict["token_emb.position_embeddings.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"Not a state dict of MAGE: {error.args[0]} is missing; give the file's `model`.") from None
    return {
        "grid": int((places - 1) ** 0.5),
        "num_classes": NUM_CLASSES,
        "width": width,
        "depth": _count(state_dict, "blocks"),
        "heads": width // HEAD_WIDTH,
        "decoder_depth": _count(state_dict, "decoder_blocks"),
        "decoder_heads": DECODER_HEADS,
    }


def tokenizer(state_dict: Mapping[str, Tensor]) -> VQGANConfig:
    """Return the settings of the tokenizer within. Raises ValueError if there is none."""
    inside = {name.removeprefix("vqgan."): value for name, value in state_dict.items() if name.startswith("vqgan.")}
    if not inside:
        raise ValueError("Not a whole state dict of MAGE: no key starts with 'vqgan.'.")
    return config_of(inside)


def _count(state_dict: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.split(".")[1] for name in state_dict if name.startswith(f"{blocks}.")})


def unread(config: "MageConfig") -> dict[str, tuple[int, ...]]:
    """Return name and shape of what the published files hold and the published network never reads."""
    width, length, patch = config.width, config.length + 1, config.vqgan.stride
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, length, width),
        "mask_token": (1, 1, width),
        "decoder_pos_embed": (1, length, width),
        "token_emb.position_ids": (1, length),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "decoder_pred.weight": (3 * patch**2, width),
        "decoder_pred.bias": (3 * patch**2,),
    }


def check(state_dict: Mapping[str, Tensor], read: Mapping[str, tuple[int, ...]], config: "MageConfig") -> None:
    """Raise ValueError unless a state dict has exactly the keys that are read and unread, in their shapes."""
    expected = {**read, **unread(config)}
    found = {name: tuple(value.shape) for name, value in state_dict.items()}
    problems = {
        "missing": sorted(set(expected) - set(found)),
        "left over": sorted(set(found) - set(expected)),
        "of another shape": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    wrong = "; ".join(f"{len(names)} {what}: {', '.join(names[:8])}" for what, names in problems.items() if names)
    if wrong:
        raise ValueError(f"Not the layout of a published MAGE file: {wrong}.")
