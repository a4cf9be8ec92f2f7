"""One connection that asks: at most one request at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from modelyard.loadtest.answer import Answer, Malformed
from modelyard.loadtest.tally import Outcome

if TYPE_CHECKING:
    from modelyard.loadtest.generator import Generator

IDLE = -1.0


class Caller(asyncio.Protocol):
    """A connection. `due` is the moment of the request in flight, `IDLE` without one."""

    __slots__ = ("_answer", "_generator", "_transport", "due", "gone", "sent", "taken")

    def __init__(self, generator: Generator) -> None:
        self.due = self.taken = self.sent = IDLE
        self.gone = False
        self._generator, self._answer = generator, Answer()
        self._transport: asyncio.Transport | None = None

    def ask(self, due: float, taken: float, request: bytes) -> None:
        """Send a request."""
        self.due, self.taken, self.sent = due, taken, time.monotonic()
        assert self._transport is not None
        self._transport.write(request)

    def drop(self) -> None:
        """End the connection at once."""
        self.gone = True
        if self._transport is not None:
            self._transport.abort()

    def fail(self, outcome: Outcome) -> None:
        """Count the request in flight as failed, and end the connection: its answer may still come."""
        due, self.due = self.due, IDLE
        self._generator.tally.add(due, self.taken, self.sent, time.monotonic(), outcome)
        self.drop()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        due = self.due
        if due == IDLE:  # nothing was asked: a notice before a close, or nonsense
            self._generator.withdraw(self)
            self.drop()
            return
        answer = self._answer
        try:
            if not answer.feed(data):
                return
        except Malformed:
            self.fail(Outcome.MALFORMED)
            return
        self._settle(due, time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self.due != IDLE:
            if exc is None and self._answer.closed():
                self._settle(self.due, time.monotonic())
            else:
                self.fail(Outcome.CLOSED)
        self._generator.lost(self)

    def _settle(self, due: float, now: float) -> None:
        answer, generator = self._answer, self._generator
        self.due = IDLE
        if 200 <= answer.status < 300:
            outcome = Outcome.DEGRADED if answer.degraded else Outcome.ANSWERED
        else:
            outcome = Outcome.STATUS
            generator.tally.status(due, answer.status)
        generator.tally.add(due, self.taken, self.sent, now, outcome)
        if self.gone:
            return
        if answer.ends:
            self.drop()
        else:
            generator.free(self)
