"""Metrics of how true the stated probabilities are."""

from __future__ import annotations

import numpy as np

from modelyard.core.arrays import Floats, Ints
from modelyard.measure.statistic import Additive, mean_of, only

SMALLEST = float(np.finfo(np.float64).eps)  # a stated probability of 0 counts as this much in the log loss
CALIBRATION_BINS = 15


def log_loss(y_true: Ints, probabilities: Floats, weights: Floats | None = None) -> float | None:
    """Return the mean negative log-likelihood in nats; None without rows.

    >>> round(log_loss(np.array([0]), np.array([[0.5, 0.5]])), 4)
    0.6931
    """
    return only(log_loss_statistic(y_true, probabilities), weights, len(y_true))


def brier_loss(y_true: Ints, probabilities: Floats, weights: Floats | None = None) -> float | None:
    """Return the mean squared distance of the probabilities from what came.

    Of two classes: of the positive class, in [0, 1]. Of more: summed over the classes, in [0, 2].
    Source: Brier, 1950, "Verification of forecasts expressed in terms of probability".

    >>> round(brier_loss(np.array([1]), np.array([[0.2, 0.8]])), 4)
    0.04
    """
    return only(brier_statistic(y_true, probabilities), weights, len(y_true))


def calibration_error(
    y_true: Ints, probabilities: Floats, weights: Floats | None = None, *, bins: int = CALIBRATION_BINS
) -> float | None:
    """Return the mean gap between confidence and accuracy.

    Confidence is the largest probability of a row; it is right when that class came. Rows fall into
    `bins` of equal width, each open below and closed above.
    Returns: a share in [0, 1]; 0 means every stated confidence came true; None without rows.
    Source: Guo et al., 2017, "On Calibration of Modern Neural Networks", section 2.

    >>> round(calibration_error(np.array([0]), np.array([[0.9, 0.1]])), 3)
    0.1
    """
    return only(calibration_statistic(y_true, probabilities, bins=bins), weights, len(y_true))


def log_loss_statistic(y_true: Ints, probabilities: Floats) -> Additive:
    """Return the log loss as a statistic."""
    stated = probabilities[np.arange(len(y_true)), y_true]
    return mean_of(-np.log(np.clip(stated, SMALLEST, 1.0)))


def brier_statistic(y_true: Ints, probabilities: Floats) -> Additive:
    """Return the Brier loss as a statistic."""
    came = np.arange(probabilities.shape[1]) == y_true[:, None]
    squares = np.square(probabilities - came)
    return mean_of(squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1))


def calibration_statistic(y_true: Ints, probabilities: Floats, *, bins: int = CALIBRATION_BINS) -> Additive:
    """Return the calibration error as a statistic; its parts are the gaps of the bins."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y_true
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    columns = np.zeros((len(y_true), bins + 1))
    columns[np.arange(len(y_true)), number] = confidence - right
    columns[:, bins] = 1.0

    def finish(sums: Floats, _doubt: Floats) -> Floats:
        return np.where(sums[:, bins:] > 0, sums[:, :bins] / sums[:, bins:], np.nan)

    return Additive(columns=columns, finish=finish, gauge=_absolute_sum, is_gap=True)


def _absolute_sum(parts: Floats) -> Floats:
    return np.asarray(np.abs(parts).sum(axis=1))
