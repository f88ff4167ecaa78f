"""Training of networks that rebuild images from codes: the losses of codes and vectors, and codes that are revived."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.images import to_float
from nbutils.models.codes import perplexity
from nbutils.priors.base import corpus_images
from nbutils.priors.rebuilding import RebuildingMethod, RebuildingRecipe
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, device


@dataclass(frozen=True)
class CodebookRecipe(RebuildingRecipe):
    """Settings of a codebook.

    code_dim, num_codes: of the codebook. codebook_weight: of the squared distance of chosen codes from their vectors;
    commitment_weight: of the vectors from their codes. revived_after: steps after which a code that nothing chose
    becomes one of the vectors of the batch.
    """

    code_dim: int = 32
    num_codes: int = 512
    codebook_weight: float = 1.0
    commitment_weight: float = 0.25
    revived_after: int = 50


class CodebookMethod(RebuildingMethod):
    """The training step of a network that rebuilds images from codes (Esser et al. 2021).

    A subclass defines `codebook` and `through_codes`.
    """

    def __init__(self, autoencoder: nn.Module, recipe: CodebookRecipe, backbone: nn.Module):
        super().__init__(autoencoder, recipe, backbone)
        self.unused = torch.zeros(recipe.num_codes, device=device())

    @property
    def codebook(self) -> Tensor:
        """The vectors of the codes, (codes, D)."""
        raise NotImplementedError

    def through_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rebuilt images, both -1..1, the encoder's vectors (B, D, h, w), and their codes, int64 in rows."""
        raise NotImplementedError

    def rebuild(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Rebuild images from the codes nearest to their vectors."""
        recipe = self.recipe
        rebuilt, z, tokens = self.through_codes(images)
        vectors = z.movedim(1, -1).flatten(0, -2)  # (B h w, D)
        codes = F.embedding(tokens.flatten(), self.codebook)
        scalars = {"codebook": F.mse_loss(codes, vectors.detach()), "commitment": F.mse_loss(vectors, codes.detach())}
        scalars["perplexity"] = perplexity(tokens, recipe.num_codes)
        self._revive(vectors.detach(), tokens)
        penalty = recipe.codebook_weight * scalars["codebook"] + recipe.commitment_weight * scalars["commitment"]
        return rebuilt, scalars, penalty

    @torch.no_grad()
    def _revive(self, vectors: Tensor, tokens: Tensor) -> None:
        """Give codes that were long not chosen vectors (M, D) of this batch."""
        counts = tokens.flatten().bincount(minlength=self.recipe.num_codes)
        self.unused = torch.where(counts > 0, 0, self.unused + 1)
        dead = (self.unused >= self.recipe.revived_after).nonzero()[:, 0]
        chosen = torch.randperm(len(vectors), device=vectors.device)[: len(dead)]
        dead = dead[: len(chosen)]
        self.codebook[dead] = vectors[chosen].to(self.codebook.dtype)
        self.unused[dead] = 0

    def extra_state(self) -> dict:
        return {"unused": self.unused.cpu()}

    def load_extra_state(self, state: dict) -> None:
        self.unused = state["unused"].to(device())


def image_batches(name: str, recipe: CodebookRecipe) -> Callable[[int], tuple[Tensor]]:
    """Return what a prior of this name trains on: a function from step to images of the corpus (B, 3, S, S) -1..1."""
    images = torch.from_numpy(corpus_images(recipe.num_images, recipe.image_size))
    order = BatchOrder(len(images), recipe.batch_size, derive_seed(0, name, "batches"))
    return lambda step: (
        to_float(images[order.indices(step)]).contiguous(memory_format=torch.channels_last).to(device()),
    )
