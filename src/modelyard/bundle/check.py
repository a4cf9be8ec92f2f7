"""Rows as callers send them, held against the contract: columns in memory, or every fault in words.

The treatment, stated once: a number column takes JSON numbers, NaN counts as missing, infinities are
refused; an integer column takes whole numbers up to 2**53; a boolean takes true, false, 0 and 1; dates
and times are ISO 8601 text or written as the training files write them, UTC where no offset is given, and
a date has no time of day but midnight. A string that means "missing" in the training files means it here.
Missing (null, or the column left out) is allowed where the training part had missing values. A column
that the contract does not know is refused. A number outside the range seen is accepted. A category never
seen is accepted and treated like a rare one, unless the release says `refuse`. A tensor is a nested list,
or an array, of the contract's shape and datatype, and is never missing as a whole. Ids, audit columns and
the target may be sent and reach no model.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.bundle.tensor import DTYPES, read_tensor
from modelyard.bundle.values import LARGEST_INTEGER, LONGEST_STRING, reader_of, seen
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.encoding import MISSING
from modelyard.errors import ContractBroken

MOST_FAULTS = 100
LONGEST_HINTED = 100  # characters of a name that a nearest one is looked for
MOST_HINTS = 5  # of one column: looking for the nearest name is slow
MOST_CONTRACTS = 16  # that are kept ready; a service that loads releases again and again must not grow by them

Given = Sequence[Any] | Array


def check_rows(contract: Contract, rows: Sequence[Mapping[str, Any]], *, unknown_category: str = "accept") -> Columns:
    """Return the feature columns of JSON rows; raises ContractBroken with row, column and reason."""
    ready = _ready(contract)
    faults: list[str] = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            faults.append(f"row {index}: saw {seen(row)}, wanted an object of named values")
        elif not row.keys() <= ready.known:
            faults.extend(_unknown(index, name, contract) for name in list(row.keys() - ready.known)[:MOST_FAULTS])
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise ContractBroken(faults[:MOST_FAULTS])
    named = {column.name: [row.get(column.name) for row in rows] for column in ready.features}
    return _columns(ready, named, len(rows), unknown_category)


def check_values(contract: Contract, named: Mapping[str, Given], *, unknown_category: str = "accept") -> Columns:
    """Return the feature columns of values by column name; raises ContractBroken.

    A column left out is missing in every row; all columns given must be of equal length. Arrays of
    numpy, of one dimension, are taken too.
    """
    ready = _ready(contract)
    strange = itertools.islice((name for name in named if name not in ready.known), MOST_FAULTS)
    faults = [_unknown(None, name, contract) for name in strange]
    flat = [
        name
        for name, values in named.items()
        if name not in ready.tensors and (isinstance(values, str | bytes) or np.ndim(values) != 1)
    ]
    faults.extend(f"column `{name[:100]}`: wanted one flat list of values" for name in flat if name in ready.known)
    if not faults and len({len(values) for values in named.values()}) > 1:
        faults.append(f"columns differ in length: { {name: len(values) for name, values in named.items()} }")
    if faults:
        raise ContractBroken(faults)
    return _columns(ready, named, len(next(iter(named.values()), ())), unknown_category)


@dataclass(frozen=True)
class _Ready:
    """What is asked of a contract again with every request."""

    contract: Contract
    known: frozenset[str]
    features: tuple[Column, ...]
    missing_texts: frozenset[str]
    tensors: frozenset[str]


_CONTRACTS: dict[int, _Ready] = {}


def _ready(contract: Contract) -> _Ready:
    ready = _CONTRACTS.get(id(contract))
    if ready is None or ready.contract is not contract:
        known = frozenset(column.name for column in contract.columns)
        features = contract.features
        tensors = frozenset(column.name for column in features if column.kind is Kind.TENSOR)
        ready = _Ready(contract, known, features, frozenset(contract.missing_texts), tensors)
        if len(_CONTRACTS) >= MOST_CONTRACTS:
            _CONTRACTS.clear()
        _CONTRACTS[id(contract)] = ready
    return ready


def _columns(ready: _Ready, named: Mapping[str, Given], count: int, unknown_category: str) -> Columns:
    faults: list[str] = []
    columns: dict[str, Array] = {}
    for column in ready.features:
        values = named.get(column.name)
        if column.kind is Kind.TENSOR:
            columns[column.name] = _tensor(column, values, count, faults)
            continue
        if values is not None and column.kind.is_string and ready.missing_texts:
            values = [None if type(value) is str and value in ready.missing_texts else value for value in values]
        refuse = unknown_category == "refuse" and column.kind is Kind.CATEGORY
        fast = None if refuse else _FAST.get(column.kind)
        found = None if values is None or fast is None else fast(values)
        if found is None:
            found = _slow(column, [None] * count if values is None else values, refuse, faults)
            if len(faults) >= MOST_FAULTS:
                break
        columns[column.name] = found
    if faults:
        raise ContractBroken(faults)
    return Columns(columns)


def _fast_numbers(values: Given) -> Array | None:
    """Return a column of finite numbers; None where any value needs a closer look."""
    if isinstance(values, np.ndarray):
        found = values.astype(np.float64) if values.dtype.kind in "fiu" else None
    else:
        found = None
        if len(values) == 1:  # the lone request, where every microsecond shows
            value = values[0]
            if type(value) is float and value - value == 0.0:
                return np.array(values)
        if _NUMBERS.issuperset(map(type, values)):
            try:
                found = np.array(values, dtype=np.float64)
            except OverflowError:
                return None
    return found if found is not None and np.isfinite(found).all() else None


def _fast_integers(values: Given) -> Array | None:
    if type(values) is list and len(values) == 1:
        value = values[0]
        if type(value) is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
            return np.array(values, dtype=np.float64)
    found = _fast_numbers(values)
    # Strictly below: 2**53 + 1 has become 2**53 by now.
    sound = found is not None and bool((np.abs(found) < LARGEST_INTEGER).all() and (found == np.floor(found)).all())
    return found if sound else None


def _fast_booleans(values: Given) -> Array | None:
    given = values.tolist() if isinstance(values, np.ndarray) else values
    return np.array(given, dtype=np.float64) if {bool}.issuperset(map(type, given)) else None


def _fast_strings(values: Given) -> Array | None:
    given = list(values)
    if not {str}.issuperset(map(type, given)):
        return None
    for value in given:
        if not value.isascii() or len(value) > LONGEST_STRING or value == MISSING:
            return None
    array = np.empty(len(given), dtype=object)
    array[:] = given
    return array


_NUMBERS = frozenset({float, int})
_FAST: dict[Kind, Callable[[Given], Array | None]] = {
    Kind.INTEGER: _fast_integers,
    Kind.NUMBER: _fast_numbers,
    Kind.BOOLEAN: _fast_booleans,
    Kind.CATEGORY: _fast_strings,
    Kind.TEXT: _fast_strings,
}


def _slow(column: Column, values: Given, refuse: bool, faults: list[str]) -> Array:
    """Return one column, value by value; faults are added, and the value of a faulty row is missing."""
    read = reader_of(column)
    known = frozenset(column.categories) if refuse else frozenset()
    hints = 0
    out: list[Any] = []
    for index, value in enumerate(values):
        try:
            item = None if value is None else read(value)
            if item is None and not column.nullable:
                raise ValueError("is missing, and the column has no missing values in the training part")
            if refuse and item is not None and item not in known:
                hints += 1
                near = _nearest(str(item), column.categories) if hints <= MOST_HINTS else ""
                raise ValueError(f"saw the unknown category {seen(item)}{near}")
        except ValueError as fault:
            faults.append(f"row {index}, column `{column.name}`: {fault}")
            if len(faults) >= MOST_FAULTS:
                break
            item = None
        out.append(item)
    return _array(column.kind, out)


def _tensor(column: Column, values: Given | None, count: int, faults: list[str]) -> Array:
    """Return a tensor column; where it cannot be read, a fault for each row that is to blame."""
    if count == 0:
        return np.empty((0, *(max(size, 0) for size in column.shape)), dtype=DTYPES[column.datatype or "FP32"])
    try:
        if values is None:
            raise ValueError("is missing")
        return read_tensor(column, values, count)
    except ValueError as fault:
        alone = list(itertools.islice(_rows_at_fault(column, values), MOST_FAULTS))
        faults.extend(alone or [f"column `{column.name}`: {fault}"])
        return np.empty((count, 0))


def _rows_at_fault(column: Column, values: Given | None) -> Iterator[str]:
    for index, value in enumerate(values if values is not None else ()):
        try:
            read_tensor(column, [value], 1)
        except ValueError as fault:
            yield f"row {index}, column `{column.name}`: {fault}"


def _array(kind: Kind, values: list[Any]) -> Array:
    if kind.is_numeric:
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if kind.is_time:
        return np.array(["NaT" if value is None else value for value in values], dtype="datetime64[us]")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _unknown(index: int | None, name: object, contract: Contract) -> str:
    names = [column.name for column in contract.columns if column.role is not Role.IGNORE]
    where = "" if index is None else f"row {index}: "
    return f"{where}unknown column `{str(name)[:LONGEST_HINTED]}`{_nearest(str(name), names)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Name the nearest of what is known; nothing where the search would take long."""
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_HINTED else []
    return f", nearest `{near[0]}`" if near else ""
