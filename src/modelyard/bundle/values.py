"""Reading one value as callers send it: what `bundle.check` says of each kind, value by value."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from modelyard.core.contract import Column, Kind
from modelyard.core.encoding import MISSING

LARGEST_INTEGER = 2**53
LONGEST_STRING = 100_000  # characters

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime(1970, 1, 1, microsecond=1) - datetime(1970, 1, 1)


def seen(value: object) -> str:
    """Return a short picture of a foreign value."""
    if isinstance(value, str):
        text = repr(value[:61])
    elif isinstance(value, int) and abs(value) > 1e60:
        return "an integer of more than 60 digits"
    else:
        text = repr(value) if isinstance(value, int | float | type(None)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"saw {seen(value)}, wanted a number")
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
        raise ValueError(f"saw {seen(value)}, wanted a whole number")
    if abs(int(value)) > LARGEST_INTEGER:  # not `number`: 2**53 + 1 has become 2**53 there
        raise ValueError(f"saw {seen(value)}, wanted a whole number between -2**53 and 2**53")
    return number


def _boolean(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_):
        return float(value)
    if not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"saw {seen(value)}, wanted true or false")
    if value != value:
        return None
    if value not in (0, 1):
        raise ValueError(f"saw {seen(value)}, wanted true or false")
    return float(value)


def _string(value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError(f"saw {seen(value)}, wanted a string")
    if len(value) > LONGEST_STRING:
        raise ValueError(f"saw a string of {len(value)} characters, wanted at most {LONGEST_STRING}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("saw text that is not valid Unicode, wanted UTF-8") from None
    return None if value == MISSING else value


def _moment(value: Any) -> np.datetime64 | None:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else _within(value)
    if isinstance(value, datetime):
        return _microseconds(value)
    if isinstance(value, date):
        return np.datetime64(value, "us")
    if not isinstance(value, str):
        raise ValueError(f"saw {seen(value)}, wanted a date such as 2026-01-31")
    try:
        return _microseconds(datetime.fromisoformat(value))
    except ValueError:
        raise ValueError(f"saw {seen(value)}, wanted an ISO 8601 date or time such as 2026-01-31T12:00:00Z") from None


def _day(value: Any) -> np.datetime64 | None:
    moment = _moment(value)
    if moment is not None and moment != moment.astype("datetime64[D]"):
        raise ValueError(f"saw a time of day in {seen(value)}, wanted a date such as 2026-01-31")
    return moment


def _within(value: np.datetime64) -> np.datetime64:
    """Return a moment in microseconds; of a foreign unit it may lie beyond what other callers can write."""
    year = int(value.astype("datetime64[Y]").astype(np.int64)) + 1970
    if not 1 <= year <= 9999:
        raise ValueError(f"saw the year {year}, wanted 1 to 9999")
    moment: np.datetime64 = value.astype("datetime64[us]")
    return moment


def _microseconds(moment: datetime) -> np.datetime64:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return np.datetime64((aware - _EPOCH) // _MICROSECOND, "us")


# kind -> the value in memory; None where it is missing; raises ValueError with the reason
READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _boolean,
    Kind.CATEGORY: _string,
    Kind.TEXT: _string,
    Kind.DATE: _day,
    Kind.DATETIME: _moment,
}


def reader_of(column: Column) -> Callable[[Any], Any]:
    """Return how a column's values are read; of dates and times also as the training files write them."""
    read, written = READERS[column.kind], column.format
    if written is None or not column.kind.is_time:
        return read

    def either(value: Any) -> Any:
        if isinstance(value, str):
            with contextlib.suppress(ValueError):  # it may be ISO 8601 all the same; if not, that reader says so
                return _microseconds(datetime.strptime(value, written))
        return read(value)

    return either
