"""The connection of a front to one worker; one batch is out at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from modelyard.bundle.intake import Packed, join, join_texts
from modelyard.bundle.open import matches_golden
from modelyard.errors import EngineFailed
from modelyard.serve.arena import LEAST_BYTES, Arena
from modelyard.serve.batching import Settled, Work
from modelyard.serve.guard.fallback import Reason
from modelyard.serve.messages import WorkerState
from modelyard.serve.model import Model
from modelyard.serve.pause import pause
from modelyard.serve.wire import (
    LENGTH,
    MOST_FRAME_BYTES,
    AnswerFrame,
    BatchFrame,
    connect_to,
    offer,
    pack,
    to_answers,
    unpack_answer,
)

RECONNECT_S = 0.01
CONNECT_TIMEOUT_S = 0.2


class Owner(Protocol):
    """The lane, as its links see it."""

    model: Model
    golden: tuple[Packed, int]
    run_folder: Any

    def now(self) -> float: ...

    def idle(self, link: Link) -> None:
        """The worker can take a batch."""
        ...

    def changed(self, link: Link) -> None:
        """The worker came, went, or answered golden requests otherwise than before."""
        ...

    def answered(self, link: Link, batch: Sequence[Work], settled: Settled, frame: AnswerFrame) -> None: ...

    def lost(self, link: Link, batch: Sequence[Work], reason: Reason) -> None: ...

    def note(self, event: str, **facts: object) -> None: ...


_NOTHING: list[int] = []


class Link(asyncio.Protocol):
    """The connection to one worker."""

    def __init__(
        self,
        owner: Owner,
        name: str,
        *,
        progress_timeout_s: float,
        idle_check_s: float,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self.owner, self.name, self._reconnect_s = owner, name, reconnect_s
        self.golden: bool | None = None
        self.hung = False  # it has had a batch for too long, which was given up
        self._is_missed = False  # its loss was noted, and it has answered nothing since
        self._is_strange = False  # it spoke nonsense: nothing more is sent or read; the supervisor ends it
        self._progress_timeout_s, self._idle_check_s = progress_timeout_s, idle_check_s
        self._transport: asyncio.Transport | None = None
        self._batch: Sequence[Work] | None = None  # out; empty for the golden requests
        self._rows = 0  # of that batch
        self._is_lent = False  # it lies in shared memory
        self.sent_at = 0.0
        self._touched = 0.0
        self._count = 0
        self._data = bytearray()
        self._arena: Arena | None = None  # of this connection
        self._lost: asyncio.Event = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    @property
    def is_idle(self) -> bool:
        return self._batch is None and self._transport is not None

    @property
    def takes(self) -> bool:
        """Say whether a batch can be sent now."""
        return self._batch is None and self.golden is True

    @property
    def is_usable(self) -> bool:
        """Say whether it answers, or is about to."""
        return self._transport is not None and self.golden is not False and not self.hung

    @property
    def is_ready(self) -> bool:
        """Say whether it just answered correctly and is not late."""
        return self.is_connected and self.golden is True and self.waiting_s < self._progress_timeout_s / 2

    @property
    def waiting_s(self) -> float:
        return 0.0 if self._batch is None else self.owner.now() - self.sent_at

    @property
    def state(self) -> WorkerState:
        return WorkerState(connected=self.is_connected, golden=self.golden, waiting_s=self.waiting_s)

    async def keep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, again whenever the worker is gone, and ask the golden requests when it is quiet."""
        while True:
            try:
                await self._connect(loop)
            except OSError:
                await asyncio.sleep(self._reconnect_s)
                continue
            while self.is_connected:
                if self.is_idle and (self.golden is None or self.owner.now() - self._touched >= self._idle_check_s):
                    self._send_golden()
                await pause(self._lost, self._idle_check_s / 2)

    def send(self, batch: Sequence[Work]) -> int:
        """Send a batch; its works are settled when the answer comes, or lost when the worker is. Return its rows."""
        now = self.owner.now()
        deadline, rows = 0.0, 0
        traces: list[str] = []
        has_texts = False
        for work in batch:
            work.sent = now
            if work.packed.texts:
                has_texts = True
            rows += work.rows
            if work.deadline > deadline:
                deadline = work.deadline
            if work.traceparent:
                traces.append(work.traceparent)
        if traces:
            for work in batch:
                if work.traceparent:
                    work.left(traces)
        first = batch[0].packed.tensors
        if has_texts:
            packed = join_texts([work.packed for work in batch], [work.rows for work in batch])
            self._send(batch, packed, rows, now, deadline, traces)
        elif first and sum(map(len, first)) * len(batch) >= LEAST_BYTES:
            self._lend(batch, rows, now, deadline, traces)
        else:
            self._send(batch, join([work.packed for work in batch]), rows, now, deadline, traces)
        return rows

    def look(self) -> None:
        """Give up the batch of a worker that has had it for too long, and a strange one that nobody ended."""
        if self._batch is None or self.hung or self.waiting_s <= self._progress_timeout_s:
            return
        if self._is_strange:
            self.close()
            return
        self.hung = True
        batch, self._batch = self._batch, ()  # what it may still say of it is read and dropped
        self.owner.note("worker_hung", worker=self.name, rows=self._rows)
        self.owner.lost(self, batch, Reason.WORKER_HUNG)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but does not say so
        self._lost.clear()
        self._data.clear()
        self.golden, self.hung, self._is_strange = None, False, False
        self._send_golden()
        self.owner.changed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.golden = None
        if self._arena is not None:
            self._arena.close()
            self._arena = None
        batch, self._batch = self._batch, None
        was_hung, self.hung = self.hung, False
        self._lost.set()
        if not self._is_missed:  # a process that ends may let one connect once more, and close that too
            self._is_missed = True
            self.owner.note("worker_lost", worker=self.name, rows=self._rows if batch else 0)
        self.owner.changed(self)
        if batch and not was_hung:
            self.owner.lost(self, batch, Reason.WORKER_FAILED)

    def data_received(self, data: bytes) -> None:
        if self._is_strange:
            return
        if not self._data and len(data) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(data)[0]
            if len(data) == end:  # nearly always: one whole answer
                self._answered(memoryview(data)[LENGTH.size :])
                return
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

    # ours

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        sock = connect_to(self.owner.run_folder, self.name, timeout_s=CONNECT_TIMEOUT_S)
        arena = Arena()
        try:
            offer(sock, arena.fd)
            sock.setblocking(False)
            self._arena = arena
            await loop.create_unix_connection(lambda: self, sock=sock)
            if not self.is_connected:
                # uvloop has closed the descriptor without telling the socket, which would close whatever has its number
                # by now, such as a caller's connection.
                sock.detach()
        except BaseException:
            sock.close()
            arena.close()
            self._arena = None
            raise

    def _send_golden(self) -> None:
        packed, rows = self.owner.golden
        self._send((), packed, rows, self.owner.now(), 0.0, [])

    def _lend(self, batch: Sequence[Work], rows: int, now: float, deadline: float, traces: list[str]) -> None:
        """Send a batch whose numbers and tensors are too large for the socket: they lie in shared memory."""
        assert self._arena is not None
        many = [work.packed for work in batch]
        columns = [[one.numbers for one in many], *zip(*(one.tensors for one in many), strict=True)]
        strings = [value for one in many for value in one.strings]
        try:
            lent = self._arena.lend(columns)
        except OSError as fault:  # no memory: the socket's copies are small beside it
            self.owner.note("arena_full", worker=self.name, why=str(fault))
            self._send(batch, join(many), rows, now, deadline, traces)
            return
        self._send(batch, Packed(b"", strings, [], many[0].shapes), rows, now, deadline, traces, lent)

    def _send(
        self,
        batch: Sequence[Work],
        packed: Packed,
        rows: int,
        now: float,
        deadline: float,
        traces: list[str],
        lent: list[int] = _NOTHING,
    ) -> None:
        assert self._transport is not None
        self._count += 1
        self._batch, self.sent_at, self._rows = batch, now, rows
        self._is_lent = lent is not _NOTHING
        self._transport.write(pack(BatchFrame(self._count, rows, packed, deadline, traces, lent)))

    def _answered(self, data: bytes | memoryview) -> None:
        batch, self._batch = self._batch, None
        self._touched = self.owner.now()
        if self._is_lent and self._arena is not None:
            self._arena.give_back()
        try:
            frame = unpack_answer(data)
            if batch is None or frame.id != self._count or frame.rows != self._rows:
                raise EngineFailed("it answered what was not asked")
            settled = settle(frame, self.owner.model)
        except (msgspec.MsgspecError, EngineFailed) as fault:
            self._batch = batch
            self._give_up(str(fault))
            return
        self._is_missed = False
        if self.hung:
            self.hung = False
            self.owner.changed(self)
        elif batch:
            self.owner.answered(self, batch, settled, frame)
        else:
            self._judge_golden(frame)
        if self.golden:
            self.owner.idle(self)

    def _judge_golden(self, frame: AnswerFrame) -> None:
        model = self.owner.model
        answers = None if frame.bad else to_answers(frame, model.classes)
        before, self.golden = self.golden, answers is not None and matches_golden(answers, model.body.golden)
        if self.golden != before:
            self.owner.note("golden", worker=self.name, correct=self.golden)
            self.owner.changed(self)

    def _give_up(self, why: str) -> None:
        """Have done with a worker that does not speak as it should: what it has is lost, and it counts as wrong."""
        self.owner.note("worker_nonsense", worker=self.name, why=why)
        batch, self._batch = self._batch, ()
        self._is_strange, self.golden, self.sent_at = True, False, self.owner.now()
        self._data.clear()
        self.owner.changed(self)
        if batch:
            self.owner.lost(self, batch, Reason.WORKER_FAILED)


