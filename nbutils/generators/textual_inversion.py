"""Textual inversion (Gal et al. 2022) as de Wilde et al. 2023 use it: one embedding of many vectors for each class."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.generators.concept_training import Embeddings, TextualInversionMethod, concept_batches
from nbutils.generators.latent_diffusion import LatentDiffusionConfig, LatentDiffusionGenerator
from nbutils.generators.text_sampling import Conditions, Known, draw_latents, new_sampler
from nbutils.generators.token_embeddings import (
    TokenEmbedding,
    encode_nothing,
    encode_vectors,
    initial_vectors,
    load_embedding,
    save_embedding,
)
from nbutils.images import ImageSet, to_float
from nbutils.progress import progress
from nbutils.scales import choose
from nbutils.seeds import derive_seed
from nbutils.training import Method, device

SAMPLING = ("guidance_scale", "sampler", "num_sampling_steps")
__all__ = ["TextualInversion", "TextualInversionConfig", "TokenEmbedding", "load_embedding", "save_embedding"]


@dataclass(frozen=True)
class TextualInversionConfig(LatentDiffusionConfig):
    """Settings of textual inversion; batch_size images of each class make a step.

    num_vectors: that stand for one token, 1..75; a tuple gives each class its own number.
    initial_words, jitter: what the vectors are before training; see token_embeddings.initial_vectors.
    initial_scale: how many times as long as those of words they are; the learning rate grows in proportion. A text
        encoder of two layers drowns vectors of the length of words in what it adds to them.
    learning_rate: of AdamW without weight decay, constant, for vectors of the length of words.
    """

    num_vectors: int | tuple[int, ...] = 64
    initial_words: str = "picture"
    jitter: float = 0.1
    initial_scale: float = 1.0
    learning_rate: float = 0.005


_SMALL = {"small_autoencoder": "prior-autoencoder-32", "initial_scale": 40.0, "sampler": "dpm++"}
"""Settings for the small prior; DPM-Solver++ needs ten steps where Euler ancestral needs 25."""


class TextualInversion(LatentDiffusionGenerator):
    """A frozen text-to-image pipeline, and one embedding per class, trained on the class' images alone.

    Paper scale is that of de Wilde et al.: Stable Diffusion 2.0 at 512 px, 64 vectors, 50,000 steps of one image,
    learning rate 0.005, Euler ancestral with 100 steps, guidance 2. GenMix runs textual inversion on another network
    (LDM trained on LAION-400M, at 256 px); here it is this one. The other scales are ours.
    """

    name = "textual-inversion"
    scales: ClassVar = {
        "smoke": TextualInversionConfig(
            **_SMALL, image_size=16, num_steps=3, batch_size=2, num_vectors=4, num_sampling_steps=1, guidance_scale=1.0
        ),
        "demo": TextualInversionConfig(**_SMALL, image_size=64, num_steps=800, batch_size=16, num_sampling_steps=10),
        "gpu": TextualInversionConfig(**_SMALL, image_size=64, num_steps=5000, batch_size=32, num_sampling_steps=25),
        "paper": TextualInversionConfig(
            image_size=512,
            num_steps=50_000,
            batch_size=1,
            pipeline="stable-diffusion-2",
            sample_batch_size=8,
        ),
    }

    @property
    def embeddings(self) -> dict[str, TokenEmbedding]:
        """The trained embedding of each class, by its name."""
        vectors = self.networks[0].vectors
        return {
            name: TokenEmbedding(f"<{name}>", rows.detach().cpu())
            for name, rows in zip(self.card["class_names"], vectors, strict=True)
        }

    def drawn_with(self, **sampling) -> "TextualInversion":
        """Return the same embeddings, drawn otherwise: guidance_scale, sampler or num_sampling_steps.

        Raises ValueError for other settings.
        """
        for name in sampling:
            choose("sampling setting", name, dict.fromkeys(SAMPLING))
        other = copy(self)
        other.config = replace(self.config, **sampling)
        other.card = {**self.card, "config": asdict(other.config)}
        return other

    def cost(self) -> dict[str, float | bool]:
        """Return what it took, see Generator.cost; a step sees batch_size images of each class."""
        found = super().cost()
        return {**found, "images_seen": found["images_seen"] * len(self.card["class_names"])}

    def build(self, num_classes: int, channels: int, image_size: int) -> TextualInversionMethod:
        """Return the classes' initial vectors with their optimiser and training step.

        Raises ValueError if so many vectors do not fit into a text, or are given for another number of classes, and
        what weights.locate raises.
        """
        pipeline, config, counts = self.pipeline, self.config, self.config.num_vectors
        counts = (counts,) * num_classes if isinstance(counts, int) else counts
        if len(counts) != num_classes:
            raise ValueError(f"num_vectors gives {len(counts)} numbers of vectors for {num_classes} classes: {counts}.")
        start = [derive_seed(self.seed, self.name, "vectors", concept) for concept in range(num_classes)]
        networks, words = (pipeline.tokenizer, pipeline.text_encoder), config.initial_words
        vectors = [
            config.initial_scale * initial_vectors(*networks, words, count, config.jitter, seed)
            for count, seed in zip(counts, start, strict=True)
        ]
        return TextualInversionMethod(pipeline, Embeddings(vectors), config.initial_scale * config.learning_rate)

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
        """Return batches of all classes side by side; the images are encoded once, here."""
        concepts = [self._moments(images.of_class(label).images) for label in range(images.num_classes)]
        seeds = [derive_seed(self.seed, self.name, "batches", part, label) for label in range(images.num_classes)]
        scale = self.pipeline.vae.config.scaling_factor
        return concept_batches(
            concepts, self.config.batch_size, seeds, scale, method.scheduler.config.num_train_timesteps
        )

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
        and what it blurs across the border of the mask. Raises ValueError for a mask that reaches no latent.
        """
        scale = self.config.guidance_scale
        wanted = F.one_hot(torch.as_tensor(np.asarray(labels), device=device()), len(self.networks[0].vectors)).float()
        drawn = []
        for part in self._chunks(len(images), "inpainting"):
            latents = self._moments(images[part]).float().chunk(2, dim=1)[0] * self.pipeline.vae.config.scaling_factor
            cells = F.adaptive_avg_pool2d(torch.from_numpy(masks[part]).float()[:, None], latents.shape[-1])
            if (masks[part].any((1, 2)) & ~(cells >= 0.5).flatten(1).any(1).numpy()).any():
                raise ValueError("A mask covers less than half of every cell of the latents: nothing would be drawn.")
            known = Known(latents.to(device()), (cells >= 0.5).float().to(device()))
            drawn.append(self._drawn(self.networks[0], wanted[part], seeds[part], scale, known))
        return np.concatenate(drawn)

    def rebuild(self, images: np.ndarray) -> np.ndarray:
        """Return images (N, C, H, W) uint8 as they come out of the autoencoder: what inpainting can keep of them."""
        latents = self._moments(images).float().chunk(2, dim=1)[0]
        return self._decoded(latents * self.pipeline.vae.config.scaling_factor)

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
            sampler = new_sampler(self.pipeline.scheduler, self.config.sampler, self.config.num_sampling_steps)
            return self._decoded(draw_latents(self.pipeline.unet, sampler, given, list(seeds), scale, known))

    def _chunks(self, count: int, verb: str):
        """Yield slices of sample_batch_size images, behind a progress bar."""
        size = self.config.sample_batch_size
        for first in progress(range(0, count, size), description=f"{self.name}: {verb}", unit="batch"):
            yield slice(first, first + size)
