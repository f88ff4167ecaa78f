"""Class-conditional latent diffusion (Rombach et al. 2022) on the vectors of a VQ autoencoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import VQModel
from torch import Tensor, nn
from torch.optim import AdamW

from nbutils import weights
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.gan import full_precision
from nbutils.generators.image_codes import encoded_once
from nbutils.generators.latent_training import VectorBatches, denoising_error
from nbutils.generators.text_sampling import Conditions, draw_latents, new_sampler
from nbutils.images import ImageSet, in_shape, to_float
from nbutils.models.ldm import ClassConditionalUNet, UNetConfig, build_vq_f8, noise_schedule
from nbutils.models.ldm_layout import load_first_stage, load_unet
from nbutils.pipelines import decode, encode, load_autoencoder
from nbutils.seeds import derive_seed
from nbutils.training import Method, TrainingLog, device, placed, set_learning_rate

STRIDE = 8
"""Pixels of an image for each of its latents' places, in one direction."""

SMALLEST = 64
"""Pixels that smaller images are enlarged to, so that 8 x 8 places are left of them."""

STATE_DICT = "state_dict"  # of a published file, among what else it holds


@dataclass(frozen=True)
class LDMConfig(GeneratorConfig):
    """Settings of latent diffusion.

    first_stage: the VQ autoencoder, by a name that nbutils.weights knows: a folder of diffusers' VQModel, or a file in
        CompVis' layout, of VQ-f8 alone or of latent diffusion; it is not trained here.
    initial_weights: a file of cin-ldm-vq-f8 in CompVis' layout to start from, None = random weights. Its classes are
        taken over where there are as many.
    widths ... class_width: the network, see models.ldm.UNetConfig.
    prediction: "epsilon" (Rombach et al.), or "v_prediction", see diffusion_training.DiffusionConfig.
    learning_rate, weight_decay: of AdamW. warmup_steps, cooldown: see training.pace. ema_decay: of the moving average
        of all weights, from which samples are drawn (CompVis averages those of the U-Net alone).
    sampler: a key of text_sampling.SAMPLERS. num_sampling_steps: evaluations of the network per image.
    """

    first_stage: str = "prior-vq-f8"
    initial_weights: str | None = None
    widths: tuple[int, ...] = UNetConfig.widths
    layers_per_block: int = UNetConfig.layers_per_block
    head_channels: int = UNetConfig.head_channels
    norm_groups: int = UNetConfig.norm_groups
    class_width: int = UNetConfig.class_width
    prediction: str = "epsilon"
    learning_rate: float = 8e-6
    weight_decay: float = 0.01
    warmup_steps: int = 0
    cooldown: float = 0.0
    ema_decay: float = 0.9999
    sampler: str = "ddim"
    num_sampling_steps: int = 50

    @property
    def unet(self) -> UNetConfig:
        """The settings of the network."""
        return UNetConfig(self.widths, self.layers_per_block, self.head_channels, self.norm_groups, self.class_width)


_SMALL = {"layers_per_block": 1, "head_channels": 8, "norm_groups": 8, "prediction": "v_prediction", "sampler": "dpm++"}


@lru_cache(maxsize=1)
def _first_stage(name: str, checksum: str) -> VQModel:
    """Return the frozen first stage, loaded once for all generators on it; the checksum tells weights apart."""
    del checksum
    path = weights.locate(name)
    with torch.inference_mode(False):  # it may first be needed for drawing
        if path.is_dir():
            return load_autoencoder(path, VQModel)
        autoencoder = build_vq_f8()
        load_first_stage(autoencoder, _read(path))
        return placed(autoencoder.eval().requires_grad_(False), memory_format=torch.channels_last)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a file, which may be one entry of it; raises what weights.read_safely raises."""
    found = weights.read_safely(path)
    state = found.get(STATE_DICT, found) if isinstance(found, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


class LDMMethod(Method):
    """The training step: AdamW on the squared error of the prediction, U-Net and classes together."""

    def __init__(self, network: ClassConditionalUNet, config: LDMConfig):
        network = network.to(memory_format=torch.channels_last)
        adam = AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay, foreach=True)
        super().__init__({"generator": network}, {"generator": adam}, {"generator": config.ema_decay})
        self.config, self.scheduler = config, noise_schedule(config.prediction)

    def step(self, step: int, latents: Tensor, noise: Tensor, t: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do one step on scaled latents and noise (B, 4, h, w), times and labels (B,) int64."""
        network, optimizer = self.modules["generator"], self.optimizers["generator"]
        set_learning_rate(optimizer, step, self.config)
        states = network.states(labels)
        loss = denoising_error(network.unet, self.scheduler, latents, noise, t, states).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}


