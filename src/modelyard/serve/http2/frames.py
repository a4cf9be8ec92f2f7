"""The frames of HTTP/2 (RFC 9113): numbers, bounds, and the bytes of those that we send."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

SET_PUSH, SET_STREAMS, SET_WINDOW, SET_FRAME, SET_FIELDS = 0x2, 0x3, 0x4, 0x5, 0x6

MOST_WINDOW = 2**31 - 1
MOST_STREAM_ID = 2**31 - 1
FIRST_WINDOW = 65_535  # of a connection and a stream, until something else is said
LEAST_FRAME = 16_384  # bytes of payload that everyone takes; more we do not
HIGHEST_FRAME = 2**24 - 1

HEAD = struct.Struct(">BHBBL")  # length in two parts, kind, flags, stream
HEAD_SIZE = HEAD.size
WORD = struct.Struct(">L")
SETTING = struct.Struct(">HL")
GOING = struct.Struct(">LL")  # of GOAWAY: last stream, why


class ConnectionFault(Exception):
    """The client broke the protocol, or a bound; the connection ends."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number, self.why = number, why


class StreamFault(Exception):
    """The client broke the protocol on one stream, which ends."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number, self.why = number, why


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame.

    >>> frame(PING, ACK, 0, bytes(8)).hex()
    '0000080601000000000000000000000000'
    """
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values.items()))


def reset(stream: int, number: int) -> bytes:
    """Return an RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, WORD.pack(number))


def credit(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, WORD.pack(size))


def going(last: int, number: int, why: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, GOING.pack(last, number) + why.encode())


def unpadded(data: bytes, start: int, stop: int, flags: int) -> tuple[int, int]:
    """Return where a padded frame's payload begins and ends; raises ConnectionFault."""
    if not flags & PADDED:
        return start, stop
    if start == stop:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame is empty")
    padding = data[start]
    if start + 1 + padding > stop:
        raise ConnectionFault(PROTOCOL_ERROR, "a frame's padding is longer than the frame")
    return start + 1, stop - padding
