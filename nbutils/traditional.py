"""Traditional augmentation: every image is turned, shifted, scaled, toned and blemished anew whenever it is drawn."""

from dataclasses import dataclass, fields
from functools import cached_property

from kornia import augmentation as kornia
from torch import Tensor, nn

from nbutils.augmentation import Batch, Plain
from nbutils.images import ImageSet, concatenate, read_at

NUM_CASES = {"smoke": 20, "demo": 80, "gpu": 200, "paper": 200}
"""Real training cases of de Wilde et al., Table 4, at each scale."""

MANY, FEW = 10, 10
"""Table 4 draws up to so many synthetic cases for each real one, and trains embeddings on one of so many cases."""


@dataclass(frozen=True)
class Traditional(Plain):
    """A policy that trains on randomly changed copies of the images of `pool`, each on its own, by kornia.

    flip: probability of a mirror image, left to right. rotation: up to so many degrees either way. translation: up to
    this share of the width and height. scaling: up to this share larger or smaller. gamma: lowest and highest exponent
    of the tone curve. brightness, contrast: up to this share more or less. noise: sd, of grey values 0..1.
    channel_dropout: probability that one channel is emptied; grey images keep theirs.
    input_size: pixels to which images are reduced first, as the classifier else does after it; None = they are not.

    The kinds are those of de Wilde et al., Section 3.2, the strengths those of their published code. Its optical
    distortion, of which the paper says nothing, is left out.
    """

    flip: float = 0.5
    rotation: float = 45.0
    translation: float = 0.1
    scaling: float = 0.2
    gamma: tuple[float, float] = (0.1, 1.0)
    brightness: float = 0.2
    contrast: float = 0.2
    noise: float = 0.02
    channel_dropout: float = 0.8
    input_size: int | None = None

    @cached_property
    def _change(self) -> nn.Module:
        """The changes, for images 0..1."""
        shift, zoom = (self.translation, self.translation), (1 - self.scaling, 1 + self.scaling)
        changes = [
            kornia.RandomHorizontalFlip(p=self.flip),
            kornia.RandomAffine(self.rotation, shift, zoom, p=1.0),
            kornia.RandomGamma(self.gamma, p=1.0),
            kornia.ColorJiggle(self.brightness, self.contrast, p=1.0),
            kornia.RandomGaussianNoise(std=self.noise, p=1.0),
        ]
        if self.pool.channels > 1:
            changes.append(kornia.RandomChannelDropout(p=self.channel_dropout))
        return nn.Sequential(*changes)

    def transform(self, images: Tensor, labels: Tensor) -> Batch:
        changed = self._change((read_at(images, self.input_size) + 1) / 2).clamp(0, 1) * 2 - 1
        return super().transform(changed, labels)

    def key(self) -> dict:
        strengths = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pool"}
        return {**super().key(), **strengths}


def geometric_changes(crop: float, rotation: float, flip: float) -> nn.Module:
    """Return a module that crops, rotates and mirrors each image of a batch (B, C, H, W) on its own, by kornia.

    crop: side of a square cut out at random, as a share of the image's, and enlarged to its size; 1 = the whole image.
    rotation: up to so many degrees either way. flip: probability of a mirror image, left to right. Images are float32
    -1..1; what lies outside of them is 0, a medium grey. The module does nothing if nothing is asked for.
    """
    changes = []
    if crop < 1 or rotation > 0:
        shift = (1 / crop - 1) / 2  # of the enlarged image, in shares of its size
        changes.append(kornia.RandomAffine(rotation, (shift, shift), (1 / crop, 1 / crop), p=1.0))
    if flip > 0:
        changes.append(kornia.RandomHorizontalFlip(p=flip))
    return nn.Sequential(*changes)


def few_cases(cases: ImageSet) -> ImageSet:
    """Return one in FEW of the cases of each class, of which the poor embeddings of Table 4 are trained.

    Raises ValueError if there are too few cases for that.
    """
    if len(cases) < FEW * cases.num_classes:
        raise ValueError(
            f"One in {FEW} of {len(cases)} cases cannot show {cases.num_classes} classes: num_cases must be "
            f"{FEW * cases.num_classes} or more, and there must be as many training images."
        )
    return cases.thinned(len(cases) // FEW, seed=0)


def table_arms(
    real: ImageSet, synthetic: ImageSet, few_case: ImageSet, input_size: int | None = None
) -> dict[str, Traditional]:
    """Return the arms of de Wilde et al., Table 4, by name; x1, x10: synthetic cases for each real one.

    synthetic, few_case: MANY images for each real one, drawn with the embeddings of all cases and of few. input_size:
    of the classifier.
    """
    many, once = f"x{MANY}", synthetic.thinned(len(real), seed=0)
    pools = {
        "real": [real],
        "synthetic x1": [once],
        f"synthetic {many}": [synthetic],
        "real + synthetic x1": [real, once],
        f"real + synthetic {many}": [real, synthetic],
        f"few-case {many}": [few_case],
        f"real + few-case {many}": [real, few_case],
    }
    return {name: Traditional(concatenate(parts, name), input_size=input_size) for name, parts in pools.items()}
