"""How gRPC says that a call went wrong, and the fields that go with every answer."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from modelyard.serve.http2.hpack import encode
from modelyard.serve.request import Code


class Status(IntEnum):
    """The numbers of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


STATUS_OF = {
    Code.OK: Status.OK,
    Code.MALFORMED: Status.INVALID_ARGUMENT,
    Code.NO_KEY: Status.UNAUTHENTICATED,
    Code.NOT_ALLOWED: Status.PERMISSION_DENIED,
    Code.NOT_FOUND: Status.NOT_FOUND,
    Code.WRONG_METHOD: Status.UNIMPLEMENTED,
    Code.TOO_SLOW: Status.DEADLINE_EXCEEDED,
    Code.TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    Code.WRONG_CODING: Status.UNIMPLEMENTED,
    Code.BROKEN_CONTRACT: Status.INVALID_ARGUMENT,
    Code.TOO_MANY: Status.RESOURCE_EXHAUSTED,
    Code.HEAD_TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    Code.FAILED: Status.INTERNAL,
    Code.NOT_OFFERED: Status.UNIMPLEMENTED,
    Code.NOT_NOW: Status.UNAVAILABLE,
    Code.TOO_LATE: Status.DEADLINE_EXCEEDED,
}
MOST_MESSAGE = 1_500  # bytes of a message; clients take some 8 KiB of fields
MOST_LINES = 2_048  # bytes of further fields

HEAD = b"\x88" + encode(b"content-type", b"application/grpc")  # :status 200
OK_TRAILERS = encode(b"grpc-status", b"0")
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}  # all but the percent sign


def shortened(message: str) -> str:
    """Return as much of a message as is sent."""
    if message.isascii() and 3 * len(message) <= MOST_MESSAGE:
        return message
    text = message.encode("utf-8", "replace").decode()
    size = 0
    for place, character in enumerate(text):
        size += sum(1 if byte in _PLAIN else 3 for byte in character.encode())
        if size > MOST_MESSAGE:
            return text[:place]
    return text


def escaped(message: str) -> bytes:
    """Return a message as `grpc-message` may have it, shortened.

    >>> escaped("50 % more\\n")
    b'50 %25 more%0A'
    """
    data = shortened(message).encode()
    return b"".join([bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in data])


def trailers(status: Status, message: str, *, retry_after_s: int | None = None, detail: bytes = b"") -> bytes:
    """Return the fields that end a call that went wrong."""
    fields = [encode(b"grpc-status", b"%d" % status), encode(b"grpc-message", escaped(message))]
    if retry_after_s is not None:
        fields.append(encode(b"retry-after", b"%d" % retry_after_s))
        fields.append(encode(b"grpc-retry-pushback-ms", b"%d" % (1000 * retry_after_s)))
    return b"".join(fields) + detail


def lines(extra: bytes) -> bytes:
    """Return HTTP header lines as fields; what they say beyond `MOST_LINES` is left out.

    >>> lines(b"X-Why: so\\r\\n")
    b'\\x00\\x05x-why\\x02so'
    """
    fields: list[bytes] = []
    for line in extra[:MOST_LINES].split(b"\r\n"):
        name, found, value = line.partition(b":")
        if found:
            fields.append(encode(name.strip().lower(), value.strip()))
    return b"".join(fields)


def fault_text(message: str, faults: Sequence[str]) -> str:
    """Return the message with all faults that it does not name already.

    >>> fault_text("Broken.", ["row 0, column `a`: is missing"])
    'Broken. row 0, column `a`: is missing'
    """
    more = [fault for fault in faults if fault not in message]
    return " ".join([message, *more[:20]])[:MOST_MESSAGE]
