"""The overview of all results: a gallery and the verdicts on the claims of the five papers, from committed files.

Nothing of it is typed: claims come from nbutils.claims, verdicts from figures/<notebook>/evidence/claims.csv.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from nbutils import across, claims, figures
from nbutils.aspects import UTILITIES
from nbutils.files import ROOT, atomic, read_json
from nbutils.papers import Claim
from nbutils.phantoms import modality
from nbutils.results import RECORD

PAGE, README = Path("figures") / "README.md", Path("README.md")
ACROSS = "across_papers"
COLUMNS = 3
"""Pictures beside each other in the gallery."""

NOT_RUN = "not run"
VERDICTS = ("replicated", "not replicated", "inconclusive", NOT_RUN)

PAPERS = {
    "mage_adapter": "MAGE with adapters",
    "iois": "IOIS",
    "genmix": "GenMix",
    "textual_inversion": "Textual inversion",
    "beauty_or_beast": "The Beauty or the Beast",
}
"""Paper -> how the overview calls it, in the order of its notebooks."""

FIDELITY = ("fd_shipped", "precision", "fir")
"""The qualities with which, Xing et al. claim, utility does not go."""


def correlated(qualities=FIDELITY) -> list[str]:
    """Return what correlation_claims takes: each quality with each utility, as aspects.correlations_by_seed has it."""
    return [f"{quality} ({utility})" for quality in qualities for utility in UTILITIES]


def _diseases() -> list[str]:
    """Return the diseases of notebooks 42 and 43, as they call them."""
    names = {name: modality(name).class_names[1:] for name in ("prostate", "chest", "histology")}
    return [f"{name}: {disease}" for name, diseases in names.items() for disease in diseases]


def _utility(data: str) -> list[Claim]:
    """Return the claims of notebook 50."""
    return [
        *claims.utility_claims(data),
        *claims.quality_claims(data),
        *claims.correlation_claims(correlated()),
    ]


CLAIMS: Mapping[str, tuple[str, Callable[[], list[Claim]]]] = {
    "10_mage_generation": ("mage_adapter", lambda: claims.mage_generation_claims("ham10000")),
    "11_mage_classification": ("mage_adapter", lambda: claims.mage_classification_claims("ham10000")),
    "20_iois_comparison": ("iois", lambda: claims.iois_claims("ham10000")),
    "21_iois_classes_and_neighbours": (
        "iois",
        lambda: claims.iois_class_claims("ham10000", modality("dermoscopy").class_names),
    ),
    "30_genmix_classification": ("genmix", claims.genmix_claims),
    "31_genmix_tsne": ("genmix", claims.genmix_feature_claims),
    "40_ti_tuning": ("textual_inversion", claims.textual_inversion_tuning_claims),
    "41_ti_classification": (
        "textual_inversion",
        lambda: [*claims.textual_inversion_claims(), claims.memorisation_claim()],
    ),
    "42_ti_composition": ("textual_inversion", lambda: claims.interpolation_claims(_diseases())),
    "43_ti_inpainting": ("textual_inversion", lambda: claims.inpainting_claims(_diseases()[:-1])),
    "50_utility_comparison": ("beauty_or_beast", lambda: _utility("histology")),
    "51_utility_resolution": (
        "beauty_or_beast",
        lambda: [*claims.resolution_claims("xray"), *claims.resolution_claims("ct"), claims.time_claim()],
    ),
    "52_utility_marker_bias": ("beauty_or_beast", claims.marker_claims),
}
"""Notebook -> its paper, and the claims that it checks on its default data."""


def all_claims(root: Path = ROOT) -> pd.DataFrame:
    """Return every claim of the five papers with the verdict of its evidence run, one row per claim.

    Columns: notebook, paper_key, claim, metric, paper (its number), ours, interval_95, verdict ("not run" where there
    is no evidence), evidence (the file's path, "" where there is none). Raises ValueError for a table of evidence that
    lacks one of the claims: it is older than the code.
    """
    rows = []
    for notebook, (paper, made) in CLAIMS.items():
        path = Path("figures") / notebook / "evidence" / "claims.csv"
        found = _read(root / path)
        for claim in made():
            row = {"notebook": notebook, "paper_key": paper, "claim": claim.text, "metric": claim.metric}
            row |= {"paper": claim.printed(), "ours": "", "interval_95": "", "verdict": NOT_RUN, "evidence": ""}
            if found is not None:
                row |= _checked(found, claim, path) | {"evidence": path.as_posix()}
            rows.append(row)
    return pd.DataFrame(rows)


def _read(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path, keep_default_na=False) if path.is_file() else None


def _checked(table: pd.DataFrame, claim: Claim, path: Path) -> dict:
    """Return ours, interval_95 and verdict of one claim in a table of claims; of equal words numbers tell it apart."""
    wanted = {"claim": claim.text, "metric": claim.metric, "paper": claim.printed()}
    rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    if len(rows) != 1:
        raise ValueError(
            f"{path} must have one row for {claim.text!r} by {claim.metric} ({claim.printed()}), found {len(rows)}; "
            "run its notebook's evidence again (make evidence)."
        )
    return rows.iloc[0][["ours", "interval_95", "verdict"]].to_dict()


def questions(root: Path = ROOT) -> pd.DataFrame:
    """Return the questions of no paper that evidence runs answer: columns notebook, claim, metric, ours, verdict."""
    tables = [
        pd.read_csv(path, keep_default_na=False).assign(notebook=path.parts[-3])
        for notebook in sorted(path.name for path in (root / "figures").iterdir())
        for path in _question_files(root / "figures" / notebook / "evidence", notebook)
    ]
    columns = ["notebook", "claim", "metric", "ours", "interval_95", "verdict"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _question_files(folder: Path, notebook: str) -> list[Path]:
    """Return the tables of questions: those called so, and claims of notebooks that are of no paper."""
    names = ["questions.csv"] if notebook in CLAIMS else ["claims.csv", "questions.csv"]
    return [folder / name for name in names if (folder / name).is_file()]


def summary(table: pd.DataFrame) -> str:
    """Return how many claims of each paper have which verdict, as a Markdown table; table: of all_claims."""
    head = ["paper", "notebooks", "claims", *VERDICTS]
    rows = []
    for paper, name in PAPERS.items():
        own = table[table["paper_key"] == paper]
        numbers = ", ".join(notebook[:2] for notebook in dict.fromkeys(own["notebook"]))
        counts = [str((own["verdict"] == verdict).sum()) for verdict in VERDICTS]
        rows.append([f"[{name}]({PAGE.as_posix()}#{_anchor(name)})", numbers, str(len(own)), *counts])
    totals = [str((table["verdict"] == verdict).sum()) for verdict in VERDICTS]
    return _table(head, [*rows, ["all", "", str(len(table)), *totals]])


def gallery(root: Path = ROOT) -> str:
    """Return the main picture of each notebook's demo run below its name, as a Markdown table."""
    cells = []
    for record in sorted((root / "figures").glob(f"*/demo/{RECORD}")):
        notebook, picture = record.parts[-3], read_json(record)["main"].get("figure")
        if picture is not None:
            link = f"[{notebook}](notebooks/{notebook}.ipynb)"
            cells.append(f'{link}<br><img src="figures/{notebook}/demo/{picture}" width="270" alt="{notebook}">')
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    return _table([""] * COLUMNS, [row + [""] * (COLUMNS - len(row)) for row in rows])


def page(table: pd.DataFrame, measured: pd.DataFrame, root: Path = ROOT) -> str:
    """Return figures/README.md: every claim with its verdict, fidelity against utility over the papers, questions."""
    parts = [
        "# All claims, and what our runs say\n\nWritten by `python -m nbutils overview`; nothing here is typed. Rules: "
        "[README](../README.md). Numbers of the papers are those of their own data; ours are of phantoms at demo scale."
    ]
    for paper, name in PAPERS.items():
        own = table[table["paper_key"] == paper]
        head = ["notebook", "claim", "measured by", "paper", "ours", "95 % interval", "verdict", "evidence"]
        parts.append(f"## {name}\n\n{_table(head, [_claim_row(row) for row in own.itertuples()])}")
    parts.append(_across_part(measured))
    asked = questions(root)
    rows = [
        [row.notebook[:2], row.claim, row.metric, row.ours, row.interval_95, row.verdict] for row in asked.itertuples()
    ]
    head = ["notebook", "question", "measured by", "ours", "95 % interval", "answer"]
    parts.append(f"## Questions of our own\n\n{_table(head, rows)}")
    return "\n\n".join(parts) + "\n"


def _claim_row(row) -> list[str]:
    evidence = f"[claims.csv]({Path(row.evidence).relative_to('figures').as_posix()})" if row.evidence else ""
    return [row.notebook[:2], row.claim, row.metric, row.paper, row.ours, row.interval_95, row.verdict, evidence]


def _across_part(measured: pd.DataFrame) -> str:
    """Return the section on fidelity against utility over the papers."""
    found = across.correlations(measured)
    found = found[found["rho"].notna()]  # of two generators there is none
    rows = [[PAPERS[row.paper], f"{row.rho:.2f}", str(row.n), f"{row.p:.2f}"] for row in found.itertuples()]
    text = (
        "Each dot is a generator: how far its images lie from real test images, in units of real training images, and "
        f"what a classifier gains by them over real images alone, with a 95 % interval ([table]({ACROSS}.csv)). Panels "
        "differ in data, classifier and number of images; compare within one. Spearman's correlation, below 0 where "
        "closer images help more (p is not corrected):"
    )
    table = _table(["paper", "rank correlation", "generators", "p"], rows)
    return f"## Fidelity against utility\n\n![fidelity against utility]({ACROSS}.png)\n\n{text}\n\n{table}"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def replaced(text: str, name: str, content: str) -> str:
    """Return a text with content between its lines <!-- name --> and <!-- end of name -->.

    Raises ValueError if they are not there, once each and in this order.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise ValueError(f"The text must have one line {first!r} and, below it, one {last!r}; put them in.")
    before, after = text.partition(first)[0], text.partition(last)[2]
    return f"{before}{first}\n{content}\n{last}{after}"


def texts(root: Path = ROOT) -> dict[Path, str]:
    """Return what README.md, figures/README.md and the table across papers should hold, by their paths below root."""
    table, measured = all_claims(root), across.measured(root)
    readme = replaced((root / README).read_text(), "gallery", gallery(root))
    return {
        README: replaced(readme, "verdicts", summary(table)),
        PAGE: page(table, measured, root),
        Path("figures") / f"{ACROSS}.csv": measured.to_csv(index=False, lineterminator="\n", float_format="%.6g"),
    }


def write(root: Path = ROOT) -> list[Path]:
    """Write `texts` and the figure across papers, atomically; return the paths written, below root."""
    for path, text in texts(root).items():
        with atomic(root / path) as temporary:
            temporary.write_text(text)
    picture = figures.save_figure(across.drawn(across.measured(root)), root / "figures", ACROSS)
    return [*texts(root), picture.relative_to(root)]
