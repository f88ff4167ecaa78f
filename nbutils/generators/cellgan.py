"""Cell-GAN (Shen et al. 2023) as a generator of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import (
    AdversarialMethod,
    adam_of_each,
    channels_last,
    check_gan_size,
    full_precision,
    hinge_loss,
    mean_loss,
    minimize,
    r1_penalty,
)
from nbutils.models.cellgan import PART_SIZE, CellGANDiscriminator, CellGANGenerator, Pair
from nbutils.models.diffaugment import diff_augment
from nbutils.seeds import seeded_normal
from nbutils.training import autocast


@dataclass(frozen=True)
class CellGANConfig(GeneratorConfig):
    """Settings of Cell-GAN; field values not set by a scale are those of the authors' code.

    z_dim: length of the latent vector. generator_width, discriminator_width: feature maps at 256 px, more at smaller
        sizes (see models.cellgan).
    embedding_dim, mapping_layers: of the class mapping network.
    learning_rate, beta1: of Adam, for both networks. Weights are drawn so small (models.cellgan.init_xavier) that a
        step at the code's rate is a third of them or more. As spectral norm leaves nothing but their direction, the
        discriminator learns little before they have grown: a short training needs a lower rate.
    ema_decay: of the moving average of the generator, per step.
    r1_weight: of the penalty on the squared gradient of all 64 logits, at the real images before augmentation.
    augmentation: DiffAugment's policy, keys of models.diffaugment.POLICIES.
    """

    z_dim: int = 128
    generator_width: int = 32
    discriminator_width: int = 32
    embedding_dim: int = 128
    mapping_layers: int = 4
    learning_rate: float = 2.5e-4
    beta1: float = 0.0
    ema_decay: float = 0.999
    r1_weight: float = 0.01
    augmentation: tuple[str, ...] = ("color", "translation")


class CellGANMethod(AdversarialMethod):
    """The training step of Shen et al. 2023: hinge loss, DiffAugment, R1 at every step, reconstruction in L1."""

    generator_loss = staticmethod(mean_loss)
    discriminator_loss = staticmethod(hinge_loss)

    def __init__(self, generator: CellGANGenerator, discriminator: CellGANDiscriminator, config: CellGANConfig):
        networks = {"generator": generator, "discriminator": discriminator}
        optimizers = adam_of_each(networks, config.learning_rate, config.beta1)
        super().__init__(generator, discriminator, optimizers, config.ema_decay)
        self.config = config

    def generate(self, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) of labels (B,) with the random state as it is, with a graph."""
        z = torch.randn(len(labels), self.generator.z_dim, device=labels.device)
        return self.generator(z, labels).float()

    def judge(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logits (B, 64) float32 on the augmented images."""
        return super().judge(diff_augment(images, self.config.augmentation), labels)

    def update_discriminator(self, images: Tensor, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator down its three losses, and return its scalars."""
        augmented = diff_augment(images, self.config.augmentation)
        with autocast():
            features = self.discriminator.features(augmented)
            real = self.discriminator.logits(features[1], labels).float()
            fake = self.judge(fakes, labels)
            error = self.reconstruction_error(augmented, features)
        images = images.detach().requires_grad_()
        with full_precision():
            penalty = r1_penalty(self.discriminator(images, labels), images)
        loss = self.discriminator_loss(real, fake)
        minimize(self.optimizers["discriminator"], loss + error + self.config.r1_weight * penalty)
        scalars = {"loss_discriminator": loss, "reconstruction": error, "r1": penalty}
        return {**{name: value.detach() for name, value in scalars.items()}, **self.observe(real.detach())}

    def reconstruction_error(self, images: Tensor, features: Pair) -> Tensor:
        """Return the sum of the mean absolute errors of a part, at a random place, and of the whole image, a scalar."""
        corner = torch.randint(PART_SIZE // 2 + 1, (2,)).tolist()
        rebuilt, targets = self.discriminator.rebuild(features, *corner), self.discriminator.targets(images, *corner)
        return sum(F.l1_loss(one.float(), two) for one, two in zip(rebuilt, targets, strict=True))


class CellGAN(Generator):
    """Cell-GAN; class-conditional by normalisation in all blocks of G, and by projection in D.

    The code also turns training images upside down, draws other latents for the generator's update than for the
    discriminator's, and averages weights from step 1000 on; here all GANs mirror, draw and average alike.
    """

    name = "cell-gan"
    scales: ClassVar = {
        "smoke": CellGANConfig(
            image_size=16,
            num_steps=5,
            batch_size=4,
            z_dim=16,
            generator_width=1,
            discriminator_width=1,
            embedding_dim=16,
        ),
        "demo": CellGANConfig(
            image_size=32,
            num_steps=2500,
            batch_size=16,
            flip=True,
            z_dim=64,
            generator_width=8,
            discriminator_width=8,
            embedding_dim=64,
            learning_rate=5e-5,  # with 2.5e-4 nothing was learned in 2,500 steps
        ),
        "gpu": CellGANConfig(
            image_size=128,
            num_steps=10_000,
            batch_size=16,
            flip=True,
            generator_width=16,
            discriminator_width=16,
            learning_rate=5e-5,
        ),
        # Li et al. 2024 state nothing of their Cell-GAN; these are the defaults of its code, for 256 px.
        "paper": CellGANConfig(image_size=256, num_steps=100_000, batch_size=64, flip=True),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> CellGANMethod:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        Raises ValueError unless image_size is a power of two from 16 to 1024.
        """
        check_gan_size(self.name, image_size)
        config, sizes = self.config, (num_classes, channels, image_size)
        generator = CellGANGenerator(
            config.z_dim, *sizes, config.generator_width, config.embedding_dim, config.mapping_layers
        )
        discriminator = CellGANDiscriminator(*sizes, config.discriminator_width)
        return CellGANMethod(channels_last(generator), channels_last(discriminator), config)

    def draw(self, network: CellGANGenerator, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        return network(seeded_normal(seeds, (network.z_dim,)).to(labels.device), labels)
