"""Training of networks that rebuild images through few numbers: absolute and perceptual error, and a discriminator."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.perceptual import perceptual_distance
from nbutils.priors.base import Recipe
from nbutils.training import Method, autocast, set_learning_rate


@dataclass(frozen=True)
class RebuildingRecipe(Recipe):
    """Settings of the losses, which are those of Rombach et al. 2022, Appendix G, and of Esser et al. 2021.

    perceptual_weight: of the perceptual distance, beside the mean absolute error.
    adversarial_from: share of the steps after which the patch discriminator learns; `discriminator_warmup` steps later
        the network listens to it. Its weight is chosen so that the gradients in the last layer have
        `adversarial_weight` times the length of the rest.
    adversarial_learning_rate: the network's from then on, before pacing; the discriminator's is `learning_rate`. A
        network that learns as fast escapes the discriminator before it knows anything, and only loses by it.
    ema_decay: of the weights' moving average, which is what is kept.

    Where we differ: a smaller discriminator, and a perceptual distance on the features of our backbone, all of whose
    channels weigh the same.
    """

    perceptual_weight: float = 1.0
    adversarial_from: float = 0.65
    discriminator_warmup: int = 100
    adversarial_weight: float = 0.5
    adversarial_learning_rate: float = 2e-4
    ema_decay: float = 0.999


class PatchDiscriminator(nn.Sequential):
    """Says for each patch of an image (B, 3, H, W) -1..1 whether it is real, (B, 1, h, w) (Isola et al. 2017)."""

    def __init__(self, width: int = 32):
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, 1, 1),
        )


class RebuildingMethod(Method):
    """The losses of a network `autoencoder` and its discriminator, Adam for both; a subclass defines `rebuild`."""

    def __init__(self, autoencoder: nn.Module, recipe: RebuildingRecipe, backbone: nn.Module):
        modules = {"autoencoder": autoencoder, "discriminator": PatchDiscriminator()}
        modules = {name: module.to(memory_format=torch.channels_last) for name, module in modules.items()}
        adam = {
            name: torch.optim.Adam(module.parameters(), recipe.learning_rate, betas=(0.5, 0.9), fused=True)
            for name, module in modules.items()
        }
        super().__init__(modules, adam, {"autoencoder": recipe.ema_decay})
        self.recipe, self.backbone = recipe, backbone

    def rebuild(self, images: Tensor, *more: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return rebuilt images (B, 3, S, S) -1..1, scalars to log, and the weighted sum of those that are losses."""
        raise NotImplementedError

    def step(self, step: int, images: Tensor, *more: Tensor) -> dict[str, Tensor]:
        """Do one step on images (B, 3, S, S) -1..1 and what else `rebuild` takes."""
        recipe = self.recipe
        adversarial_steps = step - int(recipe.adversarial_from * recipe.num_steps)
        slow = replace(recipe, learning_rate=recipe.adversarial_learning_rate)
        set_learning_rate(self.optimizers["autoencoder"], step, recipe if adversarial_steps < 0 else slow)
        set_learning_rate(self.optimizers["discriminator"], step, recipe)
        with autocast():
            rebuilt, own, penalty = self.rebuild(images, *more)
            scalars = {
                "absolute_error": (rebuilt - images).abs().mean(),
                "perceptual": perceptual_distance(self.backbone, rebuilt, images),
                **own,
            }
            loss = scalars["absolute_error"] + recipe.perceptual_weight * scalars["perceptual"] + penalty
            if adversarial_steps >= recipe.discriminator_warmup:
                scalars["adversarial"] = -self.modules["discriminator"](rebuilt).mean()
                loss = loss + self._balance(loss, scalars["adversarial"]) * scalars["adversarial"]
        self._descend("autoencoder", loss)
        if adversarial_steps >= 0:
            scalars["discriminator"] = self._discriminate(images, rebuilt.detach())
        return {name: value.detach() for name, value in scalars.items()}

    def _balance(self, loss: Tensor, adversarial: Tensor) -> Tensor:
        """Return the weight of the adversarial loss, from the gradients in the last layer (Esser et al. 2021)."""
        last = self.modules["autoencoder"].decoder.conv_out.weight
        lengths = [torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, adversarial)]
        return self.recipe.adversarial_weight * (lengths[0] / (lengths[1] + 1e-4)).clamp(max=1e4).detach()

    def _discriminate(self, images: Tensor, rebuilt: Tensor) -> Tensor:
        """Do a step of the discriminator on the hinge loss, and return the loss."""
        with autocast():
            # One after the other: normalised together, they would be told apart by what no rebuilt image can change.
            real, fake = (self.modules["discriminator"](batch).float() for batch in (images, rebuilt))
            loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        self._descend("discriminator", loss)
        return loss

    def _descend(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()
