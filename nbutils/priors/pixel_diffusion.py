"""The class-free diffusion prior in pixels (ADM), from which the generator `diffusion` is fine-tuned."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nbutils import corpus, generators
from nbutils.generators.base import Generator
from nbutils.generators.diffusion import RANDOM
from nbutils.images import ImageSet
from nbutils.priors.base import Prior, Recipe, corpus_images
from nbutils.training import TrainingLog


@dataclass(frozen=True)
class PixelDiffusionRecipe(Recipe):
    """scale: whose network of the generator `diffusion` it is; the corpus is rendered at that network's size.

    ema_decay: of the weights' moving average, which is what is kept.
    """

    scale: str = "demo"
    ema_decay: float = 0.999


class PixelDiffusion(Prior):
    """The generator `diffusion` of a scale, trained on the corpus without classes; its folder is a generator's."""

    def key(self) -> dict:
        """Return everything that determines the weights, the generator's settings included."""
        generator = self._generator()
        return {**super().key(), "generator": json.loads(json.dumps(asdict(generator.config))), "of": generator.version}

    def _generator(self) -> Generator:
        recipe = self.recipe
        return generators.create(
            "diffusion",
            recipe.scale,
            initial_weights=RANDOM,
            num_steps=recipe.num_steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
            cooldown=recipe.cooldown,
            ema_decay=recipe.ema_decay,
            flip=False,
        )

    def fit(self, folder: Path) -> TrainingLog:
        """Train the generator."""
        recipe, generator = self.recipe, self._generator()
        size = generator.config.image_size
        origin = f"corpus v{corpus.VERSION} size={size} 0..{recipe.num_images}"
        images = corpus_images(recipe.num_images, size)
        count = len(images)
        log = generator.fit(
            ImageSet(images, np.zeros(count), ("corpus",), np.arange(count), "corpus", origin), checkpoint_folder=folder
        )
        generator.save(folder)
        return log
