"""What all tests share: small image sets made by code, and caches of their own."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nbutils import phantoms
from nbutils.images import ImageSet
from nbutils.phantoms.base import Draws

NOISE = np.random.default_rng(0)

# torch notes down its constructors when a device context is first used. Some loaders put wrappers in their place for a
# while: noted down then, torch.ones would ignore torch.device("meta") in all later tests.
with torch.device("cpu"):
    torch.ones(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep every test's artefacts apart from the working cache."""
    monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def blobs() -> ImageSet:
    """60 grey images of 16 px in two classes: a bright or a dark disc on noise."""
    return make_blobs(60, seed=0)


def make_blobs(count: int, seed: int, image_size: int = 16, channels: int = 1) -> ImageSet:
    """Make `count` images of a bright (class 0) or dark (class 1) disc on noise, one group each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    y, x = np.mgrid[:image_size, :image_size] - image_size / 2 + 0.5
    disc = (x**2 + y**2 < (image_size / 4) ** 2).astype(np.float32)
    images = 128 + 20 * rng.standard_normal((count, channels, image_size, image_size))
    images += np.where(labels == 0, 70, -70)[:, None, None, None] * disc
    groups = [f"seed{seed}-{i}" for i in range(count)]
    return ImageSet(images.clip(0, 255).astype(np.uint8), labels, ("bright", "dark"), groups, name=f"blobs{seed}")


def write_noise(path: Path, shape: tuple[int, ...] = (12, 12)) -> Path:
    """Write an image file of noise like no other, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def write_classes(folder: Path, classes=("cat", "dog"), count: int = 10, shape: tuple[int, ...] = (12, 12)) -> Path:
    """Write `count` image files of noise into a folder of each class."""
    for name in classes:
        for i in range(count):
            write_noise(folder / name / f"{i}.png", shape)
    return folder


@cache
def few_phantoms(name: str, split: str = "train", each: int = 3, classes: int | None = None, **settings) -> ImageSet:
    """Render a few images of the first `classes` classes of a phantom (None = all), once for all tests."""
    shown = phantoms.modality(name).num_classes
    counts = [each if classes is None or label < classes else 0 for label in range(shown)]
    return phantoms.render(name, split, counts=counts, **settings)


def streams(count: int, seed: int) -> Draws:
    """Return a stream of random numbers for each of `count` images, to call parts of a phantom with."""
    return Draws([np.random.default_rng([seed, i]) for i in range(count)])


def middle(images: np.ndarray) -> np.ndarray:
    """Return the mean of the middle ninth of each image, (N, C), where lesions lie."""
    third = images.shape[-1] // 3
    return images[:, :, third:-third, third:-third].mean((2, 3))


def save_small_pipeline(folder: Path) -> None:
    """Write a pipeline of diffusers with random weights: 16 px, 8 x 8 latents of 4 channels, 77 tokens of width 16."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline

    from nbutils.priors import TextToImageRecipe
    from nbutils.priors.text import build_text_encoder, build_tokenizer
    from nbutils.priors.text_to_image import build_unet

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["picture", "red", "disc"])
    recipe = TextToImageRecipe(1, 1, 1, 1e-3, widths=(16, 16), head_channels=8, text_width=16, norm_groups=8)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    autoencoder = AutoencoderKL(
        **blocks, block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=16, scaling_factor=0.5
    )
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        unet=build_unet(recipe, latent_channels=4, latent_size=8),
        text_encoder=build_text_encoder(tokenizer, 16, layers=2, heads=2),
        tokenizer=tokenizer,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
