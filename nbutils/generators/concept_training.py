"""Training of textual inversion: many concepts side by side, each as it would train alone."""

from collections.abc import Callable, Sequence

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from nbutils.generators.latent_training import LatentBatches, denoising_error
from nbutils.generators.token_embeddings import encode_vectors
from nbutils.training import Method, autocast, device


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
        errors = denoising_error(
            self.pipeline.unet, self.scheduler, latents, noise, t, states.repeat_interleave(size, dim=0)
        )
        losses = errors.unflatten(0, (concepts, size)).flatten(1).mean(1)
        self.optimizers["generator"].zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizers["generator"].step()
        return {"loss": losses.detach().mean()}


def concept_batches(
    concepts: Sequence[Tensor], batch_size: int, seeds: Sequence[int], scale: float, num_timesteps: int
) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
    """Return a function from step to scaled latents, noise (E, B, C, h, w) and times (E, B) int64, a row per concept.

    concepts: means and log-variances (N_e, 2 C, h, w) of each one's images. A row depends on its images and seed alone,
    not on the concepts beside it; see LatentBatches.
    """
    alone = [
        LatentBatches(moments[None], batch_size, seed, scale, num_timesteps)
        for moments, seed in zip(concepts, seeds, strict=True)
    ]

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = [batches(step) for batches in alone]
        latents, noise, t = (torch.stack(parts).to(device()) for parts in zip(*rows, strict=True))
        return latents, noise, t

    return batch
