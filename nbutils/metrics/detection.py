"""Detection of fakes: how often an image is called fake, and what that tells; counts in, numbers out."""

from scipy import stats


def exact_interval(count: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % binomial interval (Clopper and Pearson 1934) of a share count / n, 0..1.

    Raises ValueError unless 0 <= count <= n and n is at least 1.
    """
    found = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def d_prime(hits: int, fakes: int, false_alarms: int, reals: int) -> float:
    """Return how far fakes stand from real images for a reader, in standard deviations of his impression; 0 = chance.

    hits: of `fakes` fake images so many were called fake. false_alarms: of `reals` real ones so many were.
    Shares of 0 and 1 are kept finite by the log-linear correction (Hautus 1995): half an answer more among one image
    more, on both sides, whatever the shares are.
    """
    rates = ((hits + 0.5) / (fakes + 1), (false_alarms + 0.5) / (reals + 1))
    return float(stats.norm.ppf(rates[0]) - stats.norm.ppf(rates[1]))
