"""Lines and counts to draw: ROC, precision and recall, calibration, residuals, histograms.

Every curve has at most 500 points; what is thinned keeps its ends and its shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelyard.core.arrays import Bools, Floats, Ints
from modelyard.core.contract import Histogram
from modelyard.core.evidence import Confusion, Curve
from modelyard.errors import DataError
from modelyard.measure.exact import wilson_interval
from modelyard.measure.outcome import Outcome

MOST_POINTS = 500
BINS = 15


def roc_curves(outcome: Outcome, classes: Sequence[str]) -> tuple[Curve, ...]:
    """Return true over false positive rate: one curve for two classes, one for each of more.

    Classes without rows, or with all of them, have no curve.
    """
    return _for_each_class("roc", outcome, classes)


def precision_recall_curves(outcome: Outcome, classes: Sequence[str]) -> tuple[Curve, ...]:
    """Return precision over recall, recall rising: one curve for two classes, one for each of more."""
    return _for_each_class("precision_recall", outcome, classes)


def calibration_curves(outcome: Outcome, *, confidence: float = 0.95, bins: int = BINS) -> tuple[Curve, ...]:
    """Return how often what was stated came true, in bins of equal mass.

    Of two classes the positive one's probability; of more the highest probability of each row.
    Returns: three curves with the mean stated probability as x and the rows as weight: the share that
        came true (series ""), and the edges of Wilson's interval ("low", "high"). Without rows, none.
    """
    stated, came = _stated_and_came(outcome)
    if len(stated) == 0:
        return ()
    order = np.argsort(stated, kind="stable")
    weight = outcome.row_weights
    points = []
    for rows in _equal_mass(stated[order], bins):
        mine = order[rows]
        total = weight[mine].sum()
        if total > 0:
            effective = total**2 / np.square(weight[mine]).sum()
            share = (weight[mine] * came[mine]).sum() / total
            points.append(((weight[mine] * stated[mine]).sum() / total, share, effective, float(len(mine))))
    x, share, effective, rows_behind = (np.array(each) for each in zip(*points, strict=True))
    low, high = wilson_interval(share * effective, effective, confidence)
    series = (("", share), ("low", low), ("high", high))
    return tuple(_curve("calibration", name, x, y, rows_behind) for name, y in series)


def confusion(outcome: Outcome, classes: Sequence[str]) -> Confusion:
    """Return how many rows of each true class (row) were answered as each class (column), unweighted."""
    if outcome.labels is None:
        raise DataError("A confusion table needs `labels`, which this outcome lacks: add them.")
    size = outcome.classes
    counts = np.bincount(outcome.y_true * size + outcome.labels, minlength=size * size).reshape(size, size)
    return Confusion(classes=tuple(classes), counts=tuple(tuple(int(cell) for cell in row) for row in counts))


def residual_curves(outcome: Outcome, *, bins: int = BINS) -> tuple[Curve, ...]:
    """Return residuals (truth less prediction) over predictions.

    Returns: a sample of rows, evenly spaced in the order of predictions (series ""), and in bins of
        equal mass the median, 5th and 95th percentile ("median", "p05", "p95"; weight: rows).
        Without rows, none.
    """
    values = _values(outcome)
    if len(values) == 0:
        return ()
    order = np.argsort(values, kind="stable")
    residual = outcome.y_true - values
    sample = order[_evenly(len(order))]
    groups = [order[rows] for rows in _equal_mass(values[order], bins)]
    x = np.array([values[rows].mean() for rows in groups])
    weight = np.array([float(len(rows)) for rows in groups])
    marks = [("p05", 0.05), ("median", 0.5), ("p95", 0.95)]
    lines = [(name, np.array([np.quantile(residual[rows], q) for rows in groups])) for name, q in marks]
    points = _curve("residuals", "", values[sample], residual[sample])
    return (points, *(_curve("residuals", name, x, y, weight) for name, y in lines))


def predicted_actual_curve(outcome: Outcome) -> Curve:
    """Return truth (y) over prediction (x) of rows evenly spaced in the order of the truth."""
    values = _values(outcome)
    order = np.argsort(outcome.y_true, kind="stable")
    sample = order[_evenly(len(order))]
    return _curve("predicted_actual", "", values[sample], outcome.y_true[sample])


def histogram(
    values: Floats, *, bins: int = 30, low: float | None = None, high: float | None = None
) -> Histogram | None:
    """Return counts in bins of equal width over [low, high], from the values where not given.

    NaN is left out, and so is what lies outside. The last edge is moved up by the smallest step, so
    that the highest value falls into the last bin, which is open above like the others.
    Returns: None where no value is finite.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return None
    start = float(finite.min()) if low is None else low
    stop = float(finite.max()) if high is None else high
    if stop <= start:
        stop = start + max(1.0, abs(start)) * 1e-6
    edges = np.linspace(start, stop, bins + 1)
    edges[-1] = np.nextafter(stop, np.inf)
    counts, _ = np.histogram(finite, bins=edges)
    return Histogram(edges=tuple(float(edge) for edge in edges), counts=tuple(int(count) for count in counts))


