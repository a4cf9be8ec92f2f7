"""Cut CSV text into rows and count their fields, so that no parser can fill or drop any unseen.

The quick way counts quotes, separators and line ends with numpy; it is exact where every quote
opens or closes a field as RFC 4180 has it. A block with any other quote takes the careful way, row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Array, Bools, Ints

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
UNCLOSED = "a quoted field is not closed"
AFTER_QUOTE = "text follows the closing quote of a field"
TOO_LONG = "the row is longer than `data.longest_row_bytes`"
NUL = "the row holds a NUL byte"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be cut: its place in the block, counted from 0, the reason and the bytes."""

    index: int
    rule: str
    detail: str
    data: bytes


@dataclass(frozen=True)
class Cut:
    """The rows of a block: the good ones as clean CSV, and how many bytes of the block they all took."""

    good: bytes
    indexes: Ints  # of the good rows among all rows, blank ones counted
    bad: tuple[BadRow, ...]
    rows: int  # all of them, blank ones counted
    used: int


@dataclass(frozen=True)
class Dialect:
    """How rows are written, and how long one may be."""

    separator: int
    width: int
    longest: int


def cut(data: bytes, dialect: Dialect, *, final: bool) -> Cut:
    """Cut a block that begins at a row's start; an unfinished last row is left unless `final`.

    >>> done = cut(b"1,2\\n3,4,5\\n6,", Dialect(separator=44, width=2, longest=1000), final=False)
    >>> done.good, [bad.detail for bad in done.bad], done.used
    (b'1,2\\n', ['3 fields seen, 2 wanted'], 10)
    """
    if final and data and not data.endswith(b"\n"):
        data += b"\n"
    quick = _cut_quickly(data, dialect)
    stuck = quick is None or len(data) - quick.used > dialect.longest or (final and quick.used < len(data))
    if quick is None or stuck:
        return _cut_carefully(data, dialect, final=final)
    return quick


def first_row(data: bytes, separator: int, *, longest: int, final: bool) -> tuple[list[str], int] | str | None:
    """Return the fields of the first row that is not blank and where it ends; a reason in words if it cannot be
    cut; None if more bytes are needed."""
    start = 0
    if final and not data.endswith(b"\n"):
        data += b"\n"
    while data[start : start + 1] in (b"\n", b"\r"):
        start += 1
    row = _row(data, start, separator, longest, final)
    if row is None:
        return None
    if row.fault:
        return row.fault
    return [field.decode("utf-8") for field in row.fields], row.end


def _cut_quickly(data: bytes, dialect: Dialect) -> Cut | None:
    """Cut with numpy; None if some quote neither opens nor closes a field."""
    view = np.frombuffer(data, np.uint8)
    ends, separators = np.flatnonzero(view == _NEWLINE), np.flatnonzero(view == dialect.separator)
    if b'"' in data:
        quotes = np.flatnonzero(view == _QUOTE)
        if not _well_quoted(view, quotes, dialect.separator):
            return None
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    if not len(ends):
        return Cut(good=b"", indexes=np.empty(0, np.int64), bad=(), rows=0, used=0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    fields = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    return _gather(data, view, starts, ends, fields, dialect)


def _well_quoted(view: Array, quotes: Ints, separator: int) -> bool:
    """Say whether every quote opens a field, closes one, or is one of a pair inside one."""
    opening, closing = quotes[0::2], quotes[1::2]
    before = view[np.maximum(opening - 1, 0)]
    paired = np.zeros(len(opening), dtype=bool)
    paired[1:] = closing[: len(opening) - 1] == opening[1:] - 1
    opens = paired | (opening == 0) | (before == separator) | (before == _NEWLINE)
    after = view[np.minimum(closing + 1, len(view) - 1)]
    line_end = (after == _RETURN) & (view[np.minimum(closing + 2, len(view) - 1)] == _NEWLINE)
    cut_off = (closing == len(view) - 1) | ((after == _RETURN) & (closing == len(view) - 2))
    closes = cut_off | line_end | (after == separator) | (after == _NEWLINE) | (after == _QUOTE)
    return bool(opens.all() and closes.all())


def _gather(data: bytes, view: Array, starts: Ints, ends: Ints, fields: Ints, dialect: Dialect) -> Cut:
    """Keep the rows of the right width; where all are, the block itself is kept."""
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (view[starts] == _RETURN))
    nul = np.zeros(len(ends), dtype=bool)
    if b"\0" in data:
        holders = np.searchsorted(ends, np.flatnonzero(view == 0))
        nul[holders[holders < len(ends)]] = True
    good = (fields == dialect.width) & ~nul & (lengths <= dialect.longest) & ~blank
    used = int(ends[-1]) + 1
    bad = tuple(
        _bad(int(index), data[starts[index] : ends[index]], int(fields[index]), bool(nul[index]), dialect)
        for index in np.flatnonzero(~good & ~blank)
    )
    kept = data[:used] if good.all() else b"".join(data[start:end] for start, end in _runs(good, starts, ends))
    return Cut(good=kept, indexes=np.flatnonzero(good), bad=bad, rows=len(ends), used=used)


