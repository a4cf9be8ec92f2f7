"""Requests of HTTP/1.1 and the bytes of their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelyard.serve.doors import refusal
from modelyard.serve.request import FRONT, JSON, Code, Request

_REASONS = {
    Code.OK: b"OK",
    Code.MALFORMED: b"Bad Request",
    Code.NO_KEY: b"Unauthorized",
    Code.NOT_ALLOWED: b"Forbidden",
    Code.NOT_FOUND: b"Not Found",
    Code.WRONG_METHOD: b"Method Not Allowed",
    Code.TOO_SLOW: b"Request Timeout",
    Code.TOO_LARGE: b"Content Too Large",
    Code.WRONG_CODING: b"Unsupported Media Type",
    Code.BROKEN_CONTRACT: b"Unprocessable Content",
    Code.TOO_MANY: b"Too Many Requests",
    Code.HEAD_TOO_LARGE: b"Request Header Fields Too Large",
    Code.FAILED: b"Internal Server Error",
    Code.NOT_OFFERED: b"Not Implemented",
    Code.NOT_NOW: b"Service Unavailable",
    Code.TOO_LATE: b"Gateway Timeout",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST = b"connection: close\r\n"

# a head with room for: length, content type, request id, who served it, further lines
_HEADS = {
    code: b"HTTP/1.1 %d %s\r\n" % (code, reason)
    + b"content-length: %d\r\ncontent-type: %b\r\nx-request-id: %b\r\nx-served-by: %b\r\n%b\r\n"
    for code, reason in _REASONS.items()
}
_PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/json\r\nx-request-id: %b\r\n"
    b"x-served-by: %b\r\n\r\n%b"
)


class Writer(Protocol):
    """Whom a reply is given to."""

    def write(self, data: bytes, *, keep: bool) -> None: ...


class HttpRequest(Request):
    """A request of a connection."""

    __slots__ = ("connection", "keep")

    def __init__(
        self,
        connection: Writer,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        id: str,
        arrived: float,
        keep: bool,
    ) -> None:
        """Take what came; the base's own way to do so costs twice as much."""
        self.connection, self.keep = connection, keep  # whether the connection stays open after the reply
        self.method, self.path, self.query, self.headers, self.body = method, path, query, headers, body
        self.id, self.arrived = id, arrived
        self.is_plain = self.gone = self.sent = False
        self.on_gone = self.met = None
        self.trace = b""

    def answer(
        self,
        body: bytes,
        *,
        code: Code = Code.OK,
        kind: bytes = JSON,
        served_by: bytes = FRONT,
        degraded: bytes | None = None,
        extra: bytes = b"",
    ) -> None:
        if self.gone or self.sent:
            return
        self.sent = True
        self.on_gone = None
        if degraded is not None:
            extra += b"x-degraded: %b\r\n" % degraded
        if self.trace:
            extra += b"traceparent: %b\r\n" % self.trace
        if not self.keep:
            extra += LAST
        head = _HEADS[code] % (len(body), kind, self.id.encode(), served_by, extra)
        self.connection.write(head if self.method == b"HEAD" else head + body, keep=self.keep)

    def answer_plainly(self, body: bytes, served_by: bytes) -> None:
        if self.gone or self.sent or not self.keep or self.trace or self.method != b"POST":
            self.answer(body, served_by=served_by)
            return
        self.sent = True
        self.on_gone = None
        self.connection.write(_PLAIN % (len(body), self.id.encode(), served_by, body), keep=True)

    def refuse(
        self,
        code: Code,
        message: str,
        *,
        served_by: bytes = FRONT,
        faults: Sequence[str] = (),
        retry_after_s: int | None = None,
        extra: bytes = b"",
    ) -> None:
        lines = refusal_lines(code, retry_after_s)
        self.answer(refusal(message, self.id, faults), code=code, served_by=served_by, extra=extra + lines)


def refusal_lines(code: Code, retry_after_s: int | None) -> bytes:
    """Return the header lines that go with a refusal."""
    lines = b"" if retry_after_s is None else b"retry-after: %d\r\n" % retry_after_s
    return lines + b"www-authenticate: Bearer\r\n" if code is Code.NO_KEY else lines


def bare_refusal(code: Code, request_id: bytes) -> bytes:
    """Return the reply to what could not be taken as a request; the connection ends with it."""
    text = b'{"error":"%b"}' % _REASONS[code].lower()
    return _HEADS[code] % (len(text), JSON, request_id, FRONT, LAST) + text
