"""What all phantoms share: a modality's description, its random streams, patients, and rendering in chunks."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
import torch
from joblib import Parallel, delayed

from nbutils.images import ImageSet, check_image_size, resize
from nbutils.progress import progress
from nbutils.scales import choose

SPLITS = ("train", "val", "test", "oracle")
"""The three splits of a study, and one as large as wished for training an oracle reader; no two share a patient."""

CHUNK = 16  # images rendered at once: large enough to amortise Python, small enough for the CPU cache
PROGRESS_FROM = 2000  # images from which on one waits long enough to want a bar


class Draws:
    """Random numbers for a batch of B images, one stream each: row i never depends on the other images.

    All methods return float32 tensors (B, *shape), or (B,) without a shape.
    """

    def __init__(self, generators: Sequence[np.random.Generator]):
        self.generators = list(generators)

    def rows(self, indices) -> "Draws":
        """Return the streams of some images; what is drawn from them is drawn from these, too."""
        return Draws([self.generators[i] for i in indices])

    def uniform(self, low=0.0, high=1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw uniformly from [low, high); both may be tensors that broadcast with the result."""
        rows = np.stack([generator.random(shape, dtype=np.float32) for generator in self.generators])
        return low + (high - low) * torch.from_numpy(rows)

    def normal(self, mean=0.0, sd=1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw from a normal distribution; mean and sd may be tensors that broadcast with the result."""
        rows = np.stack([generator.standard_normal(shape, dtype=np.float32) for generator in self.generators])
        return mean + sd * torch.from_numpy(rows)

    def chance(self, probability, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Return 1.0 with the given probability, else 0.0."""
        return (self.uniform(shape=shape) < probability).to(torch.float32)


class SideDraws(Draws):
    """Random numbers of one of a person's two eyes: both are drawn from the patient's stream, and one is taken.

    side: (B,) int64, 0 or 1.
    """

    def __init__(self, patient: Draws, side: torch.Tensor):
        super().__init__(patient.generators)
        self.side = side

    def rows(self, indices) -> "SideDraws":
        """Return the streams of some images, each of the same eye."""
        return SideDraws(super().rows(indices), self.side[indices])

    def uniform(self, low=0.0, high=1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw uniformly for both eyes, and return that of the one looked at."""
        return low + (high - low) * self._one(super().uniform(shape=(2, *shape)))

    def normal(self, mean=0.0, sd=1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw from a normal distribution for both eyes, and return that of the one looked at."""
        return mean + sd * self._one(super().normal(shape=(2, *shape)))

    def _one(self, both: torch.Tensor) -> torch.Tensor:
        return both[torch.arange(len(both)), self.side]


@dataclass(frozen=True)
class Modality:
    """One kind of phantom: what it is, how many images of each class a split has, and how to draw them.

    name: word by which it is asked for.
    version: raised whenever the recipe changes, so that caches notice.
    class_names: in label order.
    channels: 1 or 3.
    counts: images per class of the splits train, val and test.
    images_per_patient: probability of 1, 2, 3 ... images of one class in a patient.
    shared_patients: share of the patients of each further class who are also patients of class 0.
    draw: (label, patient draws, image draws, canvas) -> (B, channels, canvas, canvas) float32 of one class, to be
        rounded: 0 = black, 255 = white.
    twin_of: name of the modality whose random numbers it draws, so that image i shows the same patient, taken the same
        way, and only what `draw` does differently differs; None = its own.
    """

    name: str
    version: int
    class_names: tuple[str, ...]
    channels: int
    counts: Mapping[str, tuple[int, ...]]
    images_per_patient: tuple[float, ...]
    shared_patients: float
    draw: Callable[[int, Draws, Draws, int], torch.Tensor]
    twin_of: str | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def render_modality(
    modality: Modality, split: str, seed: int = 0, image_size: int = 32, counts: Sequence[int] | None = None
) -> ImageSet:
    """Render one split of a modality, class after class; see `nbutils.phantoms.render`."""
    asked = _counts(modality, split, counts)
    check_image_size(image_size)
    key = f"{modality.twin_of or modality.name} v{modality.version} {split} seed={seed}"
    labels = np.repeat(np.arange(modality.num_classes), asked)
    images = np.empty((len(labels), modality.channels, image_size, image_size), dtype=np.uint8)
    patients = np.empty(len(labels), dtype=np.int64)

    def draw(rows: slice, label: int, first: int) -> None:
        # always a whole chunk, because the last bit of a matrix product depends on how many there are in a batch
        numbers = _patients(modality, key, label, first + CHUNK)[first:]
        patient = Draws([_generator(f"{key} patient {number}") for number in numbers])
        image = Draws([_generator(f"{key} class {label} image {first + i}") for i in range(CHUNK)])
        count = rows.stop - rows.start
        drawn = modality.draw(label, patient, image, canvas_size(image_size))[:count]
        drawn = drawn.round().clamp(0, 255).to(torch.uint8).numpy()
        images[rows], patients[rows] = resize(drawn, image_size), numbers[:count]

    with Parallel(joblib.cpu_count(), prefer="threads") as parallel:
        parallel(delayed(draw)(*chunk) for chunk in _chunks(asked))
    origin = f"phantom:{modality.name} v{modality.version} {split} size={image_size} seed={seed}"
    if counts is not None:
        origin += f" counts={'/'.join(map(str, asked))}"
    groups = [f"{split}-p{number:04d}" for number in patients]
    return ImageSet(images, labels, modality.class_names, groups, f"phantom:{modality.name} {split}", origin)


def canvas_size(image_size: int) -> int:
    """Return the size in pixels at which a phantom is drawn before it is downsampled to image_size.

    Up to 64 px a canvas of 128 px gives the same picture four times as fast, up to 16 px one of 64 px; 256 px else, and
    never less than asked.
    """
    if image_size <= 16:
        return 64
    return 128 if image_size <= 64 else max(256, image_size)


def _counts(modality: Modality, split: str, counts: Sequence[int] | None) -> tuple[int, ...]:
    choose("split", split, dict.fromkeys(SPLITS))
    if counts is None and split not in modality.counts:
        raise ValueError(f"The split {split!r} of phantom {modality.name!r} has no size of its own: give counts.")
    asked = tuple(int(count) for count in (modality.counts[split] if counts is None else counts))
    if len(asked) != modality.num_classes or min(asked) < 0:
        raise ValueError(
            f"counts must be {modality.num_classes} numbers >= 0, one per class of {modality.name!r} "
            f"({', '.join(modality.class_names)}), found {asked}."
        )
    return asked


def _patients(modality: Modality, key: str, label: int, count: int) -> np.ndarray:
    """Return the patient number of the first `count` images of a class, (count,) int64; a prefix for any count.

    The n-th patient of class c has number n * num_classes + c, or, if she also is a patient of class 0, that one's.
    """
    draws = _generator(f"{key} patients of class {label}").random((count, 2))
    sizes = 1 + np.searchsorted(np.cumsum(modality.images_per_patient)[:-1], draws[:, 0], side="right")
    shared = draws[:, 1] < modality.shared_patients
    numbers = np.arange(count) * modality.num_classes + np.where(shared, 0, label)
    return np.repeat(numbers, sizes)[:count]


def _chunks(counts: Sequence[int]):
    """Return (rows, label, index of the first image in its class) of each chunk, behind a bar if there are many."""
    starts = np.cumsum([0, *counts])
    chunks = [
        (slice(starts[label] + first, starts[label] + min(first + CHUNK, count)), label, first)
        for label, count in enumerate(counts)
        for first in range(0, count, CHUNK)
    ]
    if sum(counts) < PROGRESS_FROM:
        return chunks
    return progress(chunks, description="phantoms", unit=f"x {CHUNK} images")


def _generator(key: str) -> np.random.Generator:
    """Return a counter-based generator (Philox) whose 128-bit key is the hash of a line of text."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
