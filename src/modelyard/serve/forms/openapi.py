"""The OpenAPI document of this very service: its paths, its model's columns and tensors, its limits, every code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from modelyard.serve.forms import openapi_parts as parts
from modelyard.serve.forms import openapi_schemas as schemas
from modelyard.serve.forms.openapi_schemas import Schema
from modelyard.serve.guard.priority import NAMES
from modelyard.serve.model import Model
from modelyard.serve.request import Code

VERSION = "3.1.0"
JSON, BINARY, TEXT = "application/json", "application/octet-stream", "text/plain"

_WORDS = {
    Code.OK: "Done.",
    Code.MALFORMED: "The body or a header cannot be read.",
    Code.NO_KEY: "A valid API key is needed.",
    Code.NOT_ALLOWED: "Not on this address.",
    Code.NOT_FOUND: "There is nothing at this path: another model, or a version that cannot be asked for.",
    Code.WRONG_METHOD: "The path does not take this method.",
    Code.TOO_SLOW: "The request did not come in whole in time.",
    Code.TOO_LARGE: "The body, or the number of rows, is above the limit.",
    Code.WRONG_CODING: "The body is compressed.",
    Code.BROKEN_CONTRACT: "Values break the model's contract; `faults` has row, column and reason.",
    Code.TOO_MANY: "The key asks more often than it may.",
    Code.HEAD_TOO_LARGE: "The headers are too large.",
    Code.FAILED: "The model, or the service, failed on this request.",
    Code.NOT_OFFERED: "The service does not offer this.",
    Code.NOT_NOW: "Busy, or no worker answers and there is no fallback; `Retry-After` says when to come again.",
    Code.TOO_LATE: "No answer before the deadline.",
}
_ALWAYS = (Code.NOT_FOUND, Code.WRONG_METHOD, Code.TOO_SLOW, Code.TOO_LARGE, Code.HEAD_TOO_LARGE, Code.FAILED)
_ASKED = (Code.MALFORMED, Code.WRONG_CODING, Code.BROKEN_CONTRACT, Code.NOT_NOW, Code.TOO_LATE)
_TAKES_RETRY = frozenset({Code.NOT_NOW, Code.TOO_MANY})

_HEADERS: list[tuple[str, Schema, str]] = [
    ("X-Request-Id", {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}, "Said back, and in every log line."),
    ("X-Deadline-Ms", {"type": "number", "exclusiveMinimum": 0}, "How long the caller waits at most."),
    ("X-Priority", {"enum": list(NAMES)}, "Who waits and who is turned away when the service is full."),
    ("X-Routing-Key", {"type": "string"}, "Requests of one key meet the same release."),
    ("traceparent", {"type": "string"}, "W3C trace context."),
    ("tracestate", {"type": "string"}, "W3C trace context."),
]
_SAID = {
    "x-request-id": {"schema": {"type": "string"}, "description": "The request's id, given or made."},
    "x-served-by": {"schema": {"type": "string"}, "description": "The release, its fallback, or `front`."},
    "x-degraded": {"schema": {"type": "string"}, "description": "Why a fallback answered; else not there."},
    "traceparent": {"schema": {"type": "string"}, "description": "Where the request is traced."},
}
_RETRY = {"retry-after": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds."}}

_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]


class OpenApi:
    """Writes the document for a service with these releases in its traffic table."""

    def __init__(
        self,
        *,
        service: str,
        version: str,
        models: Sequence[Model],
        aliases: Sequence[str] = (),
        needs_key: bool = False,
        pin_versions: bool = False,
        guards_pages: bool = False,
    ) -> None:
        self.service, self.version, self.models, self.aliases = service, version, models, aliases
        self.needs_key, self.pin_versions = needs_key, pin_versions or len(models) == 1
        self.guards_pages = guards_pages  # all but what probes ask

    def document(self) -> dict[str, Any]:
        """Return the document."""
        limits = self.models[0].limits
        releases = ", ".join(model.release for model in self.models)
        about = (
            f"Served by {releases}. At most {limits.rows_at_once} rows and {limits.most_body_bytes} bytes a request, "
            f"JSON at most {limits.most_depth} deep; an answer within {limits.deadline_ms:g} ms unless the caller "
            f"names a deadline, of at most {limits.most_deadline_ms:g} ms."
        )
        made: dict[str, Any] = {
            "openapi": VERSION,
            "info": {"title": self.service, "version": self.version, "description": about},
            "servers": [{"url": "/"}],
            "paths": self._paths(),
            "components": {"schemas": self._schemas()},
        }
        if self.guards_pages:
            _guard(made["paths"])
        if self.needs_key:
            made["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        return made

    def page(self) -> bytes:
        """Return the document as JSON."""
        return msgspec.json.encode(self.document())

    def _schemas(self) -> dict[str, Schema]:
        models = self.models
        listed = ("rows", "dataframe_records", "instances")
        forms = [schemas.all_of([schemas.rows_schema(model, name) for model in models]) for name in listed]
        forms.append(schemas.all_of([schemas.columns_schema(model) for model in models]))
        return {
            "Rows": forms[0],
            "Predictions": schemas.predictions_schema(models),
            "InferRequest": schemas.all_of([schemas.infer_schema(model) for model in models]),
            "InferAnswer": schemas.answer_schema(models),
            "Invocation": {"anyOf": forms},
            "HostedPredictions": schemas.predictions_schema(models, flat=True),
            "Error": parts.ERROR,
        }

    def _paths(self) -> dict[str, Any]:
        model = f"/v2/models/{self.service}"
        rows = self._asking("predict", "Answer rows.", {JSON: _ref("Rows")}, {JSON: _ref("Predictions")})
        paths: dict[str, Any] = {"/predict": {"post": rows}}
        for place, alias in enumerate(self.aliases):
            name = "predict_alias" if not place else f"predict_alias_{place + 1}"
            paths[alias] = {"post": {**rows, "operationId": name}}
        text = {"type": "string"}
        kinds = {JSON: _ref("Invocation"), "text/csv": text, "application/jsonlines": text}
        hosted = self._asking("invoke", "Answer as hosted platforms ask.", kinds, {JSON: _ref("HostedPredictions")})
        paths["/invocations"] = {"post": hosted}
        paths["/ping"] = {"get": _shown("ping", "Say whether the service is ready.", _flag("ready"), Code.NOT_NOW)}
        for place, named in enumerate(self._roots(model)):
            paths |= self._model_paths(named, f"_{place}" if place else "")
        return paths | _server_paths(self.service)

    def _roots(self, model: str) -> list[str]:
        return [model, *(f"{model}/versions/{one.version}" for one in self.models)]

    def _model_paths(self, root: str, mark: str) -> dict[str, Any]:
        paths: dict[str, Any] = {
            root: {"get": _shown(f"metadata{mark}", "Say what the model takes and answers.", parts.METADATA)},
            f"{root}/ready": {"get": _shown(f"ready{mark}", "Say whether it is ready.", _flag("ready"), Code.NOT_NOW)},
            f"{root}/stats": {"get": _shown(f"stats{mark}", "Say what was counted.", parts.STATS)},
        }
        if not mark or self.pin_versions:
            takes = {JSON: _ref("InferRequest"), BINARY: {"type": "string", "format": "binary"}}
            gives = {JSON: _ref("InferAnswer"), BINARY: {"type": "string", "format": "binary"}}
            infer = self._asking(f"infer{mark}", "Answer tensors: the Open Inference Protocol.", takes, gives)
            size = {"type": "integer", "minimum": 0}
            infer["parameters"].append(
                _header("Inference-Header-Content-Length", size, "The size of the JSON before binary tensors.")
            )
            paths[f"{root}/infer"] = {"post": infer}
        return paths

    def _asking(self, name: str, about: str, takes: dict[str, Schema], gives: dict[str, Schema]) -> dict[str, Any]:
        """Return an operation that asks the model."""
        keys = (Code.NO_KEY, Code.TOO_MANY) if self.needs_key else ()
        made: dict[str, Any] = {
            "operationId": name,
            "summary": about,
            "parameters": [_header(*header) for header in _HEADERS],
            "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in takes.items()}},
            "responses": _responses({kind: {"schema": schema} for kind, schema in gives.items()}, *_ASKED, *keys),
        }
        if self.needs_key:
            made["security"] = _SECURITY
        return made


def _guard(paths: dict[str, Any]) -> None:
    """Have every operation but those of probes need a key."""
    refusal = _responses(None, Code.NO_KEY)[str(int(Code.NO_KEY))]
    for path, operations in paths.items():
        if path == "/ping" or path.startswith("/v2/health/") or path.endswith("/ready"):
            continue
        for operation in operations.values():
            operation["security"] = _SECURITY
            operation["responses"].setdefault(str(int(Code.NO_KEY)), refusal)


def _server_paths(service: str) -> dict[str, Any]:
    repository = "/v2/repository"
    index = _shown("index", "Say which versions there are.", parts.INDEX, Code.MALFORMED)
    index["requestBody"] = {
        "content": {JSON: {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}
    }
    paths: dict[str, Any] = {
        "/v2": {"get": _shown("server", "Say what the server is.", parts.SERVER)},
        "/v2/health/live": {"get": _shown("live", "Say whether batches move on.", _flag("live"), Code.NOT_NOW)},
        "/v2/health/ready": {"get": _shown("server_ready", "Say whether it is ready.", _flag("ready"), Code.NOT_NOW)},
        "/v2/models/stats": {"get": _shown("all_stats", "Say what was counted.", parts.STATS)},
        f"{repository}/index": {"post": index},
        "/metrics": {"get": _shown("metrics", "Say what was counted, for Prometheus.", {"type": "string"}, kind=TEXT)},
        "/openapi.json": {"get": _shown("openapi", "This document.", {"type": "object", "required": ["openapi"]})},
    }
    for place, path in enumerate(("/v2/trace/setting", f"/v2/models/{service}/trace/setting")):
        mark = f"_{place}" if place else ""
        paths[path] = {
            "get": _shown(f"trace_setting{mark}", "Say how much is traced.", parts.TRACE),
            "post": _refused(f"set_trace{mark}", "Not offered; the spec sets it.", Code.NOT_OFFERED),
        }
    for verb in ("load", "unload"):
        about = "Only on the management address."
        paths[f"{repository}/models/{service}/{verb}"] = {"post": _refused(verb, about, Code.NOT_ALLOWED)}
    return paths


def _responses(good: dict[str, Any] | None, *codes: Code) -> dict[str, Any]:
    """Return all answers of an operation: the good one, its own refusals, and those that any path may give."""
    made: dict[str, Any] = {}
    if good is not None:
        made[str(int(Code.OK))] = {"description": _WORDS[Code.OK], "headers": _SAID, "content": good}
    for code in sorted({*codes, *_ALWAYS}):
        headers = _SAID | _RETRY if code in _TAKES_RETRY else _SAID
        content = {JSON: {"schema": _ref("Error")}}
        made[str(int(code))] = {"description": _WORDS[code], "headers": headers, "content": content}
    return made


def _shown(name: str, about: str, schema: Schema, *codes: Code, kind: str = JSON) -> dict[str, Any]:
    """Return an operation that shows something; one that says no does so in the same form."""
    made = _responses({kind: {"schema": schema}}, *codes)
    if Code.NOT_NOW in codes:
        made[str(int(Code.NOT_NOW))]["content"] = {kind: {"schema": schema}}
    return {"operationId": name, "summary": about, "responses": made}


def _refused(name: str, about: str, code: Code) -> dict[str, Any]:
    return {"operationId": name, "summary": about, "responses": _responses(None, code)}


def _header(name: str, schema: Schema, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": about}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _flag(name: str) -> Schema:
    return {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]}
