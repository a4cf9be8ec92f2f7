"""One shadow release as the front sees it: its own links to its workers, a short queue, and its own breaker.

Nothing here touches what callers wait for. Whoever answers callers has a lane of its own (`serve.lane`), also for
this very release: that one looks after golden requests, readiness and what the supervisor is told of the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from modelyard.errors import ContractBroken
from modelyard.serve.batching import Settled, Work
from modelyard.serve.call import Call
from modelyard.serve.doors import Malformed, TooLarge
from modelyard.serve.guard.breaker import Breaker
from modelyard.serve.guard.buckets import bucket_of
from modelyard.serve.guard.fallback import Reason
from modelyard.serve.lane import Lane
from modelyard.serve.link import Link
from modelyard.serve.messages import WorkerState
from modelyard.serve.shadow.agreement import agreeing, reads_alike
from modelyard.serve.shadow.copies import Copy, Counts, Fate, Mirrored, Part
from modelyard.serve.shadow.counting import ShadowCounter
from modelyard.serve.wire import LATE, AnswerFrame

QUEUED_BATCHES = 2  # of the cap, in rows: what waits for a slow shadow beyond that is dropped
MOST_PARTS = 16  # of one batch: to read an answer keeps the event loop for some twentieth of a millisecond
LOOK_S = 0.1  # between looks at what hangs, or waited for too long
RECONNECT_S = 0.1  # its workers may be gone for long, and nobody waits for them
TOLD_S = 10.0  # between lines that say why copies fail


class Note(Protocol):
    """Logs what happened."""

    def __call__(self, event: str, **facts: object) -> None: ...


class ShadowLane:
    """Asks a release what it would have answered. Of one thread, the event loop's."""

    def __init__(self, lane: Lane, counter: ShadowCounter, counts: Counts | None, note: Note) -> None:
        self.lane, self.release, self.counts = lane, lane.release, counts
        self.model, self.golden, self.run_folder = lane.model, lane.golden, lane.run_folder
        self._counter, self._note = counter, note
        limits = lane.limits
        self._links = [
            Link(
                self,
                link.name,
                progress_timeout_s=limits.progress_timeout_s,
                idle_check_s=limits.idle_check_s,
                reconnect_s=RECONNECT_S,
            )
            for link in lane.links
        ]
        self.breaker = Breaker(lane.breaker.policy, self.now())
        self._queue: deque[Part] = deque()
        self._rows = self._bytes = 0  # of what is queued
        self._out: dict[str, Sequence[Part]] = {}  # by the worker that has them
        self._cap, self._deadline_s = limits.batch_rows, limits.deadline_ms / 1000
        self._most_bytes = limits.queue_bytes // 4
        self._varies = any(-1 in column.shape for column in self.model.intake.tensors)
        self._alike: dict[str, bool] = {}  # releases whose packed rows are read here as they are
        self._tasks: list[asyncio.Task[None]] = []
        self._told_at = -TOLD_S

    @property
    def states(self) -> dict[str, WorkerState]:
        return {link.name: link.state for link in self._links}

    @property
    def waiting(self) -> int:
        """Return the rows that wait or are out."""
        return self._rows + sum(part.rows for parts in self._out.values() for part in parts)

    def follow(self, counter: ShadowCounter, counts: Counts | None) -> None:
        """Count what is still to come on these."""
        self._counter, self.counts = counter, counts

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for the workers."""
        self._tasks = [loop.create_task(link.keep(loop)) for link in self._links]
        self._tasks.append(loop.create_task(self._look()))

    def close(self) -> None:
        """Let go of the workers; copies that wait or are out are dropped."""
        for task in self._tasks:
            task.cancel()
        for link in self._links:
            link.close()
        parts = [*self._queue, *(part for parts in self._out.values() for part in parts)]
        self._queue.clear()
        self._out.clear()
        self._rows = self._bytes = 0
        self._land([(part, Fate.DROPPED, None, 0) for part in parts])

    def take(self, call: Call, answer: Settled | None, start: int) -> None:
        """Queue a copy of a request that has its reply; `answer` is the stable release's, where it gave one."""
        now = self.now()
        if not self.breaker.allow(now) or not self._has_room(call.rows, call.size_bytes):
            self.drop(call)
            return
        self._counter.copied(call.rows)
        asked_of = call.lane.model
        alike = self._alike.get(asked_of.release)
        if alike is None:
            alike = self._alike[asked_of.release] = reads_alike(asked_of, self.model)
        packed = call.packed
        if not alike:
            try:
                packed = call.door.read(call.request, self.model).packed
            except (Malformed, TooLarge, ContractBroken):
                self.breaker.passed(now)  # its contract answered
                self._tell([_unsent(call, Fate.REFUSED)])
                return
        copy = Copy(call.request, call.rows, packed, answer, start)
        for part in copy.parts(self.model.intake, self._cap, call.size_bytes, now + self._deadline_s):
            self._queue.append(part)
            self._rows += part.rows
            self._bytes += part.size_bytes

    def drop(self, call: Call) -> None:
        """Count a copy that finds no room."""
        self._counter.copied(call.rows)
        self._tell([_unsent(call, Fate.DROPPED)])

    def send(self) -> None:
        """Let what waits leave, as far as workers are idle."""
        for link in self._links:
            if link.takes and self._queue:
                parts = self._next(self.now())
                if parts:
                    self._out[link.name] = parts
                    link.send(parts)

    # what the links call

    def now(self) -> float:
        """Return the time that deadlines are on."""
        return time.monotonic()

    def idle(self, link: Link) -> None:
        self.send()

    def changed(self, link: Link) -> None:
        """Do nothing: whether the workers answer is for the release's own lane to say."""

    def answered(self, link: Link, batch: Sequence[Work], settled: Settled, frame: AnswerFrame) -> None:
        parts = self._out.pop(link.name, ())
        now, start, landed, good = self.now(), 0, [], 0
        each_s = frame.infer_us / 1e6 / max(1, frame.rows)
        if frame.not_finite:
            self._counter.not_finite(frame.not_finite)
        for part in parts:
            stop = start + part.rows
            if frame.reason == LATE or now > part.deadline:
                fate = Fate.FAILED if part.retried else Fate.LATE
            elif settled.failed or (settled.bad and not settled.bad.isdisjoint(range(start, stop))):
                fate = Fate.FAILED
            else:
                fate, good = Fate.ANSWERED, good + 1
            part.copy.infer_s += each_s * part.rows
            landed.append((part, fate, settled, start))
            start = stop
        if good:
            self.breaker.passed(now, link.sent_at, by=good)
        if len(parts) > good:
            self.breaker.failed(now, link.sent_at, by=len(parts) - good)
            self._say_why(frame, now)
        self._land(landed, now)

    def lost(self, link: Link, batch: Sequence[Work], reason: Reason) -> None:
        """Have what a worker was lost with tried once more, each part alone, by the next one."""
        parts = self._out.pop(link.name, ())
        if parts:
            self.breaker.failed(self.now(), link.sent_at, by=len(parts))
        again = [part for part in parts if not part.retried]
        self._land([(part, Fate.FAILED, None, 0) for part in parts if part.retried])
        for part in reversed(again):
            part.retried = True
            self._queue.appendleft(part)
            self._rows += part.rows
            self._bytes += part.size_bytes

    def note(self, event: str, **facts: object) -> None:
        """Log what concerns this connection; what befalls the worker itself its own lane says."""
        if event in ("worker_nonsense", "arena_full"):
            self._note(f"shadow_{event}", release=self.release, **facts)

    # ours

    def _has_room(self, rows: int, size_bytes: int) -> bool:
        """Say whether a copy may wait; one above the bound may, where nothing else does."""
        if not self._queue:
            return True
        return self._rows + rows <= QUEUED_BATCHES * self._cap and self._bytes + size_bytes <= self._most_bytes

    def _next(self, now: float) -> list[Part]:
        """Return the next batch: in order, alike in shape, none late; what was lost once goes alone."""
        self._expire(now)
        queue, parts, rows = self._queue, list[Part](), 0
        while queue and len(parts) < MOST_PARTS:
            part = queue[0]
            if parts and (part.retried or rows + part.rows > self._cap or not self._goes_with(part, parts[0])):
                break
            queue.popleft()
            self._rows -= part.rows
            self._bytes -= part.size_bytes
            rows += part.rows
            if not part.copy.sent:
                part.copy.sent = now
            parts.append(part)
            if part.retried:
                break
        return parts

    def _goes_with(self, part: Part, first: Part) -> bool:
        return not self._varies or bucket_of(part.packed.shapes) == bucket_of(first.packed.shapes)

    def _expire(self, now: float) -> None:
        """Let go of what waited for too long."""
        queue, gone = self._queue, []
        while queue and queue[0].deadline <= now:
            part = queue.popleft()
            self._rows -= part.rows
            self._bytes -= part.size_bytes
            gone.append((part, Fate.FAILED if part.retried else Fate.DROPPED, None, 0))
        if gone:
            self._land(gone)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for link in self._links:
                link.look()
            self._expire(self.now())
            self.send()

    def _land(self, parts: Sequence[tuple[Part, Fate, Settled | None, int]], now: float = 0.0) -> None:
        """Count the copies that are whole with these parts."""
        done = []
        for part, fate, settled, start in parts:
            copy = part.copy
            whole = copy.land(part, fate, settled, start)
            if whole is None:
                continue
            compared = agreed = 0
            answer, first = whole
            if answer is not None and copy.answer is not None:
                compared = copy.rows
                agreed = agreeing(answer, first, copy.answer, copy.start, compared, self._counter.within)
            seconds = now - copy.sent if answer is not None else 0.0
            done.append(
                Mirrored(
                    copy.request,
                    copy.rows,
                    copy.packed,
                    copy.fate,
                    answer,
                    first,
                    seconds,
                    compared,
                    agreed,
                    copy.infer_s,
                )
            )
        if done:
            self._tell(done)

    def _tell(self, copies: Sequence[Mirrored]) -> None:
        self._counter.count(copies)
        if self.counts is not None:
            self.counts.mirrored(copies)

    def _say_why(self, frame: AnswerFrame, now: float) -> None:
        """Log now and then why copies fail."""
        if now - self._told_at >= TOLD_S:
            self._told_at = now
            self._note("shadow_rows", release=self.release, rows=len(frame.bad), why=(frame.reason or LATE)[:200])


def _unsent(call: Call, fate: Fate) -> Mirrored:
    return Mirrored(call.request, call.rows, call.packed, fate, None, 0, 0.0, 0, 0, 0.0)
