"""Metrics of answers, each with an interval and the method in words.

Exact where the metric is a share of independent unweighted rows (accuracy; precision and recall of
two classes) or a median; otherwise the percentile bootstrap of rows, or of whole clusters. Nothing
is stratified. Three cases get more than the plain percentiles:

- Counts get half a row of doubt in each cell (Jeffreys), so that a cell that was empty by luck does
  not make the interval too narrow; see `statistic.Additive`.
- Gaps (calibration, fairness) are pulled upwards by noise. Their lower edge is the value less the
  gap that noise alone makes (the triangle inequality), at least 0; their upper edge is the
  percentile, which errs to the wide side.
- A metric at its very end (every positive above every negative; no loss at all) never varies when
  its rows are drawn again. Its other edge is what that many rows cannot exclude.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelyard.core.arrays import Floats
from modelyard.core.requirement import Observation, Slice
from modelyard.errors import DataError
from modelyard.measure.exact import never_seen, proportion_interval, quantile_ranks
from modelyard.measure.fairness import smallest_group
from modelyard.measure.outcome import Outcome
from modelyard.measure.probability import SMALLEST
from modelyard.measure.resample import resampled
from modelyard.measure.scores import find, score, statistic, why_undefined
from modelyard.measure.statistic import Additive, Statistic, only

LEAST_UNITS = 10  # rows, clusters or rows of the rarer class: a bootstrap of fewer says too little
_LEAST_DEFINED = 0.9  # share of resamples in which the metric must be defined
_NO_LOSS = 1e-9

Edges = tuple[float | None, float | None]


def observe(
    metric_name: str,
    outcome: Outcome,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = 1000,
    slice: Slice | None = None,
    group: str | None = None,
) -> Observation:
    """Return one metric of an outcome with its interval; see `observe_all`."""
    names = (metric_name,)
    return observe_all(names, outcome, confidence=confidence, rng=rng, resamples=resamples, slice=slice, group=group)[0]


def observe_all(
    metric_names: Sequence[str],
    outcome: Outcome,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = 1000,
    slice: Slice | None = None,
    group: str | None = None,
) -> tuple[Observation, ...]:
    """Return metrics of one outcome with their intervals, from one set of draws.

    Args:
        outcome: the rows to measure; of a slice, the slice's rows only.
        confidence: two-sided.
        slice, group: names written on the observations; no rows are chosen by them.
    Returns: one observation a name, in order. `samples` counts the rows behind the number: the
        positives for recall and the answers "positive" for precision of two classes, the smallest
        group's rows for fairness, all rows otherwise. Value None where the metric is undefined,
        edges None where the rows are too few for an interval; `method` says why.
    Raises: as `scores.score`.
    """
    measured = [_measured(name, outcome, confidence) for name in metric_names]
    waiting = [each for each in measured if not each.method]
    draws = iter(resampled([each.statistic for each in waiting], outcome, rng, resamples))
    concluded = [
        each if each.method or each.value is None else _concluded(each.value, each, next(draws), outcome, confidence)
        for each in measured
    ]
    return tuple(
        _observation(each.name, outcome, each.value, each.edges, each.method, confidence, slice, group)
        for each in concluded
    )


def paired_difference(
    metric_name: str,
    a: Outcome,
    b: Outcome,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = 1000,
    slice: Slice | None = None,
    group: str | None = None,
) -> Observation:
    """Return the metric of `a` less that of `b`, both answers to the same rows, with its interval.

    Each resample draws the same rows for both (paired percentile bootstrap), so what is hard for
    both cancels out.
    Raises: DataError where truth, weights, clusters or groups of the two differ; else as `scores.score`.
    """
    _check_same_rows(a, b)
    ours, theirs = score(metric_name, a), score(metric_name, b)
    value: float | None = None
    edges: Edges = (None, None)
    if ours is None or theirs is None:
        method = why_undefined(metric_name, a if ours is None else b)
    else:
        value = ours - theirs
        method = too_few(metric_name, a) or ""
        if not method:
            pair = (statistic(metric_name, a), statistic(metric_name, b))
            first, second = resampled(pair, a, rng, resamples)
            values = pair[0].value(first) - pair[1].value(second)
            edges, note = _percentiles(values, value, confidence)
            method = f"difference on the same rows, paired {_drawn(pair[0], a, resamples)}{note}"
    return _observation(metric_name, a, value, edges, method, confidence, slice, group)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A metric's value and, once there is a method, its interval."""

    name: str
    statistic: Statistic
    value: float | None
    edges: Edges = (None, None)
    method: str = ""


def _measured(name: str, outcome: Outcome, confidence: float) -> _Measured:
    """Return the value, with the interval where it needs no resamples and the reason where there is none."""
    made = statistic(name, outcome)
    value = only(made, outcome.weights, len(outcome))
    if value is None:
        return _Measured(name=name, statistic=made, value=None, method=why_undefined(name, outcome))
    edges, method = _exact(name, outcome, confidence)
    return _Measured(name=name, statistic=made, value=value, edges=edges, method=method or too_few(name, outcome))


def _concluded(value: float, measured: _Measured, parts: Floats, outcome: Outcome, confidence: float) -> _Measured:
    """Return the metric with the interval that its resamples give."""
    made = measured.statistic
    edges, note = _percentiles(made.value(parts), value, confidence)
    if made.is_gap and edges[0] is not None:
        edges = (_less_noise(value, made, parts, outcome, confidence), edges[1])
        note += ", lower edge freed of what noise adds"
    if edges[0] is not None and edges[0] == edges[1]:
        edges, more = _at_the_end(measured.name, value, outcome, confidence)
        note += more
    return replace(measured, edges=edges, method=_drawn(made, outcome, len(parts)) + note)


