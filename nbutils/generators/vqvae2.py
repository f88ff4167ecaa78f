"""VQ-VAE-2 (Razavi et al. 2019) as a generator of the suite."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nbutils.generators.base import Generator
from nbutils.generators.gan import full_precision
from nbutils.generators.vqvae2_training import (
    LEVELS,
    CodeBatches,
    Hierarchy,
    VQVAE2Config,
    VQVAE2Method,
    stage_at,
    stages,
)
from nbutils.images import ImageSet, to_float
from nbutils.models.autoregressive import Prior, PriorConfig
from nbutils.models.vqvae2 import BOTTOM_STRIDE, TOP_STRIDE, VQVAE2, AutoencoderConfig
from nbutils.seeds import derive_seed
from nbutils.training import Method, device

ENCODE_BATCH = 128
SMALLEST = 2 * TOP_STRIDE

_SMALL = {"prior_learning_rate": 1e-3, "learning_rate": 1e-3, "flip": True, "filter_size": 3, "attention_heads": 4}


class VQVAE2Generator(Generator):
    """VQ-VAE-2: two levels of codes, and priors that are told the class by a bias in every layer.

    So Razavi et al. have it, and so are our scales but paper: Xing et al. 2023 (Section III) trained one model for each
    class, autoencoder and priors alike (per_class=True). They write of 32² and 64² codes at 512 px as well; here, as in
    the layers that they name, a grid grows with the image.

    Xing et al. state no more than grids and learning rate (the notes to their code: 3e-4, which is also the default of
    rosinality/vq-vae-2-pytorch, the public implementation that they may have used). Its defaults agree with our paper
    scale in channels 128, 2 blocks, codes of 64 dimensions, 512 of them, decay 0.99, commitment 0.25, batch 128, filter
    5, dropout 0.1, attention in the top prior alone. They differ in residual_channels 32, and in smaller priors: width
    and residual channels 256, 4 times 4 blocks, 3 for the condition, batch 32, 420 epochs, without classes. Our larger
    numbers are those of Razavi et al.'s appendix, whose text was not at hand to be compared again.
    """

    name = "vqvae2"
    scales: ClassVar = {
        "smoke": VQVAE2Config(
            image_size=16,
            num_steps=9,
            stage_steps=(3, 3, 3),
            batch_size=4,
            top_batch_size=4,
            bottom_batch_size=4,
            channels=8,
            residual_channels=4,
            num_blocks=1,
            code_dim=4,
            num_codes=8,
            prior_width=8,
            top_residual_channels=8,
            bottom_residual_channels=8,
            prior_layers=2,
            attention_every=2,
            output_layers=1,
            condition_layers=1,
            **_SMALL,
        ),
        "demo": VQVAE2Config(
            image_size=32,
            num_steps=4000,
            stage_steps=(2000, 1000, 1000),
            batch_size=32,
            top_batch_size=64,
            bottom_batch_size=32,
            channels=40,
            residual_channels=24,
            code_dim=16,
            num_codes=128,
            prior_width=48,
            top_residual_channels=80,
            bottom_residual_channels=80,
            prior_layers=4,
            attention_every=2,
            output_layers=2,
            condition_layers=2,
            warmup_steps=50,
            cooldown=0.5,
            **_SMALL,
        ),
        "gpu": VQVAE2Config(
            image_size=64,
            num_steps=60_000,
            stage_steps=(20_000, 20_000, 20_000),
            batch_size=64,
            top_batch_size=128,
            bottom_batch_size=64,
            prior_width=128,
            top_residual_channels=256,
            bottom_residual_channels=256,
            prior_layers=10,
            output_layers=5,
            condition_layers=5,
            warmup_steps=500,
            cooldown=0.5,
            **_SMALL,
        ),
        # Xing et al. 2023 state the two grids, one model for each class and, in the notes to their code, the learning
        # rate; sizes, batches and steps are those of Razavi et al. for ImageNet at 256 px.
        "paper": VQVAE2Config(image_size=256, num_steps=4_561_444, batch_size=128, per_class=True, sample_batch_size=8),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> VQVAE2Method:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        Raises ValueError unless image_size is a multiple of 8 and at least 16.
        """
        if image_size % TOP_STRIDE or image_size < SMALLEST:
            raise ValueError(
                f"{self.name} needs images of a multiple of {TOP_STRIDE} px, at least {SMALLEST}, found {image_size} "
                "px; resize them to such a size."
            )
        config = self.config
        autoencoder = AutoencoderConfig(
            channels,
            config.channels,
            config.residual_channels,
            config.num_blocks,
            config.code_dim,
            config.num_codes,
            config.codebook_decay,
            config.revived_after,
        )
        common = {
            "num_codes": config.num_codes,
            "num_classes": num_classes,
            "width": config.prior_width,
            "num_layers": config.prior_layers,
            "filter_size": config.filter_size,
            "attention_heads": config.attention_heads,
            "dropout": config.dropout,
        }
        top = PriorConfig(
            **common,
            grid=image_size // TOP_STRIDE,
            residual_channels=config.top_residual_channels,
            attention_every=config.attention_every,
            output_layers=config.output_layers,
        )
        bottom = PriorConfig(
            **common,
            grid=image_size // BOTTOM_STRIDE,
            residual_channels=config.bottom_residual_channels,
            attention_every=None,
            output_layers=0,
            condition_layers=config.condition_layers,
        )
        return VQVAE2Method(Hierarchy(VQVAE2(autoencoder), Prior(top), Prior(bottom)), config)

    def draw(self, network: Hierarchy, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone.

        In full precision: a probability that depends on who else is drawn would turn one code into another.
        """
        count = network.top.config.grid**2 + network.bottom.config.grid**2
        uniform = np.stack([np.random.default_rng(seed).random(count) for seed in seeds])
        with full_precision():
            return network(labels, torch.from_numpy(uniform).float().to(labels.device))

    def cost(self) -> dict[str, float | bool]:
        """Return what it took, see Generator.cost; stages have batches of different sizes."""
        seen = sum(stage.num_steps * stage.batch_size for stage in stages(self.config))
        return {**super().cost(), "images_seen": seen * len(self.networks)}

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, ...]]:
        """Return batches of images for the first stage, of their codes for the others.

        Each image is encoded once, when the first of the codes are asked for: by the autoencoder as it is then.
        """
        pictures = super()._batches(method, images, part)
        encoded = cache(lambda: self._codes(method.networks.autoencoder, images.images))

        @cache
        def codes(stage) -> CodeBatches:
            seed = derive_seed(self.seed, self.name, "batches", part, stage.name)
            return CodeBatches(encoded(), images.labels, stage.batch_size, seed)

        def batch(step: int) -> tuple[Tensor, ...]:
            stage = stage_at(method.stages, step)
            return pictures(step) if stage.name == "autoencoder" else codes(stage)(step - stage.first)

        return batch

    @torch.no_grad()
    def _codes(self, autoencoder: VQVAE2, images: np.ndarray) -> dict[str, Tensor]:
        """Return codes (S, N, ...) int64 by level, on the CPU, of uint8 images as they are and, to flip, mirrored."""
        sides = [images, np.ascontiguousarray(images[..., ::-1])][: 2 if self.config.flip else 1]
        chunks = np.array_split(np.concatenate(sides), -(-len(sides) * len(images) // ENCODE_BATCH))
        with full_precision():
            encoded = [autoencoder.encode(to_float(chunk).to(device())) for chunk in chunks]
        joined = (torch.cat([codes.cpu() for codes in level]) for level in zip(*encoded, strict=True))
        return {name: codes.unflatten(0, (len(sides), -1)) for name, codes in zip(LEVELS, joined, strict=True)}
