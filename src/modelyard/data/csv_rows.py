"""Read CSV: every row is counted and cut here, then polars parses only rows of the right width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from modelyard.core.data_plan import Reading
from modelyard.data.csv_cut import Cut, Dialect, cut, first_row
from modelyard.data.quarantine import quarantined
from modelyard.data.raw import Fault, RawRows
from modelyard.data.sources import Source
from modelyard.data.text_blocks import BLOCK_BYTES, Block, text_blocks
from modelyard.errors import EmptyData, TooLarge, WrongFormat

_RIVALS = (",", ";", "\t", "|")


def csv_rows(source: Source, reading: Reading, *, block_bytes: int = BLOCK_BYTES) -> Iterator[RawRows]:
    """Yield the rows of a CSV file in order, all values as text, those of a wrong shape set apart.

    The first batch may be empty, so that the columns of a file without rows are known too.
    Raises: Unreadable, EmptyData, WrongFormat or TooLarge for what is wrong with the whole file.
    """
    separator = _separator(reading)
    blocks = text_blocks(source, reading.encoding, block_bytes=block_bytes)
    names, notes, rest, position = _header(source, blocks, reading, separator)
    dialect = Dialect(separator=separator, width=len(names), longest=reading.longest_row_bytes)
    yield RawRows(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), np.empty(0, np.int64), (), position, notes)
    number = 2
    for block in _with_end(blocks, position):
        data = rest + block.data
        done = cut(data, dialect, final=not block.data)
        rest = data[done.used :]
        if len(rest) > reading.longest_row_bytes and b"\n" not in rest:
            raise WrongFormat(
                f"`{source.name}`: no line ends within {reading.longest_row_bytes} bytes after row "
                f"{number + done.rows - 1}. Is it a text file with a row a line?"
            )
        if done.rows:
            yield _rows(done, names, source, number, separator, block.position)
        number += done.rows


def _with_end(blocks: Iterator[Block], position: int) -> Iterator[Block]:
    """Yield the blocks, then an empty one that says the file has ended."""
    for block in blocks:
        position = block.position
        yield block
    yield Block(data=b"", position=position)


def _rows(done: Cut, names: Sequence[str], source: Source, number: int, separator: int, position: int) -> RawRows:
    frame = (
        _parse(done.good, names, separator, source.name)
        if len(done.indexes)
        else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    )
    if frame.height != len(done.indexes):
        raise WrongFormat(
            f"`{source.name}`: {len(done.indexes)} rows were counted after row {number - 1} but {frame.height} parsed. "
            "Are quotes and line ends as RFC 4180 has them?"
        )
    faults = tuple(
        Fault(
            quarantined(
                file=source.name,
                row=number + bad.index,
                column=None,
                reason=bad.detail,
                text=bad.data[:2000].decode("utf-8", "replace").rstrip("\r\n"),
            ),
            bad.rule,
        )
        for bad in done.bad
    )
    return RawRows(frame, done.indexes + number, faults, position)


def _parse(data: bytes, names: Sequence[str], separator: int, name: str) -> pl.DataFrame:
    try:
        return pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            separator=chr(separator),
            quote_char='"',
            empty_string_is_null=False,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        raise WrongFormat(f"`{name}` cannot be parsed as CSV: {str(error).splitlines()[0]}") from error


def _separator(reading: Reading) -> int:
    place = ord(reading.separator)
    if place > 127 or reading.separator in '"\r\n\0':
        raise WrongFormat(
            f"`{reading.separator!r}` cannot separate fields. Set `data.separator` to `,`, `;`, a tab or `|`."
        )
    return place


def _header(
    source: Source, blocks: Iterator[Block], reading: Reading, separator: int
) -> tuple[list[str], tuple[str, ...], bytes, int]:
    """Return the column names, what was noted of them, the bytes after the header, and how far was read."""
    data, position, final = b"", 0, False
    while True:
        block = next(blocks, None)
        final = block is None
        if block is not None:
            data, position = data + block.data, block.position
        row = first_row(data, separator, longest=reading.longest_row_bytes, final=final) if data.strip() else None
        if isinstance(row, str):
            raise WrongFormat(f"`{source.name}`: the header cannot be read: {row}.")
        if row is not None:
            fields, end = row
            names, notes = _names(fields, source, reading)
            return names, notes, data[end:], position
        if final:
            raise EmptyData(f"`{source.name}` holds no text but blanks.")
        if len(data) > reading.longest_row_bytes and data.strip():
            raise WrongFormat(
                f"`{source.name}`: no line ends within the first {len(data)} bytes. "
                "Is it a text file with a row a line?"
            )


def _names(fields: list[str], source: Source, reading: Reading) -> tuple[list[str], tuple[str, ...]]:
    """Check the header: no name twice, empty ones numbered."""
    if len(fields) > reading.most_columns:
        raise TooLarge(f"`{source.name}` has {len(fields)} columns; at most {reading.most_columns} are read.")
    if any("\0" in field for field in fields):
        raise WrongFormat(f"`{source.name}`: the header holds a NUL byte. Is it a text file, and in which encoding?")
    names = [field.strip() or f"column_{place}" for place, field in enumerate(fields, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        places = "; ".join(
            f"`{name}` at {', '.join(str(place) for place, other in enumerate(names, start=1) if other == name)}"
            for name in twice[:5]
        )
        raise WrongFormat(f"`{source.name}`: column names stand twice in the header: {places}. Rename all but one.")
    _check_separator(names, source, reading)
    nameless = [f"`{name}`" for name, field in zip(names, fields, strict=True) if not field.strip()]
    notes = (f"`{source.name}`: columns without a name are called {', '.join(nameless)}.",) if nameless else ()
    return names, notes


def _check_separator(names: list[str], source: Source, reading: Reading) -> None:
    """Refuse a header of one field that another separator would cut."""
    if len(names) > 1:
        return
    rival = next((one for one in _RIVALS if one != reading.separator and one in names[0]), None)
    if rival is not None:
        shown = "\\t" if rival == "\t" else rival
        raise WrongFormat(
            f"`{source.name}` has one column, `{names[0][:80]}`, when cut at `{reading.separator}`. "
            f'Set `data.separator: "{shown}"`.'
        )
