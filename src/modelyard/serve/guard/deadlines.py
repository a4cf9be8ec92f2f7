"""When callers stop waiting: many deadlines on few timers."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

LEAST_S = 0.001  # of a timer
SLOT_S = 0.005  # deadlines this close are kept together; none is kept early, all at most this late


class Waits(Protocol):
    """Who has a deadline."""

    def late(self) -> None:
        """The deadline passed."""
        ...


class Deadlines:
    """Callers by the slot of time in which they give up. A timer a slot, not a caller. Of one thread."""

    __slots__ = ("_last", "_loop", "_newest", "_slots")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Waits]] = {}
        self._last, self._newest = -1, set[Waits]()  # the slot that was asked for last, nearly always asked for again

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def add(self, waits: Waits, left_s: float, now: float) -> set[Waits]:
        """Have `late` called in `left_s` seconds; return the slot, from which whoever is done takes itself."""
        number = int((now + left_s) / SLOT_S) + 1
        if number == self._last:
            self._newest.add(waits)
            return self._newest
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            self._loop.call_later(max(0.0, number * SLOT_S - now), self._fire, number)
        slot.add(waits)
        self._last, self._newest = number, slot
        return slot

    def _fire(self, number: int) -> None:
        early_s = number * SLOT_S - time.monotonic()
        if early_s > 0:  # a loop's timers count from when its turn began, in whole milliseconds
            self._loop.call_later(early_s + LEAST_S, self._fire, number)
            return
        if number == self._last:
            self._last = -1
        for waits in list(self._slots.pop(number, ())):
            waits.late()
