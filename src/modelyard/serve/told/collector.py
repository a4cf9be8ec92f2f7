"""Sends spans to an OpenTelemetry collector: from a thread of its own, bounded, and never held up by it."""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from urllib.parse import urlsplit

TIMEOUT_S = 2.0  # for the collector to connect, and for each piece of its answer
MOST_WAITING = 32  # messages; beyond it they are dropped and counted
MOST_TRIES = 5  # of one message
FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.5, 30.0
CLOSE_S = 2.0  # for what waits to be sent at the end
_BUSY = (429, 502, 503, 504)  # the protocol's codes after which a message may be sent again
_MOST_ANSWER = 64 * 1024


class Collector:
    """Takes messages from any thread; `unsent` counts the traces it could not hand on."""

    def __init__(self, endpoint: str) -> None:
        """Send to `endpoint`/v1/traces; raises ValueError where the endpoint is no HTTP address."""
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"The traces' endpoint is {endpoint!r}, wanted such as http://127.0.0.1:4318.")
        self.sent = 0
        self._full = 0  # counted by who offers
        self._failed = 0  # counted by the thread
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/") + "/v1/traces"
        self._waiting: queue.Queue[tuple[bytes, int] | None] = queue.Queue(MOST_WAITING)
        self._connection: http.client.HTTPConnection | None = None
        self._ended = threading.Event()
        self._end_by = 0.0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    @property
    def unsent(self) -> int:
        """Return how many traces the collector did not get so far."""
        return self._full + self._failed

    def offer(self, body: bytes, *, traces: int) -> None:
        """Take a message; it is dropped and counted where too many wait."""
        try:
            self._waiting.put_nowait((body, traces))
        except queue.Full:
            self._full += traces

    def close(self) -> None:
        """Send what waits, each once, within a bounded time; twice is harmless."""
        self._end_by = time.monotonic() + CLOSE_S
        self._ended.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)  # wakes the thread where nothing waits
        self._thread.join(timeout=CLOSE_S + TIMEOUT_S)

    def _run(self) -> None:
        while not (self._ended.is_set() and self._waiting.empty()):
            message = self._waiting.get()
            if message is not None:
                body, traces = message
                if self._deliver(body):
                    self.sent += traces
                else:
                    self._failed += traces
        if self._connection is not None:
            self._connection.close()

    def _deliver(self, body: bytes) -> bool:
        """Send a message, again after growing waits where the collector is busy or gone; say whether it got it."""
        wait_s = FIRST_BACKOFF_S
        for _ in range(MOST_TRIES):
            if self._ended.is_set() and time.monotonic() >= self._end_by:
                return False
            code, asked_s = self._post(body)
            if code is not None and code not in _BUSY:
                return 200 <= code < 300
            if self._ended.wait(min(MOST_BACKOFF_S, max(wait_s, asked_s))):
                return False
            wait_s = min(MOST_BACKOFF_S, wait_s * 2)
        return False

    def _post(self, body: bytes) -> tuple[int | None, float]:
        """Return the answer's code, and for how many seconds it asks to wait; no code where none came."""
        try:
            if self._connection is None:
                kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
                self._connection = kind(self._host, self._port, timeout=TIMEOUT_S)
            self._connection.request("POST", self._path, body, {"content-type": "application/json"})
            answer = self._connection.getresponse()
            rest = answer.read(_MOST_ANSWER)
            if len(rest) == _MOST_ANSWER:
                self._drop()
            after = answer.headers.get("retry-after", "")
            return answer.status, float(after) if after.isdecimal() else 0.0
        except (OSError, http.client.HTTPException):
            self._drop()
            return None, 0.0

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
