"""Efficiency of generators: the memory and the time that drawing takes, each measured in a process of its own."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np
import pandas as pd
import psutil
import torch

from nbutils import generators
from nbutils.generators.base import Generator
from nbutils.training import device

MEMORY_IMAGES = 8
"""Images drawn at once whose memory is measured, as in the utility paper's tables."""

TIMED_IMAGES = 64
"""Images drawn to tell how long 1,000 take, unless more are asked for."""

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def efficiency(trained: Mapping[str, Generator], timed_images: int = TIMED_IMAGES) -> pd.DataFrame:
    """Return what drawing takes, one row per generator; every generator is loaded into a fresh process.

    Columns: source; peak_memory_mb, the most that weights and drawing MEMORY_IMAGES images took (on a GPU its memory as
    torch allocates it; else the process's resident memory above that before the weights were loaded, good to some 20
    MB, and NaN where the system is not Linux); seconds_per_1000, from timed_images drawn after these; timed_images;
    device; threads. Classes take turns. Nothing else should run beside it: the numbers are of this machine, as it was.

    Raises RuntimeError for a generator that is not trained, ValueError for timed_images below 1.
    """
    _check(trained, timed_images)
    rows = []
    for source, generator in trained.items():
        with TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            generator.save(Path(folder))
            measured = process.submit(_measured, folder, generator.name, timed_images, torch.get_num_threads())
            rows.append({"source": source, **measured.result()})
    return pd.DataFrame(rows)


def drawing_times(trained: Mapping[str, Generator], timed_images: int = TIMED_IMAGES, seed: int = 1) -> pd.DataFrame:
    """Return how long drawing takes in this very process, one row per generator, where memory is not asked for.

    Columns: source, seconds_per_1000, from timed_images drawn by the seed after some others; timed_images, device and
    threads. Raises what `efficiency` raises.
    """
    _check(trained, timed_images)
    rows = []
    for source, generator in trained.items():
        generator.sample(_turns(generator, MEMORY_IMAGES), seed=0)  # the first are slower
        rows.append({"source": source, **_timed(generator, timed_images, seed)})
    return pd.DataFrame(rows)


def _check(trained: Mapping[str, Generator], timed_images: int) -> None:
    if timed_images < 1:
        raise ValueError(f"timed_images must be a whole number from 1, found {timed_images}.")
    for source, generator in trained.items():
        if not generator.networks:
            raise RuntimeError(f"{source} has no weights yet: call fit(images) or load(folder) before it is measured.")


def _timed(generator: Generator, timed_images: int, seed: int = 1) -> dict:
    """Draw, and return how long 1,000 images take, and on what."""
    started = monotonic()
    generator.sample(_turns(generator, timed_images), seed=seed)
    return {
        "seconds_per_1000": (monotonic() - started) * 1000 / timed_images,
        "timed_images": timed_images,
        "device": device().type,
        "threads": torch.get_num_threads(),
    }


def _measured(folder: str, name: str, timed_images: int, threads: int) -> dict:
    """Load a generator and draw with it; called in a fresh process."""
    torch.set_num_threads(threads)
    generators.generator_class(name)  # what the code itself takes is not the generator's
    torch.nn.functional.conv2d(torch.rand(1, 3, 8, 8, device=device()), torch.rand(3, 3, 3, 3, device=device()))
    before = psutil.Process().memory_info().rss
    generator = generators.load(folder)
    _restart_peak()
    generator.sample(_turns(generator, MEMORY_IMAGES), seed=0)
    peak = _peak(before)
    return {"peak_memory_mb": peak / 1e6, **_timed(generator, timed_images)}


def _turns(generator: Generator, count: int) -> np.ndarray:
    """Return labels (count,) int64 that go through the classes."""
    return np.arange(count) % len(generator.card["class_names"])


def _restart_peak() -> None:
    """Let the peak of memory begin at what is held now: loading held the weights twice for a moment."""
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _RESET.exists():
        _RESET.write_text("5")


def _peak(before: int) -> float:
    """Return the bytes held at most since _restart_peak; before: bytes of the process that are not to count."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not _STATUS.exists():
        return float("nan")
    # Not getrusage, which a new process inherits from the one that started it.
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 - before
