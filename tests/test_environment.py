"""The files around the package agree with each other."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import nbutils
from nbutils import papers
from nbutils.files import ROOT
from nbutils.results import output_folder
from nbutils.scales import SCALES

TEN = {
    "torch", "diffusers", "timm", "jupyterlab", "papermill", "nbval", "matplotlib", "seaborn", "umap-learn",
    "scikit-learn",
}  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LAYERS = (
    "scales", "seeds", "files", "dataset_names", "progress", "images", "artefacts", "montage", "phantoms", "corpus",
    "datasets", "weights", "models", "training", "backbone", "perceptual", "protocols", "pipelines", "generators",
    "priors", "augmentation", "traditional", "imbalance", "metrics", "classification", "guidance", "online",
    "comparison", "rebalancing", "oracle", "features", "fidelity", "mean_images", "reading", "quality", "efficiency",
    "resolution", "embedding", "placement", "verdicts", "utility", "occlusion", "marker", "aspects", "papers",
    "claims", "tuning", "composition", "ablation", "figures", "online_figures", "widgets", "results", "parameters",
    "runs", "runner", "shipping", "paper_build", "across", "overview", "__main__",
)  # fmt: skip


MODULES = sorted(Path(nbutils.__file__).parent.rglob("*.py"))


def names(requirements):
    return {re.match(r"[A-Za-z0-9_.-]+", requirement).group().lower() for requirement in requirements}


def test_conda_users_get_the_packages_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert f"python{PROJECT['requires-python']}" in conda
    (editable,) = pip  # one list of dependencies: the package itself, with its extras
    extras = re.fullmatch(r"--editable \.\[(.*)\]", editable).group(1).split(",")
    optional = PROJECT["optional-dependencies"]
    installed = names(PROJECT["dependencies"]).union(*(names(optional[extra]) for extra in extras))
    assert installed >= TEN
    assert f".[{','.join(extras)}]" in (ROOT / "Makefile").read_text()


def test_setting_up_shows_its_progress_and_ends_in_one_line():
    command = ["make", "--no-print-directory", "--dry-run", "--always-make", "env", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    (install,) = [line for line in lines if "--editable" in line]
    assert "--quiet" not in install
    assert lines[-1].startswith('echo ".venv is ready')


def test_every_dependency_has_a_lower_and_an_upper_bound():
    everything = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    unbounded = [r for r in everything if not re.search(r">=[\d.]+,<[\d.]+", r)]
    assert unbounded == []


def test_whatever_the_package_imports_is_a_dependency_of_its_own():
    trees = [ast.parse(path.read_text()) for path in MODULES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    top = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"nbutils"}
    comes_from = packages_distributions()
    optional = PROJECT["optional-dependencies"]["datasets"]
    declared = {re.sub("[-_.]+", "-", name) for name in names([*PROJECT["dependencies"], *optional])}
    missing = {
        name for name in top if not {re.sub("[-_.]+", "-", d.lower()) for d in comes_from.get(name, [name])} & declared
    }
    assert missing == set()


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nbutils":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name.split(".")[1] for a in node.names if a.name.startswith("nbutils.")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT / "nbutils").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = LAYERS.index(parts[0])
    upward = [name for name in imported_modules(path) if LAYERS.index(name) > own]
    assert upward == [], f"{path.name} imports {upward}, which stand below it"


def test_the_citation_names_the_five_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert len(citation["references"]) == 5
    assert citation["license"] == PROJECT["license"]


def test_shipped_weights_are_small_and_whole():
    from nbutils.artefacts import SHIPPED, damage

    weights = list(SHIPPED.parent.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 64 * 2**20
    assert all(path.stat().st_size <= 16 * 2**20 for path in weights)
    assert {entry.name: damage(entry) for entry in SHIPPED.iterdir() if damage(entry)} == {}


def test_the_graph_knows_what_to_run():
    """In a fresh clone every notebook is to run at demo scale, whatever lies in figures/."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "2"]
    for target, count in (("figures", len(list((ROOT / "notebooks").glob("*.ipynb")))), ("evidence", 12)):
        done = subprocess.run([*command, target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.search(rf"_run +{count}\n", done.stdout + done.stderr)


def test_the_matrix_runs_every_data_set_in_a_folder_of_its_own():
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "matrix", "--config", "scale=smoke"]
    asked = "datasets=phantom:liver,folder:/a/b,folder:/a-b"
    done = subprocess.run([*command, asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"matrix_run +3\n", done.stdout + done.stderr)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy without its history")
@pytest.mark.parametrize("scale", SCALES)
def test_git_leaves_results_on_other_data_alone_and_sees_those_of_the_showpiece(scale):
    parameters = {"scale": scale, "dataset": "phantom:liver", "output_dir": None}
    for dataset, ignored in (("phantom:liver", scale == "smoke"), ("liver", True), ("folder:/mine", True)):
        path = output_folder("30_x", {**parameters, "dataset": dataset}, "genmix") / "results.csv"
        done = subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=ROOT)
        assert done.returncode == (0 if ignored else 1), path


def test_notebook_00_shows_the_evidence_that_is_there():
    """It is to be stored again after each evidence run."""
    shown = (ROOT / "figures" / "00_start_here" / "demo" / "evidence.csv").read_text()
    assert shown == papers.evidence().to_csv(index=False, lineterminator="\n")


def test_the_shipped_priors_are_those_of_the_code():
    from nbutils import priors, weights

    shipped = [folder.name for folder in weights.PRIORS.iterdir()]
    assert set(shipped) <= set(priors.names())
    assert [name for name in shipped if not priors.get(name).is_shipped()] == []
