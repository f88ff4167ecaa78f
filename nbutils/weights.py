"""Where the papers' pre-trained weights lie, and how their files are read: from a local folder, never by unpickling."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nbutils.files import ROOT, sha256_of_file
from nbutils.scales import choose

FOLDER_VARIABLE = "NBUTILS_WEIGHTS"


@dataclass(frozen=True)
class PretrainedFile:
    """A file of weights that others published. file: its name there; source: the project that gives it away."""

    file: str
    source: str


PRETRAINED = {
    "adm-imagenet-256": PretrainedFile(
        "256x256_diffusion.pt", 'openai/guided-diffusion on GitHub, README, "Download pre-trained models"'
    ),
}


def paper_folder() -> Path:
    """Return the folder of published weights: $NBUTILS_WEIGHTS, else data/weights/paper in the repository."""
    return Path(os.environ.get(FOLDER_VARIABLE) or ROOT / "data" / "weights" / "paper")


def locate(name: str) -> Path:
    """Return the path of a published file of weights.

    Raises ValueError for an unknown name, FileNotFoundError, with what to fetch and where to put it, if it is missing.
    """
    known = choose("pre-trained weights", name, PRETRAINED)
    path = paper_folder() / known.file
    if not path.is_file():
        raise FileNotFoundError(
            f"The weights {name!r} are not in {path.parent}: get {known.file} from {known.source}, "
            f"and put it there or name its folder in ${FOLDER_VARIABLE}."
        )
    return path


def checksum(name: str) -> str:
    """Return the SHA-256 of a published file of weights as found here; read once while the file is the same."""
    path = locate(name)
    status = path.stat()
    return _checksum(path, status.st_mtime_ns, status.st_size)


@cache
def _checksum(path: Path, modified: int, size: int) -> str:
    """Return the SHA-256 of a file; time and size are there to notice that it was replaced."""
    del modified, size
    return sha256_of_file(path)


def load_state_dict(name: str) -> Mapping[str, Tensor]:
    """Read a published file of weights as a state dict, on the CPU, executing nothing that is in it.

    Raises FileNotFoundError if the file is not there, ValueError if it holds anything but named tensors.
    """
    path = locate(name)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a state dict (names and tensors), found {type(state).__name__}.")
    return state
