"""The aspects of synthetic images beside each other: does fidelity go with utility, and which generator has what?"""

from collections.abc import Mapping, Sequence

import pandas as pd

from nbutils.metrics.utility import rank_correlation
from nbutils.verdicts import LEVEL, holm

UTILITIES = ("augmentation", "extraction")
"""Columns: accuracy gained over real images by adding synthetic ones, and by learning features from them alone."""

ASPECTS = ("fidelity", "variety", "utility", "efficiency")
"""The columns of ticks in Fig. 1 of the utility paper."""

CLOSE, VARIOUS, EFFICIENT = 1.5, 1.5, 10.0
"""Up to so many times the best distance, the real images' mean-image size, and the best time and memory is good."""


def rank_correlations(
    table: pd.DataFrame, qualities: Sequence[str], utilities: Sequence[str] = UTILITIES
) -> pd.DataFrame:
    """Return Spearman's rank correlation of every quality with every utility over the generators of one data set.

    table: one row per source, with the columns named; leave real images out. Columns: quality, utility, rho, n, p (by
    permutation), p_holm (corrected over the table). With few generators no correlation can be significant: what the
    paper reads from three rows is no evidence against one.
    """
    rows = [
        {"quality": quality, "utility": utility, **rank_correlation(table[quality], table[utility])._asdict()}
        for quality in qualities
        for utility in utilities
    ]
    found = pd.DataFrame(rows, columns=["quality", "utility", "rho", "n", "p"])
    return found.assign(p_holm=holm(found["p"]))


LESS_IS_BETTER = ("fir", "fd_", "kd_", "c2st_", "mean_image_kb")
"""How the names of qualities begin of which less is better: more bytes of a mean image are less variety."""

NO_TREND = "no trend"


def correlations_by_seed(
    results: pd.DataFrame, table: pd.DataFrame, qualities: Sequence[str], utilities: Sequence[str] = UTILITIES
) -> pd.DataFrame:
    """Return for each classifier seed how well the ranks of the sources in a quality and in a utility agree.

    results: one row per method and seed, with generator_seed and the utilities. table: one row per source and
    generator_seed, with the qualities; methods that are none of its sources are left out. Columns: method, "<quality>
    (<utility>)", or NO_TREND, whose correlation is 0; seed; generator_seed; rank_correlation (Spearman's over the
    sources, positive if the better ones have more utility; NaN for fewer than three).
    """
    both = results.merge(table, left_on=["method", "generator_seed"], right_on=["source", "generator_seed"])
    rows = []
    for (seed, generator), group in both.groupby(["seed", "generator_seed"]):
        behind = {"seed": seed, "generator_seed": generator}
        rows.append({"method": NO_TREND, **behind, "rank_correlation": 0.0})
        for quality in qualities:
            sign = -1 if quality.startswith(LESS_IS_BETTER) else 1
            for utility in utilities:
                rho = rank_correlation(sign * group[quality], group[utility]).rho
                rows.append({"method": f"{quality} ({utility})", **behind, "rank_correlation": rho})
    return pd.DataFrame(rows)


def ticks(tables: Mapping[str, pd.DataFrame], real: str = "real") -> pd.DataFrame:
    """Return which generator is good at which of ASPECTS, True or False, one row per generator: Fig. 1 as a rule.

    tables: data set -> one row per source, indexed by its name, `real` among them, with the columns distance (Fréchet,
    to test images), mean_image_kb, augmentation (accuracy gained, fraction), p (of no gain), seconds_per_1000 and
    peak_memory (any unit).

    fidelity: on every data set the distance is at most CLOSE times that of the closest generator.
    variety: on every data set the mean image takes at most VARIOUS times the bytes of real images'.
    utility: appended, the images raise accuracy significantly (p < LEVEL) on one data set at least, and lower it so on
        none.
    efficiency: on every data set, time and memory are at most EFFICIENT times the least of all generators.

    Xing et al. set their ticks by eye. Applied to their Tables I and II this rule gives their Fig. 1; the factors were
    chosen for that, and are applied to our numbers as they are.
    """
    judged = [_judged(table, real) for table in tables.values()]
    every = pd.concat(judged, keys=range(len(judged))).groupby(level=1, sort=False)
    good = every[["fidelity", "variety", "efficiency"]].all()
    return good.assign(utility=every["gains"].any() & ~every["loses"].any())[list(ASPECTS)]


def _judged(table: pd.DataFrame, real: str) -> pd.DataFrame:
    """Return the verdicts on each generator of one data set."""
    made = table.drop(index=real)
    costs = made[["seconds_per_1000", "peak_memory"]]
    significant = made["p"] < LEVEL
    return pd.DataFrame(
        {
            "fidelity": made["distance"] <= CLOSE * made["distance"].min(),
            "variety": made["mean_image_kb"] <= VARIOUS * table.loc[real, "mean_image_kb"],
            "efficiency": (costs <= EFFICIENT * costs.min()).all(axis=1),
            "gains": significant & (made["augmentation"] > 0),
            "loses": significant & (made["augmentation"] < 0),
        }
    )
