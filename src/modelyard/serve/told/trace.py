"""Traces: the caller's W3C context taken over, carried through queue, batch and worker, and told as OTLP.

A request that is not sampled costs a look into its headers and a random number. One that is sampled collects moments
of `time.monotonic()`; all else happens in the thread of the log.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

import msgspec

MOST_LINKS = 32  # of one span
MOST_STATE = 512  # bytes of a tracestate that is passed on
MOST_PATH = 200  # characters of a path that a span keeps

# version "-" trace-id "-" parent-id "-" flags; further versions may add fields behind: W3C Trace Context, section 3.2
_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_STATE = re.compile(rb"[\x20-\x7e]+")
_SAMPLED = 0x01
SELDOM = 1 << 62  # requests until one is traced, where none is
_LENGTH = 55  # of a `traceparent` of version 00


class Parent(NamedTuple):
    """What a `traceparent` says."""

    trace_id: str
    span_id: str
    sampled: bool


class WorkerSpan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a worker says of a batch with traced requests; `traces` are their `traceparent`s."""

    traces: list[str]
    began: float
    ended: float
    rows: int
    pid: int


def parse(header: bytes) -> Parent | None:
    """Read a `traceparent`; None where it is not one, so that a trace begins anew.

    Source: W3C Trace Context level 1, section 3.2.

    >>> parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").sampled
    True
    """
    found = _PARENT.fullmatch(header)
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    return Parent(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & _SAMPLED))


def worker_span(traceparents: list[str], *, began: float, ended: float, rows: int, pid: int) -> WorkerSpan:
    """Return what a worker says of a batch: when the model began and ended, in `time.monotonic()`."""
    return WorkerSpan(traceparents, began, ended, rows, pid)


class Trace:
    """A sampled request on its way. Moments that it never reached stay None."""

    __slots__ = (
        "answered", "arrived", "batch_id", "companions", "done", "parent_id", "queue_id", "queued", "sent", "span_id",
        "state", "told", "trace_id",
    )  # fmt: skip

    def __init__(self, *, arrived: float, parent: Parent | None, state: bytes) -> None:
        self.trace_id = secrets.token_hex(16) if parent is None else parent.trace_id
        self.parent_id = "" if parent is None else parent.span_id
        ids = secrets.token_hex(24)
        self.span_id, self.queue_id, self.batch_id = ids[:16], ids[16:32], ids[32:]
        self.state = state
        self.arrived = arrived
        self.queued: float | None = None  # it began to wait; where nobody says when, as it arrived
        self.sent: float | None = None  # its batch left for a worker; the first one, of a request cut in pieces
        self.answered: float | None = None  # its last batch came back
        self.done = arrived
        self.companions: list[str] = []  # the other traced requests of its batch
        self.told: Told | None = None

    @property
    def traceparent(self) -> bytes:
        """Return what the reply says."""
        return b"00-%b-%b-01" % (self.trace_id.encode(), self.span_id.encode())

    @property
    def onward(self) -> str:
        """Return the `traceparent` that goes to the worker: what it does is part of the batch."""
        return f"00-{self.trace_id}-{self.batch_id}-01"

    def batched(self, now: float, traceparents: Sequence[str] = ()) -> None:
        """Say that its batch left, with these traced requests in it; this one may be among them."""
        if self.sent is None:
            self.sent = now
        if self.queued is None:
            self.queued = self.arrived
        if len(traceparents) > 1:
            own = self.onward
            self.companions += [other for other in traceparents if other != own][: MOST_LINKS - len(self.companions)]


class Told(NamedTuple):
    """How a traced request ended."""

    method: str
    path: str
    request_id: str
    release: str
    door: str
    code: int
    grpc_status: int | None
    rows: int
    served_by: str
    degraded: str | None


class Sampler:
    """Says which requests are traced: those whose caller traces them, and a share of the others; so many a second."""

    def __init__(self, *, sample: float, most_per_s: float = 100.0, chance: Callable[[], float] | None = None) -> None:
        """Trace a share of requests, by numbers that `chance` draws evenly from [0, 1)."""
        self.skipped = 0  # would have been traced, but for the bound
        self.pass_over = 0  # so many requests that nobody else traces, until one that is
        self._sample, self._most = sample, most_per_s
        self._chance = Random().random if chance is None else chance
        self._left, self._since = most_per_s, 0.0
        self.pass_over = self._gap()

    def begin_own(self, now: float) -> Trace | None:
        """Return the trace of a request whose turn it is, as `pass_over` others came since the last one."""
        self.pass_over = self._gap()
        return Trace(arrived=now, parent=None, state=b"") if self._sample > 0 and self._may(now) else None

    def begin(self, headers: Mapping[bytes, bytes], now: float) -> Trace | None:
        """Return the trace of a request that arrived at `now`; None where it is not traced."""
        if b"traceparent" in headers:
            return self._continued(headers, now)
        if self._chance() >= self._sample or not self._may(now):
            return None
        return Trace(arrived=now, parent=None, state=b"")

    def _gap(self) -> int:
        """Draw how many requests come before the next that is traced, where each is with the same probability."""
        if not 0 < self._sample < 1:
            return 0 if self._sample else SELDOM
        return int(math.log1p(-self._chance()) / math.log1p(-self._sample))

    def _continued(self, headers: Mapping[bytes, bytes], now: float) -> Trace | None:
        header = headers[b"traceparent"]
        if len(header) == _LENGTH and header.endswith(b"-00"):  # nearly always; not worth reading it whole
            return None
        parent = parse(header)
        if not (self._chance() < self._sample if parent is None else parent.sampled) or not self._may(now):
            return None
        state = b"" if parent is None else headers.get(b"tracestate", b"")
        if len(state) > MOST_STATE or _STATE.fullmatch(state) is None:
            state = b""
        return Trace(arrived=now, parent=parent, state=state)

    def _may(self, now: float) -> bool:
        """Say whether this second has room for one more trace."""
        self._left = min(self._most, self._left + (now - self._since) * self._most)
        self._since = now
        if self._left < 1.0:
            self.skipped += 1
            return False
        self._left -= 1.0
        return True
