"""Utility of synthetic images to a classifier: added to real ones, or alone, to learn features from.

Source: the utility paper (Xing et al. 2023), Sections II-D and III.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from nbutils.augmentation import Plain, append
from nbutils.classification import Classifier
from nbutils.comparison import TrainedArms
from nbutils.datasets.audit import LeakAudit
from nbutils.images import ImageSet
from nbutils.metrics.utility import combined_p, mcnemar
from nbutils.protocols import TUNING_SHARE, ClassifierConfig
from nbutils.traditional import Traditional
from nbutils.verdicts import paired

REAL, TRADITIONAL = "real", "traditional"
REAL_TUNED = "real, tuned"
"""The layers that real images trained, with a last layer tuned like those of the synthetic ones."""

ROTATION, CONTRAST = 15.0, 0.2
"""Of traditional augmentation, which Xing et al. name without strengths: degrees and a share of change, either way."""


def traditional(real: ImageSet, input_size: int | None = None) -> Traditional:
    """Return the traditional augmentation of Xing et al., Section III: random flips, rotations and contrast changes.

    input_size: of the classifier, see Traditional.
    """
    off = {"translation": 0.0, "scaling": 0.0, "gamma": (1.0, 1.0), "brightness": 0.0, "noise": 0.0}
    return Traditional(real, rotation=ROTATION, contrast=CONTRAST, channel_dropout=0.0, input_size=input_size, **off)


def augmentation_arms(
    real: ImageSet, synthetic: Mapping[str, ImageSet], input_size: int | None = None
) -> dict[str, Plain]:
    """Return the arms of the augmentation utility: real, traditional, and real with each generator's images appended.

    How many synthetic images Xing et al. add is not stated: give as many as there are real ones.
    """
    appended = {name: Plain(append(real, images)) for name, images in synthetic.items()}
    return {REAL: Plain(real), TRADITIONAL: traditional(real, input_size), **appended}


def extraction_arms(real: ImageSet, synthetic: Mapping[str, ImageSet]) -> dict[str, Plain]:
    """Return the arms that learn features: from real images, and from each generator's alone."""
    return {REAL: Plain(real), **{name: Plain(images) for name, images in synthetic.items()}}


class TunedExtractors(TrainedArms):
    """The classifiers of `pretrained`, only their last layer tuned on a part of the real images.

    Every arm tunes on the same TUNING_SHARE of the training images, drawn at random, each class in its share, and has
    the seed of the classifier it starts from. Two further arms tell what features are worth that saw neither real nor
    synthetic images: "scratch", random ones, and the config's initial weights ("prior" or "imagenet"), if they are not
    random. Xing et al. lack both.

    pretrained: arms of `extraction_arms`. config: protocols.tuning_config of their settings. audit, retrain: as
    TrainedArms has them.
    """

    def __init__(self, pretrained: TrainedArms, config: ClassifierConfig, audit: LeakAudit, *, retrain: bool = False):
        self.pretrained, splits = pretrained, pretrained.splits
        part = splits.train.thinned(round(TUNING_SHARE * len(splits.train)), seed=0)
        references = dict.fromkeys(("scratch", config.initial_weights))
        arms = [{method: Plain(part) for method in (*policies, *references)} for policies in pretrained.arms]
        super().__init__(
            arms,
            replace(splits, train=part),
            config,
            audit,
            seeds=list(dict.fromkeys(job.seed for job in pretrained.jobs)),
            max_steps=pretrained.max_steps,
            retrain=retrain,
        )

    def _arguments(self, job) -> tuple[Plain, ImageSet, ClassifierConfig]:
        policy, val, config = super()._arguments(job)
        if job.method in self.pretrained.arms[job.generator_seed]:
            return policy, val, replace(config, initial_classifier=self.pretrained.artefact(job))
        return policy, val, replace(config, initial_weights=job.method)


