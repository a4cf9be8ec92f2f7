"""The process that runs one release's model: batches in, answers out, nothing else.

It listens only once its bytes are verified and the golden requests are answered as sealed, so that whoever can
connect can be answered.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from modelyard.bundle.intake import Intake, Packed
from modelyard.bundle.open import Answers, Bundle, matches_golden, open_bundle, verify
from modelyard.core.arrays import Array, Columns
from modelyard.core.metrics import Task
from modelyard.core.ports import EngineLoader
from modelyard.errors import EngineFailed
from modelyard.serve.arena import Lent
from modelyard.serve.messages import WorkerJob
from modelyard.serve.told.trace import worker_span
from modelyard.serve.v2.short import TextReader
from modelyard.serve.wire import LATE, LENGTH, MOST_FRAME_BYTES, AnswerFrame, BatchFrame, listen_at, pack, unpack_batch

_NONE: list[int] = []

AT_ONCE_BYTES = 256 * 1024
STALLED = struct.pack("ll", 1, 0)  # seconds: a front that stops within a frame must not keep the others waiting
MEMORY_MARGIN = 1.5  # of the bound on resident memory, for what is reserved and not used
LIBRARIES_MB = 256  # that libraries reserve and never touch


def work(job: WorkerJob, loader: EngineLoader) -> None:
    """Open the job's body and answer batches until the process is ended.

    Raises: BundleAltered, BundleFormat, and EngineFailed where the golden answers are not those that were sealed.
    """
    if job.memory_mb is not None:  # a second line: allocations fail somewhat beyond what has the process replaced
        bound = round(job.memory_mb * MEMORY_MARGIN + LIBRARIES_MB) * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    folder = Path(job.body.folder)
    verify(folder, wanted=job.body.digest)
    bundle = open_bundle(folder, loader, threads=job.threads, verified=True)
    answer_golden(bundle)
    server = listen_at(Path(job.run_folder), job.name)
    gc.collect()
    gc.freeze()  # the model and its contract stay; the collector need not walk them again
    _serve(server, Runner(bundle))


def answer_golden(bundle: Bundle) -> None:
    """Raise EngineFailed unless the golden requests are answered as they were sealed."""
    if not matches_golden(bundle.predict(bundle.body.golden.rows), bundle.body.golden):
        raise EngineFailed(
            f"Bundle `{bundle.manifest.name}` ({bundle.body.digest[:12]}) answers its golden requests otherwise than "
            "when it was sealed. Run it on the machine type it was built for, or build it again here."
        )


@dataclass(frozen=True)
class Outcome:
    """Answers to a batch; rows in `bad` have none, and `reason` says why."""

    answers: Answers | None
    bad: tuple[int, ...] = ()
    reason: str = ""
    not_finite: int = 0  # of the bad rows, those answered with NaN or an infinity


class Runner:
    """Answers frames with a bundle, so that rows that the model cannot bear fail alone."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.intake = Intake(bundle.body.contract)
        self._texts: TextReader | None = None
        self.places = {label: place for place, label in enumerate(bundle.manifest.classes)}

    def answer(self, frame: BatchFrame) -> AnswerFrame:
        """Answer one batch; never raises for what rows or the model do."""
        began = time.monotonic()
        rows = frame.rows
        if 0.0 < frame.deadline < began:
            return AnswerFrame(id=frame.id, rows=rows, bad=list(range(rows)), reason=LATE)
        packed, unread = frame.packed, _NONE
        try:
            if packed.texts:
                packed, unread = self._read(packed)
            columns = self.intake.columns(packed, rows)
        except EngineFailed as fault:
            return AnswerFrame(id=frame.id, rows=rows, bad=list(range(rows)), reason=str(fault))
        outcome = self.run(columns)
        ended = time.monotonic()
        bad, reason, answers = list(outcome.bad), outcome.reason, outcome.answers
        if unread:
            bad = sorted({*bad, *unread})
        took_us = (ended - began) * 1e6
        spans = []
        if frame.traces:
            spans = [worker_span(frame.traces, began=began, ended=ended, rows=rows, pid=os.getpid())]
        labels = probabilities = values = b""
        if answers is not None and answers.values is not None:
            values = np.ascontiguousarray(answers.values, dtype=np.float64).tobytes()
        elif answers is not None:
            assert answers.labels is not None and answers.probabilities is not None
            places = [self.places.get(label, 0) for label in answers.labels.tolist()]
            labels = np.array(places, dtype=np.int32).tobytes()
            probabilities = np.ascontiguousarray(answers.probabilities, dtype=np.float32).tobytes()
        return AnswerFrame(
            id=frame.id,
            rows=rows,
            bad=bad,
            reason=reason,
            labels=labels,
            probabilities=probabilities,
            values=values,
            infer_us=took_us,
            spans=spans,
            unread=unread,
            not_finite=outcome.not_finite,
        )

    def _read(self, packed: Packed) -> tuple[Packed, list[int]]:
        if self._texts is None:
            self._texts = TextReader(self.bundle.body.contract)
        return self._texts.read(packed)

    def run(self, columns: Columns) -> Outcome:
        """Answer columns; a batch that fails is halved until only the rows at fault are without an answer."""
        count = len(columns)
        try:
            answers = self.bundle.answer(columns)
            bad, not_finite = self._bad_rows(answers, count)
        except Exception as fault:  # noqa: BLE001 - whatever the model raises is this batch's failure, not the process's
            if count == 1:
                return Outcome(None, (0,), str(fault)[:500])
            middle = count // 2
            return _joined(
                self.run(columns.take(slice(0, middle))), self.run(columns.take(slice(middle, count))), middle, count
            )
        reason = "the model's output is not finite or names no known class" if bad else ""
        return Outcome(answers, bad, reason, not_finite)

    def _bad_rows(self, answers: Answers, count: int) -> tuple[tuple[int, ...], int]:
        """Return the rows whose output is nonsense, and how many are not finite; raises EngineFailed for its shape."""
        good: Array
        if self.bundle.manifest.task is Task.REGRESSION:
            if answers.values is None or answers.values.shape != (count,):
                raise EngineFailed("The graph's `value` has a wrong shape.")
            good = finite = np.asarray(np.isfinite(answers.values))
        else:
            shape = (count, len(self.places))
            if answers.labels is None or answers.probabilities is None:
                raise EngineFailed("The graph gave no labels or no probabilities.")
            if answers.labels.shape != (count,) or answers.probabilities.shape != shape:
                raise EngineFailed("The graph's `label` or `probabilities` has a wrong shape.")
            each, known = np.isfinite(answers.probabilities), self.places.keys() >= set(answers.labels.tolist())
            if known and each.all():
                return (), 0
            finite = np.asarray(each.all(axis=1))
            good = finite & np.array([label in self.places for label in answers.labels.tolist()], dtype=bool)
        if good.all():
            return (), 0
        return tuple(int(row) for row in np.flatnonzero(~good)), int(np.count_nonzero(~finite))


