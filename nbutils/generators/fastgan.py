"""FastGAN (Liu et al. 2021) as a generator of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from nbutils import perceptual
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import (
    AdversarialMethod,
    adam_of_each,
    channels_last,
    check_gan_size,
    hinge_loss,
    mean_loss,
    minimize,
    seeded_inputs,
)
from nbutils.images import ImageSet
from nbutils.models.diffaugment import diff_augment
from nbutils.models.fastgan import FastGANDiscriminator, FastGANGenerator
from nbutils.models.fastgan_layers import shrink
from nbutils.seeds import derive_seed
from nbutils.training import Method, TrainingLog, autocast, device

STATISTICS_STEPS = 50
"""Batches from which the statistics of the averaged generator's batch norms are taken."""

Views = tuple[Tensor, Tensor]
"""Images (B, C, H, H) and small images (B, C, h, h), of which the discriminator judges both."""


@dataclass(frozen=True)
class FastGANConfig(GeneratorConfig):
    """Settings of FastGAN; field values not set by a scale are those of the authors' code.

    z_dim: length of the latent vector. generator_width, discriminator_width: feature maps at 128 and at 64 px, more at
        smaller sizes (see models.fastgan).
    learning_rate, beta1: of Adam, for both networks. ema_decay: of the moving average of the generator, per step.
    augmentation: DiffAugment's policy, keys of models.diffaugment.POLICIES.
    perceptual: the network of the reconstruction loss, see perceptual.load_distance; LPIPS in the paper.
    reconstruction_weight: of each of the three mean perceptual distances; the code sums them over its batch of 8.
    """

    z_dim: int = 256
    generator_width: int = 64
    discriminator_width: int = 64
    learning_rate: float = 2e-4
    beta1: float = 0.5
    ema_decay: float = 0.999
    augmentation: tuple[str, ...] = ("color", "translation")
    perceptual: str = "prior-backbone"
    reconstruction_weight: float = 8.0


def random_hinge_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the hinge loss of the discriminator, a scalar, its margin drawn from 0.8..1 for each logit.

    So in the code; the margin of Eq. 3 is 1.
    """
    margins = (0.8 + 0.2 * torch.rand_like(logits) for logits in (real_logits, fake_logits))
    return hinge_loss(real_logits, fake_logits, *margins)


class FastGANMethod(AdversarialMethod):
    """The training step of Liu et al. 2021: hinge loss, DiffAugment, and a discriminator that rebuilds real images.

    distance: the perceptual distance of two batches of images, see perceptual.load_distance.
    """

    generator_loss = staticmethod(mean_loss)
    discriminator_loss = staticmethod(random_hinge_loss)

    def __init__(
        self,
        generator: FastGANGenerator,
        discriminator: FastGANDiscriminator,
        config: FastGANConfig,
        distance: perceptual.Distance,
    ):
        networks = {"generator": generator, "discriminator": discriminator}
        optimizers = adam_of_each(networks, config.learning_rate, config.beta1)
        super().__init__(generator, discriminator, optimizers, config.ema_decay)
        self.config, self.distance = config, distance

    def generate(self, labels: Tensor) -> Views:
        """Draw images and small images of labels (B,) with the random state as it is, with a graph; augmented."""
        return tuple(diff_augment(images.float(), self.config.augmentation) for images in self.generator(labels))

    def judge(self, views: Views, labels: Tensor) -> Tensor:
        """Return the discriminator's logits (B, 50) float32, of all patches."""
        return self.discriminator(*views, labels).float()

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update the discriminator, then the generator, on one batch; all it sees is augmented, once."""
        images = diff_augment(images, self.config.augmentation)
        with autocast():
            fakes = self.generate(labels)
        scalars = self.update_discriminator(images, tuple(fake.detach() for fake in fakes), labels)
        return {**scalars, **self.update_generator(fakes, labels)}

    def update_discriminator(self, images: Tensor, fakes: Views, labels: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator down both of its losses, and return its scalars."""
        quarter = int(torch.randint(4, ()))
        small = shrink(images, self.discriminator.small_size)
        with autocast():
            features = self.discriminator.features(images, small)
            real = self.discriminator.logits(features, labels).float()
            fake = self.judge(fakes, labels)
            error = self.reconstruction_error(images, self.discriminator.rebuild(features, quarter), quarter)
        loss = self.discriminator_loss(real, fake)
        minimize(self.optimizers["discriminator"], loss + self.config.reconstruction_weight * error)
        scalars = {"loss_discriminator": loss.detach(), "reconstruction": error.detach()}
        return {**scalars, **self.observe(real.detach())}

    def reconstruction_error(self, images: Tensor, rebuilt: Sequence[Tensor], quarter: int) -> Tensor:
        """Return the sum of the perceptual distances of part, image and small image (Eq. 2), a scalar."""
        targets = self.discriminator.targets(images, quarter)
        both = (torch.cat(tuple(parts)).expand(-1, 3, -1, -1) for parts in (rebuilt, targets))
        return len(targets) * self.distance(*both)  # one pass through the network for all three


