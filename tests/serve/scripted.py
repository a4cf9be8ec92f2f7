"""A desk in this process, over workers that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import uvloop

from modelyard.bundle.format import Body
from modelyard.bundle.intake import Intake
from modelyard.bundle.open import read_body
from modelyard.core.clock import SystemClock
from modelyard.core.release import Traffic
from modelyard.serve.desk import Desk
from modelyard.serve.messages import BodyRef, Limits, Routes, quarantine_name, worker_name
from modelyard.serve.request import Code
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.wire import LATE, LENGTH, AnswerFrame, BatchFrame, listen_at, pack, unpack_batch
from tests.serve.callers import DEADLINE_MS, Caller, share, until

ROW_US = 100.0  # in the model, of each row
T = TypeVar("T")
Bodies = Mapping[str, tuple[Path, str]]
LIMITS = Limits(
    deadline_ms=DEADLINE_MS, progress_timeout_s=0.15, idle_check_s=30.0, batch_rows=4, queue_rows=20, breaker_least=1000
)


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


Act = str | Callable[[BatchFrame], str]


class Worker:
    """Listens where a worker does, and does as told: one act a batch, then what it does by default."""

    def __init__(self, folder: Path, name: str, body: Body) -> None:
        self.folder, self.name, self.body = folder, name, body
        self.intake = Intake(body.contract)
        self.acts: deque[Act] = deque()
        self.default: Act = "answer"
        self.batches: list[list[float]] = []  # the ages of each
        self.frames: list[BatchFrame] = []
        self.go = asyncio.Event()  # lets batches that are held be answered
        self.streams: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> Worker:
        sock = listen_at(self.folder, self.name)
        sock.setblocking(False)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock)
        return self

    def stop(self) -> None:
        """End, as a process does that is killed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        (self.folder / self.name).unlink(missing_ok=True)
        self.crash()

    def crash(self) -> None:
        for stream in list(self.streams):
            stream.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.add(writer)
        try:
            while True:
                (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if size == 0:  # it offers memory to share
                    continue
                frame = unpack_batch(await reader.readexactly(size))
                if frame.deadline == 0.0:
                    writer.write(pack(self._golden(frame)))
                    continue
                self.frames.append(frame)
                self.batches.append(self.ages(frame))
                act = self.acts.popleft() if self.acts else self.default
                if not await self._act(act if isinstance(act, str) else act(frame), frame, writer):
                    return
        except (asyncio.IncompleteReadError, OSError, RuntimeError):  # uvloop raises the last on a closed stream
            pass
        finally:
            self.streams.discard(writer)
            writer.close()

    async def _act(self, act: str, frame: BatchFrame, writer: asyncio.StreamWriter) -> bool:
        if act == "close":
            writer.transport.abort()
            return False
        if act == "hold":
            await self.go.wait()
            act = "answer"
        good = self.answer(frame)
        wrong = {
            "answer": good,
            "wrong id": _with(good, id=frame.id + 7),
            "wrong rows": _with(good, rows=frame.rows + 1),
            "wrong shape": _with(good, probabilities=good.probabilities + b"1234"),
            "wrong label": _with(good, labels=np.full(frame.rows, -1, dtype=np.int32).tobytes()),
            "nan": _with(good, probabilities=np.full(2 * frame.rows, np.nan, dtype=np.float32).tobytes()),
            "all bad": AnswerFrame(id=frame.id, rows=frame.rows, bad=list(range(frame.rows)), reason="no"),
            "last bad": _with(good, bad=[frame.rows - 1], reason="no"),
            "late": AnswerFrame(id=frame.id, rows=frame.rows, bad=list(range(frame.rows)), reason=LATE),
        }
        if act in wrong:
            data = pack(wrong[act])
            writer.write(data[:7])
            await asyncio.sleep(0)
            writer.write(data[7:])
        elif act == "twice":
            writer.write(pack(good) + pack(good))
        else:
            writer.write({"garbage": b"\x05\x00\x00\x00hello", "huge": b"\xff" * 8}[act])
        return True

    def ages(self, frame: BatchFrame) -> list[float]:
        ages: list[float] = self.intake.columns(frame.packed, frame.rows)["age"].tolist()
        return ages

    def answer(self, frame: BatchFrame) -> AnswerFrame:
        shares = np.array([share(age) for age in self.ages(frame)], dtype=np.float64)
        table = np.stack([1 - shares, shares], axis=1).astype(np.float32)
        labels = (shares > 0.5).astype(np.int32)
        return AnswerFrame(
            id=frame.id,
            rows=frame.rows,
            labels=labels.tobytes(),
            probabilities=table.tobytes(),
            infer_us=ROW_US * frame.rows,
        )

    def _golden(self, frame: BatchFrame) -> AnswerFrame:
        golden = self.body.golden
        assert golden.labels is not None and golden.probabilities is not None
        labels = np.array([self.body.manifest.classes.index(label) for label in golden.labels], dtype=np.int32)
        table = np.array(golden.probabilities, dtype=np.float32)
        return AnswerFrame(id=frame.id, rows=frame.rows, labels=labels.tobytes(), probabilities=table.tobytes())


def _with(frame: AnswerFrame, **changes: Any) -> AnswerFrame:
    names = ("id", "rows", "bad", "reason", "labels", "probabilities", "values", "infer_us", "spans")
    return AnswerFrame(**{name: getattr(frame, name) for name in names} | changes)


class Stage:
    """A desk with its releases' workers."""

    def __init__(self, desk: Desk, folder: Path, bodies: Mapping[str, Body]) -> None:
        self.desk, self.folder, self.bodies = desk, folder, bodies
        self.workers: dict[str, Worker] = {}

    async def worker(self, release: str, slot: int | None = 0) -> Worker:
        """Start a worker of a release; without a slot, the one for suspects."""
        name = quarantine_name(release) if slot is None else worker_name(release, slot)
        worker = await Worker(self.folder, name, self.bodies[release]).start()
        self.workers[name] = worker
        return worker

    def ask(self, *ages: float, **more: Any) -> Caller:
        caller = Caller(*ages, **more)
        self.desk.handle(caller)
        return caller

    async def good(self, *ages: float) -> Caller:
        caller = self.ask(*ages)
        await caller.replied()
        caller.check()
        assert caller.reply.degraded is None and caller.reply.code is Code.OK
        return caller

    def check_empty(self) -> None:
        """Raise AssertionError where anything of a request is left behind."""
        assert len(self.desk.deadlines) == 0
        for lane in self.desk.lanes.values():
            assert (lane.queue.rows, lane.queue.size_bytes) == (0, 0)


async def settled(played: Stage, *callers: Caller) -> None:
    """Wait for all replies, and look whether each is right and nothing is left behind."""
    await until(lambda: all(caller.replies for caller in callers))
    await asyncio.sleep(0.03)
    for caller in callers:
        caller.check()
    played.check_empty()


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    bodies: Bodies,
    *,
    shares: Mapping[str, float] | None = None,
    previous: Mapping[str, str] | None = None,
    limits: Limits = LIMITS,
    missing: Sequence[str] = (),
    workers: int = 1,
    traffic: Traffic | None = None,
    metrics: Metrics | None = None,
    pin_versions: bool = False,
) -> AsyncIterator[Stage]:
    """Run a desk over scripted workers, one of each release but those that are missing."""
    folder.mkdir(exist_ok=True)
    desk = Desk(
        service="income",
        run_folder=folder,
        alias=None,
        workers=workers,
        limits=limits,
        version="0.0.0",
        clock=SystemClock(),
        metrics=metrics,
        pin_versions=pin_versions,
    )
    played = Stage(desk, folder, {release: read_body(path) for release, (path, _) in bodies.items()})
    for release in bodies:
        for slot in range(0 if release in missing else workers):
            await played.worker(release, slot)
    desk.start(asyncio.get_running_loop())
    refs = {release: BodyRef(folder=str(path), digest=digest) for release, (path, digest) in bodies.items()}
    traffic = traffic or Traffic(epoch=1, shares=dict(shares or {next(iter(bodies)): 1.0}))
    desk.adopt(Routes(traffic=traffic, bodies=refs, previous=dict(previous or {})))
    try:
        await until(lambda: all(lane.ready for name, lane in desk.lanes.items() if name not in missing))
        yield played
    finally:
        desk.close()
        for worker in played.workers.values():
            worker.go.set()
            worker.stop()
        await asyncio.sleep(0.01)


__all__ = ["LIMITS", "Bodies", "Caller", "Stage", "Worker", "run", "settled", "share", "stage", "until"]
