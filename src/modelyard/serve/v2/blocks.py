"""Elements of a tensor in the datatype of its column: converted where that is exact, finite where that is asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.tensor import DTYPES
from modelyard.bundle.values import LARGEST_INTEGER, LONGEST_STRING
from modelyard.core.arrays import Array
from modelyard.errors import ContractBroken
from modelyard.serve.v2 import elements
from modelyard.serve.v2.elements import BYTES, FLOATS
from modelyard.serve.v2.slots import Block, Slot


def block_of(slot: Slot, datatype: str, shape: list[int], found: list[Any] | Array) -> Block:
    """Return elements of any datatype in that of the column; raises Malformed, ContractBroken."""
    if datatype == BYTES or slot.datatype == BYTES:
        if datatype != slot.datatype:
            raise ContractBroken([f"column `{slot.name}`: saw `{datatype}`, wanted `{slot.datatype}`"])
        _check_texts(slot, shape, found)
    if datatype == slot.datatype:
        data = found.tobytes() if isinstance(found, np.ndarray) else elements.pack(slot.name, datatype, found)
    else:
        data = _converted(slot, datatype, shape, found)
    return finite_block(slot, data, shape)


def finite_block(slot: Slot, data: bytes, shape: list[int]) -> Block:
    """Return raw elements of the column's datatype, held against what it takes; raises ContractBroken."""
    datatype = slot.datatype
    if datatype in FLOATS and not elements.all_finite(datatype, data):
        values = np.frombuffer(data, dtype=DTYPES[datatype])
        bad = np.isinf(values) if slot.nullable else ~np.isfinite(values)
        if bad.any():
            place = int(np.argmax(bad))
            seen = "NaN" if np.isnan(values[place]) else "an infinity"
            row = place * shape[0] // len(values)
            raise ContractBroken([f"row {row}, column `{slot.name}`: saw {seen}, wanted finite {datatype}"])
    return Block(data, shape[0], shape[1:])


def _converted(slot: Slot, datatype: str, shape: list[int], found: list[Any] | Array) -> bytes:
    raw = found.tobytes() if isinstance(found, np.ndarray) else elements.pack(slot.name, datatype, found)
    given = np.frombuffer(raw, dtype=DTYPES[datatype])
    with np.errstate(all="ignore"):
        made = given.astype(DTYPES[slot.datatype])
    same = _same(given, made)
    if not same.all():
        place = int(np.argmin(same))
        row = place * shape[0] // len(same)
        raise ContractBroken(
            [
                f"row {row}, column `{slot.name}`: saw {given[place].item()!r} as `{datatype}`, which "
                f"`{slot.datatype}` cannot hold exactly; send `{slot.datatype}`"
            ]
        )
    return made.tobytes()


def _check_texts(slot: Slot, shape: list[int], found: list[Any] | Array) -> None:
    for place, text in enumerate(found):
        if len(text) > LONGEST_STRING:
            row = place * shape[0] // len(found)
            fault = f"saw a string of {len(text)} characters, wanted at most {LONGEST_STRING}"
            raise ContractBroken([f"row {row}, column `{slot.name}`: {fault}"])


def _same(given: Array, made: Array) -> Array:
    """Say of each element whether it is exactly the other, or both are NaN."""
    if {given.dtype.kind, made.dtype.kind} & {"f"} and given.dtype.kind != made.dtype.kind:
        whole = given.astype(np.float64)
        if not (np.abs(whole) < LARGEST_INTEGER).all():
            # As Python's numbers, which are compared exactly: such whole numbers and floats would meet in float64.
            return np.array([a == b or (a != a and b != b) for a, b in zip(given.tolist(), made.tolist(), strict=True)])
    same: Array = (given == made) | ((given != given) & (made != made))
    return same
