"""Training of the diffusion generator: its settings, one step on the hybrid loss, and pictures of the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import AdamW

from nbutils.generators.base import GeneratorConfig
from nbutils.generators.diffusion_sampling import new_sampler, sample
from nbutils.images import to_uint8
from nbutils.models.adm import ADM
from nbutils.models.diffusion_loss import HybridLoss, spread_time_steps
from nbutils.training import Method, autocast, device, set_learning_rate

SNAPSHOT_SEED = 0


@dataclass(frozen=True)
class DiffusionConfig(GeneratorConfig):
    """Settings of a diffusion model.

    num_channels ... dropout, norm_groups, patch_size: the network, in the words of `nbutils.models.adm.ADM`;
    use_checkpoint: recompute activations in the backward pass, for memory.
    schedule: "linear" (ADM) or "cosine". num_timesteps: T of the training.
    prediction: "epsilon" (ADM), or "v": the same loss on a mix of noise and image, which bounds the error that a
        network after few steps makes where the image is nearly all noise.
    learning_rate, weight_decay: of AdamW. warmup_steps, cooldown: steps at the start, and share of steps at the end,
        in which the learning rate rises from and falls to zero in proportion; 0 and 0 as in ADM.
    ema_decay: of the moving average of the weights that samples are drawn from.
    initial_weights: pre-trained weights to start from, a name known to `nbutils.weights`, None = random weights
        (asked for by diffusion.RANDOM where the scale names some).
    sampler: "ddpm" (ADM: ancestral, with the learned variance), "ddim" (eta 0) or "dpm++" (second-order multistep).
    num_sampling_steps: evaluations of the network per image.
    num_snapshots: times at which one image of each class is drawn during training, from the same noise, to see it learn
        (GenMix, Fig. 2); the first before the first step, the next ones further and further apart, and one at the end.
    """

    num_channels: int = 16
    num_res_blocks: int = 1
    channel_mult: tuple[float, ...] = (1, 2)
    attention_resolutions: tuple[int, ...] = (8,)
    num_head_channels: int = 16
    resblock_updown: bool = True
    dropout: float = 0.0
    norm_groups: int = 32
    patch_size: int = 1
    use_checkpoint: bool = False
    schedule: str = "linear"
    num_timesteps: int = 1000
    prediction: str = "epsilon"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 0
    cooldown: float = 0.0
    ema_decay: float = 0.9999
    initial_weights: str | None = None
    sampler: str = "dpm++"
    num_sampling_steps: int = 20
    num_snapshots: int = 8


def snapshot_steps(config: DiffusionConfig) -> list[int]:
    """Return the steps before which a snapshot is drawn, ascending from 0."""
    shares = (torch.arange(config.num_snapshots) / config.num_snapshots) ** 3
    return sorted({int(share * config.num_steps) for share in shares.tolist()})


def draw(network: ADM, labels: Tensor, seeds: Sequence[int], shape: Sequence[int], config: DiffusionConfig) -> Tensor:
    """Draw images (B, *shape) float -1..1 of labels (B,) int64 with the config's sampler, image i from seeds[i]."""
    y = None if network.num_classes is None else labels
    return sample(lambda x, t: network(x, t, y), new_sampler(config), seeds, shape)


class DiffusionMethod(Method):
    """The training step of ADM: AdamW on the hybrid loss at random time steps."""

    def __init__(self, network: ADM, config: DiffusionConfig):
        network = network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        optimizer = AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True)
        super().__init__({"generator": network}, {"generator": optimizer}, {"generator": config.ema_decay})
        self.config = config
        self.loss = HybridLoss(config.schedule, config.num_timesteps, config.prediction)
        self.snapshots: dict[int, Tensor] = {}

    def extra_state(self) -> dict:
        """Return the snapshots."""
        return {"snapshots": self.snapshots}

    def load_extra_state(self, state: dict) -> None:
        """Take back the snapshots."""
        self.snapshots = {step: images.cpu() for step, images in state["snapshots"].items()}

    def step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do one step on images (B, C, H, W) -1..1, and return the error of the prediction and the bound in bits."""
        if step in snapshot_steps(self.config):
            self.take_snapshot(step, images.shape[1:])
        network, optimizer = self.modules["generator"], self.optimizers["generator"]
        config = self.config
        set_learning_rate(optimizer, step, config)
        y = None if network.num_classes is None else labels
        t = spread_time_steps(len(images), config.num_timesteps).to(images.device)
        with autocast():
            simple, vlb = self.loss.to(images.device)(network, images, t, y)
        optimizer.zero_grad()
        (simple + vlb).mean().backward()
        optimizer.step()
        return {"loss_simple": simple.mean().detach(), "loss_bound": vlb.mean().detach()}

    def take_snapshot(self, step: int, shape: Sequence[int]) -> None:
        """Draw an image of each class, (num_classes, C, H, W) uint8, with the moving average, from seeds of its own."""
        network = self.averages["generator"].module.eval()
        labels = torch.arange(network.num_classes or 1, device=device())
        with torch.inference_mode(), autocast():
            drawn = draw(network, labels, [SNAPSHOT_SEED] * len(labels), shape, self.config)
        self.snapshots[step] = torch.from_numpy(to_uint8(drawn.float()))
