"""The notebooks: one skeleton, outputs in order, and each run once at smoke scale."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict

import nbformat
import papermill
import pytest

from nbutils.claims import genmix_claims
from nbutils.files import ROOT, read_json
from nbutils.parameters import parsed_value
from nbutils.protocols import SHOWPIECE, ClassifierConfig, config_at
from nbutils.runner import find_notebook, paper_of, run_notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHARED = {"scale", "dataset", "seed", "num_seeds", "output_dir", "retrain", "max_steps"}
MAX_LINES, MAX_OUTPUT_LINES, MAX_BYTES = 25, 100, 1_000_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_skeleton(notebook):
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert markdown[0].startswith("# ")
    code = code_cells(notebook)
    assert code[0].metadata.get("tags") == ["parameters"]
    assert code[1].source.lstrip().startswith(("import", "from"))
    assert code[2].source.startswith("run = start_run(")
    assert code[-1].source == "run.finish()"
    imports = [c for c in code if any(line.startswith(("import ", "from ")) for line in c.source.splitlines())]
    assert imports == [code[1]]


def test_the_committed_results_come_from_the_settings_of_the_code():
    for path in (ROOT / "figures").glob("*/demo/run.json"):
        record = read_json(path)
        config = config_at("demo", paper=record["paper"])
        recorded = ClassifierConfig(**record["classifier"])  # a setting newer than the record had its default
        assert json.dumps(asdict(recorded)) == json.dumps(asdict(config)), path


def test_cells_are_short_and_define_nothing(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= MAX_LINES
        assert not any(line.lstrip().startswith(("class ", "def ")) for line in lines)


def test_stored_outputs_come_from_one_run_in_order(notebook):
    code = code_cells(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]
    assert all(len(text.splitlines()) <= MAX_OUTPUT_LINES for text in texts)
    assert len(nbformat.writes(notebook)) < MAX_BYTES
    assert str(ROOT) not in nbformat.writes(notebook)
    assert 'scale = "demo"' in code[0].source
    assert "# Parameters" not in "".join(cell.source for cell in code)


def test_checked_cells_exist(notebook):
    assert any("nbval-check-output" in cell.metadata.get("tags", []) for cell in code_cells(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_declared_as_papermill_reads_them(path):
    assert set(papermill.inspect_notebook(str(path))) >= SHARED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_at_smoke_scale_and_the_checked_cells_agree(path):
    environment = {**os.environ, "NBUTILS_SCALE": "smoke", "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", str(path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_the_runner_passes_parameters_and_moves_results_into_place(tmp_path):
    folder = run_notebook(find_notebook("00"), {"scale": "smoke", "output_dir": str(tmp_path / "out"), "seed": 7})
    assert folder == tmp_path / "out"
    assert '"seed": 7' in (folder / "run.json").read_text()
    executed = nbformat.read(folder / "00_start_here.ipynb", as_version=4)
    assert "papermill" not in executed.metadata
    assert not any(str(tmp_path) in name.name for name in folder.glob("*.failed.ipynb"))


def test_genmix_through_the_runner_has_every_arm_and_claim(tmp_path):
    parameters = {"scale": "smoke", "output_dir": str(tmp_path), "generator_names": ["dcgan"], "num_seeds": 1}
    folder = run_notebook(find_notebook("30"), parameters)
    results = (folder / "results.csv").read_text()
    assert [line.split(",")[0] for line in results.splitlines()[1:]] == [
        "real", "mixup", "augmix", "dcgan", "genmix(dcgan)",
    ]  # fmt: skip
    assert len((folder / "claims.csv").read_text().splitlines()) == 1 + len(genmix_claims())


def test_an_unknown_parameter_is_refused_by_the_runner_and_by_plain_papermill(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown parameter 'sede'.*Did you mean 'seed'"):
        run_notebook(find_notebook("00"), {"sede": 1})
    with pytest.raises(papermill.PapermillExecutionError, match="Unknown parameter 'sede'"):
        papermill.execute_notebook(
            str(find_notebook("00")), str(tmp_path / "out.ipynb"), {"sede": 1, "scale": "smoke"}, progress_bar=False
        )


def test_a_failed_run_says_why_in_one_line_keeps_its_notebook_and_leaves_no_record(tmp_path):
    wrong = ["-p", "dataset", "folder:/no/such/folder", "-p", "scale", "smoke", "-p", "output_dir", str(tmp_path)]
    command = [sys.executable, "-m", "nbutils", "run", "00", *wrong]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "Error" in line]
    assert line.startswith("Error: ValueError: No folder at '/no/such/folder'")
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "00_start_here.failed.ipynb") in line
    assert (tmp_path / "00_start_here.failed.ipynb").is_file()
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": "huge"}, "Unknown scale 'huge'"),
        ({"seed": "one"}, "Parameter seed must be a whole number from 0, found 'one'"),
        ({"num_generator_seeds": 2, "num_seeds": 1}, r"from 1 to num_seeds \(1\)"),
        ({"dataset": "phantm:liver"}, "Parameter dataset must be one of .*, found 'phantm:liver'"),
    ],
)
def test_a_wrong_value_starts_no_kernel_and_leaves_no_folder(tmp_path, monkeypatch, wrong, message):
    monkeypatch.setattr(papermill, "execute_notebook", None)
    with pytest.raises(ValueError, match=message):
        run_notebook(find_notebook("30"), {"scale": "smoke", "output_dir": str(tmp_path / "out"), **wrong})
    assert not (tmp_path / "out").exists()


def test_the_runner_knows_the_paper_and_where_its_results_go(tmp_path, monkeypatch):
    monkeypatch.setattr("nbutils.results.ROOT", tmp_path)
    monkeypatch.setattr(papermill, "execute_notebook", lambda source, target, *_, **__: shutil.copy(source, target))
    other = tmp_path / "20_other.ipynb"
    source = find_notebook("30").read_text()
    other.write_text(source.replace('"    max_steps=max_steps,', '"    paper=\\"textual_inversion\\",'))
    folders = [run_notebook(path, {"dataset": "phantom:prostate"}) for path in (find_notebook("30"), other)]
    figures = tmp_path / "figures"
    assert folders == [figures / "30_genmix_classification" / "demo-phantom-prostate", figures / "20_other" / "demo"]
    assert [path.name for path in folders[0].iterdir()] == ["30_genmix_classification.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_by_default_a_notebook_runs_on_its_papers_showpiece(path):
    declared = papermill.inspect_notebook(str(path))
    assert parsed_value(declared["dataset"]["default"]) == SHOWPIECE[paper_of(path)]


def test_a_notebook_is_found_by_number_name_or_path():
    path = ROOT / "notebooks" / "30_genmix_classification.ipynb"
    assert find_notebook("30") == find_notebook("30_genmix_classification") == find_notebook(str(path)) == path
    with pytest.raises(ValueError, match=r"Unknown notebook '30_genmix_clasification'.*Did you mean"):
        find_notebook("30_genmix_clasification")
