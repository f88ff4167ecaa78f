"""Priors: networks trained on the corpus, which stand in for those that the papers take from natural images."""

from nbutils.priors.autoencoder import Autoencoder, AutoencoderRecipe
from nbutils.priors.backbone import Backbone, BackboneRecipe
from nbutils.priors.base import Prior
from nbutils.priors.pixel_diffusion import PixelDiffusion, PixelDiffusionRecipe
from nbutils.priors.text_to_image import TextToImage, TextToImageRecipe
from nbutils.scales import choose

_BACKBONE = Backbone(
    "backbone", BackboneRecipe(num_images=100_000, num_steps=8_000, batch_size=64, learning_rate=2e-3, cooldown=0.8)
)
_AUTOENCODER_64 = Autoencoder(
    "autoencoder-64",
    AutoencoderRecipe(num_images=100_000, num_steps=6_000, batch_size=16, learning_rate=1e-3),
    {"backbone": _BACKBONE},
)
_AUTOENCODER_32 = Autoencoder(
    "autoencoder-32",
    AutoencoderRecipe(
        num_images=100_000, num_steps=6_000, batch_size=16, learning_rate=1e-3, image_size=32, widths=(32, 64, 96)
    ),
    {"backbone": _BACKBONE, "aligned_with": _AUTOENCODER_64},
)
_TEXT_TO_IMAGE = TextToImage(
    "text-to-image",
    TextToImageRecipe(num_images=100_000, num_steps=40_000, batch_size=64, learning_rate=1e-3),
    {"autoencoder": _AUTOENCODER_64},
)
_DIFFUSION = PixelDiffusion(
    "diffusion", PixelDiffusionRecipe(num_images=100_000, num_steps=16_000, batch_size=32, learning_rate=2e-3)
)
_PRIORS = {p.name: p for p in (_BACKBONE, _AUTOENCODER_64, _AUTOENCODER_32, _DIFFUSION, _TEXT_TO_IMAGE)}


def names() -> list[str]:
    """Return the names of all priors, in an order in which each comes after those that it needs."""
    return list(_PRIORS)


def get(name: str) -> Prior:
    """Return a prior with the recipe of its shipped weights. Raises ValueError for an unknown name."""
    return choose("prior", name, _PRIORS)
