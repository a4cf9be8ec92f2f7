"""How finely a number of rows can tell a metric: projections, before anything is measured."""

from __future__ import annotations

import math
from statistics import NormalDist

from modelyard.core.contract import Part, Prepared
from modelyard.core.requirement import Requirement

_SHARES = ("accuracy", "recall", "precision", "balanced_accuracy")


def half_width(requirement: Requirement, prepared: Prepared) -> float | None:
    """Return about half the width of the interval that the test rows will give at the bound; None where unknown.

    Source: for the area under the curve Hanley and McNeil, 1982, "The meaning and use of the area
    under a receiver operating characteristic curve", equation 2; for shares the normal approximation.
    """
    rows = prepared.rows[Part.TEST]
    bound = requirement.bound
    if bound is None or rows < 2 or not 0.0 < bound < 1.0:
        return None
    z = NormalDist().inv_cdf(0.5 + requirement.confidence / 2)
    positives = rows * positive_share(prepared)
    if requirement.metric == "roc_auc" and 1 <= positives <= rows - 1:
        return z * area_deviation(bound, positives, rows - positives)
    if requirement.metric in _SHARES:
        counted = positives if requirement.metric in ("recall", "precision") else rows
        return z * math.sqrt(bound * (1 - bound) / counted) if counted >= 1 else None
    return None


def area_deviation(area: float, positives: float, negatives: float) -> float:
    """Return the standard deviation of an area under the curve.

    >>> round(area_deviation(0.893, 51, 58), 4)
    0.0315
    """
    both = area / (2 - area)
    one = 2 * area * area / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (both - area * area) + (negatives - 1) * (one - area * area)
    return math.sqrt(spread / (positives * negatives))


def positive_share(prepared: Prepared) -> float:
    """Return the share of the positive class in the training part; 0 where it is not known."""
    contract = prepared.contract
    if len(contract.classes) != 2:
        return 0.0
    for profile in prepared.profile:
        if profile.column == contract.target:
            counts = dict(profile.top)
            total = sum(counts.values())
            return counts.get(contract.classes[1], 0) / total if total else 0.0
    return 0.0
