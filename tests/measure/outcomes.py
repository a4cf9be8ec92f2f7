"""Outcomes with known properties, drawn from a seed."""

from __future__ import annotations

import numpy as np

from modelyard.core.arrays import Array, Floats, Strings
from modelyard.core.metrics import Task
from modelyard.measure.outcome import Outcome


def binary(
    rows: int,
    *,
    seed: int = 0,
    share: float = 0.3,
    shift: float = 1.5,
    ties: bool = False,
    weights: Floats | None = None,
    clusters: Array | None = None,
    groups: Strings | None = None,
) -> Outcome:
    """Positives score higher by `shift` standard deviations; labels cut at one half."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < share).astype(np.int64)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + shift * y - shift / 2)))
    if ties:
        p = np.round(p, 1)
    return Outcome(
        task=Task.BINARY,
        classes=2,
        y_true=y,
        probabilities=np.column_stack([1 - p, p]),
        labels=(p >= 0.5).astype(np.int64),
        weights=weights,
        clusters=clusters,
        groups=groups,
    )


def multiclass(rows: int, classes: int, *, seed: int = 0, weights: Floats | None = None) -> Outcome:
    """Softmax scores that know the class a little."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), y] += 1.0
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    return Outcome(
        task=Task.MULTICLASS, classes=classes, y_true=y, probabilities=p, labels=p.argmax(axis=1), weights=weights
    )


def regression(rows: int, *, seed: int = 0, noise: float = 1.0, weights: Floats | None = None) -> Outcome:
    """Targets of spread 3 around 1000, predicted with an error of spread `noise`."""
    rng = np.random.default_rng(seed)
    y = 1000 + 3 * rng.normal(size=rows)
    return Outcome(task=Task.REGRESSION, y_true=y, values=y + noise * rng.normal(size=rows), weights=weights)


def answered(y_true: list[int], labels: list[int], *, groups: list[str | None] | None = None) -> Outcome:
    """A binary outcome of labels alone."""
    return Outcome(
        task=Task.BINARY,
        classes=2,
        y_true=np.array(y_true, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        groups=None if groups is None else np.array(groups, dtype=object),
    )