def settle(frame: AnswerFrame, model: Model) -> Settled:
    """Turn an answer into lists; raises EngineFailed where it is misshapen or not finite."""
    bad = frozenset(frame.bad) if frame.bad else _NONE
    if bad and len(bad) >= frame.rows:
        return Settled(reason=frame.reason, bad=bad, unread=frame.unread)
    rows, classes = frame.rows, model.classes
    sizes = (4 * rows, 4 * rows * len(classes), 0) if classes else (0, 0, 8 * rows)
    if (len(frame.labels), len(frame.probabilities), len(frame.values)) != sizes:
        raise EngineFailed(f"its answer does not fit {rows} rows")
    flat: list[float]
    if not classes:
        flat = np.frombuffer(frame.values, dtype=np.float64).tolist()
        _check_finite(flat, 1, bad)
        return Settled(values=flat, bad=bad, reason=frame.reason, unread=frame.unread)
    flat, wide = np.frombuffer(frame.probabilities, dtype=np.float32).tolist(), len(classes)
    _check_finite(flat, wide, bad)
    try:
        labels = [classes[place] for place in np.frombuffer(frame.labels, dtype=np.uint32).tolist()]
    except IndexError:
        raise EngineFailed("its answer names no known class") from None
    table = [flat[start : start + wide] for start in range(0, len(flat), wide)]
    return Settled(labels, table, None, bad, frame.reason, frame.unread)


def _check_finite(flat: list[float], wide: int, bad: frozenset[int]) -> None:
    """Raise EngineFailed where a row is not finite that the worker, which looks at each, did not name."""
    if math.isfinite(sum(flat)):  # nearly always; the sum of large numbers may not be although they are
        return
    for place, value in enumerate(flat):
        if not math.isfinite(value) and place // wide not in bad:
            raise EngineFailed(f"its answer to row {place // wide} is not finite")


_NONE: frozenset[int] = frozenset()
