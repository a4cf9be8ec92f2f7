"""The thresholds that a binary task could have, with what each would do to the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.errors import DataError, EmptyData

_MIDDLE_GAP = 1e-5  # how far from a score a threshold stays where the score is one half
_LEAST_GAP = 1e-7
_MOST_STEPS = 1000  # along the share answered positive plus the share of positives found
_ROWS_A_STEP = 20

CUT_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Thresholds, highest first, each with the weighted counts of a positive answer at or above it."""

    thresholds: Floats  # each representable in float32
    gaps: Floats  # distance to the nearest score, the widest first where it is unbounded
    true_positive: Floats
    false_positive: Floats
    false_negative: Floats
    true_negative: Floats
    effective_rows: float  # rows of equal weight that tell as much

    @staticmethod
    def of(scores: Floats, labels: Ints, weights: Floats | None) -> Cuts:
        """Return the cuts between distinct scores that are far enough apart, and both ends.

        Rounding makes the same row's probability differ slightly between machines, so a cut is used
        only where the nearest scores are at least 1e-5 away in the middle of the range, less towards
        0 and 1 as a sigmoid's rounding errors shrink too. Where many rows leave no such gap, the
        widest one in each thousandth of the way is used, so that no objective is missed by more. Rows
        between two cuts go together. The first cut, "nothing is positive", is left out where a score
        of 1 leaves it no room. O(n log n).
        """
        _check(scores, labels, weights)
        weight = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], weight[order] * (labels[order] == 1)
        found = np.concatenate([[0.0], np.cumsum(hits)])
        passed = np.concatenate([[0.0], np.cumsum(weight[order])])
        places, thresholds, gaps = _places(ranked, found / max(found[-1], 1e-300) + passed / passed[-1])
        true = found[places]
        false = passed[places] - true
        positive, total = found[-1], passed[-1]
        return Cuts(
            thresholds=thresholds,
            gaps=gaps,
            true_positive=true,
            false_positive=np.maximum(false, 0.0),
            false_negative=np.maximum(positive - true, 0.0),
            true_negative=np.maximum(total - positive - false, 0.0),
            effective_rows=float(total**2 / np.square(weight).sum()),
        )

    @property
    def total(self) -> float:
        return float(self.true_positive[0] + self.false_positive[0] + self.false_negative[0] + self.true_negative[0])

    def metric(self, name: str) -> Floats:
        """Return a metric of labels at each cut, NaN where undefined."""
        return _ratio(name, self._cells())

    def standard_error(self, name: str, rows: float) -> Floats:
        """Return the standard error of a metric at each cut in a sample of `rows` rows.

        The delta method on the four shares, with half a row added to each (so that 5 of 5 is not
        taken as certain). Every metric here is unchanged when all cells are scaled, so its variance
        is the sum over the cells of count times squared slope.
        """
        scale = rows / self.total
        cells = [cell * scale + 0.5 for cell in self._cells()]
        variance = np.zeros(len(self.thresholds))
        for number, cell in enumerate(cells):
            step = cell * 1e-6
            up, down = list(cells), list(cells)
            up[number], down[number] = cell + step, cell - step
            slope = (_ratio(name, up) - _ratio(name, down)) / (2 * step)
            variance += cell * np.square(slope)
        return np.sqrt(variance)

    def cost(self, false_positive_cost: float, false_negative_cost: float) -> Floats:
        """Return the mean cost of a row at each cut."""
        spent = false_positive_cost * self.false_positive + false_negative_cost * self.false_negative
        return np.asarray(spent / self.total)

    def _cells(self) -> list[Floats]:
        return [self.true_positive, self.false_positive, self.false_negative, self.true_negative]


def _ratio(name: str, cells: list[Floats]) -> Floats:
    true, false, missed, refused = cells
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "accuracy":
            return (true + refused) / (true + false + missed + refused)
        if name == "precision":
            return true / (true + false)
        if name == "recall":
            return true / (true + missed)
        if name == "f1":
            return 2 * true / (2 * true + false + missed)
        return (true / (true + missed) + refused / (refused + false)) / 2


def _places(ranked: Floats, way: Floats) -> tuple[Ints, Floats, Floats]:
    """Return how many rows stand above each cut, its threshold and its distance to the next score.

    `way` is (n + 1,), how far along a cut above each row would be, from 0 to at most 2.
    """
    upper, lower = ranked[:-1], ranked[1:]
    middle = ((upper + lower) / 2).astype(np.float32).astype(np.float64)
    gap = np.minimum(upper - middle, middle - lower)
    inside = np.union1d(np.flatnonzero(gap >= _wanted_gap(middle)), _widest_of_each_step(gap, way[1:-1]))
    places, thresholds, gaps = inside + 1, middle[inside], gap[inside]
    top, bottom = _end_above(ranked[0]), _end_below(ranked[-1])
    if top is not None:
        places = np.concatenate([[0], places])
        thresholds, gaps = np.concatenate([[top], thresholds]), np.concatenate([[top - ranked[0]], gaps])
    ends = np.concatenate([thresholds, [bottom]])
    return np.concatenate([places, [len(ranked)]]), ends, np.concatenate([gaps, [ranked[-1] - bottom]])


def _widest_of_each_step(gap: Floats, way: Floats) -> Ints:
    """Return the place of the widest gap in each step of the way; none where the rows are few."""
    steps = min(_MOST_STEPS, len(gap) // _ROWS_A_STEP)
    step = np.floor(way * steps / 2).astype(np.int64)
    order = np.lexsort((gap, step))
    last = order[np.append(step[order][1:] != step[order][:-1], True)] if len(order) else order
    return np.asarray(last[gap[last] > 0]) if steps else np.zeros(0, dtype=np.int64)


def _wanted_gap(threshold: Floats) -> Floats:
    return np.maximum(_MIDDLE_GAP * 4 * threshold * (1 - threshold), _LEAST_GAP)


def _end_above(highest: float) -> float | None:
    """Return a threshold that no score reaches, None where there is no room below 1."""
    threshold = float(np.float32((highest + 1) / 2))
    return threshold if threshold - highest >= _LEAST_GAP else None


def _end_below(lowest: float) -> float:
    """Return a threshold that every score reaches."""
    threshold = float(np.float32(lowest / 2))
    return threshold if lowest - threshold >= _LEAST_GAP else 0.0


def _check(scores: Floats, labels: Ints, weights: Floats | None) -> None:
    if len(scores) == 0:
        raise EmptyData("No validation row to choose a threshold on: give the validation part some rows.")
    if len(labels) != len(scores) or (weights is not None and len(weights) != len(scores)):
        raise DataError("Probabilities, labels and weights must be of the same rows to choose a threshold.")
    if not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1):
        raise DataError("Probabilities to choose a threshold on must lie in [0, 1] and be finite.")
    if weights is not None and (not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0):
        raise DataError("Weights to choose a threshold by must be finite, at least 0 and not all 0.")
