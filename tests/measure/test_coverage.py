"""Intervals hold the truth as often as they say, by simulation with fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from modelyard.core.metrics import Task
from modelyard.core.requirement import Observation
from modelyard.measure.intervals import observe, paired_difference
from modelyard.measure.latency import observe_quantile
from modelyard.measure.outcome import Outcome
from modelyard.measure.scores import score
from tests.measure.outcomes import answered, binary, multiclass, regression

TIMES = 250
AT_LEAST = 0.95 - 3 * np.sqrt(0.95 * 0.05 / TIMES) - 0.01  # three errors of the simulation, one point for the bootstrap


def _coverage(draw: Callable[[int], Observation], truth: float) -> float:
    held = 0
    for seed in range(TIMES):
        seen = draw(seed)
        low = -np.inf if seen.low is None else seen.low
        high = np.inf if seen.high is None else seen.high
        held += low <= truth <= high
    return held / TIMES


def _observe(name: str, outcome: Outcome, seed: int) -> Observation:
    return observe(name, outcome, confidence=0.95, rng=np.random.default_rng(10_000 + seed), resamples=300)


@pytest.mark.parametrize(
    "name", ["roc_auc", "average_precision", "log_loss", "brier_loss", "f1", "balanced_accuracy", "recall"]
)
def test_binary_intervals_cover(name: str) -> None:
    truth = score(name, binary(500_000, seed=99))
    assert truth is not None
    assert _coverage(lambda seed: _observe(name, binary(250, seed=seed), seed), truth) >= AT_LEAST


def test_the_auc_interval_agrees_with_theory() -> None:
    truth = float(stats.norm.cdf(1.5 / np.sqrt(2)))
    assert _coverage(lambda seed: _observe("roc_auc", binary(250, seed=seed), seed), truth) >= AT_LEAST


@pytest.mark.parametrize("name", ["r2", "rmse", "median_absolute_error"])
def test_regression_intervals_cover(name: str) -> None:
    truth = {"r2": 1 - 1 / 9, "rmse": 1.0, "median_absolute_error": float(stats.norm.ppf(0.75))}[name]
    assert _coverage(lambda seed: _observe(name, regression(250, seed=seed), seed), truth) >= AT_LEAST


@pytest.mark.parametrize("name", ["f1", "recall", "precision", "roc_auc"])
def test_multiclass_intervals_cover(name: str) -> None:
    truth = score(name, multiclass(400_000, 6, seed=99))
    assert truth is not None
    assert _coverage(lambda seed: _observe(name, multiclass(300, 6, seed=seed), seed), truth) >= AT_LEAST


def _near_perfect(seed: int, name: str) -> Observation:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 120)
    wrong = rng.random(120) < 0.02
    return _observe(name, answered(list(y), list(np.where(wrong, 1 - y, y))), seed)


@pytest.mark.parametrize("name", ["accuracy", "f1", "balanced_accuracy"])
def test_intervals_cover_near_the_edge(name: str) -> None:
    assert _coverage(lambda seed: _near_perfect(seed, name), 0.98) >= AT_LEAST


@pytest.mark.parametrize("stretch", [1.0, 2.0])
def test_calibration_error_intervals_cover(stretch: float) -> None:
    def draw(rows: int, seed: int) -> Outcome:
        rng = np.random.default_rng(seed)
        z = rng.normal(size=rows)
        y = (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(np.int64)
        p = 1 / (1 + np.exp(-stretch * z))
        return Outcome(task=Task.BINARY, classes=2, y_true=y, probabilities=np.column_stack([1 - p, p]))

    truth = 0.0 if stretch == 1.0 else score("calibration_error", draw(500_000, 1))
    assert truth is not None
    assert _coverage(lambda seed: _observe("calibration_error", draw(400, seed), seed), truth) >= AT_LEAST


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_gaps_between_groups_cover(gap: float) -> None:
    def draw(seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        groups = rng.choice(np.array(["a", "b", "c"], dtype=object), 400)
        rates = np.where(groups == "a", 0.3 + gap, 0.3)
        labels = (rng.random(400) < rates).astype(np.int64)
        outcome = Outcome(task=Task.BINARY, classes=2, y_true=labels, labels=labels, groups=groups)
        return _observe("demographic_parity_difference", outcome, seed)

    assert _coverage(draw, gap) >= AT_LEAST


def test_weighted_clusters_cover() -> None:
    def draw(seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        rates = rng.beta(8, 2, 60)  # each cluster has an accuracy of its own, 0.8 in the mean
        clusters = np.repeat(np.arange(60), 8)
        right = rng.random(480) < rates[clusters]
        y = rng.integers(0, 2, 480)
        outcome = Outcome(
            task=Task.BINARY,
            classes=2,
            y_true=y,
            labels=np.where(right, y, 1 - y),
            clusters=clusters,
            weights=rng.uniform(0.5, 1.5, 480),
        )
        return _observe("accuracy", outcome, seed)

    assert _coverage(draw, 0.8) >= AT_LEAST


def test_paired_differences_cover() -> None:
    def draw(seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        y = rng.normal(size=200)
        shared = rng.normal(size=200)
        a = Outcome(task=Task.REGRESSION, y_true=y, values=y + shared)
        b = Outcome(task=Task.REGRESSION, y_true=y, values=y + 1.2 * shared + 0.2 * rng.normal(size=200))
        return paired_difference("rmse", a, b, confidence=0.95, rng=rng, resamples=300)

    assert _coverage(draw, 1.0 - float(np.sqrt(1.44 + 0.04))) >= AT_LEAST


@pytest.mark.parametrize(("q", "rows"), [(0.5, 25), (0.95, 200), (0.99, 200)])
def test_latency_quantiles_cover(q: float, rows: int) -> None:
    truth = float(stats.lognorm.ppf(q, 0.8))

    def draw(seed: int) -> Observation:
        return observe_quantile(stats.lognorm.rvs(0.8, size=rows, random_state=seed), q, 0.95, "latency_p95_ms")

    assert _coverage(draw, truth) >= AT_LEAST
