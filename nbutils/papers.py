"""What the papers report, what they claim, and whether our runs agree."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from nbutils.files import ROOT

MARGIN = 0.01
"""The smallest difference (a fraction: one percentage point) that is called an effect."""

LEVEL = 0.05
"""Significance level, after Holm's correction over the claims of a table."""

CLAIM_COLUMNS = (
    *("claim", "metric", "paper", "ours", "difference", "interval_95", "effect_size_dz"),
    *("pairs", "p", "p_holm", "verdict"),
)
"""The columns of a claims table; differences and intervals are of fractions and percentage points."""

MIN_PAIRS = 6
"""Below this many pairs a two-sided Wilcoxon test cannot reach LEVEL."""


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


def reported_value(paper: str, method: str, metric: str) -> float:
    """Return one printed number, NaN where the paper prints none."""
    table = reported(paper)
    found = table.loc[(table["method"] == method) & (table["metric"] == metric), "value"]
    return float(found.iloc[0]) if len(found) else float("nan")


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper that our results can support or contradict.

    text: the claim in words. method, others: the method it is about, and those it is compared with. metric: a column
    of the results. expects: "more" (method above each other), "less" (below), or "no gain" (not above by an effect).
    printed_metric: the metric's name in the paper's table, None = the same.
    """

    paper: str
    text: str
    method: str
    others: tuple[str, ...]
    metric: str
    expects: str = "more"
    printed_metric: str | None = None

    def printed(self) -> str:
        """Return the paper's own numbers: that of the method, against the best (for "less": lowest) of the others."""
        metric = self.printed_metric or self.metric
        ours = reported_value(self.paper, self.method, metric)
        others = [reported_value(self.paper, other, metric) for other in self.others]
        if np.isnan(ours) or np.isnan(others).all():
            return "in words only"
        rival = np.nanmin(others) if self.expects == "less" else np.nanmax(others)
        return f"{100 * ours:.1f} vs {100 * rival:.1f}"


