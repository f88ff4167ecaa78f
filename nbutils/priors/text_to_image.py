"""The text-conditional latent diffusion prior, kept as a folder of diffusers' StableDiffusionPipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from nbutils import corpus
from nbutils.models.diffusion_loss import spread_time_steps
from nbutils.pipelines import load_pipeline, sampled
from nbutils.priors.base import Prior, Recipe, corpus_texts
from nbutils.priors.text import build_text_encoder, build_tokenizer
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, TrainingLog, autocast, device, set_learning_rate, train

NOISE_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PIPELINE = "pipeline"


@dataclass(frozen=True)
class TextToImageRecipe(Recipe):
    """Settings of the U-Net and the text encoder, which are trained together.

    widths, norm_groups: channels at each resolution of the latents, from the highest, and groups they are normalised
        in. layers_per_block: residual blocks of each.
    head_channels: width of an attention head. text_width, text_layers, text_heads: of the text encoder.
    caption_dropout: share of images that are trained without their caption, for classifier-free guidance.
    weight_decay: of AdamW. ema_decay: of the moving averages of both networks, which are what is kept.
    """

    widths: tuple[int, ...] = (48, 96)
    layers_per_block: int = 1
    head_channels: int = 24
    text_width: int = 96
    text_layers: int = 2
    text_heads: int = 4
    caption_dropout: float = 0.1
    weight_decay: float = 0.01
    ema_decay: float = 0.9995
    norm_groups: int = 16


def build_unet(recipe: TextToImageRecipe, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """Return the U-Net with random weights; all of its levels attend to the text."""
    levels = len(recipe.widths)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=recipe.layers_per_block,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=tuple(width // recipe.head_channels for width in recipe.widths),
        norm_num_groups=recipe.norm_groups,
        use_linear_projection=True,
    )


class TextToImageMethod(Method):
    """The training step of latent diffusion: AdamW on the squared error of v, U-Net and text encoder together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: torch.nn.Module, recipe: TextToImageRecipe):
        modules = {"unet": unet.to(memory_format=torch.channels_last), "text_encoder": text_encoder}
        parameters = [parameter for module in modules.values() for parameter in module.parameters()]
        adam = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True)
        super().__init__(modules, {"adam": adam}, dict.fromkeys(modules, recipe.ema_decay))
        self.recipe = recipe
        self.scheduler = DDPMScheduler(**NOISE_SCHEDULE, prediction_type="v_prediction")

    def step(self, step: int, latents: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Do one step on scaled latents (B, C, h, w) and tokens (B, 77) int64."""
        recipe, optimizer = self.recipe, self.optimizers["adam"]
        set_learning_rate(optimizer, step, recipe)
        noise = torch.randn_like(latents)
        t = spread_time_steps(len(latents), self.scheduler.config.num_train_timesteps).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, t)
        with autocast():
            text = self.modules["text_encoder"](tokens).last_hidden_state  # (B, 77, D)
            predicted = self.modules["unet"](noisy, t, text).sample
        loss = F.mse_loss(predicted.float(), self.scheduler.get_velocity(latents, noise, t))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for module in self.modules.values() for p in module.parameters()], 1.0)
        optimizer.step()
        return {"loss": loss.detach()}


class TextToImage(Prior):
    """A complete pipeline; needs `autoencoder`, in whose latents it works, and which it contains.

    Where it also needs a `start`, another one of the same sizes, it goes on from that one's averaged weights with a new
    learning rate schedule, and sees the corpus in another order.
    """

    def fit(self, folder: Path) -> TrainingLog:
        """Train U-Net and text encoder on cached latents and captions, and save the pipeline."""
        recipe, autoencoder = self.recipe, self.needs["autoencoder"].load()
        moments = torch.from_numpy(self.needs["autoencoder"].latents(recipe.num_images))  # (N, 2 C, h, w)
        captions, _ = corpus_texts(recipe.num_images)
        tokenizer = build_tokenizer(corpus.vocabulary())
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            unet = build_unet(recipe, moments.shape[1] // 2, moments.shape[2])
            text_encoder = build_text_encoder(tokenizer, recipe.text_width, recipe.text_layers, recipe.text_heads)
        if "start" in self.needs:
            start = load_pipeline(self.needs["start"].folder() / PIPELINE)
            unet.load_state_dict(start.unet.state_dict())
            text_encoder.load_state_dict(start.text_encoder.state_dict())
        method = TextToImageMethod(unet, text_encoder, recipe)
        batches = self._batches(moments, tokens, empty, autoencoder.config.scaling_factor)
        log = train(method, batches, recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        autoencoder.register_to_config(_name_or_path="")  # else the folder's configuration names this machine's paths
        averages = {name: average.module.eval().half() for name, average in method.averages.items()}
        pipeline = StableDiffusionPipeline(
            vae=autoencoder.half(),
            tokenizer=tokenizer,
            scheduler=DPMSolverMultistepScheduler(**NOISE_SCHEDULE, prediction_type="v_prediction", steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **averages,
        )
        pipeline.save_pretrained(folder / PIPELINE)
        return log

    def _batches(
        self, moments: Tensor, tokens: Tensor, empty: Tensor, scale: float
    ) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Return a function from step to scaled latents (B, C, h, w) and tokens (B, 77), some of them empty."""
        recipe = self.recipe
        part = ("continued",) if "start" in self.needs else ()
        order = BatchOrder(len(moments), recipe.batch_size, derive_seed(0, self.name, "batches", *part))

        def batch(step: int) -> tuple[Tensor, Tensor]:
            rows = order.indices(step)
            generator = torch.Generator().manual_seed(derive_seed(0, self.name, "noise", step, *part))
            latents = scale * sampled(moments[rows], generator)
            dropped = torch.rand((len(rows), 1), generator=generator) < recipe.caption_dropout
            latents = latents.contiguous(memory_format=torch.channels_last)
            return latents.to(device()), torch.where(dropped, empty, tokens[rows]).to(device())

        return batch
