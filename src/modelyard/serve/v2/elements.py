"""The elements of one tensor, as the Open Inference Protocol writes them: JSON, typed lists, raw bytes.

Nothing is allocated by what a shape says: the elements that came are counted first. Raw is little-endian, row-major,
without padding; a BYTES element is UTF-8 behind its length in four bytes.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np

from modelyard.bundle.tensor import DTYPES
from modelyard.bundle.values import LONGEST_STRING
from modelyard.core.arrays import Array
from modelyard.serve.doors import Malformed

MOST_DIMENSIONS = 16
FEW = 64  # elements up to which the standard library is quicker than numpy
BYTES, BOOL = "BYTES", "BOOL"
SIZES = {datatype: dtype.itemsize for datatype, dtype in DTYPES.items() if datatype != BYTES}
FLOATS = frozenset({"FP16", "FP32", "FP64"})

_LETTERS = {"FP16": "e", "FP32": "f", "FP64": "d", "BOOL": "?"} | {
    f"{sign}INT{bits}": letter.upper() if sign else letter
    for sign in ("", "U")
    for bits, letter in ((8, "b"), (16, "h"), (32, "i"), (64, "q"))
}
_LENGTH = struct.Struct("<I")
_NESTED = re.compile(rb"\s*\[\s*\[")
# The largest float64 that rounds to a finite number; half a step above the largest finite one it no longer does.
_LARGEST = {"FP16": math.nextafter(65_520.0, 0.0), "FP32": math.nextafter((2 - 2.0**-24) * 2.0**127, 0.0)}

Shape = Sequence[int]
Elements = list[Any]


def known(name: str, datatype: str) -> None:
    """Raise Malformed where a datatype is none that is spoken here."""
    if datatype == "BF16":
        raise Malformed(f"Input `{_short(name)}` has the datatype `BF16`, which is not taken here; send `FP32`.")
    if datatype not in DTYPES:
        raise Malformed(
            f"Input `{_short(name)}` has the datatype `{_short(datatype)}`. Known: {', '.join(sorted(DTYPES))}."
        )


def of_json(name: str, datatype: str, shape: Shape, data: bytes | msgspec.Raw, *, nullable: bool) -> Elements:
    """Return the elements, flat, of `data` as JSON: flat, or nested as the shape; raises Malformed.

    null comes back as None where `nullable`.
    """
    try:
        found: Elements = decoder(datatype, nullable, 1).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        if len(shape) == 1 or not _NESTED.match(data):
            raise _unread(name, datatype, fault) from fault
        found = _nested(name, datatype, shape, data, nullable=nullable)
    count = math.prod(shape)
    if len(found) != count:
        raise Malformed(f"Input `{_short(name)}` has {len(found)} values and the shape {shape_text(shape)}.")
    if datatype == "UINT64" and any(value is not None and value >> 64 for value in found):
        raise Malformed(f"Input `{_short(name)}` has values beyond its datatype `UINT64`.")
    return found


def of_typed(name: str, datatype: str, count: int, values: Sequence[Any]) -> Elements:
    """Return `count` elements of a typed list; BYTES come as bytes; raises Malformed."""
    if len(values) != count:
        raise Malformed(f"Input `{_short(name)}` has {len(values)} values; its shape says {count}.")
    if datatype == BYTES:
        return [_text(name, value) for value in values]
    found = list(values)
    bound = _BOUNDS.get(datatype)
    if bound is not None and found and not (bound[0] <= min(found) and max(found) <= bound[1]):
        raise Malformed(f"Input `{_short(name)}` has values beyond its datatype `{datatype}`.")
    return found


def of_raw(name: str, datatype: str, count: int, data: bytes | memoryview) -> Elements | Array:
    """Return `count` elements of raw bytes, as a list or, of many numbers, an array; raises Malformed."""
    if datatype == BYTES:
        return [_text(name, text) for text in _texts(name, count, data)]
    check_size(name, datatype, count, data)
    if count > FEW:
        return np.frombuffer(data, dtype=DTYPES[datatype])
    return list(_struct(datatype, count).unpack(data))


def check_size(name: str, datatype: str, count: int, data: bytes | memoryview) -> None:
    """Raise Malformed where raw numbers are not of the size that their shape says, or a BOOL is neither 0 nor 1."""
    size = count * SIZES[datatype]
    if len(data) != size:
        raise Malformed(
            f"Input `{_short(name)}` has {len(data)} bytes; {short(count)} of `{datatype}` are {short(size)} bytes."
        )
    if datatype == BOOL and bytes(data).translate(None, b"\0\1"):
        raise Malformed(f"Input `{_short(name)}` has bytes other than 0 and 1 in a `BOOL` tensor.")


def pack(name: str, datatype: str, values: Elements) -> bytes:
    """Return elements as raw bytes, None as NaN; raises Malformed where one is beyond the datatype."""
    try:
        if datatype == BYTES:
            return pack_texts(values)
        if len(values) <= FEW:
            try:
                return _struct(datatype, len(values)).pack(*values)
            except struct.error:
                if None not in values:
                    raise
        with np.errstate(over="raise"):
            return np.array(values, dtype=DTYPES[datatype]).tobytes()
    except (struct.error, OverflowError, FloatingPointError, UnicodeEncodeError) as fault:
        raise Malformed(f"Input `{_short(name)}` has values beyond its datatype `{datatype}`.") from fault


def packer(datatype: str, count: int) -> Callable[..., bytes]:
    """Return what packs so many numbers; it raises struct.error or OverflowError where they are not that."""
    return _struct(datatype, count).pack


def unpacker(datatype: str, count: int) -> Callable[..., tuple[Any, ...]]:
    """Return what unpacks so many numbers."""
    return _struct(datatype, count).unpack


def pack_texts(values: Sequence[str]) -> bytes:
    """Return strings as raw BYTES.

    >>> pack_texts(["ab"])
    b'\\x02\\x00\\x00\\x00ab'
    """
    pieces: list[bytes] = []
    for value in values:
        text = value.encode()
        pieces += (_LENGTH.pack(len(text)), text)
    return b"".join(pieces)


def all_finite(datatype: str, data: bytes | memoryview) -> bool:
    """Say whether raw floats have neither NaN nor infinity."""
    count = len(data) // SIZES[datatype]
    if count <= FEW:
        total = sum(_struct(datatype, count).unpack(data))
        if total - total == 0.0:  # neither NaN nor infinity; of large numbers the sum alone may be one
            return True
    return bool(np.isfinite(np.frombuffer(data, dtype=DTYPES[datatype])).all())


def _nested(name: str, datatype: str, shape: Shape, data: bytes | msgspec.Raw, *, nullable: bool) -> Elements:
    unlike = Malformed(
        f"Input `{_short(name)}` has data that is neither flat nor nested as its shape {shape_text(shape)}."
    )
    if datatype != BYTES and bytes(memoryview(data)).count(b"[") != _lists(shape):  # millions of lists take seconds
        raise unlike
    try:
        level: Elements = [decoder(datatype, nullable, len(shape)).decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _unread(name, datatype, fault) from fault
    for size in shape:
        if any(len(inner) != size for inner in level):
            raise unlike
        level = list(chain.from_iterable(level))
    return level


def _lists(shape: Shape) -> int:
    """Return how many lists a nested tensor of a shape has.

    >>> _lists([2, 3, 4])
    9
    """
    return 1 + sum(math.prod(shape[:depth]) for depth in range(1, len(shape)))


def _texts(name: str, count: int, data: bytes | memoryview) -> list[bytes | memoryview]:
    if len(data) < count * _LENGTH.size:
        raise Malformed(f"Input `{_short(name)}` has {len(data)} bytes, too few for {short(count)} elements.")
    texts: list[bytes | memoryview] = []
    at, end = 0, len(data)
    while at < end:
        start = at + _LENGTH.size
        if start > end or len(texts) == count:
            raise Malformed(f"Input `{_short(name)}` has bytes behind its {count} elements.")
        at = start + _LENGTH.unpack_from(data, at)[0]
        if at > end:
            raise Malformed(f"Input `{_short(name)}` ends within element {len(texts)}.")
        texts.append(data[start:at])
    if len(texts) != count:
        raise Malformed(f"Input `{_short(name)}` has {len(texts)} elements; its shape says {count}.")
    return texts


def _text(name: str, value: bytes | memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as fault:
        raise Malformed(f"Input `{_short(name)}` has `BYTES` that are not UTF-8.") from fault


def _unread(name: str, datatype: str, fault: Exception) -> Malformed:
    return Malformed(
        f"Input `{_short(name)}` has values that are not of its datatype `{datatype}`: {str(fault)[:200]}."
    )


def _bounds() -> dict[str, tuple[int, int]]:
    limits = {name: np.iinfo(dtype) for name, dtype in DTYPES.items() if dtype.kind in "iu"}
    return {name: (int(limit.min), int(limit.max)) for name, limit in limits.items()}


_BOUNDS = _bounds()


@lru_cache(maxsize=1024)
def decoder(datatype: str, nullable: bool, depth: int) -> msgspec.json.Decoder[Any]:
    """Return what reads a JSON array of a datatype's elements, nested `depth` deep; null where `nullable`."""
    wanted: Any
    if datatype == BYTES:
        wanted = Annotated[str, msgspec.Meta(max_length=LONGEST_STRING)]
    elif datatype == BOOL:
        wanted = bool
    elif datatype in FLOATS:
        most = _LARGEST.get(datatype)
        wanted = float if most is None else Annotated[float, msgspec.Meta(ge=-most, le=most)]
    else:
        least, largest = _BOUNDS[datatype]
        wanted = Annotated[int, msgspec.Meta(ge=least, le=largest if largest < 2**63 else None)]
    if nullable:
        wanted = wanted | None
    for _ in range(depth):
        wanted = list[wanted]
    return msgspec.json.Decoder(wanted)


@lru_cache(maxsize=1024)
def _struct(datatype: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{_LETTERS[datatype]}")


def _short(text: str) -> str:
    return text[:100]


def shape_text(shape: Shape) -> str:
    """Return a foreign shape in few characters."""
    return "[" + ", ".join(short(size) for size in shape[:MOST_DIMENSIONS]) + "]"


def short(number: int) -> str:
    """Return a foreign number, which may have thousands of digits, in few; it stands before what is counted.

    >>> f"{short(4)} rows, {short(10**40)} rows, a size of {short(-10**40)}"
    '4 rows, more than 10^30 rows, a size of less than -10^30'
    """
    if abs(number) < 10**30:
        return str(number)
    return "more than 10^30" if number > 0 else "less than -10^30"
