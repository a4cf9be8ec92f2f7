"""Truth and answers of the same rows, in the shape that measures read."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Bools, Columns, Floats, Strings
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.requirement import Slice
from modelyard.measure.outcome import Outcome

RANGES = 4  # a numeric column is sliced into this many ranges of equal mass


def outcome_of(contract: Contract, columns: Columns, answers: Answers, *, group: str | None = None) -> Outcome:
    """Return what metrics are computed from; `group` names the column whose groups are compared."""
    groups = None if group is None else group_values(contract.column(group), columns)
    weight = contract.with_role(Role.WEIGHT)
    clusters = contract.with_role(Role.GROUP)
    shared: dict[str, Any] = {
        "groups": groups,
        "weights": np.asarray(columns[weight[0].name], dtype=np.float64) if weight else None,
        "clusters": columns[clusters[0].name] if clusters else None,
    }
    if contract.task is Task.REGRESSION:
        truth = np.asarray(columns[contract.target], dtype=np.float64)
        return Outcome(task=contract.task, y_true=truth, values=answers.values, **shared)
    assert answers.labels is not None and answers.probabilities is not None
    places = {name: place for place, name in enumerate(contract.classes)}
    return Outcome(
        task=contract.task,
        classes=len(contract.classes),
        y_true=np.array([places[value] for value in columns[contract.target]], dtype=np.int64),
        probabilities=answers.probabilities.astype(np.float64),
        labels=np.array([places[value] for value in answers.labels], dtype=np.int64),
        **shared,
    )


def group_values(column: Column, columns: Columns) -> Strings:
    """Return each row's group as a string; numbers are cut into ranges of equal mass, missing is None."""
    values = columns[column.name]
    out = np.empty(len(values), dtype=object)
    if column.kind.is_string:
        out[:] = values
        return out
    if column.kind.is_time:
        years = values.astype("datetime64[Y]")
        out[:] = [None if np.isnat(year) else str(year) for year in years]
        return out
    if column.kind is Kind.BOOLEAN:
        out[:] = [None if np.isnan(value) else "true" if value else "false" for value in values]
        return out
    if len(np.unique(values[~np.isnan(values)])) <= 2 * RANGES:
        out[:] = [None if np.isnan(value) else _spelled(value) for value in values]
        return out
    return _ranges(values, out)


def rows_of(slice: Slice, contract: Contract, columns: Columns) -> Bools:
    """Return which rows a slice names: a number by its value, a time by how it begins (`2026`, `2026-01-31`)."""
    column = contract.column(slice.column)
    values = columns[slice.column]
    if column.kind.is_string:
        return np.array([value == slice.value for value in values], dtype=np.bool_)
    if column.kind.is_time:
        return np.char.startswith(np.datetime_as_string(values), slice.value)
    try:
        wanted = {"true": 1.0, "false": 0.0}.get(slice.value.lower())
        return np.asarray(values == (float(slice.value) if wanted is None else wanted), dtype=np.bool_)
    except ValueError:
        return np.zeros(len(values), dtype=np.bool_)


def _ranges(values: Floats, out: Strings) -> Strings:
    present = values[~np.isnan(values)]
    cuts = np.unique(np.quantile(present, np.linspace(0, 1, RANGES + 1)))
    places = np.clip(np.searchsorted(cuts, values, side="right") - 1, 0, len(cuts) - 2)
    names = [f"{_spelled(cuts[place])} to {_spelled(cuts[place + 1])}" for place in range(len(cuts) - 1)]
    out[:] = [None if np.isnan(value) else names[place] for value, place in zip(values, places, strict=True)]
    return out


def _spelled(value: float) -> str:
    """Write a number so that no other is written alike, and `float` reads it back."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
