"""One loop that trains every network of the suite: progress, moving averages, checkpoints, exact resume, NaN stop."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from nbutils.files import atomic
from nbutils.images import ImageSet, to_float
from nbutils.progress import progress
from nbutils.seeds import derive_seed

CHECKPOINT_SECONDS = 10.0
LOG_POINTS = 200


class TrainingDivergedError(RuntimeError):
    """A loss became NaN or infinite."""


@cache
def accelerator() -> Accelerator:
    """Return the one Accelerator: a GPU with bfloat16 autocast where there is one, else the CPU in float32."""
    on_gpu = torch.cuda.is_available()
    return Accelerator(mixed_precision="bf16" if on_gpu else "no", cpu=not on_gpu)


def device() -> torch.device:
    """Return the device that everything is trained and sampled on."""
    return accelerator().device


def autocast():
    """Return the context for forward passes: bfloat16 autocast on a GPU, nothing on a CPU."""
    return accelerator().autocast()


class Method:
    """What is trained: networks, their optimisers, moving averages, and one training step.

    modules: the networks by name; they are moved to the device here (not from the meta device).
    optimizers: by name.
    ema_decays: name of a module -> decay of its exponential moving average per step; the average starts as a plain
        mean (decay (1 + n) / (10 + n)) so that short trainings are not held back by the first weights.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        ema_decays: Mapping[str, float] | None = None,
    ):
        self.modules = {name: placed(module) for name, module in modules.items()}
        self.optimizers = dict(optimizers)
        self.averages = {
            name: AveragedModel(self.modules[name], multi_avg_fn=_average(decay))
            for name, decay in (ema_decays or {}).items()
        }
        self.done = False

    def step(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """Do optimisation step number `step` (from 0) on a batch, and return the scalars to log."""
        raise NotImplementedError

    def extra_state(self) -> dict:
        """Return further state of the method (tensors, numbers, lists or dicts of them) for the checkpoint."""
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Take back what extra_state returned."""

    def state_dict(self) -> dict:
        """Return the whole state: networks, averages, optimisers, extra."""
        parts = {"modules": self.modules, "averages": self.averages, "optimizers": self.optimizers}
        state = {part: {name: item.state_dict() for name, item in items.items()} for part, items in parts.items()}
        return {**state, "extra": self.extra_state(), "done": self.done}

    def load_state_dict(self, state: dict) -> None:
        """Take back what state_dict returned."""
        parts = {"modules": self.modules, "averages": self.averages, "optimizers": self.optimizers}
        for part, items in parts.items():
            for name, item in items.items():
                item.load_state_dict(state[part][name])
        self.load_extra_state(state["extra"])
        self.done = state["done"]


def placed(module: nn.Module, **layout) -> nn.Module:
    """Move a module to the device, with options of nn.Module.to; one made on the meta device stays there."""
    on_meta = any(parameter.is_meta for parameter in module.parameters())
    return module if on_meta else module.to(device(), **layout)


def _average(decay: float):
    """Return the update rule of AveragedModel: an exponential moving average with warm-up."""

    def update(averages: list[Tensor], currents: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(averages, currents, 1.0 - min(decay, (1 + count) / (10 + count)))

    return torch.no_grad()(update)


class Paced(Protocol):
    """Settings of a training whose learning rate changes; see pace."""

    num_steps: int
    learning_rate: float
    warmup_steps: int
    cooldown: float


def set_learning_rate(optimizer: Optimizer, step: int, settings: Paced) -> None:
    """Set an optimiser's learning rate for a step (from 0)."""
    factor = pace(step, settings.num_steps, settings.warmup_steps, settings.cooldown)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * factor


def pace(step: int, num_steps: int, warmup_steps: int, cooldown: float) -> float:
    """Return the factor 0..1 on the learning rate at a step (from 0).

    It rises over the first warmup_steps, and falls to zero over the last share `cooldown` of num_steps.
    """
    rise = (step + 1) / (warmup_steps + 1)
    fall = (num_steps - step) / (cooldown * num_steps + 1)
    return min(1.0, rise, fall)


class BatchOrder:
    """Which of `count` examples make up a batch; batch number i depends on the seed and i alone.

    Each epoch is a new random order without replacement; a batch may span two epochs.
    """

    def __init__(self, count: int, batch_size: int, seed: int):
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._order = cache(self._new_order)

    def _new_order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        return torch.randperm(self.count, generator=generator)

    def indices(self, step: int) -> Tensor:
        """Return the positions of the examples in batch number `step`, (batch_size,) int64."""
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = positions // self.count
        orders = torch.stack([self._order(int(epoch)) for epoch in epochs.unique()])
        return orders[epochs - epochs[0], positions % self.count]


class ImageBatches(BatchOrder):
    """Batches of an ImageSet for training, in BatchOrder, so that a resume needs no state.

    Calling it with a step returns images (B, C, H, W) float32 -1..1 and labels (B,) int64 on the device. flip: mirror
    each image with probability 0.5, left to right.
    """

    def __init__(self, images: ImageSet, batch_size: int, seed: int, flip: bool = False):
        super().__init__(len(images), batch_size, seed)
        writable = np.require(images.images, requirements="W")  # other processes share theirs read-only
        self.images = torch.from_numpy(writable).to(device())
        self.labels = torch.from_numpy(images.labels).to(device())
        self.flip = flip

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        indices = self.indices(step).to(self.images.device)
        images = to_float(self.images[indices])
        if self.flip:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "flip", step))
            flipped = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return images, self.labels[indices]


