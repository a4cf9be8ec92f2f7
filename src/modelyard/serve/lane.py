"""One release as the front sees it: its queue and the connections to its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import msgspec

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import Body
from modelyard.bundle.open import matches_golden
from modelyard.errors import EngineFailed
from modelyard.serve.batching import Queue, Settled, Work
from modelyard.serve.fallback import Reason
from modelyard.serve.messages import Limits, WorkerState, worker_name
from modelyard.serve.wire import (
    LENGTH,
    MOST_FRAME_BYTES,
    AnswerFrame,
    BatchFrame,
    Part,
    connect_to,
    cut,
    join,
    pack,
    to_answers,
    to_parts,
    unpack_answer,
)

RECONNECT_S = 0.02


class Watcher(Protocol):
    """Who is told of what a lane does."""

    def batch_done(self, release: str, infer_s: float) -> None: ...

    def dropped(self, release: str, rows: int) -> None: ...

    def note(self, event: str, **facts: object) -> None: ...


class Lane:
    """Sends what waits for a release to whichever of its workers is idle."""

    def __init__(self, release: str, body: Body, *, run_folder: Path, workers: int, limits: Limits, watcher: Watcher):
        self.release, self.body, self.limits, self.watcher = release, body, limits, watcher
        self.run_folder = run_folder
        self.queue = Queue(most_rows=limits.queue_rows, batch_rows=limits.batch_rows)
        self.links = [Link(self, worker_name(release, slot)) for slot in range(workers)]
        self.golden_parts = self._golden_parts()
        self._flush_is_due = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Say whether a worker just answered correctly and none of its batches is late."""
        return any(link.is_ready for link in self.links)

    @property
    def trouble(self) -> Reason | None:
        """Say why no worker can answer now; None where one can."""
        if not any(link.is_connected and link.golden is not False for link in self.links):
            return Reason.WORKER_DOWN
        if all(not link.is_connected or link.is_hung for link in self.links):
            return Reason.WORKER_HUNG
        return None

    @property
    def alive(self) -> bool:
        """Say whether the last batch finished in time, or there was none."""
        return not any(link.is_hung for link in self.links)

    @property
    def states(self) -> dict[str, WorkerState]:
        return {link.name: link.state for link in self.links}

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for the workers."""
        self._loop = loop
        self._tasks = [loop.create_task(link.keep(loop)) for link in self.links]

    def close(self) -> None:
        """Let go of the workers; what waits is settled as failed."""
        for task in self._tasks:
            task.cancel()
        for link in self.links:
            link.close()
        self.fail_waiting(Reason.WORKER_DOWN)

    def submit(self, works: list[Work]) -> None:
        """Queue a request's works; they leave at the end of this turn of the loop. Raises Overloaded."""
        self.queue.put(works)
        self.flush_soon()

    def flush_soon(self) -> None:
        if not self._flush_is_due and self._loop is not None:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def now(self) -> float:
        """Return the time that deadlines are on."""
        return time.monotonic()

    def fail_waiting(self, reason: Reason) -> None:
        """Settle everything that waits as failed."""
        for work in self.queue.clear():
            work.settle(work, Settled(reason=reason), 0)

    def split(self, parts: list[Part], rows: int) -> list[tuple[list[Part], int]]:
        """Cut a request into pieces that fit a batch."""
        cap = self.limits.batch_rows
        if rows <= cap:
            return [(parts, rows)]
        return [(cut(parts, start, start + cap), min(cap, rows - start)) for start in range(0, rows, cap)]

    def _flush(self) -> None:
        self._flush_is_due = False
        for link in self.links:
            if link.is_idle and link.golden:
                before = self.queue.rows
                batch = self.queue.take(self.now())
                late = before - self.queue.rows - sum(work.rows for work in batch)
                if late:
                    self.watcher.dropped(self.release, late)
                if not batch:
                    return
                link.send(batch)

    def _golden_parts(self) -> tuple[list[Part], int]:
        rows = self.body.golden.rows
        columns = check_rows(self.body.contract, rows, unknown_category=self.body.manifest.unknown_category)
        return to_parts(self.body.contract.features, columns), len(rows)


