"""HTTP/1.1 on httptools and the event loop: whole requests in, whole replies out.

One request of a connection is answered at a time and in order; further ones that came early wait. Size of head and
body, time to send them, and how much waits for a slow reader are bounded. A caller that keeps its connection sends
the same head again and again: one that is byte for byte the last is not parsed again.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from modelyard.serve.http.reply import CONTINUE, HttpRequest, bare_refusal
from modelyard.serve.request import SPECIAL, Code

if TYPE_CHECKING:  # whose connections these are
    from modelyard.serve.http.listener import Listener

MOST_HEAD_BYTES = 32 * 1024
MOST_HEADERS = 100
BODIES_AT_ONCE = 8  # of the largest size, that may be coming in at once over all connections
ALWAYS_TAKEN_BYTES = (
    32 * 1024
)  # of a body, however much others hold: who sends little is not refused for who holds much
MOST_PIPELINED = 32
MOST_WAITING = 4096  # requests of one read that may wait; a connection with more is closed behind their replies
REQUEST_TIMEOUT_S = 30.0  # for a request to come in whole, once it began
UNREAD_TIMEOUT_S = 75.0  # for a caller to read what it was sent
MOST_LINGERING = 64  # refused connections, beyond those that there is room for, that may stay for `LINGER_S`
LINGER_S = 1.0  # after a refusal, what the caller still sends is read and dropped, so that it can read the reply

_now = time.monotonic
_ID = re.compile(rb"^[A-Za-z0-9._:-]{1,128}\Z")
_ORIGIN = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)  # before the path, where a caller writes the whole address
_ONCE = frozenset((b"host", b"transfer-encoding", b"authorization", b"x-api-key"))  # two could be read as either


class _Head:
    """The head of the last request, if it came in one piece with its body."""

    __slots__ = ("head_bytes", "headers", "id", "is_plain", "method", "path", "query", "text", "whole_bytes")

    def __init__(self, text: bytes, whole_bytes: int, request: HttpRequest, *, own_id: bool) -> None:
        self.text, self.head_bytes, self.whole_bytes = text, len(text), whole_bytes
        self.method, self.path, self.query, self.headers = request.method, request.path, request.query, request.headers
        self.is_plain = SPECIAL.isdisjoint(request.headers)
        self.id = request.id if own_id else ""  # the one that the caller gave


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.busy = False  # a request is being answered
        self.touched = listener.loop.time()
        self.began: float | None = None  # when the request now coming in began
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None
        self._closing = False
        self._refusal: Code | None = None
        self._held = 0  # bytes of a body that is still coming in
        self._turning = False  # requests that waited are being taken up
        self._full = False  # the caller does not read: what it asks waits, so that replies do not pile up
        self._completed = 0  # requests, by the bytes that came last
        self._last: _Head | None = None
        self._made: HttpRequest | None = None  # the last one that the parser gave
        self._own_id = False  # its caller named it
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._asks_more = False  # it asks for another protocol
        self._in_body = False  # the head is complete: what else looks like a header is a trailer
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
        beyond = len(self.listener.connections) - self.listener.most_connections
        if beyond > 0:
            self._refuse(Code.NOT_NOW)
            if beyond > MOST_LINGERING:
                self._transport.close()  # at once, whether or not it can read the reply

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
        listener = self.listener
        last = self._last
        if (
            last is not None
            and len(data) == last.whole_bytes
            and not self.busy
            and self.began is None
            and data.startswith(last.text)
        ):
            self.busy = True
            self.touched = listener.clock
            listener.count += 1
            self._current = request = HttpRequest(
                self,
                last.method,
                last.path,
                last.query,
                last.headers,
                data[last.head_bytes :],
                last.id or f"{listener.prefix}-{listener.count:x}",
                _now(),
                not listener.draining,
            )
            request.is_plain = last.is_plain
            listener.handle(request)
            return
        self.touched = listener.loop.time()
        whole_at_once = self.began is None
        self._completed = 0
        try:
            self._feed(data)
            self._count_framing(len(data))
        except (httptools.HttpParserError, _Refused):
            self._refusal = self._refusal or Code.MALFORMED
            self._take_up()
            self._refuse(self._refusal)
            return
        self._take_up()
        if whole_at_once and self._completed == 1 and self.began is None and not self._full:
            self._remember(data)

    def pause_writing(self) -> None:
        self._full, self._last = True, None  # no short way past what waits
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._transport is None or self._closing:
            return
        if self._waiting and not self.busy:
            self._turn()
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif len(self._waiting) < MOST_PIPELINED:
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
        if self._in_body:  # a trailer: whoever checked the head on the way here has not seen it (RFC 9110, 6.5.1)
            return
        name = name.lower()
        if name in _ONCE and name in self._headers:
            self._stop(Code.MALFORMED)
        self._headers[name] = value
        if len(self._headers) > MOST_HEADERS:
            self._stop(Code.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._check_framing()
        length = self._headers.get(b"content-length", b"0")
        if int(length) > self.listener.most_body_bytes:  # the parser let digits only pass
            self._stop(Code.TOO_LARGE)
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._passed += len(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.listener.most_body_bytes:
            self._stop(Code.TOO_LARGE)
        self._held += len(body)
        self.listener.held_bytes += len(body)
        holds = self.listener.held_bytes > BODIES_AT_ONCE * self.listener.most_body_bytes
        if holds and self._held > ALWAYS_TAKEN_BYTES:
            self._stop(Code.NOT_NOW)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._asks_more:  # it is read again, plainly
            return
        self.began = None
        self._passed = self._framing_bytes = 0
        self._completed += 1
        self.listener.held_bytes -= self._held
        self._held = 0
        if self._closing:  # the reply before this said so
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        url = self._url if self._url[:1] == b"/" else _ORIGIN.sub(b"", self._url, count=1) or b"/"
        path, _, query = url.partition(b"?")
        listener, given = self.listener, self._headers.get(b"x-request-id")
        self._own_id = given is not None and _ID.match(given) is not None
        self._made = request = HttpRequest(
            self,
            self._parser.get_method(),
            path,
            query,
            self._headers,
            body,
            given.decode() if given is not None and self._own_id else listener.next_id(),
            _now(),  # the loop's own clock stands still within a turn, and counts milliseconds
            self._parser.should_keep_alive() and not listener.draining,
        )
        if self.busy or self._full or listener.draining:
            if listener.draining and (self._waiting or self._current is not None):
                before = self._waiting[-1] if self._waiting else self._current
                assert before is not None
                before.keep = True  # not its reply but the last one announces the close
            self._waiting.append(request)
            if len(self._waiting) >= MOST_PIPELINED and self._transport is not None:
                self._transport.pause_reading()
            if len(self._waiting) >= MOST_WAITING:
                self._stop(Code.TOO_MANY)
            return
        self._begin(request)

    # ours

    def close_if_quiet(self, now: float, *, idle_s: float) -> None:
        """Close a connection without a request for `idle_s`; refuse a request that comes in too slowly."""
        if self._transport is None:
            return
        if (self._full or self._closing) and now - self.touched > UNREAD_TIMEOUT_S:
            self._transport.abort()  # it would wait for ever to be read
        elif self.busy:
            return
        elif self.began is not None and now - self.began > REQUEST_TIMEOUT_S:
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

    def write(self, data: bytes, *, keep: bool) -> None:
        """Send the reply that is due, and turn to the request that waits."""
        if self._transport is None:
            return
        self._transport.write(data)
        self.touched = self.listener.clock
        self.busy, self._current = False, None
        if not keep:
            self._closing = True
            self._transport.close()
        elif self._waiting:
            if not self._turning:
                self._turn()
        elif self._refusal is not None:
            self._refuse(self._refusal)

    def _feed(self, data: bytes) -> None:
        """Have the parser read; no other protocol is offered, so that a wish for one is passed over (RFC 9110, 7.8)."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as wish:
                if self._parser.get_method() == b"CONNECT":
                    self._stop(Code.WRONG_METHOD)
                lines = [b"%b: %b\r\n" % pair for pair in self._headers.items() if pair[0] != b"upgrade"]
                head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self._parser.get_method(), self._url, b"".join(lines))
                self._parser = httptools.HttpRequestParser(self)
                data = head + data[wish.args[0] :]

    def _check_framing(self) -> None:
        """Refuse a head that another on its way here may read as something else."""
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1") or (version == "1.1" and b"host" not in self._headers):
            self._stop(Code.MALFORMED)
        if self._headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._stop(Code.NOT_OFFERED)
        self._asks_more = self._parser.should_upgrade()

    def _take_up(self) -> None:
        """Begin with what waits although nothing is being answered: it came while the service drains."""
        if self._waiting and not self.busy and not self._full:
            self._turn()

    def _turn(self) -> None:
        """Take up the requests that wait; those answered at once one after another, not one within another."""
        self._turning = True
        while self._waiting and not self.busy and not self._closing and not self._full:
            self._begin(self._waiting.popleft())
        self._turning = False
        is_open = self._transport is not None and not self._closing
        if is_open and not self._full and len(self._waiting) < MOST_PIPELINED:
            self._transport.resume_reading()  # type: ignore[union-attr]  # as is_open says

    def _remember(self, data: bytes) -> None:
        """Keep the head of a request that came in one piece, if its length alone says where it ends."""
        made, self._last = self._made, None
        end = len(data) - self._body_bytes
        plain = b"transfer-encoding" not in self._headers and b"expect" not in self._headers
        has_length = int(self._headers.get(b"content-length", b"0")) == self._body_bytes
        # Where the head ends is found by itself: bytes behind the body that the parser passes over would shift it.
        ends_there = data.find(b"\n\r\n") + 3 == end and data.find(b"\n\n", 0, end) < 0
        if made is not None and plain and has_length and made.keep and ends_there:
            self._last = _Head(data[:end], len(data), made, own_id=self._own_id)

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
        if self._transport is None or self.busy or self._waiting or self._closing:
            return
        self.listener.on_refusal(code)
        self._transport.write(bare_refusal(code, self.listener.next_id().encode()))
        self._closing = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.listener.loop.call_later(LINGER_S, self._transport.close)

    def _begin(self, request: HttpRequest) -> None:
        self.busy = True
        self._current = request
        self.listener.handle(request)


class _Refused(Exception):
    """Carries a refusal out of the parser's callbacks."""
