"""Rows on their way to the model: read quickly where they are plain, packed into few pieces, unpacked again.

`check` is the truth of what is accepted. What is read here is a part of that, decoded and held against the contract
in one pass; anything else takes the slow road through `check`, which accepts it or says in words why not.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from modelyard.bundle.tensor import DTYPES
from modelyard.bundle.values import LARGEST_INTEGER, LONGEST_STRING, reader_of
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.encoding import MISSING
from modelyard.errors import EngineFailed

CELL = 8  # bytes of a number or moment

_EPOCH = np.datetime64(0, "us")
_INTEGER = Annotated[int, msgspec.Meta(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
_FAST = {Kind.NUMBER: float, Kind.INTEGER: _INTEGER, Kind.BOOLEAN: bool}
_STRING = Annotated[str, msgspec.Meta(max_length=LONGEST_STRING)]
_SCALAR = str | int | float | bool | None


class Packed(msgspec.Struct, array_like=True, gc=False):
    """Rows of a request as they travel. Features keep the contract's order within each piece."""

    numbers: bytes = b""  # (rows, cells) of numbers and moments: float64, or int64 microseconds
    strings: list[str | None] = []  # (rows, strings), a row behind the other
    tensors: list[bytes] = []  # each (rows, *shape), little-endian; strings with their length before each
    shapes: list[list[int]] = []  # of the tensors with a size that varies: the shape of a row
    texts: list[bytes] = []  # of each row of the only tensor its numbers between commas, not yet read; empty: read


def join(many: Sequence[Packed]) -> Packed:
    """Put the rows of several requests, equal in the shapes of their tensors, behind each other."""
    if len(many) == 1:
        return many[0]
    first = many[0]
    return Packed(
        b"".join([one.numbers for one in many]),
        [value for one in many for value in one.strings],
        [b"".join(pieces) for pieces in zip(*(one.tensors for one in many), strict=True)] if first.tensors else [],
        first.shapes,
    )


def join_texts(many: Sequence[Packed], rows: Sequence[int]) -> Packed:
    """Do what `join` does where some came as text; `rows` are those of each."""
    texts = [text for one, count in zip(many, rows, strict=True) for text in one.texts or [b""] * count]
    return Packed(tensors=[b"".join(piece for one in many for piece in one.tensors)], texts=texts)


class Intake:
    """What is ready of a contract so that rows are read and packed quickly."""

    def __init__(self, contract: Contract, *, unknown_category: str = "accept") -> None:
        features = contract.features
        self.cells = tuple(column for column in features if column.kind.is_cell)
        self.strings = tuple(column for column in features if column.kind.is_string)
        self.tensors = tuple(column for column in features if column.kind is Kind.TENSOR)
        self.features = features
        self._cells = struct.Struct(f"<{len(self.cells)}d")
        self._missing_texts = frozenset((*contract.missing_texts, MISSING))
        self._decoder = None
        if not self.tensors and unknown_category == "accept":
            self._decoder = msgspec.json.Decoder(_rows_type(contract, self.cells, self.strings))
        self._moments = [
            (place, _moment_reader(column)) for place, column in enumerate(self.cells) if column.kind.is_time
        ]
        self._first_string = len(self.cells)
        self._end = len(self.cells) + len(self.strings)

    def rows(self, data: bytes) -> tuple[Packed, int] | None:
        """Read `{"rows": [...]}`; None where a closer look is needed."""
        if self._decoder is None:
            return None
        try:
            rows = self._decoder.decode(data).rows
            if len(rows) == 1:
                values = msgspec.structs.astuple(rows[0])
                strings = values[self._first_string : self._end]
                return Packed(self._numbers(values), self._strings(strings)), 1
            cells, texts = [], []
            for row in rows:
                values = msgspec.structs.astuple(row)
                cells.append(self._numbers(values))
                texts += self._strings(values[self._first_string : self._end])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, struct.error, ValueError, OverflowError):
            return None
        return Packed(b"".join(cells), texts), len(rows)

    def pack(self, columns: Columns) -> Packed:
        """Pack checked columns."""
        rows = len(columns)
        block = np.empty((rows, len(self.cells)), dtype=np.float64)
        whole = block.view(np.int64)
        for place, column in enumerate(self.cells):
            values = columns[column.name]
            if column.kind.is_time:
                whole[:, place] = np.asarray(values, dtype="datetime64[us]").view(np.int64)
            else:
                block[:, place] = values
        texts = [columns[column.name].tolist() for column in self.strings]
        strings = [value for row in zip(*texts, strict=True) for value in row] if texts else []
        tensors = [pack_tensor(columns[column.name]) for column in self.tensors]
        shapes = [list(columns[column.name].shape[1:]) for column in self.tensors if -1 in column.shape]
        return Packed(block.tobytes(), strings, tensors, shapes)

    def columns(self, packed: Packed, rows: int) -> Columns:
        """Unpack rows; raises EngineFailed where they do not fit the contract."""
        values: dict[str, Array] = {}
        try:
            block = np.frombuffer(packed.numbers, dtype=np.float64).reshape(rows, len(self.cells))
            for place, column in enumerate(self.cells):
                cells = block[:, place]
                values[column.name] = cells.view("datetime64[us]") if column.kind.is_time else cells
            if len(packed.strings) != rows * len(self.strings) or len(packed.tensors) != len(self.tensors):
                raise ValueError("strings or tensors are too few or too many")
            for place, column in enumerate(self.strings):
                texts = np.empty(rows, dtype=object)
                texts[:] = packed.strings[place :: len(self.strings)]
                values[column.name] = texts
            shapes = iter(packed.shapes)
            for piece, column in zip(packed.tensors, self.tensors, strict=True):
                shape = next(shapes) if -1 in column.shape else column.shape
                values[column.name] = unpack_tensor(piece, column, (rows, *shape))
        except (ValueError, StopIteration, struct.error) as fault:
            raise EngineFailed(f"A batch came that does not fit the contract and its {rows} rows: {fault}.") from fault
        return Columns({column.name: values[column.name] for column in self.features})

    def cut(self, packed: Packed, start: int, stop: int, rows: int) -> Packed:
        """Return the rows from `start` to `stop` of `rows`."""
        wide, many = len(self.cells) * CELL, len(self.strings)
        pieces = [
            _elements(piece, start, stop, rows, is_text=column.datatype == "BYTES")
            for piece, column in zip(packed.tensors, self.tensors, strict=True)
        ]
        numbers, strings = packed.numbers[start * wide : stop * wide], packed.strings[start * many : stop * many]
        return Packed(numbers, strings, pieces, packed.shapes)

    def _numbers(self, values: tuple[Any, ...]) -> bytes:
        cells = values[: self._first_string]
        if not self._moments:
            try:
                return self._cells.pack(*cells)
            except struct.error:  # a missing value
                return self._cells.pack(*[_NAN if value is None else value for value in cells])
        whole = [_NAN if value is None else value for value in cells]
        moments = [(place, read(cells[place])) for place, read in self._moments]
        for place, _ in moments:
            whole[place] = 0.0
        packed = bytearray(self._cells.pack(*whole))
        for place, microseconds in moments:
            struct.pack_into("<q", packed, place * CELL, microseconds)
        return bytes(packed)

    def _strings(self, values: tuple[Any, ...]) -> list[str | None]:
        missing = self._missing_texts
        for value in values:
            if value is None or value in missing or not value.isascii():
                return [_string(value, missing) for value in values]
        return list(values)


