"""nbutils.runs: parameters, folders, records."""

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from conftest import make_blobs

from nbutils import parameters
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakError
from nbutils.files import ROOT
from nbutils.parameters import injected_names
from nbutils.results import output_folder
from nbutils.runs import start_run
from nbutils.scales import RUN_SCALES, SCALES

PARAMETERS = {
    "scale": "smoke",
    "dataset": "phantom:liver",
    "seed": 0,
    "num_seeds": None,
    "output_dir": None,
    "retrain": False,
    "max_steps": None,
}
NAMES = ["dcgan", "diffusion"]


@pytest.fixture
def run(tmp_path):
    return start_run("30_test", **{**PARAMETERS, "output_dir": str(tmp_path / "out")}, own_number=3)


@pytest.fixture
def splits():
    return Splits("blobs", train=make_blobs(20, 0), val=make_blobs(10, 1), test=make_blobs(10, 2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", "huge", "Unknown scale 'huge'; allowed: 'smoke', 'demo', 'gpu', 'paper'"),
        ("scale", "dem", "Did you mean 'demo'"),
        ("dataset", "", "Parameter dataset must be one of phantom:NAME, folder:PATH, .*, found ''"),
        ("dataset", "phantm:liver", "Parameter dataset must be one of .*, found 'phantm:liver'"),
        ("seed", -1, "Parameter seed must be a whole number from 0, found -1"),
        ("seed", 1.5, "Parameter seed must be a whole number"),
        ("num_seeds", 0, "Parameter num_seeds must be a whole number from 1, or None, found 0"),
        ("output_dir", 3, "Parameter output_dir must be a folder's name"),
        ("retrain", "yes", "Parameter retrain must be True or False, found 'yes'"),
        ("max_steps", True, "Parameter max_steps must be a whole number from 1"),
    ],
)
def test_a_wrong_value_stops_the_run_and_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        start_run("30_test", **{**PARAMETERS, name: value})


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"mix": "bot"}, "Unknown value of mix 'bot'.*Did you mean 'both'"),
        ({"mix": ["both"]}, "Parameter mix must be one of both, one, found"),
        ({"names": ["dcgam"]}, "Unknown value of names 'dcgam'.*Did you mean 'dcgan'"),
        ({"names": "dcgan"}, "Parameter names must be a list of some of dcgan, diffusion"),
        ({"names": []}, "Parameter names must be a list"),
        ({"names": ["dcgan", "dcgan"]}, "without repeats"),
        ({"num_generator_seeds": 0}, "num_generator_seeds must be a whole number from 1 to num_seeds"),
        ({"num_generator_seeds": "two"}, "num_generator_seeds must be a whole number"),
        ({"num_generator_seeds": 50}, "from 1 to num_seeds .*found 50"),
        ({"num_images": 0}, "Parameter num_images must be a whole number from 1, or None, found 0"),
        ({"num_cases": "all"}, "Parameter num_cases must be a whole number from 1, or None, found 'all'"),
    ],
)
def test_own_parameters_are_checked(own, message):
    given = {"mix": "both", "names": None, "num_generator_seeds": 1} | own
    with pytest.raises(ValueError, match=message):
        start_run("30_test", **PARAMETERS, **given, choices={"mix": ["both", "one"]}, lists={"names": NAMES})


def test_none_means_the_whole_list(tmp_path):
    run = start_run("30_test", **{**PARAMETERS, "output_dir": str(tmp_path)}, names=None, lists={"names": NAMES})
    assert run.parameters["names"] == NAMES


def test_an_injected_unknown_parameter_stops_the_run_before_any_work(monkeypatch):
    history = ["", "scale = 'demo'", "# Parameters\nscale = 'smoke'\nnum_sedes = 3\n"]
    monkeypatch.setattr(parameters, "get_ipython", lambda: SimpleNamespace(user_ns={"In": history}))
    assert injected_names() == {"scale", "num_sedes"}
    with pytest.raises(ValueError, match=r"Unknown parameter 'num_sedes'.*Did you mean 'num_seeds'"):
        start_run("30_test", **PARAMETERS)


def test_the_environment_overrides_the_scale(monkeypatch, tmp_path):
    monkeypatch.setenv("NBUTILS_SCALE", "smoke")
    assert start_run("30_test", **{**PARAMETERS, "scale": "demo", "output_dir": str(tmp_path)}).scale == "smoke"
    monkeypatch.setenv("NBUTILS_SCALE", "enormous")
    with pytest.raises(ValueError, match="Unknown scale 'enormous'"):
        start_run("30_test", **PARAMETERS)


