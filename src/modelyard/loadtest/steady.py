"""Whether what was measured had settled: pure rules over the windows of the measured time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from modelyard.core.load import Arrivals, LoadPlan, LoadWindow

LEAST_WINDOWS = 6
TREND_Z = 2.576  # standard errors; a trend that chance shows in 1 of 100
DRIFT = 0.25  # of the middle window's latency, between the first and the last third
DRIFT_MS = 0.2  # smaller drifts are nobody's concern
SWING = 0.5  # quarter to quarter, of the middle window
BEHIND = 0.98  # share of what was due that was answered by the end


def unsettled(plan: LoadPlan, windows: Sequence[LoadWindow], in_time: int) -> tuple[bool, tuple[str, ...]]:
    """Return whether it grew worse to the end, and every reason why it cannot be taken as steady, in words.

    `in_time` is the number of requests that ended, well or not, within the measured time.
    """
    reasons: list[str] = []
    due = sum(window.due for window in windows)
    medians = [window.p50_ms for window in windows if window.p50_ms is not None]
    rising = plan.arrivals is not Arrivals.CLOSED and due - in_time > _in_flight(plan, due, medians)
    if rising:
        reasons.append(f"answers fell behind: {in_time} of {due} requests that were due had ended by the end")
    if len(medians) < LEAST_WINDOWS:
        return rising, (*reasons, f"only {len(medians)} windows have answers: too few to see whether it had settled")
    values = np.array(medians)
    middle, third = float(np.median(values)), len(values) // 3
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    z = trend(values.tolist())
    if abs(z) > TREND_Z and abs(last - first) > max(DRIFT_MS, DRIFT * middle):
        rising |= last > first
        word = "rose" if last > first else "fell"
        reasons.append(f"latency {word}: p50 by window from {first:.2f} to {last:.2f} ms")
    elif (swing := float(np.subtract(*np.quantile(values, (0.75, 0.25))))) > max(DRIFT_MS, SWING * middle):
        reasons.append(f"latency swung: p50 by window {values.min():.2f} to {values.max():.2f} ms, {swing:.2f} apart")
    answered = np.array([window.answered for window in windows], dtype=np.float64)
    if plan.arrivals is Arrivals.CLOSED:
        middle = float(np.median(answered))
        if float(np.subtract(*np.quantile(answered, (0.75, 0.25)))) > SWING / 2 * middle:
            reasons.append(f"throughput swung: {answered.min():.0f} to {answered.max():.0f} answers a window")
    return rising, tuple(reasons)


def trend(values: Sequence[float]) -> float:
    """Return how many standard errors a trend stands away from none; above 0 it rises.

    Source: Mann, 1945, "Nonparametric tests against trend"; Kendall, 1975, "Rank Correlation Methods".

    >>> round(trend([1, 2, 3, 4, 5, 6, 7, 8]), 2)
    3.34
    """
    count = len(values)
    score = sum((later > earlier) - (later < earlier) for earlier, later in itertools.combinations(values, 2))
    spread = (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
    return 0.0 if not score else (score - (1 if score > 0 else -1)) / spread


def _in_flight(plan: LoadPlan, due: int, medians_ms: Sequence[float]) -> float:
    """Return how many requests may be open at the end: a small share, or those of three usual latencies."""
    usual_s = min(medians_ms, default=0.0) / 1000
    return max(1.0, (1 - BEHIND) * due, 3 * usual_s * (plan.rate or 0.0))
