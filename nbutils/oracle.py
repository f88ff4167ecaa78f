"""The oracle reader: a classifier trained on tens of thousands of phantoms, to say what a synthetic image shows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils import phantoms
from nbutils.artefacts import cached
from nbutils.augmentation import Plain
from nbutils.classification import (
    Classifier,
    build_network,
    load_classifier,
    save_classifier,
    train_classifier,
)
from nbutils.images import ImageSet
from nbutils.protocols import ClassifierConfig
from nbutils.scales import choose
from nbutils.training import device

IMAGE_SIZE = 32
TRAIN_IMAGES, VAL_IMAGES = 30_000, 1_500
"""Phantoms of all classes together, in equal numbers."""

CONFIG = ClassifierConfig(
    network="test_byobnet", num_epochs=6, batch_size=64, learning_rate=1e-3, patience=6, input_size=IMAGE_SIZE
)


def modality_of(dataset: str) -> str | None:
    """Return the phantom modality of a data set's name, None = not a phantom: no oracle can read it."""
    scheme, _, name = dataset.partition(":")
    return name if scheme == "phantom" else None


def key(modality: str) -> dict:
    """Return what determines the oracle reader of a modality, as JSON values."""
    return {
        "modality": modality,
        "version": phantoms.modality(modality).version,
        "image_size": IMAGE_SIZE,
        "images": TRAIN_IMAGES,
        "config": CONFIG.key(),
    }


def reader(modality: str) -> Classifier:
    """Return the oracle reader of a modality: shipped, cached, or trained now (minutes).

    It is trained on phantoms with equal class counts that no data set contains, at 32 px; larger images are reduced
    to that size. Raises ValueError for an unknown modality.
    """
    kind = phantoms.modality(modality)

    def build(folder: Path) -> None:
        checkpoint = folder / "training.pt"
        train, val = (_equal_counts(kind, total, seed) for seed, total in enumerate((TRAIN_IMAGES, VAL_IMAGES)))
        training = {"seed": 0, "epoch_images": len(train), "description": f"oracle reader of {modality}"}
        save_classifier(train_classifier(Plain(train), val, CONFIG, checkpoint=checkpoint, **training), folder)
        checkpoint.unlink(missing_ok=True)

    folder = cached("oracle", key(modality), build).path
    network = build_network(CONFIG, len(kind.class_names), kind.channels)
    return load_classifier(folder, network.to(device()), CONFIG)


def _equal_counts(kind: phantoms.Modality, total: int, seed: int) -> ImageSet:
    """Render phantoms that belong to no study, the same number of each class."""
    counts = [total // len(kind.class_names)] * len(kind.class_names)
    return phantoms.render(kind.name, "oracle", seed=seed, image_size=IMAGE_SIZE, counts=counts)


def probability(images: np.ndarray, modality: str, class_name: str) -> np.ndarray:
    """Return how probable the oracle reader of a modality finds a class in images (..., C, H, W) uint8, (...) float.

    Raises ValueError for an unknown modality or class.
    """
    names = phantoms.modality(modality).class_names
    choose("class", class_name, dict.fromkeys(names))
    found = reader(modality).probabilities(images.reshape(-1, *images.shape[-3:]))
    return found[:, names.index(class_name)].reshape(images.shape[:-3])


def agreement(sources: Mapping[str, ImageSet], dataset: str) -> pd.DataFrame | None:
    """Return the share (0..1) of each source's images in which the oracle sees the class they are labelled with.

    One row per source, one column per class (NaN for a class without images). None = `dataset` is not a phantom, so
    that no oracle can know.
    """
    modality = modality_of(dataset)
    if modality is None:
        return None
    oracle, rows = reader(modality), {}
    for source, images in sources.items():
        right = pd.Series(oracle.predict(images) == images.labels)
        rows[source] = right.groupby(np.array(images.class_names)[images.labels], sort=False).mean()
    class_names = phantoms.modality(modality).class_names
    return pd.DataFrame(rows).T.reindex(columns=class_names).rename_axis("source").reset_index()
