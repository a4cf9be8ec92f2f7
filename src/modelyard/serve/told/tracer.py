"""Where traces of requests become spans: kept in a file of the run folder, and sent to a collector where one is named.

The event loop only puts whole traces into a bounded queue; `flush` does the rest in the thread of the log.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from modelyard.core.clock import Clock
from modelyard.serve.told import otlp
from modelyard.serve.told.collector import Collector
from modelyard.serve.told.rolling import Rolling
from modelyard.serve.told.trace import MOST_LINKS, MOST_PATH, Parent, Sampler, Told, Trace, WorkerSpan, parse

TRACES_FILE = "traces.jsonl"
MOST_WAITING = 2_000  # traces and workers' spans that wait for the next flush; beyond it they are dropped and counted
OFFSET_S = 1.0  # between looks at how the two clocks stand to each other
AT_ONCE = 200  # traces of one line and of one message to the collector

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tracer(Sampler):
    """Samples, collects and tells. All is of the event loop's thread, but `flush`, which is of the log's."""

    def __init__(
        self,
        *,
        service: str,
        version: str,
        process: str,
        clock: Clock,
        path: Path,
        most_bytes: int,
        sample: float = 0.01,
        most_per_s: float = 100.0,
        collector: Collector | None = None,
    ) -> None:
        super().__init__(sample=sample, most_per_s=most_per_s)
        self.collector = collector
        self._version, self._clock = version, clock
        self._resource: dict[str, otlp.Attribute] = {
            "service.name": service,
            "service.version": version,
            "service.instance.id": process,
            "process.pid": os.getpid(),
        }
        self._file = Rolling(path, most_bytes=most_bytes)
        self._waiting: deque[Trace | tuple[WorkerSpan, str]] = deque()
        self._refused = 0  # found no room; counted by the event loop
        self._lost = 0  # could not be written; counted by the thread
        self._offset_ns, self._offset_at = 0, -OFFSET_S

    @property
    def dropped(self) -> int:
        """Return how many traces were not kept, or not begun as too many came in a second."""
        return self.skipped + self._refused + self._lost

    def finish(
        self,
        trace: Trace,
        now: float,
        *,
        method: bytes,
        path: bytes,
        request_id: str,
        release: str,
        door: str,
        code: int,
        rows: int = 0,
        served_by: str = "",
        degraded: str | None = None,
        grpc_status: int | None = None,
    ) -> None:
        """Take a trace whose request was just answered or refused; `grpc_status` is given where it came by gRPC."""
        trace.done = now
        trace.told = Told(
            method.decode("latin-1"),
            path[:MOST_PATH].decode("latin-1"),
            request_id,
            release,
            door,
            code,
            grpc_status,
            rows,
            served_by,
            degraded,
        )
        self._put(trace)

    def take(self, span: WorkerSpan, release: str) -> None:
        """Take what a worker said of a batch."""
        self._put((span, release))

    def flush(self) -> None:
        """Write and send what waits; nothing is raised."""
        count = len(self._waiting)
        now = self._clock.monotonic()
        if count and now - self._offset_at >= OFFSET_S:
            self._offset_at = now
            self._offset_ns = (self._clock.now() - _EPOCH) // timedelta(microseconds=1) * 1000 - int(now * 1e9)
        while count > 0:
            some = [self._waiting.popleft() for _ in range(min(count, AT_ONCE))]
            count -= len(some)
            try:
                spans = [span for one in some for span in self._spans(one)]
                body = otlp.encode(spans, resource=self._resource, scope="modelyard.serve", version=self._version)
                self._file.append(body + b"\n")
            except (OSError, ValueError):  # a full disk, or text that is none, must not stop the service
                self._lost += len(some)
                continue
            if self.collector is not None:
                self.collector.offer(body, traces=len(some))

    def close(self) -> None:
        """Send what waits, as far as the collector takes it soon; call after the last flush."""
        if self.collector is not None:
            self.collector.close()

    def _put(self, one: Trace | tuple[WorkerSpan, str]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._refused += 1
            return
        self._waiting.append(one)

    def _spans(self, one: Trace | tuple[WorkerSpan, str]) -> Iterable[otlp.Span]:
        if isinstance(one, Trace):
            return _of_request(one, self._offset_ns)
        return _of_worker(*one, self._offset_ns)


def _of_request(trace: Trace, offset_ns: int) -> Iterable[otlp.Span]:
    """Return the spans of a request: the whole of it, its time in the queue, and its batch away at a worker."""

    def at(moment: float) -> int:
        return int(moment * 1e9) + offset_ns

    def child(name: str, span_id: str, began: float, ended: float, links: Iterable[str] = ()) -> otlp.Span:
        return otlp.Span(
            trace_id=trace.trace_id,
            span_id=span_id,
            parent_id=trace.span_id,
            name=name,
            kind=otlp.INTERNAL,
            began_ns=at(began),
            ended_ns=at(ended),
            state=trace.state.decode("ascii"),
            links=_links(_parents(links)),
        )

    told = trace.told
    assert told is not None
    yield otlp.Span(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        parent_id=trace.parent_id,
        parent_remote=bool(trace.parent_id),
        name="infer",
        kind=otlp.SERVER,
        began_ns=at(trace.arrived),
        ended_ns=at(trace.done),
        state=trace.state.decode("ascii"),
        attributes=_attributes(told),
        failed=f"answered with {told.code}" if told.code >= 500 else "",
    )
    if trace.queued is not None:
        left = trace.done if trace.sent is None else trace.sent
        yield child("queue", trace.queue_id, trace.queued, left)
    if trace.sent is not None:
        back = trace.done if trace.answered is None else trace.answered
        yield child("batch", trace.batch_id, trace.sent, back, trace.companions)


def _of_worker(span: WorkerSpan, release: str, offset_ns: int) -> Iterable[otlp.Span]:
    """Return a span in each traced request of a batch, so that each trace is whole, with links to the others."""
    parents = _parents(span.traces)
    for parent in parents:
        yield otlp.Span(
            trace_id=parent.trace_id,
            span_id=os.urandom(8).hex(),
            parent_id=parent.span_id,
            parent_remote=True,
            name="inference",
            kind=otlp.INTERNAL,
            began_ns=int(span.began * 1e9) + offset_ns,
            ended_ns=int(span.ended * 1e9) + offset_ns,
            attributes={
                "modelyard.release": release,
                "modelyard.batch.rows": span.rows,
                "modelyard.worker.pid": span.pid,
            },
            links=_links(other for other in parents if other is not parent),
        )


def _parents(traceparents: Iterable[str]) -> list[Parent]:
    parents = (parse(text.encode(errors="replace")) for text in traceparents)
    return [parent for parent in parents if parent is not None]


def _links(parents: Iterable[Parent]) -> list[tuple[str, str]]:
    return [(parent.trace_id, parent.span_id) for parent in islice(parents, MOST_LINKS)]


def _attributes(told: Told) -> dict[str, otlp.Attribute | None]:
    """Return what is known of a request, by the names of the OpenTelemetry semantic conventions where they have one."""
    ours: dict[str, otlp.Attribute | None] = {
        "modelyard.request_id": told.request_id,
        "modelyard.release": told.release or None,
        "modelyard.door": told.door or None,
        "modelyard.code": told.code,
        "modelyard.rows": told.rows,
        "modelyard.served_by": told.served_by or None,
        "modelyard.degraded": told.degraded,
        "error.type": str(told.code) if told.code >= 500 else None,
    }
    if told.grpc_status is None:
        return ours | {
            "http.request.method": told.method,
            "url.path": told.path,
            "http.response.status_code": told.code,
        }
    service, _, method = told.path.strip("/").rpartition("/")
    return ours | {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": told.grpc_status,
    }
