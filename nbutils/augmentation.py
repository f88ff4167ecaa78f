"""Ways to use images for training a classifier: as they are, with synthetic ones appended, MixUp, AugMix, GenMix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2

from nbutils.images import ImageSet, concatenate, synthetic_set, to_float, to_uint8
from nbutils.scales import choose
from nbutils.seeds import derive_seed
from nbutils.training import ImageBatches

AUGMIX_CHUNK = 8
EXAMPLE_BATCH = 64
"""Examples come in batches as in training: MixUp draws one lambda for each."""

MIX_FROM = ("real+synthetic", "synthetic")
"""What GenMix may weigh by lambda: the mixed data of Section 2 (our default), or the synthetic ones of Eq. 1."""

Batch = tuple[Tensor, Tensor]


class AdaptiveBatches(Protocol):
    """Batches that follow the classifier they train, with what they have become part of its checkpoint."""

    def __call__(self, step: int) -> Batch:
        """Return a batch as Plain.batches does; asked for in turn, each before the classifier takes that step."""

    def state_dict(self) -> dict:
        """Return what the next batches depend on, as tensors, numbers, lists and dicts."""

    def load_state_dict(self, state: dict) -> None:
        """Take back what state_dict returned."""

    def trace(self) -> pd.DataFrame:
        """Return what was done, a row for each epoch."""


@dataclass(frozen=True)
class Plain:
    """A policy that trains on the images of `pool` as they are; the base of all policies."""

    pool: ImageSet

    def batches(self, batch_size: int, seed: int) -> Callable[[int], Batch]:
        """Return step -> images (B, C, H, W) float32 -1..1 and targets (B, num_classes) float32 that sum to 1."""
        draw = ImageBatches(self.pool, batch_size, derive_seed(seed, "pool"))
        return lambda step: self.transform(*draw(step))

    def adaptive_batches(self, classifier: object, seed: int, steps_per_epoch: int) -> AdaptiveBatches | None:
        """Return batches for the training of this very classifier, None = `batches` will do, it changes nothing.

        classifier: a classification.Classifier, whose network is the one that is trained.
        """
        return None

    def transform(self, images: Tensor, labels: Tensor) -> Batch:
        """Turn images (B, C, H, W) and labels (B,) int64 into a training batch; random, from torch's generator."""
        return images, one_hot(labels, self.pool.num_classes).float()

    def key(self) -> dict:
        """Return what determines the batches, as JSON values."""
        return {"policy": type(self).__name__, "pool": self.pool.fingerprint()}

    def sources(self) -> dict[str, ImageSet]:
        """Return everything that a classifier trained on this policy sees, by name."""
        return {"pool": self.pool}

    def held_out(self) -> dict[str, ImageSet]:
        """Return the validation or test images that it uses on purpose, as a published protocol does, by their use."""
        return {}

    def examples(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` training images (count, C, H, W) uint8 and their targets (count, num_classes) float32."""
        batches = self.batches(EXAMPLE_BATCH, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "examples"))
            drawn = [batches(step) for step in range(-(-count // EXAMPLE_BATCH))]
        images, targets = (torch.cat(parts)[:count] for parts in zip(*drawn, strict=True))
        return to_uint8(images), targets.cpu().numpy()

    def example_set(self, count: int, seed: int) -> ImageSet:
        """Return `count` training images, each labelled with the class of its largest target."""
        images, targets = self.examples(count, seed)
        return synthetic_set(images, targets.argmax(axis=1), self.pool.class_names, name=type(self).__name__)


@dataclass(frozen=True)
class MixUp(Plain):
    """MixUp (Zhang et al. 2018) by torchvision: one lambda ~ Beta(alpha, alpha) a batch, mixed with its own roll."""

    alpha: float = 0.3

    def transform(self, images: Tensor, labels: Tensor) -> Batch:
        return v2.MixUp(alpha=self.alpha, num_classes=self.pool.num_classes)(images, labels)

    def key(self) -> dict:
        return {**super().key(), "alpha": self.alpha}


@dataclass(frozen=True)
class AugMix(Plain):
    """AugMix (Hendrycks et al. 2020) by torchvision; the operations of a chain are shared by eight images.

    The mixing weights are per image. The consistency loss of the AugMix paper is not part of it: GenMix mentions
    none.
    """

    def transform(self, images: Tensor, labels: Tensor) -> Batch:
        augment = v2.AugMix()
        chunks = torch.from_numpy(to_uint8(images)).split(AUGMIX_CHUNK)
        mixed = torch.cat([augment(chunk) for chunk in chunks]).to(images.device)
        return super().transform(to_float(mixed), labels)


@dataclass(frozen=True)
class GenMix(Plain):
    """GenMix (Eq. 1): x = lambda x_S + (1 - lambda) x_R, y likewise, lambda ~ Beta(alpha, 1) for each image.

    pool: the side weighed by lambda (mean alpha / (1 + alpha) = 0.23). Section 2 mixes real images with "the mixed
        data of real and synthetic images": give both, the default of `table_arms`. Eq. 1 mixes them with synthetic
        ones: give those alone.
    real: the real images x_R.
    """

    real: ImageSet
    alpha: float = 0.3

    def batches(self, batch_size: int, seed: int) -> Callable[[int], Batch]:
        draw = ImageBatches(self.pool, batch_size, derive_seed(seed, "pool"))
        draw_real = ImageBatches(self.real, batch_size, derive_seed(seed, "real"))
        return lambda step: self.mix(*draw(step), *draw_real(step))

    def mix(self, x_s: Tensor, y_s: Tensor, x_r: Tensor, y_r: Tensor) -> Batch:
        """Mix two batches of images and labels by Eq. 1."""
        alpha, beta = torch.tensor(self.alpha), torch.tensor(1.0)
        lam = torch.distributions.Beta(alpha, beta).sample((len(x_s),)).to(x_s.device)
        weight = lam[:, None, None, None]  # (B, 1, 1, 1)
        y_s, y_r = (one_hot(y, self.pool.num_classes).float() for y in (y_s, y_r))  # (B, num_classes)
        return weight * x_s + (1 - weight) * x_r, lam[:, None] * y_s + (1 - lam[:, None]) * y_r

    def sources(self) -> dict[str, ImageSet]:
        return {**super().sources(), "real": self.real}

    def key(self) -> dict:
        return {**super().key(), "real": self.real.fingerprint(), "alpha": self.alpha}


def labels_for_share(real: ImageSet, share: float) -> np.ndarray:
    """Return labels, (M,) int64, such that in each class `share` of real plus M synthetic images are synthetic.

    0.5 = as many synthetic as real images of each class. Raises ValueError unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share of synthetic images must lie between 0 and 1, found {share}.")
    counts = np.rint(real.class_counts() * share / (1 - share)).astype(np.int64)
    return np.repeat(np.arange(real.num_classes), counts)


def total_to_fill(real: ImageSet, total: int) -> int:
    """Return `total`, or where all classes have as many real images, twice those of the smallest class."""
    smallest = int(real.class_counts().min())
    return total if smallest < total else 2 * smallest


def labels_to_fill(real: ImageSet, total: int) -> np.ndarray:
    """Return labels, (M,) int64, of the synthetic images that fill each class up to `total` images.

    A class that has as many or more gets none. Raises ValueError if that holds for all of them.
    """
    missing = np.maximum(total - real.class_counts(), 0)
    if not missing.any():
        counts = ", ".join(map(str, real.class_counts()))
        raise ValueError(f"Classes to be filled up to {total} images already have {counts}: ask for more.")
    return np.repeat(np.arange(real.num_classes), missing)


def repeated(real: ImageSet, labels, seed: int) -> ImageSet:
    """Return one real image for each label, (M,) int, drawn at random, each as often as the others of its class.

    What filling up a class does without a generator. Raises ValueError for a class without images.
    """
    labels, chosen = np.asarray(labels, dtype=np.int64), np.zeros(len(labels), np.int64)
    generator = np.random.default_rng(derive_seed(seed, "repeated"))
    for label in np.unique(labels):
        own, wanted = np.flatnonzero(real.labels == label), np.flatnonzero(labels == label)
        if not len(own):
            raise ValueError(f"{real.name}: there is no image of {real.class_names[label]} to repeat.")
        rounds = [generator.permutation(own) for _ in range(-(-len(wanted) // len(own)))]
        chosen[wanted] = np.concatenate(rounds)[: len(wanted)]
    return real.subset(chosen)


def append(real: ImageSet, synthetic: ImageSet) -> ImageSet:
    """Join real and synthetic images into one training pool."""
    return concatenate([real, synthetic], name=f"{real.name} + {synthetic.name}")


def table_arms(
    real: ImageSet, synthetic: Mapping[str, ImageSet], alpha: float, mix_from: str = MIX_FROM[0]
) -> dict[str, Plain]:
    """Return the arms of GenMix's Table 1, by name: real, mixup, augmix, each generator appended, genmix with each.

    synthetic: the images of each generator. mix_from: one of MIX_FROM. Raises ValueError for another one.
    """
    choose("value of mix_from", mix_from, dict.fromkeys(MIX_FROM))
    arms: dict[str, Plain] = {"real": Plain(real), "mixup": MixUp(real, alpha=alpha), "augmix": AugMix(real)}
    arms |= {name: Plain(append(real, images)) for name, images in synthetic.items()}
    for name, images in synthetic.items():
        pool = append(real, images) if mix_from == MIX_FROM[0] else images
        arms[f"genmix({name})"] = GenMix(pool, real=real, alpha=alpha)
    return arms
