"""The service's log: JSON lines in a file of bounded size, written without ever holding up a request."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

MOST_WAITING = 20_000  # lines not yet written; beyond it they are dropped and counted
FLUSH_S = 0.2
KEPT = 3  # files: the current one and those before it


class Log:
    """Takes lines from any thread; a thread of its own writes them.

    No row values are written, so nothing of an audit column can be.
    """

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self.dropped = 0
        self._path, self._most_bytes = path, most_bytes
        self._lines: deque[dict[str, Any]] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        """Take a line; it is dropped and counted where too many wait."""
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
            return
        self._lines.append(line)

    def close(self) -> None:
        """Write what waits; twice is harmless."""
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        encoder = msgspec.json.Encoder()
        while not self._ended.wait(FLUSH_S):
            self._flush(encoder)
        self._flush(encoder)

    def _flush(self, encoder: msgspec.json.Encoder) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._turn_over()
            with self._path.open("ab") as file:
                file.write(b"".join(encoder.encode(line) + b"\n" for line in lines))
        except OSError:  # a full disk must not stop the service
            self.dropped += len(lines)

    def _turn_over(self) -> None:
        """Begin a new file where the current one is full; the oldest goes."""
        if not self._path.exists() or self._path.stat().st_size < self._most_bytes:
            return
        for number in range(KEPT - 1, 0, -1):
            older = self._path.with_suffix(f".{number}{self._path.suffix}")
            newer = self._path if number == 1 else self._path.with_suffix(f".{number - 1}{self._path.suffix}")
            if newer.exists():
                newer.replace(older)
