"""The fields of a gRPC request, checked once and remembered with the block that said them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.serve.guard.wanted import read_deadline_ms
from modelyard.serve.http2.frames import PROTOCOL_ERROR, StreamFault
from modelyard.serve.http2.hpack import Field, encode

if TYPE_CHECKING:
    from modelyard.serve.grpc.call import GrpcCall
    from modelyard.serve.grpc.listener import GrpcListener
    from modelyard.serve.http2.connection import Connection

    Kind = Callable[[Connection, int, "Head", GrpcListener], GrpcCall]  # makes the call of a request
else:
    Kind = Callable

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED = frozenset({b":method", b":scheme", b":path"})
_OF_HTTP_1 = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb"[a-z0-9!#$%&'*+\-.^_`|~]+\Z")
_BAD_VALUE = re.compile(rb"[\0\r\n]")
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_UNIT_MS = {b"H": 3_600_000.0, b"M": 60_000.0, b"S": 1_000.0, b"m": 1.0, b"u": 1e-3, b"n": 1e-6}
_LEAST_MS = 1e-3

_WRONG_METHOD = encode(b":status", b"405") + encode(b"allow", b"POST")
_WRONG_KIND = encode(b":status", b"415") + encode(b"accept-post", b"application/grpc")


class Head:
    """What a request's fields say. Requests with the same fields have the same one: it is never changed."""

    __slots__ = ("encoding", "headers", "kind", "path", "refusal", "request_id")

    def __init__(self, path: bytes, headers: dict[bytes, bytes], kind: Kind) -> None:
        self.path, self.headers, self.kind = path, headers, kind
        self.encoding = headers.get(b"grpc-encoding", b"identity")
        given = headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _ID.match(given) else None
        self.refusal: bytes | None = None  # the fields of an answer to what is no gRPC


def read_head(fields: list[Field], kinds: dict[bytes, Kind], otherwise: Kind) -> Head:
    """Return a request's head; raises StreamFault for what is no request of HTTP/2."""
    pseudo, headers = _sorted(fields)
    if not pseudo.keys() >= _NEEDED or not pseudo[b":path"].startswith(b"/"):
        raise StreamFault(PROTOCOL_ERROR, "a request lacks its method, scheme or path")
    timeout = headers.pop(b"grpc-timeout", None)
    if timeout is not None:
        _put_deadline(headers, timeout)
    path = pseudo[b":path"]
    head = Head(path, headers, kinds.get(path, otherwise))
    if pseudo[b":method"] != b"POST":
        head.refusal = _WRONG_METHOD
    elif not _is_grpc(headers.get(b"content-type", b"")):
        head.refusal = _WRONG_KIND
    return head


def _sorted(fields: list[Field]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Return the pseudo fields and the others; of a name that comes twice, the values are joined."""
    pseudo: dict[bytes, bytes] = {}
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if headers or name in pseudo or name not in _PSEUDO:
                raise StreamFault(PROTOCOL_ERROR, "a pseudo field is not known, not first, or there twice")
            pseudo[name] = value
            continue
        if not _NAME.match(name) or name in _OF_HTTP_1 or (name == b"te" and value != b"trailers"):
            raise StreamFault(PROTOCOL_ERROR, "a field has no place in HTTP/2")
        if _BAD_VALUE.search(value):
            raise StreamFault(PROTOCOL_ERROR, "a field's value has a line's end in it")
        before = headers.get(name)
        headers[name] = value if before is None else b"%b,%b" % (before, value)
    return pseudo, headers


def _is_grpc(kind: bytes) -> bool:
    return kind == b"application/grpc" or kind == b"application/grpc+proto" or kind.startswith(b"application/grpc;")


def _put_deadline(headers: dict[bytes, bytes], timeout: bytes) -> None:
    """Say gRPC's deadline as the one that all doors know; the nearer one counts, one that cannot be read is told so."""
    match = _TIMEOUT.match(timeout)
    if match is None:
        headers[b"x-deadline-ms"] = b"nothing"
        return
    wanted = max(int(match[1]) * _UNIT_MS[match[2]], _LEAST_MS)
    given = headers.get(b"x-deadline-ms")
    if given is not None:
        other = read_deadline_ms(given)
        if other is None:
            return
        wanted = max(min(wanted, other), _LEAST_MS)
    headers[b"x-deadline-ms"] = b"%.6f" % wanted
