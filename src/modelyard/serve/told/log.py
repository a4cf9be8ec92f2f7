"""The service's log: JSON lines in files of bounded size, written without ever holding up a request.

Of what happened to the service, of refusals, errors and degraded answers every line is written; of good answers so
many a second, each with the probability `p` that it had, so that sums over the lines of 1/p are true of all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from modelyard.serve.told.rolling import KEPT, Rolling
from modelyard.serve.told.sampling import Sampling

__all__ = ["FLUSH_S", "KEPT", "MOST_WAITING", "Log"]

MOST_WAITING = 20_000  # lines not yet written; beyond it they are dropped and counted
FLUSH_S = 0.2


class Log:
    """Takes lines from the event loop's thread; a thread of its own writes them.

    No row values are written, so nothing of an audit column can be.
    """

    def __init__(self, path: Path, *, most_bytes: int, sample_per_s: float = 200.0) -> None:
        self._file = Rolling(path, most_bytes=most_bytes)
        self._lines: deque[dict[str, Any]] = deque()
        self._refused = 0  # lines that found no room; counted by who writes
        self._lost = 0  # lines that could not be written; counted by the thread
        self._sampling = Sampling(sample_per_s * FLUSH_S)
        self.wants = self._sampling.wants  # with which probability this good request is logged; 0: it is not
        self._also: list[Callable[[], None]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Return how many lines were lost so far."""
        return self._refused + self._lost

    @property
    def p(self) -> float:
        """Return the probability that a good request is logged just now."""
        return self._sampling.p

    def write(self, line: dict[str, Any]) -> None:
        """Take a line; it is dropped and counted where too many wait."""
        if len(self._lines) >= MOST_WAITING:
            self._refused += 1
            return
        self._lines.append(line)

    def request(
        self,
        *,
        time: datetime,
        p: float,
        request: str,
        release: str,
        door: str,
        code: int,
        rows: int,
        ms: float,
        degraded: str | None = None,
        met: tuple[int, float] | None = None,
    ) -> None:
        """Take the line of a request: with what `wants` said, or 1 for one that is always logged.

        `met` is the epoch of the table that chose the release, with the probability that it had, where it had others.
        """
        line: dict[str, Any] = {"time": time, "event": "request", "p": p, "request": request, "release": release}
        line |= {"door": door, "code": code, "rows": rows, "ms": round(ms, 3)}
        if degraded is not None:
            line["degraded"] = degraded
        if met is not None:
            line["epoch"], line["p_release"] = met
        self.write(line)

    def also(self, act: Callable[[], None]) -> None:
        """Have something else done each time that lines are written, in the same thread; it must not raise."""
        self._also.append(act)

    def close(self) -> None:
        """Write what waits; twice is harmless."""
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        encoder = msgspec.json.Encoder()
        while not self._ended.wait(FLUSH_S):
            self._sampling.adapt()
            self._flush(encoder)
        self._flush(encoder)

    def _flush(self, encoder: msgspec.json.Encoder) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        written = [text for text in (_encoded(encoder, line) for line in lines) if text]
        self._lost += len(lines) - len(written)
        try:
            if written:
                self._file.append(b"".join(written))
        except OSError:  # a full disk must not stop the service
            self._lost += len(written)
        for act in self._also:
            act()


def _encoded(encoder: msgspec.json.Encoder, line: dict[str, Any]) -> bytes:
    """Return a line as JSON; nothing where it cannot be one, as one odd line must not end the log."""
    try:
        return encoder.encode(line) + b"\n"
    except (TypeError, ValueError, msgspec.MsgspecError):
        return b""
