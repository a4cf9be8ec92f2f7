"""Callers of a service, in a process of their own: an open loop that keeps of each request what became of it.

    python bench/rollout_load.py < job        one line of JSON; the load ends when standard input does

Each request has an id, so that whom it met can be recomputed. Where the job names a run folder, what came true of each
answer is handed in within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from array import array
from collections import deque
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from modelyard.app.outcomes import feeding
from modelyard.bundle.answers import Feedback, Unread
from modelyard.core.clock import SystemClock

POSITIVE_FROM = 0.7  # as rollout_models has it
RIGHT = 0.85  # share of the rows of which comes true what the sealed model answers
FEED_S = 0.25
MOST_LINES = 1 << 16
TIMED_OUT, BROKEN = -1, -2  # in the place of a status


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask, how often, and where to keep what came of it."""

    port: int
    rate: float
    out: str
    prefix: str  # of the ids
    run_folder: str | None = None
    seed: int = 1
    connections: int = 64
    work: float = 0.0  # mean of a row's
    sigma: float = 1.0  # of its logarithm
    timeout_s: float = 5.0


class Rows:
    """Rows to ask for, a cycle of them, and what came of the requests."""

    def __init__(self, job: Job) -> None:
        rng = np.random.default_rng(job.seed)
        self.x, self.u = rng.random(MOST_LINES).round(6), rng.random(MOST_LINES).round(6)
        self.is_b = rng.random(MOST_LINES) < 0.5
        scale = np.log(job.work) - job.sigma**2 / 2 if job.work else 0.0
        self.work = rng.lognormal(scale, job.sigma, MOST_LINES).round(2) if job.work else np.zeros(MOST_LINES)
        sealed = self.x >= POSITIVE_FROM
        self.positive = sealed
        self.true = np.where(rng.random(MOST_LINES) < RIGHT, sealed, ~sealed)
        self.bodies = [
            b'{"rows":[{"x":%s,"u":%s,"work":%s,"group":"%s"}]}'
            % (str(x).encode(), str(u).encode(), str(work).encode(), b"B" if is_b else b"A")
            for x, u, work, is_b in zip(
                self.x.tolist(), self.u.tolist(), self.work.tolist(), self.is_b.tolist(), strict=True
            )
        ]


