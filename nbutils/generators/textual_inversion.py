"""Textual inversion (Gal et al. 2022) as de Wilde et al. 2023 use it: one embedding of many vectors for each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils import weights
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.text_sampling import Conditions, Known, draw_latents, new_sampler
from nbutils.generators.token_embeddings import (
    TokenEmbedding,
    encode_nothing,
    encode_vectors,
    initial_vectors,
    load_embedding,
    save_embedding,
)
from nbutils.images import ImageSet, resize, to_float
from nbutils.models.diffusion_loss import spread_time_steps
from nbutils.pipelines import decode, encode, load_autoencoder, load_pipeline, sampled
from nbutils.progress import progress
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, TrainingLog, autocast, device, train

__all__ = ["TextualInversion", "TextualInversionConfig", "TokenEmbedding", "load_embedding", "save_embedding"]


@dataclass(frozen=True)
class TextualInversionConfig(GeneratorConfig):
    """Settings of textual inversion; batch_size images of each class make a step.

    pipeline: a complete folder of diffusers' StableDiffusionPipeline, by a name that nbutils.weights knows: of a prior,
        of Stable Diffusion, "folder:PATH", or a hub id with its commit.
    autoencoder: another one that shares the pipeline's latents, for images of another size, None = the pipeline's.
    num_vectors: that stand for one token, 1..75.
    initial_words, jitter: what the vectors are before training; see token_embeddings.initial_vectors.
    learning_rate: of AdamW without weight decay, constant.
    guidance_scale: of classifier-free guidance, 1 = none. sampler: a key of text_sampling.SAMPLERS.
    """

    pipeline: str = "prior-text-to-image"
    autoencoder: str | None = None
    num_vectors: int = 64
    initial_words: str = "picture"
    jitter: float = 0.1
    learning_rate: float = 0.005
    guidance_scale: float = 2.0
    sampler: str = "euler-ancestral"
    num_sampling_steps: int = 100


class Embeddings(nn.Module):
    """One matrix of vectors for each concept: what is trained, and all that is kept."""

    def __init__(self, vectors: Sequence[Tensor]):
        super().__init__()
        self.vectors = nn.ParameterList(nn.Parameter(rows) for rows in vectors)


class TextualInversionMethod(Method):
    """The training step of textual inversion: AdamW on the vectors; pipeline, text encoder included, stays frozen."""

    def __init__(self, pipeline: StableDiffusionPipeline, embeddings: Embeddings, learning_rate: float):
        adam = torch.optim.AdamW(embeddings.parameters(), learning_rate, weight_decay=0.0, foreach=True)
        super().__init__({"generator": embeddings}, {"generator": adam})
        self.pipeline = pipeline
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def step(self, step: int, latents: Tensor, noise: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Do one step on scaled latents and noise (E, B, C, h, w) and times (E, B) int64, a row for each concept.

        Each concept gets the gradient of its own mean error, so that many train side by side as each would alone.
        """
        concepts, size = t.shape
        latents, noise, t = latents.flatten(0, 1), noise.flatten(0, 1), t.flatten()
        with autocast():
            states = encode_vectors(
                self.pipeline.tokenizer, self.pipeline.text_encoder, list(self.modules["generator"].vectors)
            )
            noisy = self.scheduler.add_noise(latents, noise, t).contiguous(memory_format=torch.channels_last)
            predicted = self.pipeline.unet(noisy, t, states.repeat_interleave(size, dim=0)).sample
        epsilon = self.scheduler.config.prediction_type == "epsilon"
        target = noise if epsilon else self.scheduler.get_velocity(latents, noise, t)
        losses = (
            F.mse_loss(predicted.float(), target, reduction="none").unflatten(0, (concepts, size)).flatten(1).mean(1)
        )
        self.optimizers["generator"].zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizers["generator"].step()
        return {"loss": losses.detach().mean()}


@lru_cache(maxsize=1)
def _pipeline(name: str, checksum: str) -> StableDiffusionPipeline:
    """Return the pipeline, loaded once for all generators on it; the checksum tells weights apart."""
    del checksum
    return load_pipeline(weights.locate(name))


@lru_cache(maxsize=2)
def _autoencoder(name: str, checksum: str) -> AutoencoderKL:
    del checksum
    return load_autoencoder(weights.locate(name))


