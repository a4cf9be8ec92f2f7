"""Writing answers beside the rows they belong to: CSV or JSON lines, in pieces, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from modelyard.core.arrays import Array
from modelyard.core.codec import sync_folder
from modelyard.core.ids import new_id
from modelyard.errors import Unreadable, WrongFormat

ENDINGS = (".csv", ".jsonl", ".ndjson")


class AnswerFile:
    """A file of answers; it has its name only once it is whole."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in ENDINGS:
            raise WrongFormat(f"`{path}`: answers are written as {', '.join(ENDINGS)}; saw `{path.suffix}`.")
        self._path = path
        self._work = path.with_name(f".{path.name}.{new_id('part')}")
        self._header = True

    def __enter__(self) -> Self:
        try:
            self._file = self._work.open("wb")
        except OSError as fault:
            raise Unreadable(f"`{self._path}` cannot be written: {fault.strerror}. Name another file.") from fault
        return self

    def write(self, columns: Mapping[str, Array]) -> None:
        """Append rows; the columns are the same in every call."""
        frame = pl.DataFrame({name: pl.Series(name, _plain(values)) for name, values in columns.items()})
        if self._path.suffix == ".csv":
            frame.write_csv(self._file, include_header=self._header, float_precision=None)
        else:
            frame.write_ndjson(self._file)
        self._header = False

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is not None:
            self._work.unlink(missing_ok=True)
            return
        self._work.replace(self._path)
        sync_folder(self._path.parent)


def _plain(values: Array) -> Array | list[str]:
    return values.tolist() if values.dtype == object else values