class LatentDiffusion(Generator):
    """A pre-trained first stage that stays as it is, and diffusion on its vectors, told the class by 512 numbers.

    Diffusion works on the encoder's vectors before they become codes; the decoder takes the nearest codes of what was
    drawn. So it is in CompVis' cin-ldm-vq-f8, whose configuration Xing et al. (Section III) published with another
    number of classes. It names VQ-f8, trained on OpenImages, and no other weights: the rest starts from random ones.
    Stated there: all sizes, the noise, batch 8 at 256 px, and a learning rate of 1e-6, which CompVis' script multiplies
    with the batch (on one GPU). Not stated: steps, sampler, guidance; so here there is none of the last.

    Below paper scale the first stage is a prior of ours. Of MAGE's tokenizer the vectors would do, too, but its factor
    is 4: 16 x 16 places of 32 numbers for 64 px, where VQ-f8 has 8 x 8 places of 4.
    """

    name = "ldm"
    scales: ClassVar = {
        "smoke": LDMConfig(
            image_size=16,
            num_steps=3,
            batch_size=4,
            widths=(8, 16),
            learning_rate=1e-3,
            ema_decay=0.5,
            num_sampling_steps=2,
            **_SMALL,
        ),
        "demo": LDMConfig(
            image_size=64,
            num_steps=4000,
            batch_size=32,
            flip=True,
            widths=(24, 40),
            learning_rate=2e-3,
            warmup_steps=100,
            cooldown=0.5,
            ema_decay=0.995,
            num_sampling_steps=12,
            **_SMALL,
        ),
        "gpu": LDMConfig(
            image_size=128,
            num_steps=30_000,
            batch_size=64,
            flip=True,
            widths=(96, 192, 288),
            learning_rate=3e-4,
            warmup_steps=500,
            cooldown=0.5,
            ema_decay=0.999,
            num_sampling_steps=25,
            **_SMALL | {"head_channels": 32, "norm_groups": 32, "layers_per_block": 2},
        ),
        # Steps and sampling are our choice.
        "paper": LDMConfig(
            image_size=256, num_steps=100_000, batch_size=8, first_stage="vq-f8-openimages", sample_batch_size=8
        ),
    }

    @property
    def first_stage(self) -> VQModel:
        """The frozen first stage, the same one for all generators on it."""
        return _first_stage(self.config.first_stage, weights.checksum(self.config.first_stage))

    @property
    def working_size(self) -> int:
        """Pixels of the images that are encoded; others are resized to it and back."""
        return self._working_size(self.card["image_size"])

    def _working_size(self, image_size: int) -> int:
        """Return the size at which all levels of the U-Net have whole numbers of places."""
        multiple = STRIDE * 2 ** (len(self.config.widths) - 1)
        return max(SMALLEST, -(-image_size // multiple) * multiple)

    def build(self, num_classes: int, channels: int, image_size: int) -> LDMMethod:
        """Return a network with random weights, its optimiser and training step."""
        side = self._working_size(image_size) // STRIDE
        return LDMMethod(ClassConditionalUNet(self.config.unet, num_classes, side), self.config)

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone.

        In full precision: a vector that depends on who else is drawn would come to lie by another code.
        """
        config = self.config
        sampler = new_sampler(noise_schedule(config.prediction), config.sampler, config.num_sampling_steps)
        with full_precision():
            states = network.states(labels)
            nothing = torch.zeros_like(states[0])  # no class at all, which without guidance has no share
            given = Conditions(states[:, None], torch.ones(len(labels), 1, device=labels.device), nothing)
            latents = draw_latents(network.unet, sampler, given, seeds, scale=1.0)
        drawn = decode(self.first_stage, latents / self.first_stage.config.scaling_factor)
        return to_float(in_shape(drawn, self.card["channels"], self.card["image_size"])).to(labels.device)

    def pretrained(self) -> list[str]:
        return [name for name in (self.config.first_stage, self.config.initial_weights) if name is not None]

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the files that it starts from included."""
        return {**super().key(images), "pretrained": {name: weights.checksum(name) for name in self.pretrained()}}

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, ...]]:
        """Return batches of latents and labels; an image is encoded once, however many generators are trained on it."""
        config, first_stage = self.config, self.first_stage
        key = {"first_stage": weights.checksum(config.first_stage), "image_size": self.working_size}

        def vectors_of(pixels: np.ndarray) -> np.ndarray:
            return encode(first_stage, pixels).numpy()

        vectors = encoded_once("latents", key, images.images, config.flip, self.working_size, vectors_of)
        batches = VectorBatches(
            vectors,
            config.batch_size,
            derive_seed(self.seed, self.name, "batches", part),
            first_stage.config.scaling_factor,
            method.scheduler.config.num_train_timesteps,
        )
        labels = torch.from_numpy(images.labels)

        def batch(step: int) -> tuple[Tensor, ...]:
            return tuple(part.to(device()) for part in (*batches(step), labels[batches.indices(step)]))

        return batch

    def _train(self, method: Method, images: ImageSet, part: int, checkpoint: Path | None) -> TrainingLog:
        """Train from the pre-trained weights where the config names some."""
        if self.config.initial_weights is not None:
            self._start_from_pretrained(method, self.config.initial_weights)
        return super()._train(method, images, part, checkpoint)

    def _start_from_pretrained(self, method: Method, name: str) -> None:
        """Copy pre-trained weights into the network and its moving average, and note on the card what was not there."""
        network = method.modules["generator"]
        classes = load_unet(network, _read(weights.locate(name)))
        method.averages["generator"].module.load_state_dict(network.state_dict())
        changed = [] if classes else ["classes"]
        self.card["initial_weights"] = {"name": name, "sha256": weights.checksum(name), "changed": changed}
