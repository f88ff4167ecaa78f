"""Where synthetic and mixed images lie among real ones, in each arm's own classifier (GenMix, Fig. 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.augmentation import GenMix, Plain
from nbutils.classification import Classifier, ClassifierConfig, arm_classifier, audit_arms
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

    arms, synthetic: one mapping for each generator seed, as in classification.compare; method names of `arms` that
    are not generators (mixup, augmix) are left out. audit: is asked before anything is trained.
    """

    def __init__(
        self,
        arms: Sequence[Mapping[str, Plain]],
        synthetic: Sequence[Mapping[str, ImageSet]],
        splits: Splits,
        config: ClassifierConfig,
        audit: LeakAudit,
        max_steps: int | None = None,
        retrain: bool = False,
    ):
        audit_arms(arms, splits, audit)
        self.arms, self.synthetic, self.splits, self.config = arms, synthetic, splits, config
        self.training = {"max_steps": max_steps, "retrain": retrain}
        self._classifiers: dict[tuple[str, int, int], Classifier] = {}

    def methods(self) -> list[str]:
        """Return the methods in the order of the figure: real, then each generator and its GenMix."""
        return ["real", *(name for g in self.synthetic[0] for name in (g, f"genmix({g})"))]

    def points(self, method: str, seed: int, count: int) -> PointCloud:
        """Return `count` real training points and as many of the method's, drawn at random, for a picture."""
        classifier = self._classifier(method, 0, seed)
        sources = {"real": self.splits.train}
        if method != "real":
            kind, images = self._others(method, 0, seed)
            sources[kind] = images
        chosen = {kind: _random_subset(images, count, derive_seed(seed, kind)) for kind, images in sources.items()}
        return PointCloud(
            features=np.concatenate([classifier.features(images) for images in chosen.values()]),
            labels=np.concatenate([images.labels for images in chosen.values()]),
            kinds=np.repeat(list(chosen), [len(images) for images in chosen.values()]),
            class_names=self.splits.train.class_names,
        )

    def measure(self, seeds: Sequence[int]) -> pd.DataFrame:
        """Return recall, mean shift and boundary share of every method, one row per method and seed.

        In the row `real` the validation images stand in place of synthetic ones.
        """
        rows, train = [], self.splits.train
        jobs = [(i, seed, method) for i, seed in enumerate(seeds) for method in self.methods()]
        for i, seed, method in progress(jobs, description="measures", unit="arm"):
            classifier = self._classifier(method, i, seed)
            images = self.splits.val if method == "real" else self._others(method, i, seed)[1]
            points = (classifier.features(images), images.labels, classifier.features(train), train.labels)
            row = {"method": method, "seed": seed, "generator_seed": i % len(self.arms)}
            rows.append(row | variety(*points))
        return pd.DataFrame(rows)

    def _classifier(self, method: str, i: int, seed: int) -> Classifier:
        """Return an arm's classifier; picture and measures share it, also when everything is trained again."""
        key = (method, i % len(self.arms), seed)
        if key not in self._classifiers:
            policy = self.arms[i % len(self.arms)][method]
            self._classifiers[key] = arm_classifier(
                method, policy, self.splits, self.config, seed=seed, **self.training
            )
        return self._classifiers[key]

    def _others(self, method: str, i: int, seed: int) -> tuple[str, ImageSet]:
        """Return the kind and the images of a generator's arm: its samples, or what GenMix makes with them."""
        policy = self.arms[i % len(self.arms)][method]
        if isinstance(policy, GenMix):
            return "genmix", policy.example_set(len(policy.real), seed)
        return "synthetic", self.synthetic[i % len(self.arms)][method]


def _random_subset(images: ImageSet, count: int, seed: int) -> ImageSet:
    return images.subset(np.random.default_rng(seed).permutation(len(images))[:count])
