"""Diffusion: ADM (Dhariwal & Nichol 2021) with learned variance, the hybrid loss, and three samplers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from nbutils import weights
from nbutils.files import atomic, read_json
from nbutils.generators.base import CARD, Generator
from nbutils.generators.diffusion_training import DiffusionConfig, DiffusionMethod, draw
from nbutils.images import ImageSet
from nbutils.models.adm import ADM, adapt, from_official
from nbutils.training import Method, TrainingLog

RANDOM = "random"
SNAPSHOTS = "snapshots.npz"
PRIOR, PRIOR_CHANNELS = "prior-", 3  # priors were trained by this module, on the corpus in colour


class Diffusion(Generator):
    """ADM, class-conditional by an embedding that is added to the embedding of time.

    Paper scale is the ImageNet network at 256 px, fine-tuned as GenMix did. GenMix states neither its steps, batch,
    learning rate nor sampler: steps and batch are those of its GANs, the rest that of ADM. The other scales are ours:
    smaller, on a cosine schedule, predicting v; demo folds 2 x 2 pixels, and has plain resampling layers.
    """

    name = "diffusion"
    version = 2
    scales: ClassVar = {
        "smoke": DiffusionConfig(
            image_size=16,
            num_steps=5,
            batch_size=8,
            num_channels=16,
            channel_mult=(1, 2),
            norm_groups=8,
            patch_size=2,
            schedule="cosine",
            prediction="v",
            learning_rate=1e-3,
            ema_decay=0.5,
            num_sampling_steps=4,
        ),
        "demo": DiffusionConfig(
            image_size=32,
            num_steps=2400,
            batch_size=32,
            flip=True,
            num_channels=16,
            channel_mult=(2, 3),
            resblock_updown=False,
            norm_groups=16,
            patch_size=2,
            schedule="cosine",
            prediction="v",
            learning_rate=2e-3,
            warmup_steps=100,
            cooldown=0.5,
            ema_decay=0.995,
            initial_weights="prior-diffusion",
            num_sampling_steps=12,
        ),
        "gpu": DiffusionConfig(
            image_size=64,
            num_steps=20_000,
            batch_size=64,
            flip=True,
            num_channels=64,
            num_res_blocks=2,
            channel_mult=(1, 2, 3, 4),
            attention_resolutions=(16, 8),
            num_head_channels=64,
            dropout=0.1,
            schedule="cosine",
            prediction="v",
            learning_rate=2e-4,
            warmup_steps=500,
            cooldown=0.5,
            ema_decay=0.999,
            initial_weights="prior-diffusion-gpu",
        ),
        "paper": DiffusionConfig(
            image_size=256,
            num_steps=70_000,
            batch_size=8,
            flip=True,
            num_channels=256,
            num_res_blocks=2,
            channel_mult=(1, 1, 2, 2, 4, 4),
            attention_resolutions=(32, 16, 8),
            num_head_channels=64,
            initial_weights="adm-imagenet-256",
            sampler="ddpm",
            num_sampling_steps=250,
            sample_batch_size=16,
        ),
    }

    def __init__(self, config: DiffusionConfig, seed: int = 0):
        super().__init__(config, seed)
        self.snapshots: dict[int, np.ndarray] = {}
        """Steps done -> an image of each class, (num_classes, C, H, W) uint8, drawn from the same noise."""

    def build(self, num_classes: int, channels: int, image_size: int) -> DiffusionMethod:
        """Return a network with random weights, its optimiser and training step; one class is unconditional.

        Raises ValueError when the network cannot halve the image as often as it should.
        """
        network = self._network(num_classes if num_classes > 1 else None, channels, image_size)
        return DiffusionMethod(network, self.config)

    def _network(self, num_classes: int | None, channels: int, image_size: int) -> ADM:
        """Return a network of the config with random weights; num_classes None = unconditional."""
        config = self.config
        return ADM(
            image_size,
            channels,
            config.num_channels,
            config.num_res_blocks,
            config.channel_mult,
            config.attention_resolutions,
            num_classes=num_classes,
            num_head_channels=config.num_head_channels,
            resblock_updown=config.resblock_updown,
            dropout=config.dropout,
            use_checkpoint=config.use_checkpoint,
            norm_groups=config.norm_groups,
            patch_size=config.patch_size,
        )

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        shape = (self.card["channels"], self.card["image_size"], self.card["image_size"])
        return draw(network, labels, seeds, shape, self.config)

    @classmethod
    def at_scale(cls, scale: str, seed: int = 0, **overrides) -> "Diffusion":
        """Make the generator of one scale; `initial_weights` RANDOM = from scratch where the scale starts elsewhere."""
        from_scratch = overrides.get("initial_weights") == RANDOM
        generator = super().at_scale(scale, seed, **overrides)
        if from_scratch:
            generator.config = replace(generator.config, initial_weights=None)
        return generator

    def pretrained(self) -> list[str]:
        return [] if self.config.initial_weights is None else [self.config.initial_weights]

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the file of initial weights included."""
        key = super().key(images)
        del key["config"]["num_snapshots"]  # a training does not change when it is looked at
        if self.config.initial_weights is not None:
            key["initial_weights"] = weights.checksum(self.config.initial_weights)
        return key

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        """Train from the pre-trained weights where the config names some."""
        if self.config.initial_weights is not None:
            self._start_from_pretrained(method)
        log = super()._train(method, images, part, checkpoint)
        if self.config.num_snapshots:
            method.take_snapshot(log.num_steps, images.images.shape[1:])
        drawn = {step: images.numpy() for step, images in method.snapshots.items()}
        earlier = {step: [self.snapshots[step]] if part else [] for step in drawn}  # of the networks of other classes
        self.snapshots = {step: np.concatenate([*earlier[step], images]) for step, images in drawn.items()}
        return log

    def save(self, folder: Path) -> None:
        """Write what every generator writes, and the snapshots."""
        super().save(folder)
        if not self.snapshots:
            return
        with atomic(Path(folder) / SNAPSHOTS) as temporary:
            np.savez_compressed(temporary, **{str(step): images for step, images in self.snapshots.items()})

    @classmethod
    def load(cls, folder: Path) -> "Diffusion":
        """Read what `save` wrote."""
        generator = super().load(folder)
        if (Path(folder) / SNAPSHOTS).is_file():
            with np.load(Path(folder) / SNAPSHOTS, allow_pickle=False) as saved:
                generator.snapshots = {int(step): saved[step] for step in saved.files}
        return generator

    def _start_from_pretrained(self, method: Method) -> None:
        """Copy pre-trained weights into the network and its moving average, and note them on the card."""
        name, config = self.config.initial_weights, self.config
        if self.card["image_size"] != config.image_size:
            raise ValueError(
                f"{self.name}: the initial weights {name!r} are for images of {config.image_size} px, "
                f"found {self.card['image_size']} px: resize them, or set initial_weights to {RANDOM!r}."
            )
        network = method.modules["generator"]
        self._check_diffusion(name)
        if name.startswith(PRIOR):
            pretrained = self._network(None, PRIOR_CHANNELS, config.image_size)
            state = weights.load_state_dict(name)
            weights.load_matching(pretrained, {key.removeprefix("0."): value for key, value in state.items()})
        else:
            pretrained = from_official(weights.load_state_dict(name), **_official_arguments(config))
        report = adapt(pretrained, network.num_classes, self.card["channels"])
        for started in (network, method.averages["generator"].module):
            started.load_state_dict(pretrained.state_dict())
        self.card["initial_weights"] = {"name": name, "sha256": weights.checksum(name), "changed": report}

    def _check_diffusion(self, name: str) -> None:
        """Raise ValueError if pre-trained weights predict something else than the config asks for, or other noise."""
        theirs = {"schedule": "linear", "num_timesteps": 1000, "prediction": "epsilon"}
        if name.startswith(PRIOR):
            card = read_json(weights.locate(name).parent / CARD)["config"]
            theirs = {field: card[field] for field in theirs}
        ours = {field: getattr(self.config, field) for field in theirs}
        if ours != theirs:
            raise ValueError(f"{self.name}: the initial weights {name!r} were trained with {theirs}, asked for {ours}.")


def _official_arguments(config: DiffusionConfig) -> dict:
    """Return a config in the words of the official checkpoints."""
    return {
        "image_size": config.image_size,
        "num_channels": config.num_channels,
        "num_res_blocks": config.num_res_blocks,
        "channel_mult": ",".join(map(str, config.channel_mult)),
        "attention_resolutions": ",".join(map(str, config.attention_resolutions)),
        "num_head_channels": config.num_head_channels,
        "resblock_updown": config.resblock_updown,
        "use_scale_shift_norm": True,
        "learn_sigma": True,
        "class_cond": True,
    }
