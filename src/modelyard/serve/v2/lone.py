"""A single row of plain columns, packed without numpy: the lone request, where every microsecond shows.

`bundle.check` is the truth of what is accepted; here is a part of it, value by value. What needs a closer look is left
to it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.bundle.intake import Packed
from modelyard.bundle.values import LARGEST_INTEGER, LONGEST_STRING
from modelyard.core.contract import Column, Contract, Kind
from modelyard.core.encoding import MISSING

_NAN = math.nan
_NAT = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _MICROSECOND


class Lone:
    """Packs the plain columns of a single row, for one contract."""

    def __init__(self, contract: Contract, *, unknown_category: str) -> None:
        features = contract.features
        self._cells = [
            (column.name, column.kind, column.nullable, _moment_of(column))
            for column in features
            if column.kind.is_cell
        ]
        refuse = unknown_category == "refuse"
        self._strings = [
            (
                column.name,
                column.nullable,
                frozenset(column.categories) if refuse and column.kind is Kind.CATEGORY else None,
            )
            for column in features
            if column.kind.is_string
        ]
        self._missing = frozenset((*contract.missing_texts, MISSING))
        letters = ("q" if column.kind.is_time else "d" for column in features if column.kind.is_cell)
        self._pack = struct.Struct("<" + "".join(letters)).pack

    def pack(self, named: Mapping[str, Any]) -> Packed | None:
        """Return the row; None where a value is not plainly what its column takes."""
        cells = self._row_cells(named)
        if cells is None:
            return None
        strings = self._row_strings(named)
        if strings is None:
            return None
        for values in named.values():
            if values is None or len(values) != 1:
                return None
        return Packed(self._pack(*cells), strings)

    def _row_cells(self, named: Mapping[str, Any]) -> list[float] | None:
        cells: list[float] = []
        for name, kind, nullable, moment in self._cells:
            values = named.get(name)
            value = None if values is None else values[0]
            of = type(value)
            if value is None:
                if not nullable:
                    return None
                cells.append(_NAN if moment is None else _NAT)
            elif moment is not None:
                micros = moment(value) if of is str else None
                if micros is None:
                    return None
                cells.append(micros)
            elif (
                (of is float and kind is Kind.NUMBER and value - value == 0.0)  # neither NaN nor infinity
                or (of is int and kind is not Kind.BOOLEAN and -LARGEST_INTEGER <= value <= LARGEST_INTEGER)
                or (of is bool and kind is Kind.BOOLEAN)
            ):
                cells.append(value)
            else:
                return None
        return cells

    def _row_strings(self, named: Mapping[str, Any]) -> list[str | None] | None:
        strings: list[str | None] = []
        missing = self._missing
        for name, nullable, known in self._strings:
            values = named.get(name)
            value = None if values is None else values[0]
            if value is None:
                if not nullable:
                    return None
            elif (
                type(value) is not str
                or not value.isascii()
                or len(value) > LONGEST_STRING
                or value in missing
                or (known is not None and value not in known)
            ):
                return None
            strings.append(value)
        return strings


def _moment_of(column: Column) -> Callable[[str], int | None] | None:
    """Return how ISO 8601 text becomes microseconds since 1970; None where a closer look is needed."""
    if not column.kind.is_time:
        return None
    whole_days, plain = column.kind is Kind.DATE, column.format is None

    def micros(text: str) -> int | None:
        if not plain:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        found = (moment - _EPOCH) // _MICROSECOND
        return None if whole_days and found % _DAY else found

    return micros