class Caller(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load, self.held, self.number, self.due, self.sent = load, b"", -1, 0.0, 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]

    def ask(self, number: int, due: float) -> None:
        self.number, self.due, self.sent = number, due, time.monotonic()
        assert self.transport is not None
        self.transport.write(self.load.request(number))

    def data_received(self, data: bytes) -> None:
        data = self.held + data
        at = data.find(b"\r\n\r\n")
        if at >= 0 and len(data) >= at + 4 + int(_field(data[:at], b"content-length") or b"0"):
            self.held = b""
            self._answered(data[:at], data[at + 4 :])
        else:
            self.held = data

    def _answered(self, head: bytes, body: bytes) -> None:
        is_yes = b'"yes"' in body.partition(b'"label"')[2][:8] if head[9:12] == b"200" else False
        self.end(int(head[9:12]), _field(head, b"x-served-by"), b"\r\nx-degraded:" in head, is_yes=is_yes)
        if _field(head, b"connection") == b"close":
            assert self.transport is not None
            self.transport.abort()
        else:
            self.load.free(self)

    def end(self, status: int, served_by: bytes, degraded: bool, *, is_yes: bool) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            self.load.note(number, self.due, self.sent, status, served_by, degraded, is_yes=is_yes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(BROKEN, b"", False, is_yes=False)
        self.load.lost(self)


class Load:
    """The open loop, and what it noted."""

    def __init__(self, job: Job) -> None:
        self.job, self.rows = job, Rows(job)
        self.idle: deque[Caller] = deque()
        self.callers: set[Caller] = set()
        self.waiting: deque[tuple[int, float]] = deque()
        self.over = False
        self.fresh: list[Feedback | Unread] = []
        self.times, self.facts = array("d"), array("l")
        self.names: dict[bytes, int] = {b"": 0}

    def request(self, number: int) -> bytes:
        body = self.rows.bodies[number % MOST_LINES]
        return (
            b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"x-request-id: %s-%d\r\ncontent-length: %d\r\n\r\n%s" % (self.job.prefix.encode(), number, len(body), body)
        )

    def note(
        self, number: int, due: float, sent: float, status: int, served_by: bytes, degraded: bool, *, is_yes: bool
    ) -> None:
        place = self.names.setdefault(served_by, len(self.names))
        row = number % MOST_LINES
        wrong = status == 200 and not degraded and is_yes != bool(self.rows.positive[row])
        self.times.extend((due, sent, time.monotonic()))
        self.facts.extend((number, status, place, degraded, wrong))
        if self.job.run_folder is not None and status == 200 and not degraded:
            label = "yes" if self.rows.true[row] else "no"
            self.fresh.append(Feedback(request=f"{self.job.prefix}-{number}", label=label))

    def free(self, caller: Caller) -> None:
        if self.waiting:
            caller.ask(*self.waiting.popleft())
        else:
            self.idle.append(caller)

    def lost(self, caller: Caller) -> None:
        self.callers.discard(caller)
        if caller in self.idle:
            self.idle.remove(caller)
        if not self.over:
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._open()))

    async def _open(self) -> None:
        while not self.over:
            try:
                _, caller = await asyncio.get_running_loop().create_connection(
                    lambda: Caller(self), "127.0.0.1", self.job.port
                )
            except OSError:
                await asyncio.sleep(0.02)
                continue
            self.callers.add(caller)
            self.free(caller)
            return

    async def run(self) -> None:
        await asyncio.gather(*(self._open() for _ in range(self.job.connections)))
        start, number = time.monotonic() + 0.05, 0
        while not self.over:
            now = time.monotonic()
            while start + number / self.job.rate <= now:
                due = start + number / self.job.rate
                if self.idle:
                    self.idle.popleft().ask(number, due)
                else:
                    self.waiting.append((number, due))
                number += 1
            self._expire(now)
            await asyncio.sleep(max(0.0, start + number / self.job.rate - time.monotonic()))
        end = time.monotonic() + self.job.timeout_s
        while (self.waiting or any(one.number >= 0 for one in self.callers)) and time.monotonic() < end:
            await asyncio.sleep(0.02)
            self._expire(time.monotonic())

    def _expire(self, now: float) -> None:
        oldest = now - self.job.timeout_s
        while self.waiting and self.waiting[0][1] < oldest:
            number, due = self.waiting.popleft()
            self.note(number, due, now, TIMED_OUT, b"", False, is_yes=False)
        for caller in [one for one in self.callers if one.number >= 0 and one.sent < oldest]:
            caller.end(TIMED_OUT, b"", False, is_yes=False)
            if caller.transport is not None:
                caller.transport.abort()

    def feed(self, stop: threading.Event) -> None:
        """Hand in what came true, until told to stop."""
        assert self.job.run_folder is not None
        hand_in = feeding(Path(self.job.run_folder), SystemClock())
        while not stop.wait(FEED_S):
            fresh, self.fresh = self.fresh, []
            if fresh:
                hand_in(fresh)

    def save(self) -> None:
        times = np.array(self.times).reshape(-1, 3)
        facts = np.array(self.facts, dtype=np.int64).reshape(-1, 5)
        names = np.array([name.decode() for name in self.names])
        np.savez(self.job.out, times=times, facts=facts, names=names)


def _field(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r")[0].strip()


def main() -> None:
    """Ask until standard input ends, then write down what came of it."""
    load = Load(msgspec.json.decode(sys.stdin.buffer.readline(), type=Job))
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        load.over = True

    threading.Thread(target=wait, daemon=True).start()
    feeder = threading.Thread(target=load.feed, args=(stop,))
    if load.job.run_folder is not None:
        feeder.start()
    uvloop.run(load.run())
    stop.set()
    load.save()


if __name__ == "__main__":
    main()
