"""Tell what kind a column is from all of its values."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from functools import reduce

import polars as pl

from modelyard.core.contract import Kind
from modelyard.data.cast import FALSE, TRUE, WIDEST
from modelyard.data.dates import DATE_FORMATS, ISO, TIME_FORMATS, readable, twin

NEARLY_ALL = 0.9  # of the values that are not missing; the others are malformed then
_SOME = 0.005  # this share of leading zeros or of numbers beyond 2**53 makes a column of ids
_SAMPLE = 1_000
_REPEATED = 20  # strings with no more distinct values are a category, whatever they say
_WORDS = 2.5  # mean words a value from which many distinct strings are text


@dataclass(frozen=True)
class Survey:
    """Counts over the values of a column that are not missing; surveys of parts add up with `+`.

    `distinct` is exact for one part and the largest of the parts after adding.
    """

    values: int = 0
    integers: int = 0
    numbers: int = 0
    padded: int = 0  # numbers with leading zeros
    wide: int = 0  # whole numbers beyond 2**53
    booleans: int = 0
    blanks: int = 0
    distinct: int = 0
    dates: Counter[str] = field(default_factory=Counter)  # by format
    times: Counter[str] = field(default_factory=Counter)
    strings: bool = False  # the file holds text here
    native: Kind | None = None  # what the file itself says

    def __add__(self, other: Survey) -> Survey:
        return Survey(
            values=self.values + other.values,
            integers=self.integers + other.integers,
            numbers=self.numbers + other.numbers,
            padded=self.padded + other.padded,
            wide=self.wide + other.wide,
            booleans=self.booleans + other.booleans,
            blanks=self.blanks + other.blanks,
            distinct=max(self.distinct, other.distinct),
            dates=self.dates + other.dates,
            times=self.times + other.times,
            strings=self.strings or other.strings,
            native=_shared(self, other),
        )


@dataclass(frozen=True)
class Inferred:
    """A column's kind, how its dates are written if not as ISO 8601, and what a person should know of it."""

    kind: Kind
    format: str | None = None
    note: str | None = None


def survey(values: pl.Series, *, numbers: bool) -> Survey:
    """Count what the values of a clean column could be.

    Args:
        numbers: whether text may be a number or a truth value, as in CSV; where the format has
            types of its own, text that looks like a number was meant as text.
    """
    if values.dtype != pl.String:
        return _native(values)
    present = values.drop_nulls()
    counted = Survey(values=len(present), strings=len(present) > 0)
    if numbers:
        counted += _numbers(present)
    if len(present) == 0 or counted.numbers >= NEARLY_ALL * len(present):
        return counted
    distinct = present.n_unique()
    return counted + Survey(
        distinct=distinct,
        blanks=int(present.str.count_matches(" ", literal=True).sum()) if distinct > _REPEATED else 0,
        booleans=int(present.str.to_lowercase().is_in([*TRUE, *FALSE]).sum()) if numbers and distinct <= 12 else 0,
        dates=_dates(present, times=False),
        times=_dates(present, times=True),
    )


def _numbers(present: pl.Series) -> Survey:
    floats = present.cast(pl.Float64, strict=False)
    finite = floats.is_finite().fill_null(False)
    count = int(finite.sum())
    if count == 0:
        return Survey()
    parsed, magnitudes = (
        (present, floats.abs()) if finite.all() else (present.filter(finite), floats.filter(finite).abs())
    )
    # as floats 2**53 and 2**53 + 1 are one, so the bound itself counts as beyond it
    whole = parsed.str.contains(r"^[+-]?\d+$")
    leading = parsed.filter(parsed.str.starts_with("0") | parsed.str.starts_with("-0") | parsed.str.starts_with("+0"))
    return Survey(
        integers=int((whole & (magnitudes < WIDEST)).sum()),
        numbers=count,
        padded=int(leading.str.contains(r"^[+-]?0\d").sum()),
        wide=int((whole & (magnitudes >= WIDEST)).sum()),
    )


