"""What a rollout watches in the rows of a request: which are in a slice, and of which group each is. Pure."""

from __future__ import annotations

import numpy as np

from modelyard.bundle.answers import column_text
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind
from modelyard.core.requirement import Slice


def column_of(contract: Contract, name: str) -> Column | None:
    """Return the feature of that name, where its values can be told apart; None where requests do not have it."""
    for column in contract.features:
        if column.name == name and column.kind is not Kind.TENSOR:
            return column
    return None


def all_in(slice: Slice, column: Column, columns: Columns) -> bool:
    """Say whether all rows are in a slice: a number by its value, a time by how it begins (`2026`, `2026-01`)."""
    values = columns[column.name]
    if column.kind.is_string:
        return all(value == slice.value for value in values)
    if column.kind.is_time:
        return bool(np.char.startswith(np.datetime_as_string(values), slice.value).all())
    try:
        wanted = {"true": 1.0, "false": 0.0}.get(slice.value.lower())
        return bool((values == (float(slice.value) if wanted is None else wanted)).all())
    except ValueError:
        return False


def groups_of(column: Column, columns: Columns) -> list[str | None]:
    """Return the group of each row, as the evaluation names it: of a time the year; None where it is missing."""
    values = columns[column.name]
    if column.kind.is_string:
        return list(values)
    if column.kind.is_time:
        return [None if np.isnat(year) else str(year) for year in values.astype("datetime64[Y]")]
    if column.kind is Kind.BOOLEAN:
        return [None if np.isnan(value) else "true" if value else "false" for value in values]
    return [None if np.isnan(value) else column_text(value) for value in values.tolist()]
