"""Curves and counts of simulated answers, drawn from fixed seeds."""

from __future__ import annotations

import numpy as np

from modelyard.core.arrays import Bools, Floats, Ints
from modelyard.core.contract import Histogram
from modelyard.core.evidence import Curve
from modelyard.core.requirement import Observation
from tests.release.tables import observation

TIMED = "2000 single rows through the packed bundle, order-statistic interval"


def latency_curve(p50: float = 0.031) -> Curve:
    rng = np.random.default_rng(11)
    taken = np.sort(p50 * np.exp(np.abs(rng.normal(0, 0.12, 2000)) + 0.4 * (rng.random(2000) < 0.03)))
    kept = np.linspace(0, 1999, 200).astype(int)
    return Curve(
        name="latency", series="one row", x=tuple(map(float, taken[kept])), y=tuple(((kept + 1) / 2000).tolist())
    )


def binary_scores(rows: int = 16_281) -> tuple[Floats, Ints]:
    """Return calibrated probabilities and the labels drawn from them."""
    rng = np.random.default_rng(1)
    probs = 1 / (1 + np.exp(-(rng.normal(-2.4, 2.9, rows))))
    return probs, (rng.random(rows) < probs).astype(np.int64)


def rates(probs: Floats, positive: Bools) -> tuple[Floats, Floats, Floats]:
    """Return false positive rate, recall and precision at 200 thresholds, from strict to lax."""
    cuts = np.quantile(probs, np.linspace(1, 0, 200))
    called = probs[None, :] >= cuts[:, None]
    hits, alarms = (called & positive).sum(1), (called & ~positive).sum(1)
    return alarms / max(1, (~positive).sum()), hits / max(1, positive.sum()), hits / np.maximum(1, hits + alarms)


def histogram(values: Floats, low: float, high: float) -> Histogram:
    counts, edges = np.histogram(values, bins=30, range=(low, high))
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def curve(name: str, x: Floats, y: Floats, *, series: str = "", weight: Floats | None = None) -> Curve:
    return Curve(
        name=name,
        series=series,
        x=tuple(map(float, x)),
        y=tuple(map(float, y)),
        weight=() if weight is None else tuple(map(float, weight)),
    )


def calibration(probs: Floats, positive: Bools) -> tuple[Curve, ...]:
    parts = np.array_split(np.argsort(probs), 15)
    stated = np.array([probs[rows].mean() for rows in parts])
    share = np.array([positive[rows].mean() for rows in parts])
    weight = np.array([float(len(rows)) for rows in parts])
    half = 1.96 * np.sqrt((share * (1 - share) + 0.25 / weight) / weight)
    return (
        curve("calibration", stated, share, weight=weight),
        curve("calibration", stated, np.maximum(0, share - half), series="low", weight=weight),
        curve("calibration", stated, np.minimum(1, share + half), series="high", weight=weight),
    )


def residual_lines(predicted: Floats, residual: Floats) -> tuple[Curve, ...]:
    parts = np.array_split(np.argsort(predicted), 12)
    x = np.array([predicted[rows].mean() for rows in parts])
    shares = (("p05", 0.05), ("median", 0.5), ("p95", 0.95))
    return tuple(
        curve("residuals", x, np.array([np.quantile(residual[r], q) for r in parts]), series=n) for n, q in shares
    )


def timing() -> tuple[Observation, ...]:
    return (
        observation("latency_p50_ms", 0.0334, 0.0004, samples=2000, unit="ms", method=TIMED),
        observation("latency_p95_ms", 0.0412, 0.0011, samples=2000, unit="ms", method=TIMED),
        observation("latency_p99_ms", 0.0587, 0.0042, samples=2000, unit="ms", method=TIMED),
        observation(
            "throughput_rows_per_s",
            181_400,
            4_100,
            samples=50,
            unit="rows/s",
            method="50 batches of 4096 rows, one thread",
        ),
        observation(
            "cost_per_thousand", 0.0000011, 0.0, samples=2000, unit="currency", method="CPU seconds times the price"
        ),
        observation("size_mb", 1.942113, 0.0, samples=1, unit="MB", method="bytes of the body"),
    )
