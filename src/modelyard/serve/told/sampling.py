"""How many of many are kept: so many an interval, each with its own true probability."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_CALM = 0.5  # how much of a quieter interval is believed; a busier one is believed at once
_GROWTH = 2.0  # at most, of the probability from one interval to the next


class Sampling:
    """Keeps about `room` things between two calls of `adapt`; the sum of 1/p over those kept is true of all.

    `wants` is of one thread and `adapt` may be of another: what they miss of each other moves the next probability,
    never the one that was told.
    """

    def __init__(self, room: float, *, chance: Callable[[], float] | None = None) -> None:
        """Keep `room` an interval, by numbers that `chance` draws evenly from [0, 1)."""
        self.p = 1.0 if room > 0 else 0.0
        self._room = room
        self._chance = Random().random if chance is None else chance
        self._kept, self._came = 0, 0.0  # so far, and how many those kept stand for
        self._mark = room  # so many kept, and fewer are from there on
        self._before, self._rate = 0.0, 0.0

    def wants(self) -> float:
        """Say with which probability this one is kept; 0 where it is not.

        >>> Sampling(1.0).wants()
        1.0
        """
        p = self.p
        if self._chance() >= p:
            return 0.0
        self._kept += 1
        self._came += 1.0 / p
        if self._kept >= self._mark:  # more come than was thought: each further half of the room costs half of p
            self._mark += self._room / 2
            self.p = p / 2
        return p

    def adapt(self) -> None:
        """Begin an interval, with the probability that keeps what there is room for if as many come."""
        came = self._came - self._before
        self._before = self._came
        self._mark = self._kept + self._room
        self._rate = came if came > self._rate else self._rate + _CALM * (came - self._rate)
        if self._room > 0:
            self.p = min(1.0, self.p * _GROWTH, self._room / max(self._rate, self._room))
