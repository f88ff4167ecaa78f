"""Runs of a notebook: validated parameters, seeds, threads, folders, timings, the record."""

import ast
import importlib.metadata
import os
import platform
import resource
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

import joblib
import pandas as pd
import torch
from IPython import get_ipython
from matplotlib.figure import Figure

from nbutils import figures, generators
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.files import ROOT, atomic, write_json
from nbutils.generators.base import Generator
from nbutils.images import ImageSet
from nbutils.progress import announce
from nbutils.scales import SCALES, at_scale, choose

SCALE_VARIABLE, THREADS_VARIABLE = "NBUTILS_SCALE", "NBUTILS_THREADS"

PACKAGES = ("torch", "torchvision", "timm", "diffusers", "scikit-learn", "umap-learn", "numpy", "pandas")


@dataclass(frozen=True)
class RunScale:
    """What a scale means for a whole notebook.

    image_size: pixels. num_seeds: classifiers per method. live_steps: steps of the short training that a notebook
    shows. points: images of each kind in an embedding. threads: fixed, so that a machine with more cores gives the same
    numbers (NBUTILS_THREADS overrides it); the small networks gain nothing from more, and with one thread no second
    process is started for seconds of work.
    """

    image_size: int
    num_seeds: int
    live_steps: int
    points: int
    threads: int = 2


RUN_SCALES = {
    "smoke": RunScale(image_size=16, num_seeds=2, live_steps=4, points=60, threads=1),
    "demo": RunScale(image_size=32, num_seeds=3, live_steps=200, points=600),
    "gpu": RunScale(image_size=64, num_seeds=5, live_steps=500, points=600),
    "paper": RunScale(image_size=256, num_seeds=5, live_steps=500, points=600),
}


