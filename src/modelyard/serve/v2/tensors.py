"""Tensors as the Open Inference Protocol sends them, held against the contract and packed for the worker.

The treatment, stated once. A column of kind `tensor` takes [rows, *shape]. In its own datatype a number in JSON is
rounded to the nearest; a tensor of another datatype is taken where every element stays what it was: it is converted,
and an element that the column's datatype cannot hold exactly is refused. NaN (null in JSON) is taken where the column
is nullable, an infinity never. All other columns take [rows] or [rows, 1] in any datatype: values are those of the
plain rows form, BYTES as UTF-8 (dates as ISO 8601), null or NaN for missing, numbers in JSON as they are written.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from modelyard.bundle.check import check_values
from modelyard.bundle.intake import Intake, Packed
from modelyard.bundle.tensor import DTYPES
from modelyard.core.arrays import Array
from modelyard.core.contract import Contract, Kind, Role
from modelyard.errors import ContractBroken
from modelyard.serve.doors import Malformed, TooLarge
from modelyard.serve.v2 import elements
from modelyard.serve.v2.blocks import block_of, finite_block
from modelyard.serve.v2.elements import BYTES
from modelyard.serve.v2.lone import Lone
from modelyard.serve.v2.slots import DATATYPES, Block, Slot

__all__ = ["DATATYPES", "UNFIT", "Block", "Tensors", "Values"]

_ONE = [1]
UNFIT = (struct.error, OverflowError)  # of numbers that do not go into a datatype

Values = Block | list[Any] | Array | None  # None: a column that the contract does not know


class Tensors:
    """Reads the tensors of a request for one contract; of any thread."""

    def __init__(self, contract: Contract, *, unknown_category: str = "accept", most_rows: int = 10_000) -> None:
        self.contract, self.most_rows, self.unknown_category = contract, most_rows, unknown_category
        self._slots = {column.name: Slot(column) for column in contract.columns}
        self._tensors = [self._slots[column.name] for column in contract.features if column.kind is Kind.TENSOR]
        plain = tuple(column for column in contract.columns if column.kind is not Kind.TENSOR)
        self._plain = contract if not self._tensors else msgspec.structs.replace(contract, columns=plain)
        self._has_plain = any(column.role is Role.FEATURE for column in plain)
        self.has_tensors = bool(self._tensors)
        only = self._tensors[0] if len(self._tensors) == 1 and not self._has_plain else None
        self.only = only if only is not None and only.lone_pack is not None else None  # the sole, small feature
        self._intake = Intake(self._plain, unknown_category=unknown_category)
        self._lone = Lone(self._plain, unknown_category=unknown_category)

    def json(self, name: str, datatype: str, shape: list[int], data: bytes | msgspec.Raw) -> Values:
        """Read an input's `data` in JSON; raises Malformed, TooLarge, ContractBroken."""
        slot = self._slots.get(name)
        if slot is None:
            elements.known(name, datatype)
            return None
        if datatype == slot.datatype and (found := self._at_once(slot, shape, data)) is not None:
            return found
        self._check(slot, datatype, shape)
        found = elements.of_json(name, datatype, shape, data, nullable=slot.nullable)
        return block_of(slot, datatype, shape, found) if slot.is_tensor else found

    def typed(self, name: str, datatype: str, shape: list[int], values: Any) -> Values:
        """Read an input of a typed list, such as gRPC's contents; raises as `json` does."""
        slot = self._slots.get(name)
        if slot is None:
            elements.known(name, datatype)
            return None
        if slot.lone_unpack is not None and datatype == slot.datatype and shape == slot.lone_shape:
            with contextlib.suppress(*UNFIT):
                if _is_finite(sum(values)):
                    return Block(slot.lone_pack(*values), 1, slot.row_shape)  # type: ignore[misc]  # it has one
        self._check(slot, datatype, shape)
        found = elements.of_typed(name, datatype, math.prod(shape), values)
        return block_of(slot, datatype, shape, found) if slot.is_tensor else found

    def raw(self, name: str, datatype: str, shape: list[int], data: bytes | memoryview) -> Values:
        """Read an input of raw bytes; raises as `json` does."""
        slot = self._slots.get(name)
        if slot is None:
            elements.known(name, datatype)
            return None
        unpack = slot.lone_unpack
        if (
            unpack is not None
            and datatype == slot.datatype
            and shape == slot.lone_shape
            and len(data) == slot.lone_bytes
            and _is_finite(sum(unpack(data)))
        ):
            return Block(bytes(data), 1, slot.row_shape)
        self._check(slot, datatype, shape)
        count = math.prod(shape)
        if slot.is_tensor and datatype == slot.datatype and datatype != BYTES:
            elements.check_size(name, datatype, count, data)
            return finite_block(slot, bytes(data), shape)
        found = elements.of_raw(name, datatype, count, data)
        return block_of(slot, datatype, shape, found) if slot.is_tensor else found

    @property
    def quick_type(self) -> Any:
        """Return the type of `data` in JSON for `quick`; None where there is no short way."""
        if not self._tensors:
            return list[str | int | float | bool | None]
        kinds = {DTYPES[slot.datatype].kind for slot in self._tensors}
        if self._has_plain or any(slot.nullable for slot in self._tensors):
            return None
        if kinds <= {"i", "u"}:
            return list[int]
        return list[float] if kinds == {"f"} else None

    def quick(self, name: str, datatype: str, shape: list[int], found: list[Any]) -> Values:
        """Read elements that were decoded as `quick_type`; None where they need a closer look."""
        slot = self._slots.get(name)
        if slot is None or datatype != slot.datatype or not slot.is_feature:
            return None
        if not slot.is_tensor:
            return found if shape == _ONE and len(found) == 1 else None
        if shape == slot.lone_shape and slot.lone_pack is not None:
            try:
                return Block(slot.lone_pack(*found), 1, slot.row_shape)
            except UNFIT:
                return None
        self._check(slot, datatype, shape)
        if len(found) != math.prod(shape):
            return None
        return Block(elements.pack(name, datatype, found), shape[0], shape[1:])

    def lone(self, name: str, datatype: str, shape: list[int], found: list[Any]) -> Packed | None:
        """Return a single row of the `only` feature, decoded as `quick_type`; None where it needs a closer look."""
        slot = self.only
        if slot is None or name != slot.name or datatype != slot.datatype or shape != slot.lone_shape:
            return None
        try:
            return Packed(b"", [], [slot.lone_pack(*found)])  # type: ignore[misc]  # it has one
        except UNFIT:
            return None

    def pack_quick(self, named: Mapping[str, Values]) -> Packed | None:
        """Return what `quick` gave, packed; None where it needs a closer look."""
        return self._lone.pack(named) if not self._tensors else self.pack(named)[0]

    def pack(self, named: Mapping[str, Values]) -> tuple[Packed, int]:
        """Return the rows of all inputs by name, ready to travel; raises Malformed, ContractBroken."""
        tensors: list[bytes] = []
        shapes: list[list[int]] = []
        rows = -1
        for slot in self._tensors:
            block = named.get(slot.name)
            if type(block) is not Block or (rows >= 0 and block.rows != rows):
                raise self._unfit(named)
            rows = block.rows
            tensors.append(block.data)
            if not slot.fixed:
                shapes.append(block.row_shape)
        if not self._has_plain and len(named) == len(tensors):
            return Packed(b"", [], tensors, shapes), rows
        if not named:
            raise Malformed("`inputs` is empty, wanted the model's columns.")
        if rows < 0:
            first = next(iter(named.values()))
            rows = 0 if first is None else len(first)
        found = self._lone.pack(named) if rows == 1 else None
        if found is None:
            found = self._slow(named, rows)
        return Packed(found.numbers, found.strings, tensors, shapes), rows

    # one input

    def _at_once(self, slot: Slot, shape: list[int], data: bytes | msgspec.Raw) -> Values:
        """Read a single row in the column's own datatype; None where anything needs a closer look."""
        try:
            if slot.lone_pack is not None:
                if shape == slot.lone_shape:
                    return Block(slot.lone_pack(*slot.decode(data)), 1, slot.row_shape)
            elif shape == _ONE and not slot.is_tensor:
                found: list[Any] = slot.decode(data)
                return found if len(found) == 1 else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, *UNFIT):
            pass
        return None

    def _check(self, slot: Slot, datatype: str, shape: list[int]) -> None:
        """Hold datatype and shape against the column."""
        if datatype != slot.datatype:
            elements.known(slot.name, datatype)
        if slot.is_tensor:
            if shape[1:] != slot.row_shape:
                self._check_shape(slot, shape)
        elif len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise Malformed(
                f"Input `{slot.name}` has the shape {elements.shape_text(shape)}, wanted [rows] or [rows, 1]."
            )
        rows = shape[0] if shape else 0
        if rows <= 0:
            if rows < 0:
                raise Malformed(
                    f"Input `{slot.name}` has the shape {elements.shape_text(shape)}, wanted no negative size."
                )
            raise Malformed(f"Input `{slot.name}` has no rows, wanted at least one.")
        if rows > self.most_rows:
            raise TooLarge(f"{elements.short(rows)} rows came, at most {self.most_rows} are taken at once.")

    def _check_shape(self, slot: Slot, shape: list[int]) -> None:
        if len(shape) > elements.MOST_DIMENSIONS:
            raise Malformed(f"Input `{slot.name}` has {len(shape)} dimensions.")
        if min(shape, default=0) < 0:
            raise Malformed(f"Input `{slot.name}` has the shape {elements.shape_text(shape)}, wanted no negative size.")
        sizes, wanted = shape[1:], slot.row_shape
        good = len(sizes) == len(wanted) and all(
            size == want or (want == -1 and size > 0) for size, want in zip(sizes, wanted, strict=True)
        )
        if not good or not shape:
            words = ", ".join(["rows", *("any" if want == -1 else str(want) for want in wanted)])
            raise ContractBroken(
                [f"column `{slot.name}`: saw the shape {elements.shape_text(shape)}, wanted [{words}]"]
            )

    # all inputs

    def _slow(self, named: Mapping[str, Values], rows: int) -> Packed:
        """Pack the plain columns by way of `check`, which says in words what is wrong."""
        if any(values is None or len(values) != rows for values in named.values()):
            raise self._unfit(named)
        plain = {name: values for name, values in named.items() if not isinstance(values, Block)}
        if not plain and self._has_plain:
            plain = {next(c.name for c in self._plain.columns if c.role is Role.FEATURE): [None] * rows}
        try:
            columns = check_values(self._plain, plain, unknown_category=self.unknown_category)  # type: ignore[arg-type]
        except ContractBroken:
            # Once more as Python's numbers: what is said of an array's elements would name numpy's types.
            lists = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in plain.items()}
            columns = check_values(self._plain, lists, unknown_category=self.unknown_category)  # type: ignore[arg-type]
        return self._intake.pack(columns)

    def _unfit(self, named: Mapping[str, Values]) -> ContractBroken:
        """Say why the inputs together are not what the contract asks for."""
        strange: dict[str, list[Any]] = {name: [] for name, values in named.items() if values is None}
        if strange:
            try:
                check_values(self.contract, strange)
            except ContractBroken as fault:
                return fault
        missing = [slot.name for slot in self._tensors if slot.name not in named]
        if missing:
            return ContractBroken([f"column `{name}`: is missing" for name in missing])
        lengths = {name: 0 if values is None else len(values) for name, values in named.items()}
        return ContractBroken([f"columns differ in length: {lengths}"])


def _is_finite(total: float) -> bool:
    """Say whether a sum tells that neither NaN nor an infinity is in it; of large numbers it may not."""
    return total - total == 0
