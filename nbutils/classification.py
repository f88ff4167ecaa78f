"""Classifiers from timm: train on a policy, select on validation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from nbutils import weights
from nbutils.artefacts import cached, find_entry
from nbutils.augmentation import AdaptiveBatches, Plain
from nbutils.backbone import backbone_of, start_from_backbone
from nbutils.files import atomic
from nbutils.images import ImageSet, read_at, to_float
from nbutils.imbalance import class_balanced_weights, focal_loss
from nbutils.metrics.classification import SELECTIONS
from nbutils.protocols import LOSSES, OPTIMIZERS, ClassifierConfig
from nbutils.scales import choose
from nbutils.seeds import derive_seed
from nbutils.traditional import geometric_changes
from nbutils.training import Method, TrainingLog, autocast, device, placed, train

VERSION = 1
WEIGHTS, CURVE, TRACE = "weights.safetensors", "curve.csv", "trace.csv"


class Classifier:
    """A trained classifier.

    trace: what a policy that follows the classifier did in each epoch, None = it trained on another one.
    """

    def __init__(
        self,
        network: nn.Module,
        config: ClassifierConfig,
        log: TrainingLog | None = None,
        trace: pd.DataFrame | None = None,
    ):
        self.network, self.config, self.log, self.trace = network.eval(), config, log, trace

    def probabilities(self, images: ImageSet | np.ndarray) -> np.ndarray:
        """Return class probabilities, (N, num_classes) float32, of an ImageSet or of uint8 images (N, C, H, W)."""
        return self._run(images, lambda x: self.network(x).float().softmax(dim=1))

    def predict(self, images: ImageSet | np.ndarray) -> np.ndarray:
        """Return the most probable class of each image, (N,) int64."""
        return self.probabilities(images).argmax(axis=1)

    def features(self, images: ImageSet | np.ndarray) -> np.ndarray:
        """Return the pooled features before the last layer, (N, D) float32."""

        def pooled(x: Tensor) -> Tensor:
            return self.network.forward_head(self.network.forward_features(x), pre_logits=True).float()

        return self._run(images, pooled)

    def _run(self, images: ImageSet | np.ndarray, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        images = images.images if isinstance(images, ImageSet) else images
        chunks = np.array_split(images, max(1, -(-len(images) // self.config.predict_batch_size)))
        with torch.inference_mode(), autocast():
            done = [function(network_input(to_float(c).to(device()), self.config)).cpu() for c in chunks]
        return torch.cat(done).numpy()


def network_input(images: Tensor, config: ClassifierConfig) -> Tensor:
    """Return a batch (B, C, H, W) float -1..1 channels last, resized and normalised as the config's network expects it.

    Whatever a classifier reads goes through here: real images, synthetic ones, and those that it guides.
    """
    if config.initial_weights == "imagenet":
        published = timm.get_pretrained_cfg(config.network)
        mean, std = (torch.tensor(values, device=images.device) for values in (published.mean, published.std))
        if images.shape[1] != len(mean):  # timm sums the first filters over the colours of a grey image
            mean, std = mean.mean(dim=0, keepdim=True), std.mean(dim=0, keepdim=True)
        images = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    return read_at(images, config.input_size).contiguous(memory_format=torch.channels_last)


def build_network(config: ClassifierConfig, num_classes: int, channels: int) -> nn.Module:
    """Return a new timm network with the config's initial weights; random ones come from torch's random state.

    Its weights are laid out channels last, which a CPU convolves a third faster. Those that are not trained have no
    gradient. Raises what weights.locate raises, ValueError if the prior is another network, and FileNotFoundError if
    the initial classifier is not in the cache.
    """
    network = timm.create_model(
        config.network,
        pretrained=config.initial_weights == "imagenet" and config.initial_classifier is None,
        num_classes=num_classes,
        in_chans=channels,
        **dict(config.options),
    )
    if config.initial_classifier is not None:
        start_from_classifier(network, config.initial_classifier)
    elif config.initial_weights == "prior":
        start_from_backbone(network, backbone_of(config.network), channels)
    if config.last_layer_only:
        network.requires_grad_(False).get_classifier().requires_grad_(True)
    return network.to(memory_format=torch.channels_last)


def start_from_classifier(network: nn.Module, name: str) -> None:
    """Load the weights of a cached classifier, the last layer's too, into a network of the same kind and classes.

    Raises FileNotFoundError if the artefact `name` is not in the cache.
    """
    found = find_entry(name)
    if found is None:
        raise FileNotFoundError(
            f"The classifier {name!r} from which training is to start is not in the cache; train it again."
        )
    network.load_state_dict(load_file(found.path / WEIGHTS))


def build_optimizer(network: nn.Module, config: ClassifierConfig) -> Optimizer:
    """Return the config's optimiser of what of a network is trained.

    Raises ValueError for one that is not among OPTIMIZERS.
    """
    choose("optimizer", config.optimizer, dict.fromkeys(OPTIMIZERS))
    shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if config.optimizer == "sgd":
        return SGD(trained, momentum=config.momentum, **shared)
    return Adam(trained, **shared)


def loss_function(config: ClassifierConfig, class_counts: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the config's loss, (logits (B, num_classes), targets (B, num_classes)) -> scalar.

    class_counts: (num_classes,), training images of each class. Raises ValueError for a loss that is not among LOSSES,
    and where a class-balanced one finds a class without images.
    """
    choose("loss", config.loss, dict.fromkeys(LOSSES))
    if config.loss == "cross-entropy":
        return cross_entropy
    balanced = config.loss == "class-balanced-focal"
    weights = class_balanced_weights(class_counts, config.class_balanced_beta) if balanced else None
    return partial(focal_loss, gamma=config.focal_gamma, class_weights=weights)


