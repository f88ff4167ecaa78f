"""Drawing images from a diffusion network with the schedulers of diffusers, each image from a seed of its own."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from nbutils.models.diffusion_loss import scheduler_arguments
from nbutils.scales import choose
from nbutils.seeds import derive_seed, seeded_normal
from nbutils.training import device

if TYPE_CHECKING:
    from nbutils.generators.diffusion_training import DiffusionConfig

LOWEST_LOG_SNR = -5.1
"""Where the fast sampler begins, as its authors do for cosine schedules: a signal of 0.6 % in the noise."""


def new_sampler(config: "DiffusionConfig") -> SchedulerMixin:
    """Return the scheduler of diffusers that config.sampler names, set to its number of steps.

    All clip x_0 to -1..1 at every step. "ddpm" and "ddim" space their steps over time as ADM does, "dpm++" spaces them
    evenly in log signal-to-noise (as DPM-Solver, Lu et al. 2022), so that few steps keep fine texture.
    Raises ValueError for an unknown name.
    """
    shared = scheduler_arguments(config.schedule, config.num_timesteps, config.prediction)
    samplers = {
        "ddpm": (DDPMScheduler, {"variance_type": "learned_range", "timestep_spacing": "linspace"}),
        "ddim": (DDIMScheduler, {"timestep_spacing": "leading"}),
        "dpm++": (DPMSolverMultistepScheduler, {"thresholding": True}),  # at its maximum of 1 this is plain clipping
    }
    scheduler, arguments = choose("sampler", config.sampler, samplers)
    sampler = scheduler(**shared, **arguments)
    if config.sampler == "dpm++":
        sampler.set_timesteps(timesteps=_even_timesteps(sampler.alphas_cumprod, config.num_sampling_steps))
    else:
        sampler.set_timesteps(config.num_sampling_steps)
    return sampler


def _even_timesteps(alpha_bar: Tensor, count: int) -> list[int]:
    """Return up to `count` falling time steps, evenly spaced in half the log signal-to-noise ratio.

    diffusers' own such spacing spends a third of its steps on the cosine schedule's last thousandth, which is all
    noise; here it begins at LOWEST_LOG_SNR.
    """
    log_snr = 0.5 * torch.logit(alpha_bar.double()).numpy()  # falls with t
    wanted = np.linspace(max(LOWEST_LOG_SNR, log_snr[-1]), log_snr[0], count)
    steps = np.interp(wanted, log_snr[::-1], np.arange(len(log_snr))[::-1])
    return np.unique(steps.round().astype(int))[::-1].tolist()


def sample(
    network: Callable[[Tensor, Tensor], Tensor], sampler: SchedulerMixin, seeds: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Draw images (len(seeds), *shape) by a network(x, t) -> (B, 2 C, H, W); all noise of image i is from seeds[i]."""
    x = seeded_normal(seeds, shape).to(device())
    noises = [torch.Generator().manual_seed(derive_seed(seed, "steps")) for seed in seeds]
    ancestral = isinstance(sampler, DDPMScheduler)
    for t in sampler.timesteps:
        out = network(x, t.expand(len(x)).to(x.device)).float()  # (B, 2 C, H, W)
        if ancestral:
            x = sampler.step(out, int(t), x, generator=noises).prev_sample
        else:
            x = sampler.step(out[:, : shape[0]], t, x).prev_sample
    return x