@dataclass
class TrainingLog:
    """What a training left behind. curve: one row per logged step, the mean of each scalar since the row before.

    resumed_from: the step an interrupted training was taken up at, 0 = from the start. seconds: time spent in steps,
    interrupted parts included.
    """

    curve: pd.DataFrame
    num_steps: int
    resumed_from: int = 0
    seconds: float = 0.0


@dataclass
class _State:
    """Where a training stands, apart from its method."""

    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    method: Method,
    batches: Callable[[int], tuple[Tensor, ...]],
    num_steps: int,
    *,
    seed: int,
    description: str,
    checkpoint: Path | None = None,
) -> TrainingLog:
    """Train `method` for num_steps steps (or until method.done) on batches(step), and return the log.

    With a `checkpoint` path the whole state (networks, averages, optimisers, random numbers, log) is written there
    about every ten seconds, atomically; if the file exists, training goes on from it and ends in the same weights as
    one that was never interrupted. None = no checkpoint. The random state of the caller is left as it was.

    Raises TrainingDivergedError as soon as a logged scalar is not finite.
    """
    state, started = _State(), time.monotonic()
    devices = [device()] if device().type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, "training"))
        if checkpoint is not None and checkpoint.is_file():
            state = _restore(checkpoint, method)
        resumed_from, spent, saved = state.step, state.seconds, started
        for module in method.modules.values():
            module.train()
        with progress(description=description, total=num_steps, initial=state.step) as bar:
            while state.step < num_steps and not method.done:
                _one_step(method, batches, state, num_steps, description)
                bar.update()
                now = time.monotonic()
                state.seconds = spent + now - started
                if checkpoint is not None and now - saved > CHECKPOINT_SECONDS:
                    _save(checkpoint, method, state)
                    saved = time.monotonic()
    curve = pd.DataFrame(state.rows)
    return TrainingLog(curve, state.step, resumed_from, state.seconds)


def _one_step(method: Method, batches, state: _State, num_steps: int, description: str) -> None:
    """Take one step, and add its scalars to the running means of the log."""
    scalars = {name: float(value) for name, value in method.step(state.step, *batches(state.step)).items()}
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        raise TrainingDivergedError(
            f"{description}: {', '.join(bad)} is not finite at step {state.step + 1} of {num_steps}; "
            "the training has diverged. Lower the learning rate, or try another seed."
        )
    for averaged, module in ((method.averages[name], method.modules[name]) for name in method.averages):
        averaged.update_parameters(module)
    state.step += 1
    for name, value in scalars.items():
        total, count = state.sums.get(name, (0.0, 0))
        state.sums[name] = (total + value, count + 1)
    if state.step % max(1, num_steps // LOG_POINTS) == 0 or state.step == num_steps or method.done:
        state.rows.append({"step": state.step, **{name: total / n for name, (total, n) in state.sums.items()}})
        state.sums = {}


def _save(path: Path, method: Method, state: _State) -> None:
    """Write a checkpoint, atomically."""
    random = {"cpu": torch.get_rng_state()}
    if device().type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device())
    with atomic(path) as temporary:
        torch.save({"method": method.state_dict(), "random": random, "state": vars(state)}, temporary)


def _restore(path: Path, method: Method) -> _State:
    """Read a checkpoint into `method` and the random state, and return where the training stood."""
    saved = torch.load(path, map_location=device(), weights_only=True)
    method.load_state_dict(saved["method"])
    torch.set_rng_state(saved["random"]["cpu"].cpu())
    if "cuda" in saved["random"]:
        torch.cuda.set_rng_state(saved["random"]["cuda"].cpu(), device())
    return _State(**saved["state"])
