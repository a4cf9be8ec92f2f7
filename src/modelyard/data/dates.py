"""Read dates and times: ISO 8601 always, other ways of writing where they cannot be misread."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

ISO = "iso"
_ISO_TIMES = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
_ISO_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M%#z")
_OTHER_DATES = (
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
)
_CLOCKS = (" %H:%M:%S", " %H:%M")
_TWINS = {"%d/%m/%Y": "%m/%d/%Y", "%d-%m-%Y": "%m-%d-%Y"}  # day and month may change places

DATE_FORMATS = (ISO, *_OTHER_DATES)
TIME_FORMATS = (ISO, *(date + clock for date in _OTHER_DATES for clock in _CLOCKS))


def parse_dates(texts: pl.Series, format: str) -> pl.Series:
    """Return texts as Date; null where a text is none in this format.

    >>> parse_dates(pl.Series(["2024-02-29", "2023-02-29"]), ISO).to_list()
    [datetime.date(2024, 2, 29), None]
    """
    if format == ISO:
        return texts.str.to_date("%Y-%m-%d", strict=False)
    return _sane(texts.str.to_date(format, strict=False))


def parse_times(texts: pl.Series, format: str) -> pl.Series:
    """Return texts as Datetime in microseconds, UTC, without a zone; null where a text is none in this format.

    A time with `Z` or an offset is moved to UTC; one without is taken as UTC. A date alone is its midnight.
    """
    if format != ISO:
        if "%z" in format:
            return _naive(texts.str.to_datetime(format, strict=False, time_unit="us", time_zone="UTC"))
        return _sane(texts.str.to_datetime(format, strict=False, time_unit="us"))
    result = pl.Series(texts.name, [None], dtype=pl.Datetime("us")).new_from_index(0, len(texts))
    for attempt in (*_ISO_TIMES, *_ISO_ZONED):
        left = result.is_null() & texts.is_not_null()
        if not left.any():
            break
        result = _fill(result, left, texts, attempt)
    return result


def readable(texts: pl.Series, formats: Sequence[str], *, times: bool) -> dict[str, int]:
    """Count how many of the texts each format reads; formats that read none are left out."""
    parse = parse_times if times else parse_dates
    counts = {format: int(parse(texts, format).is_not_null().sum()) for format in formats}
    return {format: count for format, count in counts.items() if count}


def twin(format: str) -> str | None:
    """Return the format that reads the same digits with day and month changed over, if there is one."""
    for one, other in _TWINS.items():
        if format.startswith(one):
            return other + format[len(one) :]
        if format.startswith(other):
            return one + format[len(other) :]
    return None


def _fill(result: pl.Series, left: pl.Series, texts: pl.Series, attempt: str) -> pl.Series:
    """Read the texts that are still left in one more way."""
    todo = texts.filter(left)
    if attempt in _ISO_ZONED:
        found = _naive(todo.str.to_datetime(attempt, strict=False, time_unit="us", time_zone="UTC"))
    else:
        found = todo.str.to_datetime(attempt, strict=False, time_unit="us")
    if len(todo) == len(texts):
        return found
    return result.clone().scatter(left.arg_true(), found) if found.is_not_null().any() else result


def _naive(moments: pl.Series) -> pl.Series:
    return moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _sane(moments: pl.Series) -> pl.Series:
    """Drop years of fewer than four digits: `01/02/24` is not the year 24."""
    return moments.to_frame().select(pl.when(pl.first().dt.year() >= 1000).then(pl.first()))[moments.name]
