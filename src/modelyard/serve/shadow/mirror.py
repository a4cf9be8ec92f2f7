"""Copies requests to shadow releases, once their callers have their replies.

Of a request that was answered only a reference is kept, in a queue with a bound. Some milliseconds later, a few at a
time and between the turns in which callers are served, those that are to be copied are handed to the releases' lanes
(`serve.shadow.lane`), which send many in one message. Where the front is busy, and where a shadow release cannot
follow, copies are dropped and counted; callers never wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from modelyard.core.release import Traffic
from modelyard.serve.batching import Settled, Work
from modelyard.serve.call import Call
from modelyard.serve.lane import Lane
from modelyard.serve.messages import WorkerState
from modelyard.serve.request import Code
from modelyard.serve.routing import mirrored
from modelyard.serve.shadow.agreement import tolerance
from modelyard.serve.shadow.copies import Counts
from modelyard.serve.shadow.counting import ShadowCounter
from modelyard.serve.shadow.lane import Note, ShadowLane
from modelyard.serve.told.metrics import Metrics

PAUSE_S = 0.005  # after an answer, until what was answered meanwhile is copied
AT_ONCE = 4  # requests that are copied in one turn of the event loop
MOST_KEPT = 1024  # requests that wait to be copied
MOST_KEPT_BYTES = 8 * 1024 * 1024  # of their bodies
_COPIED = frozenset((Code.OK, Code.FAILED, Code.NOT_NOW, Code.TOO_LATE))

Kept = tuple[Call, Settled | None, int]  # a request, what the stable release answered it, and from which row on


class Mirror:
    """Of one thread, the event loop's."""

    def __init__(self, metrics: Metrics, note: Note, counts_of: Callable[[str], Counts | None]) -> None:
        self.lanes: dict[str, ShadowLane] = {}
        self.counts_of = counts_of  # what counts for a rollout, by release; None while nothing does
        self._metrics, self._note = metrics, note
        self._traffic: Traffic | None = None
        self._stable = ""  # the release that shadows are compared with
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        self._is_due = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for workers."""
        self._loop = loop
        for lane in self.lanes.values():
            lane.start(loop)

    def follow(self, traffic: Traffic, lanes: Mapping[str, Lane]) -> None:
        """Copy by a traffic table from now on; a shadow release without a body here gets nothing.

        What was answered by the table before, and is not copied yet, is dropped.
        """
        self._drop_kept()
        self._traffic, self._stable = traffic, stable_of(traffic)
        within = tolerance(lanes[self._stable].body.golden.values) if self._stable in lanes else 0.0
        wanted = {release for release, share in traffic.shadow.items() if share > 0 and release in lanes}
        for release in [one for one in self.lanes if one not in wanted or self.lanes[one].lane is not lanes[one]]:
            self.lanes.pop(release).close()
        for release in wanted:
            counter = ShadowCounter(self._metrics, release, within)
            if release in self.lanes:
                self.lanes[release].follow(counter, self.counts_of(release))
                continue
            made = self.lanes[release] = ShadowLane(lanes[release], counter, self.counts_of(release), self._note)
            if self._loop is not None:
                made.start(self._loop)
        for lane in lanes.values():
            lane.mirror = self if self.lanes else None

    def forget(self, release: str) -> None:
        """Let go of a release that left."""
        lane = self.lanes.pop(release, None)
        if lane is not None:
            lane.close()

    def close(self) -> None:
        """Let go of all workers; what is not answered yet is dropped."""
        self._drop_kept()
        for lane in self.lanes.values():
            lane.close()
        self.lanes.clear()

    def states(self, known: Mapping[str, WorkerState]) -> dict[str, WorkerState]:
        """Return what is seen of workers, with what their shadow links see: the longest wait, the worst answer."""
        states = dict(known)
        for lane in self.lanes.values():
            for name, seen in lane.states.items():
                other = states.get(name)
                if other is not None and other.connected and seen.connected:
                    golden = False if seen.golden is False else other.golden
                    waiting_s = max(other.waiting_s, seen.waiting_s)
                    states[name] = WorkerState(connected=True, golden=golden, waiting_s=waiting_s)
        return states

    def answered(self, batch: Sequence[Work], settled: Settled) -> None:
        """Take the requests of a batch whose replies have left; pieces and other ends come by `ended`."""
        try:
            start = 0
            for work in batch:
                if isinstance(work, Call) and work.ended:
                    self._keep(work, settled if work.home.release == self._stable else None, start)
                start += work.rows
        except Exception as fault:  # noqa: BLE001 - the worker's next batch must not wait for this
            self._fault(fault)

    def ended(self, call: Call, code: Code, degraded: str | None) -> None:
        """Take a request that was answered in pieces or by a fallback, or that failed; none that found no room."""
        if code not in _COPIED or (code is Code.NOT_NOW and call.reason is None):
            return
        is_stable = code is Code.OK and degraded is None and call.home.release == self._stable
        try:
            self._keep(call, call.settled if is_stable else None, 0)
        except Exception as fault:  # noqa: BLE001 - the caller's reply may still be to come
            self._fault(fault)

    # ours

    def _keep(self, call: Call, answer: Settled | None, start: int) -> None:
        met = call.request.met
        if self._loop is None or (met is not None and not met.drawn):
            return
        if len(self._kept) >= MOST_KEPT or self._bytes + call.size_bytes > MOST_KEPT_BYTES:
            self._drop(call)
            return
        self._kept.append((call, answer, start))
        self._bytes += call.size_bytes
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(PAUSE_S, self._turn)

    def _turn(self) -> None:
        """Copy a few requests; the rest in turns to come, after what callers sent meanwhile."""
        self._copy(AT_ONCE)
        if self._kept and self._loop is not None:
            self._loop.call_soon(self._turn)
            return
        self._is_due = False
        for lane in self.lanes.values():
            try:
                lane.send()
            except Exception as fault:  # noqa: BLE001 - as above
                self._fault(fault)

    def _copy(self, most: int) -> None:
        kept = self._kept
        for _ in range(min(most, len(kept))):
            call, answer, start = kept.popleft()
            self._bytes -= call.size_bytes
            try:
                for lane in self._wanted_by(call):
                    lane.take(call, answer, start)
            except Exception as fault:  # noqa: BLE001 - its caller is served; the next copies wait
                self._fault(fault)

    def _fault(self, fault: Exception) -> None:
        self._note("shadow_fault", why=f"{type(fault).__name__}: {fault}"[:500])

    def _drop_kept(self) -> None:
        for call, _, _ in self._kept:
            self._drop(call)
        self._kept.clear()
        self._bytes = 0

    def _drop(self, call: Call) -> None:
        for lane in self._wanted_by(call):
            lane.drop(call)

    def _wanted_by(self, call: Call) -> list[ShadowLane]:
        """Return the lanes of the releases that get a copy."""
        assert self._traffic is not None
        names = mirrored(self._traffic, call.request.id)
        return [self.lanes[one] for one in names if one in self.lanes and one != call.home.release]


def stable_of(traffic: Traffic) -> str:
    """Return the release that others are compared with: the one before, while it has a share, else the largest.

    >>> stable_of(Traffic(epoch=1, shares={"income@1": 0.2, "income@2": 0.8}, previous="income@1"))
    'income@1'
    """
    if traffic.previous is not None and traffic.shares.get(traffic.previous, 0.0) > 0:
        return traffic.previous
    return max(traffic.shares, key=lambda release: traffic.shares[release], default="")
