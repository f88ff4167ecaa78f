"""Generative methods behind one protocol: create(name, scale=..., seed=...), fit, sample, save, load."""

import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np

from nbutils.artefacts import Artefact, cached, find
from nbutils.files import atomic, read_json
from nbutils.generators.base import CARD, Generator
from nbutils.images import ImageSet, synthetic_set
from nbutils.scales import choose

SAMPLES = "samples.npz"
_REGISTRY = {
    "dcgan": "dcgan.DCGAN",
    "stylegan": "stylegan.StyleGAN",
    "stylegan2-ada": "stylegan2_ada.StyleGAN2ADA",
    "fastgan": "fastgan.FastGAN",
    "cell-gan": "cellgan.CellGAN",
    "vqvae2": "vqvae2.VQVAE2Generator",
    "textual-inversion": "textual_inversion.TextualInversion",
    "diffusion": "diffusion.Diffusion",
    "unconditional-diffusion": "unconditional_diffusion.UnconditionalDiffusion",
    "ldm": "ldm.LatentDiffusion",
    "ldm-lora": "ldm_lora.LDMLoRA",
    "mage": "mage.MageFineTuned",
    "mage-adapter": "mage.MageAdapter",
    "mage-adapter-vq": "mage.MageAdapterVQ",
}


def names() -> list[str]:
    """Return the names of all generators."""
    return list(_REGISTRY)


def generator_class(name: str) -> type[Generator]:
    """Return the class behind a name; its module is imported only now. Raises ValueError for an unknown name."""
    module, attribute = choose("generator", name, _REGISTRY).split(".")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def create(name: str, scale: str = "demo", seed: int = 0, **overrides) -> Generator:
    """Return an untrained generator; `overrides` replace fields of the scale's config, None = from the scale.

    Raises ValueError for an unknown name or scale, TypeError for an unknown field.
    """
    return generator_class(name).at_scale(scale, seed, **overrides)


def load(folder: str | Path) -> Generator:
    """Return the trained generator that `Generator.save` wrote into a folder.

    Raises FileNotFoundError when the folder holds none.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"No generator in {folder}: a folder written by Generator.save holds {CARD}.")
    return generator_class(read_json(folder / CARD)["generator"]).load(folder)


def is_at_hand(generator: Generator, images: ImageSet) -> bool:
    """Return whether the weights of this generator, trained on `images`, are shipped or cached."""
    return find("generator", generator.key(images)) is not None


def fitted(generator: Generator, images: ImageSet, retrain: bool = False) -> tuple[Generator, Artefact]:
    """Return the generator trained on `images`, and where its weights came from: shipped, cache or built.

    An interrupted training goes on where it stood. With retrain=True it is trained even if weights are at hand.
    """

    def build(folder: Path) -> None:
        generator.fit(images, checkpoint_folder=folder)
        generator.save(folder)
        for checkpoint in folder.glob("training-*.pt"):
            checkpoint.unlink()

    artefact = cached("generator", generator.key(images), build, rebuild=retrain)
    return load(artefact.path), artefact


def samples(generator: Generator, labels, seed: int) -> ImageSet:
    """Return generator.sample(labels, seed), from the cache if the same weights have drawn it before."""
    labels = np.asarray(labels, dtype=np.int64)
    drawn_by = {"card": generator.card, "weights": generator.weights_hash()}
    key = {**drawn_by, "labels": hashlib.sha256(labels.tobytes()).hexdigest(), "seed": seed}

    def build(folder: Path) -> None:
        with atomic(folder / SAMPLES) as temporary:
            np.savez_compressed(temporary, images=generator.sample(labels, seed).images)

    with np.load(cached("samples", key, build).path / SAMPLES, allow_pickle=False) as saved:
        return synthetic_set(saved["images"], labels, generator.card["class_names"], name=generator.name)
