"""What follows the estimator: calibration learned on rows of its own, and the reference answer in float64."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

from modelyard.core.arrays import Array, Floats
from modelyard.core.encoding import LEAST_PROBABILITY, Head
from modelyard.measure.calibration import fit_platt, fit_temperature
from modelyard.train.features import Scale


def fit_head(
    raw: Floats,
    target: Array,
    weight: Floats | None,
    *,
    kind: str,
    classes: tuple[str, ...],
    calibrate: bool,
    scale: Scale,
) -> Head:
    """Return the head of an estimator whose answers to the calibration rows are `raw` (rows, outputs)."""
    if not classes:
        return Head(raw="value", slope=scale.deviation, intercept=scale.mean)
    if not calibrate:
        return Head(raw=kind, classes=classes)
    margins = margins_of(raw, kind)
    if len(classes) == 2:
        platt = fit_platt(margins[:, 0], target, weight)
        return Head(raw=kind, slope=_single(platt.slope), intercept=_single(platt.intercept), classes=classes)
    return Head(raw=kind, slope=_single(fit_temperature(margins, target, weight).slope), classes=classes)


def apply_head(head: Head, raw: Floats) -> Floats:
    """Return what the estimator and head say, in float64: probabilities (rows, classes), or values (rows, 1)."""
    if head.raw == "value":
        return raw * head.slope + head.intercept
    margins = margins_of(raw, head.raw) * head.slope
    if len(head.classes) == 2:
        positive = expit(margins + head.intercept)
        return np.concatenate([1.0 - positive, positive], axis=1)
    return np.asarray(softmax(margins, axis=1))


def margins_of(raw: Floats, kind: str) -> Floats:
    """Return margins: as they are, or the logarithm of clipped odds or probabilities."""
    if kind == "margin":
        return raw
    if raw.shape[1] == 1:
        clipped = np.clip(raw, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
        return np.asarray(np.log(clipped / (1.0 - clipped)))
    return np.asarray(np.log(np.clip(raw, LEAST_PROBABILITY, 1.0)))


def _single(value: float) -> float:
    """Round to float32, which is what the graph holds."""
    return float(np.float32(value))
