"""What the papers report, what they claim, and whether our runs agree."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

import numpy as np
import pandas as pd

from nbutils.files import ROOT
from nbutils.verdicts import MARGIN, holm, paired, verdict

CLAIM_COLUMNS = (
    *("claim", "metric", "paper", "ours", "difference", "interval_95", "effect_size_dz", "pairs", "generators_agree"),
    *("p", "p_holm", "p_excluded_holm", "verdict"),
)
"""The columns of a claims table; differences and intervals are percentage points, of distances per cent."""

MAIN_COLUMNS = ["claim", "metric", "paper", "ours", "interval_95", "verdict"]
"""The columns of a claims table that fit on a screen."""

DEFAULT_SHARE = 0.5
"""The share of synthetic images in the training pool for a generator that a paper does not have."""


@cache
def reported(paper: str) -> pd.DataFrame:
    """Return the printed numbers of a paper: item, printed_row, method, metric, value (fractions where unit is %)."""
    table = pd.read_csv(ROOT / "data" / "papers" / f"{paper}.csv")
    return table.assign(value=np.where(table["unit"] == "%", table["value"] / 100, table["value"]))


@cache
def protocol(paper: str) -> dict[str, float | bool | str]:
    """Return the settings a paper states: name of the setting -> number, truth value or text."""
    table = pd.read_csv(ROOT / "data" / "papers" / f"{paper}_protocol.csv", dtype=str)
    return {name: _value(text) for name, text in zip(table["setting"], table["value"], strict=True)}


def _value(text: str) -> float | bool | str:
    try:
        return json.loads(text.lower())
    except json.JSONDecodeError:
        return text


def synthetic_share(paper: str, generator: str) -> float:
    """Return the share of synthetic images in the training pool, as the paper states it, else DEFAULT_SHARE."""
    return float(protocol(paper).get(f"share.{generator}", DEFAULT_SHARE))


def reported_value(paper: str, method: str, metric: str) -> float:
    """Return one printed number, NaN where the paper prints none."""
    table = reported(paper)
    found = table.loc[(table["method"] == method) & (table["metric"] == metric), "value"]
    return float(found.iloc[0]) if len(found) else float("nan")


def reported_means(paper: str, methods: Sequence[str], pattern: str) -> dict[str, float]:
    """Return each method's mean over the printed metrics that match a pattern such as "odir:fid_test:*".

    Only metrics that are printed for all of them count, so that all means are over the same cells; methods for which
    none is printed are left aside, with NaN.
    """
    table = reported(paper)
    matching = table["metric"].map(lambda metric: fnmatchcase(metric, pattern)) & table["method"].isin(methods)
    cells = table[matching].pivot(index="metric", columns="method", values="value")
    return cells.dropna(axis=1, how="all").dropna().mean().reindex(list(methods)).to_dict()


def printed_table(paper: str, pattern: str) -> pd.DataFrame:
    """Return the printed numbers of all metrics that match a pattern such as "odir:fid_test:*", a row per method.

    An empty text stands where a number is not printed, or cannot be read.
    """
    table = reported(paper)
    table = table[table["metric"].map(lambda metric: fnmatchcase(metric, pattern))]
    cells = table.pivot(index="method", columns="metric", values="value")
    return (
        cells.loc[table["method"].unique(), table["metric"].unique()]
        .rename_axis(columns=None)
        .astype(object)
        .fillna("")
    )


@dataclass(frozen=True)
class Claim:
    """One sentence that our results can support or contradict.

    paper: the paper that says it, None = none does, it is a question of ours. text: the claim in words. method, others:
    the method it is about, and those it is compared with. metric: a column of the results. expects: "more" (method
    above each other), "less" (below), or "no gain" (not above by an effect). printed_metric: the metric's name in the
    paper's table, None = the same. relative: the metric is a distance, and compared by its logarithm. margin: the
    smallest difference that is called an effect.
    """

    paper: str | None
    text: str
    method: str
    others: tuple[str, ...]
    metric: str
    expects: str = "more"
    printed_metric: str | None = None
    relative: bool = False
    margin: float = MARGIN

    def printed(self) -> str:
        """Return the paper's own numbers: that of the method, against the best (for "less": lowest) of the others."""
        if self.paper is None:
            return "our question"
        cells = reported_means(self.paper, (self.method, *self.others), self.printed_metric or self.metric)
        ours, others = cells[self.method], [cells[other] for other in self.others]
        if np.isnan(ours) or np.isnan(others).all():
            return "in words only"
        rival = np.nanmin(others) if self.expects == "less" else np.nanmax(others)
        return f"{self.shown(ours)} vs {self.shown(rival)}"

    def mean_and_sd(self, values: pd.Series) -> str:
        """Return the mean of values of the metric with its sd, where there are several."""
        spread = f" ± {self.shown(values.std(ddof=1))}" if len(values) > 1 else ""
        return f"{self.shown(values.mean())}{spread}"

    def shown(self, value: float) -> str:
        """Return a value of the metric in words: a fraction in percent, a distance as it is."""
        return f"{value:.4g}" if self.relative else f"{100 * value:.1f}"