_NAN = float("nan")
_NAT = int(np.datetime64("NaT").view(np.int64))


def pack_tensor(values: Array) -> bytes:
    """Return an array's elements as the protocol has them raw; strings with their length before each."""
    if values.dtype.kind == "O":
        texts = [value.encode() for value in values.reshape(-1).tolist()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return values.tobytes()


def unpack_tensor(piece: bytes, column: Column, shape: tuple[int, ...]) -> Array:
    """Return the array of a shape; raises ValueError where the bytes do not fit it."""
    dtype = DTYPES[column.datatype or "FP32"]
    if dtype.kind != "O":
        return np.frombuffer(piece, dtype=dtype).reshape(shape)
    texts, at = [], 0
    while at < len(piece):
        (size,) = struct.unpack_from("<I", piece, at)
        at += 4 + size
        if at > len(piece):
            raise ValueError("a string of a tensor is cut off")
        texts.append(str(piece[at - size : at], "utf-8"))
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape(shape)


def _elements(piece: bytes, start: int, stop: int, rows: int, *, is_text: bool) -> bytes:
    """Return the bytes of some rows of a tensor."""
    if not is_text:
        wide = len(piece) // rows
        return piece[start * wide : stop * wide]
    ends, at = [0], 0
    while at < len(piece):
        at += 4 + struct.unpack_from("<I", piece, at)[0]
        ends.append(at)
    each = (len(ends) - 1) // rows
    return piece[ends[start * each] : ends[stop * each]]


def _string(value: str | None, missing: frozenset[str]) -> str | None:
    """Return a string as `check` does; raises ValueError where it needs a closer look."""
    if value is None or value in missing:
        if value is not None:
            raise ValueError("a text that means missing")  # allowed only where the column is nullable
        return None
    if not value.isascii():
        value.encode()
    return value


def _moment_reader(column: Column) -> Callable[[Any], int]:
    read = reader_of(column)

    def microseconds(value: Any) -> int:
        moment = None if value is None else read(value)
        if moment is None:
            return _NAT
        return int(moment.view(np.int64))

    return microseconds


def _rows_type(contract: Contract, cells: Sequence[Column], strings: Sequence[Column]) -> type[Any]:
    """Return the type of `{"rows": [...]}` for a contract: cells, then strings, then what reaches no model."""
    features = (*cells, *strings)
    others = [column for column in contract.columns if column.role is not Role.FEATURE]
    fields: list[Any] = []
    for place, column in enumerate(features):
        kind: Any = _FAST.get(column.kind, str if column.kind.is_time else _STRING)
        fields.append((f"f{place}", kind | None, None) if column.nullable else (f"f{place}", kind))
    fields += [(f"o{place}", Any, None) for place in range(len(others))]
    rename = {f"f{place}": column.name for place, column in enumerate(features)}
    rename |= {f"o{place}": column.name for place, column in enumerate(others)}
    row: Any = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, gc=False)
    some: Any = Annotated[list[row], msgspec.Meta(min_length=1)]
    return msgspec.defstruct("Rows", [("rows", some)], forbid_unknown_fields=True)
