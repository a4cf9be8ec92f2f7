"""One stream of an HTTP/2 connection: what a client sends on it, and our answer within the windows it gives."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from modelyard.serve.http2.frames import DATA, END_HEADERS, END_STREAM, HEAD, HEADERS, LEAST_FRAME, credit

if TYPE_CHECKING:
    from modelyard.serve.http2.connection import Connection

STREAM_WINDOW = 1024 * 1024  # bytes that a client may send on a stream beyond what was taken up

_MESSAGE_HEAD = struct.Struct(">BHBBLBL")  # head of a DATA frame, then of a message: not compressed, its length
_PREFIX = struct.Struct(">BL")
PREFIX_SIZE = _PREFIX.size


class Stream:
    """A stream; a subclass says what is done with what comes (`came`, `left`, `late`, `settle`)."""

    __slots__ = ("blocked_since", "connection", "credit", "id", "owed", "queue", "remote_done", "tail", "window")

    def __init__(self, connection: Connection, id: int) -> None:
        self.connection, self.id = connection, id
        self.window = connection.stream_window  # bytes that the client still takes
        self.credit = STREAM_WINDOW  # bytes that it may still send
        self.owed = 0  # bytes taken up for which it has no new credit
        self.remote_done = False  # it has sent all
        self.queue: deque[memoryview] | None = None  # what waits for a window
        self.tail: bytes | None = None  # what ends the stream, behind the queue
        self.blocked_since = 0.0

    # for the subclass

    def opened(self) -> None:
        """The connection knows the stream; it may be answered."""

    def came(self, data: bytes, ended: bool) -> None:
        """Take what the client sent."""
        raise NotImplementedError

    def left(self) -> None:
        """The client gave the stream up, or is gone."""
        raise NotImplementedError

    def late(self, now: float) -> None:
        """Look, every second or so, whether the client is too slow."""

    def settle(self, now: float, quiet_s: float) -> None:
        """Look, while the service drains, whether the stream can end; `quiet_s` without anything is the end."""

    def drained(self) -> None:
        """All that waited for a window was sent."""

    # what the subclass calls

    def take(self, size: int) -> None:
        """Give the client credit for bytes that were taken up."""
        self.owed += size
        if self.owed >= STREAM_WINDOW // 2 and not self.remote_done:
            self.connection.write(credit(self.id, self.owed))
            self.credit += self.owed
            self.owed = 0

    def respond(self, head: bytes, message: bytes, tail: bytes) -> None:
        """Send a whole answer of one message, and end."""
        size = len(message) + PREFIX_SIZE
        connection = self.connection
        if size > self.window or size > connection.window or size > LEAST_FRAME:
            self.send_head(head)
            self.send(message)
            self.end(tail)
            return
        connection.window -= size
        connection.write(
            b"%b%b%b%b%b%b"
            % (
                HEAD.pack(0, len(head), HEADERS, END_HEADERS, self.id),
                head,
                _MESSAGE_HEAD.pack(0, size, DATA, 0, self.id, 0, size - PREFIX_SIZE),
                message,
                HEAD.pack(0, len(tail), HEADERS, END_HEADERS | END_STREAM, self.id),
                tail,
            )
        )
        connection.done(self)

    def send_head(self, block: bytes) -> None:
        """Send the header block."""
        self.connection.write(HEAD.pack(0, len(block), HEADERS, END_HEADERS, self.id) + block)

    def send(self, message: bytes) -> None:
        """Send a message, as soon as the windows let it."""
        data = _PREFIX.pack(0, len(message)) + message
        if self.queue is None:
            self.queue = deque()
        self.queue.append(memoryview(data))
        self.pump()

    def end(self, block: bytes) -> None:
        """Send the trailers behind everything else, and end."""
        self.tail = block
        if not self.queue:
            self._end(block)

    def pump(self) -> None:
        """Send what waits as far as the windows reach."""
        connection, queue = self.connection, self.queue
        while queue:
            room = min(self.window, connection.window, LEAST_FRAME)
            if room <= 0:
                connection.block(self)
                return
            piece = queue[0]
            size = len(piece)
            if size <= room:
                queue.popleft()
            else:
                queue[0], piece, size = piece[room:], piece[:room], room
            self.window -= size
            connection.window -= size
            connection.write(HEAD.pack(0, size, DATA, 0, self.id) + piece)
            connection.earn(1)  # the client will say that it has room again
        connection.unblock(self)
        if self.tail is not None:
            self._end(self.tail)
        else:
            self.drained()

    def _end(self, block: bytes) -> None:
        self.connection.write(HEAD.pack(0, len(block), HEADERS, END_HEADERS | END_STREAM, self.id) + block)
        self.connection.done(self)
