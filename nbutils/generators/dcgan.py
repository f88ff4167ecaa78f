"""DCGAN (Radford et al. 2015) as a generator of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import AdversarialMethod, adam_of_each, channels_last, check_gan_size
from nbutils.models.dcgan import DCGANDiscriminator, DCGANGenerator
from nbutils.seeds import seeded_normal


@dataclass(frozen=True)
class DCGANConfig(GeneratorConfig):
    """Settings of a DCGAN.

    z_dim: length of the latent vector (and of the class embedding beside it).
    width: feature maps at half the image size, doubled at each halving of the resolution up to max_width.
    learning_rate, beta1: of Adam, for both networks; Radford 2015 uses 0.0002 and 0.5.
    """

    z_dim: int = 100
    width: int = 32
    max_width: int = 1024
    learning_rate: float = 2e-4
    beta1: float = 0.5


class DCGANMethod(AdversarialMethod):
    """The training step of Radford et al. 2015: binary cross-entropy, batch norm statistics of real and fake apart."""

    def generate(self, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) of labels (B,) with the random state as it is, with a graph."""
        return self.generator(torch.randn(len(labels), self.generator.z_dim, device=labels.device), labels)


class DCGAN(Generator):
    """Deep convolutional GAN; class-conditional by label embedding in G and projection in D."""

    name = "dcgan"
    scales: ClassVar = {
        "smoke": DCGANConfig(image_size=16, num_steps=6, batch_size=8, z_dim=16, width=8, learning_rate=0.01),
        "demo": DCGANConfig(image_size=32, num_steps=2500, batch_size=32, z_dim=64, width=32),
        "gpu": DCGANConfig(image_size=64, num_steps=20_000, batch_size=64, width=64),
        # GenMix, Implementation Details: iterations, batch size, learning rate. It does not state the image size.
        "paper": DCGANConfig(image_size=256, num_steps=70_000, batch_size=8, width=64, learning_rate=1e-3),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> DCGANMethod:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        Raises ValueError unless image_size is a power of two from 16 to 1024.
        """
        check_gan_size(self.name, image_size)
        config = self.config
        sizes = (num_classes, channels, image_size, config.width, config.max_width)
        generator, discriminator = DCGANGenerator(config.z_dim, *sizes), DCGANDiscriminator(*sizes)
        networks = {"generator": channels_last(generator), "discriminator": channels_last(discriminator)}
        return DCGANMethod(generator, discriminator, adam_of_each(networks, config.learning_rate, config.beta1))

    def draw(self, network: DCGANGenerator, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        return network(seeded_normal(seeds, (network.z_dim,)).to(labels.device), labels)
