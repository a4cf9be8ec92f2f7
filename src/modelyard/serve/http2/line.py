"""The line under an HTTP/2 connection: what is written together, a reader that is too slow, and how a line ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

from modelyard.serve.http2.frames import ConnectionFault, going

READ_TIMEOUT_S = 30.0  # for a client to read some of what waits for it
LINGER_S = 1.0  # after a fault, what the client still sends is dropped, so that it can read why

_READS = -1  # nothing waits for the client to read it


class Owner(Protocol):
    """Whose lines these are."""

    loop: asyncio.AbstractEventLoop

    def came(self, line: Line) -> bool:
        """Say whether a new line is taken."""
        ...

    def gone(self, line: Line) -> None:
        """A line is over."""
        ...

    def faulted(self, number: int, why: str) -> None:
        """A line was ended because its client broke the protocol or a bound."""
        ...


class Line(asyncio.Protocol):
    """Bytes to and from one client."""

    def __init__(self, owner: Owner) -> None:
        self.loop = owner.loop
        self.is_closing = False
        self.touched = self.made = owner.loop.time()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._rest = b""  # of a frame that is not whole yet
        self._out: list[bytes] = []
        self._unsent = _READS  # bytes, at the last look
        self._looked = self.made
        self._closed = 0.0

    # for the subclass

    def opened(self) -> None:
        """The line is up."""
        raise NotImplementedError

    def lost(self) -> None:
        """The line is over, or will be: nothing more can be said to the client."""
        raise NotImplementedError

    def read(self, data: bytes) -> bytes:
        """Take all whole frames and return what is left; raises ConnectionFault."""
        raise NotImplementedError

    def newest(self) -> int:
        """Return the newest stream that was looked at."""
        raise NotImplementedError

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but does not say so
        if not self._owner.came(self):
            self.is_closing = True
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._transport = None
        self._out.clear()
        self._owner.gone(self)
        self.lost()

    def data_received(self, data: bytes) -> None:
        if self.is_closing:
            return
        self.touched = self.loop.time()
        try:
            self._rest = self.read(self._rest + data if self._rest else data)
        except ConnectionFault as fault:
            self.fail(fault)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._looked, self._unsent = self.loop.time(), self._transport.get_write_buffer_size()
            if not self.is_closing:
                self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._unsent = _READS
        if self._transport is not None and not self.is_closing:
            self._transport.resume_reading()

    # ours

    def write(self, data: bytes) -> None:
        """Send with all else that this turn of the loop has to send."""
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.append(data)

    def close(self) -> None:
        """End the line behind what was written."""
        self._flush()
        self.is_closing = True
        self._closed = self.loop.time()
        if self._transport is not None:
            self._transport.close()

    def fail(self, fault: ConnectionFault) -> None:
        """Say why, and end the line."""
        self.write(going(self.newest(), fault.number, fault.why))
        self._flush()
        self.is_closing = True
        self._closed = self.loop.time()
        self._rest = b""
        self._owner.faulted(fault.number, fault.why)
        self.lost()
        if self._transport is None:
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.loop.call_later(LINGER_S, self.abort)

    def abort(self) -> None:
        """Drop the line at once."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> bool:
        """Drop a line that does not move; return whether there is more to look at."""
        if self.is_closing:
            if now - self._closed > READ_TIMEOUT_S:
                self.abort()
            return False
        if self._unsent != _READS and self._transport is not None:
            unsent = self._transport.get_write_buffer_size()
            if unsent != self._unsent:
                self._looked, self._unsent = now, unsent
            elif now - self._looked > READ_TIMEOUT_S:
                self.abort()
            return False
        return True

    def _flush(self) -> None:
        if self._transport is not None and self._out and not self.is_closing:
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()
