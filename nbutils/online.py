"""Online image synthesis (IOIS): in each epoch the classifier in training guides the images that join the real ones."""

from dataclasses import asdict, dataclass
from time import monotonic

import numpy as np
import pandas as pd
import torch

from nbutils.augmentation import Batch, Plain, append
from nbutils.classification import Classifier
from nbutils.generators.diffusion import Diffusion
from nbutils.guidance import Guidance, GuidedSampler, evaluating, guided_samples
from nbutils.images import ImageSet, concatenate, resize, synthetic_set
from nbutils.imbalance import accuracy_adaptive_counts
from nbutils.scales import choose
from nbutils.seeds import derive_seed, image_seeds
from nbutils.training import ImageBatches

SAMPLINGS = ("equal", "accuracy-adaptive")
REAL_FOR_EACH = {"smoke": 4, "demo": 10, "gpu": 4, "paper": 4}
"""Scale -> real training images for each of the K synthetic ones; 8015 for 2000 in the published code.

At demo scale they are fewer, and REFRESH is rare: synthesis then takes at most three times as long as training.
"""

REFRESH = {"smoke": 1, "demo": 5, "gpu": 1, "paper": 1}
"""Scale -> epochs after which synthetic images are drawn anew."""


@dataclass(frozen=True)
class OnlineSynthesis(Plain):
    """A policy that joins the real images of `pool` with synthetic ones, drawn anew as the classifier learns.

    Whoever asks it for batches or examples without a classifier gets the real images alone.

    diffusion: trained on real training images only. guidance: how the classifier guides it.
    sampling: how the synthetic images are shared among the classes, one of SAMPLINGS: "equal" (+OIS), or by
        imbalance.accuracy_adaptive_counts (+OIS, AAS), equal too before the first epoch.
    num_images: K of Eq. 5, see REAL_FOR_EACH. temperature: of accuracy_adaptive_counts.
    refresh: epochs after which the synthetic images are drawn anew; 1 in the paper.
    leaking_accuracies: None = the accuracies are those on the real training images, read without random changes.
        Held-out images = those on real training, these and the synthetic images together, as in the published code,
        which takes the test images (and selects by them: give them as validation images for that). It leaks: test
        labels then decide what is synthesised.
    """

    diffusion: Diffusion
    guidance: Guidance
    num_images: int
    sampling: str = "accuracy-adaptive"
    temperature: float = 1.0
    refresh: int = 1
    leaking_accuracies: ImageSet | None = None

    def __post_init__(self):
        choose("sampling", self.sampling, dict.fromkeys(SAMPLINGS))
        if self.refresh < 1:
            raise ValueError(f"refresh is a number of epochs from 1, found {self.refresh}.")

    def adaptive_batches(self, classifier: Classifier, seed: int, steps_per_epoch: int) -> "OnlineBatches":
        return OnlineBatches(self, classifier, seed, steps_per_epoch)

    def key(self) -> dict:
        key = {
            **super().key(),
            "diffusion": {"card": self.diffusion.card, "weights": self.diffusion.weights_hash()},
            "guidance": asdict(self.guidance),
            "sampling": self.sampling,
            "num_images": self.num_images,
            "temperature": self.temperature,
            "refresh": self.refresh,
        }
        if self.leaking_accuracies is not None:
            key["leaking_accuracies"] = self.leaking_accuracies.fingerprint()
        return key

    def held_out(self) -> dict[str, ImageSet]:
        return {} if self.leaking_accuracies is None else {"accuracies": self.leaking_accuracies}


