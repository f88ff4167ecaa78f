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
from nbutils.images import ImageSet, resize
from nbutils.progress import progress
from nbutils.scales import choose
from nbutils.training import device, placed

VERSION = 1
FEATURES = "features.npy"
BATCH_PIXELS = 4_000_000  # of one batch, so that memory is bounded at any image size
DINOV2_SIZE = 224

_DINOV2_README = 'facebookresearch/dinov2 on GitHub, README, "Pretrained backbones"'

weights.PRETRAINED.update(
    {
        "inception-fid": weights.PretrainedFile(
            "weights-inception-2015-12-05-6726825d.pth", "toshas/torch-fidelity on GitHub, release v0.2.0"
        ),
        "inception-imagenet": weights.PretrainedFile(
            "inception_v3_google-1a9a5a14.pth",
            'torchvision, at timm.create_model("inception_v3").pretrained_cfg["url"]',
        ),
        "dinov2-large": weights.PretrainedFile("dinov2_vitl14_pretrain.pth", _DINOV2_README),
        "dinov2-small": weights.PretrainedFile("dinov2_vits14_pretrain.pth", _DINOV2_README),
    }
)

SHA256 = {
    "inception-fid": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "inception-imagenet": "1a9a5a14",  # what its name tells
    "dinov2-large": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    "dinov2-small": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
}
"""SHA-256 of the published files, or how it begins."""

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


def _published(name: str) -> str:
    """Return the SHA-256 of a published file of weights; refuse another file, which would give its name to a lie."""
    found, expected = weights.checksum(name), SHA256[name]
    if not found.startswith(expected):
        raise ValueError(
            f"{weights.locate(name)} must be the published file, whose SHA-256 begins with {expected[:12]}, found "
            f"{found[:12]}: it is damaged or another one; get it again from {weights.PRETRAINED[name].source}."
        )
    return found


def _state_dict(name: str) -> dict[str, Tensor]:
    """Read a published file of tensors, of torch's older formats too, executing nothing that is in it."""
    _published(name)
    return dict(torch.load(weights.locate(name), map_location="cpu", weights_only=True))


def _inception() -> Network:
    """Return the Inception network of the Fréchet inception distance: 2,048 pooled features.

    torch-fidelity resizes as TensorFlow 1 did, without antialiasing; here images of 299 px reach it, which it leaves as
    they are. So numbers equal torch-fidelity's at 299 px, and differ a little where images are resized.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds to import

    checked = io.BytesIO()  # tensors only: torch-fidelity itself would execute whatever a file of weights holds
    torch.save(_state_dict("inception-fid"), checked)
    checked.seek(0)
    network = placed(FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=checked))
    return lambda images: network(images)[0]


def _inception_timm_native() -> Network:
    """Return timm's inception_v3 as the utility paper's code uses it: 2,048 features, pooled over the last map.

    Images go in at their own size, scaled to -1..1, so that distances shrink with growing resolution. Unlike that
    code, no images are left out at the end (it drops up to three, at random), and grey ones are taken.
    """
    state = _state_dict("inception-imagenet")
    state = {name: value for name, value in state.items() if not name.startswith(("fc.", "AuxLogits."))}
    network = timm.create_model("inception_v3", num_classes=0)
    return _timm(network, state, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)


def _dinov2(weights_name: str, architecture: str) -> Network:
    """Return a DINOv2 vision transformer at 224 px: its normalised class token, as in Stein et al. 2023.

    timm resamples the position embeddings from 518 px, bicubic and antialiased; the original code does not antialias.
    """
    network = timm.create_model(architecture, num_classes=0, img_size=DINOV2_SIZE)
    state = checkpoint_filter_fn(_state_dict(weights_name), network)
    return _timm(network, state, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _timm(network: nn.Module, state: Mapping[str, Tensor], mean: tuple[float, ...], std: tuple[float, ...]) -> Network:
    """Return a timm network with these weights, behind the scaling of uint8 images that it was trained with."""
    network.load_state_dict(state)
    scaled = nn.Sequential(v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), network)
    return placed(scaled.eval())


EXTRACTORS = {
    "inception": Extractor(partial(_published, "inception-fid"), _inception, image_size=299),
    "inception_timm_native": Extractor(
        partial(_published, "inception-imagenet"), _inception_timm_native, image_size=None, min_size=75
    ),
    "dinov2": Extractor(
        partial(_published, "dinov2-large"), partial(_dinov2, "dinov2-large", "vit_large_patch14_dinov2"), DINOV2_SIZE
    ),
    "dinov2_small": Extractor(  # a laptop's; distances on it are not the published ones
        partial(_published, "dinov2-small"), partial(_dinov2, "dinov2-small", "vit_small_patch14_dinov2"), DINOV2_SIZE
    ),
}