def check_claims(claims: Sequence[Claim], results: pd.DataFrame) -> pd.DataFrame:
    """Return the claims table: the paper's number, ours, the test and the verdict, one row per claim.

    results: one row per method and seed, columns `method`, `seed` and metrics as fractions. Methods are paired by
    seed. p: two-sided Wilcoxon signed-rank test of the paired differences; p_holm: corrected over the table.
    Verdicts, with an effect being a difference of at least MARGIN:
    replicated: significant in the claimed direction ("no gain": the 95 % interval lies below an effect);
    not replicated: significant the other way, or the interval excludes an effect in the claimed direction ("no
    gain": significantly above);
    inconclusive: the seeds allow neither; not run: the claim's method, or every rival, is not among the results.
    """
    rows = [_compare(claim, results) for claim in claims]
    tested = [row for row in rows if np.isfinite(row["p"])]
    for row, corrected in zip(tested, _holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    table = pd.DataFrame(rows)
    table["verdict"] = [_verdict(row) for row in rows]
    return table[list(CLAIM_COLUMNS)]


def _compare(claim: Claim, results: pd.DataFrame) -> dict:
    """Compare a claim's method with the strongest of its rivals among the results, which is named in the row."""
    row = {
        "claim": claim.text,
        "metric": claim.metric,
        "paper": claim.printed(),
        "ours": "",
        "difference": np.nan,
        "interval_95": "",
        "effect_size_dz": np.nan,
        "pairs": 0,
        "p": np.nan,
        "p_holm": np.nan,
        "expects": claim.expects,
        "sign": -1.0 if claim.expects == "less" else 1.0,
        "low": np.nan,
        "high": np.nan,
    }
    wide = results.pivot(index="seed", columns="method", values=claim.metric)
    rivals = [other for other in claim.others if other in wide]
    if claim.method not in wide or not rivals:
        return row
    means = wide[rivals].mean()
    rival = means.idxmin() if claim.expects == "less" else means.idxmax()
    pairs = wide[[claim.method, rival]].dropna()
    difference = (pairs[claim.method] - pairs[rival]).to_numpy()
    return row | _paired(difference) | {"ours": f"{_spread(pairs[claim.method])} vs {_spread(pairs[rival])} ({rival})"}


def _paired(difference: np.ndarray) -> dict:
    """Return size, 95 % t interval, effect size and Wilcoxon p of paired differences, (n,) float."""
    count, mean = len(difference), float(np.mean(difference)) if len(difference) else np.nan
    result = {"difference": mean, "pairs": count}
    if count < 2:
        return result
    spread = float(np.std(difference, ddof=1))
    half = spread / np.sqrt(count) * stats.t.ppf(0.975, count - 1)
    p = stats.wilcoxon(difference).pvalue if np.any(difference) else 1.0
    return result | {
        "low": mean - half,
        "high": mean + half,
        "interval_95": f"{100 * (mean - half):+.1f} .. {100 * (mean + half):+.1f}",
        "effect_size_dz": mean / spread if spread > 0 else np.nan,
        "p": float(p),
    }


def _verdict(row: dict) -> str:
    """Return the verdict of a compared claim; the rules stand in check_claims."""
    if row["pairs"] == 0:
        return "not run"
    if row["pairs"] < MIN_PAIRS:
        return "inconclusive"
    significant = row["p_holm"] < LEVEL
    gain = row["sign"] * row["difference"]
    upper = row["high"] if row["sign"] > 0 else -row["low"]
    if row["expects"] == "no gain":
        if significant and gain > 0:
            return "not replicated"
        return "replicated" if upper < MARGIN else "inconclusive"
    if significant:
        return "replicated" if gain > 0 else "not replicated"
    return "not replicated" if upper < MARGIN else "inconclusive"


def _holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down corrected p values."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


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
    """Return mean, sd and n over seeds of every metric: columns method, metric, mean, sd, n; methods in given order."""
    metrics = [column for column in results.columns if column not in ("method", "seed", "generator_seed")]
    grouped = results.groupby("method", sort=False)[metrics]
    parts = {"mean": grouped.mean(), "sd": grouped.std(ddof=1), "n": grouped.count()}
    stacked = {name: table.stack() for name, table in parts.items()}
    return pd.DataFrame(stacked).rename_axis(["method", "metric"]).reset_index()


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


GENMIX_GENERATORS = ("dcgan", "stylegan", "textual-inversion", "diffusion")


def genmix_claims() -> list[Claim]:
    """Return the claims of GenMix on its Table 1, as checked against that table."""
    gains = [
        Claim("genmix", f"GenMix ({name}) beats {name} alone", f"genmix({name})", (name,), metric)
        for name in GENMIX_GENERATORS
        for metric in ("accuracy", "macro_f1")
    ]
    mixup = [
        Claim("genmix", "MixUp beats real images alone", "mixup", ("real",), metric)
        for metric in ("accuracy", "macro_f1")
    ]
    minor = Claim(
        "genmix",
        "MixUp favours major classes: the rarest class loses",
        "mixup",
        ("real",),
        "rarest_sensitivity",
        "less",
        printed_metric="sensitivity:hemangioma",
    )
    useless = [
        Claim("genmix", f"{name} alone does not help", name, ("real",), metric, "no gain")
        for name in ("dcgan", "textual-inversion")
        for metric in ("accuracy", "macro_f1")
    ]
    others = tuple(name for name in GENMIX_GENERATORS if name != "diffusion")
    best_alone = Claim("genmix", "Diffusion has the best F1 of the generators alone", "diffusion", others, "macro_f1")
    rivals = tuple(f"genmix({name})" for name in GENMIX_GENERATORS if name != "textual-inversion")
    best = [
        Claim("genmix", "GenMix (textual-inversion) is best", "genmix(textual-inversion)", rivals, metric)
        for metric in ("accuracy", "macro_f1")
    ]
    return [*gains, *mixup, minor, *useless, best_alone, *best]


def genmix_feature_claims() -> list[Claim]:
    """Return the claims of GenMix on its Fig. 4, which the text makes in words, as measurable statements."""
    boundary = [
        Claim("genmix", f"GenMix ({name}) lies at class boundaries more often", f"genmix({name})", (name,), "boundary")
        for name in ("stylegan", "textual-inversion", "diffusion")
    ]
    return [
        Claim(
            "genmix", "StyleGAN collapses: lower recall than diffusion", "stylegan", ("diffusion",), "recall", "less"
        ),
        Claim("genmix", "GenMix spreads StyleGAN's images: recall", "genmix(stylegan)", ("stylegan",), "recall"),
        Claim("genmix", "Textual inversion shifts the mean", "textual-inversion", ("diffusion",), "mean_shift"),
        *boundary,
    ]
