"""Random numbers by hashing: those of image i belong to (seed, i) alone, and come for a whole batch at once."""

import hashlib
import math

import numpy as np
import torch

from nbutils.seeds import derive_seed

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # increment and multipliers of SplitMix64 (Steele et al. 2014, OOPSLA, Fig. 17)
MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Draws:
    """Streams of random numbers for a batch of B images, each stream with a name.

    Number k of stream `name` of an image is a hash of (key of the image, name, k), so that nothing depends on the other
    images nor on what else is drawn. A name stands for the same numbers each time: use it once.

    keys: (B,) uint64, one per image.
    """

    def __init__(self, keys: np.ndarray):
        self.keys = keys

    @classmethod
    def of_images(cls, seed: int, indices: np.ndarray) -> "Draws":
        """Return the streams of the images `indices`, (B,) int64, of the corpus with this seed."""
        return cls(_scramble(np.uint64(derive_seed(seed, "corpus")) + indices.astype(np.uint64) * GOLDEN))

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, name: str) -> "Draws":
        """Return streams of their own for one part of the images."""
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return Draws(_scramble(self.keys ^ np.frombuffer(digest, "<u8")))

    def rows(self, indices: torch.Tensor) -> "Draws":
        """Return the streams of some of the images."""
        return Draws(self.keys[indices.numpy()])

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw uniformly from [low, high), (B, *shape) float32."""
        count = math.prod(shape)
        steps = np.arange(1, (count + 1) // 2 + 1, dtype=np.uint64) * GOLDEN
        words = _scramble(self.part(name).keys[:, None] + steps)  # (B, count / 2), two numbers in each
        bits = torch.from_numpy(words.view(np.int32)[:, :count])  # signed, as torch converts these fast
        numbers = (bits >> 8).to(torch.float32).mul_(2**-24).add_(0.5).reshape(len(self), *shape)
        return numbers if (low, high) == (0, 1) else numbers.mul_(high - low).add_(low)

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw from the standard normal distribution, (B, *shape) float32 (Box and Muller)."""
        count = math.prod(shape)
        first, second = self.uniform(name, shape=(2, (count + 1) // 2)).unbind(1)
        radius, angle = (-2 * (1 - first).log()).sqrt(), 2 * math.pi * second
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)  # (B, count)
        return both[:, :count].reshape(len(self), *shape)

    def chance(self, name: str, probability) -> torch.Tensor:
        """Return True with the given probability, (B,) bool."""
        return self.uniform(name) < probability

    def choice(self, name: str, weights, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Draw indices in proportion to `weights`, (K,) or one row per image (B, K); returns (B, *shape) int64."""
        table = torch.as_tensor(weights, dtype=torch.float32).expand(len(self), -1)
        ends = table.cumsum(1) / table.sum(1, keepdim=True)  # (B, K)
        numbers = self.uniform(name, shape=shape).reshape(len(self), math.prod(shape))
        drawn = (numbers[..., None] >= ends[:, None, :-1]).sum(-1)
        return drawn.reshape(len(self), *shape)


def _scramble(words: np.ndarray) -> np.ndarray:
    """Return the output function of SplitMix64, which turns counters into random bits; uint64 in and out."""
    words = words ^ (words >> np.uint64(30))
    words *= MULTIPLIERS[0]
    words ^= words >> np.uint64(27)
    words *= MULTIPLIERS[1]
    words ^= words >> np.uint64(31)
    return words
