"""Every network at paper scale, built and trained for one step: the proof that the scale exists."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import psutil
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn.functional import one_hot

from nbutils import generators
from nbutils.classification import Training, build_network
from nbutils.generators.concept_training import Embeddings, TextualInversionMethod
from nbutils.generators.ldm import LatentDiffusion
from nbutils.generators.ldm_lora import AdaptedUNet, LDMLoRA, LDMLoRAMethod
from nbutils.generators.mage import MageAdapter, MageAdapterVQ, MageFineTuned, MageGenerator
from nbutils.generators.mage_training import code_batches
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.generators.token_embeddings import initial_vectors
from nbutils.generators.vqvae2 import VQVAE2Generator
from nbutils.generators.vqvae2_training import LEVELS, VQVAE2Method
from nbutils.models.ldm import build_vq_f8
from nbutils.models.mage import MAGE, MageConfig
from nbutils.models.stable_diffusion import build_stable_diffusion_2
from nbutils.pipelines import encode_texts, frozen
from nbutils.priors.text import build_tokenizer
from nbutils.protocols import CLASSIFIERS, config_at
from nbutils.training import Method

NUM_CLASSES, CHANNELS = 3, 1
BATCH_SIZE = 2
BYTES_PER_PARAMETER = 34
"""Weights, gradients, Adam's two moments, the moving average, activations; the ADM network was measured at 33.5."""

STABLE_DIFFUSION_STEP = 4 * 2**30
"""Activations of a step on one image, beside the frozen weights; 2.8 GiB were measured."""


@dataclass(frozen=True)
class Candidate:
    """A network of the paper scale.

    networks: makes it, for its size alone. step: makes it and takes one step on random images. bytes_needed: of
    memory, for so many parameters.
    """

    name: str
    image_size: int
    networks: Callable[[], Iterable[nn.Module]]
    step: Callable[[], Mapping[str, Tensor]]
    bytes_needed: Callable[[int], int] = lambda parameters: parameters * BYTES_PER_PARAMETER


def build_all() -> pd.DataFrame:
    """Build all generators and classifiers of the paper scale, print one line for each, and return the table.

    With random weights and a batch of two images where memory allows one step, else on the meta device (shapes only).
    """
    own = {TextualInversion.name: _textual_inversion, LDMLoRA.name: _ldm_lora, VQVAE2Generator.name: _vqvae2}
    own[LatentDiffusion.name] = _ldm
    own |= {kind.name: partial(_mage, kind) for kind in (MageFineTuned, MageAdapter, MageAdapterVQ)}
    candidates = [own[name]() if name in own else _generator(name) for name in generators.names()]
    networks = {config_at("paper", paper=paper).network: paper for paper in CLASSIFIERS}  # two may train the same
    return pd.DataFrame([_checked(each) for each in (*candidates, *map(_classifier, networks.values()))])


def _generator(name: str) -> Candidate:
    generator = generators.create(name, scale="paper", batch_size=BATCH_SIZE)
    size = generator.config.image_size
    build = partial(generator.build, NUM_CLASSES, CHANNELS, size)
    return Candidate(
        name, size, lambda: build().modules.values(), lambda: build().step(0, _images(size), torch.arange(BATCH_SIZE))
    )


def _vqvae2() -> Candidate:
    """VQ-VAE-2: a step of each stage, the priors' on random codes."""
    generator = generators.create(VQVAE2Generator.name, scale="paper", batch_size=BATCH_SIZE)
    size = generator.config.image_size
    build = partial(generator.build, NUM_CLASSES, CHANNELS, size)

    def step() -> Mapping[str, Tensor]:
        method: VQVAE2Method = build()
        autoencoder, *priors = method.stages
        labels = torch.arange(BATCH_SIZE)
        scalars = method.step(autoencoder.first, _images(size), labels)
        sides = [method.networks.get_submodule(level).config.grid for level in LEVELS]
        codes = [torch.randint(generator.config.num_codes, (BATCH_SIZE, side, side)) for side in sides]
        for stage in priors:
            scalars |= method.step(stage.first, *codes, labels)
        return scalars

    return Candidate(generator.name, size, lambda: build().modules.values(), step)


def _classifier(paper: str) -> Candidate:
    config = config_at("paper", "scratch", paper)

    def build() -> Method:
        network = build_network(config, NUM_CLASSES, CHANNELS)
        return Training(network, config, np.ones(NUM_CLASSES), val=None, steps_per_epoch=config.num_epochs)

    targets = one_hot(torch.arange(BATCH_SIZE), NUM_CLASSES).float()
    images = partial(_images, config.input_size)
    return Candidate(
        config.network, config.input_size, lambda: build().modules.values(), lambda: build().step(0, images(), targets)
    )


