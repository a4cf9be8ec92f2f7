"""Intervals that hold for any sample size, from the binomial distribution."""

from __future__ import annotations

import numpy as np
from scipy import special

from modelyard.core.arrays import Floats, Ints


def proportion_interval(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return an interval for a share that covers it at least with the confidence asked.

    Args:
        hits: of `trials` independent rows; `trials` at least 1.
        confidence: two-sided, in (0, 1).
    Source: Clopper and Pearson, 1934, "The use of confidence or fiducial limits".

    >>> low, high = proportion_interval(10, 10, 0.95)
    >>> round(low, 3), high
    (0.692, 1.0)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(special.betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def wilson_interval(hits: Floats, trials: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return Wilson's score interval for shares, vectorised; hits may be fractional.

    Source: Wilson, 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = normal_quantile(confidence)
    share = hits / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def normal_quantile(confidence: float) -> float:
    """Return how many standard errors a two-sided interval reaches.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return float(special.ndtri((1 + confidence) / 2))


def never_seen(units: float, confidence: float) -> float:
    """Return the largest share of an event that `units` rows without one cannot exclude.

    >>> round(never_seen(300, 0.90), 4)
    0.0099
    """
    tail = (1 - confidence) / 2
    return float(1 - tail ** (1 / units)) if units > 0 else 1.0


def quantile_ranks(samples: int, q: float, confidence: float) -> tuple[int | None, int | None]:
    """Return the ranks (from 1) whose samples bound the quantile q, None where no sample does.

    Each tail is missed with at most half of 1 - confidence, whatever the distribution.
    Source: David and Nagaraja, 2003, "Order Statistics", section 7.1.

    >>> quantile_ranks(100, 0.5, 0.95)
    (40, 61)
    >>> quantile_ranks(100, 0.99, 0.95)
    (97, None)
    """
    tail = (1 - confidence) / 2
    reach = int(12 * np.sqrt(samples * q * (1 - q)) + 60)
    middle = int(samples * q)
    counts: Ints = np.arange(max(0, middle - reach), min(samples, middle + reach) + 1)
    below = np.asarray(special.bdtr(counts, samples, q))  # P(at most that many samples are below the quantile)
    is_low = below <= tail
    low = int(counts[is_low][-1]) + 1 if is_low.any() else None
    is_high = below >= 1 - tail
    high = int(counts[is_high][0]) + 1 if is_high.any() else samples + 1
    return low, high if high <= samples else None
