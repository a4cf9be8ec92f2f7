"""A contract's column as its tensors are read: what it takes, and what was read for it."""

from __future__ import annotations

import math

from modelyard.core.contract import Column, Kind, Role
from modelyard.serve.v2 import elements
from modelyard.serve.v2.elements import BOOL, BYTES, FLOATS

# What a column of each kind is said to be in a model's metadata; a tensor column names its own.
DATATYPES = {
    Kind.INTEGER: "INT64",
    Kind.NUMBER: "FP64",
    Kind.BOOLEAN: "BOOL",
    Kind.CATEGORY: "BYTES",
    Kind.TEXT: "BYTES",
    Kind.DATE: "BYTES",
    Kind.DATETIME: "BYTES",
}


class Block:
    """A tensor column's rows: raw elements, and the shape of a row."""

    __slots__ = ("data", "row_shape", "rows")

    def __init__(self, data: bytes, rows: int, row_shape: list[int]) -> None:
        self.data, self.rows, self.row_shape = data, rows, row_shape

    def __len__(self) -> int:
        return self.rows


class Slot:
    """What a column takes."""

    __slots__ = (
        "datatype", "decode", "fixed", "is_feature", "is_tensor", "lone_bytes", "lone_pack", "lone_shape",
        "lone_unpack", "name", "nullable", "row_shape",
    )  # fmt: skip

    def __init__(self, column: Column) -> None:
        self.name, self.is_feature = column.name, column.role is Role.FEATURE
        self.is_tensor = column.kind is Kind.TENSOR
        self.datatype = (column.datatype or "FP32") if self.is_tensor else DATATYPES[column.kind]
        self.row_shape = list(column.shape)
        self.fixed = self.is_tensor and -1 not in column.shape
        self.nullable = not self.is_tensor or (column.nullable and self.datatype in FLOATS)
        self.decode = elements.decoder(self.datatype, self.nullable and not self.is_tensor, 1).decode
        size = math.prod(column.shape) if self.fixed and self.datatype != BYTES else 0
        self.lone_shape = [1, *column.shape]
        # Packs the elements of a single small row; of a wrong number of elements it makes an error, as they do of none.
        self.lone_pack = elements.packer(self.datatype, size) if 0 < size <= elements.FEW else None
        # The same way back, for what travels as bytes; BOOL is looked at more closely.
        self.lone_unpack = elements.unpacker(self.datatype, size) if self.lone_pack and self.datatype != BOOL else None
        self.lone_bytes = size * elements.SIZES.get(self.datatype, 0)
