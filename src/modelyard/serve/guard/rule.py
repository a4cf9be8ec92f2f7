"""A rule over checked columns: cases of conditions, data only, made ready against the contract.

The first case whose conditions a row meets is the row's. A missing value meets no condition but `missing`.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from modelyard.bundle.values import reader_of, seen
from modelyard.core.arrays import Array, Bools, Columns
from modelyard.core.contract import Column, Contract, Kind, Role

Comparison = Literal["at_least", "above", "at_most", "below", "equals", "one_of", "missing"]

FEW = 16  # rows up to which they are looked at one by one: a lone row takes a tenth of numpy's time so

_BY_SIZE: dict[str, Callable[[Any, Any], Any]] = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"test": "is"}):
    """One question to a column, as the spec writes it."""

    column: str
    test: Comparison
    value: Any = None


class Unusable(Exception):
    """A condition that cannot be asked of a contract's columns; the text says why."""


class Meets:
    """A condition that is ready: `one` judges a value, as `tolist` gives it, and `every` a whole column."""

    __slots__ = ("every", "name", "one")

    def __init__(self, name: str, one: Callable[[Any], bool], every: Callable[[Array], Bools]) -> None:
        self.name, self.one, self.every = name, one, every


def chosen(cases: Sequence[Sequence[Meets]], columns: Columns, rows: int) -> list[int]:
    """Return for each row which case it meets first; `len(cases)` where it meets none."""
    if rows <= FEW:
        names = {meets.name for conditions in cases for meets in conditions}
        values = {name: columns[name].tolist() for name in names}
        return [_first(cases, values, row) for row in range(rows)]
    places = np.full(rows, len(cases))
    left = np.ones(rows, dtype=bool)
    for number, conditions in enumerate(cases):
        met = left.copy()
        for meets in conditions:
            met &= meets.every(columns[meets.name])
            if not met.any():
                break
        places[met] = number
        left &= ~met
        if not left.any():
            break
    found: list[int] = places.tolist()
    return found


def _first(cases: Sequence[Sequence[Meets]], values: Mapping[str, Sequence[Any]], row: int) -> int:
    for number, conditions in enumerate(cases):
        for meets in conditions:
            if not meets.one(values[meets.name][row]):
                break
        else:
            return number
    return len(cases)


def ready(condition: Condition, contract: Contract) -> Meets:
    """Return a condition that is ready for the columns of a contract; raises Unusable.

    What is compared is read as a caller's value of that column would be, so a rule and a request mean the same.
    """
    column = _feature(condition.column, contract)
    name, test, kind = column.name, condition.test, column.kind
    if test == "missing":
        if condition.value is not None:
            raise Unusable(f"column `{name}`: saw a value, and `missing` compares with nothing")
        return Meets(name, _is_missing, _missing_of(kind))
    if test == "one_of":
        if not isinstance(condition.value, Sequence) or isinstance(condition.value, str) or not condition.value:
            raise Unusable(f"column `{name}`: saw {seen(condition.value)}, wanted a list of values for `one_of`")
        return _among(name, kind, [_read(value, column, contract) for value in condition.value])
    wanted = _read(condition.value, column, contract)
    if test == "equals":
        return _among(name, kind, [wanted])
    if kind.is_string or kind is Kind.BOOLEAN:
        raise Unusable(f"column `{name}`: `{test}` compares by size, and a {kind.value} has none")
    compare, moment = _BY_SIZE[test], wanted.tolist() if kind.is_time else wanted
    return Meets(  # false for NaN and NaT
        name, lambda value: value is not None and compare(value, moment), lambda column: compare(column, wanted)
    )


def _feature(name: str, contract: Contract) -> Column:
    for column in contract.columns:
        if column.name == name:
            if column.role is not Role.FEATURE:
                raise Unusable(f"column `{name}`: it is {_article(column.role.value)}, and the model is given features")
            if column.kind is Kind.TENSOR:
                raise Unusable(f"column `{name}`: it is a tensor, which a rule cannot look into")
            return column
    near = difflib.get_close_matches(name[:100], [column.name for column in contract.features], n=1)
    raise Unusable(f"unknown column `{name[:100]}`" + (f", nearest `{near[0]}`" if near else ""))


def _article(word: str) -> str:
    return f"an {word} column" if word[0] in "aeiou" else f"a {word} column"


def _read(value: object, column: Column, contract: Contract) -> Any:
    """Return a value of the rule as it is in memory."""
    if column.kind.is_string and isinstance(value, int):  # as labels in the spec: 1 means "1", true means "true"
        value = ("true" if value else "false") if isinstance(value, bool) else str(value)
    try:
        found = None if value in contract.missing_texts else reader_of(column)(value)
    except ValueError as fault:
        raise Unusable(f"column `{column.name}`: {fault}") from fault
    if found is None:
        raise Unusable(f"column `{column.name}`: saw {seen(value)}, which is a missing value: ask `is: missing`")
    return found


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _missing_of(kind: Kind) -> Callable[[Array], Bools]:
    if kind.is_numeric:
        return np.isnan
    if kind.is_time:
        return np.isnat
    return lambda column: _each(value is None for value in column)


def _among(name: str, kind: Kind, wanted: Sequence[Any]) -> Meets:
    known = frozenset(value.tolist() for value in wanted) if kind.is_time else frozenset(wanted)
    if kind.is_string:
        return Meets(name, known.__contains__, lambda column: _each(value in known for value in column))
    values = np.array(wanted)
    return Meets(name, known.__contains__, lambda column: np.isin(column, values))


def _each(flags: Iterable[bool]) -> Bools:
    return np.fromiter(flags, dtype=bool)
