"""Fitting what turns margins into probabilities: Platt's sigmoid and temperature.

Neither changes how rows are ranked: the slope is always above 0. Where the rows cannot carry a fit
the identity is returned and the reason says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from modelyard.core.arrays import Floats, Ints
from modelyard.errors import DataError

LEAST_ROWS = 50
LEAST_OF_A_CLASS = 10
_LEAST_SLOPE, _MOST_SLOPE = 1e-2, 1e3  # for margins of spread 1: below, they say nothing; above, it is the bound
_STEPS = 100
_SETTLED = 1e-10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """probability = sigmoid(slope * margin + intercept), or softmax(slope * margins)."""

    slope: float = 1.0
    intercept: float = 0.0
    fitted: bool
    reason: str

    @property
    def temperature(self) -> float:
        """What margins are divided by."""
        return 1 / self.slope


def fit_platt(logits: Floats, labels: Ints, weights: Floats | None = None) -> Calibration:
    """Fit slope and intercept of a sigmoid by maximum likelihood on smoothed targets.

    Args:
        logits: (n,) margins of the positive class, of rows that the model was not fitted on.
        labels: (n,) 0 or 1.
    Raises: DataError where lengths differ or a logit is not finite.
    Source: Platt, 1999, "Probabilistic Outputs for Support Vector Machines", section 2.2; Lin, Lin and
        Weng, 2007, "A note on Platt's probabilistic outputs", for the Newton method.
    """
    weight = _check(logits, labels, weights)
    obstacle = _too_thin(labels, weight, classes=2)
    if not obstacle and np.ptp(logits[weight > 0]) == 0:
        obstacle = "all margins are equal"
    if obstacle:
        return Calibration(fitted=False, reason=f"Left as it is: {obstacle}.")
    positive = float(weight[labels == 1].sum())
    negative = float(weight[labels == 0].sum())
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(logits.mean()), float(logits.std())
    slope, intercept = _newton(np.column_stack([(logits - centre) / spread, np.ones(len(logits))]), targets, weight)
    if slope < _LEAST_SLOPE:
        return Calibration(fitted=False, reason="Left as it is: higher margins do not go with more positives.")
    slope, intercept = slope / spread, intercept - slope * centre / spread
    reason = f"Platt's sigmoid on {int((weight > 0).sum())} rows: slope {slope:.4g}, intercept {intercept:.4g}."
    return Calibration(slope=slope, intercept=intercept, fitted=True, reason=reason)


def fit_temperature(logits: Floats, labels: Ints, weights: Floats | None = None) -> Calibration:
    """Fit one temperature for all classes by maximum likelihood; slope is its inverse.

    Args:
        logits: (n, classes) margins before softmax, of rows that the model was not fitted on.
        labels: (n,) in [0, classes).
    Raises: DataError where lengths differ or a logit is not finite.
    Source: Guo et al., 2017, "On Calibration of Modern Neural Networks", section 4.2. Targets are
        smoothed by one row in n + 2, as Platt does, so that separable rows have an answer.
    """
    weight = _check(logits, labels, weights)
    obstacle = _too_thin(labels, weight, classes=logits.shape[1])
    if not obstacle and np.ptp(logits, axis=1).max() == 0:
        obstacle = "all margins of a row are equal"
    if obstacle:
        return Calibration(fitted=False, reason=f"Left as it is: {obstacle}.")
    smooth = 1 / (weight.sum() + 2)
    targets = np.full(logits.shape, smooth / logits.shape[1])
    targets[np.arange(len(labels)), labels] += 1 - smooth
    margins = logits - logits.mean(axis=1, keepdims=True)
    spread = float(np.sqrt(np.square(margins).mean()))
    slope = _root(margins / spread, targets, weight)
    if slope < 2 * _LEAST_SLOPE:
        return Calibration(fitted=False, reason="Left as it is: higher margins do not go with the right class.")
    slope /= spread
    reason = f"Temperature {1 / slope:.4g} on {int((weight > 0).sum())} rows."
    return Calibration(slope=slope, fitted=True, reason=reason)


def _check(logits: Floats, labels: Ints, weights: Floats | None) -> Floats:
    """Return the weights, of mean 1 over the rows that count."""
    if len(logits) != len(labels) or (weights is not None and len(weights) != len(labels)):
        raise DataError("Margins, labels and weights must be of the same rows to fit a calibration.")
    if not np.isfinite(logits).all():
        raise DataError("Margins to calibrate have NaN or infinite entries: give margins before the sigmoid, clipped.")
    if weights is None:
        return np.ones(len(labels))
    if not np.isfinite(weights).all() or (len(weights) and weights.min() < 0):
        raise DataError("Weights to calibrate by must be finite and at least 0.")
    counted = weights[weights > 0]
    return np.asarray(weights / counted.mean(), dtype=np.float64) if len(counted) else np.zeros(len(labels))


def _too_thin(labels: Ints, weight: Floats, *, classes: int) -> str:
    """Say why the rows cannot carry a fit; empty where they can."""
    counts = np.bincount(labels[weight > 0], minlength=classes)
    if counts.sum() < LEAST_ROWS:
        return f"{counts.sum()} rows are too few to calibrate on, wanted {LEAST_ROWS}"
    if (counts > 0).sum() < 2:
        return "the rows to calibrate on have one class only"
    if classes == 2 and counts.min() < LEAST_OF_A_CLASS:
        return f"the rarer class has {counts.min()} rows to calibrate on, wanted {LEAST_OF_A_CLASS}"
    return ""


def _newton(design: Floats, targets: Floats, weight: Floats) -> tuple[float, float]:
    """Return the two coefficients of a logistic fit; the loss is convex and steps are halved as needed."""
    guess = np.zeros(2)
    loss = _logistic_loss(design @ guess, targets, weight)
    for _ in range(_STEPS):
        share = special.expit(design @ guess)
        gradient = design.T @ (weight * (share - targets))
        curvature = design.T @ (design * (weight * share * (1 - share))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > _SETTLED and _logistic_loss(design @ (guess - size * step), targets, weight) > loss:
            size /= 2
        guess = guess - size * step
        lower = _logistic_loss(design @ guess, targets, weight)
        if np.abs(size * step).max() < _SETTLED:
            break
        loss = lower
    return float(guess[0]), float(guess[1])


def _logistic_loss(margins: Floats, targets: Floats, weight: Floats) -> float:
    return float((weight * (np.logaddexp(0.0, margins) - targets * margins)).sum())


def _root(margins: Floats, targets: Floats, weight: Floats) -> float:
    """Return the slope at which the convex loss is least, by bisection of its derivative."""
    low, high = _LEAST_SLOPE, _MOST_SLOPE
    wanted = float((weight * (targets * margins).sum(axis=1)).sum())
    for _ in range(_STEPS):
        middle = float(np.sqrt(low * high))
        shares = special.softmax(middle * margins, axis=1)
        rises = float((weight * (shares * margins).sum(axis=1)).sum()) > wanted
        low, high = (low, middle) if rises else (middle, high)
        if high - low < _SETTLED * high:
            break
    return float(np.sqrt(low * high))