class Link(asyncio.Protocol):
    """The connection to one worker; one batch is out at a time."""

    def __init__(self, lane: Lane, name: str) -> None:
        self.lane, self.name = lane, name
        self.golden: bool | None = None
        self._transport: asyncio.Transport | None = None
        self._batch: Sequence[Work] | None = None  # out; empty for the golden requests
        self._sent_at = 0.0
        self._touched = 0.0
        self._count = 0
        self._data = bytearray()
        self._lost: asyncio.Event = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    @property
    def is_idle(self) -> bool:
        return self._transport is not None and self._batch is None

    @property
    def waiting_s(self) -> float:
        return 0.0 if self._batch is None else self.lane.now() - self._sent_at

    @property
    def is_hung(self) -> bool:
        return self.waiting_s > self.lane.limits.progress_timeout_s

    @property
    def is_ready(self) -> bool:
        return self.is_connected and self.golden is True and self.waiting_s < self.lane.limits.progress_timeout_s / 2

    @property
    def state(self) -> WorkerState:
        return WorkerState(connected=self.is_connected, golden=self.golden, waiting_s=self.waiting_s)

    async def keep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, again whenever the worker is gone, and ask the golden requests when it is quiet."""
        while True:
            try:
                sock = connect_to(self.lane.run_folder, self.name, timeout_s=0.2)
                sock.setblocking(False)
                await loop.create_unix_connection(lambda: self, sock=sock)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            while self.is_connected:
                idle_s = self.lane.limits.idle_check_s
                if self.is_idle and (self.golden is None or self.lane.now() - self._touched >= idle_s):
                    self._send_golden()
                try:
                    await asyncio.wait_for(self._lost.wait(), timeout=idle_s / 2)
                except TimeoutError:
                    continue

    def send(self, batch: Sequence[Work]) -> None:
        """Send a batch; its works are settled when the answer comes or the worker is gone."""
        self._send(batch, join([work.parts for work in batch]), sum(work.rows for work in batch))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but does not say so
        self._lost.clear()
        self._data.clear()
        self.golden = None
        self._send_golden()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.golden = None
        batch, self._batch = self._batch, None
        self._lost.set()
        self.lane.watcher.note("worker_lost", worker=self.name, rows=sum(work.rows for work in batch or ()))
        for work in batch or ():
            work.settle(work, Settled(reason=Reason.WORKER_FAILED), 0)
        if self.lane.trouble is not None:
            self.lane.fail_waiting(Reason.WORKER_DOWN)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._data)
            if size > MOST_FRAME_BYTES:
                self._give_up("its frame is too large")
                return
            end = LENGTH.size + size
            if len(self._data) < end:
                return
            frame = bytes(self._data[LENGTH.size : end])
            del self._data[:end]
            self._answered(frame)

    def _send_golden(self) -> None:
        parts, rows = self.lane.golden_parts
        self._send((), parts, rows)

    def _send(self, batch: Sequence[Work], parts: list[Part], rows: int) -> None:
        assert self._transport is not None
        self._count += 1
        self._batch, self._sent_at = batch, self.lane.now()
        self._transport.write(pack(BatchFrame(id=self._count, rows=rows, columns=parts)))

    def _answered(self, data: bytes) -> None:
        batch, self._batch = self._batch, None
        self._touched = self.lane.now()
        try:
            frame = unpack_answer(data)
            wanted = self.lane.golden_parts[1] if not batch else sum(work.rows for work in batch)
            if batch is None or frame.id != self._count or frame.rows != wanted:
                raise EngineFailed("it answered what was not asked")
            settled = settle(frame, self.lane.body)
        except (msgspec.MsgspecError, EngineFailed) as fault:
            self._batch = batch
            self._give_up(str(fault))
            return
        if frame.bad:
            self.lane.watcher.note("bad_rows", worker=self.name, rows=len(frame.bad), why=frame.reason[:200])
        self.lane.flush_soon()
        if batch:
            self.lane.watcher.batch_done(self.lane.release, frame.infer_us / 1e6)
            start = 0
            for work in batch:
                work.settle(work, settled, start)
                start += work.rows
        else:
            self._judge_golden(frame)

    def _judge_golden(self, frame: AnswerFrame) -> None:
        answers = None if frame.bad else to_answers(frame, self.lane.body.manifest.classes)
        before, self.golden = self.golden, answers is not None and matches_golden(answers, self.lane.body.golden)
        if self.golden != before:
            self.lane.watcher.note("golden", worker=self.name, correct=self.golden)

    def _give_up(self, why: str) -> None:
        """Drop a worker that does not speak as it should."""
        self.lane.watcher.note("worker_nonsense", worker=self.name, why=why)
        if self._transport is not None:
            self._transport.abort()


def settle(frame: AnswerFrame, body: Body) -> Settled:
    """Turn an answer into lists; raises EngineFailed where it is misshapen."""
    bad = frozenset(frame.bad)
    if len(bad) >= frame.rows:
        return Settled(reason=Reason.MODEL_ERROR, bad=bad)
    answers = to_answers(frame, body.manifest.classes)
    if answers.values is not None:
        return Settled(values=answers.values.tolist(), bad=bad, reason=frame.reason)
    assert answers.labels is not None and answers.probabilities is not None
    return Settled(
        labels=answers.labels.tolist(), probabilities=answers.probabilities.tolist(), bad=bad, reason=frame.reason
    )
