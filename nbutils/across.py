"""Fidelity against utility over the papers: what the committed results say of every generator of the suite."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from nbutils import figures
from nbutils.aspects import rank_correlations
from nbutils.fidelity import REAL as TRAIN
from nbutils.files import ROOT
from nbutils.protocols import SHOWPIECE
from nbutils.verdicts import paired

DISTANCE, GAIN = "relative_fd", "gain"
"""Columns: the Fréchet distance in units of that of real training images, and accuracy gained over real images."""

PANELS = 2
"""Of the figure beside each other."""

FOLDERS = ("evidence", "demo")
"""Where results may lie in figures/<notebook>, those to be preferred first."""


@dataclass(frozen=True)
class Results:
    """Which notebooks of a paper measured distances and accuracies of the same generators.

    distances: notebook and table of the distances. accuracies: notebook of the classifiers. relative: (that table) ->
    source, generator_seed, DISTANCE. methods: source -> the method that adds its images to real ones, None = of the
    same name. metric: the column of accuracy.
    """

    paper: str
    distances: tuple[str, str]
    accuracies: str
    relative: Callable[[pd.DataFrame], pd.DataFrame]
    methods: Mapping[str, str] | None = None
    metric: str = "accuracy"


def _pooled(table: pd.DataFrame, floor: str = TRAIN) -> pd.DataFrame:
    """Return distances over all classes in units of those of the floor's row behind the same generator seed."""
    floors = table[table["source"] == floor].set_index("generator_seed")["fd_shipped"]
    return table.assign(**{DISTANCE: table["fd_shipped"] / table["generator_seed"].map(floors)})


def _by_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return the same of distances within classes: sums over them in units of the floor's sum."""
    sums = table.groupby(["generator_seed", "source"], sort=False)["fd_test"].sum().reset_index()
    return _pooled(sums.rename(columns={"fd_test": "fd_shipped"}))


def _seeded(table: pd.DataFrame) -> pd.DataFrame:
    return _pooled(table.rename(columns={"seed": "generator_seed"}))


def _of_utility(table: pd.DataFrame) -> pd.DataFrame:
    return _pooled(table, floor="real")


RESULTS = (
    Results("mage_adapter", ("10_mage_generation", "distances"), "11_mage_classification", _by_class),
    Results("genmix", ("30_genmix_classification", "fidelity"), "30_genmix_classification", _pooled),
    Results(
        "textual_inversion",
        ("41_ti_classification", "fidelity"),
        "41_ti_classification",
        _seeded,
        {"all cases": "real + synthetic x10", "few cases": "real + few-case x10"},
    ),
    Results(
        "beauty_or_beast",
        ("50_utility_comparison", "quality"),
        "50_utility_comparison",
        _of_utility,
        metric="augmentation_accuracy",
    ),
)
"""The papers whose notebooks measure both. Those of IOIS measure no distances; it shares StyleGAN2-ADA with MAGE."""


def measured(root: Path = ROOT) -> pd.DataFrame:
    """Return how close each generator's images come, and what a classifier gains by them, one row per paper and source.

    Columns: paper, data, source, DISTANCE (mean over generator seeds), GAIN (mean over classifiers, paired by seed),
    GAIN_low, GAIN_high (95 % interval, as verdicts.paired has it), pairs, results ("evidence" or "demo", both tables
    from the same). Papers without results are left out. Numbers of images, classifiers and starting points differ from
    paper to paper: compare within one.
    """
    rows = [row for results in RESULTS for row in _rows(results, root)]
    columns = ("paper", "data", "source", DISTANCE, GAIN, f"{GAIN}_low", f"{GAIN}_high", "pairs", "results")
    return pd.DataFrame(rows, columns=list(columns))


def _rows(results: Results, root: Path) -> list[dict]:
    notebook, name = results.distances
    for folder in FOLDERS:
        paths = [
            root / "figures" / notebook / folder / f"{name}.csv",
            root / "figures" / results.accuracies / folder / "results.csv",
        ]
        if all(path.is_file() for path in paths):
            distances, accuracies = map(pd.read_csv, paths)
            return [
                {"paper": results.paper, "data": SHOWPIECE[results.paper], **row, "results": folder}
                for row in _compared(results, results.relative(distances), accuracies)
            ]
    return []


def _compared(results: Results, distances: pd.DataFrame, accuracies: pd.DataFrame) -> list[dict]:
    """Return a row for each source that a classifier was trained with."""
    wide = accuracies.pivot(index="seed", columns="method", values=results.metric)
    generators, rows = accuracies.drop_duplicates("seed").set_index("seed")["generator_seed"], []
    for source, distance in distances.groupby("source", sort=False)[DISTANCE].mean().items():
        method = source if results.methods is None else results.methods.get(source)
        if source not in (TRAIN, "real", "traditional") and method in wide:
            gain = (wide[method] - wide["real"]).dropna()
            found = paired(gain.to_numpy(), generators.loc[gain.index].to_numpy())
            interval = {f"{GAIN}_{side}": found[side] for side in ("low", "high")}
            rows.append(
                {"source": source, DISTANCE: distance, GAIN: found["difference"], **interval, "pairs": len(gain)}
            )
    return rows


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation of distance and gain over the generators of each paper; columns paper, rho, n, p.

    table: as `measured` returns it. rho is below 0 where closer images help more. p is not corrected.
    """
    found = [
        rank_correlations(group, [DISTANCE], [GAIN]).assign(paper=paper)
        for paper, group in table.groupby("paper", sort=False)
    ]
    return pd.concat(found, ignore_index=True)[["paper", "rho", "n", "p"]]


def drawn(table: pd.DataFrame) -> Figure:
    """Draw gain over distance, a panel for each paper and its data; table: as `measured` returns it."""
    groups = list(table.groupby(["paper", "data"], sort=False))
    rows = -(-len(groups) // PANELS)
    fig, axes = figures.panels(rows, PANELS, height=2.6 * rows)
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, ((paper, data), group) in zip(axes.flat, groups, strict=False):
        figures.quality_against_utility(group, DISTANCE, GAIN, ax).set_title(f"{paper.replace('_', ' ')}, {data}")
        ax.margins(x=0.25)
    plt.close(fig)
    return fig
