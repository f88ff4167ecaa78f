"""The KL autoencoder of latent diffusion (Rombach et al. 2022), on diffusers' AutoencoderKL, trained on the corpus."""

from collections.abc import Callable
from dataclasses import dataclass
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
from nbutils.priors.base import Prior, corpus_images
from nbutils.priors.rebuilding import RebuildingMethod, RebuildingRecipe
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, TrainingLog, device, train

AUTOENCODER = "vae"
STATISTICS_IMAGES = 2000


@dataclass(frozen=True)
class AutoencoderRecipe(RebuildingRecipe):
    """Settings of the autoencoder.

    image_size: pixels. widths, norm_groups: channels at each resolution, and groups they are normalised in; each width
        but the last is followed by a halving, so that four make an f8. latent_channels: channels of the latents.
    kl_weight: of the latents' divergence from a normal distribution, per value of the image, so that it means the same
        at each size. Rombach et al. have 1e-6 here; ours keeps the latents of a short training near each other.
    alignment_weight: of the squared distance to the latents of the same scenes in the autoencoder that this one is
        aligned with, so that one diffusion model serves both; unused without one.

    Where we differ, beside RebuildingRecipe: no learned log-variance of the likelihood.
    """

    image_size: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 96)
    latent_channels: int = 8
    norm_groups: int = 8
    kl_weight: float = 0.01
    alignment_weight: float = 1.0


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


class AutoencoderMethod(RebuildingMethod):
    """The training step of the autoencoder."""

    def __init__(self, recipe: AutoencoderRecipe, backbone: nn.Module):
        super().__init__(build_autoencoder(recipe), recipe, backbone)

    def rebuild(self, images: Tensor, latents: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Rebuild images from sampled latents; latents: (B, C, h, w) float to be aligned with, None = none."""
        recipe, autoencoder = self.recipe, self.modules["autoencoder"]
        posterior = autoencoder.encode(images).latent_dist
        scalars = {"kl": posterior.kl().mean() / images[0].numel()}
        penalty = recipe.kl_weight * scalars["kl"]
        if latents is not None:
            scalars["alignment"] = F.mse_loss(posterior.mean.float(), latents)
            penalty = penalty + recipe.alignment_weight * scalars["alignment"]
        return autoencoder.decode(posterior.sample()).sample, scalars, penalty


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
