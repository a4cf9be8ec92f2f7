"""The closed, versioned set of preprocessing steps: raw columns in, graph inputs out.

What ONNX expresses exactly (shift and scale, category maps) is in the graph. Here is what it cannot:
missing strings, parts of dates, words. A step never learns; training writes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache

import msgspec
import numpy as np

from modelyard.core.arrays import Array, Columns, Floats
from modelyard.core.encoding import MISSING

VERSION = 2  # 2 brought the tensor step

PARTS = ("epoch_days", "year", "month", "day", "weekday", "day_of_year", "hour", "minute")
_NONE = np.array(None, dtype=object)
_WORDS = re.compile(r"\w+")
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
MOST_TEXT = 20_000  # characters of a text that are read


class NumberStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="number"):
    """A number as it is, float64, (rows, 1); missing is NaN."""

    column: str

    @property
    def output(self) -> str:
        return self.column

    def apply(self, values: Array) -> Array:
        return np.asarray(values, dtype=np.float64).reshape(-1, 1)


class StringStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="string"):
    """A string as it is, (rows, 1); missing is `MISSING`."""

    column: str

    @property
    def output(self) -> str:
        return self.column

    def apply(self, values: Array) -> Array:
        if len(values) == 1:  # the lone request, where every microsecond shows
            return np.array([[MISSING if values[0] is None else values[0]]], dtype=object)
        missing = np.equal(values, _NONE)
        if missing.any():
            values = np.where(missing, MISSING, values)
        return values.reshape(-1, 1)


class DateStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="date"):
    """Parts of a date or time in UTC, float64, (rows, parts); missing is NaN in every part."""

    column: str
    parts: tuple[str, ...]

    @property
    def output(self) -> str:
        return f"{self.column}.parts"

    def apply(self, values: Array) -> Array:
        moments = np.asarray(values, dtype="datetime64[us]")
        if len(moments) == 1:  # the lone request, where every microsecond shows
            return np.array([_parts_of(moments[0], self.parts)])
        parts = date_parts(moments)
        block = np.stack([parts[part] for part in self.parts], axis=1)
        block[np.isnat(moments)] = np.nan
        return block


class TextStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="text"):
    """TF-IDF weights of known words, float32, (rows, words + 2), each row of weights of length 1 or 0.

    Words are runs of letters, digits and `_`, lower-cased by `str.lower`, which does not depend on
    the locale. Term frequency is 1 + ln(count). The last two columns are ln(1 + words) and whether
    the text is missing. Source: Manning et al., 2008, "Introduction to Information Retrieval", 6.4.
    """

    column: str
    vocabulary: tuple[str, ...]
    weights: tuple[float, ...]  # inverse document frequency of each word

    @property
    def output(self) -> str:
        return f"{self.column}.words"

    def apply(self, values: Array) -> Array:
        places = _places(self.vocabulary)
        width = len(self.vocabulary)
        block = np.zeros((len(values), width + 2), dtype=np.float32)
        for row, text in enumerate(values):
            if text is None:
                block[row, width + 1] = 1.0
                continue
            block[row, width] = self._fill(block[row, :width], text, places)
        return block

    def _fill(self, row: Array, text: str, places: Mapping[str, int]) -> float:
        counts: dict[int, int] = {}
        words = words_of(text)
        for word in words:
            place = places.get(word)
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        weights = {place: (1.0 + math.log(count)) * self.weights[place] for place, count in counts.items()}
        norm = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
        for place, weight in weights.items():
            row[place] = weight / norm
        return math.log1p(len(words))


class TensorStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tensor"):
    """A tensor as it is, (rows, *shape)."""

    column: str

    @property
    def output(self) -> str:
        return self.column

    def apply(self, values: Array) -> Array:
        return np.ascontiguousarray(values)


Step = NumberStep | StringStep | DateStep | TextStep | TensorStep


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ordered steps of a bundle, as `preprocess.json` holds them."""

    version: int
    steps: tuple[Step, ...]

    def apply(self, columns: Columns) -> dict[str, Array]:
        """Return the graph's inputs by name, each (rows, width), a tensor (rows, *shape)."""
        return {step.output: step.apply(columns[step.column]) for step in self.steps}


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, lower-cased; a text is read up to `MOST_TEXT` characters.

    >>> words_of("To be, or not_to be?")
    ['to', 'be', 'or', 'not_to', 'be']
    """
    return _WORDS.findall(text[:MOST_TEXT].lower())


def date_parts(moments: Array) -> dict[str, Floats]:
    """Return every part of `PARTS` for datetime64[us] moments; what NaT gives is undefined.

    >>> parts = date_parts(np.array(["2026-11-21T05:06"], dtype="datetime64[us]"))
    >>> int(parts["weekday"][0]), int(parts["hour"][0])
    (5, 5)
    """
    days = moments.astype("datetime64[D]")
    months = moments.astype("datetime64[M]")
    years = moments.astype("datetime64[Y]")
    seconds = (moments - days).astype(np.int64) // 1_000_000
    number = days.astype(np.int64)
    parts = {
        "epoch_days": moments.astype(np.int64) / 86_400e6,
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (days - months).astype(np.int64) + 1,
        "weekday": (number + 3) % 7,  # Monday is 0; 1970-01-01 was a Thursday
        "day_of_year": (days - years).astype(np.int64) + 1,
        "hour": seconds // 3600,
        "minute": seconds // 60 % 60,
    }
    return {name: part.astype(np.float64) for name, part in parts.items()}


def _parts_of(moment: np.datetime64, parts: Sequence[str]) -> list[float]:
    """Return the parts of one moment as `date_parts` does, by the standard library, which is quicker for one."""
    when: object = moment.item()
    if when is None:
        return [math.nan] * len(parts)
    if not isinstance(when, datetime):  # beyond the years that the standard library knows
        many = date_parts(np.array([moment]))
        return [float(many[part][0]) for part in parts]
    return [_READ[part](when) for part in parts]


_READ: dict[str, Callable[[datetime], float]] = {
    "epoch_days": lambda when: (when - _EPOCH) // _MICROSECOND / 86_400e6,
    "year": lambda when: float(when.year),
    "month": lambda when: float(when.month),
    "day": lambda when: float(when.day),
    "weekday": lambda when: float(when.weekday()),
    "day_of_year": lambda when: float(when.toordinal() - date(when.year, 1, 1).toordinal() + 1),
    "hour": lambda when: float(when.hour),
    "minute": lambda when: float(when.minute),
}


@lru_cache(maxsize=64)
def _places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    """Return word -> place, made once for each vocabulary in use."""
    return {word: place for place, word in enumerate(vocabulary)}
