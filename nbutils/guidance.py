"""Classifier guidance: images of the classes that a classifier knows, from a diffusion that has learned none."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nbutils.artefacts import cached
from nbutils.classification import Classifier, network_input
from nbutils.files import atomic
from nbutils.generators import SAMPLES
from nbutils.generators.base import hash_of_weights
from nbutils.generators.diffusion import Diffusion
from nbutils.generators.diffusion_sampling import new_sampler, sample
from nbutils.images import ImageSet, synthetic_set, to_uint8
from nbutils.progress import progress
from nbutils.scales import choose
from nbutils.seeds import image_seeds
from nbutils.training import autocast, device

READ = ("clean", "noisy")


@dataclass(frozen=True)
class Guidance:
    """How a classifier guides a diffusion (IOIS, Section 2.2).

    scale: s of Eq. 4, 0 = no guidance. read: which image the classifier reads, one of READ: "clean", x_0 as the
        diffusion predicts it from x_t; or "noisy", x_t itself, as the published code does with a classifier that has
        never seen noise.
    sampler: "ddim", "ddpm" (Eq. 3) or "dpm++", see DiffusionConfig. num_steps: evaluations of the diffusion for each
        image; the paper has all T, the published code 50 of DDIM.
    """

    scale: float = 1.0
    read: str = "clean"
    sampler: str = "ddim"
    num_steps: int = 10


GUIDANCE = {
    "smoke": Guidance(num_steps=2),
    "demo": Guidance(sampler="dpm++", num_steps=7),
    "gpu": Guidance(num_steps=25),
    "paper": Guidance(num_steps=50),
}
"""Scale -> how it guides; paper scale is that of the published code, but for what the classifier reads.

Demo's few steps are spaced evenly in the signal-to-noise ratio: those of "ddim" begin at an image that already has a
third of its signal, which pure noise has not.
"""


def guided_start(x_0: Tensor, score: Tensor, alpha_bar: Tensor, s: float) -> Tensor:
    """Return the clean images (B, C, H, W) that the guided noise of IOIS, Eq. 4, stands for.

    x_0: the clean images predicted from x_t. score: the gradient of log p(y | x_t) by x_t. alpha_bar: of the time step.
    Eq. 4 takes s * score off the predicted noise; we take s sqrt(1 - alpha_bar) score off it, which is what belongs
    there (Dhariwal & Nichol 2021, Eq. 14) and what the published code inherits. Said of x_0 it needs no difference of
    nearly equal numbers where the noise is strong.
    """
    return x_0 + s * (1 - alpha_bar) / alpha_bar.sqrt() * score


def log_probability(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return log p(label | image), (B,) float32, of images (B, C, H, W) float -1..1, read as the real ones are."""
    logits = classifier.network(network_input(images, classifier.config)).float()
    return logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)


