"""nbutils.progress: where the bars go."""

import sys
from types import ModuleType

import pytest

from nbutils import progress as module
from nbutils.progress import PROGRESS_FILE, announce, progress
from nbutils.runner import shown_progress


def test_under_the_runner_the_bar_goes_to_its_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_FILE, str(path))
    assert list(progress(range(3), description="counting", unit="thing")) == [0, 1, 2]
    assert "counting" in path.read_text()
    assert "thing" in path.read_text()
    assert capsys.readouterr().err == ""


def test_in_a_notebook_the_bar_has_no_fixed_width(monkeypatch):
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    given = {}
    monkeypatch.setattr(module, "tqdm_auto", lambda iterable, **options: given.update(options))
    progress(range(3), description="counting")
    assert "ncols" not in given  # a notebook would take it as pixels
    assert given["leave"] is False


@pytest.mark.parametrize("initial", [0, 2])
def test_a_resumed_bar_starts_where_it_stood(initial, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress"))
    with progress(description="training", total=5, initial=initial) as bar:
        bar.update()
        assert bar.n == initial + 1


def test_an_announcement_is_printed_here_and_in_the_runners_terminal(tmp_path, capsys):
    with shown_progress(tmp_path / "progress"):
        list(progress(range(3), description="before"))
        announce("about 12 minutes in all")
        list(progress(range(3), description="after"))
    shown = capsys.readouterr()
    assert shown.out == "about 12 minutes in all\n"
    assert [line for line in shown.err.splitlines() if "minutes" in line] == ["about 12 minutes in all"]
    assert "after" in shown.err