def thin(x: Floats, y: Floats, most: int = MOST_POINTS) -> Ints:
    """Return the points to keep, evenly spaced along the line as it is drawn, both ends among them."""
    if len(x) <= most:
        return np.arange(len(x))
    width, height = max(float(np.ptp(x)), 1e-300), max(float(np.ptp(y)), 1e-300)
    steps = np.hypot(np.diff(x) / width, np.diff(y) / height)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, along[-1], most)
    kept = np.searchsorted(along, wanted, side="left").clip(0, len(x) - 1)
    kept[0], kept[-1] = 0, len(x) - 1
    return np.unique(kept)


def _for_each_class(name: str, outcome: Outcome, classes: Sequence[str]) -> tuple[Curve, ...]:
    if outcome.probabilities is None:
        raise DataError(f"A {name} curve needs `probabilities`, which this outcome lacks: add them.")
    which = [(1, "")] if outcome.is_binary else list(enumerate(classes))
    curves, weight = [], outcome.row_weights
    for number, series in which:
        hit = outcome.y_true == number
        if (weight[hit] > 0).any() and (weight[~hit] > 0).any():
            curves.append(_ranked(name, series, hit, outcome.probabilities[:, number], weight))
    return tuple(curves)


def _ranked(name: str, series: str, hit: Bools, scores: Floats, weight: Floats) -> Curve:
    """Return one ROC or precision-recall curve, a point for each distinct score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.cumsum(weight[order] * hit[order])[last]
    false = np.cumsum(weight[order] * ~hit[order])[last]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = true / true[-1]
        if name == "roc":
            x, y = np.append(0.0, false / false[-1]), np.append(0.0, recall)
        else:
            precision = np.where(true + false > 0, true / (true + false), 1.0)
            x, y = np.append(0.0, recall), np.append(precision[0], precision)
    kept = thin(x, y)
    return _curve(name, series, x[kept], y[kept])


def _stated_and_came(outcome: Outcome) -> tuple[Floats, Bools]:
    if outcome.probabilities is None:
        raise DataError("A calibration curve needs `probabilities`, which this outcome lacks: add them.")
    if outcome.is_binary:
        return outcome.probabilities[:, 1], outcome.y_true == 1
    return outcome.probabilities.max(axis=1), outcome.probabilities.argmax(axis=1) == outcome.y_true


def _equal_mass(ordered: Floats, bins: int) -> list[Ints]:
    """Return the positions of each bin; equal values stay together, so there may be fewer bins."""
    cuts = np.linspace(0, len(ordered), min(bins, len(ordered)) + 1).astype(np.int64)[1:-1]
    starts = np.unique(np.searchsorted(ordered, ordered[cuts], side="left")) if len(cuts) else cuts
    return [part for part in np.split(np.arange(len(ordered)), starts) if len(part)]


def _values(outcome: Outcome) -> Floats:
    if outcome.values is None:
        raise DataError("Residuals need `values`, which this outcome lacks: add them.")
    return outcome.values


def _evenly(rows: int) -> Ints:
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).round().astype(np.int64))


def _curve(name: str, series: str, x: Floats, y: Floats, weight: Floats | None = None) -> Curve:
    behind = () if weight is None else tuple(float(each) for each in weight)
    return Curve(
        name=name, series=series, x=tuple(float(each) for each in x), y=tuple(float(each) for each in y), weight=behind
    )
