"""Drawing latents under several conditions at once: composable diffusion, and inpainting by masked denoising."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import Tensor

from nbutils.scales import choose
from nbutils.seeds import derive_seed, seeded_normal
from nbutils.training import device

# Times and last step of DDIM are those of CompVis' code, where nothing is clipped.
_DDIM = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
SAMPLERS = {
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "ddim": (DDIMScheduler, _DDIM),
}


@dataclass(frozen=True)
class Conditions:
    """What each image shows: states (B, K, L, D) of K texts, their weights (B, K), and the empty text's (L, D)."""

    states: Tensor
    weights: Tensor
    empty: Tensor


@dataclass(frozen=True)
class Known:
    """What each image keeps. latents: (B, C, h, w) scaled. redrawn: (B, 1, h, w) float, 1 = draw, 0 = keep."""

    latents: Tensor
    redrawn: Tensor


def new_sampler(scheduler: SchedulerMixin, name: str, num_steps: int) -> SchedulerMixin:
    """Return a sampler of another scheduler's noise, set to its number of steps. Raises ValueError for an unknown name.

    Of "ddim" eta is 0.
    """
    kind, settings = choose("sampler", name, SAMPLERS)
    sampler = kind.from_config(scheduler.config, **settings)
    sampler.set_timesteps(num_steps)
    return sampler


def guided(unet: UNet2DConditionModel, x: Tensor, t: Tensor, given: Conditions, scale: float) -> Tensor:
    """Return the guided prediction for images x (B, C, h, w) at time t: composable diffusion (Liu et al. 2022, Eq. 11).

    eps = eps_u + s sum_i w_i (eps_i - eps_u), each condition on its own, never one long text. It holds for a network
    that predicts v as for one that predicts noise: at one x and t one is an affine function of the other.
    """
    batch = len(given.weights)
    shares = torch.cat([1 - scale * given.weights.sum(1, keepdim=True), scale * given.weights], 1)  # (B, 1 + K)
    texts = torch.cat([given.empty.expand(batch, 1, -1, -1), given.states], 1)
    if shares[:, 0].abs().max() < 1e-6:  # scale 1: the empty text has no share
        shares, texts = shares[:, 1:], texts[:, 1:]
    copies = x.repeat_interleave(texts.shape[1], dim=0)
    out = unet(copies, t, texts.flatten(0, 1)).sample.float().unflatten(0, (batch, -1))  # (B, 1 + K, C, h, w)
    return torch.einsum("bk,bkchw->bchw", shares, out)


def draw_latents(
    unet: UNet2DConditionModel,
    sampler: SchedulerMixin,
    given: Conditions,
    seeds: Sequence[int],
    scale: float,
    known: Known | None = None,
) -> Tensor:
    """Draw scaled latents (B, C, h, w) of the given conditions; all noise of image i is from seeds[i].

    known: what to keep, which is put back, with noise for the time, before every step; None = draw all.
    """
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    noise = seeded_normal(seeds, shape).to(device())
    noises = [torch.Generator().manual_seed(derive_seed(seed, "steps")) for seed in seeds]
    ancestral = {"generator": noises} if isinstance(sampler, EulerAncestralDiscreteScheduler) else {}
    x = noise * sampler.init_noise_sigma
    for t in sampler.timesteps:
        if known is not None:
            kept = sampler.add_noise(known.latents, noise, t[None].expand(len(x)))
            x = torch.where(known.redrawn > 0, x, kept)
        out = guided(unet, sampler.scale_model_input(x, t), t, given, scale)
        x = sampler.step(out, t, x, **ancestral).prev_sample
    return x if known is None else torch.where(known.redrawn > 0, x, known.latents)
