"""Traces: the caller's context, what is sampled, and the spans as the protocol of OpenTelemetry has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.clock import SystemClock
from modelyard.serve.told import tracer as tracer_module
from modelyard.serve.told.trace import MOST_LINKS, Sampler, Trace, WorkerSpan, parse, worker_span
from modelyard.serve.told.tracer import TRACES_FILE, Tracer

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01".encode()


def sampled(*, sample: float = 1.0, headers: Mapping[bytes, bytes] | None = None, now: float = 10.0) -> Trace:
    trace = Sampler(sample=sample).begin(headers or {}, now)
    assert trace is not None
    return trace


def tracer(folder: Path, **settings: Any) -> Tracer:
    given = {"service": "income", "version": "1.2.3", "process": "front.0", "clock": SystemClock(), "sample": 1.0}
    return Tracer(path=folder / TRACES_FILE, **{"most_bytes": 10_000_000, **given, **settings})


def finish(of: Tracer, trace: Trace, **facts: Any) -> None:
    given = {"method": b"POST", "path": b"/v2/models/income/infer", "request_id": "r-1", "release": "income@1"}
    of.finish(trace, facts.pop("now", 11.0), **{**given, "door": "v2", "code": 200, "rows": 1, **facts})


def spans(folder: Path) -> list[dict[str, Any]]:
    """Return all spans of the file, each checked against the protocol."""
    found = []
    for line in (folder / TRACES_FILE).read_bytes().splitlines():
        request = json.loads(line)
        assert request.keys() == {"resourceSpans"}
        for of_resource in request["resourceSpans"]:
            assert of_resource.keys() == {"resource", "scopeSpans"}
            check_attributes(of_resource["resource"]["attributes"])
            for scoped in of_resource["scopeSpans"]:
                assert scoped["scope"] == {"name": "modelyard.serve", "version": "1.2.3"}
                for span in scoped["spans"]:
                    check_span(span)
                    found.append(span)
    return found


def check_span(span: dict[str, Any]) -> None:
    """Fail where a span is not one of OTLP/JSON: opentelemetry/proto/trace/v1/trace.proto."""
    wanted = {"traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "flags"}
    assert wanted <= span.keys() <= wanted | {"parentSpanId", "traceState", "links", "status"}
    assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and re.fullmatch("[0-9a-f]{16}", span["spanId"])
    assert re.fullmatch("[0-9a-f]{16}", span.get("parentSpanId", SPAN))
    assert span["kind"] in (1, 2)
    began, ended = span["startTimeUnixNano"], span["endTimeUnixNano"]
    assert re.fullmatch("[0-9]{1,20}", began) and re.fullmatch("[0-9]{1,20}", ended) and int(began) <= int(ended)
    assert span["flags"] in (0x101, 0x301)
    assert span.get("status", {"code": 2}).keys() <= {"code", "message"}
    for link in span.get("links", []):
        assert link.keys() == {"traceId", "spanId", "flags"}
        assert re.fullmatch("[0-9a-f]{32}", link["traceId"]) and re.fullmatch("[0-9a-f]{16}", link["spanId"])
    check_attributes(span["attributes"])


def check_attributes(attributes: list[dict[str, Any]]) -> None:
    keys = [attribute["key"] for attribute in attributes]
    assert len(set(keys)) == len(keys)
    for attribute in attributes:
        ((kind, value),) = attribute["value"].items()
        assert isinstance(value, {"stringValue": str, "intValue": str, "boolValue": bool, "doubleValue": float}[kind])
        assert kind != "intValue" or re.fullmatch("-?[0-9]{1,19}", str(value))


def told(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        HEADER.upper(),
        HEADER + b"-",
        HEADER + b"-what-the-future-will-be-like",  # version 00 has no further fields
        HEADER + b" ",
        b" " + HEADER,
        HEADER + b"," + HEADER,
        b"ff" + HEADER[2:],  # no version is 255
        b"0" + HEADER,
        b"cc" + HEADER[2:] + b".what-the-future-will-be-like",
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE[:-1]}-{SPAN}-01".encode(),
        f"00-{TRACE}.-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-1".encode(),
        f"00-{TRACE}-{SPAN}-0x".encode(),
        f"00-{TRACE}-{SPAN}-.0".encode(),
        HEADER.replace(b"-", b"_"),
    ],
)
def test_what_is_no_context_begins_a_trace_anew(header: bytes) -> None:
    assert parse(header) is None
    trace = sampled(headers={b"traceparent": header, b"tracestate": b"a=1"})
    assert trace.parent_id == "" and trace.trace_id != TRACE and trace.state == b""


@pytest.mark.parametrize(
    ("header", "goes_on"),
    [
        (HEADER, True),
        (HEADER[:-2] + b"00", False),
        (HEADER[:-2] + b"03", True),  # further flags are not ours to judge
        (HEADER[:-2] + b"fe", False),
        (b"cc" + HEADER[2:], True),
        (b"cc" + HEADER[2:] + b"-what-the-future-will-be-like", True),
    ],
)
def test_the_callers_own_decision_is_followed(header: bytes, goes_on: bool) -> None:
    parent = parse(header)
    assert parent is not None and parent == (TRACE, SPAN, goes_on)
    for sample in (0.0, 1.0):
        trace = Sampler(sample=sample).begin({b"traceparent": header}, 1.0)
        assert (trace is not None) == goes_on
        if trace is not None:
            assert (trace.trace_id, trace.parent_id) == (TRACE, SPAN)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_every_context_is_read_back(trace: int, span: int, flags: int) -> None:
    assert parse(f"00-{trace:032x}-{span:016x}-{flags:02x}".encode()) == (
        f"{trace:032x}",
        f"{span:016x}",
        flags % 2 == 1,
    )


@given(st.binary(max_size=70) | st.text("0123456789abcdef-", max_size=70).map(str.encode))
def test_no_header_is_a_fault(header: bytes) -> None:
    found = parse(header)
    assert found is None or len(header) >= 55
    Sampler(sample=1.0).begin({b"traceparent": header, b"tracestate": header}, 1.0)


def test_what_goes_on_is_a_context_of_the_same_trace() -> None:
    trace = sampled(headers={b"traceparent": HEADER})
    for header in (trace.traceparent, trace.onward.encode()):
        parent = parse(header)
        assert parent is not None and parent.trace_id == TRACE and parent.sampled
        assert parent.span_id not in (SPAN, "")
    assert trace.traceparent.decode() != trace.onward


@pytest.mark.parametrize(("state", "kept"), [(b"a=1,b=2", True), (b"", False), (b"a=\xff", False), (b"a" * 513, False)])
def test_a_state_is_passed_on_as_it_is_if_it_can_be(state: bytes, kept: bool) -> None:
    assert sampled(headers={b"traceparent": HEADER, b"tracestate": state}).state == (state if kept else b"")


def test_a_share_of_requests_is_traced_and_no_more_than_so_many_a_second() -> None:
    share = Sampler(sample=0.1, most_per_s=1e9, chance=Random(1).random)
    assert 900 < sum(share.begin({}, 1.0) is not None for _ in range(10_000)) < 1100
    bounded = Sampler(sample=1.0, most_per_s=10)
    begun = [bounded.begin({b"traceparent": HEADER}, 100 + number / 100) for number in range(500)]
    assert 45 <= sum(trace is not None for trace in begun) <= 65  # five seconds, and one that was saved up
    assert bounded.skipped == 500 - sum(trace is not None for trace in begun)


def test_ids_are_never_the_same() -> None:
    traces = [sampled() for _ in range(1000)]
    ids = {name for trace in traces for name in (trace.trace_id, trace.span_id, trace.queue_id, trace.batch_id)}
    assert len(ids) == 4000


def test_a_request_becomes_a_tree_of_spans(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    trace = collects.begin({b"traceparent": HEADER, b"tracestate": b"a=1"}, 10.0)
    assert trace is not None
    trace.queued = 10.1
    trace.batched(10.2, [trace.onward])
    collects.take(worker_span([trace.onward], began=10.3, ended=10.4, rows=5, pid=77), "income@1")
    trace.answered = 10.5
    finish(collects, trace, now=10.6, rows=2, served_by="income@1")
    collects.flush()
    found = {span["name"]: span for span in spans(tmp_path)}
    assert list(found) == ["inference", "infer", "queue", "batch"]
    assert {span["traceId"] for span in found.values()} == {TRACE}
    infer, queue, batch, inference = (found[name] for name in ("infer", "queue", "batch", "inference"))
    assert (infer["parentSpanId"], infer["kind"], infer["flags"], infer["traceState"]) == (SPAN, 2, 0x301, "a=1")
    assert queue["parentSpanId"] == batch["parentSpanId"] == infer["spanId"]
    assert inference["parentSpanId"] == batch["spanId"]
    base = int(infer["startTimeUnixNano"])
    moments = {
        name: [(int(span[end]) - base) / 1e9 for end in ("startTimeUnixNano", "endTimeUnixNano")]
        for name, span in found.items()
    }
    assert moments["infer"] == pytest.approx([0, 0.6]) and moments["queue"] == pytest.approx([0.1, 0.2])
    assert moments["batch"] == pytest.approx([0.2, 0.5]) and moments["inference"] == pytest.approx([0.3, 0.4])
    assert told(inference) == {
        "modelyard.release": "income@1",
        "modelyard.batch.rows": "5",
        "modelyard.worker.pid": "77",
    }
    assert told(infer) == {
        "modelyard.request_id": "r-1", "modelyard.release": "income@1", "modelyard.door": "v2",
        "modelyard.code": "200", "modelyard.rows": "2", "modelyard.served_by": "income@1",
        "http.request.method": "POST", "url.path": "/v2/models/income/infer", "http.response.status_code": "200",
    }  # fmt: skip
    assert "status" not in infer


def test_a_request_waits_from_its_arrival_where_nobody_says_otherwise(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    waited, refused = sampled(now=10.0), sampled(now=10.0)
    waited.batched(10.3)
    finish(collects, waited)
    finish(collects, refused, code=503)
    collects.flush()
    (queue,) = [span for span in spans(tmp_path) if span["name"] == "queue"]
    assert queue["traceId"] == waited.trace_id
    assert int(queue["endTimeUnixNano"]) - int(queue["startTimeUnixNano"]) == pytest.approx(0.3e9, abs=1e3)


def test_the_requests_of_a_batch_link_to_each_other(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    traces = [collects.begin({}, 10.0) for _ in range(3)]
    onward = [trace.onward for trace in traces if trace is not None]
    for trace in traces:
        assert trace is not None
        trace.batched(10.1, onward)
        finish(collects, trace)
    collects.take(worker_span(onward, began=10.3, ended=10.4, rows=3, pid=77), "income@1")
    collects.flush()
    found = spans(tmp_path)
    for name in ("batch", "inference"):
        linked = [(span, {link["traceId"] for link in span["links"]}) for span in found if span["name"] == name]
        ids = {trace.trace_id for trace in traces if trace is not None}
        assert len(linked) == 3
        assert all(links == ids - {span["traceId"]} for span, links in linked)


def test_links_are_bounded(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    trace = sampled()
    others = [sampled().onward for _ in range(100)]
    trace.batched(10.1, [trace.onward, *others])
    trace.batched(10.2, [trace.onward, *others])  # a second piece
    finish(collects, trace)
    collects.take(worker_span([trace.onward, *others[:50]], began=10.3, ended=10.4, rows=3, pid=7), "income@1")
    collects.flush()
    found = spans(tmp_path)
    assert [len(span["links"]) for span in found if span["name"] == "batch"] == [MOST_LINKS]
    assert {len(span["links"]) for span in found if span["name"] == "inference"} == {MOST_LINKS}
    assert trace.sent == 10.1


def test_a_refused_request_has_one_span_and_a_fault_of_ours_says_so(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    finish(collects, sampled(), code=422)
    finish(collects, sampled(), code=503, degraded="worker_down")
    collects.flush()
    bad, down = spans(tmp_path)
    assert "status" not in bad
    assert down["status"] == {"code": 2, "message": "answered with 503"}
    assert told(down)["error.type"] == "503" and told(down)["modelyard.degraded"] == "worker_down"


def test_a_request_by_grpc_is_told_in_its_words(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    finish(collects, sampled(), path=b"/inference.GRPCInferenceService/ModelInfer", grpc_status=14, code=503)
    collects.flush()
    (span,) = spans(tmp_path)
    facts = told(span)
    assert (facts["rpc.system"], facts["rpc.service"]) == ("grpc", "inference.GRPCInferenceService")
    assert (facts["rpc.method"], facts["rpc.grpc.status_code"]) == ("ModelInfer", "14")
    assert "url.path" not in facts


def test_spans_are_at_the_time_of_day(tmp_path: Path) -> None:
    clock = SystemClock()
    collects = tracer(tmp_path)
    before = clock.now().timestamp()
    finish(collects, sampled(now=clock.monotonic()), now=clock.monotonic())
    collects.flush()
    (span,) = spans(tmp_path)
    assert before - 0.01 <= int(span["startTimeUnixNano"]) / 1e9 <= clock.now().timestamp() + 0.01


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300), st.binary(max_size=300))
def test_any_text_makes_a_whole_line(text: str, path: bytes) -> None:
    with TemporaryDirectory() as folder:
        collects = tracer(Path(folder))
        finish(collects, sampled(), path=path, request_id=text, degraded=text)
        collects.flush()
        (span,) = spans(Path(folder))
        assert told(span)["modelyard.request_id"] == told(span)["modelyard.degraded"] == text
        assert collects.dropped == 0


def test_text_that_is_none_is_counted_and_the_service_goes_on(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    finish(collects, sampled(), request_id="\ud800")
    collects.flush()
    assert collects.dropped == 1


def test_what_a_worker_says_crosses_a_frame() -> None:
    said = worker_span([sampled().onward], began=1.5, ended=2.5, rows=3, pid=9)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=WorkerSpan) == said


def test_nonsense_from_a_worker_is_left_out(tmp_path: Path) -> None:
    collects = tracer(tmp_path)
    collects.take(worker_span(["nonsense", "\ud800", sampled().onward], began=1, ended=2, rows=1, pid=1), "income@1")
    collects.flush()
    (span,) = spans(tmp_path)
    assert span["name"] == "inference" and "links" not in span


def test_traces_beyond_the_bound_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer_module, "MOST_WAITING", 5)
    collects = tracer(tmp_path)
    for _ in range(8):
        finish(collects, sampled())
    collects.flush()
    assert len(spans(tmp_path)) == 5
    assert collects.dropped == 3


def test_traces_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    collects = tracer(tmp_path / "no such folder")
    finish(collects, sampled())
    collects.flush()
    collects.flush()
    collects.close()
    assert collects.dropped == 1


def test_the_files_stay_bounded(tmp_path: Path) -> None:
    collects = tracer(tmp_path, most_bytes=5_000)
    for _ in range(100):
        finish(collects, sampled())
        collects.flush()
    assert len(list(tmp_path.iterdir())) == 3
    assert all(file.stat().st_size < 7_000 for file in tmp_path.iterdir())
