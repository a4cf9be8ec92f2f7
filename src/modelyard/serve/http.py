"""HTTP/1.1 on httptools and the event loop: whole requests in, whole replies out. The only place with HTTP numbers.

One request of a connection is answered at a time and in order; further ones that came early wait. Size of head and
body, time to send them, and how much waits for a slow reader are bounded.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import cast

import httptools

from modelyard.serve.processes import hold_callers

JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"

MOST_HEAD_BYTES = 32 * 1024
BODIES_AT_ONCE = 8  # of the largest size, that may be coming in at once over all connections
MOST_PIPELINED = 32
REQUEST_TIMEOUT_S = 30.0  # for a request to come in whole, once it began
IDLE_TIMEOUT_S = 75.0  # for a connection without a request
ACCEPT_S = 0.1  # while draining, for the loop to accept what the kernel had already taken
SETTLE_S = 0.5  # while draining, a connection that was quiet for this long is closed
LINGER_S = 1.0  # after a refusal, what the caller still sends is read and dropped, so that it can read the reply

_ID = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")


class Code(IntEnum):
    """The status of a reply."""

    OK = 200
    MALFORMED = 400
    NOT_FOUND = 404
    WRONG_METHOD = 405
    TOO_SLOW = 408
    TOO_LARGE = 413
    WRONG_CODING = 415
    BROKEN_CONTRACT = 422
    HEAD_TOO_LARGE = 431
    FAILED = 500
    NOT_NOW = 503
    TOO_LATE = 504


_REASONS = {
    Code.OK: b"OK",
    Code.MALFORMED: b"Bad Request",
    Code.NOT_FOUND: b"Not Found",
    Code.WRONG_METHOD: b"Method Not Allowed",
    Code.TOO_SLOW: b"Request Timeout",
    Code.TOO_LARGE: b"Content Too Large",
    Code.WRONG_CODING: b"Unsupported Media Type",
    Code.BROKEN_CONTRACT: b"Unprocessable Content",
    Code.HEAD_TOO_LARGE: b"Request Header Fields Too Large",
    Code.FAILED: b"Internal Server Error",
    Code.NOT_NOW: b"Service Unavailable",
    Code.TOO_LATE: b"Gateway Timeout",
}
_LINES = {code: b"HTTP/1.1 %d %s\r\ncontent-length: " % (code, reason) for code, reason in _REASONS.items()}


class Request:
    """One request, whole. `reply` is called once, now or later, on the event loop's thread."""

    __slots__ = ("_write", "arrived", "body", "gone", "headers", "id", "keep", "method", "on_gone", "path", "sent")

    def __init__(
        self,
        *,
        method: bytes,
        path: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        id: str,
        arrived: float,
        write: Callable[[Request, bytes], None],
        keep: bool = False,
    ) -> None:
        self.method, self.path, self.headers, self.body, self.id = method, path, headers, body, id
        self.arrived = arrived
        self.keep = keep  # the connection stays open after the reply
        self.gone = False  # the caller closed the connection
        self.sent = False
        self.on_gone: Callable[[], None] | None = None
        self._write = write

    def reply(self, code: Code, body: bytes, *, kind: bytes = JSON, headers: bytes = b"") -> None:
        """Send the reply, once, unless the caller is gone; `headers` are whole lines, each with its ending."""
        if self.gone or self.sent:
            return
        self.sent = True
        self.on_gone = None
        end = b"\r\n" if self.keep else b"connection: close\r\n\r\n"
        payload = b"" if self.method == b"HEAD" else body
        parts = (
            _LINES[code],
            b"%d\r\ncontent-type: " % len(body),
            kind,
            b"\r\nx-request-id: ",
            self.id.encode(),
            b"\r\n",
            headers,
            end,
            payload,
        )
        self._write(self, b"".join(parts))


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.busy = False  # a request is being answered
        self.touched = listener.loop.time()
        self.began: float | None = None  # when the request now coming in began
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._closing = False
        self._refusal: Code | None = None
        self._held = 0  # bytes of a body that is still coming in
        self._completed = False  # a request, by the bytes that came last
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._passed = 0  # bytes that the parser told of since the last look
        self.listener.held_bytes -= self._held
        self._held = 0

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but does not say so
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        self._reset()
        request, self._current = self._current, None
        self._transport = None
        if request is not None:
            request.gone = True
            if request.on_gone is not None:
                request.on_gone()
                request.on_gone = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self.touched = self.listener.loop.time()
        self._completed = False
        try:
            self._parser.feed_data(data)
            self._count_framing(len(data))
        except (httptools.HttpParserUpgrade, httptools.HttpParserError, _Refused):
            self._refuse(self._refusal or Code.MALFORMED)

    def pause_writing(self) -> None:
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._closing and len(self._waiting) < MOST_PIPELINED:
            self._transport.resume_reading()

    # what the parser calls

    def on_message_begin(self) -> None:
        self.began = self.touched
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        length = self._headers.get(b"content-length", b"0")
        if int(length) > self.listener.most_body_bytes:  # the parser let digits only pass
            self._stop(Code.TOO_LARGE)
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._passed += len(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.listener.most_body_bytes:
            self._stop(Code.TOO_LARGE)
        self._held += len(body)
        self.listener.held_bytes += len(body)
        if self.listener.held_bytes > BODIES_AT_ONCE * self.listener.most_body_bytes:
            self._stop(Code.NOT_NOW)
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.began = None
        self._passed = self._framing_bytes = 0
        self._completed = True
        self.listener.held_bytes -= self._held
        self._held = 0
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        given = self._headers.get(b"x-request-id")
        request = Request(
            method=self._parser.get_method(),
            path=self._url.partition(b"?")[0],
            headers=self._headers,
            body=body,
            id=given.decode() if given is not None and _ID.match(given) else self.listener.next_id(),
            arrived=time.monotonic(),  # the loop's own clock stands still within a turn, and counts milliseconds
            write=self._write,
            keep=self._parser.should_keep_alive() and not self.listener.draining,
        )
        if self.busy:
            self._waiting.append(request)
            if len(self._waiting) >= MOST_PIPELINED and self._transport is not None:
                self._transport.pause_reading()
            return
        self._begin(request)

    # ours

    def close_if_quiet(self, now: float, *, idle_s: float) -> None:
        """Close a connection without a request for `idle_s`; refuse a request that comes in too slowly."""
        if self._transport is None or self.busy:
            return
        if self.began is not None and now - self.began > REQUEST_TIMEOUT_S:
            self._refuse(Code.TOO_SLOW)
        elif self.began is None and now - self.touched > idle_s:
            self._closing = True
            self._transport.close()

    def announce(self) -> None:
        """Let the last reply that is due say that the connection ends with it."""
        last = self._waiting[-1] if self._waiting else self._current
        if last is not None:
            last.keep = False

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _count_framing(self, came: int) -> None:
        """Bound what comes in without becoming body: a head line or a chunk's extension that never ends."""
        if self.began is None or self._completed:  # what came was a request, whole
            return
        self._framing_bytes += came - self._passed
        self._passed = 0
        if self._framing_bytes > 2 * MOST_HEAD_BYTES + self._body_bytes:
            self._stop(Code.HEAD_TOO_LARGE)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES:
            self._stop(Code.HEAD_TOO_LARGE)

    def _stop(self, code: Code) -> None:
        """Leave the parser: what follows is not read."""
        self._refusal = code
        raise _Refused

    def _refuse(self, code: Code) -> None:
        """Answer what cannot be taken as a request, behind the replies that are due, and close."""
        self._refusal = code
        if self._transport is None or self.busy:
            return
        self.listener.on_refusal(code)
        text = b'{"error":"%s"}' % _REASONS[code].lower()
        head = (
            _LINES[code]
            + b"%d\r\ncontent-type: %s\r\nx-request-id: %s\r\nx-served-by: front\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head % (len(text), JSON, self.listener.next_id().encode()) + text)
        self._closing = True
        self._transport.write_eof()
        self.listener.loop.call_later(LINGER_S, self._transport.close)

    def _begin(self, request: Request) -> None:
        self.busy = True
        self._current = request
        self.listener.handle(request)

    def _write(self, request: Request, data: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(data)
        self.touched = self.listener.loop.time()
        self.busy, self._current = False, None
        if not request.keep:
            self._closing = True
            self._transport.close()
        elif self._waiting:
            following = self._waiting.popleft()
            self._transport.resume_reading()
            self._begin(following)
        elif self._refusal is not None:
            self._refuse(self._refusal)


class _Refused(Exception):
    """Carries a refusal out of the parser's callbacks."""


class Listener:
    """The connections accepted from one listening socket."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[Request], None],
        most_body_bytes: int,
        prefix: str,
        on_refusal: Callable[[Code], None] = lambda code: None,
    ) -> None:
        self.loop, self.handle, self.most_body_bytes, self.on_refusal = loop, handle, most_body_bytes, on_refusal
        self.connections: set[Connection] = set()
        self.draining = False
        self.held_bytes = 0  # of bodies that are still coming in, over all connections
        self._prefix, self._count = prefix, 0
        self._server: asyncio.Server | None = None
        self._sock: socket.socket | None = None

    def next_id(self) -> str:
        """Return an id for a request that brought none."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    async def start(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        self._sock = sock
        self._server = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=1024)

    def sweep(self) -> None:
        """Close what is idle or too slow; to be called every second or so."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.close_if_quiet(now, idle_s=IDLE_TIMEOUT_S)

    async def drain(self, grace_s: float) -> int:
        """Stop accepting, let requests in flight finish, close; return how many connections had to be cut.

        Connections that already wait to be accepted are taken and answered: closing a listening socket would reset
        them. Every reply announces the close, and a connection that stays quiet is closed after `SETTLE_S`.
        """
        self.draining = True
        for connection in self.connections:
            connection.announce()
        if self._sock is not None:
            hold_callers(self._sock)
        await asyncio.sleep(ACCEPT_S)
        if self._server is not None:
            self._server.close()
        end = self.loop.time() + grace_s
        while self.connections and self.loop.time() < end:
            now = self.loop.time()
            for connection in list(self.connections):
                connection.close_if_quiet(now, idle_s=SETTLE_S)
            await asyncio.sleep(0.01)
        cut = [connection for connection in self.connections if connection.busy]
        for connection in list(self.connections):
            connection.abort()
        return len(cut)
