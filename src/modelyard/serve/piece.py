"""Some rows of a request that does not fit into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelyard.bundle.intake import Packed
from modelyard.serve.batching import Settled, joined
from modelyard.serve.guard.fallback import Reason
from modelyard.serve.wire import LATE

if TYPE_CHECKING:  # whose rows these are
    from modelyard.serve.call import Call


def why(settled: Settled) -> Reason:
    """Say why rows have no answer."""
    return Reason.DEADLINE if settled.reason == LATE else Reason.MODEL_ERROR


class Piece:
    """The rows from `start` to `stop` of a call."""

    __slots__ = (
        "call", "dead", "deadline", "packed", "place", "priority", "queued", "retried", "rows", "sent", "settled",
        "size_bytes", "traceparent",
    )  # fmt: skip

    def __init__(self, call: Call, place: int, start: int, stop: int) -> None:
        self.call, self.place = call, place
        self.rows = stop - start
        self.packed: Packed = call.lane.model.intake.cut(call.packed, start, stop, call.rows)
        self.size_bytes = call.size_bytes * self.rows // call.rows
        self.deadline, self.priority, self.traceparent = call.deadline, call.priority, call.traceparent
        self.queued = self.dead = self.retried = False
        self.sent = 0.0
        self.settled: Settled | None = None

    @property
    def body_digest(self) -> bytes:
        return self.call.body_digest

    def left(self, traces: Sequence[str]) -> None:
        """Note that a traced piece left for a worker."""
        self.call.sent = self.sent
        self.call.left(traces)

    def settle(self, settled: Settled, start: int) -> None:
        """Take the answer to these rows; the last of the pieces ends the call."""
        call = self.call
        if self.dead or call.dead or call.pieces is None:
            return
        if settled.failed or any(start <= row < start + self.rows for row in settled.bad):
            call.fail(why(settled))
            return
        self.settled = settled.rows(start, self.rows)
        answered = [piece.settled for piece in call.pieces if piece.settled is not None]
        if len(answered) == len(call.pieces):
            call.settle(joined(answered), 0)

    def broke(self, fault: Exception) -> None:
        """Take in a fault of ours."""
        if not self.dead and not self.call.dead:
            self.call.broke(fault)

    def lost(self, reason: Reason) -> None:
        """The worker went away with the rows."""
        if not self.dead and not self.call.dead and self.call.pieces is not None:
            self.call.retry(self, reason)
