"""Diffusion: ADM (Dhariwal & Nichol 2021) with learned variance, the hybrid loss, and three samplers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from nbutils import weights
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.diffusion_sampling import new_sampler, sample
from nbutils.images import ImageSet
from nbutils.models.adm import ADM, adapt, from_official
from nbutils.models.diffusion_loss import HybridLoss
from nbutils.training import Method, TrainingLog, autocast, pace

RANDOM = "random"


@dataclass(frozen=True)
class DiffusionConfig(GeneratorConfig):
    """Settings of a diffusion model.

    num_channels ... dropout, norm_groups, patch_size: the network, in the words of `nbutils.models.adm.ADM`;
    use_checkpoint: recompute activations in the backward pass, for memory.
    schedule: "linear" (ADM) or "cosine". num_timesteps: T of the training.
    prediction: "epsilon" (ADM), or "v": the same loss on a mix of noise and image, which bounds the error that a
        network after few steps makes where the image is nearly all noise.
    learning_rate, weight_decay: of AdamW. warmup_steps, cooldown: steps at the start, and share of steps at the end,
        in which the learning rate rises from and falls to zero in proportion; 0 and 0 as in ADM.
    ema_decay: of the moving average of the weights that samples are drawn from.
    initial_weights: pre-trained weights to start from, a name known to `nbutils.weights`, None = random weights
        (asked for by RANDOM where the scale names some).
    sampler: "ddpm" (ADM: ancestral, with the learned variance), "ddim" (eta 0) or "dpm++" (second-order multistep).
    num_sampling_steps: evaluations of the network per image.
    """

    num_channels: int = 16
    num_res_blocks: int = 1
    channel_mult: tuple[float, ...] = (1, 2)
    attention_resolutions: tuple[int, ...] = (8,)
    num_head_channels: int = 16
    resblock_updown: bool = True
    dropout: float = 0.0
    norm_groups: int = 32
    patch_size: int = 1
    use_checkpoint: bool = False
    schedule: str = "linear"
    num_timesteps: int = 1000
    prediction: str = "epsilon"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 0
    cooldown: float = 0.0
    ema_decay: float = 0.9999
    initial_weights: str | None = None
    sampler: str = "dpm++"
    num_sampling_steps: int = 20


class DiffusionMethod(Method):
    """The training step of ADM: AdamW on the hybrid loss at random time steps."""

    def __init__(self, network: ADM, config: DiffusionConfig):
        network = network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        optimizer = AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True)
        super().__init__({"generator": network}, {"generator": optimizer}, {"generator": config.ema_decay})
        self.config = config
        self.loss = HybridLoss(config.schedule, config.num_timesteps, config.prediction)

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do one step on images (B, C, H, W) -1..1, and return the error of the prediction and the bound in bits."""
        network, optimizer = self.modules["generator"], self.optimizers["generator"]
        config = self.config
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * pace(step, config.num_steps, config.warmup_steps, config.cooldown)
        y = None if network.num_classes is None else labels
        t = self._time_steps(len(images)).to(images.device)
        with autocast():
            simple, vlb = self.loss.to(images.device)(network, images, t, y)
        optimizer.zero_grad()
        (simple + vlb).mean().backward()
        optimizer.step()
        return {"loss_simple": simple.mean().detach(), "loss_bound": vlb.mean().detach()}

    def _time_steps(self, count: int) -> Tensor:
        """Draw time steps (count,), each uniform but the batch spread evenly over 0..T-1, for a steadier gradient."""
        spread = (torch.arange(count) / count + torch.rand(())) % 1.0
        return (spread * self.config.num_timesteps).long()


class Diffusion(Generator):
    """ADM, class-conditional by an embedding that is added to the embedding of time.

    Paper scale is the ImageNet network at 256 px, fine-tuned as GenMix did. GenMix states neither its steps, batch,
    learning rate nor sampler: steps and batch are those of its GANs, the rest that of ADM. The other scales are ours:
    smaller, on a cosine schedule, predicting v; demo folds 2 x 2 pixels, and has plain resampling layers.
    """

    name = "diffusion"
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

    def build(self, num_classes: int, channels: int, image_size: int) -> DiffusionMethod:
        """Return a network with random weights, its optimiser and training step; one class is unconditional.

        Raises ValueError when the network cannot halve the image as often as it should.
        """
        config = self.config
        network = ADM(
            image_size,
            channels,
            config.num_channels,
            config.num_res_blocks,
            config.channel_mult,
            config.attention_resolutions,
            num_classes=num_classes if num_classes > 1 else None,
            num_head_channels=config.num_head_channels,
            resblock_updown=config.resblock_updown,
            dropout=config.dropout,
            use_checkpoint=config.use_checkpoint,
            norm_groups=config.norm_groups,
            patch_size=config.patch_size,
        )
        return DiffusionMethod(network, config)

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        y = None if network.num_classes is None else labels
        shape = (self.card["channels"], self.card["image_size"], self.card["image_size"])
        return sample(lambda x, t: network(x, t, y), new_sampler(self.config), seeds, shape)

    @classmethod
    def at_scale(cls, scale: str, seed: int = 0, **overrides) -> "Diffusion":
        """Make the generator of one scale; `initial_weights` RANDOM = from scratch where the scale starts elsewhere."""
        from_scratch = overrides.get("initial_weights") == RANDOM
        generator = super().at_scale(scale, seed, **overrides)
        if from_scratch:
            generator.config = replace(generator.config, initial_weights=None)
        return generator

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the file of initial weights included."""
        key = super().key(images)
        if self.config.initial_weights is not None:
            key["initial_weights"] = weights.checksum(self.config.initial_weights)
        return key

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        """Train from the pre-trained weights where the config names some."""
        if self.config.initial_weights is not None:
            self._start_from_pretrained(method)
        return super()._train(method, images, part, checkpoint)

    def _start_from_pretrained(self, method: Method) -> None:
        """Copy pre-trained weights into the network (its average starts as a copy), and note them on the card."""
        name, config = self.config.initial_weights, self.config
        if self.card["image_size"] != config.image_size:
            raise ValueError(
                f"{self.name}: the initial weights {name!r} are for images of {config.image_size} px, "
                f"found {self.card['image_size']} px: resize them, or set initial_weights to {RANDOM!r}."
            )
        network = method.modules["generator"]
        pretrained = from_official(weights.load_state_dict(name), **_official_arguments(config))
        report = adapt(pretrained, network.num_classes, self.card["channels"])
        network.load_state_dict(pretrained.state_dict())
        self.card["initial_weights"] = {"name": name, "sha256": weights.checksum(name), "changed": report}


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
