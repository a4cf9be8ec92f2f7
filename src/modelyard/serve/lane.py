"""One release as the front sees it: its queue, the links to its workers, and what becomes of rows that got lost."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import Body
from modelyard.bundle.intake import Packed
from modelyard.errors import BundleFormat
from modelyard.serve.batching import Settled, Work
from modelyard.serve.guard.breaker import Breaker, BreakerPolicy, State
from modelyard.serve.guard.buckets import Bucket, bucket_of
from modelyard.serve.guard.fallback import Reason, Refuse, Step, order
from modelyard.serve.guard.priority import PriorityQueues, Shed
from modelyard.serve.link import Link
from modelyard.serve.messages import Limits, WorkerState, quarantine_name, worker_name
from modelyard.serve.model import Model
from modelyard.serve.told.metrics import Finish
from modelyard.serve.wire import LATE, AnswerFrame

if TYPE_CHECKING:  # it counts calls, which know their lane
    from modelyard.serve.told.arm import Arm

EAGER = 16  # requests of one turn of the loop, after which the first leave: the worker runs while the rest is read
LOOK_S = 0.025  # between looks at what may hang
HOLD_S = 0.25  # rows wait this long for a worker that was lost; its replacement is mostly there by then
QUARANTINE_S = 5.0  # the link to the quarantine worker is kept this long after the last suspect


class Watcher(Protocol):
    """Who is told of what a lane does."""

    def answered(self, lane: Lane, batch: Sequence[Work], frame: AnswerFrame, took_s: float) -> None: ...

    def encoded(self, lane: Lane, each_s: float) -> None: ...

    def blame(self, batch: Sequence[Work]) -> None: ...

    def dropped(self, release: str, rows: int, reason: str) -> None: ...

    def breaker_moved(self, release: str, before: State, after: State) -> None: ...

    def suspects_changed(self) -> None: ...

    def note(self, event: str, **facts: object) -> None: ...


class Mirroring(Protocol):
    """Who copies requests, once they have their replies."""

    def answered(self, batch: Sequence[Work], settled: Settled) -> None: ...


class Lane:
    """Sends what waits for a release to whichever of its workers is idle."""

    def __init__(self, release: str, body: Body, *, run_folder: Path, workers: int, limits: Limits, watcher: Watcher):
        self.release, self.body, self.limits, self.watcher = release, body, limits, watcher
        self.model = Model(release, body, limits)
        self.run_folder = run_folder
        varies = any(-1 in column.shape for column in self.model.intake.tensors)
        self.queue: PriorityQueues[Work] = PriorityQueues(limits, _bucket if varies else None)
        self.links = [self._link(worker_name(release, slot)) for slot in range(workers)]
        self.quarantine = self._link(quarantine_name(release))
        self.suspects: deque[Work] = deque()
        self.golden = self._golden()
        self.order: tuple[Step, ...] = ()  # of answers, where no worker can give one
        self.set_previous(None)
        self.trouble: Reason | None = Reason.WORKER_DOWN  # why no worker can answer now; None where one can
        self.finish: dict[str, Finish] = {}  # what counts good answers, by door
        self.arm: Arm | None = None  # what counts for the verdicts of a rollout, while there is one
        self.mirror: Mirroring | None = None  # while there are releases that get copies
        self.cap = limits.batch_rows
        policy = BreakerPolicy(
            window_s=limits.breaker_window_s,
            least=limits.breaker_least,
            share=limits.breaker_share,
            open_s=limits.breaker_open_s,
        )
        self.breaker = Breaker(policy, self.now(), self._breaker_moved)
        self._delay_s = limits.max_delay_ms / 1000
        self._company: asyncio.TimerHandle | None = None  # ends the wait of those that wait for others
        self._down_since: float | None = None
        self.is_open = True  # its workers are kept in touch with
        self._flush_is_due = False
        self._came = 0  # requests in this turn of the loop
        self._last_suspect = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._quarantine_task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Say whether a worker just answered correctly and none of its batches is late."""
        return any(link.is_ready for link in self.links)

    @property
    def alive(self) -> bool:
        """Say whether the last batch finished in time, or there was none."""
        return not any(link.hung for link in self.links)

    @property
    def states(self) -> dict[str, WorkerState]:
        links = [*self.links, self.quarantine] if self._quarantine_task is not None else self.links
        return {link.name: link.state for link in links}

    @property
    def has_suspects(self) -> bool:
        """Say whether a quarantine worker is wanted."""
        return bool(self.suspects) or (self._quarantine_task is not None and not self.quarantine.is_idle)

    def set_previous(self, release: str | None) -> None:
        """Take in which release the fallback `previous` means."""
        try:
            self.order = order(self.body, release, own=self.release)
        except BundleFormat as fault:  # trying it said so when the service started
            self.order = (Refuse(),)
            self.note("fallback_unusable", why=str(fault)[:500])

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for the workers."""
        self._loop = loop
        self._down_since = self.now()
        self._tasks = [loop.create_task(link.keep(loop)) for link in self.links]
        self._tasks.append(loop.create_task(self._look()))

    def close(self) -> None:
        """Let go of the workers; what waits is settled as failed."""
        self.is_open = False
        self._drop_quarantine()
        for task in self._tasks:
            task.cancel()
        for link in self.links:
            link.close()
        self.trouble = Reason.WORKER_DOWN
        self._fail_waiting(Reason.WORKER_DOWN)

    def submit(self, works: Sequence[Work]) -> Shed | None:
        """Queue a request's works; they leave at the end of this turn of the loop. Say why there is no room."""
        shed = self.queue.put(works)
        if shed is None and not self._flush_is_due and self._loop is not None:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        return shed

    def submit_one(self, work: Work) -> Shed | None:
        """Do what `submit` does, for a request that is one work."""
        shed = self.queue.put_one(work)
        if shed is None:
            if not self._flush_is_due:
                if self._loop is not None:
                    self._flush_is_due = True
                    self._came = 1
                    self._loop.call_soon(self._flush)
            else:
                self._came += 1
                if self._came == EAGER and not self._delay_s:
                    self._send()
        return shed

    def now(self) -> float:
        """Return the time that deadlines are on."""
        return time.monotonic()

    def suspect(self, work: Work) -> None:
        """Try rows again that a worker was lost with: alone, in a worker of their own."""
        self.suspects.append(work)
        self._last_suspect = self.now()
        if self._quarantine_task is None and self._loop is not None:
            self._quarantine_task = self._loop.create_task(self.quarantine.keep(self._loop))
        self.watcher.suspects_changed()
        self._try_suspect()

    # what the links call

    def idle(self, link: Link) -> None:
        if link is self.quarantine:
            self._try_suspect()
        else:  # what came while it was busy has had its company
            self._send()

    def changed(self, link: Link) -> None:
        self._judge()

    def answered(self, link: Link, batch: Sequence[Work], settled: Settled, frame: AnswerFrame) -> None:
        took_s = self.now() - link.sent_at
        if frame.reason == LATE:
            self.watcher.dropped(self.release, len(frame.bad), "late")
        elif len(frame.bad) > len(frame.unread):
            rows = len(frame.bad) - len(frame.unread)
            self.note("bad_rows", worker=link.name, rows=rows, why=frame.reason[:200])
        self.watcher.answered(self, batch, frame, took_s)
        if self.arm is not None:
            self.arm.began(batch, frame)
        start, began = 0, self.now()
        for work in batch:
            try:
                work.settle(settled, start)
            except Exception as fault:  # noqa: BLE001 - the others of the batch are answered all the same
                work.broke(fault)
            start += work.rows
        each_s = (self.now() - began) / len(batch)
        if self.arm is not None:
            self.arm.answered(batch, settled)
        self.watcher.encoded(self, each_s)
        if self.mirror is not None:
            self.mirror.answered(batch, settled)

    def lost(self, link: Link, batch: Sequence[Work], reason: Reason) -> None:
        self._judge()
        self.watcher.blame(batch)
        _lose(batch, reason)

    def note(self, event: str, **facts: object) -> None:
        self.watcher.note(event, release=self.release, **facts)

    # ours

    def _link(self, name: str) -> Link:
        limits = self.limits
        return Link(self, name, progress_timeout_s=limits.progress_timeout_s, idle_check_s=limits.idle_check_s)

    def _flush(self) -> None:
        self._flush_is_due = False
        if not (self._delay_s and self._waits_for_company()):
            self._send()

    def _send(self) -> None:
        """Let what waits leave, as far as workers are idle."""
        queue, links = self.queue, self.links
        idle = 1 if len(links) == 1 else sum([link.takes for link in links])
        for link in links:
            if link.takes:
                before = queue.rows
                batch = queue.take(self.now(), idle)
                idle -= 1
                if not batch and not before:
                    return
                rows = link.send(batch) if batch else 0
                if before - queue.rows > rows:
                    self.watcher.dropped(self.release, before - queue.rows - rows, "late")

    def _waits_for_company(self) -> bool:
        """Say whether what waits stays for a moment, for a larger batch; what waits alone goes at once."""
        queue, waiting = self.queue, self._company
        if len(queue) < 2 or queue.rows >= self.cap or not any(link.takes for link in self.links):
            if waiting is not None:
                waiting.cancel()
                self._company = None
            return False
        if waiting is None:
            assert self._loop is not None
            self._company = self._loop.call_later(self._delay_s, self._company_came)
        return True

    def _company_came(self) -> None:
        self._company = None
        self._send()

    def _try_suspect(self) -> None:
        while self.suspects and self.quarantine.takes:
            work = self.suspects.popleft()
            if not work.dead and work.deadline > self.now():
                self.quarantine.send([work])

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.sleep(0)  # where this loop stood still itself, what workers said meanwhile is read first
            for link in self.links:
                link.look()
            self._judge()
            if self._quarantine_task is not None:
                self.quarantine.look()
                while self.suspects and (self.suspects[0].dead or self.suspects[0].deadline <= self.now()):
                    self.suspects.popleft()
                is_over = not self.suspects and not self.quarantine.waiting_s
                if is_over and self.now() - self._last_suspect > QUARANTINE_S:
                    self._drop_quarantine()

    def _judge(self) -> None:
        """Say what trouble there is. Rows wait a little for a worker that was just lost."""
        if any(link.is_usable for link in self.links):
            self.trouble = self._down_since = None
            return
        now = self.now()
        if self._down_since is None:
            self._down_since = now
        if self.trouble is None and now - self._down_since >= HOLD_S:
            hung = any(link.hung for link in self.links)
            self.trouble = Reason.WORKER_HUNG if hung else Reason.WORKER_DOWN
            self._fail_waiting(self.trouble)

    def _fail_waiting(self, reason: Reason) -> None:
        """Let go of everything that waits."""
        _lose(self.queue.clear(), reason)

    def _drop_quarantine(self) -> None:
        if self._quarantine_task is not None:
            self._quarantine_task.cancel()
            self._quarantine_task = None
            self.quarantine.close()
            self.watcher.suspects_changed()

    def _breaker_moved(self, before: State, after: State, when: float) -> None:
        self.watcher.breaker_moved(self.release, before, after)

    def _golden(self) -> tuple[Packed, int]:
        rows = self.body.golden.rows
        columns = check_rows(self.body.contract, rows, unknown_category=self.model.unknown_category)
        return self.model.intake.pack(columns), len(rows)


def _bucket(work: Work) -> Bucket:
    return bucket_of(work.packed.shapes)


def _lose(works: Sequence[Work], reason: Reason) -> None:
    """Tell works that no worker has them any more."""
    for work in works:
        try:
            work.lost(reason)
        except Exception as fault:  # noqa: BLE001 - one that fails must not keep the others from being answered
            work.broke(fault)
