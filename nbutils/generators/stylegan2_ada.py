"""StyleGAN2 with adaptive discriminator augmentation (Karras et al. 2019, 2020) as a generator of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import (
    AdversarialMethod,
    channels_last,
    check_gan_size,
    draw_styled,
    full_precision,
    lazy_adam,
    minimize,
    r1_penalty,
)
from nbutils.models.ada import AdaptiveProbability, augment
from nbutils.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

R1_INTERVAL, PATH_INTERVAL = 16, 4
PATH_WEIGHT, PATH_DECAY = 2.0, 0.01


@dataclass(frozen=True)
class StyleGAN2ADAConfig(GeneratorConfig):
    """Settings of StyleGAN2-ADA; field values not set by a scale are those of Karras et al. 2019 and 2020.

    z_dim, w_dim: length of latent and style. mapping_layers: of both mapping networks.
    base, maximum: feature maps at a resolution are base / resolution, at most `maximum`.
    learning_rate: of Adam, for both networks. r1_gamma: weight of R1. mixing: probability of style mixing.
    ema_kimg: half-life of the moving average of the generator, in thousands of images.
    ada_target: the mean sign of D(real) that p is driven to. ada_kimg: thousands of images in which p can rise by 1.
    truncation_psi: 1 = no truncation, for all the variety that was learned; less draws towards the mean of the class.
    """

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    base: int = 16384
    maximum: int = 512
    learning_rate: float = 0.0025
    r1_gamma: float = 1.0
    mixing: float = 0.9
    ema_kimg: float = 10.0
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    truncation_psi: float = 1.0


class StyleGAN2Method(AdversarialMethod):
    """The training step of StyleGAN2-ADA: augmented discrimination, lazy R1 and path length, feedback on p."""

    def __init__(
        self, generator: StyleGAN2Generator, discriminator: StyleGAN2Discriminator, config: StyleGAN2ADAConfig
    ):
        optimizers = {
            "generator": lazy_adam(generator, config.learning_rate, PATH_INTERVAL),
            "discriminator": lazy_adam(discriminator, config.learning_rate, R1_INTERVAL),
        }
        super().__init__(generator, discriminator, optimizers, 0.5 ** (config.batch_size / (config.ema_kimg * 1000)))
        self.config = config
        self.augmentation = AdaptiveProbability(config.ada_target, config.ada_kimg)
        self.path_mean = 0.0

    def extra_state(self) -> dict:
        """Return p with its running sums, and the running mean of the path lengths."""
        return {"augmentation": self.augmentation.state_dict(), "path_mean": self.path_mean}

    def load_extra_state(self, state: dict) -> None:
        """Take back what extra_state returned."""
        self.augmentation.load_state_dict(state["augmentation"])
        self.path_mean = state["path_mean"]

    def generate(self, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) of labels (B,) with the random state as it is, with a graph."""
        return self.generator.synthesize(self.generator.random_styles(labels, self.config.mixing)).float()

    def judge(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logits (B,) float32 on the augmented images."""
        return super().judge(augment(images, self.augmentation.p), labels)

    def observe(self, real_logits: Tensor) -> dict[str, float]:
        """Let the logits of the real images drive p."""
        self.augmentation.update(real_logits)
        return {**super().observe(real_logits), "ada_p": self.augmentation.p}

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do one step; R1 every 16th and path length regularisation every 4th, weighted up by as much."""
        scalars = super().step(step, images, labels)
        if step % R1_INTERVAL == 0:
            scalars["r1"] = self.regularize_discriminator(images, labels)
        if step % PATH_INTERVAL == 0:
            scalars["path_length"] = self.regularize_generator(labels[: max(1, len(labels) // 2)])
        return scalars

    def regularize_discriminator(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take one step down R1, with respect to the images before augmentation, and return the penalty."""
        images = images.detach().requires_grad_()
        with full_precision():
            penalty = r1_penalty(self.judge(images, labels), images)
        minimize(self.optimizers["discriminator"], penalty * (self.config.r1_gamma / 2 * R1_INTERVAL))
        return penalty.detach()

    def regularize_generator(self, labels: Tensor) -> Tensor:
        """Take one step towards path lengths at their running mean (2019, Eq. 4), and return the mean length."""
        with full_precision():
            styles = self.generator.random_styles(labels, self.config.mixing)
            lengths = path_lengths(self.generator.synthesize(styles), styles)
            self.path_mean += PATH_DECAY * (float(lengths.detach().mean()) - self.path_mean)
            penalty = (lengths - self.path_mean).square().mean()
        minimize(self.optimizers["generator"], penalty * (PATH_WEIGHT * PATH_INTERVAL))
        return lengths.detach().mean()


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """Return how far images move per unit of style, (B,), with a graph: |J^T y| for random y (2019, section 3.2).

    images: (B, C, H, W), a differentiable function of styles (B, num_layers, w_dim). y is N(0, 1) / sqrt(H W); the
    norm is over w, then averaged (root mean square) over layers.
    """
    noise = torch.randn_like(images) / sqrt(images.shape[2] * images.shape[3])
    (gradients,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return gradients.square().sum(dim=2).mean(dim=1).sqrt()


class StyleGAN2ADA(Generator):
    """StyleGAN2-ADA; class-conditional in the mapping network, and by projection in the discriminator."""

    name = "stylegan2-ada"
    scales: ClassVar = {
        "smoke": StyleGAN2ADAConfig(
            image_size=16, num_steps=5, batch_size=4, z_dim=16, w_dim=16, mapping_layers=2, base=256, maximum=16
        ),
        "demo": StyleGAN2ADAConfig(
            image_size=32,
            num_steps=2500,
            batch_size=16,
            z_dim=64,
            w_dim=64,
            mapping_layers=2,
            base=512,
            maximum=64,
            r1_gamma=0.05,
            ema_kimg=2.0,
            ada_kimg=50.0,
        ),
        "gpu": StyleGAN2ADAConfig(
            image_size=128,
            num_steps=7000,
            batch_size=32,
            mapping_layers=2,
            base=8192,
            maximum=256,
            r1_gamma=0.1,
            ema_kimg=5.0,
            ada_kimg=100.0,
        ),
        # GenMix has no StyleGAN2; its GANs' budget (iterations, batch size), the rest as Karras et al. 2020 set it by
        # rule for 256 px and this batch size: R1 weight 0.0002 * 256^2 / 8, half-life 10 / 32 of the batch in kimg.
        "paper": StyleGAN2ADAConfig(image_size=256, num_steps=70_000, batch_size=8, r1_gamma=1.6, ema_kimg=2.5),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> StyleGAN2Method:
        """Return new networks with their optimisers and training step, for images (B, channels, size, size) -1..1.

        Raises ValueError unless image_size is a power of two from 16 to 1024.
        """
        check_gan_size(self.name, image_size)
        config = self.config
        sizes = {"num_classes": num_classes, "channels": channels, "image_size": image_size}
        widths = {name: getattr(config, name) for name in ("w_dim", "mapping_layers", "base", "maximum")}
        generator = StyleGAN2Generator(**sizes, **widths, z_dim=config.z_dim)
        discriminator = StyleGAN2Discriminator(**sizes, **widths)
        return StyleGAN2Method(channels_last(generator), channels_last(discriminator), config)

    def draw(self, network: StyleGAN2Generator, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        return draw_styled(network, labels, seeds, self.config.truncation_psi)
