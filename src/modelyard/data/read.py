"""Read the rows of one file, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from modelyard.core.data_plan import Format, Reading
from modelyard.data.csv_rows import csv_rows
from modelyard.data.json_rows import json_rows
from modelyard.data.raw import RawRows
from modelyard.data.sources import Source
from modelyard.errors import TooLarge, WrongFormat


def raw_rows(
    source: Source, reading: Reading, *, names: Sequence[str] | None = None, rows: int | None = None
) -> Iterator[RawRows]:
    """Yield the rows of a file in order; of Parquet, only the columns in `names` and at most `rows` at a time."""
    if source.format is Format.CSV:
        return csv_rows(source, reading)
    if source.format is Format.JSONL:
        return json_rows(source, reading)
    return _parquet_rows(source, reading, names, rows)


def parquet_schema(source: Source) -> pl.Schema:
    """Return the columns of a Parquet file with their types; raises WrongFormat."""
    try:
        return pl.Schema(pl.read_parquet_schema(source.path))
    except pl.exceptions.PolarsError as error:
        raise _broken(source, error) from error


def _parquet_rows(source: Source, reading: Reading, names: Sequence[str] | None, rows: int | None) -> Iterator[RawRows]:
    schema = parquet_schema(source)
    if len(schema) > reading.most_columns:
        raise TooLarge(f"`{source.name}` has {len(schema)} columns; at most {reading.most_columns} are read.")
    wanted = [name for name in schema if names is None or name in set(names)]
    table = pl.scan_parquet(source.path, glob=False).select(wanted)
    yield RawRows(table.clear().collect(), np.empty(0, np.int64), (), 0)
    number = 1
    try:
        for frame in table.collect_batches(chunk_size=rows or 1 << 18, maintain_order=True):
            numbers = np.arange(number, number + frame.height, dtype=np.int64)
            number += frame.height
            yield RawRows(frame, numbers, (), source.size_bytes)
    except pl.exceptions.PolarsError as error:
        raise _broken(source, error) from error


def _broken(source: Source, error: Exception) -> WrongFormat:
    return WrongFormat(f"`{source.name}` cannot be read as Parquet: {str(error).splitlines()[0]}. Is the file whole?")
