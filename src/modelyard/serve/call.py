"""One request on its way: queued, answered, or answered otherwise. Exactly one reply leaves."""

from __future__ import annotations

import asyncio
from typing import Protocol

from modelyard.bundle.format import Body
from modelyard.errors import BundleFormat, Overloaded
from modelyard.serve import fallback
from modelyard.serve.batching import Settled, Work
from modelyard.serve.doors import Asked, Said, refusal
from modelyard.serve.fallback import Reason
from modelyard.serve.http import Code, Request
from modelyard.serve.lane import Lane
from modelyard.serve.wire import to_parts

MARGIN_SHARE = 0.1  # of the deadline, kept for writing the reply
MOST_MARGIN_S = 0.02

_MESSAGES = {
    Reason.DEADLINE: (Code.TOO_LATE, "No answer came before the deadline."),
    Reason.MODEL_ERROR: (Code.FAILED, "The model cannot answer these rows."),
}
_DOWN = (Code.NOT_NOW, "The model cannot be reached at the moment, and the release has no fallback answer.")


class Teller(Protocol):
    """Who is told how a call ended."""

    retry_after: bytes

    def told(self, call: Call, code: Code, degraded: str | None) -> None: ...


class Call:
    """A request whose rows keep the contract."""

    __slots__ = ("asked", "deadline", "done", "door", "lane", "left", "request", "settled", "teller", "timer", "works")

    def __init__(self, *, request: Request, door: str, asked: Asked, lane: Lane, deadline: float, teller: Teller):
        self.request, self.door, self.asked, self.lane = request, door, asked, lane
        self.deadline, self.teller = deadline, teller
        self.done = False
        self.timer: asyncio.TimerHandle | None = None
        self.works: list[Work] = []
        self.settled: dict[int, tuple[Settled, int]] = {}  # place of the work -> where its rows are
        self.left = 0

    @property
    def body(self) -> Body:
        return self.lane.body

    def start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Queue the rows, or answer at once where no worker can. `loop` may be None where none can."""
        trouble = self.lane.trouble
        if trouble is not None or loop is None:
            self.degrade(trouble or Reason.WORKER_DOWN)
            return
        parts = to_parts(self.body.contract.features, self.asked.columns)
        pieces = self.lane.split(parts, self.asked.rows)
        self.works = [
            Work(rows=rows, parts=piece, deadline=self.deadline, settle=self.settle) for piece, rows in pieces
        ]
        self.left = len(self.works)
        try:
            self.lane.submit(self.works)
        except Overloaded:
            message = refusal("The service is busy; the queue is full.", self.request.id)
            self._reply(Code.NOT_NOW, message, self.teller.retry_after)
            return
        left_s = self.deadline - self.lane.now()
        left_s -= min(MOST_MARGIN_S, MARGIN_SHARE * left_s)
        self.timer = loop.call_later(left_s, self.degrade, Reason.DEADLINE)
        self.request.on_gone = self.leave

    def settle(self, work: Work, settled: Settled, start: int) -> None:
        """Take the answer to a work; its rows are at `start` of `settled`."""
        if self.done:
            return
        if settled.failed:
            self.degrade(Reason(settled.reason))
            return
        if settled.bad and any(start <= row < start + work.rows for row in settled.bad):
            self.degrade(Reason.MODEL_ERROR)
            return
        self.left -= 1
        if len(self.works) == 1:
            self._finish(_slice(settled, start, work.rows), None)
            return
        self.settled[self.works.index(work)] = (settled, start)
        if self.left == 0:
            pieces = [_slice(*self.settled[place], work.rows) for place, work in enumerate(self.works)]
            self._finish(_joined(pieces), None)

    def degrade(self, reason: Reason) -> None:
        """Answer from the fallback, marked, or refuse."""
        if self.done:
            return
        try:
            settled = fallback.answer(self.body, self.asked.rows)
        except BundleFormat:
            settled = None  # a fallback that cannot be read is none; trying it said so when the service started
        if settled is not None:
            self._finish(settled, reason)
            return
        code, message = _MESSAGES.get(reason, _DOWN)
        headers = self.teller.retry_after if code is Code.NOT_NOW else b""
        self._reply(code, refusal(message, self.request.id), headers)

    def leave(self) -> None:
        """The caller is gone: nothing of it runs any more."""
        self._close()

    def _finish(self, settled: Settled, reason: Reason | None) -> None:
        served_by = self.lane.release
        headers = b""
        if reason is not None:
            served_by = f"{served_by} fallback:{fallback.kind(self.body)}"
            headers = b"x-degraded: %s\r\n" % reason.value.encode()
        said = Said(self.lane.release, served_by, self.request.id, None if reason is None else reason.value)
        self._reply(Code.OK, self.asked.answer(settled, self.body, said), headers, served_by, reason)

    def _reply(
        self, code: Code, body: bytes, headers: bytes = b"", served_by: str | None = None, reason: Reason | None = None
    ) -> None:
        self._close()
        head = b"x-served-by: %s\r\n" % (served_by or self.lane.release).encode()
        self.request.reply(code, body, headers=head + headers)
        self.teller.told(self, code, None if reason is None else reason.value)

    def _close(self) -> None:
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.request.on_gone = None
        for work in self.works:
            self.lane.queue.forget(work)


def _slice(settled: Settled, start: int, rows: int) -> Settled:
    if settled.values is not None:
        return Settled(values=settled.values[start : start + rows])
    assert settled.labels is not None and settled.probabilities is not None
    return Settled(
        labels=settled.labels[start : start + rows], probabilities=settled.probabilities[start : start + rows]
    )


def _joined(pieces: list[Settled]) -> Settled:
    if pieces[0].values is not None:
        return Settled(values=[value for piece in pieces for value in piece.values or ()])
    return Settled(
        labels=[label for piece in pieces for label in piece.labels or ()],
        probabilities=[shares for piece in pieces for shares in piece.probabilities or ()],
    )
