"""ImageSet: the one container of labelled images, and the only place where value ranges change."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.transforms import v2

from nbutils.scales import choose


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images of one size, on which everything in the suite works.

    images: (N, C, H, W) uint8, 0..255, C = 1 (grey) or 3 (RGB, or three registered modalities), H = W.
    labels: (N,) int64, index into class_names.
    class_names: the name of each class, in label order.
    groups: (N,) str, the patient or lesion of each image; images of one group never part in a split. Synthetic
        images carry the group "synthetic".
    name: what these images are, for tables and messages.
    origin: a line from which these exact images can be made again ("phantom:liver v1 train size=32 seed=0"), used
        as their identity in caches; None = identified by their content.

    Raises ValueError when shapes, dtypes or labels do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray
    name: str = "images"
    origin: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        object.__setattr__(self, "groups", np.asarray(self.groups, dtype=np.str_))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not isinstance(self.images, np.ndarray) or self.images.dtype != np.uint8 or self.images.ndim != 4:
            found = f"{getattr(self.images, 'dtype', type(self.images).__name__)} {np.shape(self.images)}"
            raise ValueError(f"{self.name}: images must be a uint8 array (N, C, H, W), found {found}.")
        count, channels, height, width = self.images.shape
        if channels not in (1, 3):
            raise ValueError(f"{self.name}: images must have 1 or 3 channels, found {channels}.")
        if height != width:
            raise ValueError(f"{self.name}: images must be square, found {height} x {width}.")
        if self.labels.shape != (count,) or self.groups.shape != (count,):
            raise ValueError(
                f"{self.name}: {count} images need {count} labels and groups, "
                f"found {self.labels.shape} and {self.groups.shape}."
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"{self.name}: labels must be 0..{len(self.class_names) - 1} "
                f"({len(self.class_names)} classes), found {self.labels.min()}..{self.labels.max()}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {n}" for name, n in zip(self.class_names, self.class_counts(), strict=True))
        size = self.image_size
        return f"ImageSet({self.name}: {len(self)} images of {size} x {size} x {self.channels}; {counts})"

    @property
    def channels(self) -> int:
        """Number of channels, 1 or 3."""
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[2]

    @property
    def num_classes(self) -> int:
        """Number of classes, present or not."""
        return len(self.class_names)

    def class_counts(self) -> np.ndarray:
        """Return the number of images of each class, (num_classes,) int64."""
        return np.bincount(self.labels, minlength=self.num_classes)

    def label_of(self, class_name: str | None) -> int:
        """Return the label of a class by its name, None = the first. Raises ValueError, with the names, for another."""
        if class_name is None:
            return 0
        return choose("class", class_name, {name: label for label, name in enumerate(self.class_names)})

    def subset(self, indices) -> "ImageSet":
        """Return the images at `indices` (integers or a boolean mask), in that order."""
        indices = np.asarray(indices)
        if indices.size == 0:
            indices = indices.astype(np.int64)
        return replace(
            self, images=self.images[indices], labels=self.labels[indices], groups=self.groups[indices], origin=None
        )

    def of_class(self, label: int) -> "ImageSet":
        """Return the images of one class (its index)."""
        return self.subset(self.labels == label)

    def channel(self, index: int) -> "ImageSet":
        """Return one channel of the images, as grey images. Raises ValueError if they have no such channel."""
        if not 0 <= index < self.channels:
            raise ValueError(f"{self.name} has channels 0..{self.channels - 1}, asked for channel {index}.")
        return replace(self, images=self.images[:, index : index + 1], origin=None)

    def at_most(self, count: int) -> "ImageSet":
        """Return at most `count` images of each class, drawn at random; fewer of them are always among the more."""
        order = np.random.default_rng(0).permutation(len(self))
        kept = [order[self.labels[order] == label][:count] for label in range(self.num_classes)]
        return self.subset(np.sort(np.concatenate(kept)))

    def thinned(self, count: int, seed: int) -> "ImageSet":
        """Return about `count` images drawn at random, all if there are no more; each class keeps its share.

        No class loses all of its images. Raises ValueError if count is less than the number of classes.
        """
        if count < self.num_classes:
            raise ValueError(f"{self.name}: {count} images cannot show {self.num_classes} classes; take more.")
        if count >= len(self):
            return self
        generator = np.random.default_rng(seed)
        kept = []
        for label, size in enumerate(self.class_counts()):
            share = max(1, round(count * size / len(self))) if size else 0
            kept.append(generator.permutation(np.flatnonzero(self.labels == label))[:share])
        return self.subset(np.sort(np.concatenate(kept)))

    def hashes(self) -> np.ndarray:
        """Return one digest per image, (N,) str: equal if and only if the pixels are equal."""
        images = np.ascontiguousarray(self.images)
        return np.array([hashlib.blake2b(image, digest_size=16).hexdigest() for image in images], dtype="<U32")

    def fingerprint(self) -> str:
        """Return a hash of what these images are: of `origin` if it is known, else of pixels, labels and classes."""
        digest = hashlib.sha256()
        if self.origin is not None:
            digest.update(self.origin.encode())
        else:
            digest.update(repr((self.images.shape, self.class_names)).encode())
            digest.update(np.ascontiguousarray(self.images))
            digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()


def concatenate(sets: Sequence[ImageSet], name: str) -> ImageSet:
    """Join image sets of one size and the same classes into one, in the order given.

    Raises ValueError when sizes, channels or classes differ.
    """
    first = sets[0]
    for other in sets[1:]:
        if other.images.shape[1:] != first.images.shape[1:] or other.class_names != first.class_names:
            raise ValueError(
                f"Cannot join {first.name} {first.images.shape[1:]} {first.class_names} "
                f"with {other.name} {other.images.shape[1:]} {other.class_names}: same shape and classes are needed."
            )
    return ImageSet(
        images=np.concatenate([s.images for s in sets]),
        labels=np.concatenate([s.labels for s in sets]),
        class_names=first.class_names,
        groups=np.concatenate([s.groups for s in sets]),
        name=name,
    )


def as_classes(sets: Mapping[str, ImageSet], name: str) -> ImageSet:
    """Join image sets of one size into one whose classes are the sets, whatever classes they had; an image may recur.

    Raises ValueError when sizes or channels differ.
    """
    classes = tuple(sets)
    relabelled = [
        replace(images, labels=np.full(len(images), label), class_names=classes)
        for label, images in enumerate(sets.values())
    ]
    return concatenate(relabelled, name)


def unlabelled(images: ImageSet) -> ImageSet:
    """Return images as a set of a single class, "image", in which nothing of their labels is left."""
    origin = None if images.origin is None else f"{images.origin} unlabelled"
    return replace(images, labels=np.zeros(len(images)), class_names=("image",), origin=origin)


def synthetic_set(images: np.ndarray, labels, class_names: Sequence[str], name: str) -> ImageSet:
    """Wrap generated images, (N, C, H, W) uint8, as an ImageSet of the group "synthetic"."""
    return ImageSet(images, labels, tuple(class_names), np.full(len(images), "synthetic"), name)


def to_float(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Map uint8 0..255 to float32 -1..1, the range of all networks; shape is kept.

    Raises ValueError for any other dtype, so that nothing is scaled twice.
    """
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8:
        raise ValueError(f"to_float takes uint8 images 0..255, found {images.dtype}.")
    return images.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Map float -1..1 to uint8 0..255, rounded and clipped; shape is kept.

    Raises ValueError for integer images or non-finite values.
    """
    if not images.is_floating_point():
        raise ValueError(f"to_uint8 takes float images -1..1, found {images.dtype}.")
    if not torch.isfinite(images).all():
        raise ValueError("to_uint8 got values that are not finite; the network that made them has diverged.")
    scaled = (images.detach().to(torch.float32) + 1.0) * 127.5
    return scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """Resize square uint8 images (N, C, H, W) to image_size pixels, bicubic and antialiased, once.

    Raises ValueError if image_size is not positive.
    """
    check_image_size(image_size)
    if images.shape[-1] == image_size:
        return images
    resized = v2.functional.resize(
        torch.from_numpy(images), [image_size, image_size], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    return resized.numpy()


def resized(images: ImageSet, image_size: int) -> ImageSet:
    """Return images at another size, see `resize`; those that have it already as they are."""
    if images.image_size == image_size:
        return images
    origin = None if images.origin is None else f"{images.origin} resized to {image_size} px"
    return replace(images, images=resize(images.images, image_size), origin=origin)


def without_border(images: ImageSet, share: float) -> ImageSet:
    """Return images without `share` of their width on each of the four sides, enlarged to their size again.

    Cuts off what lies at the border, such as the side marker of a radiograph. share: from 0 to less than 0.5, rounded
    to whole pixels. Raises ValueError for another share.
    """
    if not 0 <= share < 0.5:
        raise ValueError(
            f"The share of the width to cut off each side must be 0 or more and less than 0.5, found {share}."
        )
    edge = min(round(share * images.image_size), (images.image_size - 1) // 2)
    inner = images.images[:, :, edge : images.image_size - edge, edge : images.image_size - edge]
    origin = None if images.origin is None else f"{images.origin} without {edge} px of border"
    return replace(images, images=resize(np.ascontiguousarray(inner), images.image_size), origin=origin)


def in_colour(images: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) in three channels; C is 1, a grey channel that is repeated, or 3."""
    return images.repeat(3 // images.shape[1], axis=1)


def in_shape(images: np.ndarray, channels: int, image_size: int) -> np.ndarray:
    """Return uint8 images (N, 3, S, S) in so many channels (1 = the mean of the three, 3) and pixels."""
    if channels == 1:
        images = images.mean(axis=1, keepdims=True).round().astype(np.uint8)
    return resize(images, image_size)


def read_at(images: torch.Tensor, image_size: int | None) -> torch.Tensor:
    """Return images (B, C, H, W) float at the size at which a network reads them, bilinear; None = as they are."""
    if image_size is None or images.shape[-1] == image_size:
        return images
    return torch.nn.functional.interpolate(images, size=image_size, mode="bilinear", antialias=True)


def check_image_size(image_size: int) -> int:
    """Return image_size if it is a whole number of pixels from 8 to 1024, else raise ValueError."""
    if not isinstance(image_size, int) or isinstance(image_size, bool) or not 8 <= image_size <= 1024:
        raise ValueError(f"image_size must be a whole number of pixels from 8 to 1024, found {image_size!r}.")
    return image_size
