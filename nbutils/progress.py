"""Progress bars and announcements that reach the person who waits, wherever the code runs."""

import os
import sys

from tqdm import tqdm
from tqdm.auto import tqdm as tqdm_auto

PROGRESS_FILE = "NBUTILS_PROGRESS"
"""Environment variable: a file that the notebook runner follows; a kernel has no terminal of its own."""

NOTE = "Note: "
"""Begins a line of that file that is not a bar."""


def progress(iterable=None, *, description: str, total: int | None = None, unit: str = "step", initial: int = 0):
    """Return a tqdm bar with rate and time left.

    Under the notebook runner the bar is written to the file named by NBUTILS_PROGRESS and shown in the runner's
    terminal, so that stored outputs stay clean; in JupyterLab it is a widget, in a terminal a line on stderr.
    `initial` is the number of steps that an interrupted run has already done.
    """
    shared = {"desc": description, "total": total, "unit": unit, "initial": initial, "leave": False}
    path = os.environ.get(PROGRESS_FILE)
    if path:
        return tqdm(iterable, file=open(path, "a", buffering=1), mininterval=1.0, ncols=100, **shared)
    if "ipykernel" in sys.modules:
        return tqdm_auto(iterable, **shared)
    return tqdm(iterable, file=sys.stderr, ncols=100, disable=None, **shared)


def announce(message: str) -> None:
    """Print one line, in the notebook and, under the notebook runner, in its terminal too."""
    print(message)
    path = os.environ.get(PROGRESS_FILE)
    if path:
        with open(path, "a") as file:
            file.write(f"\n{NOTE}{message}\n")
