"""Priors: networks trained on the corpus, which stand in for those that the papers take from natural images."""

from dataclasses import replace

import pandas as pd

from nbutils import weights
from nbutils.files import read_json
from nbutils.priors.autoencoder import Autoencoder, AutoencoderRecipe
from nbutils.priors.backbone import Backbone, BackboneRecipe, SizedBackboneRecipe
from nbutils.priors.base import Prior
from nbutils.priors.mage import MagePrior, MageRecipe
from nbutils.priors.pixel_diffusion import PixelDiffusion, PixelDiffusionRecipe
from nbutils.priors.text_to_image import TextToImage, TextToImageRecipe
from nbutils.priors.vq_autoencoder import VQAutoencoder, VQAutoencoderRecipe
from nbutils.priors.vqgan import VQGANPrior, VQGANRecipe
from nbutils.protocols import SMALL_TRANSFORMERS
from nbutils.scales import choose

_BACKBONE = Backbone(
    "backbone", BackboneRecipe(num_images=100_000, num_steps=20_000, batch_size=64, learning_rate=3e-3, cooldown=0.8)
)
_TRANSFORMERS = tuple(
    Backbone(
        f"backbone-{name}",
        SizedBackboneRecipe(
            num_images=100_000,
            num_steps=12_000,
            batch_size=64,
            learning_rate=1e-3,
            cooldown=0.8,
            image_sizes=(32,),
            **network,
        ),
    )
    for name, network in SMALL_TRANSFORMERS.items()
)
_AUTOENCODER_64 = Autoencoder(
    "autoencoder-64",
    AutoencoderRecipe(num_images=100_000, num_steps=6_000, batch_size=16, learning_rate=1e-3, cooldown=0.35),
    {"backbone": _BACKBONE},
)
_AUTOENCODER_32 = Autoencoder(
    "autoencoder-32",
    AutoencoderRecipe(
        num_images=100_000,
        num_steps=6_000,
        batch_size=16,
        learning_rate=1e-3,
        cooldown=0.35,
        image_size=32,
        widths=(32, 64, 96),
    ),
    {"backbone": _BACKBONE, "aligned_with": _AUTOENCODER_64},
)
_TEXT_TO_IMAGE_RECIPE = TextToImageRecipe(num_images=100_000, num_steps=20_500, batch_size=32, learning_rate=1e-3)
_TEXT_TO_IMAGE_START = TextToImage("text-to-image", _TEXT_TO_IMAGE_RECIPE, {"autoencoder": _AUTOENCODER_64})
_TEXT_TO_IMAGE = TextToImage(
    "text-to-image",
    replace(_TEXT_TO_IMAGE_RECIPE, num_steps=10_000, cooldown=0.4),
    {"autoencoder": _AUTOENCODER_64, "start": _TEXT_TO_IMAGE_START},
)
_VQGAN = VQGANPrior(
    "vqgan",
    VQGANRecipe(num_images=100_000, num_steps=4_000, batch_size=32, learning_rate=1e-3, cooldown=0.35),
    {"backbone": _BACKBONE},
)
_VQ_F8 = VQAutoencoder(
    "vq-f8",
    VQAutoencoderRecipe(num_images=100_000, num_steps=6_000, batch_size=16, learning_rate=1e-3, cooldown=0.35),
    {"backbone": _BACKBONE},
)
_MAGE = MagePrior(
    "mage", MageRecipe(num_images=100_000, num_steps=8_000, batch_size=32, learning_rate=1e-3), {"vqgan": _VQGAN}
)
_DIFFUSION = PixelDiffusion(
    "diffusion", PixelDiffusionRecipe(num_images=100_000, num_steps=12_000, batch_size=32, learning_rate=2e-3)
)
_BACKBONE_GPU = Backbone(
    "backbone-gpu",
    BackboneRecipe(
        num_images=200_000,
        num_steps=40_000,
        batch_size=128,
        learning_rate=1e-3,
        cooldown=0.8,
        network="resnet18",
        image_sizes=(64,),
    ),
)
_DIFFUSION_GPU = PixelDiffusion(
    "diffusion-gpu",
    PixelDiffusionRecipe(
        num_images=200_000,
        num_steps=60_000,
        batch_size=64,
        learning_rate=2e-4,
        warmup_steps=500,
        scale="gpu",
        ema_decay=0.9995,
    ),
)
_AUTOENCODERS = (_AUTOENCODER_64, _AUTOENCODER_32, _VQ_F8)
_SMALL = (_BACKBONE, *_TRANSFORMERS, *_AUTOENCODERS, _DIFFUSION, _TEXT_TO_IMAGE, _VQGAN, _MAGE)
_GPU = (_BACKBONE_GPU, _DIFFUSION_GPU)  # for scale "gpu": too large to be shipped, trained where they are needed
_PRIORS = {prior.name: prior for prior in (*_SMALL, *_GPU)}


def names() -> list[str]:
    """Return the names of all priors, in an order in which each comes after those that it needs."""
    return list(_PRIORS)


def get(name: str) -> Prior:
    """Return a prior with the recipe of its shipped weights. Raises ValueError for an unknown name."""
    return choose("prior", name, _PRIORS)


def shortened(name: str, num_steps: int, num_images: int = 512) -> Prior:
    """Return a prior whose training is cut to so many steps on so few images, to be looked at and thrown away.

    It starts from random weights, whatever the whole training starts from.
    """
    prior = get(name)
    recipe = replace(prior.recipe, num_steps=num_steps, num_images=num_images, warmup_steps=min(20, num_steps // 2))
    needs = {role: needed for role, needed in prior.needs.items() if role != "start"}
    return type(prior)(prior.name, recipe, needs)


def cards() -> pd.DataFrame:
    """Return what each shipped prior took and weighs, one row per prior: steps, images seen, hours, device, MB."""
    rows = []
    for prior in (prior for prior in _PRIORS.values() if prior.is_shipped()):
        cost = read_json(prior.folder() / weights.PRIOR_CARD)["cost"]
        seen = {"steps": cost["steps"], "images_seen": cost["steps"] * prior.recipe.batch_size}
        machine = {"hours": cost["hours"], "device": cost["device"], "threads": cost["threads"]}
        rows.append({"prior": prior.name, **seen, **machine, "megabytes": round(cost["bytes"] / 2**20, 2)})
    return pd.DataFrame(rows)