def _textual_inversion() -> Candidate:
    """Textual inversion on Stable Diffusion 2.0: a step of one concept on one image, everything but it frozen."""
    config = TextualInversion.scales["paper"]

    def networks() -> list[nn.Module]:
        pipeline = _stable_diffusion(config.initial_words)
        return [pipeline.unet, pipeline.vae, pipeline.text_encoder]

    def step() -> Mapping[str, Tensor]:
        pipeline = frozen(_stable_diffusion(config.initial_words))
        words = initial_vectors(
            pipeline.tokenizer, pipeline.text_encoder, config.initial_words, config.num_vectors, config.jitter, seed=0
        )
        method = TextualInversionMethod(pipeline, Embeddings([words]), config.learning_rate)
        latents, noise = torch.randn(2, 1, 1, 4, 64, 64)
        return method.step(0, latents, noise, torch.tensor([[500]]))

    return Candidate(TextualInversion.name, config.image_size, networks, step, _stable_diffusion_bytes)


def _mage(kind: type[MageGenerator]) -> Candidate:
    """MAGE ViT-B: a step of fine-tuning on an image of each class, then the first of decoding, down to pixels."""
    generator = kind.at_scale("paper", num_decoding_steps=1)

    def networks() -> list[nn.Module]:
        network = MAGE(MageConfig())
        additions = generator.method_on(network, NUM_CLASSES).additions
        return [network] if additions is None else [network, additions]

    def step() -> Mapping[str, Tensor]:
        network = MAGE(MageConfig()).requires_grad_(False)
        method = generator.method_on(network, NUM_CLASSES)
        side = network.config.grid * network.config.vqgan.stride
        codes = network.encode(torch.rand(1, 3, side, side))
        scalars = method.step(0, *code_batches([codes[None]] * NUM_CLASSES, 1, range(NUM_CLASSES))(0))
        with torch.inference_mode():
            network.decode(generator.draw_codes(network, method.modules["generator"], torch.tensor([0]), seeds=[0]))
        return scalars

    return Candidate(kind.name, generator.config.image_size, networks, step)


def _ldm() -> Candidate:
    """Latent diffusion: a step on the vectors of random images, which the first stage then makes images again."""
    generator = generators.create(LatentDiffusion.name, scale="paper", batch_size=BATCH_SIZE)
    size = generator.config.image_size
    build = partial(generator.build, NUM_CLASSES, CHANNELS, size)

    def step() -> Mapping[str, Tensor]:
        first_stage, method = build_vq_f8().requires_grad_(False), build()
        vectors = first_stage.encode(_images(size).expand(-1, 3, -1, -1)).latents
        t, labels = torch.full((BATCH_SIZE,), 500), torch.arange(BATCH_SIZE)
        scalars = method.step(0, vectors, torch.randn_like(vectors), t, labels)
        first_stage.decode(vectors)
        return scalars

    return Candidate(generator.name, size, lambda: [*build().modules.values(), build_vq_f8()], step)


def _ldm_lora() -> Candidate:
    """LoRA on the U-Net of Stable Diffusion 2.0: a step on one captioned image, everything but it frozen."""
    config = LDMLoRA.scales["paper"]

    def networks() -> list[nn.Module]:
        pipeline = _stable_diffusion(config.caption)
        return [AdaptedUNet(pipeline.unet, config.rank, config.alpha), pipeline.vae, pipeline.text_encoder]

    def step() -> Mapping[str, Tensor]:
        pipeline = frozen(_stable_diffusion(config.caption))
        method = LDMLoRAMethod(pipeline, AdaptedUNet(pipeline.unet, config.rank, config.alpha), config.learning_rate)
        states = encode_texts(pipeline.tokenizer, pipeline.text_encoder, [config.caption])
        latents, noise = torch.randn(2, 1, 4, 64, 64)
        return method.step(0, latents, noise, torch.tensor([500]), states)

    return Candidate(LDMLoRA.name, config.image_size, networks, step, _stable_diffusion_bytes)


def _stable_diffusion(words: str) -> StableDiffusionPipeline:
    """Return Stable Diffusion 2.0 with random weights and a tokenizer that knows some words."""
    return build_stable_diffusion_2(build_tokenizer(words.split()))


def _stable_diffusion_bytes(parameters: int) -> int:
    """Return what one step on a frozen pipeline takes."""
    return 4 * parameters + STABLE_DIFFUSION_STEP


def _images(size: int) -> Tensor:
    """Return random images, (2, 1, size, size) float32 -1..1."""
    return torch.rand(BATCH_SIZE, CHANNELS, size, size) * 2 - 1


def _checked(candidate: Candidate) -> dict:
    """Count the parameters on the meta device, then build and step for real if the memory is there."""
    started = time.monotonic()
    with torch.device("meta"):
        parameters = sum(p.numel() for network in candidate.networks() for p in network.parameters())
    needed = candidate.bytes_needed(parameters)
    sizes = {"image_size": candidate.image_size, "million_parameters": round(parameters / 1e6, 1)}
    row = {"network": candidate.name, **sizes}
    if needed < 0.9 * available_memory():
        row["step"] = ", ".join(f"{key} {float(value):.3g}" for key, value in candidate.step().items())
    else:
        row["step"] = f"meta device only: a step needs {needed / 2**30:.0f} GiB"
    row["seconds"] = round(time.monotonic() - started, 1)
    print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    return row


def available_memory() -> int:
    """Return the bytes of memory that a new tensor can take."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available
