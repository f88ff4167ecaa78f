"""nbutils.overview, nbutils.across: what is committed is told as it is, and nothing else."""

import shutil

import numpy as np
import pandas as pd
import pytest

from nbutils import across, overview
from nbutils.files import ROOT, write_json
from nbutils.papers import CLAIM_COLUMNS

MARKED = "a\n<!-- gallery -->\nold\n<!-- end of gallery -->\nb\n<!-- verdicts -->\n<!-- end of verdicts -->\n"


@pytest.fixture
def root(tmp_path):
    """A repository without results."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "README.md").write_text(MARKED)
    return tmp_path


def save_evidence(root, notebook, verdict="replicated", rows=slice(None)):
    """Write evidence in which every claim of a notebook has one verdict."""
    table = pd.DataFrame(
        [
            {"claim": claim.text, "metric": claim.metric, "paper": claim.printed(), "ours": "1 | 2"}
            for claim in overview.CLAIMS[notebook][1]()
        ]
    )
    folder = root / "figures" / notebook / "evidence"
    folder.mkdir(parents=True)
    table.assign(verdict=verdict).reindex(columns=list(CLAIM_COLUMNS)).iloc[rows].to_csv(folder / "claims.csv")


@pytest.mark.parametrize("path", [overview.README, overview.PAGE, "figures/across_papers.csv"], ids=str)
def test_what_is_committed_is_what_the_command_writes(path):
    """After new results: python -m nbutils overview."""
    found = {str(name): text for name, text in overview.texts().items()}
    assert (ROOT / path).read_text() == found[str(path)]


def test_every_claim_of_every_paper_has_a_row_and_claims_without_evidence_are_not_run(root):
    table = overview.all_claims(root)
    assert set(table["paper_key"]) == set(overview.PAPERS)
    assert set(table["verdict"]) == {"not run"}
    assert not table.duplicated(["notebook", "claim", "metric", "paper"]).any()
    save_evidence(root, "30_genmix_classification")
    found = overview.all_claims(root)
    assert found["claim"].tolist() == table["claim"].tolist()
    own = found["notebook"] == "30_genmix_classification"
    assert set(found.loc[own, "verdict"]) == {"replicated"}
    assert set(found.loc[own, "evidence"]) == {"figures/30_genmix_classification/evidence/claims.csv"}
    assert set(found.loc[~own, "verdict"]) == {"not run"}


def test_the_notebooks_of_the_list_check_the_claims_of_the_list():
    for path in (ROOT / "figures").glob("*/*/claims.csv"):
        notebook, folder = path.parts[-3:-1]
        if notebook in overview.CLAIMS and folder in across.FOLDERS:
            listed = sorted((claim.text, claim.metric) for claim in overview.CLAIMS[notebook][1]())
            checked = pd.read_csv(path)
            assert sorted(zip(checked["claim"], checked["metric"], strict=True)) == listed, path


def test_evidence_without_one_of_the_claims_is_refused(root):
    save_evidence(root, "31_genmix_tsne", rows=slice(1, None))
    with pytest.raises(ValueError, match=r"31_genmix_tsne/evidence/claims.csv must have one row for .*found 0; run"):
        overview.all_claims(root)


def test_the_summary_counts_the_verdicts_of_each_paper(root):
    save_evidence(root, "30_genmix_classification", "replicated")
    save_evidence(root, "31_genmix_tsne", "not replicated")
    many, few = (len(overview.CLAIMS[name][1]()) for name in ("30_genmix_classification", "31_genmix_tsne"))
    (line,) = [line for line in overview.summary(overview.all_claims(root)).splitlines() if "GenMix" in line]
    assert line.endswith(f"| 30, 31 | {many + few} | {many} | {few} | 0 | 0 |")


def test_the_gallery_shows_the_main_picture_of_each_demo_run(root):
    write_json(root / "figures" / "30_x" / "demo" / "run.json", {"main": {"figure": "a.png", "table": "b.csv"}})
    write_json(root / "figures" / "30_x" / "evidence" / "run.json", {"main": {"figure": "c.png"}})
    shown = overview.gallery(root)
    assert 'src="figures/30_x/demo/a.png"' in shown
    assert "(notebooks/30_x.ipynb)" in shown
    assert "c.png" not in shown


def test_cells_do_not_break_the_table_and_questions_are_told_apart_from_claims(root):
    save_evidence(root, "30_genmix_classification")
    own = root / "figures" / "02_own" / "evidence"
    own.mkdir(parents=True)
    pd.DataFrame([{"claim": "Does it?", "verdict": "yes"}]).reindex(columns=list(CLAIM_COLUMNS)).to_csv(
        own / "claims.csv"
    )
    page = overview.page(overview.all_claims(root), across.measured(ROOT), root)
    assert "1 \\| 2" in page
    last = page.partition("## Questions of our own")[2]
    assert last.splitlines()[-1].startswith("| 02 | Does it? |")
    assert len(last.strip().splitlines()) == 3


def test_only_what_is_between_the_markers_changes():
    assert overview.replaced(MARKED, "gallery", "new") == MARKED.replace("old", "new")
    with pytest.raises(ValueError, match="must have one line '<!-- other -->'"):
        overview.replaced(MARKED, "other", "new")
    with pytest.raises(ValueError, match="one line"):
        overview.replaced(MARKED * 2, "gallery", "new")
    with pytest.raises(ValueError, match="one line"):
        overview.replaced("<!-- end of gallery --> <!-- gallery -->", "gallery", "new")


def test_the_command_writes_texts_and_figure(root):
    shutil.copytree(ROOT / "figures" / "30_genmix_classification", root / "figures" / "30_genmix_classification")
    written = overview.write(root)
    assert all((root / path).is_file() for path in written)
    assert (root / "README.md").read_text().startswith("a\n<!-- gallery -->\n| ")
    assert (root / "figures" / "across_papers.pdf").is_file()


@pytest.fixture
def results(root):
    """Results of one paper: two sources, two generator seeds, four classifiers."""
    folder = root / "figures" / "30_genmix_classification" / "demo"
    folder.mkdir(parents=True)
    distances = [
        {"source": source, "fd_shipped": fd * (1 + generator), "generator_seed": generator}
        for generator in (0, 1)
        for source, fd in (("real (train)", 2.0), ("near", 3.0), ("far", 8.0))
    ]
    pd.DataFrame(distances).to_csv(folder / "fidelity.csv")
    accuracies = [
        {"method": method, "seed": seed, "generator_seed": seed % 2, "accuracy": 0.5 + 0.01 * seed + gain}
        for seed in range(4)
        for method, gain in (("real", 0.0), ("near", -0.1), ("far", 0.1 + 0.02 * seed), ("mixup", 0.3))
    ]
    pd.DataFrame(accuracies).to_csv(folder / "results.csv")
    return root


def test_distances_are_in_units_of_real_images_and_gains_paired_by_seed(results):
    found = across.measured(results).set_index("source")
    assert found.index.tolist() == ["near", "far"]
    assert found["relative_fd"].tolist() == pytest.approx([1.5, 4.0])
    assert found["gain"].tolist() == pytest.approx([-0.1, 0.13])
    assert found["results"].unique().tolist() == ["demo"]
    assert found.loc["far", "gain_low"] < 0.13 < found.loc["far", "gain_high"]
    assert found["pairs"].tolist() == [4, 4]


def test_evidence_is_preferred_where_it_is_complete(results):
    notebook = results / "figures" / "30_genmix_classification"
    (notebook / "evidence").mkdir()
    shutil.copy(notebook / "demo" / "fidelity.csv", notebook / "evidence")
    assert set(across.measured(results)["results"]) == {"demo"}
    shutil.copy(notebook / "demo" / "results.csv", notebook / "evidence")
    assert set(across.measured(results)["results"]) == {"evidence"}


def test_distances_within_classes_are_summed():
    table = pd.DataFrame(
        {"class": ["a", "a", "b", "b"], "source": ["real (train)", "g"] * 2, "fd_test": [1.0, 2.0, 3.0, 4.0]}
    ).assign(generator_seed=0)
    found = across._by_class(table).set_index("source")["relative_fd"]
    assert found.to_dict() == {"real (train)": 1.0, "g": 1.5}


def test_correlations_are_those_within_a_paper(results):
    table = across.measured(results)
    more = pd.concat([table, table.assign(relative_fd=9.0, gain=-0.5).iloc[:1]])
    found = across.correlations(more)
    assert found["rho"].tolist() == pytest.approx([-0.5])
    assert np.isnan(across.correlations(table)["rho"].iloc[0])
