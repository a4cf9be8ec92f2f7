"""Where the seconds of a search go: to trials that ended, or to attempts that were cut off, kept across kills."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelyard.core.codec import decode, encode, write_atomic

UNSEEN_S = 0.25  # passes at most between two ticks, and may have passed unseen before a kill


class _Lost(msgspec.Struct, frozen=True, kw_only=True):
    number: int  # of the trial that was under way
    seconds: float


class _Spent(msgspec.Struct, frozen=True, kw_only=True):
    lost: tuple[_Lost, ...] = ()
    open: _Lost | None = None  # the attempt under way


class Ledger:
    """Times attempts without a gap: what passes between two counts for the later one.

    The open attempt is written down every time the ledger is told to; what is open at a kill is lost
    time at the next start.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path, self._monotonic = path, monotonic
        seen = decode(path.read_bytes(), _Spent) if path.exists() else _Spent()
        cut = seen.open
        self._lost = (
            seen.lost if cut is None else (*seen.lost, _Lost(number=cut.number, seconds=cut.seconds + UNSEEN_S))
        )
        self._number = 0
        self._begun = self._closed = monotonic()
        self._lock = threading.Lock()  # the fits of a turn tick from a thread each
        self._write(None)

    def lost_before(self, number: int) -> float:
        """Return the seconds lost up to the attempts at a trial.

        What was lost later must not change what was decided before, or a resumed search would go
        another way than the trials it has kept.
        """
        return sum(one.seconds for one in self._lost if one.number <= number)

    def begin(self, number: int) -> None:
        """Say which trial the attempt under way is of."""
        self._number = number

    def tick(self) -> None:
        """Make durable how long the open attempt has taken."""
        self._write(_Lost(number=self._number, seconds=self.elapsed()))

    def elapsed(self) -> float:
        """Return the seconds of the open attempt."""
        return self._monotonic() - self._begun

    def close(self) -> float:
        """Return the seconds of the attempt, for its trial's record; the next begins here."""
        self._closed = self._monotonic()
        return self._closed - self._begun

    def end(self) -> None:
        """Forget the attempt: from here its trial's own record carries its seconds."""
        self._begun = self._closed
        self._write(None)

    def _write(self, open: _Lost | None) -> None:
        with self._lock:
            write_atomic(self._path, encode(_Spent(lost=self._lost, open=open)))
