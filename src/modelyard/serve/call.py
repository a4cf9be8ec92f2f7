"""One request on its way: queued, answered, or answered otherwise. Exactly one reply leaves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, cast

from modelyard.errors import ContractBroken, EngineFailed
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Asked, Door, Malformed, Said, TooLarge, Unread
from modelyard.serve.guard.breaker import State
from modelyard.serve.guard.deadlines import Deadlines, Waits
from modelyard.serve.guard.fallback import Answering, Other, Reason
from modelyard.serve.guard.poison import digest_of
from modelyard.serve.guard.priority import Shed
from modelyard.serve.lane import Lane
from modelyard.serve.piece import Piece, why
from modelyard.serve.request import JSON, Code, Request
from modelyard.serve.told.trace import Trace

_now = time.monotonic

MARGIN_SHARE = 0.1  # of the deadline, kept for writing the reply
MOST_MARGIN_S = 0.02
FAIR_SHARE = 0.1  # of the usual deadline: who waits for less cannot speak against the release, for all others
LEAST_RETRY_S = 0.05  # left until the deadline, below which rows are not tried again

_MESSAGES = {
    Reason.DEADLINE: (Code.TOO_LATE, "No answer came before the deadline."),
    Reason.MODEL_ERROR: (Code.FAILED, "The model cannot answer these rows."),
}
FAULT = "The service failed on this request; its log has the details."
_DOWN = (Code.NOT_NOW, "The model cannot be reached at the moment, and the release has no fallback answer.")


class Counter(Protocol):
    """Who counts how calls ended, and knows the other lanes."""

    deadlines: Deadlines
    retry_after_s: int

    @property
    def lanes(self) -> dict[str, Lane]: ...

    def may_retry(self, lane: Lane) -> bool: ...

    def good(self, call: Call, /) -> None:
        """The release that was asked has answered; it is counted with the others of its batch."""
        ...

    def told(self, call: Call, code: Code, degraded: str | None, by: str) -> None:
        """It ended in any other way."""
        ...

    def shed(self, call: Call, why: str) -> None: ...

    def unreadable(self, call: Call, fault: Exception) -> None:
        """What its door raised when it was read whole, behind a worker that could not read it."""
        ...

    def note(self, event: str, **facts: object) -> None: ...


class Call:
    """A request whose rows keep the contract; itself the work, where it fits into a batch."""

    __slots__ = (
        "asked", "asked_at", "counter", "dead", "deadline", "door", "ended", "home", "infer_s", "lane", "order",
        "packed", "pieces", "priority", "queued", "reason", "request", "retried", "rows", "sent", "settled",
        "size_bytes", "slot", "step", "trace", "traceparent",
    )  # fmt: skip
    infer_s: float  # its share of its batches' time in the model; set only where an arm counts
    settled: Settled  # what it was answered; set only where it was not answered with its batch

    def __init__(
        self,
        request: Request,
        door: Door,
        asked: Asked,
        lane: Lane,
        deadline: float,
        priority: int,
        counter: Counter,
        trace: Trace | None,
    ) -> None:
        self.request, self.door, self.asked, self.counter, self.trace = request, door, asked, counter, trace
        self.home = self.lane = lane  # the release that was asked, and the one that is at it
        self.deadline, self.priority = deadline, priority
        self.asked_at = request.arrived  # when the release that is at it was asked
        self.rows, self.packed = asked.rows, asked.packed
        self.size_bytes = len(request.body)
        self.queued = self.dead = self.retried = False
        self.sent = self.ended = 0.0  # when it left for a worker, and when its answer was written
        self.reason: Reason | None = None  # why it is not answered as asked
        self.step = 0  # of the fallback's order
        self.slot: set[Waits] | None = None
        self.pieces: list[Piece] | None = None
        self.traceparent = "" if trace is None else trace.onward

    @property
    def body_digest(self) -> bytes:
        return digest_of(self.request.body)

    def start(self, now: float) -> None:
        """Queue the rows, or answer at once where no worker can."""
        left_s = self.deadline - now
        margin_s = MARGIN_SHARE * left_s
        if margin_s > MOST_MARGIN_S:
            margin_s = MOST_MARGIN_S
        self.slot = self.counter.deadlines.add(self, left_s - margin_s, now)
        self.request.on_gone = self.leave
        lane = self.lane
        if lane.trouble is not None:
            self.degrade(lane.trouble)
        elif lane.breaker.state is not _CLOSED and not lane.breaker.allow(now):
            self.degrade(Reason.BREAKER_OPEN)
        else:
            shed = self._submit_pieces() if self.rows > lane.cap else lane.submit_one(self)
            if shed is not None:
                self._turned_away(shed)

    # what a lane calls

    def left(self, traces: Sequence[str]) -> None:
        """Note that a traced request left for a worker, with these traced ones beside it."""
        if self.trace is not None:
            self.trace.batched(self.sent, traces)

    def settle(self, settled: Settled, start: int) -> None:
        """Take the answer; the rows are at `start`."""
        if self.dead:
            return
        if not settled.bad and self.pieces is None and self.lane is self.home:  # nearly always
            body = self.asked.answer_row(settled, start) if self.trace is None else None
            if body is None:
                self._settle_plainly(settled if settled.count == self.rows else settled.rows(start, self.rows))
                return
            self.dead = True
            if self.slot is not None:
                self.slot.discard(self)
            self.request.answer_plainly(body, self.home.model.release_bytes)
            self.ended = _now()
            self.counter.good(self)
        elif settled.unread and start in settled.unread:
            self._read_again()
        elif settled.failed or any(start <= row < start + self.rows for row in settled.bad):
            self.fail(why(settled))
        else:
            self._finish(settled if settled.count == self.rows else settled.rows(start, self.rows))

    def _settle_plainly(self, settled: Settled) -> None:
        """Send the answer of the release that was asked."""
        self.dead = True
        if self.slot is not None:
            self.slot.discard(self)
        request, model, trace = self.request, self.home.model, self.trace
        if trace is not None:
            trace.answered = time.monotonic()
            request.trace = trace.traceparent
        said = model.said
        said.request_id = request.id
        body, kind, extra = self.asked.answer(settled, model, said)
        if extra or kind is not JSON or trace is not None:
            request.answer(body, kind=kind, served_by=model.release_bytes, extra=extra)
        else:
            request.answer_plainly(body, model.release_bytes)
        self.ended = _now()
        self.counter.good(self)

    def lost(self, reason: Reason) -> None:
        """The worker went away with the rows: try them again, alone, if there is time; else answer otherwise."""
        if not self.dead:
            self.retry(self, reason)

    def late(self) -> None:
        """The deadline passed."""
        self.slot = None
        if self.dead:
            return
        try:
            if self.deadline - self.request.arrived >= FAIR_SHARE * self.home.limits.deadline_ms / 1000:
                self.lane.breaker.failed(time.monotonic(), self.asked_at)
            self.degrade(self.reason or Reason.DEADLINE)
        except Exception as fault:  # noqa: BLE001 - whoever has the same deadline must not wait for good
            self.broke(fault)

    def broke(self, fault: Exception) -> None:
        """Take in a fault of ours that kept the reply from being made."""
        self._close()
        self.counter.note("front_fault", request=self.request.id, why=f"{type(fault).__name__}: {fault}"[:500])
        if not self.request.sent:
            self.counter.told(self, Code.FAILED, None, "")
            self.request.refuse(Code.FAILED, FAULT, served_by=self.home.model.release_bytes)

    def leave(self) -> None:
        """The caller is gone: nothing of it runs any more."""
        if self.queued or self.pieces is not None:
            self.counter.shed(self, "gone")
        self._close()

    # ours

    def retry(self, work: Call | Piece, reason: Reason) -> None:
        """Have rows that a worker was lost with tried again."""
        now = time.monotonic()
        enough = self.deadline - now > LEAST_RETRY_S
        lane = self.lane
        if reason in _LOST and not work.retried and enough and lane.is_open and self.counter.may_retry(lane):
            work.retried = True
            if lane is self.home:
                self.reason = reason  # if it is not answered in time, this is why
            lane.suspect(work)
            return
        self.fail(reason)

    def fail(self, reason: Reason) -> None:
        """Count a failure of the release and answer otherwise."""
        self.lane.breaker.failed(time.monotonic(), self.asked_at)
        self.degrade(reason)

    def degrade(self, reason: Reason) -> None:
        """Answer by the fallback's order, marked, or refuse."""
        if self.dead:
            return
        if self.lane is self.home:
            self.reason = reason
        self._withdraw()
        reason = self.reason or reason
        if self.step == 0:
            self.order = self.home.order  # the traffic table may bring another one meanwhile
        order = self.order
        while self.step < len(order):
            step = order[self.step]
            self.step += 1
            if isinstance(step, Other):
                in_time = self.slot is not None and reason is not Reason.DEADLINE
                if in_time and self._ask_other(step.release):
                    return
            elif isinstance(step, Answering):
                self._answer_here(step, reason)
                return
            else:
                break
        code, message = _MESSAGES.get(reason, _DOWN)
        retry_after_s = self.counter.retry_after_s if code is Code.NOT_NOW else None
        self._close()
        self.counter.told(self, code, None, "")
        self.request.refuse(code, message, served_by=self.home.model.release_bytes, retry_after_s=retry_after_s)

    def _submit_pieces(self) -> Shed | None:
        """Queue the rows in pieces that fit into a batch."""
        cap = self.lane.cap
        self.pieces = [
            Piece(self, place, start, min(start + cap, self.rows))
            for place, start in enumerate(range(0, self.rows, cap))
        ]
        return self.lane.submit(self.pieces)

    def _turned_away(self, shed: Shed) -> None:
        """Refuse what found no room."""
        lane = self.lane
        self._close()
        self.counter.shed(self, shed)
        self.counter.told(self, Code.NOT_NOW, None, "")
        self.request.refuse(
            Code.NOT_NOW,
            "The service is busy; the queue is full.",
            served_by=lane.model.release_bytes,
            retry_after_s=self.counter.retry_after_s,
        )

    def _read_again(self) -> None:
        """Ask with the rows read whole, or let the caller know why they cannot be read."""
        if self._read_whole():
            shed = self._submit_pieces() if self.rows > self.lane.cap else self.lane.submit((self,))
            if shed is not None:
                self._turned_away(shed)

    def _read_whole(self) -> bool:
        """Read what was left to the worker; where it cannot be read, that is the reply, and False."""
        try:
            self.asked = cast(Unread, self.asked).whole(self.request)
        except (Malformed, TooLarge, ContractBroken) as fault:
            self._close()
            self.counter.unreadable(self, fault)
            return False
        self.rows, self.packed = self.asked.rows, self.asked.packed
        return True

    def _ask_other(self, release: str) -> bool:
        """Ask another release, if it can answer; the request is read again, by that release's contract."""
        lane = self.counter.lanes.get(release)
        now = time.monotonic()
        if lane is None or lane is self.home or lane.trouble is not None or not lane.breaker.allow(now):
            return False
        try:
            asked = self.door.read(self.request, lane.model)
        except (Malformed, TooLarge, ContractBroken):
            return False
        self.lane, self.asked, self.rows, self.packed = lane, asked, asked.rows, asked.packed
        self.retried = False
        self.asked_at = now
        shed = self._submit_pieces() if self.rows > lane.cap else lane.submit((self,))
        if shed is not None:
            self.pieces = None
        return shed is None

    def _answer_here(self, step: Answering, reason: Reason) -> None:
        model = self.home.model
        if self.lane is not self.home:  # what was read last was by another release's contract
            self.asked = self.door.read(self.request, model)
            self.lane = self.home
        if self.asked.packed.texts and not self._read_whole():
            return
        try:
            settled = step.answer(model.columns(self.asked.packed, self.asked.rows), self.asked.rows)
        except EngineFailed:  # the rows were checked; a step that fails on them is passed over
            self.degrade(reason)
            return
        self._reply(settled, b"%b fallback:%b" % (model.release_bytes, step.by.encode()), reason, step.by)

    def _finish(self, settled: Settled) -> None:
        lane = self.lane
        if lane is self.home:
            self._reply(settled, lane.model.release_bytes, None, "")
        else:
            by = self.order[self.step - 1].by
            self._reply(settled, b"%b fallback:%b" % (lane.model.release_bytes, by.encode()), self.reason, by)

    def _reply(self, settled: Settled, served_by: bytes, reason: Reason | None, by: str) -> None:
        self._close()
        self.settled = settled
        why = None if reason is None else reason.value
        model = self.lane.model
        said = Said(model.release, served_by.decode(), self.request.id, why)
        body, kind, extra = self.asked.answer(settled, model, said)
        if self.trace is not None:
            self.trace.answered = time.monotonic()
            self.request.trace = self.trace.traceparent
        self.request.answer(
            body, kind=kind, served_by=served_by, degraded=None if why is None else why.encode(), extra=extra
        )
        self.counter.told(self, Code.OK, why, by)

    def _withdraw(self) -> None:
        """Take the rows back from where they wait."""
        queue = self.lane.queue
        for piece in self.pieces or ():
            queue.forget(piece)
        self.pieces = None
        if self.queued:
            queue.forget(self)
            self.dead = False

    def _close(self) -> None:
        self._withdraw()
        self.dead = True
        self.request.on_gone = None
        if self.slot is not None:
            self.slot.discard(self)
            self.slot = None


_CLOSED = State.CLOSED  # a global is found faster than a member of an enum
_LOST = frozenset({Reason.WORKER_FAILED, Reason.WORKER_HUNG})
