"""A copy of a request, in parts that fit into a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from modelyard.bundle.intake import Intake, Packed
from modelyard.serve.batching import Settled, joined
from modelyard.serve.guard.fallback import Reason
from modelyard.serve.request import Request


class Fate(StrEnum):
    """What became of a copy, as metrics say it. A later one outweighs those before it, where parts differ."""

    ANSWERED = "answered"
    DROPPED = "dropped"  # it found no room or no turn: this says nothing of the release
    LATE = "late"  # it was sent, and not answered before its deadline
    REFUSED = "refused"  # the release does not take these rows, which another took
    FAILED = "failed"  # the model failed on it, said nonsense, or its worker was lost with it twice


FATES = tuple(Fate)
ERRORS = frozenset((Fate.LATE, Fate.REFUSED, Fate.FAILED))  # what a caller would have got no answer for


class Mirrored(NamedTuple):
    """A copy whose fate is known."""

    request: Request
    rows: int
    packed: Packed  # the rows as the shadow release reads them; of one not sent, as the other release did
    fate: Fate
    settled: Settled | None  # its answer, from row `start` on; None unless it was answered
    start: int
    seconds: float  # from when it was sent to the worker until its answer; 0 where there is none
    compared: int  # rows that the stable release answered too
    agreed: int  # of these, those with the same answer
    infer_s: float  # its share of its batches' time in the model


class Counts(Protocol):
    """What counts for the verdicts of a rollout."""

    def mirrored(self, copies: Sequence[Mirrored], /) -> None:
        """Count copies. On the event loop's thread: it must not block."""
        ...


class Copy:
    """One request's copy on its way. `answer` is what its caller got of the stable release, from row `start` on."""

    __slots__ = ("answer", "answers", "fate", "infer_s", "packed", "request", "rows", "sent", "start", "waits_for")

    def __init__(self, request: Request, rows: int, packed: Packed, answer: Settled | None, start: int) -> None:
        self.request, self.rows, self.packed, self.answer, self.start = request, rows, packed, answer, start
        self.fate = Fate.ANSWERED
        self.infer_s = 0.0
        self.sent = 0.0  # when its first part left
        self.waits_for = 0  # parts
        self.answers: dict[int, Settled] = {}  # by the place of the part, where there are several

    def parts(self, intake: Intake, cap: int, size_bytes: int, deadline: float) -> list[Part]:
        """Return the parts, none above the cap."""
        rows = self.rows
        if rows <= cap:
            self.waits_for = 1
            return [Part(self, 0, rows, self.packed, size_bytes, deadline)]
        made = []
        for place, first in enumerate(range(0, rows, cap)):
            stop = min(first + cap, rows)
            packed = intake.cut(self.packed, first, stop, rows)
            made.append(Part(self, place, stop - first, packed, size_bytes * (stop - first) // rows, deadline))
        self.waits_for = len(made)
        return made

    def land(self, part: Part, fate: Fate, settled: Settled | None, start: int) -> tuple[Settled | None, int] | None:
        """Take in what became of a part; return the whole answer, if any, with its start once all parts are in."""
        if fate is not Fate.ANSWERED and FATES.index(fate) > FATES.index(self.fate):
            self.fate = fate
        self.waits_for -= 1
        if part.rows == self.rows:
            return (settled, start) if self.fate is Fate.ANSWERED else (None, 0)
        if settled is not None and fate is Fate.ANSWERED:
            self.answers[part.place] = settled.rows(start, part.rows)
        if self.waits_for:
            return None
        if self.fate is not Fate.ANSWERED:
            return None, 0
        return joined([self.answers[place] for place in sorted(self.answers)]), 0


class Part:
    """Rows of a copy that fit into one batch: a work, though nobody waits for it."""

    __slots__ = (
        "copy", "dead", "deadline", "packed", "place", "priority", "queued", "retried", "rows", "sent", "size_bytes",
        "traceparent",
    )  # fmt: skip

    def __init__(self, copy: Copy, place: int, rows: int, packed: Packed, size_bytes: int, deadline: float) -> None:
        self.copy, self.place, self.rows, self.packed = copy, place, rows, packed
        self.size_bytes, self.deadline = size_bytes, deadline
        self.queued = self.dead = False
        self.retried = False  # a worker was lost with it once
        self.sent, self.priority, self.traceparent = 0.0, 0, ""

    @property
    def body_digest(self) -> bytes:
        return b""  # a copy brings no body under suspicion

    def left(self, traces: Sequence[str]) -> None:
        """Do nothing: a copy is not traced."""

    def settle(self, settled: Settled, start: int) -> None:
        """Do nothing: the lane tells the copy, with all others of the batch."""

    def lost(self, reason: Reason) -> None:
        """Do nothing, as above."""

    def broke(self, fault: Exception) -> None:
        """Do nothing, as above."""