class FastGAN(Generator):
    """FastGAN; class-conditional by label embedding in G and projection in D, or one network per class.

    The published network is unconditional, and Yuan et al. 2024 report a FID for each class of it: so at paper scale
    there is one network per class. The other scales learn all classes in one, as our other GANs do.

    The statistics of the batch norms belong to the weights of the last steps, not to their moving average, which is
    what is kept: they are taken anew from it after training. The code draws with the statistics of each batch, so that
    an image would depend on the others.
    """

    name = "fastgan"
    scales: ClassVar = {
        "smoke": FastGANConfig(
            image_size=16, num_steps=5, batch_size=4, z_dim=16, generator_width=2, discriminator_width=4
        ),
        "demo": FastGANConfig(
            image_size=32,
            num_steps=2500,
            batch_size=16,
            flip=True,
            z_dim=64,
            generator_width=8,
            discriminator_width=16,
        ),
        "gpu": FastGANConfig(
            image_size=128, num_steps=10_000, batch_size=16, flip=True, generator_width=32, discriminator_width=32
        ),
        # Yuan et al. 2024 state nothing of their FastGAN; these are the defaults of its code, at their image size.
        "paper": FastGANConfig(
            image_size=256, num_steps=50_000, batch_size=8, flip=True, per_class=True, perceptual=perceptual.LPIPS_VGG
        ),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> FastGANMethod:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        The perceptual network has random weights. Raises ValueError unless image_size is a power of two from 16 to
        1024.
        """
        check_gan_size(self.name, image_size)
        config, sizes = self.config, (num_classes, channels, image_size)
        generator = channels_last(FastGANGenerator(config.z_dim, *sizes, config.generator_width))
        discriminator = channels_last(FastGANDiscriminator(*sizes, config.discriminator_width))
        distance = perceptual.load_distance(config.perceptual, pretrained=False)
        return FastGANMethod(generator, discriminator, config, distance)

    def draw(self, network: FastGANGenerator, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        return network(labels, *seeded_inputs(network, seeds))[0]

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the files of the perceptual network included."""
        return {**super().key(images), "perceptual": perceptual.checksums(self.config.perceptual)}

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        """Train with the pre-trained perceptual network, then take the average's batch norm statistics."""
        method.distance = perceptual.load_distance(self.config.perceptual)
        log = super()._train(method, images, part, checkpoint)
        batches = self._batches(method, images, part)
        labels = (batches(step)[1] for step in range(STATISTICS_STEPS))
        with torch.random.fork_rng(devices=[device()] if device().type == "cuda" else []), autocast():
            torch.manual_seed(derive_seed(self.seed, self.name, "statistics", part))
            update_bn(labels, self.sampling_network(method))
        return log
