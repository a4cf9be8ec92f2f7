"""Two counts over the last seconds, in buckets: what breaker and retry budget remember."""

from __future__ import annotations

import math
from collections import deque

BUCKETS = 10  # the window moves by a tenth of itself, so what is counted is nine to ten tenths of it


class Window:
    """The buckets that are full. Of the one that is filling, its owner counts itself, where every nanosecond shows.

    A bucket is a span of time, `[n * width, (n + 1) * width)`, so which bucket a moment is in does not depend on
    what came before. Time that goes back is counted in the bucket that is filling.
    """

    __slots__ = ("_full", "_number", "first", "second", "turn", "width")

    def __init__(self, window_s: float, now: float) -> None:
        self.width = window_s / BUCKETS
        self.first = self.second = 0  # over all full buckets that still count
        self._full: deque[tuple[int, int, int]] = (
            deque()
        )  # number of the bucket and its counts; empty ones are left out
        self._number = math.floor(now / self.width)
        self.turn = (self._number + 1) * self.width  # from then on, `shift` is due

    def shift(self, now: float, first: int, second: int) -> bool:
        """Close the bucket that was filling with its counts; False where `now` is in it still."""
        number = math.floor(now / self.width)
        self.turn = (number + 1) * self.width
        if number <= self._number:
            return False
        if first or second:
            self._full.append((self._number, first, second))
            self.first += first
            self.second += second
        self._number = number
        while self._full and self._full[0][0] <= number - BUCKETS:
            _, first, second = self._full.popleft()
            self.first -= first
            self.second -= second
        return True
