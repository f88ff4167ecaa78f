"""Class imbalance: losses that weigh classes, policies that draw rare ones more often, how many to synthesise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from nbutils.augmentation import Batch, Plain
from nbutils.images import ImageSet
from nbutils.seeds import derive_seed
from nbutils.training import ImageBatches


def accuracy_adaptive_counts(accuracies: Sequence[float], total: int, temperature: float = 1.0) -> np.ndarray:
    """Return how many images to synthesise of each class, (num_classes,) int64 that sum to `total` (IOIS, Eq. 5).

    accuracies: the classifier's accuracy on the training images of each class, fractions 0..1. Equal ones give equal
    counts, as they do before the first epoch, when nothing is known. temperature: the softmax of the paper has 1, with
    which no class gets more than e times as many as another; lower ones favour the classes that are read worst.

    Counts are rounded by largest remainder, so that none is lost; the published code cuts the fractions off. Raises
    ValueError for accuracies outside of 0..1, a negative total, and a temperature that is not positive.
    """
    acc, K = np.asarray(accuracies, dtype=float), total
    if not ((acc >= 0) & (acc <= 1)).all():
        raise ValueError(f"Accuracies must be fractions from 0 to 1, one for each class, found {_listed(acc)}.")
    if K < 0 or temperature <= 0:
        raise ValueError(f"total must be 0 or more and temperature above 0, found {total} and {temperature}.")
    k = softmax((1 - acc) / temperature) * K
    counts = np.floor(k).astype(np.int64)
    largest_remainders = np.argsort(counts - k, kind="stable")[: K - counts.sum()]
    counts[largest_remainders] += 1
    return counts


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0, class_weights: Tensor | None = None) -> Tensor:
    """Return the focal loss (Lin et al. 2017, Eq. 5) of a softmax, the mean over the batch.

    logits: (B, num_classes) float. targets: labels (B,) int64, or the share of each class (B, num_classes) float, over
    which the loss of the classes is then averaged. gamma: 0 = cross-entropy. class_weights: (num_classes,), alpha of
    the equation; None = 1 for each class. Whatever the weights, the sum is divided by B.

    Lin et al. and Cui et al. (2019, class-balanced focal loss) take it of a sigmoid for each class, and so does the
    code of IOIS for its row CB-Focal, but not for Focal. Here both are of a softmax, as cross-entropy is: the two rows
    differ in the weights alone.
    """
    if targets.ndim == 1:
        targets = one_hot(targets, logits.shape[1]).to(logits.dtype)
    log_p = log_softmax(logits, dim=1)  # (B, num_classes)
    missing = (1 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).eps)  # a root has no finite slope at zero
    loss = -(missing**gamma) * log_p
    if class_weights is not None:
        loss = loss * class_weights.to(loss)
    return (targets * loss).sum(dim=1).mean()


def class_balanced_weights(counts: Sequence[int], beta: float) -> Tensor:
    """Return class weights (num_classes,) float32, inverse to the effective number of images, that sum to num_classes.

    Cui et al. 2019, Section 4. counts: training images of each class. beta: 0 = all classes weigh alike; the nearer to
    1, the nearer to weights of 1 / count. Raises ValueError for a class without images, and unless 0 <= beta < 1.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be 0 or more and less than 1, found {beta}.")
    n_y = _every_class_counted(counts)
    weights = (1 - beta) / (1 - beta**n_y)
    return torch.from_numpy(weights / weights.mean()).float()


def sqrt_sampling_probabilities(counts: Sequence[int]) -> np.ndarray:
    """Return the probability of drawing each class by square-root sampling, (num_classes,) float64 that sum to 1.

    Mahajan et al. 2018: in proportion to the root of its count. counts: training images of each class. Raises
    ValueError for a class without images.
    """
    roots = np.sqrt(_every_class_counted(counts))
    return roots / roots.sum()


def progressive_sampling_probabilities(counts: Sequence[int], epoch: int, num_epochs: int) -> np.ndarray:
    """Return the probability of drawing each class in an epoch (from 0), (num_classes,) float64 that sum to 1.

    Kang et al. 2020, progressively-balanced sampling: from the classes' shares of the images in the first epoch to
    equal ones in the last, in equal steps. Their t / T is epoch / (num_epochs - 1), as in their published code: else
    the last epoch were not balanced. An epoch after the last is like it, the only one like the first. counts: training
    images of each class. Raises ValueError for a class without images.
    """
    n = _every_class_counted(counts)
    t, T = min(epoch, num_epochs - 1), max(num_epochs - 1, 1)
    return (1 - t / T) * n / n.sum() + t / T / len(n)


def _every_class_counted(counts: Sequence[int]) -> np.ndarray:
    """Return counts as an array (num_classes,) float64. Raises ValueError for a class without images."""
    counts = np.asarray(counts, dtype=float)
    if not (counts > 0).all():
        raise ValueError(f"Every class needs training images to be weighed or drawn, found {_listed(counts)}.")
    return counts


def _listed(values: np.ndarray) -> str:
    """Return numbers as a message shows them."""
    return ", ".join(f"{value:g}" for value in values)


class ResampledBatches(ImageBatches):
    """Batches of images drawn at random with replacement; batch number i depends on the seed and i alone.

    probabilities: step -> (num_classes,), of drawing each class; the images of a class are drawn alike.
    """

    def __init__(self, images: ImageSet, batch_size: int, seed: int, probabilities: Callable[[int], np.ndarray]):
        super().__init__(images, batch_size, seed)
        self.probabilities, self.classes, self.class_counts = probabilities, images.labels, images.class_counts()

    def indices(self, step: int) -> Tensor:
        weights = (self.probabilities(step) / self.class_counts)[self.classes]  # (N,), of each image
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "resampling", step))
        return torch.multinomial(torch.from_numpy(weights), self.batch_size, replacement=True, generator=generator)


@dataclass(frozen=True)
class Oversampling(Plain):
    """A policy that draws all classes alike, the images of rare ones again and again; the base of those that resample.

    Kang et al. call it class-balanced sampling. Their code goes through the images of a class in turn; here each draw
    is independent, so that a batch depends on the seed and its number alone.
    """

    def batches(self, batch_size: int, seed: int) -> Callable[[int], Batch]:
        draw = ResampledBatches(self.pool, batch_size, derive_seed(seed, "pool"), self.probabilities)
        return lambda step: self.transform(*draw(step))

    def probabilities(self, step: int) -> np.ndarray:
        """Return the probability of drawing each class at a training step (from 0), (num_classes,) that sum to 1."""
        counts = _every_class_counted(self.pool.class_counts())
        return np.full(len(counts), 1 / len(counts))


@dataclass(frozen=True)
class SquareRootSampling(Oversampling):
    """Sqrt-RS: classes are drawn by sqrt_sampling_probabilities."""

    def probabilities(self, step: int) -> np.ndarray:
        return sqrt_sampling_probabilities(self.pool.class_counts())


@dataclass(frozen=True)
class ProgressiveSampling(Oversampling):
    """PG-RS: classes are drawn by progressive_sampling_probabilities.

    steps_per_epoch, num_epochs: of the training, see ClassifierConfig.
    """

    steps_per_epoch: int
    num_epochs: int

    def probabilities(self, step: int) -> np.ndarray:
        counts = self.pool.class_counts()
        return progressive_sampling_probabilities(counts, step // self.steps_per_epoch, self.num_epochs)

    def key(self) -> dict:
        return {**super().key(), "steps_per_epoch": self.steps_per_epoch, "num_epochs": self.num_epochs}
