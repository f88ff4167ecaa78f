"""What all priors share: a recipe, a training that resumes, a folder of weights with a card."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from nbutils import corpus, weights
from nbutils.artefacts import MANIFEST, cached, damage
from nbutils.files import atomic, read_json, write_json
from nbutils.training import TrainingLog, device

CURVE = "prior.csv"
IMAGES, TEXTS = "images.npy", "captions.json"


@dataclass(frozen=True)
class Recipe:
    """What determines a prior's weights; a subclass adds the fields of its network and its losses.

    num_images: images 0, 1, … of the corpus that it is trained on. num_steps: optimisation steps of `batch_size`
    images each. learning_rate: its highest value; it rises over `warmup_steps` and falls to zero over the last share
    `cooldown` of the steps.
    """

    num_images: int
    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 200
    cooldown: float = 0.3


class Prior(ABC):
    """A network trained on the corpus, with one recipe. A subclass sets `version` and defines `fit`.

    needs: the priors that this one is trained with, by role.
    """

    version: ClassVar[int] = 1

    def __init__(self, name: str, recipe: Recipe, needs: Mapping[str, "Prior"] | None = None):
        self.name, self.recipe, self.needs = name, recipe, dict(needs or {})

    def key(self) -> dict:
        """Return everything that determines the weights, as JSON values."""
        needs = {role: prior.key() for role, prior in self.needs.items()}
        key = {"prior": self.name, "version": self.version, "corpus": corpus.VERSION, "recipe": asdict(self.recipe)}
        return json.loads(json.dumps({**key, "needs": needs}))

    def folder(self) -> Path:
        """Return the folder of the weights: shipped, cached, or trained now (hours; what was interrupted goes on)."""
        if self.is_shipped():
            return weights.PRIORS / self.name
        return cached(f"prior-{self.name}", self.key(), self.build).path

    def is_shipped(self) -> bool:
        """Return whether data/weights/priors holds sound weights of this very recipe."""
        folder = weights.PRIORS / self.name
        return (
            (folder / MANIFEST).is_file() and read_json(folder / MANIFEST)["key"] == self.key() and not damage(folder)
        )

    def ship(self) -> Path:
        """Put the weights, trained if need be, into data/weights/priors, in place of what is there."""
        if not self.is_shipped():
            trained, target = self.folder(), weights.PRIORS / self.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(trained, target)
        return weights.PRIORS / self.name

    def curve(self) -> pd.DataFrame:
        """Return the scalars that were logged while the weights of `folder` were trained, one row per logged step.

        Of a prior that goes on from a `start`, those of its own part.
        """
        return pd.read_csv(self.folder() / CURVE)

    @abstractmethod
    def fit(self, folder: Path) -> TrainingLog:
        """Train, keep resumable checkpoints and at last the weights in `folder`, and return the log."""

    def build(self, folder: Path) -> None:
        """Train into `folder`: weights, curve, and a card with recipe, cost and machine."""
        log = self.fit(folder)
        for checkpoint in folder.glob("*.pt"):
            checkpoint.unlink()
        with atomic(folder / CURVE) as temporary:
            log.curve.to_csv(temporary, index=False)
        write_json(folder / weights.PRIOR_CARD, {**self.key(), "cost": self._cost(log, folder)})

    def _cost(self, log: TrainingLog, folder: Path) -> dict:
        """Return what a training and that of its start took: steps, hours, and on what; and the bytes on disk."""
        before = {"steps": 0, "hours": 0.0}
        if "start" in self.needs:
            before = read_json(self.needs["start"].folder() / weights.PRIOR_CARD)["cost"]
        return {
            "steps": before["steps"] + log.num_steps,
            "hours": round(before["hours"] + log.seconds / 3600, 2),
            "device": torch.cuda.get_device_name() if device().type == "cuda" else "CPU",
            "threads": torch.get_num_threads(),
            "bytes": sum(path.stat().st_size for path in folder.rglob("*.safetensors")),
        }


def corpus_images(count: int, image_size: int) -> np.ndarray:
    """Return the first `count` images of the corpus, (count, 3, S, S) uint8, rendered once and then read from disk."""

    def build(folder: Path) -> None:
        with atomic(folder / IMAGES) as temporary:
            np.save(temporary, corpus.render(count, image_size).images, allow_pickle=False)

    return np.load(cached("corpus", corpus.key(count, image_size), build).path / IMAGES, allow_pickle=False)


def corpus_texts(count: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return captions and attributes of the first `count` images of the corpus; see corpus.Corpus."""

    def build(folder: Path) -> None:
        rendered = corpus.render(count, 8)
        attributes = {name: values.tolist() for name, values in rendered.attributes.items()}
        write_json(folder / TEXTS, {"captions": rendered.captions, "attributes": attributes})

    saved = read_json(cached("corpus-texts", corpus.key(count, 8), build).path / TEXTS)
    return saved["captions"], {name: np.array(saved["attributes"][name]) for name in corpus.ATTRIBUTES}
