"""Spans are read by OpenTelemetry's own messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.clock import SystemClock
from modelyard.serve.told.trace import Trace, worker_span
from modelyard.serve.told.tracer import TRACES_FILE, Tracer
from tests.extras.environments import Environment, fresh

HEADER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="session")
def with_otlp(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The messages of OpenTelemetry, nothing of ours."""
    environment = fresh(tmp_path_factory.mktemp("otlp") / "venv")
    environment.install("opentelemetry-proto==1.45.2")
    return environment


def written(folder: Path) -> list[Trace]:
    """Write the traces of two requests of a batch: one good, of a caller who traces, and one that failed."""
    tracer = Tracer(
        service="income",
        version="1",
        process="front.0",
        clock=SystemClock(),
        path=folder / TRACES_FILE,
        most_bytes=1_000_000,
        sample=1.0,
    )
    begun = [tracer.begin({b"traceparent": HEADER, b"tracestate": b"a=1"}, 10.0), tracer.begin({}, 10.0)]
    traces = [trace for trace in begun if trace is not None]
    onward = [trace.onward for trace in traces]
    for trace, code, degraded in zip(traces, (200, 504), (None, "deadline"), strict=True):
        trace.queued = 10.1
        trace.batched(10.2, onward)
        trace.answered = 10.4
        facts = {"method": b"POST", "path": b"/predict", "request_id": "r-1", "release": "income@1", "door": "rows"}
        tracer.finish(trace, 10.5, code=code, rows=3, degraded=degraded, **facts)  # type: ignore[arg-type]
    tracer.take(worker_span(onward, began=10.25, ended=10.35, rows=6, pid=77), "income@1")
    tracer.flush()
    return traces


@pytest.mark.extras
def test_spans_are_messages_of_the_protocol(with_otlp: Environment, nowhere: Path, tmp_path: Path) -> None:
    good, failed = written(tmp_path)
    done = with_otlp.script("otlp_reads.py", str(tmp_path / TRACES_FILE), home=nowhere)
    assert done.code == 0, done.err
    spans = done.json
    assert sorted(span["name"] for span in spans) == sorted(["infer", "queue", "batch", "inference"] * 2)
    assert {span["service"] for span in spans} == {"income"}
    found = {(span["trace"], span["name"]): span for span in spans}
    first, second = found[good.trace_id, "infer"], found[failed.trace_id, "infer"]
    assert (first["parent"], first["state"], first["kind"], first["status"]) == ("00f067aa0ba902b7", "a=1", 2, 0)
    assert (second["parent"], second["state"], second["kind"], second["status"]) == ("", "", 2, 2)
    assert first["took_ns"] == pytest.approx(0.5e9, rel=1e-3)
    assert first["attributes"]["modelyard.rows"] == 3
    assert second["attributes"]["modelyard.degraded"] == "deadline"
    assert found[good.trace_id, "batch"]["links"] == [[failed.trace_id, failed.batch_id]]
    assert found[failed.trace_id, "inference"]["parent"] == failed.batch_id
    assert found[good.trace_id, "inference"]["attributes"]["modelyard.worker.pid"] == 77
