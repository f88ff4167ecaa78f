"""The training of the backbone: a small timm network learns to read the corpus' attributes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from nbutils import weights
from nbutils.backbone import NUM_VALUES, WEIGHTS, build_reader
from nbutils.images import to_float
from nbutils.priors.base import Prior, Recipe, corpus_images, corpus_texts
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, TrainingLog, autocast, device, set_learning_rate, train


@dataclass(frozen=True)
class BackboneRecipe(Recipe):
    """network: a timm model. image_sizes: batches take turns among the corpus rendered at these sizes, in pixels.

    weight_decay: of AdamW. ema_decay: of the weights' moving average, which is what is kept.
    """

    network: str = "test_byobnet"
    image_sizes: tuple[int, ...] = (32, 64)
    weight_decay: float = 0.05
    ema_decay: float = 0.999
    options: ClassVar[tuple[tuple[str, object], ...]] = ()


@dataclass(frozen=True)
class SizedBackboneRecipe(BackboneRecipe):
    """Of a timm network that is made for one size of images, as transformers are.

    options: further arguments of timm.create_model, as (name, value) pairs.
    """

    options: tuple[tuple[str, object], ...] = ()


def attribute_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over attributes and images, a scalar.

    logits: (B, sum of values) float. targets: (B, attributes) int64, -1 = the image does not have that attribute.
    """
    losses = [
        cross_entropy(part, target, ignore_index=-1, reduction="sum")
        for part, target in zip(logits.split(NUM_VALUES, dim=1), targets.unbind(1), strict=True)
    ]
    return torch.stack(losses).sum() / (targets >= 0).sum()


class BackboneMethod(Method):
    """AdamW on the cross-entropy of all attributes."""

    def __init__(self, network: nn.Module, recipe: BackboneRecipe):
        optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        super().__init__({"network": network}, {"network": optimizer}, {"network": recipe.ema_decay})
        self.recipe = recipe

    def step(self, step: int, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Do one step on images (B, 3, H, W) -1..1 and the indices of their attributes' values."""
        recipe, optimizer = self.recipe, self.optimizers["network"]
        set_learning_rate(optimizer, step, recipe)
        with autocast():
            loss = attribute_loss(self.modules["network"](images).float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}


class Backbone(Prior):
    """The network that reads attributes: extractor `shipped` of nbutils.features, and start of classifiers."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the network; its moving average is kept."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            method = BackboneMethod(
                build_reader(recipe.network, recipe.options).to(memory_format=torch.channels_last), recipe
            )
        batches = attribute_batches(recipe.num_images, recipe.image_sizes, recipe.batch_size)
        log = train(method, batches, recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        # The average of weights alone would be normalised with the statistics of batches that other weights saw.
        average = method.averages["network"].module
        update_bn((batches(step)[0] for step in range(50)), average, device())
        weights.save_half(average.state_dict(), folder / WEIGHTS)
        return log


def attribute_batches(
    count: int, image_sizes: tuple[int, ...], batch_size: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return a function from step to images (B, 3, S, S) -1..1, S taking turns, and (B, attributes) int64."""
    images = [torch.from_numpy(corpus_images(count, size)) for size in image_sizes]
    targets = torch.from_numpy(np.stack(list(corpus_texts(count)[1].values()), axis=1))
    order = BatchOrder(count, batch_size, derive_seed(0, "backbone", "batches"))

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = order.indices(step)
        pixels = to_float(images[step % len(images)][rows]).contiguous(memory_format=torch.channels_last)
        return pixels.to(device()), targets[rows].to(device())

    return batch
