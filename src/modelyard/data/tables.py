"""The `Tables` port: columns of any file, its own types kept, those of text told from all of its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from modelyard.core.arrays import Columns
from modelyard.core.contract import Kind
from modelyard.core.data_plan import Format, Reading
from modelyard.data.cast import cast, clean, plain
from modelyard.data.infer import Inferred, Survey, infer, survey
from modelyard.data.memory import to_columns
from modelyard.data.raw import RawRows
from modelyard.data.read import parquet_schema, raw_rows
from modelyard.data.sources import Source, find
from modelyard.errors import ContractBroken, MissingColumn, WrongFormat


class TableFiles:
    """Reads Parquet parts and the files people bring, strictly: a row that cannot be read is an error.

    Parquet columns keep their types. In CSV and JSON lines kinds are told from all values, for which
    the file is read twice. Whoever wants malformed rows reported instead, or the kinds of a contract,
    uses `stream`.
    """

    def __init__(self, reading: Reading | None = None) -> None:
        self._reading = reading or Reading()

    def read(self, path: Path, names: Sequence[str] | None = None) -> Columns:
        """Return a file's columns, or those named, in the order named."""
        frames = list(self._frames(path, names, None))
        whole = pl.concat(frames)
        return to_columns(whole if names is None else whole.select(names))

    def batches(self, path: Path, rows: int) -> Iterator[Columns]:
        """Yield a file's columns, at most `rows` rows at a time, in bounded memory."""
        for frame in self._frames(path, None, rows):
            for start in range(0, frame.height, rows):
                yield to_columns(frame[start : start + rows])

    def _frames(self, path: Path, names: Sequence[str] | None, rows: int | None) -> Iterator[pl.DataFrame]:
        sources = find(path, self._reading.format)
        if sources[0].format is Format.PARQUET:
            kinds = _parquet_kinds(sources, names)
        else:
            kinds = self._told(sources, names)
        for source in sources:
            for raw in raw_rows(source, self._reading, names=names, rows=rows):
                yield self._typed(raw, kinds, source)

    def _told(self, sources: Sequence[Source], names: Sequence[str] | None) -> dict[str, Inferred]:
        """Tell the kinds of columns of text from a first reading of all rows."""
        surveys: dict[str, Survey] = {}
        for source in sources:
            for raw in raw_rows(source, self._reading):
                _refuse(raw)
                for name in raw.frame.columns if names is None else [n for n in names if n in raw.frame.columns]:
                    values = self._clean(raw.frame[name], source)
                    one = survey(values, numbers=source.format is Format.CSV or name in raw.mixed)
                    surveys[name] = surveys.get(name, Survey()) + one
        _check_names(sources, names, list(surveys))
        return {name: infer(name, one) for name, one in surveys.items()}

    def _typed(self, raw: RawRows, kinds: dict[str, Inferred], source: Source) -> pl.DataFrame:
        _refuse(raw)
        columns = {}
        for name, told in kinds.items():
            values = raw.frame[name] if name in raw.frame.columns else pl.Series(name, [None] * raw.frame.height)
            one = cast(self._clean(values, source), told.kind, told.format)
            if one.bad is not None:
                place = int(one.bad.arg_true()[0])
                raise ContractBroken(
                    [f"`{source.name}` row {raw.numbers[place]}: column `{name}`: `{values[place]}` is {one.rule}"]
                )
            columns[name] = one.values
        return pl.DataFrame(columns)

    def _clean(self, values: pl.Series, source: Source) -> pl.Series:
        if source.format is Format.PARQUET:  # a Parquet file says itself what is missing
            return clean(values, (), strip=False)
        return clean(values, self._reading.null_values, strip=source.format is Format.CSV)


def _refuse(raw: RawRows) -> None:
    if raw.faults:
        shown = [f"`{one.record.file}` row {one.record.row}: {one.record.reason}" for one in raw.faults]
        raise ContractBroken(shown)


def _parquet_kinds(sources: Sequence[Source], names: Sequence[str] | None) -> dict[str, Inferred]:
    schema = parquet_schema(sources[0])
    for source in sources[1:]:
        if parquet_schema(source) != schema:
            raise WrongFormat(f"`{source.name}` has other columns or types than `{sources[0].name}`.")
    _check_names(sources, names, schema.names())
    wanted = schema.names() if names is None else names
    return {name: Inferred(_kind(name, schema[name], sources[0])) for name in wanted}


def _check_names(sources: Sequence[Source], names: Sequence[str] | None, known: list[str]) -> None:
    missing = [name for name in names or () if name not in known]
    if missing:
        raise MissingColumn(f"`{sources[0].name}`", missing, known)


def _kind(name: str, dtype: pl.DataType, source: Source) -> Kind:
    if not plain(dtype):
        raise WrongFormat(f"`{source.name}`: column `{name}` holds {dtype} values, which no kind of column can hold.")
    if dtype.is_integer():
        return Kind.INTEGER
    if dtype.is_numeric() or isinstance(dtype, pl.Duration):
        return Kind.NUMBER
    if isinstance(dtype, pl.Datetime):
        return Kind.DATETIME
    return {pl.Boolean(): Kind.BOOLEAN, pl.Date(): Kind.DATE}.get(dtype, Kind.CATEGORY)
