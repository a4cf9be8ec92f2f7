"""Stops sending requests to a release that fails most of them, and finds out when it is well again.

A pure state machine: time comes in as an argument. Closed, it counts how requests ended over a window and opens when
too many failed. Open, nothing passes. After a while it is half open: a few requests pass as probes; when all of them
end well it closes, at the first that does not it opens again, for twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from modelyard.serve.guard.window import Window

NEVER = -math.inf


class State(StrEnum):
    """What a breaker lets pass."""

    CLOSED = "closed"  # everything
    OPEN = "open"  # nothing
    HALF_OPEN = "half_open"  # probes


@dataclass(frozen=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and closes."""

    window_s: float = 10.0  # over which outcomes are counted
    least: int = 20  # outcomes in the window before a share of failures means anything
    share: float = 0.5  # of failures at which it opens
    open_s: float = 2.0  # until the first probe; doubled at each probe that fails
    most_open_s: float = 30.0  # a release that is well again waits at most this long for its probe
    probes: int = 5  # that must end well, one after another or at once

    def __post_init__(self) -> None:
        """Raise ValueError where a breaker of this policy could not work."""
        if not (self.window_s > 0 and 0 < self.open_s <= self.most_open_s and 0 < self.share <= 1):
            raise ValueError(f"A breaker cannot keep {self}.")
        if self.least < 1 or self.probes < 1:
            raise ValueError(f"A breaker needs at least one outcome and one probe, not {self}.")


Told = Callable[[State, State, float], None]  # before, after, when


class Breaker:
    """Whether requests may go to a release. Of one thread.

    `told` is called after each transition; it must not call back. An outcome may name when its request was let
    through, `began`: one that was let through before the present state began says nothing about it.
    """

    __slots__ = (
        "_failures", "_good", "_let", "_more_at", "_passes", "_since", "_told", "_turn", "_wait_s", "_window",
        "policy", "state",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy, now: float, told: Told | None = None) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self._told = told
        self._wait_s = policy.open_s  # of the present or the next opening
        self._since = NEVER  # when the present state began
        self._let = self._good = 0  # probes let through, and those that ended well
        self._more_at = NEVER  # when more probes pass although those let through are still out
        self._window = Window(policy.window_s, now)
        self._passes = self._failures = 0  # in the bucket that is filling
        self._turn = self._window.turn  # until then passes need no closer look; in other states they always do

    def allow(self, now: float) -> bool:
        """Say whether a request may pass."""
        if self.state is _CLOSED:
            return True
        return self._probe(now)

    def passed(self, now: float, began: float = math.inf, by: int = 1) -> None:
        """Count requests that ended well."""
        if now < self._turn and began >= self._since:
            self._passes += by
        else:
            self._look(now, began, by, 0)

    def failed(self, now: float, began: float = math.inf, by: int = 1) -> None:
        """Count requests that ended badly: an error, no answer in time, or an answer that is none."""
        if now < self._turn and began >= self._since:
            self._failures += by
            self._judge(now)
        else:
            self._look(now, began, 0, by)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request may pass; 0 where one may."""
        if self.state is State.OPEN:
            return max(0.0, self._since + self._wait_s - now)
        if self.state is State.HALF_OPEN and self._let >= self.policy.probes:
            return max(0.0, self._more_at - now)
        return 0.0

    def counts(self) -> tuple[int, int]:
        """Return how many requests of the window ended well and badly, as of the last one."""
        return self._window.first + self._passes, self._window.second + self._failures

    def _probe(self, now: float) -> bool:
        if self.state is State.OPEN:
            if now < self._since + self._wait_s:
                return False
            self._become(State.HALF_OPEN, now)
        elif self._let >= self.policy.probes:
            # A probe whose caller left never ends; without more of them the breaker would stay here for good.
            if now < self._more_at:
                return False
            self._let = self._good
        self._let += 1
        self._more_at = now + self.policy.open_s
        return True

    def _look(self, now: float, began: float, passes: int, failures: int) -> None:
        """Count outcomes where the state is not closed, the bucket is full, or the request is an old one."""
        if self.state is State.OPEN or began < self._since:
            return
        if self.state is State.CLOSED:
            if now >= self._turn:
                if self._window.shift(now, self._passes, self._failures):
                    self._passes = self._failures = 0
                self._turn = self._window.turn
            self._passes += passes
            self._failures += failures
            if failures:
                self._judge(now)
        elif failures:
            self._wait_s = min(2 * self._wait_s, self.policy.most_open_s)
            self._become(State.OPEN, now)
        else:
            self._good += passes
            if self._good >= self.policy.probes:
                self._wait_s = self.policy.open_s
                self._become(State.CLOSED, now)

    def _judge(self, now: float) -> None:
        window = self._window
        failures = window.second + self._failures
        total = window.first + self._passes + failures
        if total >= self.policy.least and failures >= self.policy.share * total:
            self._become(State.OPEN, now)

    def _become(self, state: State, now: float) -> None:
        before, self.state, self._since = self.state, state, now
        self._let = self._good = 0
        self._passes = self._failures = 0
        self._window = Window(self.policy.window_s, now)
        self._turn = self._window.turn if state is State.CLOSED else NEVER
        if self._told is not None:
            self._told(before, state, now)


_CLOSED = State.CLOSED  # a global is found faster than a member of an enum
