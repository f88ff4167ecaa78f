"""A strict papermill: unknown parameters fail, progress shows, a failure leaves its notebook, results move in whole."""

import ast
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill

from nbutils.files import NOTEBOOKS, ROOT, atomic
from nbutils.parameters import checked, parsed_value, refuse_unknown
from nbutils.progress import NOTE, PROGRESS_FILE
from nbutils.protocols import DEFAULT_PAPER
from nbutils.results import output_folder
from nbutils.scales import choose

BAR_WIDTH = 110
CURSOR_MOVES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def find_notebook(name: str) -> Path:
    """Return the notebook that a number ("30"), a name or a path means. Raises ValueError if there is none."""
    if Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name).resolve()
    paths = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    by_number = {stem.split("_")[0]: path for stem, path in paths.items()}
    return {**by_number, **paths}.get(name) or choose("notebook", name, paths)


def run_notebook(notebook: Path, parameters: Mapping[str, object], store: bool = False) -> Path:
    """Execute a notebook with parameters and return the folder of its results.

    The executed notebook is put into that folder; with store=True its outputs also replace those in notebooks/.
    Raises ValueError for a parameter that the notebook does not declare, and for a value that parameters.checked
    refuses, before anything runs. When a cell fails, the half-run notebook is kept beside the results as
    <name>.failed.ipynb, and the error of the cell is raised.
    """
    folder = _results_folder(notebook, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    failed = folder / f"{notebook.stem}.failed.ipynb"
    with tempfile.TemporaryDirectory() as scratch, shown_progress(Path(scratch) / "progress"):
        executed = Path(scratch) / notebook.name
        try:
            papermill.execute_notebook(
                str(notebook),
                str(executed),
                dict(parameters),
                cwd=str(ROOT),
                progress_bar=False,
                extra_arguments=["--log-level=CRITICAL"],  # a kernel's chatter; errors of cells are raised anyway
            )
        except Exception as error:
            if executed.is_file():
                _put(executed, failed)
                error.add_note(f"(Half-run notebook: {failed})")
            raise
        failed.unlink(missing_ok=True)
        _put(executed, folder / notebook.name)
        if store:
            _put(executed, notebook)
    return folder


def _results_folder(notebook: Path, parameters: Mapping[str, object]) -> Path:
    """Return the folder that the notebook will choose for its results, after checking the parameters as it will."""
    declared = papermill.inspect_notebook(str(notebook))
    refuse_unknown(parameters, declared, notebook.stem)
    defaults = {name: parsed_value(parameter["default"]) for name, parameter in declared.items()}
    return output_folder(notebook.stem, checked({**defaults, **parameters}), paper_of(notebook))


def paper_of(notebook: Path) -> str:
    """Return the paper that a notebook's call of start_run names, or that it takes when none is named."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code" and "start_run(" in cell.source:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.keyword) and node.arg == "paper":
                    return ast.literal_eval(node.value)
    return DEFAULT_PAPER


def _put(executed: Path, target: Path) -> None:
    """Move an executed notebook into place, without the paths, times and user names that papermill notes in it."""
    notebook = nbformat.read(executed, as_version=4)
    for holder in (notebook, *notebook.cells):
        for noted in ("papermill", "execution", "widgets"):
            holder.metadata.pop(noted, None)
    with atomic(target) as temporary:
        nbformat.write(notebook, temporary)


@contextmanager
def shown_progress(path: Path) -> Iterator[None]:
    """Show the progress bars of the kernel, which writes them to `path`, on this terminal's stderr."""
    path.touch()
    os.environ[PROGRESS_FILE] = str(path)
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, stop), daemon=True)
    follower.start()
    try:
        yield
    finally:
        stop.set()
        follower.join()
        del os.environ[PROGRESS_FILE]


def _follow(path: Path, stop: threading.Event) -> None:
    """Copy all notes and the newest bar in `path` to stderr: the bar in place on a terminal, else every ten seconds."""
    on_terminal = sys.stderr.isatty()
    shown, offset, stopped = "", 0, False
    while not stopped:
        stopped = stop.wait(0.5 if on_terminal else 10.0)
        with open(path) as handle:
            handle.seek(offset)
            text = handle.read()
            offset = handle.tell()
        lines = [line.strip() for line in re.split(r"[\r\n]", CURSOR_MOVES.sub("", text)) if line.strip()]
        for note in (line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)):
            print(f"\r{note:<{BAR_WIDTH}}" if on_terminal else note, file=sys.stderr, flush=True)
        bars = [line for line in lines if not line.startswith(NOTE)]
        if bars and bars[-1] != shown:
            shown = bars[-1]
            bar, end = (f"\r{shown:<{BAR_WIDTH}}", "") if on_terminal else (shown, "\n")
            print(bar, end=end, file=sys.stderr, flush=True)
    if on_terminal and shown:
        print(f"\r{'':<{BAR_WIDTH}}\r", end="", file=sys.stderr, flush=True)