class Training(Method):
    """Training by a config's loss, optimiser and schedule; after each epoch a score on validation decides what is kept.

    class_counts: (num_classes,), training images of each class. val: validation images. adaptive: the batches, if they
    follow the classifier, whose state goes into the checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        config: ClassifierConfig,
        class_counts: np.ndarray,
        val: ImageSet,
        steps_per_epoch: int,
        adaptive: AdaptiveBatches | None = None,
    ):
        optimizer = build_optimizer(network, config)
        super().__init__({"network": network}, {"network": optimizer})
        milestones = [epoch * steps_per_epoch for epoch in config.milestones]
        self.schedule = MultiStepLR(optimizer, milestones, gamma=config.learning_rate_decay)
        self.loss = loss_function(config, class_counts)
        self.change = geometric_changes(config.crop, config.rotation, config.flip)
        self.config, self.val, self.steps_per_epoch, self.adaptive = config, val, steps_per_epoch, adaptive
        self.selection = choose("selection score", config.selection, SELECTIONS)
        self.best_score, self.best_epoch, self.best_weights = -1.0, -1, network.state_dict()

    def step(self, step: int, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        network, optimizer = self.modules["network"], self.optimizers["network"]
        network.train(not self.config.last_layer_only)  # batch statistics are learned, too
        with autocast():
            loss = self.loss(network(network_input(self.change(images), self.config)).float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        self.schedule.step()
        scalars = {"loss": loss.detach()}
        if (step + 1) % self.steps_per_epoch == 0:
            scalars[f"val_{self.config.selection}"] = torch.tensor(self._select((step + 1) // self.steps_per_epoch))
        return scalars

    def _select(self, epoch: int) -> float:
        """Score the epoch on validation, keep its weights if it is the best, stop when patience has run out."""
        network = self.modules["network"]
        probabilities = Classifier(network, self.config).probabilities(self.val)
        score = self.selection(self.val.labels, probabilities)
        if score > self.best_score or self.config.keep_last:
            self.best_score, self.best_epoch = score, epoch
            self.best_weights = {name: value.clone() for name, value in network.state_dict().items()}
        self.done = epoch - self.best_epoch >= self.config.patience
        return score

    def extra_state(self) -> dict:
        best = {"score": self.best_score, "epoch": self.best_epoch, "weights": self.best_weights}
        state = {**best, "schedule": self.schedule.state_dict()}
        return state if self.adaptive is None else {**state, "batches": self.adaptive.state_dict()}

    def load_extra_state(self, state: dict) -> None:
        self.best_score, self.best_epoch, self.best_weights = state["score"], state["epoch"], state["weights"]
        self.schedule.load_state_dict(state["schedule"])
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["batches"])


def train_classifier(
    policy: Plain,
    val: ImageSet,
    config: ClassifierConfig,
    *,
    seed: int,
    epoch_images: int,
    max_steps: int | None = None,
    checkpoint: Path | None = None,
    description: str = "classifier",
) -> Classifier:
    """Train on a policy's batches, keep the epoch with the best score on validation, and return it.

    epoch_images: number of real training images, the length of an epoch where the config does not fix it. max_steps:
    stop earlier, None = do not.
    """
    steps_per_epoch = config.steps_per_epoch(epoch_images)
    num_steps = min(config.num_epochs * steps_per_epoch, max_steps or config.num_epochs * steps_per_epoch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier", "weights"))
        network = build_network(config, policy.pool.num_classes, policy.pool.channels)
    steps_per_epoch, batch_seed = min(steps_per_epoch, num_steps), derive_seed(seed, "classifier", "batches")
    adaptive = policy.adaptive_batches(Classifier(placed(network), config), batch_seed, steps_per_epoch)
    batches = policy.batches(config.batch_size, batch_seed) if adaptive is None else adaptive
    method = Training(network, config, policy.pool.class_counts(), val, steps_per_epoch, adaptive)
    log = train(method, batches, num_steps, seed=seed, description=description, checkpoint=checkpoint)
    network.load_state_dict(method.best_weights)
    return Classifier(network, config, log, None if adaptive is None else adaptive.trace())


def classifier_key(policy: Plain, val: ImageSet, config: ClassifierConfig, **training) -> dict:
    """Return what determines a trained classifier, as JSON values: the key of its artefact."""
    made_of = {"config": config.key(), "policy": policy.key(), "val": val.fingerprint()}
    if config.initial_weights == "prior":
        made_of["prior"] = weights.checksum(backbone_of(config.network))
    return {"version": VERSION, **made_of, **training}


def fitted_classifier(
    policy: Plain, val: ImageSet, config: ClassifierConfig, *, description: str, retrain: bool = False, **training
) -> Classifier:
    """Return train_classifier(policy, val, config, **training), kept in the cache; retrain=True trains it again."""

    def build(folder: Path) -> None:
        checkpoint = folder / "training.pt"
        made = train_classifier(policy, val, config, checkpoint=checkpoint, description=description, **training)
        save_classifier(made, folder)
        checkpoint.unlink(missing_ok=True)

    folder = cached("classifier", classifier_key(policy, val, config, **training), build, rebuild=retrain).path
    empty = replace(config, initial_weights="scratch", initial_classifier=None)
    network = build_network(empty, policy.pool.num_classes, policy.pool.channels)
    return load_classifier(folder, network.to(device()), config)


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write weights (float32 safetensors), training curve (CSV) and, if there is one, trace (CSV) into a folder."""
    with atomic(folder / WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in classifier.network.state_dict().items()}, temporary)
    with atomic(folder / CURVE) as temporary:
        classifier.log.curve.to_csv(temporary, index=False)
    if classifier.trace is not None:
        with atomic(folder / TRACE) as temporary:
            classifier.trace.to_csv(temporary, index=False)


def load_classifier(folder: Path, network: nn.Module, config: ClassifierConfig) -> Classifier:
    """Read a classifier's weights into a network built by build_network, with the curve and trace of its training."""
    network.load_state_dict(load_file(folder / WEIGHTS))
    curve = pd.read_csv(folder / CURVE)
    trace = pd.read_csv(folder / TRACE) if (folder / TRACE).is_file() else None
    return Classifier(network, config, TrainingLog(curve, int(curve["step"].iloc[-1])), trace)
