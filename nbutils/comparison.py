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
from nbutils.scales import choose
from nbutils.training import device

Arms = Sequence[Mapping[str, Plain]]
"""One mapping, method -> policy, for each generator seed, or for each classifier seed where policies differ by it."""


@dataclass(frozen=True)
class Job:
    """One classifier of a comparison: its arm's name, its own seed, and which generator seed is behind it."""

    method: str
    seed: int
    generator_seed: int


def jobs(arms: Arms, seeds: Sequence[int], generator_seeds: Sequence[int]) -> list[Job]:
    """Return the classifiers of a comparison; classifier seed number i takes arms[i % len(arms)].

    generator_seeds: the one behind each mapping of arms.
    """
    places = [i % len(arms) for i in range(len(seeds))]
    return [
        Job(method, seed, generator_seeds[place])
        for seed, place in zip(seeds, places, strict=True)
        for method in arms[place]
    ]


class TrainedArms:
    """The classifiers of a comparison, one for each arm and seed.

    All of them are trained here, unless they are in the cache: on a CPU as many beside each other as torch has
    threads, with one thread each (small networks gain nothing from a second one, and the numbers do not depend on
    how many there are); on a GPU one after the other.

    arms: see `jobs`. splits: training (its size is the length of an epoch) and validation images. config: of the
    classifiers. audit: is asked before anything is trained. seeds: of the classifiers. generator_seeds: the one behind
    each mapping of arms, None = its number. configs: of those methods that have another one. max_steps: cut every
    training, None = do not. retrain: train even what is in the cache. leaking_selection: True = the *test* images
    choose the epoch that is kept, as in the published code of IOIS; it leaks, and the audit records it as that.

    Raises ValueError for a config of a method that is no arm.
    """

    def __init__(
        self,
        arms: Arms,
        splits: Splits,
        config: ClassifierConfig,
        audit: LeakAudit,
        *,
        seeds: Sequence[int],
        generator_seeds: Sequence[int] | None = None,
        configs: Mapping[str, ClassifierConfig] | None = None,
        max_steps: int | None = None,
        retrain: bool = False,
        leaking_selection: bool = False,
    ):
        self.arms, self.splits, self.config, self.configs = arms, splits, config, configs or {}
        self.generator_seeds = range(len(arms)) if generator_seeds is None else generator_seeds
        self.jobs, self.max_steps = jobs(arms, seeds, self.generator_seeds), max_steps
        self.selection = splits.test if leaking_selection else splits.val
        self._arms_of = {seed: arms[i % len(arms)] for i, seed in enumerate(seeds)}
        for method in self.configs:
            choose("method", method, {name: None for policies in arms for name in policies})
        self._audit(audit, leaking_selection)
        self._train([job for job in self.jobs if retrain or not self._is_at_hand(job)], retrain)

    def policy(self, job: Job) -> Plain:
        """Return what the classifier of a job trains on."""
        return self._arms_of[job.seed][job.method]

    def classifier(self, job: Job) -> Classifier:
        """Return the classifier of a job."""
        return fitted_classifier(*self._arguments(job), **self._options(job), description=job.method)

    def of_method(self, method: str) -> list[Classifier]:
        """Return the classifiers of one arm, one for each seed."""
        return [self.classifier(job) for job in self.jobs if job.method == method]

    def artefact(self, job: Job) -> str:
        """Return the name of the artefact that holds the classifier of a job."""
        return entry_name("classifier", self._key(job))

    def _key(self, job: Job) -> dict:
        return classifier_key(*self._arguments(job), **self._options(job))

    def results(self) -> pd.DataFrame:
        """Test each classifier once, and return one row per method and seed; columns as in `compare`."""
        train, test, rows = self.splits.train, self.splits.test, []
        rarest = train.class_names[int(train.class_counts().argmin())]
        for job in self.jobs:
            found = scores(test.labels, self.classifier(job).probabilities(test), test.class_names)
            rows.append({**vars(job), **found, "rarest_sensitivity": found[f"sensitivity:{rarest}"]})
        return pd.DataFrame(rows)

    def _audit(self, audit: LeakAudit, leaking_selection: bool) -> None:
        """Check and record what all arms train on, and that validation alone stops them, unless it is to leak."""
        user, split = ("leaking selection", "test") if leaking_selection else ("early stopping", "val")
        audit.check(user, self.selection, allowed=(split,))
        behind = zip(self.generator_seeds, self.arms, strict=True)
        every = {(seed, method, id(policy)): policy for seed, policies in behind for method, policy in policies.items()}
        for (generator_seed, method, _), policy in every.items():
            for source, images in policy.sources().items():
                audit.check(f"classifier {method} (generator seed {generator_seed}, {source})", images)
            for use, images in policy.held_out().items():
                user = f"classifier {method} (generator seed {generator_seed}, leaking {use})"
                audit.check(user, images, allowed=HELD_OUT)

    def _arguments(self, job: Job) -> tuple:
        return self.policy(job), self.selection, self.configs.get(job.method, self.config)

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
    return TrainedArms(arms, splits, config, audit, **training).results()
