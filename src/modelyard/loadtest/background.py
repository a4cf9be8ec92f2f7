"""A steady load that goes on beside other work, and can be looked at while it does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import uvloop

from modelyard.core.drill import Asked, Became
from modelyard.core.load import Arrivals, LoadPlan
from modelyard.errors import DeadlineExceeded, NotRunning
from modelyard.loadtest.address import Address, request_bytes
from modelyard.loadtest.generator import Generator
from modelyard.loadtest.tally import Outcome

T = TypeVar("T")

LONGEST_S = 3600.0
ANSWER_S = 5.0  # for the load's own thread to say something
LOOK_S = 0.02
_BECAME = {Outcome.ANSWERED: Became.ANSWERED, Outcome.DEGRADED: Became.DEGRADED, Outcome.STATUS: Became.FAILED}


class Background:
    """An open loop with evenly spaced requests on a thread of its own. To be used from one other thread."""

    def __init__(
        self, address: Address, bodies: Sequence[bytes], *, rate: float, timeout_s: float, connections: int = 64
    ) -> None:
        self._plan = LoadPlan(
            arrivals=Arrivals.CONSTANT, rate=rate, connections=connections, seconds=LONGEST_S, warmup_s=0.0,
            timeout_s=timeout_s,
        )  # fmt: skip
        self._rate, self._timeout_s = rate, timeout_s
        requests = [request_bytes(address, body, {}) for body in bodies]
        self._generator = Generator(address, requests, self._plan)
        self._loop = uvloop.new_event_loop()
        self._task: asyncio.Task[object] | None = None
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def asked(self) -> list[Asked]:
        """Return the requests that ended so far; raises NotRunning where the load could not begin or go on."""
        return self._call(self._snapshot)

    def finish(self) -> list[Asked]:
        """Return all requests that were due until now, once each has ended; then end the load."""
        now = time.monotonic()
        end = now + self._timeout_s + 1.0
        wanted = self._call(lambda: self._due_by(now))
        while len(mine := [one for one in self.asked() if one.due <= now]) < wanted and time.monotonic() < end:
            time.sleep(LOOK_S)
        self.close()
        return mine

    def close(self) -> None:
        """End the load at once; twice is harmless."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just closed
                self._loop.call_soon_threadsafe(lambda: self._task.cancel() if self._task is not None else None)
            self._thread.join(ANSWER_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._generator.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception as fault:  # noqa: BLE001 - told to whoever looks
            self._fault = fault
        finally:
            self._loop.close()

    def _call(self, ask: Callable[[], T]) -> T:
        """Return what a function gives on the load's own thread: what it reads is written there."""

        async def answer() -> T:
            return ask()

        try:
            return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(ANSWER_S)
        except RuntimeError as fault:
            raise NotRunning(f"The load has ended: {self._fault or fault}.") from fault
        except TimeoutError as fault:
            raise DeadlineExceeded(f"The load's own thread said nothing for {ANSWER_S:g} s.") from fault

    def _due_by(self, moment: float) -> int:
        begin = self._generator.tally.begin
        return 0 if not begin or moment < begin else int((moment - begin) * self._rate) + 1

    def _snapshot(self) -> list[Asked]:
        tally = self._generator.tally
        samples = tally.samples()
        due = samples.due + tally.begin
        ended = due + samples.latency
        return [
            Asked(at, done, _BECAME.get(Outcome(outcome), Became.LOST))
            for at, done, outcome in zip(due.tolist(), ended.tolist(), samples.outcome.tolist(), strict=True)
        ]