def _bad(index: int, row: bytes, fields: int, nul: bool, dialect: Dialect) -> BadRow:
    if nul:
        return BadRow(index=index, rule=NUL, detail=NUL, data=row)
    if len(row) > dialect.longest:
        return BadRow(index=index, rule=TOO_LONG, detail=f"{TOO_LONG} ({len(row)} bytes)", data=row)
    few = "too few fields" if fields < dialect.width else "too many fields"
    return BadRow(index=index, rule=few, detail=f"{fields} fields seen, {dialect.width} wanted", data=row)


def _runs(good: Bools, starts: Ints, ends: Ints) -> Iterator[tuple[int, int]]:
    """Yield the byte ranges of runs of good rows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for begin, end in zip(edges[0::2], edges[1::2], strict=True):
        yield int(starts[begin]), int(ends[end - 1]) + 1


@dataclass(frozen=True)
class _Row:
    end: int  # just past its line end
    fields: list[bytes]
    odd: bool  # a quote stands inside an unquoted field
    fault: str = ""


def _cut_carefully(data: bytes, dialect: Dialect, *, final: bool) -> Cut:
    """Cut row by row. A row whose quotes are wrong costs its first line only."""
    good: list[bytes] = []
    indexes: list[int] = []
    bad: list[BadRow] = []
    start = index = 0
    while start < len(data):
        row = _row(data, start, dialect.separator, dialect.longest, final)
        if row is None:
            break
        text = data[start : row.end - 1]
        blank = text in (b"", b"\r")
        if row.fault:
            bad.append(BadRow(index=index, rule=row.fault, detail=row.fault, data=text))
        elif len(row.fields) != dialect.width or b"\0" in text or len(text) > dialect.longest:
            if not blank:
                bad.append(_bad(index, text, len(row.fields), b"\0" in text, dialect))
        elif not blank:
            good.append(_quoted(row.fields, dialect.separator) if row.odd else data[start : row.end])
            indexes.append(index)
        start, index = row.end, index + 1
    return Cut(good=b"".join(good), indexes=np.array(indexes, dtype=np.int64), bad=tuple(bad), rows=index, used=start)


_QUOTED = re.compile(rb'"([^"]*(?:""[^"]*)*)"(?!")')
_BARE = {separator: re.compile(rb"[^\n" + re.escape(bytes([separator])) + rb"]*") for separator in range(1, 128)}


def _row(data: bytes, start: int, separator: int, longest: int, final: bool) -> _Row | None:
    """Cut one row; None if the data ends before it does and more may come."""
    fields: list[bytes] = []
    place, odd, limit = start, False, min(len(data), start + longest + 2)
    while True:
        quoted = data[place : place + 1] == b'"'
        match = (_QUOTED if quoted else _BARE[separator]).match(data, place, limit if quoted else len(data))
        if match is None:
            return _faulty(data, start, UNCLOSED) if final or limit < len(data) else None
        place = match.end()
        after = data[place : place + 1]
        if quoted:
            fields.append(match[1].replace(b'""', b'"'))
            if after == b"\r" and data[place + 1 : place + 2] in (b"\n", b""):
                place += 1
                after = data[place : place + 1]
        else:
            fields.append(match[0].removesuffix(b"\r") if after == b"\n" else match[0])
            odd = odd or b'"' in match[0]
        if after == b"":
            return None
        if after == b"\n":
            return _Row(end=place + 1, fields=fields, odd=odd)
        if after[0] != separator:
            return _faulty(data, start, AFTER_QUOTE)
        place += 1


def _faulty(data: bytes, start: int, fault: str) -> _Row | None:
    end = data.find(b"\n", start)
    return _Row(end=end + 1, fields=[], odd=False, fault=fault) if end >= 0 else None


def _quoted(fields: list[bytes], separator: int) -> bytes:
    """Write a row with every field quoted, as RFC 4180 has it."""
    return bytes([separator]).join(b'"' + field.replace(b'"', b'""') + b'"' for field in fields) + b"\n"
