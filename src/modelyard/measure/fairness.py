"""Metrics of the gap between groups, for binary tasks."""

from __future__ import annotations

import numpy as np

from modelyard.core.arrays import Bools, Floats, Ints, Strings
from modelyard.measure.statistic import Additive, only

_HALF_A_ROW = 0.5


def demographic_parity_difference(labels: Ints, groups: Strings, weights: Floats | None = None) -> float | None:
    """Return the largest gap in the share answered positive between groups.

    Rows whose group is None are left out. Returns None where fewer than two groups have rows.
    Source: Agarwal et al., 2018, "A Reductions Approach to Fair Classification", section 2.

    >>> demographic_parity_difference(np.array([1, 0, 1, 1]), np.array(list("aabb"), dtype=object))
    0.5
    """
    statistic = gap_statistic("demographic_parity_difference", labels, labels, groups)
    return only(statistic, weights, len(labels))


def equal_opportunity_difference(
    y_true: Ints, labels: Ints, groups: Strings, weights: Floats | None = None
) -> float | None:
    """Return the largest gap in recall between groups.

    Groups without positive rows are left out. Returns None where fewer than two remain.
    Source: Hardt et al., 2016, "Equality of Opportunity in Supervised Learning", section 2.

    >>> groups = np.array(list("aabb"), dtype=object)
    >>> equal_opportunity_difference(np.array([1, 1, 1, 0]), np.array([1, 0, 1, 1]), groups)
    0.5
    """
    statistic = gap_statistic("equal_opportunity_difference", y_true, labels, groups)
    return only(statistic, weights, len(labels))


def equalized_odds_difference(
    y_true: Ints, labels: Ints, groups: Strings, weights: Floats | None = None
) -> float | None:
    """Return the larger of the gaps in recall and in false positive rate between groups.

    Returns None where either gap is undefined. Source: Hardt et al., 2016, section 2.

    >>> equalized_odds_difference(np.array([1, 0, 1, 0]), np.array([1, 0, 1, 1]), np.array(list("aabb"), dtype=object))
    1.0
    """
    statistic = gap_statistic("equalized_odds_difference", y_true, labels, groups)
    return only(statistic, weights, len(labels))


def conditions(name: str, y_true: Ints) -> list[Bools]:
    """Return the rows that each rate of the metric is taken over."""
    if name == "demographic_parity_difference":
        return [np.ones(len(y_true), dtype=np.bool_)]
    if name == "equal_opportunity_difference":
        return [y_true == 1]
    return [y_true == 1, y_true == 0]


def smallest_group(name: str, y_true: Ints, groups: Strings) -> int:
    """Return how many rows stand behind the least certain rate of the metric (0 without groups)."""
    known, number = _numbered(groups)
    counts = [np.bincount(number[rows & (number >= 0)], minlength=len(known)) for rows in conditions(name, y_true)]
    return min((int(count) for each in counts for count in each if count > 0), default=0)


def gap_statistic(name: str, y_true: Ints, labels: Ints, groups: Strings, *, unit: float = 1.0) -> Additive:
    """Return a gap between groups as a statistic; its parts are the rates, groups within conditions.

    `unit` is the weight of one row.
    """
    known, number = _numbered(groups)
    count = len(known)
    member = number[:, None] == np.arange(count)
    cells = []
    for rows in conditions(name, y_true):
        within = member & rows[:, None]
        chosen = within & (labels == 1)[:, None]
        cells += [chosen, within & ~chosen]
    columns = np.concatenate(cells, axis=1).astype(np.float64) if count else np.zeros((len(labels), 0))

    def finish(sums: Floats, doubt: Floats) -> Floats:
        counted, cell = _paired(sums, count), _paired(sums + doubt, count)
        rates = np.where(counted.sum(axis=2) > 0, cell[:, :, 0] / cell.sum(axis=2), np.nan)
        return rates.reshape(len(sums), -1)

    def gauge(rates: Floats) -> Floats:
        return _largest_gap(rates.reshape(len(rates), -1, count)) if count else np.full(len(rates), np.nan)

    doubt = np.full(columns.shape[1], _HALF_A_ROW)
    return Additive(columns=columns, finish=finish, doubt=doubt, unit=unit, gauge=gauge, is_gap=True)


def _numbered(groups: Strings) -> tuple[list[str], Ints]:
    """Return the groups in order, and the number of each row's, -1 for none."""
    known = sorted({group for group in groups if group is not None})
    place = {group: index for index, group in enumerate(known)}
    return known, np.array([place.get(group, -1) for group in groups], dtype=np.int64)


def _paired(sums: Floats, count: int) -> Floats:
    """Return (b, conditions × groups, 2): chosen and not chosen."""
    if count == 0:
        return np.zeros((len(sums), 0, 2))
    cells = sums.reshape(len(sums), -1, 2, count)
    return np.moveaxis(cells, 2, 3).reshape(len(sums), -1, 2)


def _largest_gap(rates: Floats) -> Floats:
    """Return (b,) the largest range over conditions of (b, conditions, groups) rates."""
    defined = np.isfinite(rates)
    highest = np.where(defined, rates, -np.inf).max(axis=2)
    lowest = np.where(defined, rates, np.inf).min(axis=2)
    with np.errstate(invalid="ignore"):
        ranges = np.where(defined.sum(axis=2) >= 2, highest - lowest, np.nan)
    return np.asarray(ranges.max(axis=1))
