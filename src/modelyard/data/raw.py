"""Rows as a file holds them, before types are given."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from modelyard.core.arrays import Ints
from modelyard.core.contract import Quarantined


@dataclass(frozen=True)
class Fault:
    """A malformed row, and its reason without the row's own values, to count by."""

    record: Quarantined
    rule: str


@dataclass(frozen=True)
class RawRows:
    """Some rows of one file: those that could be cut into columns, and those that could not.

    `numbers` are the rows' numbers in the file: in CSV the header is row 1; in JSON lines and Parquet,
    which have none, the first row is 1.
    """

    frame: pl.DataFrame
    numbers: Ints
    faults: tuple[Fault, ...]
    position: int  # bytes of the file read so far
    notes: tuple[str, ...] = ()
    mixed: frozenset[str] = frozenset()  # columns of text that the file gave in several types

    @property
    def seen(self) -> int:
        return len(self.numbers) + len(self.faults)
