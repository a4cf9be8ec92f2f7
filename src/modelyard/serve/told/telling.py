"""What a front tells of its work: counts, log lines and traces."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modelyard.core.clock import Clock
from modelyard.serve.batching import Work
from modelyard.serve.call import Call
from modelyard.serve.doors import fault_records
from modelyard.serve.grpc.status import STATUS_OF
from modelyard.serve.guard.breaker import State
from modelyard.serve.lane import Lane
from modelyard.serve.messages import ReleaseCounts
from modelyard.serve.model import Model
from modelyard.serve.request import Code, Request
from modelyard.serve.told.families import Spread
from modelyard.serve.told.log import Log
from modelyard.serve.told.metrics import GONE, BatchDone, Metrics
from modelyard.serve.told.trace import Trace
from modelyard.serve.told.tracer import Tracer
from modelyard.serve.wire import AnswerFrame

BREAKER = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_FAILURES = frozenset(str(int(code)) for code in (Code.FAILED, Code.NOT_NOW, Code.TOO_LATE))


class Teller:
    """Counts, logs and traces. Of one thread, the event loop's."""

    def __init__(self, *, metrics: Metrics, clock: Clock, log: Log | None, tracer: Tracer | None) -> None:
        self.metrics, self.clock, self.log, self.tracer = metrics, clock, log, tracer
        self._done: list[Call] = []  # answered, and counted once their batch is over
        self.good = self._done.append  # takes a request that the release it asked has answered
        self._batches: dict[str, BatchDone] = {}
        self._encode: dict[str, Spread] = {}

    @property
    def counts(self) -> dict[str, ReleaseCounts]:
        """Return what was answered for each release, by this board."""
        requests: dict[str, int] = {}
        failed: dict[str, int] = {}
        degraded: dict[str, int] = {}
        for family, labels, series in self.metrics.board.all():
            if GONE in labels:
                continue
            if family == self.metrics.requests.name:
                requests[labels[0]] = requests.get(labels[0], 0) + int(series.values[0])
                if labels[2] in _FAILURES:
                    failed[labels[0]] = failed.get(labels[0], 0) + int(series.values[0])
            elif family == self.metrics.degraded.name:
                degraded[labels[0]] = degraded.get(labels[0], 0) + int(series.values[0])
        return {
            release: ReleaseCounts(requests=count, degraded=degraded.get(release, 0), failed=failed.get(release, 0))
            for release, count in requests.items()
        }

    def answered(self, lane: Lane, batch: Sequence[Work], frame: AnswerFrame, took_s: float) -> None:
        """Count a batch."""
        release = lane.release
        count = self._batches.get(release)
        if count is None:
            count = self._batches[release] = self.metrics.batch_done(release)
        count(frame.rows, took_s, frame.infer_us / 1e6)
        self.metrics.last.put(release, value=self.clock.now().timestamp())
        good = sum([not work.dead for work in batch])  # an answer that came too late is none
        if frame.bad or lane.breaker.state is not State.CLOSED:
            bad, start, good = frozenset(frame.bad), 0, 0
            for work in batch:
                good += not work.dead and bad.isdisjoint(range(start, start + work.rows))
                start += work.rows
        if good:
            now = time.monotonic()
            lane.breaker.passed(now, now - took_s, by=good)
        if frame.not_finite:
            self.metrics.not_finite.add(release, by=frame.not_finite)
        if frame.spans and self.tracer is not None:
            for span in frame.spans:
                self.tracer.take(span, release)

    def encoded(self, lane: Lane, each_s: float) -> None:
        """Count the good answers of a batch, and what it took on average to write one and hand it to the kernel."""
        self._count_done(lane)
        spread = self._encode.get(lane.release)
        if spread is None:
            spread = self._encode[lane.release] = self.metrics.stages.bind(lane.release, "encode")
        spread.add(each_s)

    def ended(self, call: Call, code: Code, degraded: str | None, by: str) -> None:
        """Count and log a request that was answered otherwise, or refused after it was read."""
        request, release, door = call.request, call.home.release, call.door.name
        metrics, seconds = self.metrics, time.monotonic() - request.arrived
        metrics.requests.add(release, door, str(int(code)))
        metrics.seconds.add(release, door, value=seconds)
        if code is Code.OK:
            metrics.rows.add(release, by=call.rows)
        else:
            metrics.failed_seconds.add(release, by=seconds)
        if degraded is not None:
            metrics.degraded.add(release, degraded, by)
        if call.home.arm is not None:
            call.home.arm.ended(call, code, degraded, seconds)
        self._line(request, release, door, code, call.rows, seconds, 1.0, degraded)
        if call.trace is not None:
            served_by = call.lane.release if not by else f"{call.lane.release} fallback:{by}"
            ended = request.arrived + seconds
            self._trace(call.trace, ended, request, release, door, code, call.rows, served_by, degraded)

    def refused(self, request: Request, code: Code, release: str, door: str, trace: Trace | None = None) -> None:
        """Count and log a request that was never queued."""
        self.metrics.requests.add(release, door, str(int(code)))
        self._line(request, release, door, code, 0, time.monotonic() - request.arrived, 1.0, None)
        if trace is not None:
            self._trace(trace, time.monotonic(), request, release, door, code, 0, release or "front", None)

    def broken(self, model: Model, faults: Sequence[str]) -> None:
        """Count the values that broke a contract, by column."""
        known = {column.name for column in model.contract.columns}
        for record in fault_records(faults):
            column = record["column"] if record["column"] in known else "(unknown)"
            self.metrics.faults.add(model.release, column)

    def note(self, event: str, **facts: object) -> None:
        """Log what happened to the service itself."""
        if self.log is not None:
            self.log.write({"time": self.clock.now(), "event": event, **facts})

    def forget(self, release: str) -> None:
        """Let go of what is kept ready for a release."""
        self._batches.pop(release, None)
        self._encode.pop(release, None)
        self.metrics.retire(release)

    def _count_done(self, lane: Lane) -> None:
        """Count, and perhaps log, the requests that a release has answered."""
        done, log, release = self._done, self.log, lane.release
        doors = {call.door.name for call in done}
        for door in doors:
            finish = lane.finish.get(door)
            if finish is None:
                finish = lane.finish[door] = self.metrics.finish(release, door)
            calls = done if len(doors) == 1 else [call for call in done if call.door.name == door]
            finish([(call.rows, call.request.arrived, call.sent, call.ended) for call in calls])
        for call in done:
            if log is not None and (p := log.wants()):
                seconds = call.ended - call.request.arrived
                self._line(call.request, release, call.door.name, Code.OK, call.rows, seconds, p, None)
            if call.trace is not None:
                ended, door = call.ended, call.door.name
                self._trace(call.trace, ended, call.request, release, door, Code.OK, call.rows, release, None)
        done.clear()

    def _line(
        self,
        request: Request,
        release: str,
        door: str,
        code: Code,
        rows: int,
        seconds: float,
        p: float,
        why: str | None,
    ) -> None:
        if self.log is not None:
            met = request.met
            self.log.request(
                time=self.clock.now(),
                p=p,
                request=request.id,
                release=release,
                door=door,
                code=int(code),
                rows=rows,
                ms=seconds * 1000,
                degraded=why,
                met=None if met is None else (met.epoch, met.probability),
            )

    def _trace(
        self,
        trace: Trace,
        ended: float,
        request: Request,
        release: str,
        door: str,
        code: Code,
        rows: int,
        by: str,
        why: str | None,
    ) -> None:
        assert self.tracer is not None
        self.tracer.finish(
            trace,
            ended,
            method=request.method,
            path=request.path,
            request_id=request.id,
            release=release,
            door=door,
            code=int(code),
            rows=rows,
            served_by=by,
            degraded=why,
            grpc_status=int(STATUS_OF[code]) if door == "grpc" else None,
        )
