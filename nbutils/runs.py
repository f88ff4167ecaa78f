"""Runs of a notebook: validated parameters, seeds, threads, folders, timings, the record."""

import importlib.metadata
import os
import platform
import resource
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import joblib
import pandas as pd
import torch
from matplotlib.figure import Figure

from nbutils import figures, generators
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.files import atomic, read_json, write_json
from nbutils.generators.base import Generator
from nbutils.images import ImageSet
from nbutils.parameters import checked, injected_names, refuse_unknown
from nbutils.progress import announce
from nbutils.protocols import DEFAULT_PAPER, config_at
from nbutils.results import RECORD, last_line, output_folder
from nbutils.scales import RUN_SCALES, at_scale

THREADS_VARIABLE = "NBUTILS_THREADS"
ANNOUNCED_FROM = 50  # steps of a training from which on it is worth the few that tell how long it will take
UNFINISHED = ".unfinished"
MAIN_TABLES = {"summary": "table", "claims": "claims"}
PACKAGES = ("torch", "torchvision", "timm", "diffusers", "scikit-learn", "umap-learn", "numpy", "pandas")


class Run:
    """One run of a notebook; made by `start_run`, asked for everything that depends on parameters and folders."""

    def __init__(self, notebook: str, parameters: dict, folder: Path, paper: str):
        self.notebook, self.parameters, self.folder, self.paper = notebook, parameters, folder, paper
        self.scale, self.seed = parameters["scale"], parameters["seed"]
        self.settings = at_scale(RUN_SCALES, self.scale)
        self.classifier = config_at(self.scale, parameters.get("classifier_init"), paper)
        self.seeds = [self.seed + i for i in range(parameters["num_seeds"])]
        self.timings: list[dict] = []
        self.outputs: list[str] = []
        self.main: dict[str, str] = {}
        self.audits: list[LeakAudit] = []
        self._started = time.monotonic()

    def watch(self, splits: Splits) -> None:
        """From here on nothing that trains may see an image, patient or lesion of these validation and test sets.

        A run on several data sets names each of them when it comes to it.
        """
        self.audits.append(LeakAudit(splits))

    @property
    def audit(self) -> LeakAudit:
        """The audit of the data set that is worked on."""
        return self.audits[-1]

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds that the block takes to timings.csv."""
        started = time.monotonic()
        yield
        self.timings.append({"what": what, "seconds": round(time.monotonic() - started, 2)})

    def generator(self, name: str, seed: int = 0, num_steps: int | None = None, **overrides) -> Generator:
        """Return an untrained generator of the run's scale, cut at its max_steps; see generators.create."""
        settings = {"scale": self.scale, "seed": seed, **overrides}
        asked = num_steps or generators.create(name, **settings).config.num_steps
        return generators.create(name, num_steps=min(self.parameters["max_steps"] or asked, asked), **settings)

    def fitted(self, wanted: Mapping[str, tuple[Generator, ImageSet]]) -> dict[str, Generator]:
        """Return each generator trained on its images (checked for leaks), by its label.

        They are shipped, cached, or trained now; the parameter `retrain` trains in any case. How long all the trainings
        will take is said before the first.
        """
        retrain = self.parameters["retrain"]
        for label, (_, images) in wanted.items():
            self.audit.check(f"generator {label}", images)
        missing = [pair for pair in wanted.values() if retrain or not generators.is_at_hand(*pair)]
        if missing:
            self._announce_trainings(missing)
        trained = {}
        for label, pair in wanted.items():
            with self.timed(f"generator {label}"):
                trained[label], artefact = generators.fitted(*pair, retrain=retrain)
            print(f"{label}: weights {artefact.source}.")
        return trained

    def fitted_generators(
        self, names: Sequence[str], images: ImageSet, num_seeds: int = 1, **overrides
    ) -> dict[str, list[Generator]]:
        """Return `fitted` generators by name, each one for each seed 0, 1, …, all trained on the same images.

        overrides: as for `generator`, the same for all of them.
        """
        labels = {name: [f"{name} (seed {seed})" for seed in range(num_seeds)] for name in names}
        wanted = {
            label: (self.generator(name, seed, **overrides), images)
            for name in names
            for seed, label in enumerate(labels[name])
        }
        trained = self.fitted(wanted)
        return {name: [trained[label] for label in labels[name]] for name in names}

    @staticmethod
    def _announce_trainings(missing: Sequence[tuple[Generator, ImageSet]]) -> None:
        """Say which generators will be trained and how long it will take, from a few steps of each kind."""
        missing = [pair for pair in missing if pair[0].config.num_steps >= ANNOUNCED_FROM]
        if not missing:
            return
        named = [(pair[0].name, pair[0].config.num_steps, pair[1].num_classes) for pair in missing]
        counts, kinds = Counter(named), dict(zip(named, missing, strict=True))
        seconds = sum(counts[kind] * generator.estimate_seconds(images) for kind, (generator, images) in kinds.items())
        listed = ", ".join(f"{n} x {name} ({k} classes, {steps} steps)" for (name, steps, k), n in counts.items())
        duration = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
        announce(f"Training {listed}: about {duration} in all. Interrupted, it goes on where it stood.")

    def live_training(self, name: str, images: ImageSet, **overrides) -> Generator:
        """Return a generator trained live for the scale's few `live_steps`, to be looked at and thrown away."""
        self.audit.check(f"live training of {name}", images)
        generator = self.generator(name, self.seed, self.settings.live_steps, **overrides)
        with self.timed(f"live training of {name}"):
            generator.fit(images)
        print(f"Trained {name} live for {generator.log.num_steps} steps, in {generator.log.seconds:.0f} s.")
        return generator

    @property
    def unfinished(self) -> Path:
        """The folder where the run's files wait for its end, inside the folder of its results."""
        return self.folder / UNFINISHED

    def save_figure(self, fig: Figure, name: str, main: bool = False) -> None:
        """Write a figure as PNG and PDF; main: it is the one that the run's last line names (else the first)."""
        figures.save_figure(fig, self.unfinished, name)
        self.outputs += [f"{name}.png", f"{name}.pdf"]
        if main or "figure" not in self.main:
            self.main["figure"] = f"{name}.png"

    def save_table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table as <name>.csv, and return it."""
        with atomic(self.unfinished / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        self.outputs.append(f"{name}.csv")
        if name in MAIN_TABLES:
            self.main[MAIN_TABLES[name]] = f"{name}.csv"
        return table

    def finish(self) -> None:
        """Write timings.csv and run.json, put all files into the results' folder, and name the main ones.

        The files of an earlier run in the folder make way now; until here they were left alone.
        """
        self.timings.append({"what": "whole run", "seconds": round(time.monotonic() - self._started, 2)})
        self.save_table(pd.DataFrame(self.timings), "timings")
        write_json(self.unfinished / RECORD, self.record())
        if (self.folder / RECORD).is_file():
            for name in (RECORD, *read_json(self.folder / RECORD)["outputs"]):
                (self.folder / name).unlink(missing_ok=True)
        for name in (*self.outputs, RECORD):
            os.replace(self.unfinished / name, self.folder / name)
        shutil.rmtree(self.unfinished)
        print(last_line(self.folder))

    def record(self) -> dict:
        """Return the record of the run: parameters with defaults, versions, machine, memory, what saw which images."""
        return {
            "notebook": self.notebook,
            "parameters": self.parameters,
            "settings": asdict(self.settings),
            "paper": self.paper,
            "classifier": asdict(self.classifier),
            "seeds": self.seeds,
            "outputs": self.outputs,
            "main": self.main,
            "seen": [row for audit in self.audits for row in audit.seen],
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "machine": {
                "python": platform.python_version(),
                "system": platform.system(),
                "threads": torch.get_num_threads(),
                "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                "peak_memory_mb": peak_memory_mb(),
                "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() // 2**20 if torch.cuda.is_available() else None,
            },
        }


def peak_memory_mb() -> int:
    """Return the most memory of the machine (not of a GPU) that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


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
    paper: str = DEFAULT_PAPER,
    choices: Mapping[str, Sequence] | None = None,
    lists: Mapping[str, Sequence] | None = None,
    **own,
) -> Run:
    """Validate a notebook's parameters and return its Run; the call names every parameter the notebook declares.

    notebook: its file name without suffix. scale: smoke, demo, gpu or paper; the environment variable NBUTILS_SCALE
    overrides it. dataset: a name for datasets.load. seed: of the first classifier. num_seeds: classifiers per method,
    None = from the scale. output_dir: folder of the results, None = one in figures/<notebook>, see
    results.output_folder. retrain: train even what is at hand. max_steps: cut every training, None = do not. paper:
    whose classifier is trained and whose showpiece the default data are, a key of protocols.CLASSIFIERS. own: the
    notebook's own parameters. choices: the values that one of them may take. lists: the values of which one of them is
    a list without repeats, None = all. num_generator_seeds, where declared, is 1 to num_seeds; classifier_init one of
    protocols.INITIAL_WEIGHTS, None = from the scale.

    Raises ValueError for an unknown parameter that papermill injected, and for a value of the wrong type or range.
    """
    shared = {"scale": scale, "dataset": dataset, "seed": seed, "num_seeds": num_seeds, "output_dir": output_dir}
    parameters = {**shared, "retrain": retrain, "max_steps": max_steps, **own}
    refuse_unknown(injected_names(), parameters, notebook)
    parameters = checked(parameters, choices, lists)
    run = Run(notebook, parameters, output_folder(notebook, parameters, paper), paper)
    torch.set_num_threads(int(os.environ.get(THREADS_VARIABLE) or min(run.settings.threads, joblib.cpu_count())))
    warnings.filterwarnings("ignore", module="umap|sklearn")
    shutil.rmtree(run.unfinished, ignore_errors=True)
    run.unfinished.mkdir(parents=True)
    return run