class Run:
    """One run of a notebook; made by `start_run`, asked for everything that depends on parameters and folders."""

    def __init__(self, notebook: str, parameters: dict, folder: Path):
        self.notebook, self.parameters, self.folder = notebook, parameters, folder
        self.scale, self.seed = parameters["scale"], parameters["seed"]
        self.settings = at_scale(RUN_SCALES, self.scale)
        self.seeds = [self.seed + i for i in range(parameters["num_seeds"])]
        self.timings: list[dict] = []
        self.files: dict[str, str] = {}
        self.audit: LeakAudit | None = None
        self._started = time.monotonic()

    def watch(self, splits: Splits) -> None:
        """From here on nothing that trains may see an image, patient or lesion of these validation and test sets."""
        self.audit = LeakAudit(splits)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds that the block takes to timings.csv."""
        started = time.monotonic()
        yield
        self.timings.append({"what": what, "seconds": round(time.monotonic() - started, 2)})

    def fitted_generators(
        self, names: Sequence[str], images: ImageSet, num_seeds: int = 1
    ) -> dict[str, list[Generator]]:
        """Return each generator trained on `images` (checked for leaks), by name: one for each seed 0, 1, ….

        They are shipped, cached, or trained now, with the run's settings cut at its max_steps; `retrain` trains in any
        case. How long all the trainings will take is said before the first.
        """
        for name in names:
            self.audit.check(f"generator {name}", images)
        retrain = self.parameters["retrain"]
        wanted = {name: [self._generator(name, seed) for seed in range(num_seeds)] for name in names}
        missing = [g for g in chain(*wanted.values()) if retrain or not generators.is_at_hand(g, images)]
        if missing:
            self._announce_trainings(missing, images)
        return {name: [self._fitted(name, g, images) for g in members] for name, members in wanted.items()}

    def _fitted(self, name: str, generator: Generator, images: ImageSet) -> Generator:
        with self.timed(f"generator {name} seed {generator.seed}"):
            trained, artefact = generators.fitted(generator, images, retrain=self.parameters["retrain"])
        print(f"{name} (seed {generator.seed}): weights {artefact.source}.")
        return trained

    @staticmethod
    def _announce_trainings(missing: Sequence[Generator], images: ImageSet) -> None:
        """Say which generators will be trained and how long it will take, from a few steps of each kind."""
        counts = Counter(generator.name for generator in missing)
        kinds = {generator.name: generator for generator in missing}
        seconds = sum(count * kinds[name].estimate_seconds(images) for name, count in counts.items())
        listed = ", ".join(f"{count} x {name} ({kinds[name].config.num_steps} steps)" for name, count in counts.items())
        duration = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
        announce(f"Training {listed}: about {duration} in all. Interrupted, it goes on where it stood.")

    def live_training(self, name: str, images: ImageSet) -> Generator:
        """Return a generator trained live for the scale's few `live_steps`, to be looked at and thrown away."""
        self.audit.check(f"live training of {name}", images)
        generator = self._generator(name, self.seed, self.settings.live_steps)
        with self.timed(f"live training of {name}"):
            generator.fit(images)
        print(f"Trained {name} live for {generator.log.num_steps} steps, in {generator.log.seconds:.0f} s.")
        return generator

    def _generator(self, name: str, seed: int, num_steps: int | None = None) -> Generator:
        """Create a generator of the run's scale, or of num_steps, in either case cut at max_steps."""
        generator = generators.create(name, scale=self.scale, seed=seed, num_steps=num_steps)
        limit = self.parameters["max_steps"] or generator.config.num_steps
        return generators.create(name, scale=self.scale, seed=seed, num_steps=min(limit, generator.config.num_steps))

    def save_figure(self, fig: Figure, name: str) -> None:
        """Write a figure as PNG and PDF into the run's folder."""
        self.files["figure"] = _shown(figures.save_figure(fig, self.folder, name))

    def save_table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table as <name>.csv into the run's folder, atomically, and return it."""
        with atomic(self.folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        self.files[name] = _shown(self.folder / f"{name}.csv")
        return table

    def finish(self) -> None:
        """Write timings.csv and run.json, and say in one line where figure, table and claims are."""
        self.timings.append({"what": "whole run", "seconds": round(time.monotonic() - self._started, 2)})
        self.save_table(pd.DataFrame(self.timings), "timings")
        write_json(self.folder / "run.json", self.record())
        names = {"figure": "figure", "table": "summary", "claims": "claims"}
        print("  ".join(f"{word}: {self.files[key]}" for word, key in names.items() if key in self.files))

    def record(self) -> dict:
        """Return the record of the run: parameters with defaults, versions, machine, memory, what saw which images."""
        return {
            "notebook": self.notebook,
            "parameters": self.parameters,
            "settings": asdict(self.settings),
            "seeds": self.seeds,
            "files": self.files,
            "seen": self.audit.seen if self.audit else [],
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "machine": {
                "python": platform.python_version(),
                "system": platform.system(),
                "threads": torch.get_num_threads(),
                "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            },
        }


def start_run(
    notebook: str,
    *,
    scale: str,
    dataset: str,
    seed: int,
    num_seeds: int | None,
    output_dir: str | None,
    retrain: bool,
    max_steps: int | None,
    allowed: Mapping[str, Sequence] | None = None,
    **own,
) -> Run:
    """Validate a notebook's parameters and return its Run; the call names every parameter the notebook declares.

    notebook: its file name without suffix. scale: smoke, demo, gpu or paper; the environment variable NBUTILS_SCALE
    overrides it. dataset: a name for datasets.load. seed: of the first classifier. num_seeds: classifiers per method,
    None = from the scale. output_dir: folder of the results (a relative one hangs on the repository), None =
    figures/<notebook>/<scale>. retrain: train even what is at hand. max_steps: cut every training, None = do not.
    own: the notebook's own parameters; `allowed` gives the values that one of them (or each item of a list) may take.

    Raises ValueError for an unknown parameter that papermill injected, and for a value of the wrong type or range.
    """
    scale = os.environ.get(SCALE_VARIABLE) or scale
    settings = at_scale(RUN_SCALES, scale)
    shared = {"scale": scale, "dataset": dataset, "seed": seed, "num_seeds": num_seeds, "output_dir": output_dir}
    parameters = {**shared, "retrain": retrain, "max_steps": max_steps, **own}
    _refuse_unknown(injected_names(), parameters)
    _check_values(parameters)
    for name, values in (allowed or {}).items():
        given = own[name] if isinstance(own[name], list) else [own[name]]
        for value in given:
            choose(f"value of {name}", value, dict.fromkeys(values))
    parameters["num_seeds"] = num_seeds or settings.num_seeds
    threads = int(os.environ.get(THREADS_VARIABLE) or min(settings.threads, joblib.cpu_count()))
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", module="umap|sklearn")
    folder = output_folder(notebook, scale, output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(notebook, parameters, folder)


def output_folder(notebook: str, scale: str, output_dir: str | None) -> Path:
    """Return where a run's results go; relative folders hang on the repository, not on the working directory."""
    return ROOT / (output_dir or Path("figures") / notebook / scale)


def injected_names() -> set[str]:
    """Return the names that papermill's injected cell assigns; it stands in IPython's history, `# Parameters` first."""
    shell = get_ipython()
    cells = shell.user_ns.get("In", []) if shell is not None else []
    names = set()
    for cell in cells:
        if cell.lstrip().startswith("# Parameters"):
            targets = [t for node in ast.parse(cell).body if isinstance(node, ast.Assign) for t in node.targets]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _refuse_unknown(given: set[str], declared: Mapping[str, object]) -> None:
    for name in sorted(given - set(declared)):
        close = get_close_matches(name, list(declared), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Unknown parameter {name!r}; this notebook declares {', '.join(sorted(declared))}.{hint}")


def _check_values(parameters: Mapping[str, object]) -> None:
    """Raise ValueError for a shared parameter of the wrong type or range."""
    rules = {
        "scale": (lambda v: v in SCALES, f"one of {', '.join(SCALES)}"),
        "dataset": (lambda v: isinstance(v, str) and v, "a name such as 'phantom:liver' or 'folder:PATH'"),
        "seed": (lambda v: _is_count(v, 0), "a whole number from 0"),
        "num_seeds": (lambda v: v is None or _is_count(v, 1), "a whole number from 1, or None"),
        "output_dir": (lambda v: v is None or (isinstance(v, str) and v), "a folder's name, or None"),
        "retrain": (lambda v: isinstance(v, bool), "True or False"),
        "max_steps": (lambda v: v is None or _is_count(v, 1), "a whole number from 1, or None"),
    }
    for name, (valid, expected) in rules.items():
        if not valid(parameters[name]):
            raise ValueError(f"Parameter {name} must be {expected}, found {parameters[name]!r}.")


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _shown(path: Path) -> str:
    """Return a path as people read it: relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
