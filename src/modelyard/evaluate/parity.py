"""Parity: two ways to answer the same rows must give the same answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Array, Bools, Columns, Floats
from modelyard.core.contract import Contract, Kind
from modelyard.core.evidence import Parity, ParityRow

PROBABILITY_TOLERANCE = 1e-5
DEVIATION_TOLERANCE = 1e-5  # of the target's standard deviation
MARGIN = 1e-5  # a label may change only where the reference is this close to its threshold
WORST = 20  # rows that are listed


def parity(
    between: str, contract: Contract, columns: Columns, reference: Floats, answers: Answers, *,
    threshold: float | None, deviation: float,
) -> Parity:  # fmt: skip
    """Hold answers against a reference of the same rows.

    Args:
        reference: float64, probabilities (rows, classes) or values (rows, 1).
        threshold: of a binary task; None means 0.5.
        deviation: of the target in the training part; regression's unit of tolerance.
    """
    if len(answers) != len(reference):
        tolerance, difference, changed = _missing_rows(reference, deviation, classes=bool(contract.classes))
    elif answers.values is not None:
        tolerance = DEVIATION_TOLERANCE * deviation
        difference = np.abs(answers.values - reference[:, 0])
        changed = np.zeros(len(difference), dtype=np.bool_)
    else:
        assert answers.probabilities is not None and answers.labels is not None
        tolerance = PROBABILITY_TOLERANCE
        difference = np.abs(answers.probabilities.astype(np.float64) - reference).max(axis=1, initial=0.0)
        changed = _changed(contract, reference, answers.labels, threshold)
    bad = ~(difference <= tolerance) | changed  # written so that NaN is bad
    order = np.argsort(-np.nan_to_num(difference, nan=np.inf), kind="stable")
    worst = [int(row) for row in order if bad[row]][:WORST]
    return Parity(
        between=between,
        rows=len(difference),
        largest_difference=float(np.nan_to_num(difference, nan=np.finfo(np.float64).max).max(initial=0.0)),
        tolerance=tolerance,
        labels_changed=int(changed.sum()),
        passed=not bool(bad.any()),
        worst=tuple(_row(contract, columns, row, float(difference[row])) for row in worst),
    )


def _missing_rows(reference: Floats, deviation: float, *, classes: bool) -> tuple[float, Floats, Bools]:
    """Return what answers to another number of rows come to: no row can be held against its own answer."""
    tolerance = PROBABILITY_TOLERANCE if classes else DEVIATION_TOLERANCE * deviation
    return tolerance, np.full(len(reference), np.nan), np.zeros(len(reference), dtype=np.bool_)


def servable(contract: Contract, columns: Columns, *, unknown_category: str) -> Bools:
    """Return which rows a service may be sent: the contract refuses the others before the model sees them."""
    sound = np.ones(len(columns), dtype=np.bool_)
    for column in contract.features:
        values = columns[column.name]
        if not column.nullable:
            sound &= ~_missing(values)
        if column.kind is Kind.CATEGORY and unknown_category == "refuse":
            known = {None, *column.categories}
            sound &= np.array([value in known for value in values], dtype=np.bool_)
    return sound


def _missing(values: Array) -> Bools:
    if values.dtype == object:
        return np.array([value is None for value in values], dtype=np.bool_)
    return np.asarray(np.isnat(values) if values.dtype.kind == "M" else np.isnan(values), dtype=np.bool_)


def _changed(contract: Contract, reference: Floats, labels: Array, threshold: float | None) -> Bools:
    """Return where the label differs although the reference is clear about it."""
    names = np.array(contract.classes, dtype=object)
    if len(contract.classes) == 2:
        bar = 0.5 if threshold is None else threshold
        wanted = names[(reference[:, 1] >= bar).astype(np.int64)]
        margin = np.abs(reference[:, 1] - bar)
    else:
        ordered = np.sort(reference, axis=1)
        wanted = names[reference.argmax(axis=1)]
        margin = ordered[:, -1] - ordered[:, -2]
    return np.asarray((labels != wanted) & (margin >= MARGIN), dtype=np.bool_)


def _row(contract: Contract, columns: Columns, row: int, difference: float) -> ParityRow:
    shown = {column.name: _plain(columns[column.name][row]) for column in contract.features}
    return ParityRow(
        row=row, difference=difference if np.isfinite(difference) else np.finfo(np.float64).max, columns=shown
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.floating):
        return None if np.isnan(value) else float(value)
    return value
