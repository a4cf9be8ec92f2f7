"""Metrics of predicted labels: shares of right and wrong answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.measure.statistic import Additive, only

_HALF_A_ROW = 0.5


def accuracy(y_true: Ints, labels: Ints, weights: Floats | None = None) -> float | None:
    """Return the share of right labels; None without rows.

    >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    0.75
    """
    return only(accuracy_statistic(y_true, labels), weights, len(y_true))


def balanced_accuracy(y_true: Ints, labels: Ints, *, classes: int, weights: Floats | None = None) -> float | None:
    """Return the mean recall over the classes that have rows; None where fewer than two have.

    Source: Brodersen et al., 2010, "The balanced accuracy and its posterior distribution".

    >>> balanced_accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), classes=2)
    0.75
    """
    return only(cell_statistic("balanced_accuracy", y_true, labels, classes), weights, len(y_true))


def precision(y_true: Ints, labels: Ints, *, classes: int, weights: Floats | None = None) -> float | None:
    """Return the share of right ones among the answers "positive".

    Of two classes: None where no answer is positive. Of more: the mean over the classes that have
    rows or answers, 0 for a class that is never answered or never right.

    >>> precision(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), classes=2)
    1.0
    """
    return only(cell_statistic("precision", y_true, labels, classes), weights, len(y_true))


def recall(y_true: Ints, labels: Ints, *, classes: int, weights: Floats | None = None) -> float | None:
    """Return the share of the positives that were found.

    Of two classes: None where no row is positive. Of more: the mean over the classes that have rows.

    >>> recall(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), classes=2)
    0.5
    """
    return only(cell_statistic("recall", y_true, labels, classes), weights, len(y_true))


def f1(y_true: Ints, labels: Ints, *, classes: int, weights: Floats | None = None) -> float | None:
    """Return the harmonic mean of precision and recall.

    Of two classes: None where no row and no answer is positive. Of more: the mean over the classes
    that have rows or answers.

    >>> round(f1(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), classes=2), 3)
    0.667
    """
    return only(cell_statistic("f1", y_true, labels, classes), weights, len(y_true))


def accuracy_statistic(y_true: Ints, labels: Ints, *, unit: float = 1.0) -> Additive:
    """Return accuracy as a statistic; `unit` is the weight of one row."""
    right = np.asarray(y_true == labels, dtype=np.float64)

    def finish(sums: Floats, doubt: Floats) -> Floats:
        cells = sums + doubt
        total = cells.sum(axis=1, keepdims=True)
        return np.where(sums.sum(axis=1, keepdims=True) > 0, cells[:, :1] / total, np.nan)

    half = np.full(2, _HALF_A_ROW)
    return Additive(columns=np.column_stack([right, 1 - right]), finish=finish, doubt=half, unit=unit)


def cell_statistic(name: str, y_true: Ints, labels: Ints, classes: int, *, unit: float = 1.0) -> Additive:
    """Return precision, recall, f1 or balanced_accuracy as a statistic of counts by class.

    For two classes the cells are those of the positive class (balanced accuracy: of both); for more,
    of each class that has rows or answers. The half row of doubt is shared among the classes, so
    that many classes do not pull their mean to the middle.
    """
    if classes == 2 and name != "balanced_accuracy":
        seen, finish = np.array([1]), _BINARY[name]
    else:
        seen, finish = np.union1d(y_true, labels), _MEANS[name]
    truth, answer = y_true[:, None] == seen, labels[:, None] == seen
    cells = [truth & answer, ~truth & answer, truth & ~answer]
    columns = np.concatenate(cells, axis=1).astype(np.float64)
    share = _HALF_A_ROW / max(1, len(seen))
    doubt = np.full(columns.shape[1], share)
    return Additive(columns=columns, finish=_by_class(finish), doubt=doubt, unit=unit)


Cells = tuple[Floats, Floats, Floats]  # true positives, false positives, false negatives: (b, classes) each
Ratio = Callable[[Cells, Cells], Floats]  # cells as counted, cells with doubt -> (b,)


def _by_class(ratio: Ratio) -> Callable[[Floats, Floats], Floats]:
    """Return a finish that splits the sums into the three cells of each class."""

    def finish(sums: Floats, doubt: Floats) -> Floats:
        return ratio(_split(sums), _split(sums + doubt))[:, None]

    return finish


def _split(sums: Floats) -> Cells:
    each = sums.shape[1] // 3
    return sums[:, :each], sums[:, each : 2 * each], sums[:, 2 * each :]


def _share(part: Floats, rest: Floats, is_defined: np.ndarray) -> Floats:
    """Return part / (part + rest) where defined, NaN elsewhere, 0 where both are empty."""
    total = part + rest
    ratio = np.divide(part, total, out=np.zeros_like(part), where=total > 0)
    return np.where(is_defined, ratio, np.nan)


def _mean(shares: Floats, *, least: int = 1) -> Floats:
    """Return the mean over the classes that are defined, NaN where fewer than `least` are."""
    defined = np.isfinite(shares)
    count = defined.sum(axis=1)
    total = np.where(defined, shares, 0.0).sum(axis=1)
    return np.where(count >= least, total / np.maximum(count, 1), np.nan)


def _recalls(counted: Cells, cells: Cells) -> Floats:
    return _share(cells[0], cells[2], counted[0] + counted[2] > 0)


def _binary_precision(counted: Cells, cells: Cells) -> Floats:
    return _share(cells[0], cells[1], counted[0] + counted[1] > 0)[:, 0]


def _binary_recall(counted: Cells, cells: Cells) -> Floats:
    return _recalls(counted, cells)[:, 0]


def _f1_by_class(counted: Cells, cells: Cells) -> Floats:
    return _share(2 * cells[0], cells[1] + cells[2], _has_rows_or_answers(counted))


def _has_rows_or_answers(counted: Cells) -> np.ndarray:
    return np.asarray(counted[0] + counted[1] + counted[2] > 0)


def _mean_precision(counted: Cells, cells: Cells) -> Floats:
    return _mean(_share(cells[0], cells[1], _has_rows_or_answers(counted)))


_BINARY: dict[str, Ratio] = {
    "precision": _binary_precision,
    "recall": _binary_recall,
    "f1": lambda counted, cells: np.asarray(_f1_by_class(counted, cells)[:, 0]),
}
_MEANS: dict[str, Ratio] = {
    "precision": _mean_precision,
    "recall": lambda counted, cells: _mean(_recalls(counted, cells)),
    "f1": lambda counted, cells: _mean(_f1_by_class(counted, cells)),
    "balanced_accuracy": lambda counted, cells: _mean(_recalls(counted, cells), least=2),
}
