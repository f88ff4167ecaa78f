"""The protocol of all generators: fit(images), sample(labels, seed) -> ImageSet, save, load."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nbutils import weights
from nbutils.files import atomic, read_json, write_json
from nbutils.images import ImageSet, synthetic_set, to_uint8
from nbutils.progress import progress
from nbutils.scales import at_scale
from nbutils.seeds import derive_seed, image_seeds
from nbutils.training import ImageBatches, Method, TrainingLog, autocast, device, train

WEIGHTS, CARD, CURVE = "weights.safetensors", "card.json", "curve.csv"


@dataclass(frozen=True)
class GeneratorConfig:
    """What sizes every generator; a subclass adds its own fields, one frozen instance per scale.

    image_size: pixels the paper (or our scale) trains at; a generator takes its real size from the images it is
        fitted to, this one sizes `build` when there are none.
    num_steps: optimisation steps; in per-class mode so many for each class.
    batch_size: images a step.
    flip: mirror training images at random.
    per_class: one unconditional network per class instead of one class-conditional network.
    sample_batch_size: images drawn at a time.
    """

    image_size: int
    num_steps: int
    batch_size: int
    flip: bool = False
    per_class: bool = False
    sample_batch_size: int = 64


class Generator(ABC):
    """A generative method with one scale's settings and one seed.

    A subclass sets `name`, `version` (raised whenever the same settings would give other weights, so that caches do
    not mix them up) and `scales`, and defines `build` and `draw`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    scales: ClassVar[dict[str, GeneratorConfig]]

    def __init__(self, config: GeneratorConfig, seed: int = 0):
        self.config, self.seed = config, seed
        self.networks: list[nn.Module] = []
        self.card: dict = {}
        self.log: TrainingLog | None = None

    @classmethod
    def at_scale(cls, scale: str, seed: int = 0, **overrides) -> "Generator":
        """Make the generator of one scale; `overrides` replace fields of its config, None = from the scale."""
        config = at_scale(cls.scales, scale)
        return cls(replace(config, **{name: value for name, value in overrides.items() if value is not None}), seed)

    @abstractmethod
    def build(self, num_classes: int, channels: int, image_size: int) -> Method:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1."""

    @abstractmethod
    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""

    def sampling_network(self, method: Method) -> nn.Module:
        """Return the network that is kept after training: the moving average of the generator where there is one."""
        average = method.averages.get("generator")
        return average.module if average is not None else method.modules["generator"]

    def fit(self, images: ImageSet, checkpoint_folder: Path | None = None) -> TrainingLog:
        """Train on `images` (real training images only) and return the log; resumes from the folder's checkpoints.

        In per-class mode the classes are trained one after the other, and the log's curve has a column `class`.
        Raises ValueError when a class has no image.
        """
        empty = [name for name, count in zip(images.class_names, images.class_counts(), strict=True) if count == 0]
        if empty:
            raise ValueError(f"{self.name}: no training image of {', '.join(empty)} in {images.name}.")
        self.card = self._new_card(images)
        self.networks, logs = [], []
        for part, subset in enumerate(self._parts(images)):
            method = self._new_method(part)
            path = None if checkpoint_folder is None else Path(checkpoint_folder) / f"training-{part}.pt"
            logs.append(self._train(method, subset, part, path))
            self.networks.append(_rounded_to_half(self.sampling_network(method)))
        self.log = _join_logs(logs, images.class_names) if self.config.per_class else logs[0]
        return self.log

    def sample(self, labels, seed: int) -> ImageSet:
        """Draw one image per label, (N,) int; image i depends on `seed`, i and its label, not on the other images.

        Raises RuntimeError before fit or load, ValueError for labels out of range.
        """
        if not self.networks:
            raise RuntimeError(f"{self.name} has no weights yet: call fit(images) or load(folder) first.")
        labels = np.asarray(labels, dtype=np.int64)
        names, shape = self.card["class_names"], (self.card["channels"], self.card["image_size"])
        if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
            raise ValueError(f"{self.name}: labels must be 0..{len(names) - 1}, found {labels.min()}..{labels.max()}.")
        seeds = np.array(image_seeds(seed, len(labels), "sample"), dtype=np.int64)
        images = np.zeros((len(labels), shape[0], shape[1], shape[1]), np.uint8)
        with progress(description=f"{self.name}: sampling", total=len(labels), unit="image") as bar:
            for network, rows in self._routes(labels):
                for chunk in np.array_split(rows, -(-len(rows) // self.config.sample_batch_size)) if len(rows) else []:
                    images[chunk] = self._draw_uint8(network, labels[chunk], seeds[chunk])
                    bar.update(len(chunk))
        return synthetic_set(images, labels, names, name=self.name)

    def save(self, folder: Path) -> None:
        """Write weights (float16 safetensors), card (JSON) and loss curve (CSV) into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_weights(folder / WEIGHTS)
        if self.log is not None:
            with atomic(folder / CURVE) as temporary:
                self.log.curve.to_csv(temporary, index=False)
        write_json(folder / CARD, self.card)

    @classmethod
    def load(cls, folder: Path) -> "Generator":
        """Read what `save` wrote. Raises RuntimeError when weights and card do not fit together."""
        folder = Path(folder)
        card = read_json(folder / CARD)
        config_class = type(next(iter(cls.scales.values())))
        config = {key: tuple(v) if isinstance(v, list) else v for key, v in card["config"].items()}
        generator = cls(config_class(**config), card["seed"])
        generator.card = card
        tensors = load_file(folder / WEIGHTS)
        for part in range(len(card["class_names"]) if generator.config.per_class else 1):
            network = generator.sampling_network(generator._new_method(part))
            prefix = generator._prefix(part)
            state = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
            network.load_state_dict(state)
            generator.networks.append(network.eval())
        if (folder / CURVE).is_file():
            curve = pd.read_csv(folder / CURVE)
            generator.log = TrainingLog(curve, card["config"]["num_steps"])
        return generator

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, as JSON values."""
        return {
            "generator": self.name,
            "version": self.version,
            "config": asdict(self.config),
            "seed": self.seed,
            "images": images.fingerprint(),
        }

    def weights_hash(self) -> str:
        """Return the SHA-256 of the trained weights."""
        return hash_of_weights(self.networks)

    def pretrained(self) -> list[str]:
        """Return the names, known to nbutils.weights, of the weights that training starts from; here none."""
        return []

    def cost(self) -> dict[str, float | bool]:
        """Return what the trained generator took and holds: steps, images seen, mirrored or not, parameters kept.

        `images_seen_before`: those of the corpus on which the weights that it started from were trained, 0 = none.
        """
        steps = self.config.num_steps * len(self.networks)
        return {
            "steps": steps,
            "images_seen": steps * self.config.batch_size,
            "images_seen_before": sum(weights.images_seen(name) for name in self.pretrained()),
            "mirrored": self.config.flip,
            "parameters": sum(p.numel() for network in self.networks for p in network.parameters()),
        }

    def estimate_seconds(self, images: ImageSet, num_steps: int = 3) -> float:
        """Return how long fit(images) will take here, in seconds, from a few steps on networks thrown away.

        The steps are spread over the training, because those of a growing network become slower.
        """
        self.card = self._new_card(images)
        method = self._new_method(0)
        batches, seconds = self._batches(method, next(self._parts(images)), 0), 0.0
        with torch.random.fork_rng(devices=[]):
            for index in range(num_steps):
                step = int((index + 0.5) / num_steps * self.config.num_steps)
                method.step(step, *batches(step))  # the first of a kind is slower, and not counted
                started = monotonic()
                scalars = method.step(step, *batches(step))
                torch.stack([torch.as_tensor(value) for value in scalars.values()]).tolist()  # waits for a GPU
                seconds += monotonic() - started
        parts = images.num_classes if self.config.per_class else 1
        return seconds / num_steps * self.config.num_steps * parts

    def _parts(self, images: ImageSet):
        """Yield the training set of each network: all images, or those of one class at a time."""
        if not self.config.per_class:
            yield images
            return
        for label, name in enumerate(images.class_names):
            subset = images.of_class(label)
            yield replace(subset, labels=np.zeros(len(subset)), class_names=(name,))

    def _new_card(self, images: ImageSet) -> dict:
        return {
            "generator": self.name,
            "version": self.version,
            "config": asdict(self.config),
            "seed": self.seed,
            "class_names": list(images.class_names),
            "channels": images.channels,
            "image_size": images.image_size,
            "trained_on": {"name": images.name, "images": len(images), "fingerprint": images.fingerprint()},
        }

    def _new_method(self, part: int) -> Method:
        """Build the networks of one part with the seed's initial weights."""
        num_classes = 1 if self.config.per_class else len(self.card["class_names"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, self.name, "weights", part))
            return self.build(num_classes, self.card["channels"], self.card["image_size"])

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, ...]]:
        """Return what a training step takes, by its number; here images -1..1 and labels."""
        seed = derive_seed(self.seed, self.name, "batches", part)
        return ImageBatches(images, self.config.batch_size, seed, flip=self.config.flip)

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        batches = self._batches(method, images, part)
        description = f"{self.name}: training" + (f" {images.class_names[0]}" if self.config.per_class else "")
        seed = derive_seed(self.seed, self.name, "steps", part)
        return train(method, batches, self.config.num_steps, seed=seed, description=description, checkpoint=checkpoint)

    def _routes(self, labels: np.ndarray):
        """Yield each network with the positions of the labels it draws."""
        if not self.config.per_class:
            yield self.networks[0], np.arange(len(labels))
            return
        for label, network in enumerate(self.networks):
            yield network, np.flatnonzero(labels == label)

    def _prefix(self, part: int) -> str:
        """Return how the names of a part's weights begin in the file of weights."""
        return f"{part}."

    def _write_weights(self, path: Path) -> None:
        """Write the weights of all parts as float16 safetensors."""
        parts = enumerate(network.state_dict() for network in self.networks)
        tensors = {self._prefix(part) + name: value for part, state in parts for name, value in state.items()}
        weights.save_half(tensors, path)

    def _draw_uint8(self, network: nn.Module, labels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        labels = np.zeros_like(labels) if self.config.per_class else labels
        with torch.inference_mode(), autocast():
            drawn = self.draw(network.eval(), torch.as_tensor(labels, device=device()), seeds.tolist())
        return to_uint8(drawn.float())


def hash_of_weights(networks: Sequence[nn.Module]) -> str:
    """Return the SHA-256 of the weights of some networks."""
    digest = hashlib.sha256()
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.cpu().numpy()))
    return digest.hexdigest()


def _rounded_to_half(network: nn.Module) -> nn.Module:
    """Round weights to float16 in place, so that a fitted network draws what its saved copy draws."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return network.eval()


def _join_logs(logs: Sequence[TrainingLog], class_names: Sequence[str]) -> TrainingLog:
    """Join the logs of per-class trainings into one."""
    curves = [log.curve.assign(**{"class": name}) for log, name in zip(logs, class_names, strict=True)]
    steps, resumed = sum(log.num_steps for log in logs), sum(log.resumed_from for log in logs)
    return TrainingLog(pd.concat(curves, ignore_index=True), steps, resumed, sum(log.seconds for log in logs))
