"""Noise schedules, and the hybrid loss that ADM is trained with (Nichol & Dhariwal 2021, arXiv 2102.09672)."""

import math
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from nbutils.scales import choose

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
"""Noise schedule -> its name in diffusers: linear (Ho et al. 2020), cosine (Nichol & Dhariwal 2021, Eq. 17)."""

PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
"""What the network predicts -> its name in diffusers: the noise (ADM), or v of Salimans & Ho 2022, Section 4."""


def scheduler_arguments(schedule: str, num_timesteps: int, prediction: str) -> dict:
    """Return the arguments that every scheduler of diffusers takes, in training and sampling alike.

    Linear betas run from 0.0001 to 0.02 at 1000 steps, and grow in proportion for fewer. Raises ValueError for an
    unknown schedule or prediction.
    """
    return {
        "num_train_timesteps": num_timesteps,
        "beta_schedule": choose("noise schedule", schedule, SCHEDULES),
        "beta_start": 0.1 / num_timesteps,
        "beta_end": 20 / num_timesteps,
        "prediction_type": choose("prediction", prediction, PREDICTIONS),
    }


def spread_time_steps(count: int, num_timesteps: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw time steps (count,) int64 on the CPU, each uniform but all of them spread evenly over 0..T-1.

    A batch that misses no part of the noise scale gives a steadier gradient. generator: None = torch's random state.
    """
    spread = (torch.arange(count) / count + torch.rand((), generator=generator)) % 1.0
    return (spread * num_timesteps).long()


class HybridLoss(nn.Module):
    """L_hybrid = L_simple + lambda L_vlb of Nichol & Dhariwal 2021, Eq. 16, for a network with 2 C output channels.

    L_simple is the mean squared error of the prediction, noise or v. L_vlb trains only the variance, the fraction of
    Eq. 15: no gradient flows through it to the prediction. lambda = 1/1000 on the sum over all T steps, so T/1000 on
    the one step drawn here. The variational terms are means over dimensions, in bits, as in the official code.
    """

    def __init__(self, schedule: str = "linear", num_timesteps: int = 1000, prediction: str = "epsilon"):
        super().__init__()
        self.num_timesteps, self.prediction = num_timesteps, prediction
        self.scheduler = DDPMScheduler(**scheduler_arguments(schedule, num_timesteps, prediction))
        # A product of a thousand factors, and differences near 0 and 1, want double precision.
        betas = self.scheduler.betas.double()
        alpha_bar = torch.cumprod(1 - betas, 0)
        previous = torch.cat([torch.ones(1), alpha_bar[:-1]])
        posterior = betas * (1 - previous) / (1 - alpha_bar)
        # The posterior of the last step back has variance 0, whose logarithm nobody can use; ADM takes its neighbour.
        posterior = torch.cat([posterior[1:2], posterior[1:]])
        self._table("signal", alpha_bar.sqrt())
        self._table("spread", (1 - alpha_bar).sqrt())
        self._table("mean_from_start", betas * previous.sqrt() / (1 - alpha_bar))
        self._table("mean_from_noisy", (1 - previous) * (1 - betas).sqrt() / (1 - alpha_bar))
        self._table("log_smallest", posterior.log())
        self._table("log_largest", betas.log())

    def _table(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float()[:, None, None, None], persistent=False)  # (T, 1, 1, 1)

    def forward(
        self, model: Callable[[Tensor, Tensor, Tensor | None], Tensor], images: Tensor, t: Tensor, y: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return (L_simple, lambda L_vlb), each (B,), for images (B, C, H, W) -1..1 at time steps t (B,), classes y."""
        noise = torch.randn_like(images)
        noisy = self.scheduler.add_noise(images, noise, t)
        predicted, fraction = model(noisy, t, y).float().chunk(2, dim=1)  # each (B, C, H, W)
        target = noise if self.prediction == "epsilon" else self.scheduler.get_velocity(images, noise, t)
        simple = (predicted - target).square().flatten(1).mean(1)
        vlb = self.variational_term(images, noisy, predicted.detach(), fraction, t)
        return simple, vlb * (self.num_timesteps / 1000)

    def variational_term(self, images: Tensor, noisy: Tensor, predicted: Tensor, fraction: Tensor, t: Tensor) -> Tensor:
        """Return the term of L_vlb at step t in bits per dimension, (B,).

        It is the Kullback-Leibler divergence from the posterior q(x_{t-1} | x_t, x_0) to the network's step, and at
        t = 0 the negative log-likelihood of the 8-bit image. fraction: -1 gives the posterior's variance, 1 beta_t.
        """
        start = self._start(noisy, predicted, t)
        true_mean = self.mean_from_start[t] * images + self.mean_from_noisy[t] * noisy
        mean = self.mean_from_start[t] * start + self.mean_from_noisy[t] * noisy
        log_variance = torch.lerp(self.log_smallest[t], self.log_largest[t], (fraction + 1) / 2)
        divergence = gaussian_kl(true_mean, self.log_smallest[t], mean, log_variance)
        likelihood = discretised_log_likelihood(images, mean, log_variance)
        nats = torch.where(t[:, None, None, None] == 0, -likelihood, divergence)  # (B, C, H, W)
        return nats.flatten(1).mean(1) / math.log(2)

    def _start(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """Return the x_0 that a prediction stands for."""
        if self.prediction == "epsilon":
            return (noisy - self.spread[t] * predicted) / self.signal[t]
        return self.signal[t] * noisy - self.spread[t] * predicted


def gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return KL(N(mean1, exp log_variance1) || N(mean2, exp log_variance2)), elementwise, in nats."""
    difference = log_variance1 - log_variance2
    return 0.5 * (difference.exp() - 1 - difference + (mean1 - mean2).square() * (-log_variance2).exp())


def discretised_log_likelihood(images: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-probability in nats, elementwise, that a Gaussian falls into an image's 8-bit grey level.

    images: -1..1 in steps of 2/255; the lowest and highest level take all that lies beyond (Ho et al. 2020, Eq. 13).
    """
    scale = (-0.5 * log_variance).exp()
    below_upper = torch.special.ndtr((images - mean + 1 / 255) * scale).masked_fill(images > 0.999, 1.0)
    below_lower = torch.special.ndtr((images - mean - 1 / 255) * scale).masked_fill(images < -0.999, 0.0)
    return (below_upper - below_lower).clamp(min=1e-12).log()
