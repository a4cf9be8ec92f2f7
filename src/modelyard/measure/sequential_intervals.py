"""Intervals that hold while one watches: all of them together cover with the confidence asked.

An interval of a fixed sample is wrong once in twenty looks; of these, the whole sequence over all
looks is wrong once in twenty experiments. They are for pages and reports. Verdicts come from the
tests beside this file, which know what is allowed and need fewer rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from modelyard.errors import UsageError
from modelyard.measure.sequential_means import LEAST_ROWS, Sums
from modelyard.measure.sequential_rates import Counts

TUNED_FOR = 500  # rows at which the intervals of means are tightest
LEAST_OUTCOMES = 20  # hits and misses of either release, for the normal interval of a difference
_HALVINGS = 60


class Interval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a number lies; an edge of None is unbounded. `method` says how it was found."""

    low: float | None
    high: float | None
    method: str


def rate_interval(counts: Counts, *, confidence: float) -> Interval:
    """Return where a share lies. Exact for hits, and too wide for sums of values in [0, 1].

    Raises: UsageError for a confidence outside (0, 1).
    Source: Robbins, 1970, "Statistical methods related to the law of the iterated logarithm",
        with a Beta(1/2, 1/2) mixture.

    >>> found = rate_interval(Counts(trials=1000, hits=30), confidence=0.95)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0143, 0.054)
    """
    _check_confidence(confidence)
    method = f"always valid, beta mixture, {counts.hits:g} of {counts.trials} rows"
    if counts.trials == 0:
        return Interval(low=0.0, high=1.0, method=method)
    misses = counts.trials - counts.hits
    mixture = _log_beta(counts.hits + 0.5, misses + 0.5) - _log_beta(0.5, 0.5)
    least = mixture + math.log(1 - confidence)  # shares whose log-likelihood is below it are refuted

    def is_kept(share: float) -> bool:
        return _log_power(share, counts.hits) + _log_power(1 - share, misses) > least

    middle = counts.hits / counts.trials
    low = 0.0 if counts.hits == 0 else 1 - _reach(lambda share: is_kept(1 - share), 1 - middle)
    high = 1.0 if misses == 0 else _reach(is_kept, middle)
    return Interval(low=low, high=high, method=method)


def mean_interval(sums: Sums, *, confidence: float) -> Interval:
    """Return where a mean lies: asymptotic, for numbers of finite variance.

    Raises: UsageError for a confidence outside (0, 1).
    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, 2024, "Time-uniform central limit
        theory and asymptotic confidence sequences", theorem 2.2.
    """
    _check_confidence(confidence)
    if sums.count < LEAST_ROWS:
        return _unknown(sums.count)
    half = _half_width(sums.count, math.sqrt(sums.variance), confidence)
    return _around(sums.mean, half, f"{sums.count} rows")


def difference_of_means(candidate: Sums, stable: Sums, *, confidence: float) -> Interval:
    """Return where the candidate's mean less the stable release's lies, as `mean_interval`."""
    _check_confidence(confidence)
    if min(candidate.count, stable.count) < LEAST_ROWS:
        return _unknown(min(candidate.count, stable.count))
    rows = candidate.count * stable.count / (candidate.count + stable.count)
    variance = candidate.variance / candidate.count + stable.variance / stable.count
    half = _half_width(rows, math.sqrt(variance * rows), confidence)
    return _around(candidate.mean - stable.mean, half, f"{candidate.count} and {stable.count} rows")


def difference_of_rates(candidate: Counts, stable: Counts, *, confidence: float) -> Interval:
    """Return where the candidate's share less the stable release's lies.

    With few outcomes of a kind it is what two exact intervals allow, each with half the doubt, and
    wider than need be; with more the normal interval.
    """
    _check_confidence(confidence)
    fewest = min(min(counts.hits, counts.trials - counts.hits) for counts in (candidate, stable))
    if fewest < LEAST_OUTCOMES:
        ours, theirs = (rate_interval(counts, confidence=(1 + confidence) / 2) for counts in (candidate, stable))
        low, high = _less(ours.low, theirs.high), _less(ours.high, theirs.low)
        return Interval(low=low, high=high, method="always valid, two beta mixtures, each with half the doubt")
    return difference_of_means(_as_sums(candidate), _as_sums(stable), confidence=confidence)


def _less(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _as_sums(counts: Counts) -> Sums:
    return Sums(count=counts.trials, total=counts.hits, squares=counts.hits)


def _half_width(rows: float, spread: float, confidence: float) -> float:
    doubt = 1 - confidence
    doubled = -2 * math.log(doubt)
    tuning = (doubled + math.log(doubled + 1)) / TUNED_FOR
    grown = rows * tuning + 1
    return spread * math.sqrt(2 * grown / (rows * rows * tuning) * math.log(math.sqrt(grown) / doubt))


def _around(middle: float, half: float, counted: str) -> Interval:
    return Interval(low=middle - half, high=middle + half, method=f"always valid, normal mixture, {counted}")


def _unknown(rows: int) -> Interval:
    return Interval(low=None, high=None, method=f"no interval: {rows} rows of a release, wanted {LEAST_ROWS}")


def _reach(is_kept: Callable[[float], bool], start: float) -> float:
    """Return the highest share that is kept, above one that is."""
    low, high = start, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return high


def _log_power(base: float, exponent: float) -> float:
    if exponent == 0:
        return 0.0
    return exponent * math.log(base) if base > 0 else -math.inf


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"A confidence is {confidence}: a number between 0 and 1 is wanted, such as 0.95.")
