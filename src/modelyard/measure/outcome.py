"""What a metric is computed from: the truth and the answers of the same rows."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from modelyard.core.arrays import Array, Bools, Floats, Ints, Strings
from modelyard.core.metrics import Task
from modelyard.errors import DataError

_SUM_TOLERANCE = 1e-3  # float32 softmax over a thousand classes stays well within


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Truth and answers, row by row. Rows may be none; every array has one entry a row.

    For a binary task the positive class is 1 and `probabilities[:, 1]` is its probability.
    `clusters` are ids of rows that are not independent of each other: they travel together when
    rows are drawn again. `groups` is what a fairness metric compares; a row whose group is None
    belongs to no group.
    Raises: DataError where lengths, ranges or finiteness are off.
    """

    task: Task
    classes: int = 0  # how many; 0 for regression
    y_true: Array  # (n,) int64 in [0, classes), or float64
    probabilities: Floats | None = None  # (n, classes), each row sums to 1
    labels: Ints | None = None  # (n,) predicted, in [0, classes)
    values: Floats | None = None  # (n,) predicted, regression
    weights: Floats | None = None  # (n,) at least 0
    groups: Strings | None = None  # (n,)
    clusters: Array | None = None  # (n,)

    def __post_init__(self) -> None:
        for name, array in self._arrays():
            if len(array) != len(self.y_true):
                raise DataError(
                    f"`{name}` has {len(array)} rows and `y_true` has {len(self.y_true)}: give both of the same rows."
                )
        for name in ("y_true", "probabilities", "values", "weights"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise DataError(f"`{name}` has NaN or infinite entries: leave those rows out, or mend the model.")
        if self.weights is not None and (self.weights < 0).any():
            raise DataError("`weights` has negative entries: a weight is at least 0.")
        if self.task is Task.REGRESSION:
            return
        _check_classes("y_true", self.y_true, self.classes)
        if self.labels is not None:
            _check_classes("labels", self.labels, self.classes)
        if self.probabilities is not None:
            _check_probabilities(self.probabilities, self.classes)

    def __len__(self) -> int:
        return len(self.y_true)

    def take(self, rows: Ints | Bools | slice) -> Outcome:
        """Return the outcome of the rows asked for, in the order asked for."""
        taken = {name: array[rows] for name, array in self._arrays()}
        return Outcome(task=self.task, classes=self.classes, **taken)

    @property
    def is_binary(self) -> bool:
        return self.task is Task.BINARY

    @property
    def row_weights(self) -> Floats:
        """The weights, or ones where there are none."""
        return np.ones(len(self)) if self.weights is None else np.asarray(self.weights, dtype=np.float64)

    def units(self) -> tuple[int, Ints]:
        """Return how many independent units there are, and the number of each row's.

        A unit is a row, or a cluster of rows; a row whose cluster is missing (None, NaN, NaT) is a
        cluster of its own.
        """
        if self.clusters is None:
            return len(self), np.arange(len(self))
        known: dict[object, int] = {}
        keys = (("row", row) if each is None or each != each else each for row, each in enumerate(self.clusters))
        numbers = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
        return len(known), numbers

    def unit_weights(self) -> Floats:
        """Return the weight of each unit."""
        if self.clusters is None:
            return self.row_weights
        count, numbers = self.units()
        return np.asarray(np.bincount(numbers, weights=self.row_weights, minlength=count), dtype=np.float64)

    def effective_units(self) -> float:
        """Return how many equally weighted units tell as much (Kish, 1965, "Survey Sampling")."""
        units = self.unit_weights()
        squares = float(np.square(units).sum())
        return float(units.sum()) ** 2 / squares if squares > 0 else 0.0

    def _arrays(self) -> list[tuple[str, Array]]:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, array) for name, array in named if name not in ("task", "classes") and array is not None]


def _check_classes(name: str, labels: Array, classes: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"`{name}` is of type {labels.dtype}: a classification takes class numbers as integers.")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"`{name}` goes from {labels.min()} to {labels.max()}: wanted class numbers from 0 to {classes - 1}."
        )


def _check_probabilities(probabilities: Floats, classes: int) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != classes:
        raise DataError(f"`probabilities` has the shape {probabilities.shape}: wanted (rows, {classes}).")
    if not len(probabilities):
        return
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        raise DataError("`probabilities` must be at least 0 and sum to 1 in each row; the model answers otherwise.")
