"""The VQGAN prior, on MAGE's tokenizer, trained on the corpus: images to codes and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils import weights
from nbutils.artefacts import cached
from nbutils.backbone import load_backbone
from nbutils.files import atomic
from nbutils.generators.image_codes import encoded
from nbutils.images import to_float
from nbutils.models.codes import perplexity
from nbutils.models.vqgan import VQGAN, VQGANConfig
from nbutils.priors.base import Prior, corpus_images
from nbutils.priors.rebuilding import RebuildingMethod, RebuildingRecipe
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, TrainingLog, device, placed, train

WEIGHTS = "vqgan.safetensors"


@dataclass(frozen=True)
class VQGANRecipe(RebuildingRecipe):
    """Settings of the tokenizer; see VQGANConfig.

    image_size: pixels. codebook_weight: of the squared distance of chosen codes from their vectors; commitment_weight:
        of the vectors from their codes. revived_after: steps after which a code that nothing chose becomes one of the
        vectors of the batch.
    """

    image_size: int = 32
    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_blocks: int = 1
    code_dim: int = 32
    num_codes: int = 512
    norm_groups: int = 8
    codebook_weight: float = 1.0
    commitment_weight: float = 0.25
    revived_after: int = 50

    @property
    def tokenizer(self) -> VQGANConfig:
        """The settings of the network."""
        sizes = (self.channels, self.multipliers, self.num_blocks, self.code_dim, self.num_codes, self.norm_groups)
        return VQGANConfig(*sizes)


class VQGANMethod(RebuildingMethod):
    """The training step of the tokenizer (Esser et al. 2021), whose images lie in 0..1."""

    def __init__(self, recipe: VQGANRecipe, backbone: nn.Module):
        super().__init__(VQGAN(recipe.tokenizer), recipe, backbone)
        self.unused = torch.zeros(recipe.num_codes, device=device())

    def rebuild(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Rebuild images from the codes nearest to their vectors."""
        recipe, network = self.recipe, self.modules["autoencoder"]
        rebuilt, z, tokens = network((images + 1) / 2)
        codes = network.vectors(tokens)
        scalars = {"codebook": F.mse_loss(codes, z.detach()), "commitment": F.mse_loss(z, codes.detach())}
        scalars["perplexity"] = perplexity(tokens, recipe.num_codes)
        self._revive(z.detach(), tokens)
        penalty = recipe.codebook_weight * scalars["codebook"] + recipe.commitment_weight * scalars["commitment"]
        return rebuilt * 2 - 1, scalars, penalty

    @torch.no_grad()
    def _revive(self, z: Tensor, tokens: Tensor) -> None:
        """Give codes that were long not chosen vectors of this batch."""
        counts = tokens.flatten().bincount(minlength=self.recipe.num_codes)
        self.unused = torch.where(counts > 0, 0, self.unused + 1)
        dead = (self.unused >= self.recipe.revived_after).nonzero()[:, 0]
        vectors = z.flatten(2).transpose(1, 2).flatten(0, 1)  # (B N, D)
        chosen = torch.randperm(len(vectors), device=z.device)[: len(dead)]
        dead = dead[: len(chosen)]
        self.modules["autoencoder"].codebook[dead] = vectors[chosen].to(z.dtype)
        self.unused[dead] = 0

    def extra_state(self) -> dict:
        return {"unused": self.unused.cpu()}

    def load_extra_state(self, state: dict) -> None:
        self.unused = state["unused"].to(device())


class VQGANPrior(Prior):
    """The tokenizer; needs `backbone`."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the tokenizer; its moving average is kept."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            method = VQGANMethod(recipe, load_backbone(self.needs["backbone"].folder()))
        batches = self._batches()
        log = train(method, batches, recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        weights.save_half(method.averages["autoencoder"].module.state_dict(), folder / WEIGHTS)
        return log

    def _batches(self) -> Callable[[int], tuple[Tensor]]:
        images = torch.from_numpy(corpus_images(self.recipe.num_images, self.recipe.image_size))
        order = BatchOrder(len(images), self.recipe.batch_size, derive_seed(0, self.name, "batches"))
        return lambda step: (
            to_float(images[order.indices(step)]).contiguous(memory_format=torch.channels_last).to(device()),
        )

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
