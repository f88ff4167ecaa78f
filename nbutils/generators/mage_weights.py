"""Weights of MAGE: our own folders of settings and safetensors, and the published files."""

from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file

from nbutils import weights
from nbutils.files import read_json, write_json
from nbutils.models.mage import MAGE, MageConfig, from_official
from nbutils.models.vqgan import VQGANConfig
from nbutils.training import placed

CONFIG, TENSORS, PUBLISHED = "config.json", "weights.safetensors", "model"


def save_mage(network: MAGE, folder: Path) -> None:
    """Write a network's settings (JSON) and weights (float16 safetensors) into a folder."""
    weights.save_half(network.state_dict(), folder / TENSORS)
    write_json(folder / CONFIG, asdict(network.config))


def load_mage(path: Path) -> MAGE:
    """Return a network, frozen, in float32 on the device; path: a folder of save_mage, or a published file.

    Raises ValueError for a file of another layout, and what weights.read_safely raises.
    """
    if path.is_dir():
        settings = read_json(path / CONFIG)
        tokenizer = settings.pop("vqgan")
        tokenizer["multipliers"] = tuple(tokenizer["multipliers"])
        network = MAGE(MageConfig(vqgan=VQGANConfig(**tokenizer), **settings))
        network.load_state_dict({name: value.float() for name, value in load_file(path / TENSORS).items()})
    else:
        found = weights.read_safely(path)
        network = from_official(found.get(PUBLISHED, found) if isinstance(found, dict) else {})
    return placed(network.eval().requires_grad_(False))
