"""The MAGE prior: a masked transformer on the codes of the VQGAN prior, trained on the corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nbutils.generators.image_codes import decoded, encoded
from nbutils.generators.mage_training import MageMethod, code_batches
from nbutils.generators.mage_weights import load_mage, save_mage
from nbutils.models.mage import MAGE, MageConfig
from nbutils.models.mage_decoding import decode_iteratively
from nbutils.priors.base import Prior, Recipe
from nbutils.seeds import derive_seed, image_seeds
from nbutils.training import TrainingLog, set_learning_rate, train

NETWORK, TOKENIZER = "network", "vqgan."


@dataclass(frozen=True)
class MageRecipe(Recipe):
    """Settings of the transformer, see MageConfig, and of its training, as MAGE's published one where not sized down.

    weight_decay: of AdamW, for matrices alone. ema_decay: of the moving average, which is what is kept.
    """

    num_classes: int = 16
    width: int = 160
    depth: int = 6
    heads: int = 5
    decoder_depth: int = 4
    decoder_heads: int = 5
    weight_decay: float = 0.05
    ema_decay: float = 0.999


class PacedMage(MageMethod):
    """The training step with the recipe's learning rate."""

    def __init__(self, network: MAGE, recipe: MageRecipe):
        trained = [p for name, p in network.named_parameters() if not name.startswith(TOKENIZER)]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        adam = torch.optim.AdamW(groups, recipe.learning_rate, betas=(0.9, 0.95), foreach=True)
        super().__init__(network, None, adam, ema_decay=recipe.ema_decay)
        self.recipe = recipe

    def step(self, step: int, codes: Tensor, hidden: Tensor, kept: Tensor, classes: Tensor) -> dict[str, Tensor]:
        set_learning_rate(self.optimizers["generator"], step, self.recipe)
        return super().step(step, codes, hidden, kept, classes)


class MagePrior(Prior):
    """The transformer; needs `vqgan`, whose weights are kept with it as in a published file."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the transformer on cached codes, without classes; its moving average is kept."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            network = self._new_network()
        method = PacedMage(network, self.recipe)
        batches, steps = self._batches(), self.recipe.num_steps
        log = train(method, batches, steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        save_mage(method.averages["generator"].module, folder / NETWORK)
        return log

    def _new_network(self) -> MAGE:
        """Return a transformer with random weights on the trained tokenizer, which is frozen."""
        recipe, tokenizer = self.recipe, self.needs["vqgan"].load()
        sizes = {name: getattr(recipe, name) for name in ("num_classes", "width", "depth", "heads")}
        grid = self.needs["vqgan"].recipe.image_size // tokenizer.config.stride
        decoder = {"decoder_depth": recipe.decoder_depth, "decoder_heads": recipe.decoder_heads}
        network = MAGE(MageConfig(grid=grid, class_word=0, vqgan=tokenizer.config, **sizes, **decoder))
        network.vqgan.load_state_dict(tokenizer.state_dict())
        network.vqgan.requires_grad_(False)
        return network

    def _batches(self) -> Callable[[int], tuple[Tensor, ...]]:
        codes = torch.from_numpy(self.needs["vqgan"].tokens(self.recipe.num_images)).long()
        return code_batches([codes[None]], self.recipe.batch_size, [derive_seed(0, self.name, "batches")])

    def load(self) -> MAGE:
        """Return the trained transformer with its tokenizer, frozen, in float32 on the device."""
        return load_mage(self.folder() / NETWORK)

    def draw(self, count: int, seed: int, num_steps: int = 12, temperature: float = 6.0) -> np.ndarray:
        """Draw images (count, 3, S, S) uint8 by iterative decoding, of no class."""
        network = self.load()
        with torch.inference_mode():
            codes = decode_iteratively(network, image_seeds(seed, count), num_steps, temperature)
        return decoded(network, codes)

    def rebuilt(self, images: np.ndarray) -> np.ndarray:
        """Return what the tokenizer leaves of images (N, 3, S, S) uint8, likewise."""
        network = self.load()
        return decoded(network, torch.from_numpy(encoded(network, images)).long())
