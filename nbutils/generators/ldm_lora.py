"""Latent diffusion fine-tuned by one LoRA (Hu et al. 2021) on captions that name the class."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from nbutils.files import atomic
from nbutils.generators.latent_diffusion import LatentDiffusionConfig, LatentDiffusionGenerator
from nbutils.generators.latent_training import LatentBatches, denoising_error
from nbutils.generators.text_sampling import Conditions, draw_latents, new_sampler
from nbutils.images import ImageSet, to_float
from nbutils.pipelines import encode_texts
from nbutils.seeds import derive_seed
from nbutils.training import Method, device

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of each attention, of pixels to each other and to the text."""

GRADIENT_CLIP = 1.0
"""Largest length of all gradients together, as in diffusers' example."""

FILE_PREFIX = "unet."  # of the names in a file that diffusers reads


@dataclass(frozen=True)
class LDMLoRAConfig(LatentDiffusionConfig):
    """Settings of fine-tuning by LoRA; a step sees batch_size images of all classes as they come.

    caption: of an image, {} = the name of its class, at every scale. The small prior's tokenizer spells a name that its
        texts did not have in pieces, of which the frozen text encoder makes vectors about as different as of words that
        it knows; what they mean is for the LoRA to learn, as with an abbreviation in Stable Diffusion.
    rank, alpha: of the update (alpha / rank) B A of each projection.
    learning_rate: of Adam, constant.
    """

    caption: str = "a photo of {}"
    rank: int = 4
    alpha: float = 4.0
    learning_rate: float = 5e-4


_SMALL = {
    "small_autoencoder": "prior-autoencoder-32",
    "sampler": "dpm++",
    "rank": 16,
    "alpha": 16.0,
    "learning_rate": 2e-3,
}
"""Settings for the small prior, which bears more than the paper's learning rate of 5e-4 and has fewer steps."""


class AdaptedUNet(nn.Module):
    """A frozen U-Net with a LoRA on its attention, which alone is the module's state.

    unet: its weights are shared, its modules are copied, so that it stays as it is for whoever else uses it.
    """

    def __init__(self, unet: UNet2DConditionModel, rank: int, alpha: float):
        super().__init__()
        shared = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
        self.unet = deepcopy(unet, shared)
        self.unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(ADAPTED))
        )

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """Return the matrices A and B of each projection, by peft's names; the arguments of nn.Module are not used."""
        return get_peft_model_state_dict(self.unet)

    def load_state_dict(self, state_dict: dict[str, Tensor], *args, **kwargs) -> None:
        """Take back what state_dict returned. Raises RuntimeError for other names or shapes."""
        other = state_dict.keys() ^ self.state_dict().keys()
        if other:
            raise RuntimeError(f"The LoRA does not fit the U-Net, missing or extra are {', '.join(sorted(other)[:4])}.")
        set_peft_model_state_dict(self.unet, state_dict)


class LDMLoRAMethod(Method):
    """The training step: Adam on the LoRA; all else, the text encoder included, stays frozen."""

    def __init__(self, pipeline: StableDiffusionPipeline, adapted: AdaptedUNet, learning_rate: float):
        self.trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(self.trained, learning_rate, foreach=True)
        super().__init__({"generator": adapted}, {"generator": adam})
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def step(self, step: int, latents: Tensor, noise: Tensor, t: Tensor, states: Tensor) -> dict[str, Tensor]:
        """Do one step on scaled latents and noise (B, C, h, w), times (B,) int64, and captions' states (B, L, D)."""
        optimizer = self.optimizers["generator"]
        error = denoising_error(self.modules["generator"].unet, self.scheduler, latents, noise, t, states)
        loss = error.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, GRADIENT_CLIP)
        optimizer.step()
        return {"loss": loss.detach()}


