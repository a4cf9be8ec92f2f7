"""The seconds that a search has spent on attempts that never ended, kept across kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from modelyard.core.codec import decode, encode, write_atomic


class _Spent(msgspec.Struct, frozen=True, kw_only=True):
    lost_s: float = 0.0  # of attempts cut off before
    open_s: float = 0.0  # of the attempt under way


class Ledger:
    """Counts the open attempt every time it is told to; what is open at a kill is lost time at the next start."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path, self._monotonic = path, monotonic
        seen = decode(path.read_bytes(), _Spent) if path.exists() else _Spent()
        self.lost_s = seen.lost_s + seen.open_s
        self._begun: float | None = None
        self._write(0.0)

    def begin(self) -> None:
        """Open an attempt."""
        self._begun = self._monotonic()

    def tick(self) -> None:
        """Make durable how long the open attempt has taken."""
        if self._begun is not None:
            self._write(self.elapsed())

    def elapsed(self) -> float:
        """Return the seconds of the open attempt."""
        return 0.0 if self._begun is None else self._monotonic() - self._begun

    def end(self) -> None:
        """Close the attempt; the trial's own record carries its seconds from here."""
        self._begun = None
        self._write(0.0)

    def _write(self, open_s: float) -> None:
        write_atomic(self._path, encode(_Spent(lost_s=self.lost_s, open_s=open_s)))
