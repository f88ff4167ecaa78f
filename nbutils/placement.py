"""Where synthetic and mixed images lie among real ones in a classifier's features (GenMix, Fig. 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.augmentation import GenMix
from nbutils.comparison import Arms, Job, TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.images import ImageSet
from nbutils.metrics.variety import variety
from nbutils.progress import progress
from nbutils.protocols import ClassifierConfig
from nbutils.seeds import derive_seed


@dataclass(frozen=True)
class PointCloud:
    """Points of one arm: features (N, D) float32, labels (N,) int64, kinds (N,) str real, synthetic or genmix."""

    features: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    class_names: tuple[str, ...]


class Placements:
    """The arms of a comparison: drawn in each one's own classifier, measured in that of real images alone.

    arms, synthetic: one mapping for each generator seed; arms other than `real`, `mixup`, each generator and its
    GenMix are left out. The other arguments are those of comparison.TrainedArms.
    """

    def __init__(
        self,
        arms: Arms,
        synthetic: Sequence[Mapping[str, ImageSet]],
        splits: Splits,
        config: ClassifierConfig,
        audit: LeakAudit,
        **training,
    ):
        self.synthetic, self.splits = synthetic, splits
        kept = [{method: policies[method] for method in (*self.methods(), "mixup")} for policies in arms]
        self.trained = TrainedArms(kept, splits, config, audit, **training)

    def methods(self) -> list[str]:
        """Return the methods of the figure in its order: real, then each generator and its GenMix."""
        return ["real", *(name for g in self.synthetic[0] for name in (g, f"genmix({g})"))]

    def points(self, method: str, count: int) -> PointCloud:
        """Return `count` real training points and as many of the method's, drawn at random, for a picture.

        They are seen through the method's classifier of the first seed.
        """
        job = next(job for job in self.trained.jobs if job.method == method)
        classifier = self.trained.classifier(job)
        sources = {"real": self.splits.train}
        if method != "real":
            kind = "genmix" if isinstance(self.trained.policy(job), GenMix) else "synthetic"
            sources[kind] = self._training_images(job)
        chosen = {kind: _random_subset(images, count, derive_seed(job.seed, kind)) for kind, images in sources.items()}
        return PointCloud(
            features=np.concatenate([classifier.features(images) for images in chosen.values()]),
            labels=np.concatenate([images.labels for images in chosen.values()]),
            kinds=np.repeat(list(chosen), [len(images) for images in chosen.values()]),
            class_names=self.splits.train.class_names,
        )

    def measure(self, max_class_points: int) -> pd.DataFrame:
        """Return recall, mean shift and boundary share of every method, one row per method and seed.

        All methods of a seed are measured in one space, the features of its classifier `real`, else they could not be
        compared. Real points are the *validation* images, which no arm trains on; the row `real` holds the training
        images against them, `mixup` mixtures of these. In each class every arm gives as many points, drawn at random:
        the smallest number that any of them has, and no more than max_class_points.
        """
        rows, val = [], self.splits.val
        added = [self._training_images(job) for job in self.trained.jobs]
        counts = np.minimum(np.min([images.class_counts() for images in added], axis=0), max_class_points)
        spaces = {job.seed: self.trained.classifier(job) for job in self.trained.jobs if job.method == "real"}
        real = {seed: space.features(val) for seed, space in spaces.items()}
        jobs = progress(self.trained.jobs, description="measures", unit="arm")
        for job, images in zip(jobs, added, strict=True):
            images = _drawn_per_class(images, counts, job.seed)
            points = (spaces[job.seed].features(images), images.labels, real[job.seed], val.labels)
            rows.append(vars(job) | variety(*points))
        return pd.DataFrame(rows)

    def _training_images(self, job: Job) -> ImageSet:
        """Return what a method adds: real images, a generator's samples, or as many mixtures as real images."""
        policy = self.trained.policy(job)
        if job.method in self.synthetic[job.generator_seed]:
            return self.synthetic[job.generator_seed][job.method]
        return policy.pool if job.method == "real" else policy.example_set(len(self.splits.train), job.seed)


def _random_subset(images: ImageSet, count: int, seed: int) -> ImageSet:
    return images.subset(np.random.default_rng(seed).permutation(len(images))[:count])


def _drawn_per_class(images: ImageSet, counts: np.ndarray, seed: int) -> ImageSet:
    """Draw counts[label] images of each class at random."""
    order = np.random.default_rng(derive_seed(seed, "measured")).permutation(len(images))
    return images.subset(np.concatenate([order[images.labels[order] == label][:n] for label, n in enumerate(counts)]))
