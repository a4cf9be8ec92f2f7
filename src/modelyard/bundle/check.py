"""Rows as callers send them, held against the contract: columns in memory, or every fault in words.

The treatment, stated once: a number column takes JSON numbers, NaN counts as missing, infinities are
refused; an integer column takes whole numbers up to 2**53; a boolean takes true, false, 0 and 1; dates
and times are ISO 8601 text, UTC where no offset is given. Missing (null, or the column left out) is
allowed where the training part had missing values. A column that the contract does not know is refused.
A number outside the range seen is accepted. A category never seen is accepted and treated like a rare
one, unless the release says `refuse`. Ids, audit columns and the target may be sent and reach no model.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.encoding import MISSING
from modelyard.errors import ContractBroken

MOST_FAULTS = 100
LARGEST_INTEGER = 2**53
LONGEST_STRING = 100_000  # characters

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_rows(contract: Contract, rows: Sequence[Mapping[str, Any]], *, unknown_category: str = "accept") -> Columns:
    """Return the feature columns of JSON rows; raises ContractBroken with row, column and reason."""
    faults: list[str] = []
    known = {column.name for column in contract.columns}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            faults.append(f"row {index}: saw {_seen(row)}, wanted an object of named values")
        elif not row.keys() <= known:
            faults.extend(_unknown(index, name, contract) for name in row.keys() - known)
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise ContractBroken(faults)
    named = {column.name: [row.get(column.name) for row in rows] for column in contract.features}
    return check_values(contract, named, unknown_category=unknown_category)


def check_values(
    contract: Contract, named: Mapping[str, Sequence[Any]], *, unknown_category: str = "accept"
) -> Columns:
    """Return the feature columns of values by column name; raises ContractBroken.

    A column left out is missing in every row; all columns given must be of equal length.
    """
    faults: list[str] = []
    known = {column.name for column in contract.columns}
    faults.extend(_unknown(None, name, contract) for name in named if name not in known)
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        faults.append(f"columns differ in length: {lengths}")
    if faults:
        raise ContractBroken(faults)
    count = next(iter(lengths.values()), 0)
    columns: dict[str, Array] = {}
    for column in contract.features:
        values = named.get(column.name)
        if values is None:
            values = [None] * count
        columns[column.name] = _convert(column, values, unknown_category, faults)
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise ContractBroken(faults[:MOST_FAULTS])
    return Columns(columns)


def _convert(column: Column, values: Sequence[Any], unknown_category: str, faults: list[str]) -> Array:
    """Return one column in memory; faults are added, and the value of a faulty row is missing."""
    read = _READERS[column.kind]
    refuse = unknown_category == "refuse" and column.kind is Kind.CATEGORY
    known = frozenset(column.categories) if refuse else frozenset()
    out: list[Any] = []
    for index, value in enumerate(values):
        try:
            item = None if value is None else read(value)
            if item is None and not column.nullable:
                raise ValueError("is missing, and the column has no missing values in the training part")
            if refuse and item is not None and item not in known:
                near = difflib.get_close_matches(str(item), column.categories, n=1)
                raise ValueError(f"saw the unknown category {_seen(item)}" + (f", nearest `{near[0]}`" if near else ""))
        except ValueError as fault:
            faults.append(f"row {index}, column `{column.name}`: {fault}")
            item = None
        out.append(item)
    return _array(column.kind, out)


def _array(kind: Kind, values: list[Any]) -> Array:
    if kind.is_numeric:
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if kind.is_time:
        return np.array(["NaT" if value is None else value for value in values], dtype="datetime64[us]")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"saw {_seen(value)}, wanted a number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("saw an integer beyond float64, wanted a number") from None
    if math.isinf(number):
        raise ValueError("saw an infinity, wanted a finite number")
    return None if math.isnan(number) else number


def _integer(value: Any) -> float | None:
    number = _number(value)
    if number is None:
        return None
    if number != math.floor(number):
        raise ValueError(f"saw {_seen(value)}, wanted a whole number")
    if abs(number) > LARGEST_INTEGER:
        raise ValueError(f"saw {_seen(value)}, wanted a whole number between -2**53 and 2**53")
    return number


def _boolean(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_):
        return float(value)
    number = None if isinstance(value, str) else _number(value)
    if number is None and not isinstance(value, str):
        return None
    if number not in (0.0, 1.0):
        raise ValueError(f"saw {_seen(value)}, wanted true or false")
    return number


def _string(value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError(f"saw {_seen(value)}, wanted a string")
    if len(value) > LONGEST_STRING:
        raise ValueError(f"saw a string of {len(value)} characters, wanted at most {LONGEST_STRING}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("saw text that is not valid Unicode, wanted UTF-8") from None
    return None if value == MISSING else value


def _date(value: Any) -> np.datetime64 | None:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return np.datetime64(value, "us")
    if not isinstance(value, str):
        raise ValueError(f"saw {_seen(value)}, wanted a date such as 2026-01-31")
    try:
        return _moment(datetime.fromisoformat(value))
    except ValueError:
        raise ValueError(f"saw {_seen(value)}, wanted an ISO 8601 date or time such as 2026-01-31T12:00:00Z") from None


def _moment(moment: datetime) -> np.datetime64:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    microseconds = (aware - _EPOCH) // _MICROSECOND
    return np.datetime64(microseconds, "us")


_MICROSECOND = datetime(1970, 1, 1, microsecond=1) - datetime(1970, 1, 1)

_READERS = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _boolean,
    Kind.CATEGORY: _string,
    Kind.TEXT: _string,
    Kind.DATE: _date,
    Kind.DATETIME: _date,
}


def _unknown(index: int | None, name: object, contract: Contract) -> str:
    names = [column.name for column in contract.columns if column.role is not Role.IGNORE]
    near = difflib.get_close_matches(str(name), names, n=1)
    where = "" if index is None else f"row {index}: "
    return f"{where}unknown column `{str(name)[:100]}`" + (f", nearest `{near[0]}`" if near else "")


def _seen(value: object) -> str:
    """Return a short picture of a foreign value."""
    text = repr(value) if isinstance(value, str | int | float | bool | type(None)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
