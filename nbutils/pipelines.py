"""Latent diffusion with diffusers' StableDiffusionPipeline: images to latents and back, texts to vectors and images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, VQModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from nbutils.images import to_float, to_uint8
from nbutils.progress import progress
from nbutils.seeds import seeded_normal
from nbutils.training import autocast, device, placed

Autoencoder = TypeVar("Autoencoder", AutoencoderKL, VQModel)


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Return a pipeline in float32 on the device, frozen and silent; folder: of a prior, or of Stable Diffusion.

    Only safetensors are read. Raises OSError if the folder holds no complete pipeline of them.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, use_safetensors=True, local_files_only=True
    )
    return frozen(pipeline)


def frozen(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Freeze and silence a pipeline, in place, put it on the device, and return it."""
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.eval().requires_grad_(False)
    for module in (pipeline.unet, pipeline.vae):
        module.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def load_autoencoder(folder: Path, kind: type[Autoencoder] = AutoencoderKL) -> Autoencoder:
    """Return an autoencoder of diffusers in float32 on the device, frozen; only safetensors are read."""
    autoencoder = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    return placed(autoencoder.eval().requires_grad_(False), memory_format=torch.channels_last)


def encode(autoencoder: Autoencoder, images: np.ndarray, batch_size: int = 256) -> Tensor:
    """Return what an autoencoder makes of uint8 images (N, 3, S, S), float16 on the CPU.

    Of AutoencoderKL the latents' means and log-variances (N, 2 C, h, w), of VQModel its vectors (N, C, h, w), which are
    no codes yet.
    """
    chunks = np.array_split(images, max(1, -(-len(images) // batch_size)))
    with torch.inference_mode(), autocast():
        parts = [autoencoder.encode(to_float(chunk).to(device())) for chunk in chunks]
    vectors = isinstance(autoencoder, VQModel)
    return torch.cat([(part.latents if vectors else part.latent_dist.parameters).half().cpu() for part in parts])


def sampled(moments: Tensor, generator: torch.Generator) -> Tensor:
    """Draw latents (B, C, h, w) float32 from means and log-variances (B, 2 C, h, w), not yet scaled."""
    mean, log_variance = moments.float().chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=generator)
    return mean + noise.to(mean.device) * (0.5 * log_variance.clamp(-30, 20)).exp()


def decode(autoencoder: Autoencoder, latents: Tensor, batch_size: int = 256) -> np.ndarray:
    """Return uint8 images (N, 3, S, S) of unscaled latents (N, C, h, w) float; VQModel takes the nearest codes."""
    with torch.inference_mode(), autocast():
        parts = [
            autoencoder.decode(part.float().to(device())).sample.float().cpu() for part in latents.split(batch_size)
        ]
    return to_uint8(torch.cat(parts))


def reconstruct(autoencoder: Autoencoder, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return what is left of uint8 images (N, 3, S, S) after encoding (to the mean latent) and decoding, likewise."""
    encoded = encode(autoencoder, images, batch_size)
    latents = encoded if isinstance(autoencoder, VQModel) else encoded.chunk(2, dim=1)[0]
    return decode(autoencoder, latents, batch_size)


def encode_texts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, texts: Sequence[str]) -> Tensor:
    """Return the text encoder's states (E, L, D) of texts, without gradients; a text that is too long is cut off."""
    ids = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return text_encoder(ids.to(text_encoder.device)).last_hidden_state


def generate(
    pipeline: StableDiffusionPipeline,
    captions: Sequence[str],
    seeds: Sequence[int],
    guidance_scale: float = 3.0,
    num_steps: int = 20,
    batch_size: int = 64,
) -> np.ndarray:
    """Draw an image for each caption, (N, 3, S, S) uint8; all noise of image i is from seeds[i].

    guidance_scale: of classifier-free guidance, 1 = none. num_steps: of the pipeline's sampler.
    """
    size = pipeline.unet.config.sample_size
    latents = seeded_normal(list(seeds), (pipeline.unet.config.in_channels, size, size))
    parts = []
    for first in progress(range(0, len(captions), batch_size), description="text to image", unit="batch"):
        part = slice(first, first + batch_size)
        with torch.inference_mode():  # in float32: under autocast the sampler would round the image at every step
            drawn = pipeline(
                list(captions[part]),
                latents=latents[part].to(device()),
                guidance_scale=guidance_scale,
                num_inference_steps=num_steps,
                output_type="pt",
            ).images  # (B, 3, S, S) float 0..1
        parts.append(to_uint8(drawn * 2 - 1))
    return np.concatenate(parts)
