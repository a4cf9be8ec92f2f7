"""Load all rows of a table, types not yet given, malformed rows put aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from modelyard.core.arrays import Ints
from modelyard.core.data_plan import Format, Reading
from modelyard.core.ports import Progress
from modelyard.data.quarantine import Quarantine
from modelyard.data.raw import RawRows
from modelyard.data.read import parquet_schema, raw_rows
from modelyard.data.sources import Source, check_unchanged, find
from modelyard.errors import EmptyData, TooLarge, WrongFormat


@dataclass(frozen=True)
class Raw:
    """A table as its files hold it: columns of text, or of the types that the files tell."""

    frame: pl.DataFrame
    numbers: Ints  # row number of each row in its file
    files: Ints  # which of `sources` each row is from
    sources: tuple[Source, ...]
    mixed: frozenset[str]  # columns whose values differ in type from place to place; they are text here
    malformed: int  # rows put aside so far
    notes: tuple[str, ...]

    @property
    def format(self) -> Format:
        return self.sources[0].format

    @property
    def read(self) -> int:
        return self.frame.height + self.malformed


@dataclass(frozen=True)
class _Part:
    frames: list[pl.DataFrame]
    numbers: list[Ints]
    notes: tuple[str, ...]
    mixed: frozenset[str]
    malformed: int

    @property
    def rows(self) -> int:
        return sum(frame.height for frame in self.frames) + self.malformed

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for frame in self.frames for name in frame.columns))


def load(path: Path, reading: Reading, aside: Quarantine, progress: Progress) -> Raw:
    """Read a file or a folder of parts whole.

    Raises: Unreadable, EmptyData, WrongFormat or TooLarge, with the file, what was seen, what to do.
    """
    sources = find(path, reading.format)
    aside.begin()
    progress.stage(f"load {path.name}", total=float(sum(source.size_bytes for source in sources)))
    parts: list[_Part] = []
    done = rows = 0
    for source in sources:
        part = _read(source, reading, aside, progress, done, rows)
        parts.append(part)
        _check_columns(parts[0].names, part.names, sources[0], source)
        done, rows = done + source.size_bytes, rows + part.rows
    check_unchanged(sources)
    if rows == 0:
        raise EmptyData(f"`{path}` holds column names but no rows.")
    return _join(parts, sources)


def check_schema(path: Path, reading: Reading) -> None:
    """Refuse Parquet parts of differing columns before any is read whole."""
    sources = find(path, reading.format)
    if sources[0].format is Format.PARQUET:
        first = parquet_schema(sources[0]).names()
        for source in sources[1:]:
            _check_columns(first, parquet_schema(source).names(), sources[0], source)


def _read(source: Source, reading: Reading, aside: Quarantine, progress: Progress, done: int, rows: int) -> _Part:
    frames: list[pl.DataFrame] = []
    numbers: list[Ints] = []
    notes: tuple[str, ...] = ()
    mixed: frozenset[str] = frozenset()
    malformed = 0
    for raw in raw_rows(source, reading):
        _put_aside(raw, aside)
        frames.append(raw.frame)
        numbers.append(raw.numbers)
        notes += raw.notes
        mixed |= raw.mixed
        malformed += len(raw.faults)
        rows += raw.seen
        if rows > reading.most_rows:
            raise TooLarge(f"`{source.name}`: more than {reading.most_rows} rows; no more are read.")
        progress.advance(float(done + raw.position), f"{rows} rows")
    return _Part(frames=frames, numbers=numbers, notes=notes, mixed=mixed, malformed=malformed)


def _put_aside(raw: RawRows, aside: Quarantine) -> None:
    for fault in raw.faults:
        aside.add(fault.record, rule=fault.rule)


def _check_columns(first: Sequence[str], names: Sequence[str], source: Source, other: Source) -> None:
    missing, extra = [n for n in first if n not in set(names)], [n for n in names if n not in set(first)]
    if missing or extra:
        told = [
            f"{word} {', '.join(f'`{n}`' for n in some[:10])}"
            for word, some in (("without", missing), ("with", extra))
            if some
        ]
        raise WrongFormat(
            f"`{other.name}` has other columns than `{source.name}`: {'; '.join(told)}. "
            "All parts of a table need the same columns."
        )


def _join(parts: Sequence[_Part], sources: tuple[Source, ...]) -> Raw:
    frames = [frame for part in parts for frame in part.frames if frame.height]
    names = parts[0].names
    columns = {}
    mixed = {name for part in parts for name in part.mixed}
    for name in names:
        pieces = [frame[name] if name in frame.columns else pl.Series(name, [None] * frame.height) for frame in frames]
        columns[name], differ = _concat(pieces, name)
        if differ:
            mixed.add(name)
    counts = [sum(len(piece) for piece in part.numbers) for part in parts]
    return Raw(
        frame=pl.DataFrame(columns),
        numbers=np.concatenate([piece for part in parts for piece in part.numbers]),
        files=np.repeat(np.arange(len(parts)), counts),
        sources=sources,
        mixed=frozenset(mixed),
        malformed=sum(part.malformed for part in parts),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _concat(pieces: Sequence[pl.Series], name: str) -> tuple[pl.Series, bool]:
    """Join the pieces of a column; pieces of different types become numbers if they are, text otherwise."""
    if not pieces:
        return pl.Series(name, [], dtype=pl.String), False
    dtypes = {piece.dtype for piece in pieces} - {pl.Null()}
    common: pl.DataType = next(iter(dtypes), pl.String())
    numeric = all(dtype.is_numeric() for dtype in dtypes)
    if len(dtypes) > 1:
        whole = all(dtype.is_integer() for dtype in dtypes)
        common = (pl.Int64() if whole else pl.Float64()) if numeric else pl.String()
    return pl.concat([piece.cast(common) for piece in pieces], rechunk=True), len(dtypes) > 1 and not numeric
