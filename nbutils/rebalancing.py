"""Ways to train on classes of unequal size, the rows of IOIS's Table 1: their policies, what they cost, what leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nbutils.augmentation import Plain, append, repeated
from nbutils.classification import Classifier
from nbutils.comparison import Arms, TrainedArms, compare
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.guidance import guided_samples
from nbutils.images import ImageSet, resize
from nbutils.imbalance import ProgressiveSampling, SquareRootSampling
from nbutils.online import OnlineSynthesis, equal_labels, offline_synthesis
from nbutils.protocols import ClassifierConfig

DIFFUSION = "unconditional-diffusion"
"""The generator of the arms offline, ois and ois+aas."""

REAL, OIS, OURS = "real", "ois", "ois+aas"


def table_arms(
    config: ClassifierConfig, synthetic: Mapping[str, ImageSet], online: OnlineSynthesis
) -> dict[str, Plain]:
    """Return the arms of IOIS, Table 1, by name, but for `offline`, which needs trained classifiers: see with_offline.

    Two rows the paper lacks: `oversampling`, all classes filled up with copies to the size of the largest, and `real,
    repeated`, as many copies as the other arms have synthetic images, of the same classes. What either reaches owes
    nothing to a generator.

    config: of the classifiers, whatever its loss, see `losses`. synthetic: the images of each generator, K of them with
    online.equal_labels. online: OIS with AAS on the real training images.
    """
    real = online.pool
    missing = np.repeat(np.arange(real.num_classes), real.class_counts().max() - real.class_counts())
    copies = {"oversampling": missing, "real, repeated": equal_labels(real, online.num_images)}
    added = {name: repeated(real, labels, seed=0) for name, labels in copies.items()} | dict(synthetic)
    return {
        REAL: Plain(real),
        "focal": Plain(real),
        "cb-focal": Plain(real),
        "sqrt-rs": SquareRootSampling(real),
        "pg-rs": ProgressiveSampling(real, config.steps_per_epoch(len(real)), config.num_epochs),
        **{name: Plain(append(real, images)) for name, images in added.items()},
        OIS: replace(online, sampling="equal"),
        OURS: online,
    }


def losses(config: ClassifierConfig) -> dict[str, ClassifierConfig]:
    """Return the settings of the arms that have another loss than the rest, by name."""
    return {"focal": replace(config, loss="focal"), "cb-focal": replace(config, loss="class-balanced-focal")}


def with_offline(arms: Arms, guides: TrainedArms) -> list[dict[str, Plain]]:
    """Return one mapping of arms for each classifier seed, with `offline`: guided by that seed's classifier `real`.

    Section 3.4: the pre-trained diffusion and a classifier make the images in advance, as many as online. arms: one
    mapping of table_arms for each generator seed. guides: the classifiers of their arm `real`, with the same seeds.
    """
    by_seed = []
    for job in guides.jobs:
        before = dict(arms[job.generator_seed])
        ois, ours = before.pop(OIS), before.pop(OURS)
        settings = {"seed": job.seed, "num_images": ois.num_images}
        offline = offline_synthesis(ois.pool, ois.diffusion, guides.classifier(job), ois.guidance, **settings)
        by_seed.append({**before, "offline": offline, OIS: ois, OURS: ours})
    return by_seed


def traces(trained: TrainedArms) -> pd.DataFrame:
    """Return the epochs of all trainings by online synthesis, rows of OnlineBatches.trace, with those of their Job.

    Raises ValueError if there is none.
    """
    made = {job: trained.classifier(job).trace for job in trained.jobs}
    return pd.concat([trace.assign(**vars(job)) for job, trace in made.items() if trace is not None], ignore_index=True)


def cost(traced: pd.DataFrame) -> pd.DataFrame:
    """Return what online synthesis took, the mean over seeds, one row per method; see `traces`.

    Columns: method, epochs, synthesised (images), network_evaluations (of the diffusion, on one image each),
    seconds_synthesis, seconds_training, ratio (of the former to the latter), share (of synthesis in both, 0..1).
    """
    summed = ["synthesised", "network_evaluations", "seconds_synthesis", "seconds_training"]
    each = traced.groupby(["method", "seed"], sort=False)
    total = each[summed].sum().assign(epochs=each["epoch"].max())
    found = total.groupby("method", sort=False)[["epochs", *summed]].mean().reset_index()
    synthesis, training = found["seconds_synthesis"], found["seconds_training"]
    return found.assign(ratio=synthesis / training, share=synthesis / (synthesis + training))


def with_evaluations(results: pd.DataFrame, traced: pd.DataFrame, offline: int) -> pd.DataFrame:
    """Return results with a column network_evaluations, the evaluations of the diffusion that each training took.

    traced: see `traces`. offline: those of the arm `offline`; other arms without a trace took none.
    """
    spent = traced.groupby(["method", "seed"])["network_evaluations"].sum().reset_index()
    joined = results.merge(spent, on=["method", "seed"], how="left")
    untraced = joined["method"].map({"offline": offline}).fillna(0)
    return joined.assign(network_evaluations=joined["network_evaluations"].fillna(untraced))


def budgets(policy: OnlineSynthesis, num_epochs: int) -> dict[str, OnlineSynthesis]:
    """Return variants of a policy that evaluate the diffusion more or less often, by a label.

    New images in each epoch, as in the paper, and in the first alone, when the classifier has learned nothing yet;
    half and twice the steps.
    """
    guidance = policy.guidance
    steps = {count: replace(guidance, num_steps=count) for count in (guidance.num_steps // 2, 2 * guidance.num_steps)}
    epochs = {"every epoch": 1, "drawn once": num_epochs}
    return {
        **{label: replace(policy, refresh=n) for label, n in epochs.items() if n != policy.refresh},
        **{f"{count} steps": replace(policy, guidance=other) for count, other in steps.items() if count},
    }


def published(arms: Arms, splits: Splits, config: ClassifierConfig, audit: LeakAudit, **training) -> pd.DataFrame:
    """Compare cross-entropy with OIS and AAS by the protocol of the published code, which leaks; rows of `compare`.

    For both, the test images choose the epoch that is kept. For OIS and AAS they are among those whose accuracies
    decide what is synthesised, besides. training: of comparison.TrainedArms.
    """
    leaking = [
        {REAL: policies[REAL], OURS: replace(policies[OURS], leaking_accuracies=splits.test)} for policies in arms
    ]
    return compare(leaking, splits, config, audit, leaking_selection=True, **training)


def gains(results: Mapping[str, pd.DataFrame], metrics: Sequence[str]) -> pd.DataFrame:
    """Return what OIS with AAS gains over cross-entropy in each comparison, with each seed, as fractions.

    results: rows of `compare` by the name of their protocol. Columns: method (the protocol), seed, generator_seed, and
    the metrics.
    """
    keys, rows = ["seed", "generator_seed"], []
    for protocol, rows_of in results.items():
        ours, real = (rows_of[rows_of["method"] == method].set_index(keys)[metrics] for method in (OURS, REAL))
        rows.append((ours - real).reset_index().assign(method=protocol))
    return pd.concat(rows, ignore_index=True)[["method", *keys, *metrics]]


def early_and_late(
    policy: OnlineSynthesis,
    splits: Splits,
    config: ClassifierConfig,
    audit: LeakAudit,
    *,
    seed: int,
    max_steps: int | None = None,
) -> dict[str, Classifier]:
    """Return the classifier that a policy trains, as it is early and late, by the number of epochs done.

    After a single step, called 0 epochs; after one epoch, a third of them, and all. Of the epochs done, the best on
    validation is kept. The other arguments are those of comparison.TrainedArms.
    """
    steps, epochs = config.steps_per_epoch(len(splits.train)), config.num_epochs
    early = {0: 1} | {done: min(done * steps, max_steps or done * steps) for done in (1, max(1, epochs // 3))}
    found = {}
    for done, limit in (early | {epochs: max_steps}).items():
        trained = TrainedArms([{OURS: policy}], splits, config, audit, seeds=[seed], max_steps=limit)
        found[f"{done} epoch{'s' * (done != 1)}"] = trained.classifier(trained.jobs[0])
    return found


def guided_by(classifiers: Mapping[str, Classifier], policy: OnlineSynthesis, labels, seed: int) -> dict[str, ImageSet]:
    """Return the images that each classifier guides a policy's diffusion to, from the same noise; labels: (N,) int.

    They have the size of the policy's real images.
    """
    found, pool = {}, policy.pool
    for name, classifier in classifiers.items():
        drawn = guided_samples(policy.diffusion, classifier, labels, pool.class_names, seed, policy.guidance)
        found[name] = replace(drawn, images=resize(drawn.images, pool.image_size))
    return found
