"""Feature extractors: networks trained on other images, which turn ours into the vectors that metrics compare.

A distance is named after its metric and its extractor, and printed with the extractor's recipe: numbers from different
recipes cannot be compared. A new extractor is one more entry of EXTRACTORS.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn
from torchvision.transforms import v2

from nbutils import weights
from nbutils.artefacts import cached
from nbutils.backbone import BACKBONE, load_backbone
from nbutils.images import ImageSet, resize, to_float
from nbutils.progress import progress
from nbutils.scales import choose
from nbutils.training import device, placed

VERSION = 1
FEATURES = "features.npy"
BATCH_PIXELS = 4_000_000  # of one batch, so that memory is bounded at any image size
DINOV2_SIZE = 224

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """A network that turns images into feature vectors.

    checksum: returns the SHA-256 of its weights; raises if they are missing or not the ones they should be.
    load: returns the network on the device: images (B, 3, H, W) uint8 -> features (B, D) float32.
    image_size: pixels to which images are resized; None = they are taken as they are.
    min_size: pixels that images must have at least.
    """

    checksum: Callable[[], str]
    load: Callable[[], Network]
    image_size: int | None
    min_size: int = 1


def recipe(name: str) -> str:
    """Return the line to print beside a distance on these features: extractor, weights, resize, channels, dtype.

    Raises ValueError for an unknown extractor or for weights that are not the published ones, FileNotFoundError, with
    what to fetch and where to put it, if they are missing.
    """
    extractor = choose("feature extractor", name, EXTRACTORS)
    size = extractor.image_size
    resized = "at native size" if size is None else f"resized once to {size} px (bicubic, antialiased, uint8)"
    return f"{name}: weights sha256 {extractor.checksum()[:12]}, images {resized}, grey repeated to RGB, float32"


def extract(images: ImageSet, name: str) -> np.ndarray:
    """Return the features of all images, (N, D) float32; those of images seen before come from the cache.

    name: a key of EXTRACTORS. Raises what `recipe` raises, and ValueError for no images or for too small ones.
    """
    described, extractor = recipe(name), EXTRACTORS[name]
    if not len(images):
        raise ValueError(f"{name} needs images, found none in {images.name}.")
    if images.image_size < extractor.min_size:
        resizing = ", ".join(other for other, option in EXTRACTORS.items() if option.image_size)
        raise ValueError(
            f"{name} takes images as they are, from {extractor.min_size} px, found {images.image_size} px in "
            f"{images.name}; use larger ones, or an extractor that resizes: {resizing}."
        )
    checksum = extractor.checksum()
    key = {"version": VERSION, "recipe": described, "weights": checksum, "images": images.fingerprint()}

    def build(folder: Path) -> None:
        np.save(folder / FEATURES, _run(_network(name, checksum), images, extractor.image_size), allow_pickle=False)

    return np.load(cached("features", key, build).path / FEATURES, allow_pickle=False)


@lru_cache(maxsize=1)
def _network(name: str, checksum: str) -> Network:
    """Return the network, loaded once for the sets that one figure compares; the checksum tells weights apart."""
    del checksum
    return EXTRACTORS[name].load()


def _run(network: Network, images: ImageSet, image_size: int | None) -> np.ndarray:
    """Resize all images and send them through the network, a batch at a time."""
    size = image_size or images.image_size
    batch_size = max(1, BATCH_PIXELS // size**2)
    firsts = progress(range(0, len(images), batch_size), description=f"features of {images.name}", unit="batch")
    # Convolutions on a GPU would use TensorFloat-32, which keeps 10 bits; the recipe says float32.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        batches = (resize(images.images[first : first + batch_size], size) for first in firsts)
        done = [network(_rgb(batch).to(device())).float().cpu() for batch in batches]
    return torch.cat(done).numpy()


def _rgb(images: np.ndarray) -> Tensor:
    """Repeat grey images (B, 1, H, W) to (B, 3, H, W); leave three channels as they are."""
    return torch.from_numpy(images).expand(-1, 3, -1, -1)


def _shipped() -> Network:
    """Return the backbone that was trained to read the corpus' attributes: pooled features before the last layer."""
    network = load_backbone(weights.locate(BACKBONE).parent)
    network.reset_classifier(0)
    return lambda images: network(to_float(images))


def _inception() -> Network:
    """Return the Inception network of the Fréchet inception distance: 2,048 pooled features.

    torch-fidelity resizes as TensorFlow 1 did, without antialiasing; here images of 299 px reach it, which it leaves as
    they are. So numbers equal torch-fidelity's at 299 px, and differ a little where images are resized.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds to import

    checked = io.BytesIO()  # tensors only: torch-fidelity itself would execute whatever a file of weights holds
    torch.save(dict(weights.load_state_dict("inception-fid")), checked)
    checked.seek(0)
    network = placed(FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=checked))
    return lambda images: network(images)[0]


def _inception_timm_native() -> Network:
    """Return timm's inception_v3 as the utility paper's code uses it: 2,048 features, pooled over the last map.

    Images go in at their own size, scaled to -1..1, so that distances shrink with growing resolution. Unlike that
    code, no images are left out at the end (it drops up to three, at random), and grey ones are taken.
    """
    state = weights.load_state_dict("inception-imagenet")
    state = {name: value for name, value in state.items() if not name.startswith(("fc.", "AuxLogits."))}
    network = timm.create_model("inception_v3", num_classes=0)
    return _timm(network, state, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)


def _dinov2(weights_name: str, architecture: str) -> Network:
    """Return a DINOv2 vision transformer at 224 px: its normalised class token, as in Stein et al. 2023.

    timm resamples the position embeddings from 518 px, bicubic and antialiased; the original code does not antialias.
    """
    network = timm.create_model(architecture, num_classes=0, img_size=DINOV2_SIZE)
    state = checkpoint_filter_fn(weights.load_state_dict(weights_name), network)
    return _timm(network, state, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _dinov2_extractor(weights_name: str, architecture: str) -> Extractor:
    return Extractor(partial(weights.checksum, weights_name), partial(_dinov2, weights_name, architecture), DINOV2_SIZE)


def _timm(network: nn.Module, state: Mapping[str, Tensor], mean: tuple[float, ...], std: tuple[float, ...]) -> Network:
    """Return a timm network with these weights, behind the scaling of uint8 images that it was trained with."""
    network.load_state_dict(state)
    scaled = nn.Sequential(v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), network)
    return placed(scaled.eval())


EXTRACTORS = {
    "shipped": Extractor(partial(weights.checksum, BACKBONE), _shipped, image_size=None, min_size=16),
    "inception": Extractor(partial(weights.checksum, "inception-fid"), _inception, image_size=299),
    "inception_timm_native": Extractor(
        partial(weights.checksum, "inception-imagenet"), _inception_timm_native, image_size=None, min_size=75
    ),
    "dinov2": _dinov2_extractor("dinov2-large", "vit_large_patch14_dinov2"),
    "dinov2_small": _dinov2_extractor(  # a laptop's; distances on it are not the published ones
        "dinov2-small", "vit_small_patch14_dinov2"
    ),
}
