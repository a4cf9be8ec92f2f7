"""Quantiles of latencies that depend on each other: one stall delays every request that falls into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.core.load import LatencyQuantile
from modelyard.core.metrics import METRICS
from modelyard.core.requirement import Observation
from modelyard.measure.exact import normal_quantile, wilson_interval

Side = Literal["left", "right"]

SHOWN = (0.5, 0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.95
GRID = 256  # candidates for an edge
CLUSTERS = 20  # parts of the measured time whose requests are taken as depending on each other


def latency_quantiles(latency_ms: Floats, cluster: Ints) -> tuple[LatencyQuantile, ...]:
    """Return p50 to p99.9 with intervals, and the largest; empty without latencies.

    Args:
        latency_ms: (n,), in any order.
        cluster: (n,), the part of the measured time in [0, CLUSTERS) of each.
    """
    if not len(latency_ms):
        return ()
    found = []
    for q in SHOWN:
        value, low, high, _ = clustered_quantile(latency_ms, cluster, q, CONFIDENCE)
        found.append(LatencyQuantile(q=q, value_ms=value, low_ms=low, high_ms=high))
    largest = float(latency_ms.max())
    return (*found, LatencyQuantile(q=1.0, value_ms=largest, low_ms=None, high_ms=None))


def clustered_quantile(
    values: Floats, cluster: Ints, q: float, confidence: float
) -> tuple[float, float | None, float | None, int]:
    """Return a quantile, its interval, and the number of independent values that the n are worth at the quantile.

    An edge is the value at which the interval of the share of requests above it just excludes 1 - q; None where no
    value does. Clusters differ more in that share than independent values would let them, and by this factor fewer
    values stand behind the interval.
    Source: Francisco and Fuller, 1991, "Quantile estimation with a complex survey design"; the design effect as in
    Kish, 1965, "Survey Sampling", section 5.4.
    """
    ordered = np.sort(values)
    count, share = len(ordered), 1 - q
    value = float(ordered[max(0, int(np.ceil(round(q * count, 9))) - 1)])
    parts = [np.sort(values[cluster == part]) for part in range(CLUSTERS)]
    middle = min(count - 1, int(np.ceil(round(share * count, 9))))
    worth = max(1, int(count / _design_effects(parts, np.array([value]), "right")[1][0]))

    few = np.unique(np.linspace(0, middle, GRID).astype(np.int64))
    above = ordered[count - 1 - few]
    high = _share_interval(parts, above, "right", confidence)[1] <= share
    fits = int(np.argmin(high)) if not high.all() else len(high)  # those before the first that does not fit

    many = np.unique(np.geomspace(max(1, middle), count - 1, GRID).astype(np.int64)) if count > 1 else few
    below = ordered[count - 1 - many][::-1]
    low = _share_interval(parts, below, "left", confidence)[0] >= share
    reach = int(np.argmin(low)) if not low.all() else len(low)
    return value, float(below[reach - 1]) if reach else None, float(above[fits - 1]) if fits else None, worth


def observe_latency(latency_ms: Floats, cluster: Ints, metric: str, q: float, confidence: float) -> Observation:
    """Return a latency metric as the judge takes it; the value is None without latencies."""
    if not len(latency_ms):
        value, low, high, worth = None, None, None, 0
    else:
        value, low, high, worth = clustered_quantile(latency_ms, cluster, q, confidence)
    return Observation(
        metric=metric,
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        samples=len(latency_ms),
        unit=METRICS[metric].unit,
        method=(
            f"from due to answered, over the whole path; distribution-free, {CLUSTERS} parts of the time taken as "
            f"clusters, {len(latency_ms)} requests worth {worth}"
        ),
    )


def _share_interval(parts: Sequence[Floats], edges: Floats, side: Side, confidence: float) -> tuple[Floats, Floats]:
    """Return the interval of the share of values above each edge ("right"), or at and above it ("left")."""
    count = sum(map(len, parts))
    hits, effects = _design_effects(parts, edges, side)
    return wilson_interval(hits / effects, count / effects, _as_of_few(confidence))


def _as_of_few(confidence: float) -> float:
    """Return the confidence at which a normal interval is as wide as Student's, the variance being that of clusters.

    Source: Abramowitz and Stegun, 1964, 26.7.5, its first term.
    """
    z = normal_quantile(confidence)
    return math.erf((z + (z**3 + z) / (4 * (CLUSTERS - 1))) / math.sqrt(2))


def _design_effects(parts: Sequence[Floats], edges: Floats, side: Side) -> tuple[Floats, Floats]:
    """Return how many values are above each edge, and by what factor the variance of their share exceeds that of
    independent values; at least 1."""
    used = [part for part in parts if len(part)]
    sizes = np.array([len(part) for part in used], dtype=np.float64)[:, None]
    hits = np.array([len(part) - np.searchsorted(part, edges, side=side) for part in used], dtype=np.float64)
    total, count = hits.sum(axis=0), float(sizes.sum())
    effects = np.ones(len(edges))
    if len(used) > 1:
        share = total / count
        between = len(used) / (len(used) - 1) * ((hits - share * sizes) ** 2).sum(axis=0)
        alone = count * share * (1 - share)
        np.divide(between, alone, out=effects, where=alone > 0)
    return total, np.maximum(1.0, effects)
