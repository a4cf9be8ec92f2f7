"""A connection of ours without a socket, on a clock that stands still, and frames made by hand for it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from modelyard.serve.grpc.call import GrpcCall, GrpcRequest
from modelyard.serve.grpc.listener import GrpcListener
from modelyard.serve.http2.connection import Connection
from modelyard.serve.request import Code

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
INFER = b"/inference.GRPCInferenceService/ModelInfer"
MOST_BYTES = 1_000_000


class Loop:
    """An event loop whose time is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: list[Callable[[], object]] = []
        self._later: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], object]) -> None:
        self._soon.append(call)

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        self._later.append((self.now + seconds, call))

    def turn(self) -> None:
        """Run what is due."""
        while self._soon:
            soon, self._soon = self._soon, []
            for call in soon:
                call()
        due = [entry for entry in self._later if entry[0] <= self.now]
        self._later = [entry for entry in self._later if entry[0] > self.now]
        for _, call in due:
            call()


class Pipe:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.unsent = 0
        self.is_closed = self.is_aborted = self.is_paused = False

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        assert not self.is_closed, "written to after its end"
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def word(self) -> int:
        """The number at the payload's end: why a stream was reset, or by how much a window opens."""
        return cast(int, struct.unpack(">L", self.payload[-4:])[0])


@dataclass
class Talk:
    """One client's side, and what the service got to handle."""

    answer: Callable[[GrpcRequest], None] = lambda request: request.answer(request.body)
    kinds: dict[bytes, Any] = field(default_factory=dict)
    most_connections: int = 10
    asked: list[GrpcRequest] = field(default_factory=list)
    refused: list[Code] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop, self.pipe = Loop(), Pipe()
        self.listener = GrpcListener(
            loop=cast(asyncio.AbstractEventLoop, self.loop),
            handle=self._handle,
            most_message_bytes=MOST_BYTES,
            prefix="t",
            kinds=self.kinds,
            on_refusal=self.refused.append,
            most_connections=self.most_connections,
        )
        self.connection = Connection(self.listener)
        self.connection.connection_made(cast(asyncio.BaseTransport, self.pipe))
        self._read = 0

    def _handle(self, request: GrpcRequest) -> None:
        self.asked.append(request)
        self.answer(request)

    def send(self, *data: bytes) -> None:
        """Let bytes come in, and a turn of the loop pass."""
        self.connection.data_received(b"".join(data))
        self.loop.turn()

    def greet(self, **settings: int) -> Talk:
        """Say what every client says first."""
        numbers = {"window": 4, "frame": 5, "push": 2, "table": 1}
        said = b"".join(struct.pack(">HL", numbers[name], value) for name, value in settings.items())
        self.send(PREFACE, frame(SETTINGS, 0, 0, said))
        self.frames()
        return self

    def frames(self) -> list[Frame]:
        """Return what was sent since this was last called."""
        self.loop.turn()
        found, at = [], self._read
        data = bytes(self.pipe.sent)
        while at < len(data):
            size = int.from_bytes(data[at : at + 3])
            stream = int.from_bytes(data[at + 5 : at + 9])
            found.append(Frame(data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + size]))
            at += 9 + size
        self._read = at
        return found

    def end(self) -> int:
        """Return why the connection was ended; an assertion fails where it was not."""
        last = self.frames()[-1]
        assert last.kind == GOAWAY and self.pipe.is_closed
        return int.from_bytes(last.payload[4:8])

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the connections be looked after."""
        self.loop.now += seconds
        self.listener.sweep()
        self.loop.turn()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field of a header block, written in full."""
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def head(path: bytes = INFER, **more: bytes) -> bytes:
    """Return the header block of a request."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b"content-type": b"application/grpc"}
    fields |= {name.replace("_", "-").encode(): value for name, value in more.items()}
    return b"".join(literal(name, value) for name, value in fields.items())


def message(body: bytes, flag: int = 0) -> bytes:
    """Return a message with its prefix."""
    return bytes((flag,)) + len(body).to_bytes(4) + body


def call(stream: int, body: bytes, block: bytes | None = None) -> bytes:
    """Return the frames of a whole call of one message."""
    data = message(body)
    parts = [frame(HEADERS, END_HEADERS, stream, head() if block is None else block)]
    cuts = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
    parts += [frame(DATA, END_STREAM if cut is cuts[-1] else 0, stream, cut) for cut in cuts]
    return b"".join(parts)


def window(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE."""
    return frame(WINDOW, 0, stream, struct.pack(">L", size))


def reset(stream: int, number: int = 8) -> bytes:
    """Return an RST_STREAM."""
    return frame(RST, 0, stream, struct.pack(">L", number))


def bodies(frames: list[Frame]) -> dict[int, bytes]:
    """Return what was sent on each stream, without the prefix of its first message."""
    found: dict[int, bytes] = {}
    for one in frames:
        if one.kind == DATA:
            found[one.stream] = found.get(one.stream, b"") + one.payload
    return {stream: data[5:] for stream, data in found.items()}


def ends(frames: list[Frame]) -> list[int]:
    """Return the streams that ended, in their order."""
    return [one.stream for one in frames if one.kind in (DATA, HEADERS) and one.flags & END_STREAM]


def fields(one: Frame) -> dict[bytes, bytes]:
    """Return the fields of a header block of ours."""
    block, at, found = one.payload, 0, {}
    if block[:1] == b"\x88":
        found[b":status"], at = b"200", 1
    while at < len(block):
        assert block[at] == 0
        name_size = block[at + 1]
        name = block[at + 2 : at + 2 + name_size]
        at += 2 + name_size
        size, at = block[at], at + 1
        if size == 0x7F:
            shift = 0
            while True:
                size += (block[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if block[at - 1] < 0x80:
                    break
        found[name] = block[at : at + size]
        at += size
    return found


def status(frames: list[Frame]) -> bytes:
    """Return how the last call ended."""
    last = [one for one in frames if one.kind == HEADERS][-1]
    assert last.flags & END_STREAM
    return fields(last)[b"grpc-status"]


def said(data: bytes) -> list[bytes]:
    """Return the messages in a stream's data."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 5])
        found.append(data[at + 5 : at + 5 + size])
        at += 5 + size
    return found


def of_stream(frames: list[Frame], stream: int = 1) -> list[bytes]:
    return said(b"".join(one.payload for one in frames if one.kind == DATA and one.stream == stream))


__all__ = ["Frame", "GrpcCall", "GrpcRequest", "Talk"]
