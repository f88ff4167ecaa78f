"""StyleGAN (Karras et al. 2018), progressively grown, as a generator of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import (
    AdversarialMethod,
    channels_last,
    check_gan_size,
    discriminator_loss,
    draw_styled,
    full_precision,
    lazy_adam,
    minimize,
    r1_penalty,
)
from nbutils.models.stylegan import StyleGANDiscriminator, StyleGANGenerator
from nbutils.training import autocast

FIRST_SIZE = 8
"""Pixels that the growth starts at (2018, section 2)."""


@dataclass(frozen=True)
class StyleGANConfig(GeneratorConfig):
    """Settings of a StyleGAN; field values not set by a scale are those of Karras et al. 2018.

    z_dim, w_dim: length of latent and style. base, maximum: feature maps at a resolution are base / resolution, at
    most `maximum`. learning_rate: of Adam, for both networks. r1_gamma: weight of R1. mixing: probability of style
    mixing. ema_decay: of the moving average of the generator, per step.
    growth: steps spent on a resolution, relative to the one below (1 = all alike). fade: share of a resolution's
    steps in which it fades in; the others stabilise it.
    truncation_psi: 1 = no truncation, for all the variety that was learned; less draws towards the mean of the class.
    """

    z_dim: int = 512
    w_dim: int = 512
    base: int = 16384
    maximum: int = 512
    learning_rate: float = 1e-3
    r1_gamma: float = 10.0
    mixing: float = 0.9
    ema_decay: float = 0.999
    growth: float = 1.5
    fade: float = 0.5
    truncation_psi: float = 1.0


def growth_stage(
    step: int, num_steps: int, image_size: int, growth: float, fade: float, first_size: int = FIRST_SIZE
) -> tuple[int, float]:
    """Return the resolution that is trained at `step`, and the share alpha with which it has faded in, 0..1.

    The resolutions first_size, ..., image_size share the steps in the proportions 1, growth, growth^2, ...; alpha
    rises linearly from 0 to 1 over the first `fade` of a resolution's steps, and is 1 at the first resolution.
    """
    count = int(log2(image_size // first_size)) + 1
    shares = [growth**index for index in range(count)]
    begin = 0.0
    for index, share in enumerate(shares):
        length = num_steps * share / sum(shares)
        if step < begin + length or index == count - 1:
            break
        begin += length
    alpha = min(1.0, max(0.0, (step - begin) / (fade * length))) if index and fade else 1.0
    return first_size * 2**index, alpha


def at_stage(images: Tensor, resolution: int, alpha: float) -> Tensor:
    """Shrink images (B, C, H, W) to a resolution by averaging; while it fades in, blend in the one below, doubled."""
    images = F.avg_pool2d(images, images.shape[-1] // resolution)
    if alpha == 1:
        return images
    return F.interpolate(F.avg_pool2d(images, 2), scale_factor=2).lerp(images, alpha)


class StyleGANMethod(AdversarialMethod):
    """The training step of Karras et al. 2018: growth, style mixing, R1 at every step."""

    def __init__(self, generator: StyleGANGenerator, discriminator: StyleGANDiscriminator, config: StyleGANConfig):
        optimizers = {
            "generator": lazy_adam(generator, config.learning_rate),
            "discriminator": lazy_adam(discriminator, config.learning_rate),
        }
        super().__init__(generator, discriminator, optimizers, config.ema_decay)
        self.config = config
        self.resolution, self.alpha = FIRST_SIZE, 1.0

    def stage(self, step: int) -> tuple[int, float]:
        """Return resolution and alpha of a step."""
        image_size = self.generator.resolutions[-1]
        return growth_stage(step, self.config.num_steps, image_size, self.config.growth, self.config.fade)

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do one step at the resolution of its stage; a new resolution starts with empty moments of Adam."""
        self.resolution, self.alpha = self.stage(step)
        if step and self.stage(step - 1)[0] != self.resolution:
            for optimizer in self.optimizers.values():
                optimizer.state.clear()
        scalars = super().step(step, at_stage(images, self.resolution, self.alpha), labels)
        return {**scalars, "resolution": self.resolution}

    def generate(self, labels: Tensor) -> Tensor:
        """Draw images (B, C, resolution, resolution) of labels (B,) with the random state as it is, with a graph."""
        styles = self.generator.random_styles(labels, self.config.mixing)
        return self.generator.synthesize(styles, None, self.resolution, self.alpha).float()

    def judge(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logits (B,) float32."""
        return self.discriminator(images, labels, self.alpha).float()

    def update_discriminator(self, images: Tensor, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator down its loss and R1, and return its scalars."""
        images = images.detach().requires_grad_()
        with full_precision():
            real = self.judge(images, labels)
            penalty = r1_penalty(real, images)
        with autocast():
            fake = self.judge(fakes, labels)
        loss = discriminator_loss(real, fake)
        minimize(self.optimizers["discriminator"], loss + self.config.r1_gamma / 2 * penalty)
        return {"loss_discriminator": loss.detach(), "r1": penalty.detach(), **self.observe(real.detach())}


class StyleGAN(Generator):
    """StyleGAN; class-conditional in the mapping network, and by projection in the discriminator."""

    name = "stylegan"
    scales: ClassVar = {
        "smoke": StyleGANConfig(
            image_size=16, num_steps=5, batch_size=4, z_dim=16, w_dim=16, base=256, maximum=16, ema_decay=0.9
        ),
        "demo": StyleGANConfig(
            image_size=32,
            num_steps=3000,
            batch_size=16,
            z_dim=64,
            w_dim=64,
            base=512,
            maximum=64,
            learning_rate=2e-3,
            r1_gamma=0.1,
            ema_decay=0.995,
            growth=2.0,
        ),
        "gpu": StyleGANConfig(
            image_size=128, num_steps=8000, batch_size=32, base=8192, maximum=256, learning_rate=2e-3
        ),
        # GenMix, Implementation Details: iterations, batch size, learning rate. It does not state the image size.
        "paper": StyleGANConfig(image_size=256, num_steps=70_000, batch_size=8),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> StyleGANMethod:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        Raises ValueError unless image_size is a power of two from 16 to 1024.
        """
        check_gan_size(self.name, image_size)
        config = self.config
        sizes, widths = (num_classes, channels, image_size), (config.base, config.maximum)
        generator = StyleGANGenerator(*sizes, config.z_dim, config.w_dim, *widths)
        discriminator = StyleGANDiscriminator(*sizes, *widths)
        return StyleGANMethod(channels_last(generator), channels_last(discriminator), config)

    def draw(self, network: StyleGANGenerator, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        return draw_styled(network, labels, seeds, self.config.truncation_psi)
