"""Metrics of predicted values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.measure.statistic import Additive, first, mean_of, only

_NO_VARIANCE = 1e-12  # of the squared spread of the target: below, the variance is rounding


def r2(y_true: Floats, values: Floats, weights: Floats | None = None) -> float | None:
    """Return the share of the target's variance that is explained; None where there is no variance.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    0.5
    """
    return only(r2_statistic(y_true, values), weights, len(y_true))


def rmse(y_true: Floats, values: Floats, weights: Floats | None = None) -> float | None:
    """Return the root of the mean squared error, in the target's unit; None without rows.

    >>> rmse(np.array([0.0, 0.0]), np.array([1.0, -1.0]))
    1.0
    """
    return only(rmse_statistic(y_true, values), weights, len(y_true))


def mae(y_true: Floats, values: Floats, weights: Floats | None = None) -> float | None:
    """Return the mean absolute error, in the target's unit; None without rows.

    >>> mae(np.array([0.0, 0.0]), np.array([1.0, -2.0]))
    1.5
    """
    return only(mae_statistic(y_true, values), weights, len(y_true))


def median_absolute_error(y_true: Floats, values: Floats, weights: Floats | None = None) -> float | None:
    """Return the error that half of the rows are below; the mean of the two middle ones of an even count.

    >>> median_absolute_error(np.array([0.0, 0.0, 0.0]), np.array([1.0, -2.0, 9.0]))
    2.0
    """
    return only(MedianAbsoluteError.of(y_true, values), weights, len(y_true))


def r2_statistic(y_true: Floats, values: Floats) -> Additive:
    """Return R² as a statistic. The target is centred first, so that a large mean costs no digits."""
    centred = y_true - y_true.mean() if len(y_true) else y_true
    spread = float(np.square(centred).max(initial=0.0))
    columns = np.column_stack([np.ones(len(y_true)), centred, np.square(centred), np.square(y_true - values)])

    def finish(sums: Floats, _doubt: Floats) -> Floats:
        weight, first_moment, second_moment, error = sums.T
        variance = second_moment - np.square(first_moment) / weight
        explained = 1 - error / variance
        return np.where(variance > _NO_VARIANCE * spread * weight, explained, np.nan)[:, None]

    return Additive(columns=columns, finish=finish)


def rmse_statistic(y_true: Floats, values: Floats) -> Additive:
    """Return the root of the mean squared error as a statistic."""
    return mean_of(np.square(y_true - values), finish=np.sqrt)


def mae_statistic(y_true: Floats, values: Floats) -> Additive:
    """Return the mean absolute error as a statistic."""
    return mean_of(np.abs(y_true - values))


@dataclass(frozen=True)
class MedianAbsoluteError:
    """The weighted median of the absolute errors, sorted once."""

    order: Ints
    errors: Floats  # sorted
    is_gap: bool = False

    @staticmethod
    def of(y_true: Floats, values: Floats) -> MedianAbsoluteError:
        errors = np.abs(y_true - values)
        order = np.argsort(errors, kind="stable")
        return MedianAbsoluteError(order, errors[order])

    def parts(self, weights: Floats, rng: np.random.Generator | None = None) -> Floats:
        sums = np.cumsum(np.take(weights, self.order, axis=1), axis=1)
        half = sums[:, -1:] / 2
        slack = 1e-12 * half  # fractional weights: a half met but for rounding is met
        lower = np.argmax(sums >= half - slack, axis=1)
        upper = np.argmax(sums > half + slack, axis=1)
        middle = (self.errors[lower] + self.errors[upper]) / 2
        return np.where(half[:, 0] > 0, middle, np.nan)[:, None]

    def value(self, parts: Floats) -> Floats:
        return first(parts)
