"""Pre-trained weights: shipped with the repository, in a local folder, or on the hub; read without executing anything.

A name of PRETRAINED is looked for in data/weights/priors, then in the folder of published weights. Other names are ids
of the Hugging Face hub, "hub:owner/name@commit" or "hub:owner/name@commit:file", pinned by the commit's hash, or paths,
"folder:PATH".
"""

import hashlib
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import is_zipfile

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nbutils.artefacts import damage
from nbutils.files import ROOT, atomic, read_json, sha256_of_file
from nbutils.scales import choose

FOLDER_VARIABLE = "NBUTILS_WEIGHTS"
PRIORS = ROOT / "data" / "weights" / "priors"
PRIOR_CARD = "prior.json"  # of each folder there
HUB, FOLDER = "hub:", "folder:"
HUB_ID = re.compile(r"hub:([^/@:\s]+/[^/@:\s]+)@([0-9a-f]{40})(?::(\S+))?")
SAFE_FILES = ["*.safetensors", "*.json", "*.txt"]


@dataclass(frozen=True)
class Pretrained:
    """Weights that were trained before. path: of the file or folder; source: who gives it away, or how it is made.

    sha256: how the SHA-256 of a published file begins, "" = not known.
    """

    path: str
    source: str
    sha256: str = ""


_DINOV2 = 'facebookresearch/dinov2 on GitHub, README, "Pretrained backbones"'
TRAIN = "python -m nbutils train-prior "

PRETRAINED = {
    "prior-backbone": Pretrained("backbone/weights.safetensors", TRAIN + "backbone"),
    "prior-backbone-vit": Pretrained("backbone-vit/weights.safetensors", TRAIN + "backbone-vit"),
    "prior-backbone-swin": Pretrained("backbone-swin/weights.safetensors", TRAIN + "backbone-swin"),
    "prior-backbone-gpu": Pretrained("backbone-gpu/weights.safetensors", TRAIN + "backbone-gpu"),
    "prior-diffusion": Pretrained("diffusion/weights.safetensors", TRAIN + "diffusion"),
    "prior-diffusion-gpu": Pretrained("diffusion-gpu/weights.safetensors", TRAIN + "diffusion-gpu"),
    "prior-autoencoder-32": Pretrained("autoencoder-32/vae", TRAIN + "autoencoder-32"),
    "prior-autoencoder-64": Pretrained("autoencoder-64/vae", TRAIN + "autoencoder-64"),
    "prior-vq-f8": Pretrained("vq-f8/vqvae", TRAIN + "vq-f8"),
    "prior-text-to-image": Pretrained("text-to-image/pipeline", TRAIN + "text-to-image"),
    "prior-mage": Pretrained("mage/network", TRAIN + "mage"),
    "adm-imagenet-256": Pretrained(
        "256x256_diffusion.pt", 'openai/guided-diffusion on GitHub, README, "Download pre-trained models"'
    ),
    "stable-diffusion-2": Pretrained(
        "stable-diffusion-2-base",
        "whoever still has the diffusers folder of stabilityai/stable-diffusion-2-base, which has left its hub page",
    ),
    "vq-f8-openimages": Pretrained(
        "vq-f8.ckpt",
        'CompVis/latent-diffusion on GitHub, README, "Pretrained Autoencoding Models" (model.ckpt of vq-f8)',
    ),
    "mage-vitb": Pretrained(
        "mage-vitb-1600.pth", 'LTH14/mage on GitHub, README, "Pre-trained models" (a shared drive: by hand)'
    ),
    "inception-fid": Pretrained(
        "weights-inception-2015-12-05-6726825d.pth",
        "toshas/torch-fidelity on GitHub, release v0.2.0",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "inception-imagenet": Pretrained(
        "inception_v3_google-1a9a5a14.pth",
        'torchvision, at timm.create_model("inception_v3").pretrained_cfg["url"]',
        "1a9a5a14",  # what its name tells
    ),
    "vgg16-imagenet": Pretrained(
        "vgg16-397923af.pth",
        "torchvision, at models.VGG16_Weights.IMAGENET1K_V1.url",
        "397923af",  # what its name tells
    ),
    "lpips-vgg16": Pretrained("weights-vgg16-lpips.pth", "toshas/torch-fidelity on GitHub, release v0.2.0"),
    "dinov2-large": Pretrained(
        "dinov2_vitl14_pretrain.pth", _DINOV2, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
    ),
    "dinov2-small": Pretrained(
        "dinov2_vits14_pretrain.pth", _DINOV2, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"
    ),
}


def paper_folder() -> Path:
    """Return the folder of published weights: $NBUTILS_WEIGHTS, else data/weights/paper in the repository."""
    return Path(os.environ.get(FOLDER_VARIABLE) or ROOT / "data" / "weights" / "paper")


def locate(name: str) -> Path:
    """Return the path, checked, of the file or folder of weights that a name of PRETRAINED, a hub id or a path means.

    Raises ValueError for an unknown name, a hub id without a commit, or a file that is not the published one;
    FileNotFoundError, with what to fetch and where to put it, if it is missing.
    """
    if name.startswith(HUB):
        return _fetched(name)
    if name.startswith(FOLDER):
        path = Path(name.removeprefix(FOLDER))
        if not path.exists():
            raise FileNotFoundError(f"There are no weights at {path}, which {name!r} asks for.")
        return path
    known = choose("pre-trained weights", name, PRETRAINED)
    for folder in (PRIORS, paper_folder()):
        path = folder / known.path
        if path.exists():
            _check(name, path)
            return path
    if known.source.startswith(TRAIN):
        raise FileNotFoundError(f"The weights {name!r} are not in {PRIORS}: train them (hours): {known.source}.")
    raise FileNotFoundError(
        f"The weights {name!r} are not in {paper_folder()}: get {known.path} from {known.source}, "
        f"and put it there or name its folder in ${FOLDER_VARIABLE}."
    )


def _fetched(name: str) -> Path:
    """Return the path of a file or folder of the hub, downloaded once."""
    match = HUB_ID.fullmatch(name)
    if match is None:
        raise ValueError(
            "A hub id must be 'hub:owner/name@commit' or 'hub:owner/name@commit:file' with the commit's 40 hexadecimal "
            f"digits, so that what comes is pinned; found {name!r}."
        )
    repository, commit, file = match.groups()
    try:
        if file:
            return Path(hf_hub_download(repository, file, revision=commit))
        return Path(snapshot_download(repository, revision=commit, allow_patterns=SAFE_FILES))
    except OSError as error:  # no network, no such repository, commit or file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(
            f"{name!r} did not come from the hub ({reason}); fetch it where there is a network, into $HF_HOME, or take "
            "a local folder."
        ) from error


