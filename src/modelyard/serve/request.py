"""A request, whatever door it came through: what the data plane sees of a transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

from modelyard.serve.routing import Met

JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
# What a header may say that changes how a request is answered; most requests say nothing of the kind.
SPECIAL = frozenset((b"content-encoding", b"x-deadline-ms", b"x-priority", b"traceparent"))
FRONT = b"front"  # who answered, where no release did


class Code(IntEnum):
    """How a request ended; each transport says it in its own numbers, HTTP in these."""

    OK = 200
    MALFORMED = 400
    NO_KEY = 401
    NOT_ALLOWED = 403
    NOT_FOUND = 404
    WRONG_METHOD = 405
    TOO_SLOW = 408
    TOO_LARGE = 413
    WRONG_CODING = 415
    BROKEN_CONTRACT = 422
    TOO_MANY = 429
    HEAD_TOO_LARGE = 431
    FAILED = 500
    NOT_OFFERED = 501
    NOT_NOW = 503
    TOO_LATE = 504


class Request:
    """One request, whole. One of `answer` and `refuse` is called once, now or later, on the event loop's thread."""

    __slots__ = (
        "arrived", "body", "gone", "headers", "id", "is_plain", "met", "method", "on_gone", "path", "query", "sent",
        "trace",
    )  # fmt: skip

    def __init__(
        self,
        *,
        method: bytes,
        path: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        id: str,
        arrived: float,
        query: bytes = b"",
    ) -> None:
        self.method, self.path, self.query, self.headers, self.body, self.id = method, path, query, headers, body, id
        self.arrived = arrived  # time.monotonic()
        self.is_plain = False  # it is known that no header of `SPECIAL` is there
        self.gone = False  # the caller left
        self.sent = False  # it was answered or refused
        self.on_gone: Callable[[], None] | None = None
        self.met: Met | None = None  # which release it meets, and why; None where there is but one to meet
        self.trace = b""  # what the reply says as `traceparent`, where the request is traced

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
        """Send an answer, unless the caller is gone. `extra` are whole header lines, each with its ending."""
        raise NotImplementedError

    def answer_plainly(self, body: bytes, served_by: bytes) -> None:
        """Send an answer in JSON, by the release that was asked: what nearly all answers are."""
        self.answer(body, served_by=served_by)

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
        """Say why there is no answer, unless the caller is gone."""
        raise NotImplementedError