class TextualInversion(Generator):
    """A frozen text-to-image pipeline, and one embedding per class, trained on the class' images alone.

    Paper scale is that of de Wilde et al.: Stable Diffusion 2.0 at 512 px, 64 vectors, 50,000 steps of one image,
    learning rate 0.005, Euler ancestral with 100 steps, guidance 2. GenMix runs textual inversion on another network
    (LDM trained on LAION-400M, at 256 px); here it is this one. The other scales are ours.
    """

    name = "textual-inversion"
    scales: ClassVar = {
        "smoke": TextualInversionConfig(
            image_size=16,
            num_steps=3,
            batch_size=2,
            num_vectors=4,
            num_sampling_steps=3,
            autoencoder="prior-autoencoder-32",
        ),
        "demo": TextualInversionConfig(
            image_size=64, num_steps=1500, batch_size=16, num_vectors=64, num_sampling_steps=25
        ),
        "gpu": TextualInversionConfig(
            image_size=64, num_steps=5000, batch_size=32, num_vectors=64, num_sampling_steps=50
        ),
        "paper": TextualInversionConfig(
            image_size=512,
            num_steps=50_000,
            batch_size=1,
            pipeline="stable-diffusion-2",
            sample_batch_size=8,
        ),
    }

    @property
    def pipeline(self) -> StableDiffusionPipeline:
        """The frozen pipeline."""
        return _pipeline(self.config.pipeline, weights.checksum(self.config.pipeline))

    @property
    def autoencoder(self) -> AutoencoderKL:
        """The frozen autoencoder that turns images into the pipeline's latents."""
        name = self.config.autoencoder
        return self.pipeline.vae if name is None else _autoencoder(name, weights.checksum(name))

    @property
    def embeddings(self) -> dict[str, TokenEmbedding]:
        """The trained embedding of each class, by its name."""
        vectors = self.networks[0].vectors
        return {
            name: TokenEmbedding(f"<{name}>", rows.detach().cpu())
            for name, rows in zip(self.card["class_names"], vectors, strict=True)
        }

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the pipeline's files included."""
        names = [name for name in (self.config.pipeline, self.config.autoencoder) if name is not None]
        return {**super().key(images), "pretrained": {name: weights.checksum(name) for name in names}}

    def build(self, num_classes: int, channels: int, image_size: int) -> TextualInversionMethod:
        """Return the classes' initial vectors with their optimiser and training step.

        Raises ValueError if so many vectors do not fit into a text, and what weights.locate raises.
        """
        pipeline, config = self.pipeline, self.config
        start = [derive_seed(self.seed, self.name, "vectors", concept) for concept in range(num_classes)]
        vectors = [
            initial_vectors(
                pipeline.tokenizer, pipeline.text_encoder, config.initial_words, config.num_vectors, config.jitter, seed
            )
            for seed in start
        ]
        return TextualInversionMethod(pipeline, Embeddings(vectors), config.learning_rate)

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        """Encode the images once, and train all classes side by side."""
        concepts = [self._moments(images.of_class(label).images) for label in range(images.num_classes)]
        seeds = [derive_seed(self.seed, self.name, "batches", part, label) for label in range(images.num_classes)]
        scale = self.pipeline.vae.config.scaling_factor
        times = method.scheduler.config.num_train_timesteps
        batches = concept_batches(concepts, self.config.batch_size, seeds, scale, times)
        seed = derive_seed(self.seed, self.name, "steps", part)
        description = f"{self.name}: training"
        return train(method, batches, self.config.num_steps, seed=seed, description=description, checkpoint=checkpoint)

    @property
    def working_size(self) -> int:
        """Pixels at which the autoencoder gives latents of the network's size; images are resized to it and back."""
        halvings = len(self.autoencoder.config.block_out_channels) - 1
        return self.pipeline.unet.config.sample_size * 2**halvings

    def _moments(self, images: np.ndarray) -> Tensor:
        """Return means and log-variances of the latents of uint8 images (N, C, H, W), (N, 2 C', h, w) float16."""
        resized = resize(images, self.working_size)
        return encode(self.autoencoder, resized.repeat(3 // resized.shape[1], axis=1))

    def _decoded(self, latents: Tensor) -> np.ndarray:
        """Return scaled latents as uint8 images (N, C, H, W) of the size and channels that were trained on."""
        drawn = decode(self.autoencoder, latents / self.pipeline.vae.config.scaling_factor)
        if self.card["channels"] == 1:
            drawn = drawn.mean(axis=1, keepdims=True).round().astype(np.uint8)
        return resize(drawn, self.card["image_size"])

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        wanted = F.one_hot(labels, len(network.vectors)).float()
        return to_float(self._drawn(network, wanted, seeds, self.config.guidance_scale)).to(labels.device)

    def compose(
        self, class_weights: np.ndarray, seeds: Sequence[int], guidance_scale: float | None = None
    ) -> np.ndarray:
        """Draw images (N, C, H, W) uint8 that show several classes, image i from seeds[i] alone.

        class_weights: (N, classes) float, what each image is to show; a row such as [1 - a, a] lies between two
        classes, [0.5, 0.5] with more guidance shows both. guidance_scale: None = the config's. Source: composable
        diffusion (Liu et al. 2022), as in Section 4.3.
        """
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        wanted = torch.as_tensor(np.asarray(class_weights), dtype=torch.float32, device=device())
        parts = self._chunks(len(wanted), "composing")
        return np.concatenate([self._drawn(self.networks[0], wanted[part], seeds[part], scale) for part in parts])

    def inpaint(self, images: np.ndarray, masks: np.ndarray, labels, seeds: Sequence[int]) -> np.ndarray:
        """Draw what is inside the masks anew as `labels` say, and keep the rest; (N, C, H, W) uint8.

        images: (N, C, H, W) uint8. masks: (N, H, W) bool, True = draw; a latent whose part of the image is masked by
        half or more is drawn. labels: (N,) int. Source: Section 4.4; masked denoising with the network for whole
        images (Avrahami et al. 2023, blended latent diffusion). Outside nothing changes but what the autoencoder loses,
        and what it blurs across the border of the mask.
        """
        scale = self.config.guidance_scale
        wanted = F.one_hot(torch.as_tensor(np.asarray(labels), device=device()), len(self.networks[0].vectors)).float()
        drawn = []
        for part in self._chunks(len(images), "inpainting"):
            latents = self._moments(images[part]).float().chunk(2, dim=1)[0] * self.pipeline.vae.config.scaling_factor
            cells = F.adaptive_avg_pool2d(torch.from_numpy(masks[part]).float()[:, None], latents.shape[-1])
            known = Known(latents.to(device()), (cells >= 0.5).float().to(device()))
            drawn.append(self._drawn(self.networks[0], wanted[part], seeds[part], scale, known))
        return np.concatenate(drawn)

    def _drawn(
        self, network: nn.Module, wanted: Tensor, seeds: Sequence[int], scale: float, known: Known | None = None
    ) -> np.ndarray:
        """Draw a batch of images (B, C, H, W) uint8 that show the classes by their weights `wanted` (B, classes)."""
        tokenizer, text_encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        count = int((wanted != 0).sum(1).max())
        chosen = wanted.abs().topk(count, dim=1).indices  # (B, K) classes that any of these images shows
        with torch.inference_mode():
            states = encode_vectors(tokenizer, text_encoder, list(network.vectors))
            given = Conditions(states[chosen], wanted.gather(1, chosen), encode_nothing(tokenizer, text_encoder))
            sampler = new_sampler(self.pipeline, self.config.sampler, self.config.num_sampling_steps)
            return self._decoded(draw_latents(self.pipeline, sampler, given, list(seeds), scale, known))

    def _chunks(self, count: int, verb: str):
        """Yield slices of sample_batch_size images, behind a progress bar."""
        size = self.config.sample_batch_size
        for first in progress(range(0, count, size), description=f"{self.name}: {verb}", unit="batch"):
            yield slice(first, first + size)


def concept_batches(
    concepts: Sequence[Tensor], batch_size: int, seeds: Sequence[int], scale: float, num_timesteps: int
) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
    """Return a function from step to scaled latents, noise (E, B, C, h, w) and times (E, B) int64, a row per concept.

    concepts: means and log-variances (N_e, 2 C, h, w) of each one's images. A row depends on its images and seed alone,
    not on the concepts beside it. Times are those of spread_time_steps.
    """
    orders = [BatchOrder(len(rows), batch_size, seed) for rows, seed in zip(concepts, seeds, strict=True)]

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = []
        for moments, order, seed in zip(concepts, orders, seeds, strict=True):
            generator = torch.Generator().manual_seed(derive_seed(seed, "noise", step))
            latents = scale * sampled(moments[order.indices(step)], generator)
            noise = torch.randn(latents.shape, generator=generator)
            rows.append((latents, noise, spread_time_steps(batch_size, num_timesteps, generator)))
        latents, noise, t = (torch.stack(parts).to(device()) for parts in zip(*rows, strict=True))
        return latents, noise, t

    return batch
