"""Training VQ-VAE-2: its settings, and the step of each stage, first the autoencoder, then a prior for each level."""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.generators.base import GeneratorConfig
from nbutils.models.autoregressive import Prior
from nbutils.models.codes import perplexity
from nbutils.models.vqvae2 import VQVAE2
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, autocast, device, set_learning_rate

LEVELS = ("top", "bottom")


@dataclass(frozen=True)
class VQVAE2Config(GeneratorConfig):
    """Settings of VQ-VAE-2; field values not set by a scale are those of Razavi et al. for ImageNet at 256 px.

    stage_steps: of the autoencoder, the top prior and the bottom prior; num_steps is their sum, and where it is another
        number each stage keeps its share. batch_size: of the autoencoder; top_batch_size, bottom_batch_size: of the
        priors.
    channels, residual_channels, num_blocks, code_dim, num_codes, codebook_decay, revived_after: see
        models.vqvae2.AutoencoderConfig. commitment: beta of Eq. 2.
    prior_width, prior_layers, filter_size, attention_every, attention_heads, output_layers, condition_layers, dropout:
        see models.autoregressive.PriorConfig; attention and the output layers are of the top prior alone, the condition
        of the bottom one. top_residual_channels, bottom_residual_channels: PriorConfig.residual_channels of each.
    learning_rate, prior_learning_rate: of Adam. warmup_steps, cooldown: of each stage, see training.pace.
    """

    stage_steps: tuple[int, int, int] = (2_207_444, 1_600_000, 754_000)
    top_batch_size: int = 1024
    bottom_batch_size: int = 512
    channels: int = 128
    residual_channels: int = 64
    num_blocks: int = 2
    code_dim: int = 64
    num_codes: int = 512
    codebook_decay: float = 0.99
    revived_after: int = 50
    commitment: float = 0.25
    prior_width: int = 512
    top_residual_channels: int = 2048
    bottom_residual_channels: int = 1024
    prior_layers: int = 20
    filter_size: int = 5
    attention_every: int = 5
    attention_heads: int = 8
    output_layers: int = 20
    condition_layers: int = 20
    dropout: float = 0.1
    learning_rate: float = 3e-4
    prior_learning_rate: float = 3e-4
    warmup_steps: int = 0
    cooldown: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the training. first: the number of its first step; the rest as in VQVAE2Config."""

    name: str
    first: int
    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    cooldown: float


def stages(config: VQVAE2Config) -> list[Stage]:
    """Return the stages: "autoencoder", "top", "bottom"; together they take num_steps, each its share."""
    total = sum(config.stage_steps)
    ends = [round(config.num_steps * done / total) for done in accumulate(config.stage_steps)]
    batch_sizes = (config.batch_size, config.top_batch_size, config.bottom_batch_size)
    rates = (config.learning_rate, config.prior_learning_rate, config.prior_learning_rate)
    return [
        Stage(name, first, end - first, batch_size, rate, config.warmup_steps, config.cooldown)
        for name, first, end, batch_size, rate in zip(
            ("autoencoder", *LEVELS), [0, *ends], ends, batch_sizes, rates, strict=False
        )
    ]


def stage_at(parts: list[Stage], step: int) -> Stage:
    """Return the stage that a step belongs to."""
    return next(stage for stage in parts if step < stage.first + stage.num_steps)


class CodeBatches(BatchOrder):
    """Batches of top codes (B, h, w), bottom codes (B, 2 h, 2 w) and labels (B,) on the device, by the step.

    codes: of all images by level, (S, N, ...) int64; S = 2 if those of mirrored images come second, which are then
    taken as often. See BatchOrder for which images.
    """

    def __init__(self, codes: dict[str, Tensor], labels: np.ndarray, batch_size: int, seed: int):
        super().__init__(len(labels), batch_size, seed)
        self.codes, self.labels = [codes[level] for level in LEVELS], torch.from_numpy(labels)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "flip", step))
        sides = torch.randint(len(self.codes[0]), (self.batch_size,), generator=generator)
        chosen = self.indices(step)
        return tuple(
            part.to(device()) for part in (*(codes[sides, chosen] for codes in self.codes), self.labels[chosen])
        )


class Hierarchy(nn.Module):
    """All that draws an image: the autoencoder and the priors over its top and bottom codes."""

    def __init__(self, autoencoder: VQVAE2, top: Prior, bottom: Prior):
        super().__init__()
        self.autoencoder, self.top, self.bottom = autoencoder, top, bottom

    def forward(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """Draw images (B, C, H, W), nominally -1..1, of labels (B,) by uniform numbers (B, N), one for each code."""
        for_top, for_bottom = uniform.tensor_split([self.top.config.grid**2], dim=1)
        top = self.top.sample(labels, for_top)
        return self.autoencoder.decode(top, self.bottom.sample(labels, for_bottom, top))


class VQVAE2Method(Method):
    """One step of whatever stage it is the turn of; the networks of the other stages stay as they are."""

    def __init__(self, networks: Hierarchy, config: VQVAE2Config):
        self.config, self.stages, self.networks = config, stages(config), networks
        parts = {stage.name: networks.get_submodule(stage.name) for stage in self.stages}
        optimizers = {
            name: torch.optim.Adam([p for p in part.parameters() if p.requires_grad], fused=True)
            for name, part in parts.items()
        }
        super().__init__({"generator": networks}, optimizers)

    def step(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """Do one step on images -1..1 and labels in the first stage, on top codes, bottom codes and labels later."""
        stage = stage_at(self.stages, step)
        optimizer = self.optimizers[stage.name]
        set_learning_rate(optimizer, step - stage.first, stage)
        first = stage.name == "autoencoder"
        loss, scalars = self._rebuild(*batch) if first else self._predict(stage.name, *batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return scalars

    def _rebuild(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return Eq. 2 with moving averages in place of its second term, and let the codebooks follow the vectors."""
        autoencoder = self.networks.autoencoder
        with autocast():
            rebuilt, levels = autoencoder(images)
        scalars = {"loss_reconstruction": F.mse_loss(rebuilt.float(), images)}
        loss = scalars["loss_reconstruction"]
        for level, (z, codes) in levels.items():
            codebook = autoencoder.get_submodule(level)
            commitment = F.mse_loss(z.float(), codebook.vectors(codes))
            loss = loss + self.config.commitment * commitment
            scalars |= {f"commitment_{level}": commitment, f"codes_{level}": perplexity(codes, self.config.num_codes)}
        for level, (z, codes) in levels.items():
            autoencoder.get_submodule(level).update(z.detach(), codes)
        return loss, {name: value.detach() for name, value in scalars.items()}

    def _predict(self, level: str, top: Tensor, bottom: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood of a level's codes, in nats for each."""
        prior, (codes, above) = self.networks.get_submodule(level), {"top": (top, None), "bottom": (bottom, top)}[level]
        with autocast():
            logits = prior(codes, labels, above)
        loss = F.cross_entropy(logits.float(), codes)
        return loss, {f"loss_{level}": loss.detach()}

    def extra_state(self) -> dict:
        return {level: self.networks.autoencoder.get_submodule(level).averages() for level in LEVELS}

    def load_extra_state(self, state: dict) -> None:
        for level, averages in state.items():
            self.networks.autoencoder.get_submodule(level).load_averages(averages)