class OnlineBatches:
    """The batches of one training by online synthesis; batch number i depends on seed, i and the classifier's path.

    An epoch is steps_per_epoch batches from the real and K synthetic images, in one random order, as long as without
    them. Only those of the K that these batches show are drawn: as each depends on its own seed, no batch can tell.
    The order is that of a policy with the same number of fixed synthetic images appended.

    Raises ValueError where the classifier would read the diffusion's images at another size than the real ones.
    """

    def __init__(self, policy: OnlineSynthesis, classifier: Classifier, seed: int, steps_per_epoch: int):
        self.policy, self.classifier = policy, classifier
        self.seed, self.steps_per_epoch = seed, steps_per_epoch
        self.sampler = GuidedSampler(policy.diffusion, policy.guidance)
        size, pool = policy.diffusion.card["image_size"], policy.pool
        if size != pool.image_size and classifier.config.input_size is None:
            raise ValueError(
                f"The diffusion draws images of {size} px, the real ones have {pool.image_size} px: make them equal, "
                "or set the classifier's input_size, to which both are then resized."
            )
        empty = np.zeros((policy.num_images, *pool.images.shape[1:]), np.uint8)
        joined = append(pool, synthetic_set(empty, np.zeros(len(empty)), pool.class_names, name="not drawn yet"))
        self.draw = ImageBatches(joined, classifier.config.batch_size, derive_seed(seed, "pool"))
        self.rows: list[dict[str, float]] = []
        self._returned: float | None = None  # when the last batch was handed out

    def __call__(self, step: int) -> Batch:
        self._count_training_time()
        epoch = step // self.steps_per_epoch
        if epoch == len(self.rows):
            self._begin(epoch)
        batch = self.policy.transform(*self.draw(step))
        self._returned = monotonic()
        return batch

    def trace(self) -> pd.DataFrame:
        """Return one row per epoch; of epochs that keep the images of the one before, nothing is synthesised.

        Columns: epoch (from 1); count:<class>, of the K images; accuracy:<class>, what they were counted by, fractions
        0..1, NaN before the first epoch; synthesised, how many images were drawn; network_evaluations, of the diffusion
        on one image; seconds_synthesis, accuracies included; seconds_training, validation included.
        """
        self._count_training_time()
        return pd.DataFrame(self.rows)

    def state_dict(self) -> dict:
        """Return the synthetic images with their labels, and the trace."""
        real = len(self.policy.pool)
        images, labels = self.draw.images[real:].clone(), self.draw.labels[real:].clone()
        return {"images": images, "labels": labels, "rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict) -> None:
        """Take back what state_dict returned."""
        real = len(self.policy.pool)
        self.draw.images[real:], self.draw.labels[real:] = state["images"], state["labels"]
        self.rows = state["rows"]

    def _count_training_time(self) -> None:
        """Add the time since the last batch to the seconds of training."""
        if self._returned is not None:
            self.rows[-1]["seconds_training"] += monotonic() - self._returned
        self._returned = None

    def _begin(self, epoch: int) -> None:
        """Begin an epoch (from 0): draw new synthetic images if it is time for that, and note what was done."""
        if epoch % self.policy.refresh:
            unchanged = {name: value for name, value in self.rows[-1].items() if name.startswith(("count", "accuracy"))}
            made = {"synthesised": 0, "network_evaluations": 0, "seconds_synthesis": 0.0}
        else:
            unchanged, made = {}, self._synthesise(epoch)
        self.rows.append({"epoch": epoch + 1, **unchanged, **made, "seconds_training": 0.0})

    def _synthesise(self, epoch: int) -> dict[str, float]:
        """Draw the synthetic images of this and the next epochs with the classifier as it is now; return its row."""
        started, before, policy = monotonic(), self.sampler.network_evaluations, self.policy
        num_classes, names, total = policy.pool.num_classes, policy.pool.class_names, len(self.draw.labels)
        real = len(policy.pool)
        with evaluating(self.classifier.network):
            accuracies = self._accuracies() if epoch else np.full(num_classes, np.nan)
        known = accuracies if epoch and policy.sampling == "accuracy-adaptive" else np.zeros(num_classes)
        counts = accuracy_adaptive_counts(known, total - real, policy.temperature)
        labels = np.repeat(np.arange(num_classes), counts)
        shown = self._shown(epoch)
        seeds = image_seeds(derive_seed(self.seed, "synthesis", epoch), len(labels))
        drawn = self.sampler.draw(self.classifier, labels[shown], [seeds[row] for row in shown])
        target = self.draw.images
        target[real + torch.from_numpy(shown)] = torch.from_numpy(resize(drawn, policy.pool.image_size)).to(target)
        self.draw.labels[real:] = torch.from_numpy(labels)
        return {
            **{f"count:{name}": int(count) for name, count in zip(names, counts, strict=True)},
            **{f"accuracy:{name}": float(value) for name, value in zip(names, accuracies, strict=True)},
            "synthesised": len(shown),
            "network_evaluations": self.sampler.network_evaluations - before,
            "seconds_synthesis": monotonic() - started,
        }

    def _shown(self, epoch: int) -> np.ndarray:
        """Return which of the K images the epochs until the next refresh show, ascending, (M,) int64."""
        steps = range(epoch * self.steps_per_epoch, (epoch + self.policy.refresh) * self.steps_per_epoch)
        shown = torch.cat([self.draw.indices(step) for step in steps]).unique() - len(self.policy.pool)
        return shown[shown >= 0].numpy()

    def _accuracies(self) -> np.ndarray:
        """Return the accuracies that decide how many images each class gets, (num_classes,)."""
        policy = self.policy
        if policy.leaking_accuracies is None:
            return class_accuracies(self.classifier, policy.pool)
        real, last = len(policy.pool), (len(self.rows) - 1) // policy.refresh * policy.refresh
        shown = self._shown(last)
        images, labels = (values[real:].cpu().numpy()[shown] for values in (self.draw.images, self.draw.labels))
        synthetic = synthetic_set(images, labels, policy.pool.class_names, name="synthetic")
        pooled = concatenate([policy.pool, policy.leaking_accuracies, synthetic], name="pooled with held-out images")
        return class_accuracies(self.classifier, pooled)


def class_accuracies(classifier: Classifier, images: ImageSet) -> np.ndarray:
    """Return the share of the images of each class that a classifier names rightly, (num_classes,); NaN without any."""
    right = classifier.predict(images) == images.labels
    with np.errstate(invalid="ignore"):
        return np.bincount(images.labels, weights=right, minlength=images.num_classes) / images.class_counts()


def equal_labels(pool: ImageSet, num_images: int) -> np.ndarray:
    """Return labels of the classes of a pool, (num_images,) int64 ascending, of all classes alike."""
    counts = accuracy_adaptive_counts(np.zeros(pool.num_classes), num_images)
    return np.repeat(np.arange(pool.num_classes), counts)


def offline_synthesis(
    pool: ImageSet,
    diffusion: Diffusion,
    classifier: Classifier,
    guidance: Guidance,
    *,
    seed: int,
    num_images: int,
) -> Plain:
    """Return the policy +offline: as many images as online, of all classes alike, drawn once and then fixed.

    classifier: guides them, and is not trained further; the paper has a pre-trained one, its code one that was trained
    on noisy images besides. seed: of the images. num_images: K, as in OnlineSynthesis.
    """
    labels = equal_labels(pool, num_images)
    drawn = guided_samples(diffusion, classifier, labels, pool.class_names, seed, guidance)
    images = resize(drawn.images, pool.image_size)
    return Plain(append(pool, synthetic_set(images, labels, pool.class_names, name=drawn.name)))
