"""What waits for a worker, and what comes back.

Whatever arrived in one turn of the event loop, or while the worker was busy, leaves as one batch as soon as the
worker is idle, up to the cap. There is no timer: a lone request goes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from modelyard.bundle.intake import Packed

if TYPE_CHECKING:  # the fallback answers with what is defined here
    from modelyard.serve.guard.fallback import Reason


class Settled:
    """An answer to a batch, as lists; `bad` are rows without one, `unread` of these those whose text could not be read.

    A work's rows begin at its `start`.
    """

    __slots__ = ("bad", "count", "labels", "probabilities", "reason", "unread", "values")

    def __init__(
        self,
        labels: list[str] | None = None,
        probabilities: list[list[float]] | None = None,
        values: list[float] | None = None,
        bad: frozenset[int] = frozenset(),
        reason: str = "",
        unread: Sequence[int] = (),
    ) -> None:
        self.labels, self.probabilities, self.values = labels, probabilities, values
        self.bad, self.reason, self.unread = bad, reason, unread
        self.count = len(values or labels or ())

    @property
    def failed(self) -> bool:
        """Say whether no row has an answer."""
        return self.labels is None and self.values is None

    def rows(self, start: int, count: int) -> Settled:
        """Return some of the rows."""
        end = start + count
        if self.values is not None:
            return Settled(None, None, self.values[start:end])
        assert self.labels is not None and self.probabilities is not None
        return Settled(self.labels[start:end], self.probabilities[start:end])


def joined(pieces: list[Settled]) -> Settled:
    """Put answers behind each other."""
    if pieces[0].values is not None:
        return Settled(values=[value for piece in pieces for value in piece.values or ()])
    return Settled(
        labels=[label for piece in pieces for label in piece.labels or ()],
        probabilities=[shares for piece in pieces for shares in piece.probabilities or ()],
    )


class Said:
    """What goes with every answer."""

    __slots__ = ("degraded", "release", "request_id", "served_by")

    def __init__(self, release: str, served_by: str, request_id: str, degraded: str | None) -> None:
        self.release = release
        self.served_by = served_by  # the release, or its fallback
        self.request_id = request_id
        self.degraded = degraded  # the reason


class Work(Protocol):
    """Rows of one request, or a piece of them. `settle` is called once, or `lost`."""

    rows: int
    size_bytes: int
    packed: Packed
    deadline: float
    priority: int  # as priority.py numbers them
    queued: bool  # it waits
    dead: bool  # its caller is gone or was answered otherwise
    retried: bool  # a worker was lost with it before
    sent: float  # when it left for a worker

    traceparent: str  # how the request's trace goes on; empty where it is not traced

    @property
    def body_digest(self) -> bytes:
        """Return what tells the request's body from others."""
        ...

    def left(self, traces: Sequence[str]) -> None:
        """A traced work left for a worker, with these traced ones beside it."""
        ...

    def settle(self, settled: Settled, start: int) -> None:
        """Take the answer; the rows are at `start`."""
        ...

    def lost(self, reason: Reason) -> None:
        """The worker went away with the rows."""
        ...

    def broke(self, fault: Exception) -> None:
        """One of the two above failed, by a fault of ours."""
        ...