def _dates(present: pl.Series, *, times: bool) -> Counter[str]:
    """Count by format over all values; formats that a sample rules out are not tried on the rest."""
    step = max(1, len(present) // _SAMPLE)
    sample = present.gather_every(step)
    if not sample.str.contains(r"\d.*\d").any():
        return Counter()
    likely = readable(sample, TIME_FORMATS if times else DATE_FORMATS, times=times)
    formats = [format for format, count in likely.items() if count >= 0.5 * len(sample)]
    return Counter(readable(present, formats, times=times)) if step > 1 else Counter({f: likely[f] for f in formats})


def _native(values: pl.Series) -> Survey:
    """Survey a column whose type the file tells."""
    dtype, count = values.dtype, len(values) - values.null_count()
    if dtype.is_integer():
        low, high = values.min(), values.max()
        huge = isinstance(low, int) and isinstance(high, int) and max(-low, high) > WIDEST
        wide = int((~values.is_between(-WIDEST, WIDEST)).sum()) if huge else 0
        return Survey(values=count, integers=count - wide, numbers=count - wide, wide=wide, native=Kind.INTEGER)
    kind = _native_kind(dtype)
    return Survey(values=count, strings=kind is None and count > 0, native=kind)


def _native_kind(dtype: pl.DataType) -> Kind | None:
    if dtype.is_float() or dtype.is_decimal() or isinstance(dtype, pl.Duration):
        return Kind.NUMBER
    if isinstance(dtype, pl.Datetime):
        return Kind.DATETIME
    return {pl.Boolean(): Kind.BOOLEAN, pl.Date(): Kind.DATE}.get(dtype)


def _shared(one: Survey, other: Survey) -> Kind | None:
    """Return the type that two parts of a column agree on."""
    if not one.values or not other.values:
        return one.native or other.native
    if {one.native, other.native} == {Kind.INTEGER, Kind.NUMBER}:
        return Kind.NUMBER
    return one.native if one.native is other.native else None


def total(surveys: list[Survey]) -> Survey:
    """Return the survey of a column from those of its parts."""
    return reduce(operator.add, surveys, Survey())


def infer(name: str, seen: Survey) -> Inferred:
    """Say what kind a column is, with a note where that may surprise.

    A column is of numbers, dates or times if nearly all of its values (nine in ten) can be read so.
    Whole numbers with leading zeros or beyond 2**53 are names of things, so they stay text.

    >>> infer("age", Survey(values=100, integers=99, numbers=99)).kind
    <Kind.INTEGER: 'integer'>
    """
    if seen.values == 0:
        return Inferred(
            Kind.CATEGORY, note=f"`{name}` holds no value at all; taken as a category that is always missing."
        )
    if seen.wide > _SOME * seen.values:
        return Inferred(Kind.CATEGORY, note=f"`{name}` holds whole numbers beyond 2^53, so it is kept as text.")
    if seen.native is not None and not seen.strings:
        return Inferred(seen.native)
    if seen.numbers >= NEARLY_ALL * seen.values:
        return _number(name, seen)
    if seen.booleans == seen.values:
        return Inferred(Kind.BOOLEAN)
    dated = _date(name, seen)
    return dated if dated is not None else _string(name, seen)


def _number(name: str, seen: Survey) -> Inferred:
    if seen.padded > _SOME * seen.values:
        return Inferred(
            Kind.CATEGORY,
            note=f"`{name}` holds numbers with leading zeros, so it is kept as text. "
            "Declare `kind: integer` if they count something.",
        )
    kind = Kind.INTEGER if seen.integers + seen.wide == seen.numbers else Kind.NUMBER
    odd = seen.values - seen.numbers + (seen.wide if kind is Kind.INTEGER else 0)
    note = f"`{name}` is taken as {kind}: {odd} of {seen.values} values do not fit and are malformed." if odd else None
    return Inferred(kind, note=note)


def _date(name: str, seen: Survey) -> Inferred | None:
    """Return a date or time if one format reads nearly all values, and no other reads them otherwise."""
    for kind, counts in ((Kind.DATE, seen.dates), (Kind.DATETIME, seen.times)):
        format, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
        if count < NEARLY_ALL * seen.values or not format:
            continue
        rival = twin(format)
        if rival is not None and counts[rival] == count:
            return Inferred(
                Kind.CATEGORY if seen.distinct <= 1000 else Kind.TEXT,
                note=f"`{name}` may be dates written `{format}` or `{rival}`, and no value tells which, so it is kept "
                "as text; declare its `kind` and `format`.",
            )
        odd = seen.values - count
        note = (
            f"`{name}` is taken as {kind}: {odd} of {seen.values} values do not fit and are malformed." if odd else None
        )
        return Inferred(kind, format=None if format == ISO else format, note=note)
    return None


def _string(name: str, seen: Survey) -> Inferred:
    many = seen.distinct > min(1000, max(_REPEATED, 0.2 * seen.values))
    wordy = seen.blanks / seen.values + 1 >= _WORDS
    if many and wordy:
        return Inferred(Kind.TEXT)
    share = seen.numbers / seen.values
    note = f"`{name}` is taken as a category, although {share:.0%} of its values are numbers." if share >= 0.5 else None
    return Inferred(Kind.CATEGORY, note=note)