@dataclass(frozen=True)
class Utility:
    """What the arms gain over real images.

    gains: one row per method and seed; columns method, seed, generator_seed, accuracy, gain (both fractions).
    tests: one row per method; columns
        method, accuracy, gain (means, fractions), low, high (95 % interval of the gain), pairs,
        p (of no gain, as verdicts.paired has it: units are the generators where these differ), p_wilcoxon (signed-rank
        test over seeds, as the paper's), gained, lost (images, the mean over seeds), p_mcnemar (exact, see
        metrics.utility.combined_p), and paired, which says of what the pairs are.
    """

    gains: pd.DataFrame
    tests: pd.DataFrame


def augmentation_utility(trained: TrainedArms, test: ImageSet) -> Utility:
    """Return what the arms of `augmentation_arms` gain over real images alone, on test images, paired by seed."""
    return _utility(answers(trained, test))


def extraction_utility(tuned: TunedExtractors, test: ImageSet) -> Utility:
    """Return what the extractors gain over the classifier that real images trained from the first to the last layer.

    That classifier is the paper's reference, REAL; REAL_TUNED is its layers with a last one tuned like the others.
    """
    found = answers(tuned, test)
    found["method"] = found["method"].replace(REAL, REAL_TUNED)
    reference = answers(tuned.pretrained, test)
    return _utility(pd.concat([reference[reference["method"] == REAL], found], ignore_index=True))


def side_by_side(augmentation: Utility, extraction: Utility) -> pd.DataFrame:
    """Return the gains of both utilities, one row per method and seed, NaN where a method has no such arm.

    Columns: method, seed, generator_seed; of each utility, called "augmentation" and "extraction", the gain under its
    name, and <name>_accuracy (fractions).
    """
    keys = ["method", "seed", "generator_seed"]
    parts = [
        found.gains.rename(columns={"gain": name, "accuracy": f"{name}_accuracy"}).set_index(keys)
        for name, found in {"augmentation": augmentation, "extraction": extraction}.items()
    ]
    return pd.concat(parts, axis=1).reset_index()


def answers(trained: TrainedArms, test: ImageSet) -> pd.DataFrame:
    """Return a row per classifier: method, seed, generator_seed, and right, (N,) bool, of each test image."""
    rows = [{**vars(job), "right": _right(trained.classifier(job), test)} for job in trained.jobs]
    return pd.DataFrame(rows)


def _right(classifier: Classifier, test: ImageSet) -> np.ndarray:
    return classifier.predict(test) == test.labels


def _utility(answers: pd.DataFrame) -> Utility:
    """Compare every method with REAL."""
    reference = answers[answers["method"] == REAL].set_index("seed")["right"]
    accuracy = answers["right"].map(np.mean)
    gains = answers.drop(columns="right").assign(
        accuracy=accuracy, gain=accuracy - answers["seed"].map(reference.map(np.mean))
    )
    rows = [
        {"method": method, **_tests(gains.loc[group.index], group, reference)}
        for method, group in answers.groupby("method", sort=False)
    ]
    return Utility(gains, pd.DataFrame(rows))


def _tests(gains: pd.DataFrame, answers: pd.DataFrame, reference: pd.Series) -> dict:
    """Return a row of Utility.tests but for its method."""
    gain = gains["gain"].to_numpy()
    found = paired(gain, gains["generator_seed"].to_numpy())
    images = [mcnemar(right, reference[seed]) for seed, right in zip(answers["seed"], answers["right"], strict=True)]
    seeds, count = len(gain), len(reference.iloc[0])
    return {
        "accuracy": gains["accuracy"].mean(),
        "gain": found["difference"],
        **{name: found[name] for name in ("low", "high", "pairs", "p")},
        "p_wilcoxon": float(stats.wilcoxon(gain).pvalue) if gain.any() else 1.0,
        "gained": np.mean([image.gained for image in images]),
        "lost": np.mean([image.lost for image in images]),
        "p_mcnemar": combined_p([image.p for image in images]),
        "paired": f"p, p_wilcoxon: {seeds} seeds; p_mcnemar: {count} test images in each seed, twice the median p",
    }
