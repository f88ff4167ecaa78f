"""Where synthetic and mixed images lie among real ones, in each arm's own classifier (GenMix, Fig. 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.augmentation import GenMix
from nbutils.classification import ClassifierConfig
from nbutils.comparison import Arms, Job, TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.images import ImageSet
from nbutils.metrics.variety import variety
from nbutils.progress import progress
from nbutils.seeds import derive_seed


@dataclass(frozen=True)
class PointCloud:
    """Points of one arm: features (N, D) float32, labels (N,) int64, kinds (N,) str real, synthetic or genmix."""

    features: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    class_names: tuple[str, ...]


class Placements:
    """The arms of a comparison, each seen through its own classifier.

    arms, synthetic: one mapping for each generator seed; arms that are neither `real` nor a generator's or its GenMix
    (mixup, augmix) are left out. The other arguments are those of comparison.TrainedArms.
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
        shown = [{method: policies[method] for method in self.methods()} for policies in arms]
        self.trained = TrainedArms(shown, splits, config, audit, **training)

    def methods(self) -> list[str]:
        """Return the methods in the order of the figure: real, then each generator and its GenMix."""
        return ["real", *(name for g in self.synthetic[0] for name in (g, f"genmix({g})"))]

    def points(self, method: str, count: int) -> PointCloud:
        """Return `count` real training points and as many of the method's, drawn at random, for a picture.

        They are seen through the method's classifier of the first seed.
        """
        job = next(job for job in self.trained.jobs if job.method == method)
        classifier = self.trained.classifier(job)
        sources = {"real": self.splits.train}
        if method != "real":
            kind, images = self._others(job)
            sources[kind] = images
        chosen = {kind: _random_subset(images, count, derive_seed(job.seed, kind)) for kind, images in sources.items()}
        return PointCloud(
            features=np.concatenate([classifier.features(images) for images in chosen.values()]),
            labels=np.concatenate([images.labels for images in chosen.values()]),
            kinds=np.repeat(list(chosen), [len(images) for images in chosen.values()]),
            class_names=self.splits.train.class_names,
        )

    def measure(self) -> pd.DataFrame:
        """Return recall, mean shift and boundary share of every method, one row per method and seed.

        In the row `real` the validation images stand in place of synthetic ones.
        """
        rows, train = [], self.splits.train
        for job in progress(self.trained.jobs, description="measures", unit="arm"):
            classifier = self.trained.classifier(job)
            images = self.splits.val if job.method == "real" else self._others(job)[1]
            points = (classifier.features(images), images.labels, classifier.features(train), train.labels)
            rows.append(vars(job) | variety(*points))
        return pd.DataFrame(rows)

    def _others(self, job: Job) -> tuple[str, ImageSet]:
        """Return the kind and the images of a generator's arm: its samples, or what GenMix makes with them."""
        policy = self.trained.policy(job)
        if isinstance(policy, GenMix):
            return "genmix", policy.example_set(len(policy.real), job.seed)
        return "synthetic", self.synthetic[job.generator_seed][job.method]


def _random_subset(images: ImageSet, count: int, seed: int) -> ImageSet:
    return images.subset(np.random.default_rng(seed).permutation(len(images))[:count])
