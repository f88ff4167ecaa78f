"""python -m nbutils: what a command line means, and what it says to one that means nothing."""

import subprocess
import sys

import pytest

from nbutils import __main__ as command_line
from nbutils import priors, runner
from nbutils.files import NOTEBOOKS
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-p", "scale=smoke", "--parameter", "seed=7"], {"scale": "smoke", "seed": 7}),
        (["-p", "scale", "smoke", "-p", "output_dir=a=b"], {"scale": "smoke", "output_dir": "a=b"}),
        (["-p", "output_dir", "a=b"], {"output_dir": "a=b"}),
        (["-p", "output_dir="], {"output_dir": ""}),
    ],
)
def test_parameters_are_given_as_two_words_or_as_one_with_an_equals_sign(ran, monkeypatch, given, expected):
    assert call(monkeypatch, "run", *given, "00") == 0
    assert ran == expected


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("run", ["notebook ", "its number, name or path", "NAME=VALUE", "example: python -m nbutils run 30 -p "]),
        ("run", [path.stem for path in NOTEBOOKS.glob("*.ipynb")]),
        ("train-prior", priors.names()),
        ("ship", ["a phantom (default: phantom:liver)", "generator seeds to train"]),
    ],
)
def test_help_says_what_may_be_asked_for(monkeypatch, capsys, command, told):
    with pytest.raises(SystemExit) as left:
        call(monkeypatch, command, "--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert [text for text in told if text not in shown] == []


def test_a_mistake_is_one_line_and_status_2(monkeypatch, capsys):
    assert call(monkeypatch, "ship", "--seeds", "0") == 2
    assert capsys.readouterr().err == "Error: seeds must be a whole number from 1, found 0.\n"


def test_the_runner_starts_without_heavy_imports():
    heavy = "{'lark', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, nbutils.__main__, nbutils.runner; print(*{heavy})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not answer.stdout.split()