class GuidedSampler:
    """Draws images with a trained diffusion, guided by any classifier; the diffusion is frozen, and stays loaded.

    network_evaluations: how often the diffusion's network has been evaluated on one image. Where the classifier reads
    the clean image, each time a gradient went back through it as well; the classifier is evaluated as often.
    Raises ValueError for a diffusion with a network for each class, an unknown sampler, or another `read` than READ.
    """

    def __init__(self, diffusion: Diffusion, guidance: Guidance):
        choose("value of read", guidance.read, dict.fromkeys(READ))
        if len(diffusion.networks) != 1:
            raise ValueError(
                f"Guidance needs one trained network for all classes, {diffusion.name} has {len(diffusion.networks)}: "
                "fit or load it first, and not in per-class mode."
            )
        self.diffusion, self.guidance = diffusion, guidance
        self.config = replace(diffusion.config, sampler=guidance.sampler, num_sampling_steps=guidance.num_steps)
        self.network = diffusion.networks[0].requires_grad_(False).eval()
        self.alpha_bar = new_sampler(self.config).alphas_cumprod.to(device())
        self.shape = (diffusion.card["channels"], diffusion.card["image_size"], diffusion.card["image_size"])
        self.network_evaluations = 0

    def draw(self, classifier: Classifier, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Draw one image for each label, (N, C, H, W) uint8, of any mix of classes.

        Image i depends on seeds[i], its label, the classifier and the diffusion alone. The classifier is read in
        evaluation mode and left as it was, its gradients too.
        """
        labels, seeds = np.asarray(labels, dtype=np.int64), list(seeds)
        images = np.zeros((len(labels), *self.shape), np.uint8)
        rows = np.arange(len(labels))
        with (
            evaluating(classifier.network),
            torch.no_grad(),
            progress(description="guided sampling", total=len(labels), unit="image") as bar,
        ):
            for chunk in np.array_split(rows, -(-len(rows) // self.config.sample_batch_size)) if len(rows) else []:
                wanted = torch.as_tensor(labels[chunk], device=device())
                guided = partial(self._guided_prediction, classifier, wanted)
                drawn = sample(guided, new_sampler(self.config), [seeds[row] for row in chunk], self.shape)
                images[chunk] = to_uint8(drawn)
                bar.update(len(chunk))
        return images

    def _guided_prediction(self, classifier: Classifier, labels: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return what the network predicts for x_t, (B, 2 C, H, W), its first half guided; x_0 stays within -1..1."""
        alpha_bar = self.alpha_bar[t][:, None, None, None]  # (B, 1, 1, 1)
        clean_read = self.guidance.read == "clean"
        y = None if self.network.num_classes is None else labels
        self.network_evaluations += len(x)
        with torch.enable_grad(), autocast():
            x = x.detach().requires_grad_()
            with torch.set_grad_enabled(clean_read):
                predicted, variance = self.network(x, t, y).float().chunk(2, dim=1)  # each (B, C, H, W)
                x_0 = self._start(x, predicted, alpha_bar).clamp(-1, 1)
            log_p = log_probability(classifier, x_0 if clean_read else x, labels).sum()
        (score,) = torch.autograd.grad(log_p, x)
        x_0 = guided_start(x_0.detach(), score, alpha_bar, self.guidance.scale).clamp(-1, 1)
        return torch.cat([self._prediction(x.detach(), x_0, alpha_bar), variance.detach()], dim=1)

    def _start(self, x: Tensor, predicted: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the x_0 that a prediction, noise or v, stands for."""
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        if self.config.prediction == "epsilon":
            return (x - spread * predicted) / signal
        return signal * x - spread * predicted

    def _prediction(self, x: Tensor, x_0: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the prediction, noise or v, that stands for x_0."""
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        noise = (x - signal * x_0) / spread
        return noise if self.config.prediction == "epsilon" else signal * noise - spread * x_0


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network in evaluation mode for a while."""
    was_training = network.training
    try:
        yield network.eval()
    finally:
        network.train(was_training)


def guided_samples(
    diffusion: Diffusion,
    classifier: Classifier,
    labels: Sequence[int],
    class_names: Sequence[str],
    seed: int,
    guidance: Guidance,
) -> ImageSet:
    """Return images guided by a classifier that is not trained further, one for each label, from the cache if there.

    class_names: of the classifier's classes. Image i is drawn from seed, i and its label.
    """
    labels = np.asarray(labels, dtype=np.int64)
    key = {
        "card": diffusion.card,
        "weights": diffusion.weights_hash(),
        "classifier": {"config": classifier.config.key(), "weights": hash_of_weights([classifier.network])},
        "guidance": asdict(guidance),
        "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
        "seed": seed,
    }

    def build(folder: Path) -> None:
        seeds = image_seeds(seed, len(labels), "guided")
        with atomic(folder / SAMPLES) as temporary:
            np.savez_compressed(temporary, images=GuidedSampler(diffusion, guidance).draw(classifier, labels, seeds))

    with np.load(cached("samples", key, build).path / SAMPLES, allow_pickle=False) as saved:
        return synthetic_set(saved["images"], labels, class_names, name=f"guided {diffusion.name}")
