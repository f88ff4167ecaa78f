"""Trained artefacts, kept under a hash of everything that determined them, and checked before use."""

import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbutils.files import ROOT, read_json, sha256_of_file, write_json

SHIPPED = ROOT / "data" / "weights" / "artefacts"
MANIFEST = "manifest.json"
CACHE_VARIABLE = "NBUTILS_CACHE"


@dataclass(frozen=True)
class Artefact:
    """A folder of checked files. source: "shipped" (came with the repository), "cache" or "built" (just now)."""

    path: Path
    source: str


def cache_folder() -> Path:
    """Return the folder of the cache: $NBUTILS_CACHE, else data/cache in the repository."""
    return Path(os.environ.get(CACHE_VARIABLE) or ROOT / "data" / "cache")


def entry_name(kind: str, key: Mapping) -> str:
    """Return "<kind>-<hash>", the folder name of the artefact that `key` (JSON values) determines."""
    text = json.dumps(key, sort_keys=True, allow_nan=False)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def damage(folder: Path) -> str | None:
    """Return what is wrong with an entry (no manifest, a file missing or with another checksum), None = sound."""
    if not (folder / MANIFEST).is_file():
        return f"{MANIFEST} is missing"
    for name, checksum in read_json(folder / MANIFEST)["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_of_file(folder / name) != checksum:
            return f"{name} does not have the checksum of its manifest"
    return None


def find(kind: str, key: Mapping) -> Artefact | None:
    """Return the shipped or cached artefact of `key`, None = there is no sound one; damage is reported as a warning."""
    return find_entry(entry_name(kind, key))


def find_entry(name: str) -> Artefact | None:
    """Return the shipped or cached artefact of a name that `entry_name` gave, as `find` does."""
    for source, folder in (("shipped", SHIPPED / name), ("cache", cache_folder() / name)):
        if not folder.is_dir():
            continue
        problem = damage(folder)
        if problem is None:
            return Artefact(folder, source)
        warnings.warn(f"Damaged {source} entry {name}: {problem}; it is not used.", stacklevel=2)
    return None


def cached(kind: str, key: Mapping, build: Callable[[Path], None], rebuild: bool = False) -> Artefact:
    """Return the artefact of `key`; if there is no sound one, or with rebuild=True, make it with `build(folder)`.

    `build` finds whatever an interrupted build of the same key left in its folder, so that it can resume. The entry
    appears under its name only when it is complete, with a manifest of checksums.
    """
    target = cache_folder() / entry_name(kind, key)
    with _lock(target):
        found = None if rebuild else find(kind, key)
        if found:
            return found
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        build(partial)
        for half_written in partial.rglob(".*"):
            half_written.unlink()
        write_manifest(partial, kind, key)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        return Artefact(target, "built")


def write_manifest(folder: Path, kind: str, key: Mapping) -> None:
    """Write the manifest of an entry: its key, and the SHA-256 of each of its files."""
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    names = [path.as_posix() for path in paths if path != Path(MANIFEST)]
    files = {name: sha256_of_file(folder / name) for name in names}
    write_json(folder / MANIFEST, {"kind": kind, "key": dict(key), "files": files})


def ship(kind: str, key: Mapping) -> Path:
    """Copy a sound cached entry into data/weights, where every clone of the repository finds it.

    Raises FileNotFoundError if there is none.
    """
    found = find(kind, key)
    if found is None:
        raise FileNotFoundError(f"No cached entry {entry_name(kind, key)} to ship; build it first.")
    target = SHIPPED / entry_name(kind, key)
    if found.source == "cache":
        shutil.copytree(found.path, target, dirs_exist_ok=True)
    return target


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Let one process at a time build an entry; the system drops the lock of a killed one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(target.name + ".lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