def check_claims(claims: Sequence[Claim], results: pd.DataFrame) -> pd.DataFrame:
    """Return the claims table: the paper's number, ours, the tests and the verdict, one row per claim.

    results: one row per method and seed, columns `method`, `seed`, `generator_seed` and metrics as fractions. Methods
    are paired by seed. Where a claim has several rivals, the row shows the one against which it stands weakest (the
    smallest effect size), so that a replicated claim holds against each. generators_agree: behind how many generator
    seeds the difference has the sign of its mean.
    p_holm: of the difference, p_excluded_holm: of there being no effect, a difference of at least the claim's margin,
    in the claimed direction; both as in verdicts.paired, corrected over the table by Holm.
    Verdicts:
    replicated: significant in the claimed direction ("no gain": an effect is excluded);
    not replicated: significant the other way, or an effect is excluded ("no gain": significantly above);
    inconclusive: the seeds allow neither, or a rival of the claim was not run; always so for few pairs;
    not run: the claim's method, or every rival, is not among the results.
    To a question of our own the answers are yes and no instead of the first two.
    """
    rows = [_compared(claim, results) for claim in claims]
    for name in ("p", "p_excluded"):
        for row, corrected in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = corrected
    for claim, row in zip(claims, rows, strict=True):
        found = verdict(**{name: row[name] for name in _JUDGED}) if row["pairs"] else "not run"
        row["verdict"] = found if claim.paper else ANSWERS.get(found, found)
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


ANSWERS = {"replicated": "yes", "not replicated": "no"}
"""What the verdicts are called where no paper claims anything."""

_JUDGED = ("expects", "gain", "p_holm", "p_excluded_holm", "unanimous", "complete")


def _compared(claim: Claim, results: pd.DataFrame) -> dict:
    """Compare a claim's method with the rival against which the claim stands weakest; the rival is named in the row."""
    row = {"claim": claim.text, "metric": claim.metric, "paper": claim.printed(), "expects": claim.expects}
    wide = results.pivot(index="seed", columns="method", values=claim.metric)
    present = [other for other in claim.others if other in wide] if claim.method in wide else []
    missing = [other for other in claim.others if other not in wide]
    if not present:
        empty = dict.fromkeys(("ours", "interval_95", "generators_agree"), "")
        return row | paired(np.array([]), np.array([])) | empty | {"gain": np.nan}
    generators = results.drop_duplicates("seed").set_index("seed")["generator_seed"]
    compared = [_against(claim, wide, rival, generators) for rival in present]
    weakest = max if claim.expects == "no gain" else min
    found = weakest(compared, key=lambda one: np.nan_to_num(one["gain_dz"]))
    not_run = f"; not run: {', '.join(missing)}" if missing else ""
    return row | found | {"ours": f"{found['ours']}{not_run})", "complete": not missing}


def _against(claim: Claim, wide: pd.DataFrame, rival: str, generators: pd.Series) -> dict:
    """Compare a claim's method with one rival; wide: seeds x methods, generators: the generator seed of each seed."""
    sign = -1.0 if claim.expects == "less" else 1.0
    both = wide[[claim.method, rival]].dropna()
    values = np.log(both) if claim.relative else both
    difference, behind = values[claim.method] - values[rival], generators.loc[both.index].to_numpy()
    found = paired(difference.to_numpy(), behind, sign, claim.margin)
    by_generator = difference.groupby(behind).mean()
    agree = int((np.sign(by_generator) == np.sign(found["difference"])).sum())
    ours, theirs = (claim.mean_and_sd(column) for _, column in both.items())
    return found | {
        "ours": f"{ours} vs {theirs} ({rival}",
        "difference": 100 * found["difference"],
        "interval_95": f"{100 * found['low']:+.1f} .. {100 * found['high']:+.1f}",
        "generators_agree": f"{agree} of {len(by_generator)}",
        "unanimous": agree == len(by_generator),
        "gain": sign * found["difference"],
        "gain_dz": sign * found["effect_size_dz"],
    }


def _spread(values: pd.Series) -> str:
    """Return "mean ± sd" in percent."""
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"


def evidence() -> pd.DataFrame:
    """Return the claims tables of all evidence runs in figures/, one below the other, with a column `notebook`."""
    tables = [
        pd.read_csv(path).assign(notebook=path.parts[-3])
        for path in sorted((ROOT / "figures").glob("*/evidence/claims.csv"))
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["notebook", *CLAIM_COLUMNS])


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Return mean, sd, n over seeds and the number of generator seeds behind them, of every method and metric.

    Columns: method, metric, mean, sd, n, generator_seeds; methods in the given order.
    """
    metrics = [column for column in results.columns if column not in ("method", "seed", "generator_seed")]
    grouped = results.groupby("method", sort=False)
    parts = {"mean": grouped[metrics].mean(), "sd": grouped[metrics].std(ddof=1), "n": grouped[metrics].count()}
    stacked = {name: table.stack() for name, table in parts.items()}
    table = pd.DataFrame(stacked).rename_axis(["method", "metric"]).reset_index()
    return table.assign(generator_seeds=table["method"].map(grouped["generator_seed"].nunique()))


def mean_over(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return results with one row per method and seed, the mean of those rows that differ in a column, without it."""
    rows = ["method", "seed", "generator_seed"]
    return results.drop(columns=column).groupby(rows, sort=False, as_index=False).mean()


def beside_reported(paper: str, results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a table with one row per method: for each metric ours (mean ± sd over seeds) and the paper's, in percent.

    An empty cell: the paper has no such number.
    """
    rows = []
    for method, group in results.groupby("method", sort=False):
        row = {"method": method}
        for metric in metrics:
            printed = reported_value(paper, method, metric)
            row[f"{metric} ↑"] = _spread(group[metric])
            row[f"paper {metric}"] = "" if np.isnan(printed) else f"{100 * printed:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)