def _check(name: str, path: Path) -> None:
    """Raise ValueError if a file is not the published one, or a shipped folder not what its manifest says."""
    known = PRETRAINED[name]
    problem = None
    if path.is_relative_to(PRIORS):
        folder = PRIORS / Path(known.path).parts[0]
        problem = _damage(folder, _status(folder))
    elif known.sha256 and not _checksum(path).startswith(known.sha256):
        problem = f"its SHA-256 begins with {_checksum(path)[:12]}, that of the published file with {known.sha256[:12]}"
    if problem:
        raise ValueError(f"{path} is damaged or another file: {problem}; get it again from {known.source}.")


@cache
def _damage(folder: Path, status: tuple) -> str | None:
    """Return what is wrong with a shipped folder, looked at once while times and sizes of its files stay the same."""
    del status
    return damage(folder)


def checksum(name: str) -> str:
    """Return the SHA-256 of weights as found here: of a file, or of the checksums of a folder's files."""
    return _checksum(locate(name))


def _checksum(path: Path) -> str:
    return _checksum_of(path, _status(path))


def _status(path: Path) -> tuple:
    """Return times and sizes of a file, or of a folder's files, by which a change is noticed."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


@cache
def _checksum_of(path: Path, status: tuple) -> str:
    """Return the SHA-256, read once while times and sizes of the files stay as in `status`."""
    del status
    if path.is_file():
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path).as_posix()} {sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def images_seen(name: str) -> float:
    """Return on how many images of the corpus a shipped prior was trained, repeats included; NaN = not known."""
    path = locate(name)
    if not path.is_relative_to(PRIORS):
        return float("nan")
    card = read_json(PRIORS / path.relative_to(PRIORS).parts[0] / PRIOR_CARD)
    return card["cost"]["steps"] * card["recipe"]["batch_size"]


def load_state_dict(name: str) -> Mapping[str, Tensor]:
    """Read a file of weights as a state dict, on the CPU, executing nothing that is in it.

    Raises what `locate` and `read_safely` raise, and ValueError for a file that holds anything but named tensors.
    """
    path = locate(name)
    state = read_safely(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a state dict (names and tensors), found {type(state).__name__}.")
    return state


def read_safely(path: Path) -> object:
    """Return what a file of tensors holds, .safetensors or else torch's own, on the CPU; nothing in it is executed.

    Raises ValueError for a file that is cut off or holds more than tensors, numbers, texts and their containers.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Maps the file instead of reading it, which torch's older format does not allow.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (SafetensorError, EOFError, IndexError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read as weights, and nothing in it was executed: {reason}") from error


def save_half(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors as safetensors, floating-point ones as float16."""
    halves = {name: (value.half() if value.is_floating_point() else value) for name, value in tensors.items()}
    with atomic(path) as temporary:
        save_file({name: value.contiguous().cpu() for name, value in halves.items()}, temporary)


@dataclass(frozen=True)
class LoadReport:
    """What of a network was not loaded: keys that were missing, extra keys in the file, keys of another shape."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __str__(self) -> str:
        parts = {"missing": self.missing, "extra": self.extra, "of another shape": self.reshaped}
        lines = (f"{len(keys)} {what}: {_shortened(keys)}" for what, keys in parts.items() if keys)
        return "; ".join(lines) or "complete"


def _shortened(keys: tuple[str, ...], count: int = 4) -> str:
    return ", ".join(keys[:count]) + (" …" if len(keys) > count else "")


def load_matching(network: nn.Module, state_dict: Mapping[str, Tensor], may_miss: tuple[str, ...] = ()) -> LoadReport:
    """Load all tensors whose names and shapes agree with the network's, and report the others.

    may_miss: beginnings of names that may be missing, extra or of another shape. Raises ValueError, with the report,
    for any other.
    """
    own = network.state_dict()
    report = LoadReport(
        missing=tuple(name for name in own if name not in state_dict),
        extra=tuple(name for name in state_dict if name not in own),
        reshaped=tuple(name for name in own if name in state_dict and own[name].shape != state_dict[name].shape),
    )
    unexpected = [name for keys in vars(report).values() for name in keys if not name.startswith(may_miss)]
    if unexpected:
        raise ValueError(f"The weights do not fit the network: {report}.")
    network.load_state_dict(
        {n: v for n, v in state_dict.items() if n in own and n not in report.reshaped}, strict=False
    )
    return report
