"""Comparing ways of training a classifier: arms x seeds, trained beside each other, each tested once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config

from nbutils.artefacts import CACHE_VARIABLE, cache_folder, entry_name, find
from nbutils.augmentation import Plain
from nbutils.classification import Classifier, classifier_key, fitted_classifier
from nbutils.datasets import Splits
from nbutils.datasets.audit import HELD_OUT, LeakAudit
from nbutils.metrics.classification import scores
from nbutils.progress import PROGRESS_FILE, progress
from nbutils.protocols import ClassifierConfig
from nbutils.training import device

Arms = Sequence[Mapping[str, Plain]]
"""One mapping, method -> policy, for each generator seed."""


@dataclass(frozen=True)
class Job:
    """One classifier of a comparison: its arm's name, its own seed, and which generator seed is behind it."""

    method: str
    seed: int
    generator_seed: int


def jobs(arms: Arms, seeds: Sequence[int]) -> list[Job]:
    """Return the classifiers of a comparison; classifier seed number i takes arms[i % len(arms)]."""
    return [Job(method, seed, i % len(arms)) for i, seed in enumerate(seeds) for method in arms[i % len(arms)]]


class TrainedArms:
    """The classifiers of a comparison, one for each arm and seed.

    All of them are trained here, unless they are in the cache: on a CPU as many beside each other as torch has
    threads, with one thread each (small networks gain nothing from a second one, and the numbers do not depend on
    how many there are); on a GPU one after the other.

    arms: one mapping for each generator seed. splits: training (its size is the length of an epoch) and validation
    images. audit: is asked before anything is trained. seeds: of the classifiers. max_steps: cut every training,
    None = do not. retrain: train even what is in the cache.
    """

    def __init__(
        self,
        arms: Arms,
        splits: Splits,
        config: ClassifierConfig,
        audit: LeakAudit,
        *,
        seeds: Sequence[int],
        max_steps: int | None = None,
        retrain: bool = False,
    ):
        self.arms, self.splits, self.config = arms, splits, config
        self.jobs, self.max_steps = jobs(arms, seeds), max_steps
        self._audit(audit)
        self._train([job for job in self.jobs if retrain or not self._is_at_hand(job)], retrain)

    def policy(self, job: Job) -> Plain:
        """Return what the classifier of a job trains on."""
        return self.arms[job.generator_seed][job.method]

    def classifier(self, job: Job) -> Classifier:
        """Return the classifier of a job."""
        return fitted_classifier(*self._arguments(job), **self._options(job), description=job.method)

    def artefact(self, job: Job) -> str:
        """Return the name of the artefact that holds the classifier of a job."""
        return entry_name("classifier", self._key(job))

    def _key(self, job: Job) -> dict:
        return classifier_key(*self._arguments(job), **self._options(job))

    def _audit(self, audit: LeakAudit) -> None:
        """Check and record what the arms of all generator seeds train on, and that validation alone stops them."""
        audit.check("early stopping", self.splits.val, allowed=("val",))
        for generator_seed, policies in enumerate(self.arms):
            for method, policy in policies.items():
                for source, images in policy.sources().items():
                    audit.check(f"classifier {method} (generator seed {generator_seed}, {source})", images)
                for use, images in policy.held_out().items():
                    user = f"classifier {method} (generator seed {generator_seed}, leaking {use})"
                    audit.check(user, images, allowed=HELD_OUT)

    def _arguments(self, job: Job) -> tuple:
        return self.policy(job), self.splits.val, self.config

    def _options(self, job: Job) -> dict:
        return {"seed": job.seed, "epoch_images": len(self.splits.train), "max_steps": self.max_steps}

    def _is_at_hand(self, job: Job) -> bool:
        return find("classifier", self._key(job)) is not None

    def _train(self, missing: Sequence[Job], retrain: bool) -> None:
        """Train classifiers into the cache."""
        workers = 1 if device().type == "cuda" else torch.get_num_threads()
        # A worker has this process's cache, whenever it was started, and leaves the progress bar to this process.
        environment = {CACHE_VARIABLE: str(cache_folder()), PROGRESS_FILE: os.devnull} if workers > 1 else {}
        calls = (
            delayed(_train_one)(
                environment,
                *self._arguments(job),
                **self._options(job),
                retrain=retrain,
                description=f"{job.method} (seed {job.seed})",
            )
            for job in missing
        )
        # Large arrays are shared as copies on write: torch warns of read-only ones.
        with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, mmap_mode="c"):
            done = Parallel(return_as="generator_unordered")(calls)
            for _ in progress(done, description="classifiers", total=len(missing), unit="classifier"):
                pass


def _train_one(environment: Mapping[str, str], *arguments, **options) -> None:
    """Train one classifier into the cache; module-level, so that another process can be asked to."""
    os.environ.update(environment)
    fitted_classifier(*arguments, **options)


def compare(arms: Arms, splits: Splits, config: ClassifierConfig, audit: LeakAudit, **training) -> pd.DataFrame:
    """Train every arm with every seed, test each classifier once, and return one row per method and seed.

    The arguments are those of TrainedArms. Columns: method, seed, generator_seed, then the scores of
    metrics.classification as fractions 0..1, and `rarest_sensitivity`, the sensitivity of the class with the fewest
    training images.
    """
    trained = TrainedArms(arms, splits, config, audit, **training)
    rarest = splits.train.class_names[int(splits.train.class_counts().argmin())]
    rows = []
    for job in trained.jobs:
        probabilities = trained.classifier(job).probabilities(splits.test)
        found = scores(splits.test.labels, probabilities, splits.test.class_names)
        found["rarest_sensitivity"] = found[f"sensitivity:{rarest}"]
        rows.append({**vars(job), **found})
    return pd.DataFrame(rows)