def _less_noise(value: float, made: Statistic, parts: Floats, outcome: Outcome, confidence: float) -> float:
    """Return the gap less what noise alone reaches: |true| >= |seen| - |seen - true|."""
    seen = made.parts(outcome.row_weights[None, :])
    noise = made.value(parts - seen)
    return max(0.0, value - float(np.quantile(noise[np.isfinite(noise)], (1 + confidence) / 2)))


def _percentiles(values: Floats, value: float, confidence: float) -> tuple[Edges, str]:
    """Return the middle of the resamples, widened to hold the value, and a note."""
    defined = values[np.isfinite(values)]
    missing = len(values) - len(defined)
    if len(defined) < _LEAST_DEFINED * len(values) or not len(defined):
        return (None, None), f"; no interval: it is undefined in {missing} of them"
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    note = f"; {missing} of them, where it is undefined, left out" if missing else ""
    return (min(float(low), value), max(float(high), value)), note


def too_few(name: str, outcome: Outcome) -> str:
    """Say why the rows are too few to be drawn again; empty where they are enough."""
    units, _ = outcome.units()
    kind = "rows" if outcome.clusters is None else "clusters of rows"
    if name in ("roc_auc", "average_precision") and outcome.is_binary:
        rarer = int(np.bincount(outcome.y_true, minlength=2).min())
        units, kind = (rarer, "rows of the rarer class") if rarer < units else (units, kind)
    if units >= LEAST_UNITS:
        return ""
    return f"no interval: {units} {kind} are too few to draw again, wanted {LEAST_UNITS}"


def _exact(name: str, outcome: Outcome, confidence: float) -> tuple[Edges, str]:
    """Return the exact interval and its method, an empty method where there is none."""
    if outcome.weights is not None or outcome.clusters is not None:
        return (None, None), ""
    if name == "median_absolute_error" and outcome.values is not None:
        errors = np.sort(np.abs(outcome.y_true - outcome.values))
        low, high = quantile_ranks(len(errors), 0.5, confidence)
        edges = (float(errors[low - 1]) if low else None, float(errors[high - 1]) if high else None)
        return edges, f"order statistics (distribution-free) of {len(errors)} rows"
    if outcome.labels is None or not (name == "accuracy" or (name in ("precision", "recall") and outcome.is_binary)):
        return (None, None), ""
    among = {"recall": outcome.y_true == 1, "precision": outcome.labels == 1}.get(name)
    right = outcome.y_true == outcome.labels
    trials = len(outcome) if among is None else int(among.sum())
    hits = int(right.sum()) if among is None else int((right & among).sum())
    return proportion_interval(hits, trials, confidence), f"exact (Clopper-Pearson), {hits} of {trials} rows"


def _at_the_end(name: str, value: float, outcome: Outcome, confidence: float) -> tuple[Edges, str]:
    """Return the interval of a metric that no resample moves."""
    units = outcome.effective_units()
    worst = {"brier_loss": 1.0 if outcome.is_binary else 2.0, "log_loss": -np.log(SMALLEST), "calibration_error": 1.0}
    note = "; no resample moves it, so one edge is what the rows cannot exclude"
    if name in worst and value <= _NO_LOSS:
        return (value, value + float(worst[name]) * never_seen(units, confidence)), note
    if name in ("roc_auc", "average_precision") and value in (0.0, 1.0):
        counts = np.bincount(outcome.y_true, minlength=outcome.classes)
        unseen = never_seen(min(units, float(counts[counts > 0].min())), confidence)
        return ((1 - unseen, 1.0) if value == 1.0 else (0.0, unseen)), note
    return (value, value), "; no resample moves it"


def _samples(name: str, outcome: Outcome) -> int:
    if outcome.is_binary and name == "recall":
        return int((outcome.y_true == 1).sum())
    if outcome.is_binary and name == "precision" and outcome.labels is not None:
        return int((outcome.labels == 1).sum())
    if name.endswith("_difference") and outcome.groups is not None:
        return smallest_group(name, outcome.y_true, outcome.groups)
    return len(outcome)


def _drawn(made: Statistic, outcome: Outcome, resamples: int) -> str:
    drawn = "rows" if outcome.clusters is None else f"{outcome.units()[0]} clusters of rows"
    doubt = ", half a row of doubt in each cell" if isinstance(made, Additive) and made.doubt is not None else ""
    return f"percentile bootstrap of {drawn}, {resamples} resamples{doubt}"


def _observation(
    name: str,
    outcome: Outcome,
    value: float | None,
    edges: Edges,
    method: str,
    confidence: float,
    slice: Slice | None,
    group: str | None,
) -> Observation:
    return Observation(
        metric=name,
        value=value,
        low=edges[0],
        high=edges[1],
        confidence=confidence,
        samples=_samples(name, outcome),
        unit=find(name).unit,
        method=method + ("" if outcome.weights is None else "; rows weighted"),
        slice=slice,
        group=group,
    )


def _check_same_rows(a: Outcome, b: Outcome) -> None:
    for name in ("y_true", "weights", "clusters", "groups"):
        ours, theirs = getattr(a, name), getattr(b, name)
        if (ours is None) != (theirs is None) or (ours is not None and not np.array_equal(ours, theirs)):
            raise DataError(f"`{name}` differs between the two outcomes: a paired difference needs the same rows.")
