"""Read JSON lines: one object a line, its values text, numbers, true, false or null."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from modelyard.core.data_plan import Reading
from modelyard.data.quarantine import quarantined
from modelyard.data.raw import Fault, RawRows
from modelyard.data.sources import Source
from modelyard.data.text_blocks import BLOCK_BYTES, text_blocks
from modelyard.errors import TooLarge, WrongFormat

Scalar = str | bool | int | float | None

_DECODER = msgspec.json.Decoder(dict[str, Scalar])
_DTYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({str}): pl.String(),
    frozenset({bool}): pl.Boolean(),
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
}
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def json_rows(source: Source, reading: Reading, *, block_bytes: int = BLOCK_BYTES) -> Iterator[RawRows]:
    """Yield the objects of a JSON lines file in order; lines that are none are set apart.

    A column has the type of its values in the batch; where they differ it is text. A key that an
    object lacks is missing there. Blank lines are skipped but counted.
    """
    names: dict[str, None] = {}
    rest, number, position = b"", 1, 0
    for block in text_blocks(source, reading.encoding, block_bytes=block_bytes):
        *lines, rest = (rest + block.data).split(b"\n")
        position = block.position
        if len(rest) > reading.longest_row_bytes:
            raise WrongFormat(
                f"`{source.name}`: line {number + len(lines)} is longer than {reading.longest_row_bytes} bytes. "
                "Wanted: one JSON object a line (JSON lines), not one JSON document."
            )
        yield _batch(lines, names, source, number, position, reading)
        number += len(lines)
    if rest.strip():
        yield _batch([rest], names, source, number, position, reading)


def _batch(
    lines: Sequence[bytes], names: dict[str, None], source: Source, number: int, position: int, reading: Reading
) -> RawRows:
    objects: list[dict[str, Scalar]] = []
    numbers: list[int] = []
    faults: list[Fault] = []
    for row, line in enumerate(lines, start=number):
        try:
            objects.append(_DECODER.decode(line))
            numbers.append(row)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if line.strip():
                faults.append(_fault(line, source.name, row, error))
    for one in objects:
        if not one.keys() <= names.keys():
            names.update(dict.fromkeys(one))
    if len(names) > reading.most_columns:
        raise TooLarge(f"`{source.name}` has over {reading.most_columns} keys; no more are read.")
    columns = [_series(name, [one.get(name) for one in objects]) for name in names]
    mixed = frozenset(series.name for series, differ in columns if differ)
    frame = pl.DataFrame([series for series, _ in columns])
    return RawRows(frame, np.array(numbers, dtype=np.int64), tuple(faults), position, mixed=mixed)


def _series(name: str, values: list[Scalar]) -> tuple[pl.Series, bool]:
    """Return a column, and whether its values are of several types, which makes it text."""
    kinds = frozenset(map(type, values)) - {type(None)}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null), False
    dtype = _DTYPES.get(kinds)
    if dtype is None or (int in kinds and not _fits(values)):
        return pl.Series(name, [spell(value) for value in values], dtype=pl.String), True
    return pl.Series(name, values, dtype=dtype, strict=False), False


def _fits(values: Sequence[Any]) -> bool:
    """Say whether all whole numbers fit 64 bits."""
    whole = [value for value in values if type(value) is int]
    return min(whole) >= _SMALLEST and max(whole) <= _LARGEST


def spell(value: Scalar) -> str | None:
    """Return a JSON value as the text that stands for it in a column of text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _fault(line: bytes, name: str, row: int, error: Exception) -> Fault:
    column, rule, detail = None, "the line is not a JSON object of plain values", str(error)
    try:
        loose = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        rule = "the line is not JSON"
        detail = (
            f"{error}; NaN and Infinity are not JSON, write null" if b"NaN" in line or b"Infinity" in line else detail
        )
    else:
        nested = (
            next((key for key, value in loose.items() if isinstance(value, dict | list)), None)
            if isinstance(loose, dict)
            else None
        )
        if nested is not None:
            column, rule = nested, "a nested value"
            detail = "the value is an array or an object; wanted text, a number, true, false or null"
    text = line[:2000].decode("utf-8", "replace").rstrip("\r")
    return Fault(quarantined(file=name, row=row, column=column, reason=detail, text=text), rule)
