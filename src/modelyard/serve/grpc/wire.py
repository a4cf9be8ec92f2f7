"""Protocol Buffers on the wire: as much of the format as the messages of this service need.

Readers pass over fields that they do not know, as the format wants. Nothing is allocated by what a length says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # how a field's value is written
_MOST_SHIFT = 63  # of a number's last part
_FEW = 64  # bytes of packed numbers up to which a loop is quicker than numpy
_MOST_VARINT = 10  # bytes

_EIGHT = struct.Struct("<Q")
_FOUR = struct.Struct("<L")
_DOUBLE = struct.Struct("<d")

Value = int | bytes


class WireFault(Exception):
    """Bytes that are no message; the text is for the caller."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where it ends; raises WireFault."""
    number = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > _MOST_SHIFT:
                raise WireFault("The message has a number that does not end.")
    except IndexError:
        raise WireFault("The message ends within a number.") from None


def field(data: bytes, at: int) -> tuple[int, int, Value, int]:
    """Return number, kind and value of the field at `at`, and where it ends; raises WireFault."""
    tag, at = varint(data, at)
    number, kind = tag >> 3, tag & 7
    if number == 0 or number >= 1 << 29:
        raise WireFault("The message has a field without a number.")
    if kind == VARINT:
        value, at = varint(data, at)
        return number, kind, value, at
    if kind == BYTES:
        size, at = varint(data, at)
    elif kind in (EIGHT, FOUR):
        size = 8 if kind == EIGHT else 4
    else:
        raise WireFault("The message has a field of a kind that is not known.")
    end = at + size
    if end > len(data):
        raise WireFault("The message ends within a field.")
    part = data[at:end]
    if kind == BYTES:
        return number, kind, part, end
    return number, kind, (_EIGHT if kind == EIGHT else _FOUR).unpack(part)[0], end


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """Give number, kind and value of each field; raises WireFault.

    >>> list(fields(b"\\x08\\x05\\x12\\x01a"))
    [(1, 0, 5), (2, 2, b'a')]
    """
    at, end = 0, len(data)
    while at < end:
        number, kind, value, at = field(data, at)
        yield number, kind, value


def texts(data: bytes, *numbers: int) -> list[str]:
    """Return the strings of these fields, empty where there is none; raises WireFault."""
    found = dict.fromkeys(numbers, "")
    for number, kind, value in fields(data):
        if number in found and kind == BYTES:
            found[number] = to_text(value)
    return list(found.values())


def to_text(value: Value) -> str:
    """Return a string's value; raises WireFault."""
    try:
        return value.decode()  # type: ignore[union-attr]  # the caller looked at its kind
    except UnicodeDecodeError as fault:
        raise WireFault("The message has a string that is not UTF-8.") from fault


def signed(number: int) -> int:
    """Return a number as int64.

    >>> signed(2**64 - 1)
    -1
    """
    return number - (1 << 64) if number >> 63 else number


def double(number: int) -> float:
    """Return eight bytes as a float64."""
    value: float = _DOUBLE.unpack(_EIGHT.pack(number))[0]
    return value


def packed(data: bytes, *, bits: int, is_signed: bool) -> list[int]:
    """Return packed numbers of so many bits; raises WireFault.

    >>> packed(b"\\x01\\xac\\x02", bits=64, is_signed=True)
    [1, 300]
    """
    if data.isascii():  # each is one byte
        return list(data)
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    if len(data) <= _FEW:
        found, at = [], 0
        while at < len(data):
            number, at = varint(data, at)
            number &= mask
            found.append(number - mask - 1 if is_signed and number & half else number)
        return found
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if len(ends) == 0 or ends[-1] != len(raw) - 1:
        raise WireFault("The message ends within a number.")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    longest = int(sizes.max())
    if longest > _MOST_VARINT:
        raise WireFault("The message has a number that does not end.")
    numbers = np.zeros(len(ends), dtype=np.uint64)
    for place in range(longest):
        there = sizes > place
        numbers[there] |= (raw[starts[there] + place].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * place)
    kind = np.dtype(f"{'i' if is_signed else 'u'}{bits // 8}")
    listed: list[int] = numbers.astype(kind.str.replace("i", "u")).view(kind).tolist()
    return listed


# writing


def number(value: int) -> bytes:
    """Return a number from 0 to 2**64.

    >>> number(300)
    b'\\xac\\x02'
    """
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def blob(tag: int, value: bytes) -> bytes:
    """Return a field of bytes, or a message in a message.

    >>> blob(2, b"a")
    b'\\x12\\x01a'
    """
    size = len(value)
    if size < 0x80 and tag < 16:
        return b"%c%c%b" % (tag << 3 | BYTES, size, value)
    return number(tag << 3 | BYTES) + number(size) + value


def text(tag: int, value: str) -> bytes:
    """Return a field of a string; nothing for the empty one."""
    return blob(tag, value.encode()) if value else b""


def whole(tag: int, value: int) -> bytes:
    """Return a field of a whole number or a bool; nothing for 0.

    >>> whole(1, True)
    b'\\x08\\x01'
    """
    return number(tag << 3) + number(value & 0xFFFFFFFFFFFFFFFF) if value else b""


def entry(tag: int, key: str, value: bytes) -> bytes:
    """Return an entry of a map whose values are messages."""
    return blob(tag, text(1, key) + blob(2, value))
