"""Every network at paper scale, built and trained for one step: the proof that the scale exists."""

import time

import pandas as pd
import psutil
import torch
from torch.nn.functional import one_hot

from nbutils import generators
from nbutils.classification import Training, build_network
from nbutils.protocols import CLASSIFIERS, config_at
from nbutils.training import Method

NUM_CLASSES, CHANNELS = 3, 1
BATCH_SIZE = 2
BYTES_PER_PARAMETER = 34
"""Weights, gradients, Adam's two moments, the moving average, activations; the ADM network was measured at 33.5."""


def build_all() -> pd.DataFrame:
    """Build all generators and classifiers of the paper scale, print one line for each, and return the table.

    With random weights and a batch of two images where memory allows one step, else on the meta device (shapes only).
    """
    rows = [_checked(name, *_generator(name)) for name in generators.names()]
    rows += [_checked(*_classifier(paper)) for paper in CLASSIFIERS]
    return pd.DataFrame(rows)


def _generator(name: str):
    generator = generators.create(name, scale="paper", batch_size=BATCH_SIZE)
    size = generator.config.image_size
    return lambda: generator.build(NUM_CLASSES, CHANNELS, size), size


def _classifier(paper: str):
    config = config_at("paper", "scratch", paper)

    def build() -> Method:
        network = build_network(config, NUM_CLASSES, CHANNELS)
        return Training(network, config, val=None, steps_per_epoch=config.num_epochs)

    return config.network, build, config.input_size


def _checked(name: str, build, image_size: int) -> dict:
    """Count the parameters on the meta device, then build and step for real if the memory is there."""
    started = time.monotonic()
    with torch.device("meta"):
        parameters = sum(p.numel() for module in build().modules.values() for p in module.parameters())
    needed = parameters * BYTES_PER_PARAMETER
    row = {"network": name, "image_size": image_size, "million_parameters": round(parameters / 1e6, 1)}
    if needed < 0.9 * available_memory():
        scalars = _one_step(build(), image_size)
        row["step"] = ", ".join(f"{key} {float(value):.3g}" for key, value in scalars.items())
    else:
        row["step"] = f"meta device only: a step needs {needed / 2**30:.0f} GiB"
    row["seconds"] = round(time.monotonic() - started, 1)
    print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    return row


def _one_step(method: Method, image_size: int) -> dict:
    """Take step 0 on random images, (2, 1, size, size) float32 -1..1."""
    images = torch.rand(BATCH_SIZE, CHANNELS, image_size, image_size) * 2 - 1
    labels = torch.arange(BATCH_SIZE)
    if isinstance(method, Training):
        labels = one_hot(labels, NUM_CLASSES).float()
    return method.step(0, images, labels)


def available_memory() -> int:
    """Return the bytes of memory that a new tensor can take."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available
