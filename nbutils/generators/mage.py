"""MAGE on medical images (Yuan et al. 2024): fine-tuned as a whole, or frozen, with adapters for each class."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nbutils import weights
from nbutils.generators.base import Generator, GeneratorConfig
from nbutils.generators.image_codes import decoded, encoded, encoded_once
from nbutils.generators.mage_training import Additions, MageMethod, code_batches
from nbutils.generators.mage_weights import load_mage
from nbutils.images import ImageSet, in_shape, to_float
from nbutils.models.adapter import Adapters, ClassTokenQuantizer
from nbutils.models.mage import MAGE
from nbutils.models.mage_decoding import decode_iteratively
from nbutils.seeds import derive_seed, image_seeds
from nbutils.training import Method, autocast, device

Watch = Callable[[Tensor], None]


@dataclass(frozen=True)
class MageGeneratorConfig(GeneratorConfig):
    """Settings of fine-tuning MAGE; batch_size images of each class make a step.

    network: of published weights or a prior, by a name that nbutils.weights knows.
    learning_rate: of Adam, constant. num_decoding_steps, temperature: of iterative decoding.
    bottleneck, adapter_scale, adapter_dropout: of the adapters; placement: a key of models.adapter.PLACEMENTS.
    num_class_codes: of the class-token quantiser (K), for each class. commitment, quantisation_weight: alpha and beta
        of Eqs. 7 and 8. replace_class_token: let the decoder see the code in place of the class token; the equations
        only add a loss.
    """

    network: str = "prior-mage"
    learning_rate: float = 5e-4
    num_decoding_steps: int = 20
    temperature: float = 6.0
    bottleneck: int = 64
    adapter_scale: float = 0.1
    adapter_dropout: float = 0.1
    placement: str = "both"
    num_class_codes: int = 32
    commitment: float = 0.25
    quantisation_weight: float = 1.0
    replace_class_token: bool = False


@lru_cache(maxsize=1)
def _network(name: str, checksum: str) -> MAGE:
    """Return a frozen network, loaded once for all generators on it; the checksum tells weights apart."""
    del checksum
    with torch.inference_mode(False):  # it may first be needed for drawing, and be trained through later
        return load_mage(weights.locate(name))


class MageGenerator(Generator):
    """What the three ways of fine-tuning share: codes, drawing, the weights they start from."""

    scales: ClassVar = {
        "smoke": MageGeneratorConfig(
            image_size=16, num_steps=2, batch_size=2, bottleneck=4, num_class_codes=4, num_decoding_steps=2
        ),
        "demo": MageGeneratorConfig(
            image_size=32, num_steps=1000, batch_size=8, flip=True, bottleneck=8, num_decoding_steps=8
        ),
        "gpu": MageGeneratorConfig(
            image_size=32, num_steps=5000, batch_size=32, flip=True, bottleneck=32, num_decoding_steps=12
        ),
        # 1,000 epochs (Section 3.1) of 657 images, the mean class of Kera-3k, in batches of 32; it states no batch.
        "paper": MageGeneratorConfig(
            image_size=256, num_steps=20_500, batch_size=32, flip=True, network="mage-vitb", sample_batch_size=32
        ),
    }

    @property
    def pretrained_network(self) -> MAGE:
        """The frozen network."""
        return _network(self.config.network, weights.checksum(self.config.network))

    def key(self, images: ImageSet) -> dict:
        """Return everything that determines the trained weights, the network's file included."""
        return {**super().key(images), "pretrained": {self.config.network: weights.checksum(self.config.network)}}

    def pretrained(self) -> list[str]:
        return [self.config.network]

    def cost(self) -> dict[str, float | bool]:
        """Return what it took, see Generator.cost; a step sees a batch of each class."""
        cost = super().cost()
        return {**cost, "images_seen": cost["images_seen"] * len(self.card["class_names"])}

    @property
    def working_size(self) -> int:
        """Pixels of the images that the network works on; others are resized to it and back."""
        config = self.pretrained_network.config
        return config.grid * config.vqgan.stride

    def build(self, num_classes: int, channels: int, image_size: int) -> MageMethod:
        """Return what is trained, with its optimiser and training step."""
        return self.method_on(self.pretrained_network, num_classes)

    @abstractmethod
    def method_on(self, network: MAGE, num_classes: int) -> MageMethod:
        """Return the training step on a frozen network, which stays as it is."""

    @abstractmethod
    def draw_codes(
        self, pretrained: MAGE, trained: nn.Module, labels: Tensor, seeds: Sequence[int], watch: Watch | None = None
    ) -> Tensor:
        """Draw codes (B, N) int64 of labels (B,) int64, row i from seeds[i] alone; watch: see decode_iteratively.

        pretrained: the network that training started from. trained: what method_on made and training left.
        """

    def draw(self, network: nn.Module, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw images (B, C, H, W) float -1..1 of labels (B,) int64 on the device, image i from seeds[i] alone."""
        codes = self.draw_codes(self.pretrained_network, network, labels, seeds)
        return to_float(self._pixels(codes)).to(codes.device)

    def stages(self, labels, seed: int) -> list[np.ndarray]:
        """Return what `sample` knows of its images after each step, (B, 3, S, S) uint8 of the network's own size.

        Places whose codes are still hidden are white; the others are as in the finished image, since a code that was
        kept stays. labels: (B,) int.
        """
        labels, mage, hidden = torch.as_tensor(labels, device=device()), self.pretrained_network, []

        def watch(codes: Tensor) -> None:
            hidden.append((codes == mage.config.mask_word).unflatten(1, (1, mage.config.grid, -1)).cpu())

        with torch.inference_mode(), autocast():
            network, seeds = self.networks[0].eval(), image_seeds(seed, len(labels), "sample")
            finished = decoded(mage, self.draw_codes(mage, network, labels, seeds, watch))
        place = np.ones((1, 1, mage.config.vqgan.stride, mage.config.vqgan.stride), bool)
        return [np.where(np.kron(places, place), np.uint8(255), finished) for places in hidden]

    def rebuilt(self, images: np.ndarray) -> np.ndarray:
        """Return what the tokenizer leaves of uint8 images (N, C, H, W), likewise: the best that can be drawn."""
        return self._pixels(self._codes(images)[0])

    def _codes(self, images: np.ndarray, mirrored: bool = False) -> Tensor:
        """Return the codes (1, N, K) int64, on the CPU, of uint8 images (N, C, H, W); mirrored: (2, N, K), of both.

        They are cached: however many generators are trained on an image, it is encoded once.
        """
        key = {"network": weights.checksum(self.config.network)}
        codes = encoded_once(
            "codes", key, images, mirrored, self.working_size, lambda pixels: encoded(self.pretrained_network, pixels)
        )
        return codes.long()

    def _batches(self, method: Method, images: ImageSet, part: int) -> Callable[[int], tuple[Tensor, ...]]:
        """Return batches of all classes side by side; each image is encoded once, here."""
        # What a short training does not come to need not be encoded.
        images = images.at_most(self.config.num_steps * self.config.batch_size)
        codes = self._codes(images.images, mirrored=self.config.flip)
        classes = [codes[:, torch.from_numpy(images.labels == label)] for label in range(images.num_classes)]
        seeds = [derive_seed(self.seed, self.name, "batches", part, label) for label in range(images.num_classes)]
        self._start(method, classes, seeds)
        return code_batches(classes, self.config.batch_size, seeds)

    def _start(self, method: Method, classes: Sequence[Tensor], seeds: Sequence[int]) -> None:
        """Let what is trained start from the classes' codes; here nothing does."""

    def _pixels(self, codes: Tensor) -> np.ndarray:
        """Return uint8 images (B, C, H, W) of the size and channels that were trained on, of codes (B, N) int64."""
        pixels = decoded(self.pretrained_network, codes)
        return in_shape(pixels, self.card["channels"], self.card["image_size"])


class MageFineTuned(MageGenerator):
    """The whole transformer fine-tuned, one for all classes, told apart by the word of the class slot.

    The paper has one network for each class (per_class=True); one for all costs a seventh of the disk.
    """

    name = "mage"

    def method_on(self, network: MAGE, num_classes: int) -> MageMethod:
        """Return the training step of a copy of the network, without its tokenizer, which stays as it is."""
        network = deepcopy(network).requires_grad_(True)
        network.vqgan = nn.Identity()
        adam = torch.optim.Adam(network.parameters(), self.config.learning_rate)
        return MageMethod(network, None, adam, class_words=True)

    def draw_codes(
        self, pretrained: MAGE, trained: MAGE, labels: Tensor, seeds: Sequence[int], watch: Watch | None = None
    ) -> Tensor:
        """Draw codes (B, N) int64 of labels (B,) int64 with the trained network alone; see MageGenerator."""
        settings = (self.config.num_decoding_steps, self.config.temperature)
        return decode_iteratively(trained.eval(), seeds, *settings, class_words=labels, watch=watch)


class MageAdapter(MageGenerator):
    """Adapters in each block of the frozen transformer, one set for each class, without the quantisation loss."""

    name = "mage-adapter"
    quantised: ClassVar[bool] = False
    # Fewer steps than at paper scale ask for larger ones: s and the learning rate are those of the lowest loss on
    # validation images after 120 steps on phantom:dermoscopy, among s = 0.1 and 1 and rates of 5e-4 to 5e-3 (5.33 to
    # 5.15 from 5.39). The whole network was best with the rate that it has (5.02; 5.05 with 2e-3).
    scales: ClassVar = MageGenerator.scales | {
        "demo": replace(MageGenerator.scales["demo"], adapter_scale=1.0, learning_rate=5e-3),
        "gpu": replace(MageGenerator.scales["gpu"], adapter_scale=1.0, learning_rate=2e-3),
    }

    def method_on(self, network: MAGE, num_classes: int) -> MageMethod:
        """Return the training step of adapters (and quantisers) for each class."""
        config = self.config
        adapters = Adapters(
            num_classes,
            network.config.width,
            {"encoder": network.config.depth, "decoder": network.config.decoder_depth},
            config.bottleneck,
            config.adapter_scale,
            config.adapter_dropout,
            config.placement,
        )
        sizes = (num_classes, config.num_class_codes, network.config.width, config.commitment)
        additions = Additions(adapters, ClassTokenQuantizer(*sizes) if self.quantised else None)
        adam = torch.optim.Adam(additions.parameters(), config.learning_rate)
        loss = {"quantisation_weight": config.quantisation_weight, "replace_class_token": config.replace_class_token}
        return MageMethod(network, additions, adam, **loss)

    def draw_codes(
        self, pretrained: MAGE, trained: Additions, labels: Tensor, seeds: Sequence[int], watch: Watch | None = None
    ) -> Tensor:
        """Draw codes (B, N) int64 of labels (B,) int64 with the adapters of their classes; see MageGenerator."""
        settings = (self.config.num_decoding_steps, self.config.temperature)
        told = {"adapters": trained.eval().adapters, "classes": labels, "watch": watch}
        return decode_iteratively(pretrained.eval(), seeds, *settings, **told)


class MageAdapterVQ(MageAdapter):
    """The method of Yuan et al.: adapters with the quantisation loss on the class token (Eqs. 7 and 8)."""

    name = "mage-adapter-vq"
    quantised = True

    def _start(self, method: Method, classes: Sequence[Tensor], seeds: Sequence[int]) -> None:
        """Let each class' codebook start from the class features of its images, as the network has them."""
        network = self.pretrained_network.eval()
        quantizer = method.additions.quantizer
        for label, (codes, seed) in enumerate(zip(classes, seeds, strict=True)):
            generator = torch.Generator().manual_seed(derive_seed(seed, "codebook"))
            chosen = codes[0, torch.randperm(codes.shape[1], generator=generator)[: self.config.num_class_codes]]
            with torch.no_grad(), autocast():
                features = network.encoded(chosen.to(device()))[:, 0]
            quantizer.start_from(features.float(), label)
