"""Stream the rows of any file through a contract, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from modelyard.core.arrays import Bools, Columns, Ints
from modelyard.core.contract import Column, Contract, Quarantined, Role
from modelyard.core.data_plan import Format, Reading
from modelyard.data.cast import cast, clean
from modelyard.data.check import fault
from modelyard.data.memory import to_columns
from modelyard.data.raw import RawRows
from modelyard.data.read import raw_rows
from modelyard.data.sources import Source, find
from modelyard.errors import MissingColumn, TooLarge

ROWS = 1 << 16


@dataclass(frozen=True)
class Batch:
    """Some rows of a file: those that fit the contract as columns, and those that do not, with the reason."""

    columns: Columns
    numbers: Ints  # row number in `file` of each row in `columns`
    quarantined: tuple[Quarantined, ...]
    file: str


def stream(
    path: Path,
    contract: Contract,
    *,
    rows: int = ROWS,
    reading: Reading | None = None,
    roles: Sequence[Role] = (Role.FEATURE, Role.AUDIT),
) -> Iterator[Batch]:
    """Yield the rows of a file or a folder of parts in order, at most `rows` at a time.

    Args:
        contract: what the columns are. Features must be there; columns of the other `roles` are given
            where the file has them; all others are left unread.
        reading: as in training; None: the defaults.
    Raises: MissingColumn for a feature that is not there; Unreadable, EmptyData, WrongFormat, TooLarge.

    A value that does not fit its kind, and a missing feature that was never missing in training, cost
    the row: it is in `quarantined`, never dropped unseen. A file without rows gives one empty batch.
    """
    reading = reading or Reading()
    seen = 0
    wanted = [column for column in contract.columns if column.role in roles]
    for source in find(path, reading.format):
        checked = False
        for raw in raw_rows(source, reading, names=[column.name for column in wanted], rows=rows):
            seen += raw.seen
            if seen > reading.most_rows:
                raise TooLarge(f"`{source.name}`: more than {reading.most_rows} rows; no more are read.")
            if not checked and (raw.frame.height or source.format is not Format.JSONL):
                _check_features(raw, wanted, source)
                checked = True
            yield from _batches(raw, wanted, source, reading, rows)


def _check_features(raw: RawRows, wanted: Sequence[Column], source: Source) -> None:
    """Refuse a file without a feature: of JSON lines, one that the first rows never name."""
    missing = [column.name for column in wanted if column.role is Role.FEATURE and column.name not in raw.frame.columns]
    if missing:
        raise MissingColumn(f"`{source.name}`", missing, raw.frame.columns)


def _batches(raw: RawRows, wanted: Sequence[Column], source: Source, reading: Reading, rows: int) -> Iterator[Batch]:
    faults = tuple(fault.record for fault in raw.faults)
    for start in range(0, max(raw.frame.height, 1), rows):
        frame, numbers = raw.frame[start : start + rows], raw.numbers[start : start + rows]
        columns, kept, broken = _cast(frame, numbers, wanted, source, reading)
        yield Batch(columns=columns, numbers=numbers[kept], quarantined=(*faults, *broken), file=source.name)
        faults = ()


def _cast(
    frame: pl.DataFrame, numbers: Ints, wanted: Sequence[Column], source: Source, reading: Reading
) -> tuple[Columns, Bools, list[Quarantined]]:
    bad = np.zeros(frame.height, dtype=bool)
    first: dict[int, tuple[str, str]] = {}
    typed: dict[str, pl.Series] = {}
    for column in wanted:
        if column.name in frame.columns:
            raw = frame[column.name]
        elif column.role is Role.FEATURE:
            raw = pl.Series(column.name, [None] * frame.height, dtype=pl.Null)
        else:
            continue
        done = cast(clean(raw, reading.null_values, strip=source.format is Format.CSV), column.kind, column.format)
        typed[column.name] = done.values
        rules = [(done.bad, done.rule)] if done.bad is not None else []
        if column.role is Role.FEATURE and not column.nullable and done.values.null_count():
            rules.append((done.values.is_null(), "missing, which it never is in training"))
        for mask, rule in rules:
            new = mask.to_numpy() & ~bad
            bad |= new
            first.update(dict.fromkeys(np.flatnonzero(new).tolist(), (column.name, rule)))
    result = pl.DataFrame(typed)
    if not first:
        return to_columns(result), ~bad, []
    return to_columns(result.filter(pl.Series(~bad))), ~bad, _records(frame, numbers, first, source)


def _records(
    frame: pl.DataFrame, numbers: Ints, first: dict[int, tuple[str, str]], source: Source
) -> list[Quarantined]:
    places = sorted(first)
    return [
        fault(
            frame.columns,
            values,
            column=first[place][0],
            rule=first[place][1],
            file=source.name,
            number=int(numbers[place]),
        )
        for place, values in zip(places, frame[places].iter_rows(), strict=True)
    ]
