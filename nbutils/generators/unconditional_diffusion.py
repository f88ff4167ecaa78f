"""Unconditional diffusion: the generator `diffusion` trained without labels, whose classes come from guidance alone."""

from pathlib import Path
from typing import ClassVar

from nbutils.generators.diffusion import Diffusion
from nbutils.generators.diffusion_training import DiffusionConfig, DiffusionMethod
from nbutils.images import ImageSet, unlabelled
from nbutils.training import TrainingLog


class UnconditionalDiffusion(Diffusion):
    """ADM without classes (IOIS, Section 2.1): no label reaches its training, all its images are of one class.

    nbutils.guidance draws images of the data set's classes from it. Paper scale is the network of the published code,
    ADM at 128 px, with its steps; its batch, learning rate and missing labels are those of the script there that trains
    on images. Where that code gives every level four attention heads, ours have 64 channels, as ADM's own ablation
    prefers; the weights have the same shapes. The other scales are those of `diffusion`.
    """

    name = "unconditional-diffusion"
    version = 1
    scales: ClassVar = {
        **Diffusion.scales,
        "paper": DiffusionConfig(
            image_size=128,
            num_steps=50_000,
            batch_size=48,
            num_channels=256,
            num_res_blocks=2,
            channel_mult=(1, 1, 2, 3, 4),
            attention_resolutions=(32, 16, 8),
            num_head_channels=64,
            sampler="ddim",
            num_sampling_steps=50,
            sample_batch_size=32,
        ),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> DiffusionMethod:
        """Return a network without classes, however many there are, with its optimiser and training step."""
        return super().build(1, channels, image_size)

    def fit(self, images: ImageSet, checkpoint_folder: Path | None = None) -> TrainingLog:
        """Train on `images` (real training images only) whatever their labels, and return the log."""
        return super().fit(unlabelled(images), checkpoint_folder)

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights; the labels do not."""
        return super().key(unlabelled(images))

    def estimate_seconds(self, images: ImageSet, num_steps: int = 3) -> float:
        """Return how long fit(images) will take here, in seconds."""
        return super().estimate_seconds(unlabelled(images), num_steps)
