"""The next rate to try: doubling, then halving the gap, then confirming. A pure rule over what was met so far."""

from __future__ import annotations

from dataclasses import dataclass

PRECISION = 0.05  # how far apart the highest rate that is met and the lowest that is not may stay
CONFIRMATIONS = 2
MOST_STEPS = 40
LEAST_RATE = 0.5
BACK_OFF = 0.9  # of a rate that met once and did not when confirmed


@dataclass(frozen=True, kw_only=True)
class Try:
    """A rate to load with, and why."""

    phase: str  # "double" | "halve" | "bisect" | "confirm"
    rate: float


class Search:
    """Finds the highest rate that is met, between `LEAST_RATE` and `most_rate`. Ask `next`, then tell."""

    def __init__(self, first: float, *, most_rate: float) -> None:
        self.low: float | None = None  # the highest that was met and not refuted since
        self.high: float | None = None  # the lowest that was not met
        self.confirmed = 0  # times that `low` was met again
        self.steps = 0
        self._most = most_rate
        self._first = min(max(first, LEAST_RATE), most_rate)

    @property
    def is_confirmed(self) -> bool:
        return self.low is not None and self.confirmed >= CONFIRMATIONS

    def next(self) -> Try | None:
        """Return what to try next; None where it is found, or cannot be."""
        if self.is_confirmed or self.steps >= MOST_STEPS:
            return None
        if self.low is None:
            if self.high is None:
                return Try(phase="double", rate=self._first)
            if self.high <= LEAST_RATE:
                return None
            factor = BACK_OFF if self._refuted else 0.5
            return Try(phase="halve", rate=max(LEAST_RATE, factor * self.high))
        if self.high is None and self.low < self._most:
            return Try(phase="double", rate=min(self._most, 2 * self.low))
        if self.high is not None and self.high > (1 + PRECISION) * self.low and not self.confirmed:
            return Try(phase="bisect", rate=rounded((self.low * self.high) ** 0.5, self.low, self.high))
        return Try(phase="confirm", rate=self.low)

    def tell(self, tried: Try, met: bool) -> None:
        """Take what came of a try."""
        self.steps += 1
        if met:
            self.confirmed = self.confirmed + 1 if tried.phase == "confirm" else 0
            self.low = tried.rate
            return
        self._refuted = tried.phase == "confirm"
        self.high = tried.rate
        if tried.phase == "confirm":
            self.low, self.confirmed = None, 0

    _refuted = False


def rounded(rate: float, low: float, high: float) -> float:
    """Return a rate in three digits where those lie between the two, else as it is.

    >>> rounded(1234.5, 1000, 2000)
    1230.0
    """
    short = float(f"{rate:.3g}")
    return short if low < short < high else rate
