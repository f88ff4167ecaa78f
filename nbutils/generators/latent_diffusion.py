"""What generators on a pre-trained text-to-image pipeline share: the pipeline, and images to its latents and back."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from nbutils import weights
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.images import ImageSet, in_colour, in_shape, resize
from nbutils.pipelines import decode, encode, load_autoencoder, load_pipeline


@dataclass(frozen=True)
class LatentDiffusionConfig(GeneratorConfig):
    """Settings of every generator on a pipeline.

    pipeline: a complete folder of diffusers' StableDiffusionPipeline, by a name that nbutils.weights knows: of a prior,
        of Stable Diffusion, "folder:PATH", or a hub id with its commit.
    small_autoencoder: another one that shares the small prior's latents, for images of at most half the size that the
        pipeline's own takes; unused where the pipeline's latents have another number of channels. None = none.
    guidance_scale: of classifier-free guidance, 1 = none. sampler: a key of text_sampling.SAMPLERS.
    """

    pipeline: str = "prior-text-to-image"
    small_autoencoder: str | None = None
    guidance_scale: float = 2.0
    sampler: str = "euler-ancestral"
    num_sampling_steps: int = 100


@lru_cache(maxsize=1)
def _pipeline(name: str, checksum: str) -> StableDiffusionPipeline:
    """Return the pipeline, loaded once for all generators on it; the checksum tells weights apart."""
    del checksum
    with torch.inference_mode(False):  # it may first be needed for drawing, and be trained through later
        return load_pipeline(weights.locate(name))


@lru_cache(maxsize=2)
def _autoencoder(name: str, checksum: str) -> AutoencoderKL:
    del checksum
    with torch.inference_mode(False):
        return load_autoencoder(weights.locate(name))


class LatentDiffusionGenerator(Generator):
    """A generator that leaves a pre-trained pipeline as it is, for others to use, and keeps what it adds to it."""

    @property
    def pipeline(self) -> StableDiffusionPipeline:
        """The frozen pipeline, the same one for all generators on it."""
        return _pipeline(self.config.pipeline, weights.checksum(self.config.pipeline))

    @property
    def autoencoder(self) -> AutoencoderKL:
        """The frozen autoencoder that turns images into the pipeline's latents."""
        name = self.config.small_autoencoder
        if name is None or 2 * self.card["image_size"] > self._pixels(self.pipeline.vae):
            return self.pipeline.vae
        small = _autoencoder(name, weights.checksum(name))
        shared = small.config.latent_channels == self.pipeline.unet.config.in_channels
        return small if shared else self.pipeline.vae

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the pipeline's files included."""
        return {**super().key(images), "pretrained": {name: weights.checksum(name) for name in self.pretrained()}}

    def pretrained(self) -> list[str]:
        return [name for name in (self.config.pipeline, self.config.small_autoencoder) if name is not None]

    @property
    def working_size(self) -> int:
        """Pixels at which the autoencoder gives latents of the network's size; images are resized to it and back."""
        return self._pixels(self.autoencoder)

    def _pixels(self, autoencoder: AutoencoderKL) -> int:
        """Return the pixels of images whose latents by this autoencoder have the network's size."""
        halvings = len(autoencoder.config.block_out_channels) - 1
        return self.pipeline.unet.config.sample_size * 2**halvings

    def _moments(self, images: np.ndarray) -> Tensor:
        """Return means and log-variances of the latents of uint8 images (N, C, H, W), (N, 2 C', h, w) float16."""
        return encode(self.autoencoder, in_colour(resize(images, self.working_size)))

    def _decoded(self, latents: Tensor) -> np.ndarray:
        """Return scaled latents as uint8 images (N, C, H, W) of the size and channels that were trained on."""
        drawn = decode(self.autoencoder, latents / self.pipeline.vae.config.scaling_factor)
        return in_shape(drawn, self.card["channels"], self.card["image_size"])
