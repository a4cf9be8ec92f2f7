"""Give a column its type, strictly: a value that does not fit is pointed at, never bent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from modelyard.core.contract import Kind
from modelyard.data.dates import ISO, parse_dates, parse_times

WIDEST = 2**53  # beyond it a float64 cannot tell two whole numbers apart
DTYPES: dict[Kind, pl.DataType] = {
    Kind.INTEGER: pl.Int64(),
    Kind.NUMBER: pl.Float64(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.CATEGORY: pl.String(),
    Kind.TEXT: pl.String(),
    Kind.DATE: pl.Date(),
    Kind.DATETIME: pl.Datetime("us"),
}
TRUE, FALSE = ("true", "yes"), ("false", "no")
_WANTED = {
    Kind.INTEGER: "not a whole number within ±2^53",
    Kind.NUMBER: "not a finite number",
    Kind.BOOLEAN: "not true or false",
    Kind.CATEGORY: "not text",
    Kind.TEXT: "not text",
    Kind.DATE: "not a date",
    Kind.DATETIME: "not a date and time",
}


@dataclass(frozen=True)
class Typed:
    """A column of its kind's type, and the rows whose value did not fit (None: all fit); those are null."""

    values: pl.Series
    bad: pl.Series | None
    rule: str


def clean(values: pl.Series, null_values: Sequence[str], *, strip: bool) -> pl.Series:
    """Return a column of text with missing values as null, and without blanks around if `strip`.

    Other types are returned as they are but for NaN, which becomes null, and categoricals, which become text.
    """
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype in (pl.Float32, pl.Float64):
        return values.fill_nan(None)
    if values.dtype != pl.String:
        return values
    if strip:
        values = values.str.strip_chars()
    missing = values.is_in(list(null_values))
    if not missing.any():
        return values
    return values.to_frame().select(pl.when(~pl.lit(missing)).then(pl.first()).alias(values.name)).to_series()


def cast(values: pl.Series, kind: Kind, format: str | None = None) -> Typed:
    """Return a clean column as `kind`; `format` is of dates and times that are not ISO 8601.

    Infinity is never a number. A whole number beyond 2**53 is not an integer.
    """
    result = _CASTS[kind](values, format or ISO)
    bad = result.is_null() & values.is_not_null()
    return Typed(values=result, bad=bad if bad.any() else None, rule=_WANTED[kind])


def plain(dtype: pl.DataType) -> bool:
    """Say whether a column of this type holds single values that some kind can hold."""
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object))


def to_text(values: pl.Series) -> pl.Series:
    """Spell every value: whole floats without `.0`, truth as `true` and `false`."""
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        same = (whole.cast(pl.Float64) == values.cast(pl.Float64)) & (whole.abs() <= WIDEST)
        frame = pl.DataFrame({"value": values.cast(pl.String), "whole": whole.cast(pl.String), "same": same})
        picked = frame.select(pl.when("same").then("whole").otherwise("value").alias("value")).to_series()
        return picked.rename(values.name)
    return values.cast(pl.String)


def _integers(values: pl.Series, _: str) -> pl.Series:
    if values.dtype == pl.String:
        whole = values.cast(pl.Int64, strict=False)
        if (whole.is_null() & values.is_not_null()).any():
            whole = whole.zip_with(whole.is_not_null(), _whole(values.cast(pl.Float64, strict=False)))
    elif values.dtype.is_integer() or values.dtype in (pl.Boolean, pl.Null):
        whole = values.cast(pl.Int64, strict=False)
    elif values.dtype.is_numeric():
        whole = _whole(values.cast(pl.Float64))
    else:
        return _nothing(values, pl.Int64())
    return _where(whole, (whole >= -WIDEST) & (whole <= WIDEST))


def _whole(values: pl.Series) -> pl.Series:
    """Keep floats that are whole numbers, as integers."""
    whole = values.cast(pl.Int64, strict=False)
    return _where(whole, whole.cast(pl.Float64) == values)


def _numbers(values: pl.Series, _: str) -> pl.Series:
    if isinstance(values.dtype, pl.Duration):
        return values.dt.total_microseconds().cast(pl.Float64) / 1e6
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Boolean, pl.Null)):
        return _nothing(values, pl.Float64())
    numbers = values.cast(pl.Float64, strict=False)
    finite = numbers.is_finite()
    return numbers if finite.all() else _where(numbers, finite)


def _booleans(values: pl.Series, _: str) -> pl.Series:
    if values.dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Boolean)
    if values.dtype.is_numeric():
        return _where(values == 1, (values == 0) | (values == 1))
    if values.dtype != pl.String:
        return _nothing(values, pl.Boolean())
    low = values.str.to_lowercase()
    yes = low.is_in([*TRUE, "1", "t", "y"])
    return _where(yes, yes | low.is_in([*FALSE, "0", "f", "n"]))


def _texts(values: pl.Series, _: str) -> pl.Series:
    return to_text(values)


def _dates(values: pl.Series, format: str) -> pl.Series:
    if values.dtype == pl.String:
        return parse_dates(values, format)
    if values.dtype in (pl.Date, pl.Null):
        return values.cast(pl.Date)
    if isinstance(values.dtype, pl.Datetime):
        return _moments(values, format).cast(pl.Date)
    return _nothing(values, pl.Date())


def _moments(values: pl.Series, format: str) -> pl.Series:
    if values.dtype == pl.String:
        return parse_times(values, format)
    if isinstance(values.dtype, pl.Datetime):
        zoned = values.dtype.time_zone is not None
        moved = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else values
        return moved.cast(pl.Datetime("us"))
    if values.dtype in (pl.Date, pl.Null):
        return values.cast(pl.Datetime("us"))
    return _nothing(values, pl.Datetime("us"))


def _where(values: pl.Series, keep: pl.Series) -> pl.Series:
    """Make null what is not to be kept."""
    if keep.all(ignore_nulls=True):
        return values
    return values.to_frame().select(pl.when(pl.lit(keep)).then(pl.first()).alias(values.name)).to_series()


def _nothing(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [None], dtype=dtype).new_from_index(0, len(values))


_CASTS: dict[Kind, Callable[[pl.Series, str], pl.Series]] = {
    Kind.INTEGER: _integers,
    Kind.NUMBER: _numbers,
    Kind.BOOLEAN: _booleans,
    Kind.CATEGORY: _texts,
    Kind.TEXT: _texts,
    Kind.DATE: _dates,
    Kind.DATETIME: _moments,
}
