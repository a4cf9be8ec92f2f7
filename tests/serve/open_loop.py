"""An open loop: requests leave on a clock over connections that are kept, and none that is lost goes unseen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import uvloop


@dataclass
class Seen:
    """What callers saw."""

    due: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # "200", "200 degraded", "503", ...
    reasons: Counter[str] = field(default_factory=Counter)  # of what was degraded
    lost: list[str] = field(default_factory=list)
    refused: int = 0  # connections
    latencies_s: list[float] = field(default_factory=list)
    late_s: float = 0.0  # the longest that a request left after it was due

    @property
    def answered(self) -> int:
        return sum(self.answers.values())

    def share(self, *kinds: str) -> float:
        """Return the share of all requests that ended in one of these ways."""
        return sum(self.answers[kind] for kind in kinds) / max(1, self.answered + len(self.lost))

    def quantile_ms(self, q: float) -> float:
        ranked = sorted(self.latencies_s)
        return 1000 * ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else float("nan")


class Line(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self, loop: OpenLoop) -> None:
        self.loop = loop
        self.transport: Any = None
        self.due: float | None = None  # of the request that is out
        self.announced = False  # the server said that the connection ends
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.loop.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        with contextlib.suppress(ValueError):
            self.loop.idle.remove(self)
        if self.due is not None and not self.announced:
            self.loop.seen.lost.append(f"{exc!r} {time.monotonic() - self.due:.3f} s after it was due")
        self.due = None
        self.loop.gone(self)

    def ask(self, due: float, request: bytes) -> None:
        self.due, self.data = due, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower()
        at = lines.index(b"content-length:") + 15
        if len(body) < int(lines[at : lines.find(b"\r\n", at) if b"\r\n" in lines[at:] else None]):
            return
        self._answered(head, lines)

    def _answered(self, head: bytes, lines: bytes) -> None:
        seen, due = self.loop.seen, self.due
        self.due = None
        if due is None:
            return
        kind = head[9:12].decode()
        if b"\r\nx-degraded: " in lines:
            seen.reasons[lines.partition(b"\r\nx-degraded: ")[2].partition(b"\r\n")[0].decode()] += 1
            kind += " degraded"
        seen.answers[kind] += 1
        seen.latencies_s.append(time.monotonic() - due)
        if b"\r\nconnection: close" in lines:
            self.announced = True
            self.transport.close()
        else:
            self.loop.free(self)


class OpenLoop:
    """Asks at a rate until told to stop, whatever the server does."""

    def __init__(self, port: int, body: Any, *, rate: float, connections: int, path: str = "/predict") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.request = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data
        self.port, self.rate, self.connections = port, rate, connections
        self.seen = Seen()
        self.idle: deque[Line] = deque()
        self.waiting: deque[float] = deque()  # due, and no connection is free
        self.stopped = False
        self.ended = asyncio.Event()
        self._open = 0
        self._lines: set[Line] = set()

    async def run(self, secs: float | None = None) -> Seen:
        """Ask for `secs`, or until the server takes no more connections."""
        await self._connect()
        began, sent = time.monotonic(), 0
        while not self.ended.is_set() and (secs is None or time.monotonic() - began < secs):
            now = time.monotonic()
            while began + sent / self.rate <= now:
                due = began + sent / self.rate
                sent += 1
                self.seen.due += 1
                if self.idle:
                    self.seen.late_s = max(self.seen.late_s, now - due)
                    self.idle.popleft().ask(due, self.request)
                else:
                    self.waiting.append(due)
            if not self.stopped and self._open < self.connections:
                await self._connect()
            await asyncio.sleep(0.001)
        end = time.monotonic() + 12.0
        self.waiting.clear()
        while self._out and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.stopped = True
        for line in list(self._lines):
            if line.due is not None:
                self.seen.lost.append("no answer")
                line.due = None
            if line.transport is not None:
                line.transport.abort()
        return self.seen

    @property
    def _out(self) -> int:
        return sum(line.due is not None for line in self._lines)

    def free(self, line: Line) -> None:
        if self.waiting:
            due = self.waiting.popleft()
            self.seen.late_s = max(self.seen.late_s, time.monotonic() - due)
            line.ask(due, self.request)
        else:
            self.idle.append(line)

    def gone(self, line: Line) -> None:
        self._lines.discard(line)
        self._open -= 1
        if self.stopped and self._open <= 0:
            self.ended.set()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open < self.connections:
            try:
                _, line = await loop.create_connection(lambda: Line(self), "127.0.0.1", self.port)
            except OSError:
                self.seen.refused += 1
                self.stopped = True  # the announced end
                if self._open == 0:
                    self.ended.set()
                return
            self._lines.add(line)
            self._open += 1


def ask(
    port: int, body: Any, *, rate: float, secs: float | None, connections: int = 64, path: str = "/predict"
) -> Seen:
    """Ask in this thread until the time is over or the server has ended."""

    async def run() -> Seen:
        return await OpenLoop(port, body, rate=rate, connections=connections, path=path).run(secs)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
