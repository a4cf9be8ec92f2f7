"""What became of each request: a few bytes each, none left out."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from modelyard.core.arrays import Array, Floats
from modelyard.core.load import Failures

MOST_REQUESTS = 30_000_000  # of one measurement; 21 bytes each


class Outcome(IntEnum):
    """What became of a request."""

    ANSWERED = 0
    DEGRADED = 1
    REFUSED = 2
    CLOSED = 3
    STATUS = 4
    TIMEOUT = 5
    LATE = 6
    MALFORMED = 7


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The measured requests, in the order in which they ended; all arrays are (n,)."""

    due: Floats  # seconds from the start of the measured time
    latency: Floats  # seconds from due to the whole answer, or to the failure
    lag: Floats  # seconds from due to taken up by the generator
    wait: Floats  # seconds from taken up to sent
    outcome: Array  # `Outcome`

    @property
    def answered(self) -> Array:
        """Return which were answered, degraded or not."""
        return self.outcome <= Outcome.DEGRADED


class Tally:
    """Counts requests. Those due before `begin` are the warm-up's."""

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.carried = array("d")  # when those of the warm-up were answered that were still open at `begin`
        self.sent = 0  # requests that were written to a connection, of all phases
        self.warmed_up = 0
        self.by_status: dict[str, int] = {}
        self._due, self._outcome = array("d"), array("B")
        self._latency, self._lag, self._wait = array("f"), array("f"), array("f")

    def __len__(self) -> int:
        return len(self._outcome)

    def add(self, due: float, taken: float, sent: float, done: float, outcome: int) -> None:
        """Count a request; the moments are of `time.monotonic()`."""
        if due < self.begin:
            self.warmed_up += 1
            if done >= self.begin and outcome <= Outcome.DEGRADED:
                self.carried.append(done - self.begin)
            return
        self._due.append(due - self.begin)
        self._latency.append(done - due)
        self._lag.append(taken - due)
        self._wait.append(sent - taken)
        self._outcome.append(outcome)

    def status(self, due: float, status: int) -> None:
        """Count the status of a request that failed by it."""
        if due >= self.begin:
            name = str(status)
            self.by_status[name] = self.by_status.get(name, 0) + 1

    def answered_within(self, seconds: float) -> Floats:
        """Return when answers came, in seconds from `begin`, until `seconds` were over; the warm-up's among them."""
        samples = self.samples()
        moments = np.concatenate([(samples.due + samples.latency)[samples.answered], np.array(self.carried)])
        within: Floats = moments[moments <= seconds]
        return within

    def samples(self) -> Samples:
        """Return what was counted so far."""
        latency, lag, wait = (
            np.frombuffer(column, dtype=np.float32).astype(np.float64)
            for column in (self._latency, self._lag, self._wait)
        )
        return Samples(
            due=np.array(self._due, dtype=np.float64),
            latency=latency,
            lag=lag,
            wait=wait,
            outcome=np.array(self._outcome, dtype=np.uint8),
        )

    def failures(self) -> Failures:
        """Return the failures by kind."""
        counts = np.bincount(np.array(self._outcome, dtype=np.uint8), minlength=len(Outcome)).tolist()
        named = {outcome.name.lower(): counts[outcome] for outcome in Outcome if outcome > Outcome.DEGRADED}
        return Failures(**named, by_status=dict(sorted(self.by_status.items())))
