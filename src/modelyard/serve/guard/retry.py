"""How many requests may be tried a second time, so that retries never become the load that keeps a service down."""

from __future__ import annotations

from modelyard.serve.guard.window import Window

WINDOW_S = 10.0
FLOOR = 10
"""Retries that a window always has. A quiet service would have none: a tenth of the five requests that a crash meets
there is nothing, and ten single rows in ten seconds are no load for a worker that takes thousands a second."""


class RetryBudget:
    """Allows retries of a share of the requests in the last seconds, or `floor` of them where that is more.

    Of one thread. With a share of 0 there are none at all.
    """

    __slots__ = ("_asked", "_taken", "_window", "floor", "share")

    def __init__(self, now: float, *, share: float = 0.1, floor: int = FLOOR, window_s: float = WINDOW_S) -> None:
        self.share, self.floor = share, floor if share > 0 else 0
        self._window = Window(window_s, now)
        self._asked = self._taken = 0  # in the bucket that is filling

    def asked(self, now: float, by: int = 1) -> None:
        """Count requests; a retry is not one."""
        if now >= self._window.turn:
            self._shift(now)
        self._asked += by

    def take(self, now: float) -> bool:
        """Take leave for one retry; False where the budget is spent."""
        if now >= self._window.turn:
            self._shift(now)
        if self._window.second + self._taken + 1 > max(self.floor, self.share * (self._window.first + self._asked)):
            return False
        self._taken += 1
        return True

    def _shift(self, now: float) -> None:
        if self._window.shift(now, self._asked, self._taken):
            self._asked = self._taken = 0
