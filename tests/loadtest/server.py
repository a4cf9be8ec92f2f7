"""A server whose delays and faults are known, and that counts: `python -m tests.loadtest.server`. It prints its port.

The first word of the path says how a request is answered; GET /counts tells what was asked and answered so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

STALL_AFTER_S, STALL_S = 1.2, 0.2
FIXED_S = 0.02
SLOW_S = 0.1


class Line(asyncio.Protocol):
    """One connection; requests with a length only, one at a time."""

    counts: dict[str, int] = {}
    delays: list[float] = []
    first: float | None = None
    stalled = False
    chance = random.Random(5)

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.count("connections")

    def count(self, name: str) -> int:
        Line.counts[name] = Line.counts.get(name, 0) + 1
        return Line.counts[name]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].partition(b"\r")[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        self.asked(head.split(b" ", 2)[1].decode().strip("/"), rest[:length])

    def asked(self, way: str, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        if way == "counts":
            self.answer(200, json.dumps({"counts": Line.counts, "delays": Line.delays}).encode())
            return
        number = self.count("requests")
        self.count(f"body {body[:20].decode()}")
        if way == "fixed":
            loop.call_later(FIXED_S, self.answer, 200, b"{}")
        elif way == "slow":
            loop.call_later(SLOW_S, self.answer, 200, b"{}")
        elif way == "heavy":
            delay = min(0.5, 0.005 * Line.chance.paretovariate(1.5))
            Line.delays.append(delay)
            loop.call_later(delay, self.answer, 200, b"{}")
        elif way == "stall":
            self.stall()
        elif way == "mixed":
            status = (200, 200, 503, 422)[number % 4]
            self.answer(status, b"{}", "x-degraded: breaker\r\n" if number % 4 == 0 else "")
        elif way == "chunked":
            self.transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            loop.call_later(0.002, self.transport.write, b"3;a=b\r\n123\r\n0\r\nx-trailer: 1\r\n\r\n")
            self.count("answered")
        elif way == "closing":
            self.answer(200, b"{}", "connection: close\r\n")
            self.transport.close()
        elif way == "until-close":
            self.transport.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
            self.transport.close()
            self.count("answered")
        elif way == "abrupt" and number % 10 == 0:
            self.transport.abort()
        elif way == "nonsense" and number > 1:
            self.transport.write(b"SSH-2.0-what\r\n\r\n")
        elif way == "silent" and number > 1:
            pass
        elif way == "ends" and number > 1 and Line.first is not None and time.monotonic() > Line.first + 0.6:
            os._exit(0)
        else:
            Line.first = Line.first or time.monotonic()
            self.answer(200, b"{}")

    def stall(self) -> None:
        Line.first = Line.first or time.monotonic()
        if not Line.stalled and time.monotonic() > Line.first + STALL_AFTER_S:
            Line.stalled = True
            time.sleep(STALL_S)
        self.answer(200, b"{}")

    def answer(self, status: int, body: bytes, lines: str = "") -> None:
        self.count("answered")
        self.count(f"status {status}")
        head = f"HTTP/1.1 {status} Word\r\n{lines}content-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Line, "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


class Known:
    """The server as tests see it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.port}/{way}"

    def told(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url("counts"), timeout=10) as reply:
            told: dict[str, Any] = json.loads(reply.read())
            return told


@contextlib.contextmanager
def known_server() -> Iterator[Known]:
    """Run the server until the block ends."""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.loadtest.server"], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Known(process, int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve())
