"""FILE: read spans as OpenTelemetry's own messages, and say what is in them."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # type: ignore[import-not-found]
    ExportTraceServiceRequest,
)

IDS = ("traceId", "spanId", "parentSpanId")


def with_plain_ids(value: Any) -> Any:
    """Turn ids from hex, which is where OTLP/JSON departs from protobuf's own JSON, to base64."""
    if isinstance(value, list):
        return [with_plain_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in IDS else with_plain_ids(one)
        for key, one in value.items()
    }


def main(path: str) -> None:
    spans = []
    for line in Path(path).read_bytes().splitlines():
        request = json_format.ParseDict(with_plain_ids(json.loads(line)), ExportTraceServiceRequest())
        for of_resource in request.resource_spans:
            service = {one.key: one.value.string_value for one in of_resource.resource.attributes}["service.name"]
            spans += [{"service": service, **told(span)} for scoped in of_resource.scope_spans for span in scoped.spans]
    print(json.dumps(spans))  # noqa: T201 - what it is for


def told(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "kind": span.kind,
        "status": span.status.code,
        "state": span.trace_state,
        "flags": span.flags,
        "took_ns": span.end_time_unix_nano - span.start_time_unix_nano,
        "links": [[link.trace_id.hex(), link.span_id.hex()] for link in span.links],
        "attributes": {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
    }


if __name__ == "__main__":
    main(sys.argv[1])
