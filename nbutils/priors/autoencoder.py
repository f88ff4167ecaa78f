"""The KL autoencoder of latent diffusion (Rombach et al. 2022), on diffusers' AutoencoderKL, trained on the corpus."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.artefacts import cached
from nbutils.backbone import load_backbone
from nbutils.images import to_float
from nbutils.pipelines import encode, load_autoencoder, sampled
from nbutils.priors.base import Prior, Recipe, corpus_images
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, TrainingLog, autocast, device, set_learning_rate, train

AUTOENCODER = "vae"
STATISTICS_IMAGES = 2000


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """Settings of the autoencoder; the losses are those of Rombach et al. 2022, Appendix G.

    image_size: pixels. widths, norm_groups: channels at each resolution, and groups they are normalised in; each width
        but the last is followed by a halving, so that four make an f8. latent_channels: channels of the latents.
    perceptual_weight: of the perceptual distance, beside the mean absolute error.
    kl_weight: of the latents' divergence from a normal distribution, per value of the image, so that it means the same
        at each size. Rombach et al. have 1e-6 here; ours keeps the latents of a short training near each other.
    adversarial_from: share of the steps after which the patch discriminator learns; `discriminator_warmup` steps later
        the autoencoder listens to it. Its weight is chosen so that the gradients in the last layer have
        `adversarial_weight` times the length of the rest.
    adversarial_learning_rate: the autoencoder's from then on, before pacing; the discriminator's is `learning_rate`. An
        autoencoder that learns as fast escapes the discriminator before it knows anything, and only loses by it.
    alignment_weight: of the squared distance to the latents of the same scenes in the autoencoder that this one is
        aligned with, so that one diffusion model serves both; unused without one.
    ema_decay: of the weights' moving average, which is what is kept.

    Where we differ: no learned log-variance of the likelihood, a smaller discriminator, and a perceptual distance on
    the features of our backbone, all of whose channels weigh the same.
    """

    image_size: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 96)
    latent_channels: int = 8
    norm_groups: int = 8
    perceptual_weight: float = 1.0
    kl_weight: float = 0.01
    adversarial_from: float = 0.65
    discriminator_warmup: int = 100
    adversarial_weight: float = 0.5
    adversarial_learning_rate: float = 2e-4
    alignment_weight: float = 1.0
    ema_decay: float = 0.999


def build_autoencoder(recipe: AutoencoderRecipe) -> AutoencoderKL:
    """Return an AutoencoderKL of diffusers with random weights."""
    levels = len(recipe.widths)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=recipe.norm_groups,
        sample_size=recipe.image_size,
    )


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


def perceptual_distance(backbone: nn.Module, images: Tensor, others: Tensor) -> Tensor:
    """Return the distance of images (B, 3, H, W) -1..1 in the backbone's feature maps, a scalar.

    Maps are normalised over channels at each place, as in LPIPS (Zhang et al. 2018), so that it lies in 0..4. It is the
    backbone behind the extractor `shipped`, too: distances on its features flatter what came through the autoencoder.
    """
    maps = backbone.forward_intermediates(torch.cat([images, others]), intermediates_only=True)
    distances = []
    for both in maps:
        one, two = F.normalize(both.float(), dim=1).chunk(2)
        distances.append((one - two).square().sum(1).mean())
    return torch.stack(distances).mean()


class AutoencoderMethod(Method):
    """The two losses of the autoencoder and its discriminator, Adam for both."""

    def __init__(self, recipe: AutoencoderRecipe, backbone: nn.Module):
        autoencoder, discriminator = build_autoencoder(recipe), PatchDiscriminator()
        modules = {"autoencoder": autoencoder, "discriminator": discriminator}
        modules = {name: module.to(memory_format=torch.channels_last) for name, module in modules.items()}
        adam = {
            name: torch.optim.Adam(module.parameters(), recipe.learning_rate, betas=(0.5, 0.9), fused=True)
            for name, module in modules.items()
        }
        super().__init__(modules, adam, {"autoencoder": recipe.ema_decay})
        self.recipe, self.backbone = recipe, backbone

    def step(self, step: int, images: Tensor, latents: Tensor | None = None) -> dict[str, Tensor]:
        """Do one step on images (B, 3, S, S) -1..1; latents: (B, C, h, w) float to be aligned with, None = none."""
        recipe, autoencoder = self.recipe, self.modules["autoencoder"]
        adversarial_steps = step - int(recipe.adversarial_from * recipe.num_steps)
        slow = replace(recipe, learning_rate=recipe.adversarial_learning_rate)
        set_learning_rate(self.optimizers["autoencoder"], step, recipe if adversarial_steps < 0 else slow)
        set_learning_rate(self.optimizers["discriminator"], step, recipe)
        with autocast():
            posterior = autoencoder.encode(images).latent_dist
            rebuilt = autoencoder.decode(posterior.sample()).sample
            scalars = {
                "absolute_error": (rebuilt - images).abs().mean(),
                "perceptual": perceptual_distance(self.backbone, rebuilt, images),
                "kl": posterior.kl().mean() / images[0].numel(),
            }
            loss = (
                scalars["absolute_error"]
                + recipe.perceptual_weight * scalars["perceptual"]
                + recipe.kl_weight * scalars["kl"]
            )
            if latents is not None:
                scalars["alignment"] = F.mse_loss(posterior.mean.float(), latents)
                loss = loss + recipe.alignment_weight * scalars["alignment"]
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


class Autoencoder(Prior):
    """AutoencoderKL; needs `backbone`, and `aligned_with` another autoencoder whose latents it is to share."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the autoencoder; its moving average is kept, with the scale at which its latents have unit variance.

        One that is aligned with another takes over the other's scale.
        """
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            method = AutoencoderMethod(recipe, load_backbone(self.needs["backbone"].folder()))
        log = train(
            method, self._batches(), recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt"
        )
        autoencoder = method.averages["autoencoder"].module.eval()
        moments = encode(autoencoder, corpus_images(recipe.num_images, recipe.image_size)[:STATISTICS_IMAGES])
        other = self.needs.get("aligned_with")
        spread = float(sampled(moments, torch.Generator().manual_seed(0)).std())
        scale = round(1 / spread, 4) if other is None else other.load().config.scaling_factor
        autoencoder.register_to_config(scaling_factor=scale)
        autoencoder.half().save_pretrained(folder / AUTOENCODER)
        return log

    def _batches(self) -> Callable[[int], tuple[Tensor, ...]]:
        recipe = self.recipe
        images = torch.from_numpy(corpus_images(recipe.num_images, recipe.image_size))
        other = self.needs.get("aligned_with")
        latents = None if other is None else torch.from_numpy(other.latents(recipe.num_images)).chunk(2, dim=1)[0]
        order = BatchOrder(len(images), recipe.batch_size, derive_seed(0, self.name, "batches"))

        def batch(step: int) -> tuple[Tensor, ...]:
            rows = order.indices(step)
            pixels = to_float(images[rows]).contiguous(memory_format=torch.channels_last).to(device())
            return (pixels,) if latents is None else (pixels, latents[rows].float().to(device()))

        return batch

    def load(self) -> AutoencoderKL:
        """Return the trained autoencoder, frozen, in float32 on the device."""
        return load_autoencoder(self.folder() / AUTOENCODER)

    def latents(self, count: int) -> np.ndarray:
        """Return means and log-variances, (count, 2 C, h, w) float16, of the first images of the corpus, cached."""

        def build(folder: Path) -> None:
            moments = encode(self.load(), corpus_images(count, self.recipe.image_size))
            np.save(folder / "moments.npy", moments.numpy(), allow_pickle=False)

        key = {"autoencoder": self.key(), "count": count}
        return np.load(cached("corpus-latents", key, build).path / "moments.npy", allow_pickle=False)
