"""The backbone: a small timm network that can read the corpus' attributes, in place of an ImageNet classifier."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from nbutils import corpus, weights
from nbutils.corpus import ATTRIBUTES
from nbutils.files import read_json
from nbutils.images import to_float
from nbutils.training import autocast, device, placed

WEIGHTS = "weights.safetensors"
BACKBONES = {
    "test_byobnet": "prior-backbone",
    "test_vit": "prior-backbone-vit",
    "swin_tiny_patch4_window7_224": "prior-backbone-swin",
    "resnet18": "prior-backbone-gpu",
}
"""The weights of each timm network that was trained on the corpus, by names known to nbutils.weights."""
BACKBONE = BACKBONES["test_byobnet"]
NUM_VALUES = [len(values) for values in ATTRIBUTES.values()]


def build_reader(network: str, options: Iterable[tuple[str, object]] = ()) -> nn.Module:
    """Return a timm network with one output for each value of each attribute of the corpus, with random weights.

    options: further arguments of timm.create_model.
    """
    return timm.create_model(network, num_classes=sum(NUM_VALUES), **dict(options))


def load_backbone(folder: Path) -> nn.Module:
    """Return the trained reader of attributes in a folder, frozen, on the device."""
    recipe = read_json(folder / weights.PRIOR_CARD)["recipe"]
    network = build_reader(recipe["network"], recipe.get("options", ()))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return placed(network.eval().requires_grad_(False), memory_format=torch.channels_last)


def backbone_of(network: str) -> str:
    """Return the name of the weights of a timm network that was trained on the corpus.

    Raises ValueError, with the networks that were, for another one.
    """
    if network not in BACKBONES:
        raise ValueError(
            f"There is no prior of the network {network!r}, only of {', '.join(BACKBONES)}; let it start from "
            "'scratch' or 'imagenet'."
        )
    return BACKBONES[network]


def start_from_backbone(network: nn.Module, name: str, channels: int) -> weights.LoadReport:
    """Load a backbone into a new timm network of any number of classes, and report what was not loaded.

    name: a value of BACKBONES. channels: of the network's images; for grey ones the first filters are summed over the
    colours, as timm does with ImageNet weights. Raises what weights.locate raises, and ValueError if it is another
    network.
    """
    first, last = network.pretrained_cfg["first_conv"] + ".weight", network.pretrained_cfg["classifier"] + "."
    state = {n: value.float() for n, value in weights.load_state_dict(name).items() if not n.startswith(last)}
    if first in state:
        state[first] = adapt_input_conv(channels, state[first])
    return weights.load_matching(network, state, may_miss=(last,))


def read_attributes(network: nn.Module, images: np.ndarray, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Return the most probable value of each attribute, name -> (N,) int64, of uint8 images (N, 3, H, W)."""
    chunks = np.array_split(images, max(1, -(-len(images) // batch_size)))
    with torch.inference_mode(), autocast():
        logits = torch.cat([network(to_float(chunk).to(device())).float().cpu() for chunk in chunks])
    parts = logits.split(NUM_VALUES, dim=1)
    return {name: part.argmax(1).numpy() for name, part in zip(ATTRIBUTES, parts, strict=True)}


def reading_accuracy(found: Mapping[str, np.ndarray], attributes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return how often each attribute was read right, one row per attribute, of images that have it.

    found, attributes: name -> (N,) int64, what was read and what is true (-1 = none). Columns: attribute, values,
    accuracy, chance (the share of the most frequent value, all that a blind reader reaches), n.
    """
    rows = []
    for name, values in attributes.items():
        has = values >= 0
        rows.append(
            {
                "attribute": name,
                "values": len(ATTRIBUTES[name]),
                "accuracy": (found[name] == values)[has].mean() if has.any() else np.nan,
                "chance": np.bincount(values[has]).max() / has.sum() if has.any() else np.nan,
                "n": int(has.sum()),
            }
        )
    return pd.DataFrame(rows)


def caption_accuracy(network: nn.Module, samples: np.ndarray, wished: corpus.Corpus, seed: int = 0) -> pd.DataFrame:
    """Return how often the reader finds in samples what their captions asked for, one row per attribute.

    samples: (N, 3, S, S) uint8, drawn for the captions of `wished`. Columns: attribute, values, samples, then what to
    hold it against: real (the images that the captions describe), shuffled (each sample with another one's caption),
    and n. The reader is the backbone that the autoencoder's perceptual distance was computed on, so it may flatter a
    little what comes through that autoencoder.
    """
    found = read_attributes(network, samples)
    order = np.random.default_rng(seed).permutation(len(samples))
    shuffled = {name: values[order] for name, values in found.items()}
    tables = {"samples": found, "real": read_attributes(network, wished.images), "shuffled": shuffled}
    accuracies = {name: reading_accuracy(read, wished.attributes) for name, read in tables.items()}
    table = accuracies["samples"][["attribute", "values", "n"]]
    columns = {name: read["accuracy"] for name, read in accuracies.items()}
    return table.assign(**columns)[["attribute", "values", *columns, "n"]]
