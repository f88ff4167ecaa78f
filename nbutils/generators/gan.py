"""What all GANs of the suite share: losses, penalties, and the two updates of one training step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from nbutils.models.gan_layers import NoisyGenerator, StyleBasedGenerator
from nbutils.seeds import seeded_normal
from nbutils.training import Method, autocast, device, placed

IMAGE_SIZES = tuple(2**k for k in range(4, 11))


def check_gan_size(name: str, image_size: int) -> None:
    """Raise ValueError unless image_size is a power of two from 16 to 1024."""
    if image_size not in IMAGE_SIZES:
        allowed = ", ".join(map(str, IMAGE_SIZES))
        raise ValueError(f"{name} needs images of {allowed} px, found {image_size} px; resize them to one of these.")


def channels_last(network: nn.Module) -> nn.Module:
    """Move a network to the device, its convolutions laid out channels last, before optimisers see its weights."""
    return placed(network, memory_format=torch.channels_last)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss -log D(G(z)) (Goodfellow 2014, section 3), a scalar."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the binary cross-entropy -log D(x) - log(1 - D(G(z))), each averaged over the batch, a scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_loss(
    real_logits: Tensor, fake_logits: Tensor, real_margin: Tensor | float = 1.0, fake_margin: Tensor | float = 1.0
) -> Tensor:
    """Return the hinge loss of the discriminator, a scalar (Lim & Ye 2017); logits beyond their margin add nothing."""
    return F.relu(real_margin - real_logits).mean() + F.relu(fake_margin + fake_logits).mean()


def mean_loss(fake_logits: Tensor) -> Tensor:
    """Return the loss of the generator under a hinge loss, a scalar: minus the mean logit."""
    return -fake_logits.mean()


def r1_penalty(real_logits: Tensor, images: Tensor) -> Tensor:
    """Return the squared gradient norm of the logits at the real images, averaged, a scalar with a graph.

    images: (B, C, H, W), must require a gradient. R1 of Mescheder et al. 2018, Eq. 9, without its factor gamma / 2.
    """
    (gradients,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
    return gradients.square().sum(dim=(1, 2, 3)).mean()


def full_precision():
    """Return a context without autocast: penalties with second derivatives are computed in float32."""
    return torch.autocast(device().type, enabled=False)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no weight gradients of `network` in the block; gradients still pass through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def minimize(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """Take one optimiser step down the gradient of `loss`, and return the loss without its graph."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def adam_of_each(networks: Mapping[str, nn.Module], learning_rate: float, beta1: float) -> dict[str, Adam]:
    """Return Adam for each network, by the same names, with beta2 0.999."""
    betas = (beta1, 0.999)
    return {name: Adam(net.parameters(), learning_rate, betas=betas, fused=True) for name, net in networks.items()}


def lazy_adam(network: nn.Module, learning_rate: float, interval: int | None = None) -> Adam:
    """Return Adam with beta1 0, beta2 0.99; with a regularisation step added every `interval` steps, corrected for it.

    StyleGAN2 (Karras et al. 2019, appendix B) multiplies the rate, and raises the betas to the power, by
    interval / (interval + 1), so that the additional steps do not speed up learning. None = no additional steps.
    """
    ratio = 1.0 if interval is None else interval / (interval + 1)
    return Adam(network.parameters(), learning_rate * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True)


def seeded_inputs(network: NoisyGenerator, seeds: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Draw z (B, z_dim) and the noise inputs, each (B, 1, size, size), those of image i from one draw of seeds[i]."""
    drawn = seeded_normal(seeds, (network.z_dim + network.num_noise,)).to(device())
    z, noise = drawn.tensor_split([network.z_dim], dim=1)
    return z, network.split_noise(noise)


def draw_styled(network: StyleBasedGenerator, labels: Tensor, seeds: Sequence[int], truncation_psi: float) -> Tensor:
    """Draw images (B, C, H, W) of labels (B,), image i from seeds[i] alone."""
    z, noise = seeded_inputs(network, seeds)
    return network.synthesize(network.styles(z, labels, truncation_psi), noise)


class AdversarialMethod(Method):
    """Alternate discriminator and generator updates; both of one step see the same latents, which saves a pass.

    ema_decay: decay of the moving average of the generator per step, None = no average. The losses are those of
    Goodfellow et al. 2014 unless a subclass sets others.
    """

    generator_loss = staticmethod(generator_loss)
    discriminator_loss = staticmethod(discriminator_loss)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizers: dict[str, Optimizer],
        ema_decay: float | None = None,
    ):
        averages = {} if ema_decay is None else {"generator": ema_decay}
        super().__init__({"generator": generator, "discriminator": discriminator}, optimizers, averages)
        self.generator, self.discriminator = self.modules["generator"], self.modules["discriminator"]

    def generate(self, labels: Tensor) -> Tensor:
        """Draw images (B, C, H, W) of labels (B,) with the random state as it is, with a graph."""
        raise NotImplementedError

    def judge(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logits (B,) float32."""
        return self.discriminator(images, labels).float()

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update the discriminator, then the generator, on one batch; fakes have the labels of the real images."""
        with autocast():
            fakes = self.generate(labels)
        scalars = self.update_discriminator(images, fakes.detach(), labels)
        return {**scalars, **self.update_generator(fakes, labels)}

    def update_discriminator(self, images: Tensor, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator, and return its scalars."""
        with autocast():
            real, fake = self.judge(images, labels), self.judge(fakes, labels)
        loss = minimize(self.optimizers["discriminator"], self.discriminator_loss(real, fake))
        return {"loss_discriminator": loss, **self.observe(real.detach())}

    def observe(self, real_logits: Tensor) -> dict[str, Tensor | float]:
        """Return what the logits of the real images tell: their mean sign, 1 = all are taken for real."""
        return {"real_sign": real_logits.sign().mean()}

    def update_generator(self, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step of the generator, and return its scalars."""
        with frozen(self.discriminator), autocast():
            logits = self.judge(fakes, labels)
        return {"loss_generator": minimize(self.optimizers["generator"], self.generator_loss(logits))}
