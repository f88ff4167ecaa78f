"""From paired differences to a verdict: the statistics behind a claims table; numbers in, numbers and words out."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

MARGIN = 0.01
"""The smallest difference (a fraction: one percentage point) that is called an effect, where a claim has no other."""

LEVEL = 0.05
"""Significance level, after Holm's correction over the claims of a table."""

MIN_PAIRS = 6
"""Fewer pairs decide nothing: with five, Wilcoxon's signed-rank test cannot reach LEVEL."""


def paired(
    difference: np.ndarray, generators: np.ndarray, sign: float = 1.0, margin: float = MARGIN
) -> dict[str, float]:
    """Return the statistics of paired differences, (n,) float fractions.

    generators: (n,) the generator seed behind each pair. sign: 1 or -1, the claimed direction.

    pairs: n. difference: their mean. low, high: its 95 % t interval. effect_size_dz: mean over sd (infinite where all
    pairs differ alike). p: of no difference, two-sided. p_excluded: one-sided t test that the mean, in the claimed
    direction, stays below the margin.

    Pairs that share a generator are not independent. Where the generators' means differ by more than their pairs do
    (analysis of variance, as a mixed model would find it), intervals and tests are those of the generators' means;
    else they are those of the pairs, and p is Wilcoxon's signed-rank test. p and p_excluded are NaN for fewer than
    MIN_PAIRS pairs, p_excluded also where all pairs differ alike, all but the first two for fewer than two pairs.
    """
    count, mean = len(difference), float(np.mean(difference)) if len(difference) else np.nan
    result = dict.fromkeys(("low", "high", "effect_size_dz", "p", "p_excluded"), np.nan)
    result |= {"pairs": count, "difference": mean}
    if count < 2:
        return result
    error, freedom = _standard_error(difference, generators)
    half, spread = error * stats.t.ppf(0.975, freedom), float(np.std(difference, ddof=1))
    with np.errstate(divide="ignore"):
        result |= {"effect_size_dz": float(np.divide(mean, spread)) if mean else 0.0}
    result |= {"low": mean - half, "high": mean + half}
    if count < MIN_PAIRS:
        return result
    if error > 0:
        result["p_excluded"] = float(stats.t.cdf((sign * mean - margin) / error, freedom))
    if freedom == count - 1:
        return result | {"p": float(stats.wilcoxon(difference).pvalue) if np.any(difference) else 1.0}
    return result | {"p": float(2 * stats.t.sf(abs(mean) / error, freedom))}


def _standard_error(difference: np.ndarray, generators: np.ndarray) -> tuple[float, int]:
    """Return the standard error of the mean of paired differences, and its degrees of freedom; see `paired`."""
    count, mean = len(difference), difference.mean()
    groups = [difference[generators == generator] for generator in np.unique(generators)]
    if 1 < len(groups) < count:
        between = sum(len(group) * (group.mean() - mean) ** 2 for group in groups) / (len(groups) - 1)
        within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (count - len(groups))
        if between > within:
            return float(np.sqrt(between / count)), len(groups) - 1
    return float(np.std(difference, ddof=1) / np.sqrt(count)), count - 1


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down corrected p values; NaN, a test that was not made, stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    made = np.flatnonzero(np.isfinite(p))
    order = made[np.argsort(p[made], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def verdict(
    *, expects: str, gain: float, p_holm: float, p_excluded_holm: float, unanimous: bool = True, complete: bool = True
) -> str:
    """Return "replicated", "not replicated" or "inconclusive".

    expects: "no gain", or anything else for a gain. gain: the mean difference in the claimed direction. p_holm: of the
    difference; p_excluded_holm: of there being no effect in the claimed direction. unanimous: the differences behind
    every generator seed have the sign of their mean; where they do not, a significant difference may be the accident
    of one generator, and decides nothing. complete: all rivals of the claim ran; else it cannot be replicated.
    """
    significant = p_holm < LEVEL and unanimous
    excluded = p_excluded_holm < LEVEL
    if expects == "no gain":
        found = "replicated" if excluded else "not replicated" if significant and gain > 0 else "inconclusive"
    elif significant and gain > 0:
        found = "replicated"
    else:
        found = "not replicated" if excluded or (significant and gain < 0) else "inconclusive"
    return found if complete or found != "replicated" else "inconclusive"
