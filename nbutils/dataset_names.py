"""The names of data sets, such as folder:PATH: their forms, the paths in them, and folders called after them."""

import hashlib
import re
from pathlib import Path

FORMS = {
    "phantom": ("phantom:NAME",),
    "folder": ("folder:PATH",),
    "medmnist": ("medmnist:NAME", "medmnist:PATH.npz"),
    "liver": ("liver", "liver:PATH"),
    "picai": ("picai:PATH",),
    "chexpert": ("chexpert:PATH",),
    "pcam": ("pcam:PATH",),
    "ham10000": ("ham10000:PATH",),
    "odir": ("odir:PATH",),
    "kera": ("kera:PATH",),
    "aptos": ("aptos:PATH",),
    "bcss": ("bcss:PATH",),
    "pneumonia": ("pneumonia:PATH",),
    "lung_ct": ("lung_ct:PATH",),
}
"""How a data set of each kind is asked for; the kind is also the name of the module of `datasets` that reads it."""


def holds_path(name: str) -> bool:
    """Return whether a data set's name ends in a path; an empty one is none."""
    kind, _, where = name.partition(":")
    endings = [form.partition("PATH")[2] for form in FORMS.get(kind, ()) if "PATH" in form]
    return bool(where) and any(where.endswith(ending) for ending in endings)


def seen_from(folder: Path, name: str) -> str:
    """Return a data set's name with its path, if there is one, made absolute; relative ones start at `folder`."""
    kind, _, where = name.partition(":")
    return f"{kind}:{(folder / Path(where).expanduser()).resolve()}" if holds_path(name) else name


def folder_name(name: str) -> str:
    """Return a data set's name as that of one folder; names that differ become folders that differ.

    phantom:liver is phantom-liver; of a path the last part stays, and a hash of the whole name tells it from others.
    """
    if re.fullmatch(r"\w+(:\w+)?", name):
        return name.replace(":", "-")
    kind, _, where = name.partition(":")
    readable = re.sub(r"[^\w.-]+", "-", f"{kind}-{Path(where).name}").strip("-")
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
