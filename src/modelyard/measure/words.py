"""Observed numbers in the words of a sentence."""

from __future__ import annotations

import math

from modelyard.core.metrics import METRICS, Needs
from modelyard.core.requirement import Observation

_MOST_DECIMALS = 9


def observed_words(observation: Observation, bound: float | None) -> str:
    """Return `NAME is VALUE (95 % interval LOW to HIGH, N rows)`.

    Enough digits are shown that each number stays on its side of `bound`.
    """
    where = f" of {observation.slice}" if observation.slice else ""
    where += f" by {observation.group}" if observation.group else ""
    value = number_words(observation, observation.value, bound)
    metric = METRICS.get(observation.metric)
    if metric is not None and metric.needs is Needs.BODY and observation.low == observation.high:
        return f"{observation.metric} is {value}"
    inside = interval_words(observation, bound).strip(" ()")
    counted = _count_words(observation)
    return f"{observation.metric}{where} is {value} ({', '.join(part for part in (inside, counted) if part)})"


def interval_words(observation: Observation, bound: float | None) -> str:
    """Return ` (95 % interval LOW to HIGH)`, empty where there is none or it has no width."""
    low, high = observation.low, observation.high
    if low == high:
        return ""
    left = "unbounded" if low is None else number_words(observation, low, bound, unit=False)
    right = "unbounded" if high is None else number_words(observation, high, bound, unit=False)
    return f" ({100 * observation.confidence:g} % interval {left} to {right})"


def number_words(observation: Observation, number: float | None, bound: float | None, *, unit: bool = True) -> str:
    """Return a number with the digits its neighbours in the sentence need, and its unit."""
    if number is None:
        return "unknown"
    tail = f" {observation.unit}" if unit and observation.unit in ("ms", "MB", "rows/s", "nats") else ""
    return f"{number:,.{_decimals(observation, bound)}f}".replace(",", " ") + tail


def _decimals(observation: Observation, bound: float | None) -> int:
    """Return how many decimals keep three digits and every number on its side of the bound."""
    numbers = [each for each in (observation.value, observation.low, observation.high) if each is not None]
    finite = [abs(each) for each in [*numbers, bound or 0.0] if math.isfinite(each)]
    largest = max(finite, default=0.0)
    decimals = 3 if largest == 0 else max(0, 2 - math.floor(math.log10(largest)))
    decimals = min(decimals, _MOST_DECIMALS)
    while bound is not None and decimals < _MOST_DECIMALS and not _keeps_sides(numbers, bound, decimals):
        decimals += 1
    return decimals


def _keeps_sides(numbers: list[float], bound: float, decimals: int) -> bool:
    rounded = round(bound, decimals)
    return all((number < bound, number > bound) == _sides(round(number, decimals), rounded) for number in numbers)


def _sides(number: float, bound: float) -> tuple[bool, bool]:
    return number < bound, number > bound


def _count_words(observation: Observation) -> str:
    """Return `16 281 rows`, in the words of what was counted."""
    metric = METRICS.get(observation.metric)
    count = f"{observation.samples:,}".replace(",", " ")
    if metric is not None and metric.needs is Needs.TIMING:
        return f"{count} timings"
    if metric is not None and metric.needs is Needs.SERVICE:
        return f"{count} requests"
    if metric is not None and metric.needs is Needs.GROUPS:
        return f"{count} rows in the smallest group"
    return f"{count} row{'' if observation.samples == 1 else 's'}"