def _joined(first: Outcome, second: Outcome, middle: int, count: int) -> Outcome:
    """Put the outcomes of the two halves of a batch together again."""
    bad = (*first.bad, *(row + middle for row in second.bad))
    known = first.answers or second.answers
    reason = first.reason or second.reason
    not_finite = first.not_finite + second.not_finite
    if known is None:
        return Outcome(None, bad, reason, not_finite)

    def whole(name: str) -> Array | None:
        pattern = getattr(known, name)
        if pattern is None:
            return None
        out = np.zeros((count, *pattern.shape[1:]), dtype=pattern.dtype)
        for half, rows in ((first, slice(0, middle)), (second, slice(middle, count))):
            if half.answers is not None:
                out[rows] = getattr(half.answers, name)
        return out

    answers = Answers(labels=whole("labels"), probabilities=whole("probabilities"), values=whole("values"))
    return Outcome(answers, bad, reason, not_finite)


def _serve(server: socket.socket, runner: Runner) -> None:
    """Answer whoever is connected, one batch at a time."""
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            front = key.data
            if front is None:
                connection, _ = server.accept()
                for side in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                    connection.setsockopt(socket.SOL_SOCKET, side, STALLED)
                selector.register(connection, selectors.EVENT_READ, _Front(connection))
            elif not front.turn(runner):
                selector.unregister(front.stream)
                front.close()


class _Front:
    """A front that is connected."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._lent: Lent | None = None

    def turn(self, runner: Runner) -> bool:
        """Answer one frame; False when the connection is over."""
        try:
            body = self._receive()
            if body is None:
                return False
            if len(body):
                self.stream.sendall(pack(runner.answer(self._whole(unpack_batch(body)))))
        except (OSError, ValueError, msgspec.MsgspecError):
            return False
        return True

    def close(self) -> None:
        """Let go of the connection and of the memory that it shares."""
        self.stream.close()
        if self._lent is not None:
            self._lent.close()

    def _whole(self, frame: BatchFrame) -> BatchFrame:
        """Put the pieces that lie in shared memory where they belong; raises OSError, ValueError."""
        if not frame.lent:
            return frame
        if self._lent is None:
            raise ValueError("pieces in shared memory, and none is shared")
        numbers, *tensors = cast(list[bytes], self._lent.columns(frame.lent))  # both are read as buffers only
        packed = Packed(numbers, frame.packed.strings, tensors, frame.packed.shapes)
        return BatchFrame(frame.id, frame.rows, packed, frame.deadline, frame.traces)

    def _receive(self) -> memoryview | None:
        """Read one frame without its length; None when the other side closed or says nonsense.

        The front sends a frame only when the one before is answered, so that nothing follows it. Only its first can
        bring a descriptor.
        """
        stream = self.stream
        data = stream.recv(AT_ONCE_BYTES) if self._lent is not None else self._receive_first()  # nearly always all
        while 0 < len(data) < LENGTH.size:
            more = stream.recv(AT_ONCE_BYTES)
            data = data + more if more else b""
        if not data:
            return None
        end = LENGTH.size + LENGTH.unpack_from(data)[0]
        if len(data) >= end:
            return memoryview(data)[LENGTH.size : end]
        if end > MOST_FRAME_BYTES:
            return None
        whole = bytearray(end)
        whole[: len(data)] = data
        view, got = memoryview(whole), len(data)
        while got < end:
            count = stream.recv_into(view[got:])
            if count == 0:
                return None
            got += count
        return view[LENGTH.size :]

    def _receive_first(self) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self.stream, LENGTH.size, 1)
        for fd in descriptors:
            self._lent = Lent(fd)
        return data