class LDMLoRA(LatentDiffusionGenerator):
    """A pre-trained text-to-image pipeline with one LoRA for all classes, told apart by their captions.

    It is the baseline "LDM" of Yuan et al. (Section 3.1), who state LoRA, Adam, its learning rate and 1,000 epochs, but
    not which LDM it was, its captions, rank and batch, nor how it was sampled. Here the pipeline is that of textual
    inversion; rank, first matrices, clipped gradients and sampling are those of diffusers' example.
    """

    name = "ldm-lora"
    scales: ClassVar = {
        "smoke": LDMLoRAConfig(
            **_SMALL, image_size=16, num_steps=3, batch_size=4, num_sampling_steps=2, guidance_scale=1.0
        ),
        "demo": LDMLoRAConfig(**_SMALL, image_size=32, num_steps=3000, batch_size=16, flip=True, num_sampling_steps=10),
        "gpu": LDMLoRAConfig(
            **_SMALL, image_size=64, num_steps=10_000, batch_size=64, flip=True, num_sampling_steps=25
        ),
        # 1,000 epochs, counted on the 2,628 training images of Kera-3k (Table 1), in batches of 32.
        "paper": LDMLoRAConfig(
            image_size=256,
            num_steps=82_125,
            batch_size=32,
            flip=True,
            pipeline="stable-diffusion-2",
            guidance_scale=7.5,
            sampler="dpm++",
            num_sampling_steps=30,
            sample_batch_size=8,
        ),
    }

    def build(self, num_classes: int, channels: int, image_size: int) -> LDMLoRAMethod:
        """Return the adapted U-Net with its optimiser and training step.

        Raises ValueError in per-class mode, which captions replace, and what weights.locate raises.
        """
        config, pipeline = self.config, self.pipeline
        if config.per_class:
            raise ValueError(f"{self.name} has one LoRA for all classes: per_class=True is not allowed, leave it out.")
        adapted = AdaptedUNet(pipeline.unet, config.rank, config.alpha)
        return LDMLoRAMethod(pipeline, adapted, config.learning_rate)

    def captions(self, class_names: Sequence[str]) -> list[str]:
        """Return the caption of each class.

        Raises ValueError if the tokenizer reads two of them alike: they differ in nothing, in characters that it does
        not know, or beyond its last token.
        """
        captions = [self.config.caption.format(name) for name in class_names]
        ids = self.pipeline.tokenizer(captions, truncation=True).input_ids
        alike = [caption for caption, row in zip(captions, ids, strict=True) if ids.count(row) > 1]
        if alike:
            raise ValueError(
                f"The tokenizer of {self.config.pipeline!r} reads captions of different classes alike: {alike}. Name "
                "the classes in other characters or fewer words, and let `caption` hold a {} for the name."
            )
        return captions

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        config, pipeline = self.config, self.pipeline
        states = self._states(self.card["class_names"])
        empty = encode_texts(pipeline.tokenizer, pipeline.text_encoder, [""])[0]
        given = Conditions(states[labels][:, None], torch.ones(len(labels), 1, device=labels.device), empty)
        sampler = new_sampler(pipeline.scheduler, config.sampler, config.num_sampling_steps)
        latents = draw_latents(network.unet, sampler, given, seeds, config.guidance_scale)
        return to_float(self._decoded(latents)).to(labels.device)

    def cost(self) -> dict[str, float | bool]:
        """Return what it took, see Generator.cost; only the LoRA is kept."""
        kept = sum(value.numel() for network in self.networks for value in network.state_dict().values())
        return {**super().cost(), "parameters": kept}

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, ...]]:
        """Return batches of all images with their captions; images and captions are encoded once, here."""
        config = self.config
        images = images.at_most(config.num_steps * config.batch_size)  # a short training does not come to more
        sides = [images.images, np.ascontiguousarray(images.images[..., ::-1])][: 2 if config.flip else 1]
        moments = torch.stack([self._moments(side) for side in sides])
        batches = LatentBatches(
            moments,
            config.batch_size,
            derive_seed(self.seed, self.name, "batches", part),
            self.pipeline.vae.config.scaling_factor,
            method.scheduler.config.num_train_timesteps,
        )
        states, labels = self._states(images.class_names), torch.from_numpy(images.labels)

        def batch(step: int) -> tuple[Tensor, ...]:
            chosen = labels[batches.indices(step)].to(device())
            return *(part.to(device()) for part in batches(step)), states[chosen]

        return batch

    def _states(self, class_names: Sequence[str]) -> Tensor:
        """Return the text encoder's states (classes, L, D) of the classes' captions."""
        return encode_texts(self.pipeline.tokenizer, self.pipeline.text_encoder, self.captions(class_names))

    def _prefix(self, part: int) -> str:
        return FILE_PREFIX

    def _write_weights(self, path: Path) -> None:
        """Write the LoRA as float16 safetensors that diffusers' pipelines read with load_lora_weights."""
        layers = {name: value.half().cpu() for name, value in self.networks[0].state_dict().items()}
        settings = {"r": self.config.rank, "lora_alpha": self.config.alpha, "target_modules": list(ADAPTED)}
        with atomic(path) as temporary:
            StableDiffusionPipeline.save_lora_weights(
                temporary.parent, layers, weight_name=temporary.name, unet_lora_adapter_metadata=settings
            )
