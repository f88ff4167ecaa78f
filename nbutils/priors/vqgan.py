"""The VQGAN prior, on MAGE's tokenizer, trained on the corpus: images to codes and back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nbutils import weights
from nbutils.artefacts import cached
from nbutils.backbone import load_backbone
from nbutils.files import atomic
from nbutils.generators.image_codes import encoded
from nbutils.models.vqgan import VQGAN, VQGANConfig
from nbutils.priors.base import Prior, corpus_images
from nbutils.priors.codebook import CodebookMethod, CodebookRecipe, image_batches
from nbutils.seeds import derive_seed
from nbutils.training import TrainingLog, placed, train

WEIGHTS = "vqgan.safetensors"


@dataclass(frozen=True)
class VQGANRecipe(CodebookRecipe):
    """Settings of the tokenizer; see VQGANConfig. image_size: pixels."""

    image_size: int = 32
    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_blocks: int = 1
    norm_groups: int = 8

    @property
    def tokenizer(self) -> VQGANConfig:
        """The settings of the network."""
        sizes = (self.channels, self.multipliers, self.num_blocks, self.code_dim, self.num_codes, self.norm_groups)
        return VQGANConfig(*sizes)


class VQGANMethod(CodebookMethod):
    """The training step of the tokenizer, whose images lie in 0..1."""

    def __init__(self, recipe: VQGANRecipe, backbone: nn.Module):
        super().__init__(VQGAN(recipe.tokenizer), recipe, backbone)

    @property
    def codebook(self) -> Tensor:
        """The vectors of the codes."""
        return self.modules["autoencoder"].codebook

    def through_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rebuilt images, the encoder's vectors, and their codes."""
        rebuilt, z, tokens = self.modules["autoencoder"]((images + 1) / 2)
        return rebuilt * 2 - 1, z, tokens


class VQGANPrior(Prior):
    """The tokenizer; needs `backbone`."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the tokenizer; its moving average is kept."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            method = VQGANMethod(recipe, load_backbone(self.needs["backbone"].folder()))
        batches = image_batches(self.name, recipe)
        log = train(method, batches, recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        weights.save_half(method.averages["autoencoder"].module.state_dict(), folder / WEIGHTS)
        return log

    def load(self) -> VQGAN:
        """Return the trained tokenizer, frozen, in float32 on the device."""
        network = VQGAN(self.recipe.tokenizer)
        network.load_state_dict({name: value.float() for name, value in load_file(self.folder() / WEIGHTS).items()})
        return placed(network.eval().requires_grad_(False), memory_format=torch.channels_last)

    def tokens(self, count: int) -> np.ndarray:
        """Return the codes (count, N) int16 of the first images of the corpus, cached."""

        def build(folder: Path) -> None:
            codes = encoded(self.load(), corpus_images(count, self.recipe.image_size))
            with atomic(folder / "tokens.npy") as temporary, open(temporary, "wb") as file:
                np.save(file, codes, allow_pickle=False)

        key = {"vqgan": self.key(), "count": count}
        return np.load(cached("corpus-tokens", key, build).path / "tokens.npy", allow_pickle=False)