def folder_of(paper="genmix", **changes):
    return output_folder("30_x", {**PARAMETERS, "scale": "demo", **changes}, paper)


def test_folders_hang_on_the_repository_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_of() == ROOT / "figures" / "30_x" / "demo"
    assert folder_of(output_dir="runs/a") == ROOT / "runs" / "a"
    assert folder_of(output_dir=str(tmp_path), dataset="folder:x") == tmp_path


def test_other_data_than_the_papers_showpiece_have_folders_of_their_own(monkeypatch, tmp_path):
    figures = ROOT / "figures" / "30_x"
    assert folder_of(dataset="phantom:prostate") == figures / "demo-phantom-prostate"
    assert folder_of("textual_inversion", dataset="phantom:prostate") == figures / "demo"
    assert folder_of("textual_inversion") == figures / "demo-phantom-liver"
    assert len({folder_of(dataset=name) for name in ("folder:/a/b", "folder:/a-b", "phantom:liver")}) == 3
    with pytest.raises(ValueError, match=r"Unknown paper 'gemnix'.*Did you mean 'genmix'"):
        folder_of("gemnix")
    monkeypatch.setattr("nbutils.results.ROOT", tmp_path)
    run = start_run("30_x", **{**PARAMETERS, "dataset": "liver"}, paper="textual_inversion")
    assert run.folder == tmp_path / "figures" / "30_x" / "smoke-liver"


def test_every_scale_has_settings():
    assert tuple(RUN_SCALES) == SCALES


def test_a_finished_run_leaves_a_whole_record(run, splits, capsys):
    run.watch(splits)
    run.audit.check("generator x", splits.train)
    for name in ("results", "summary", "claims"):
        run.save_table(pd.DataFrame({"a": [1.5]}), name)
    run.save_figure(plt.figure(), "fig1")
    run.finish()
    record = json.loads((run.folder / "run.json").read_text())
    assert record["parameters"]["own_number"] == 3
    assert record["parameters"]["num_seeds"] == RUN_SCALES["smoke"].num_seeds
    assert record["seen"][0]["user"] == "generator x"
    assert {"torch", "timm"} <= set(record["versions"])
    assert record["machine"]["peak_memory_mb"] > 0
    names = {path.name for path in run.folder.iterdir()}
    assert {"fig1.png", "fig1.pdf", "results.csv", "summary.csv", "claims.csv", "timings.csv", "run.json"} == names
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert all(word in line for word in ("figure: ", "fig1.png", "summary.csv", "claims.csv"))


def test_a_later_run_replaces_an_earlier_one_whole_and_only_at_its_end(tmp_path):
    options = {**PARAMETERS, "output_dir": str(tmp_path)}
    first = start_run("30_test", **options)
    first.save_table(pd.DataFrame({"a": [1]}), "results")
    first.save_table(pd.DataFrame({"a": [1]}), "oracle")
    first.finish()
    (tmp_path / "mine.txt").write_text("not the run's")
    second = start_run("30_test", **{**options, "seed": 5})
    second.save_table(pd.DataFrame({"a": [2]}), "results")
    assert pd.read_csv(tmp_path / "results.csv")["a"].item() == 1
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 0
    second.finish()
    assert pd.read_csv(tmp_path / "results.csv")["a"].item() == 2
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 5
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "timings.csv", "run.json", "mine.txt"}


def test_figures_are_the_same_bytes_each_time(run):
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    run.save_figure(fig, "a")
    first = [(run.unfinished / f"a{suffix}").read_bytes() for suffix in (".png", ".pdf")]
    run.save_figure(fig, "a")
    assert first == [(run.unfinished / f"a{suffix}").read_bytes() for suffix in (".png", ".pdf")]


def test_a_generator_gets_no_held_out_image_and_max_steps_cuts_it(run, splits):
    run.watch(splits)
    with pytest.raises(LeakError, match="generator dcgan"):
        run.fitted_generators(["dcgan"], splits.test)
    run.parameters["max_steps"] = 2
    trained = run.fitted_generators(["dcgan"], splits.train, num_seeds=2)
    assert [generator.card["config"]["num_steps"] for generator in trained["dcgan"]] == [2, 2]
    assert run.live_training("dcgan", splits.train).card["config"]["num_steps"] == 2


@pytest.mark.parametrize("value", [[], "100", 100, [100, 100], [0], [30.5]])
def test_training_images_are_a_list_of_counts(value):
    with pytest.raises(ValueError, match="training_images must be a list of whole numbers from 1 without repeats"):
        start_run("02_test", **PARAMETERS, training_images=value)
