"""Training on latents: batches of those that were encoded once, and the error of a prediction."""

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from nbutils.models.diffusion_loss import spread_time_steps
from nbutils.pipelines import sampled
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, autocast


class LatentBatches(BatchOrder):
    """Batches of scaled latents, noise (B, C, h, w) and times (B,) int64 on the CPU, by the step; see BatchOrder.

    encoded: means and log-variances (S, N, 2 C, h, w) of the images; S = 2 if those of mirrored ones come second, which
    are then taken as often. A batch depends on them, the seed and the step alone. Times are those of spread_time_steps.
    """

    def __init__(self, encoded: Tensor, batch_size: int, seed: int, scale: float, num_timesteps: int):
        super().__init__(encoded.shape[1], batch_size, seed)
        self.encoded, self.scale, self.num_timesteps = encoded, scale, num_timesteps

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        mirroring, generator = (
            torch.Generator().manual_seed(derive_seed(self.seed, purpose, step)) for purpose in ("flip", "noise")
        )
        sides = torch.randint(len(self.encoded), (self.batch_size,), generator=mirroring)
        latents = self.scale * self._latents(self.encoded[sides, self.indices(step)], generator)
        noise = torch.randn(latents.shape, generator=generator)
        return latents, noise, spread_time_steps(self.batch_size, self.num_timesteps, generator)

    def _latents(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """Return latents (B, C, h, w) float32, not yet scaled, of what was encoded."""
        return sampled(encoded, generator)


class VectorBatches(LatentBatches):
    """Batches of what a VQ autoencoder encoded: the vectors (S, N, C, h, w) themselves, before they become codes."""

    def _latents(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        return encoded.float()


def denoising_error(
    unet: UNet2DConditionModel, scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, t: Tensor, states: Tensor
) -> Tensor:
    """Return the squared error (B, C, h, w) of what the network predicts: noise or v, as the scheduler says.

    latents, noise: (B, C, h, w), scaled latents. t: (B,) int64. states: (B, L, D) of the text encoder, or of classes.
    """
    noisy = scheduler.add_noise(latents, noise, t).contiguous(memory_format=torch.channels_last)
    with autocast():
        predicted = unet(noisy, t, states).sample
    epsilon = scheduler.config.prediction_type == "epsilon"
    target = noise if epsilon else scheduler.get_velocity(latents, noise, t)
    return F.mse_loss(predicted.float(), target, reduction="none")
