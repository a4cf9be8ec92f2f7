"""Spans in the JSON of the OpenTelemetry protocol, as collectors take them and files of `.jsonl` keep them.

Source: the OTLP specification 1.x, "JSON Protobuf encoding": ids in hex, 64-bit numbers as strings, enumerations as
numbers, names in lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

INTERNAL, SERVER = 1, 2  # kinds of spans
ERROR = 2  # the status of a span; without one it is unset
_SAMPLED, _PARENT_KNOWN, _PARENT_REMOTE = 0x001, 0x100, 0x200  # bits of a span's flags

Attribute = str | int | float | bool
_ENCODER = msgspec.json.Encoder()


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Times are nanoseconds since 1970; `links` are (trace id, span id)."""

    trace_id: str
    span_id: str
    name: str
    kind: int
    began_ns: int
    ended_ns: int
    parent_id: str = ""
    parent_remote: bool = False
    state: str = ""
    attributes: Mapping[str, Attribute | None] = {}
    links: Sequence[tuple[str, str]] = ()
    failed: str = ""  # why, where it did


def encode(spans: Sequence[Span], *, resource: Mapping[str, Attribute], scope: str, version: str) -> bytes:
    """Return the spans of one process as an ExportTraceServiceRequest, on one line."""
    scoped = {"scope": {"name": scope, "version": version}, "spans": [_span(span) for span in spans]}
    return _ENCODER.encode(
        {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scoped]}]}
    )


def _span(span: Span) -> dict[str, Any]:
    written: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.began_ns),
        "endTimeUnixNano": str(max(span.began_ns, span.ended_ns)),
        "attributes": _attributes(span.attributes),
        "flags": _SAMPLED | _PARENT_KNOWN | (_PARENT_REMOTE if span.parent_remote else 0),
    }
    if span.parent_id:
        written["parentSpanId"] = span.parent_id
    if span.state:
        written["traceState"] = span.state
    if span.links:
        written["links"] = [{"traceId": trace, "spanId": place, "flags": _SAMPLED} for trace, place in span.links]
    if span.failed:
        written["status"] = {"code": ERROR, "message": span.failed}
    return written


def _attributes(values: Mapping[str, Attribute | None]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}
