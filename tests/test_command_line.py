"""python -m nbutils: what a command line means, and what it says to one that means nothing."""

import pytest

from nbutils import __main__ as command_line
from nbutils import runner
from nbutils.results import RECORD


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Catch the parameters of a run instead of running it."""
    caught = {}

    def run_notebook(notebook, parameters, store=False):
        caught.update(parameters)
        (tmp_path / RECORD).write_text('{"main": {}}')
        return tmp_path

    monkeypatch.setattr(runner, "run_notebook", run_notebook)
    return caught


def call(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["nbutils", *arguments])
    return command_line.main()


@pytest.mark.parametrize("name", ["phantom:liver", "folder:", "medmnist:liver"])
def test_a_folder_that_is_called_as_a_phantom_does_not_take_its_place(ran, monkeypatch, tmp_path, name):
    (tmp_path / "liver").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "00", "-p", "dataset", name) == 0
    assert ran == {"dataset": name}


def test_paths_of_data_are_relative_to_the_callers_folder_and_others_are_not_touched(ran, monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "00", "-p", "dataset", "folder:mine", "-p", "mix_from", "folder:mine") == 0
    assert ran == {"dataset": f"folder:{tmp_path / 'mine'}", "mix_from": "folder:mine"}
