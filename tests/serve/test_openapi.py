"""The OpenAPI document is true: what it says fits is taken, what it says does not is refused, and answers fit it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from modelyard.core.contract import Column, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken
from modelyard.serve.doors import Door, Malformed, TooLarge
from modelyard.serve.forms.invocations import InvocationsDoor, hosted_paths
from modelyard.serve.forms.openapi import OpenApi
from modelyard.serve.forms.rows import RowsDoor
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.v2.door import V2Door
from modelyard.serve.v2.pages import v2_paths
from tests.serve.from_schema import Maker
from tests.serve.running import Running, service
from tests.serve.tensor_models import PLAIN, asking, model_of, plain_column, tensor_column
from tests.serve.test_v2_pages import Desk, Shown

AUDIT = Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=True)
STRICT = [
    plain_column("note", Kind.TEXT, nullable=False),
    plain_column("open", Kind.BOOLEAN, nullable=False),
    plain_column("day", Kind.DATE, nullable=False),
    plain_column("city", Kind.CATEGORY, nullable=False, categories=("Oslo", "Paris"), distinct=2),
]
TENSORS = [
    tensor_column("x", "FP32", 3),
    tensor_column("ids", "INT64", -1),
    tensor_column("small", "UINT8", 2, 2),
    tensor_column("words", "BYTES", 2),
    tensor_column("half", "FP16", 1, nullable=True),
]
FREE = {"ids"}  # whose size may vary, but not within a request
MODELS = {
    "plain": model_of([*PLAIN, AUDIT], missing_texts=("NA",)),
    "strict": model_of(STRICT, missing_texts=("Oslo",)),
    "refuse": model_of(STRICT, unknown_category="refuse"),
    "tensors": model_of(TENSORS),
    "mixed": model_of([*PLAIN, *TENSORS], task=Task.REGRESSION, limits=Limits(most_rows=5)),
}
DOORS: tuple[tuple[str, Door], ...] = (
    ("/predict", RowsDoor()), ("/invocations", InvocationsDoor()), ("/v2/models/shapes/infer", V2Door())
)  # fmt: skip


def document_of(model: Model, **more: Any) -> dict[str, Any]:
    return OpenApi(service="shapes", version="1.2.3", models=[model], **more).document()


def body_schema(document: Mapping[str, Any], path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def agreed(body: Any) -> Any:
    """Return a request in which what must agree does, as the document says in words."""
    named = body.get("inputs")
    if isinstance(named, dict):  # values by column, equally long
        count = min(map(len, named.values()))
        named = {name: values[:count] for name, values in named.items()}
        return {"inputs": named | {name: named[name][:1] * count for name in named.keys() & FREE}}
    for rows in body.values() if named is None else ():
        for row in rows:
            row.update({name: rows[0][name] for name in rows[0].keys() & FREE})
    if named is None or not all(isinstance(one, dict) and "shape" in one for one in named):
        return body
    for one in named:
        one["shape"] = [min(2, one["shape"][0]), *(min(size, 4) for size in one["shape"][1:])]
        one["shape"][0] = named[0]["shape"][0]
        one["data"] = (one["data"] * math.prod(one["shape"]))[: math.prod(one["shape"])]
    wishes = body.get("parameters")
    if wishes and wishes.get("timeout"):
        wishes["timeout"] = max(wishes["timeout"], 10_000_000)
    return body


# the document by itself


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_schema_is_one_and_every_reference_leads_somewhere(name: str) -> None:
    document = document_of(MODELS[name], aliases=("/api/v1/shapes",), needs_key=True, pin_versions=True)
    assert json.loads(OpenApi(service="shapes", version="1", models=[MODELS[name]]).page())["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    maker = Maker(document, 0)
    for found in _references(document):
        assert maker.resolved({"$ref": found})


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_keys_are_a_security_scheme_where_callers_need_one() -> None:
    document = document_of(MODELS["plain"], needs_key=True)
    assert document["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert {"401", "429"} <= document["paths"]["/predict"]["post"]["responses"].keys()
    assert "securitySchemes" not in document_of(MODELS["plain"])["components"]


def test_the_document_has_every_path_of_the_protocol_and_of_hosted_platforms(tmp_path: Path) -> None:
    live = [Shown("shapes@1"), Shown("shapes@2")]
    for pin in (False, True):
        desk = Desk(tmp_path, live, pin_versions=pin)
        paths = v2_paths(desk, V2Door()) | hosted_paths(desk, InvocationsDoor())
        models = [shown.model for shown in live]
        document = OpenApi(service="shapes", version="1", models=models, pin_versions=pin).document()
        refused = set() if pin else {f"/v2/models/shapes/versions/{number}/infer" for number in (1, 2)}
        there = {(path.decode(), method.decode().lower()) for path, one in paths.items() for method in one}
        there = {(path, method) for path, method in there if "*" not in path and path not in refused}
        said = {(path, method) for path, one in document["paths"].items() for method in one}
        ours = {("/predict", "post"), ("/metrics", "get"), ("/openapi.json", "get")}  # of the desk itself
        assert said - ours == there


def test_releases_of_different_contracts_are_asked_by_what_fits_all_and_answer_as_any(tmp_path: Path) -> None:
    models = [MODELS["tensors"], MODELS["mixed"]]
    document = OpenApi(service="shapes", version="1", models=models).document()
    assert len(document["components"]["schemas"]["Rows"]["allOf"]) == 2
    assert "anyOf" in document["components"]["schemas"]["Predictions"]["properties"]["predictions"]["items"]


@pytest.mark.parametrize(("path", "door"), DOORS, ids=[path for path, _ in DOORS])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_doors_take_what_fits_and_refuse_what_does_not(name: str, path: str, door: Door) -> None:
    model = MODELS[name]
    document = document_of(model)
    schema = body_schema(document, path)
    for seed in range(60):
        maker = Maker(document, seed)
        body = agreed(maker.valid(schema))
        assert maker.is_valid(schema, body)
        assert door.read(asking(json.dumps(body).encode()), model).rows >= 1
        broken = maker.invalid(schema)
        if broken is not None:
            with pytest.raises((Malformed, TooLarge, ContractBroken)):
                door.read(asking(json.dumps(broken).encode()), model)


# against a running service


@pytest.fixture(scope="module")
def running(bodies: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of its own, as what fits may still make the tiny graph fail."""
    with service(tmp_path_factory.mktemp("openapi") / "run", {"income@1": bodies["income@1"]}) as one:
        yield one


@pytest.fixture(scope="module")
def document(running: Running) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", "/openapi.json").json
    return found


def check(document: Mapping[str, Any], operation: Mapping[str, Any], reply: Any) -> None:
    """Hold an answer against what the document says of it."""
    told = operation["responses"].get(str(reply.status))
    assert told is not None, (reply.status, reply.data[:500])
    headers = {name.lower() for name in reply.headers}
    assert {"x-request-id", "x-served-by"} <= headers & told["headers"].keys()
    kind = reply.headers["content-type"].partition(";")[0]
    schema = told["content"][kind]["schema"]
    if kind == "application/json":
        Draft202012Validator({**schema, "components": document["components"]}).validate(reply.json)


def test_what_shows_something_answers_as_documented(running: Running, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method in operations.keys() & {"get"}:
            reply = running.ask("GET", path)
            assert reply.status == 200, path
            check(document, operations[method], reply)
    for path in ("/v2/trace/setting", "/v2/repository/models/income/load", "/v2/repository/index"):
        check(document, document["paths"][path]["post"], running.ask("POST", path, b"{}"))


def test_a_running_service_answers_what_fits_and_refuses_what_does_not(
    running: Running, document: dict[str, Any]
) -> None:
    asked = 0
    for path, operations in document["paths"].items():
        operation = operations.get("post", {})
        if "Predictions" not in json.dumps(operation) and "InferAnswer" not in json.dumps(operation):
            continue
        schema = body_schema(document, path)
        for seed in range(25):
            maker = Maker(document, seed)
            reply = running.ask("POST", path, agreed(maker.valid(schema)), **_headers(maker, operation))
            assert reply.status == 200, (path, seed, reply.data[:500])
            check(document, operation, reply)
            broken = maker.invalid(schema)
            if broken is not None:
                reply = running.ask("POST", path, broken)
                assert 400 <= reply.status < 500, (path, seed, broken)
                check(document, operation, reply)
            asked += 1
    assert asked >= 100


def _headers(maker: Maker, operation: Mapping[str, Any]) -> dict[str, str]:
    """Return some of the documented headers with values that fit."""
    made: dict[str, str] = {}
    for header in operation["parameters"]:
        if header["schema"].keys() & {"enum", "pattern", "exclusiveMinimum"} and maker.random.random() < 0.5:
            value = maker.valid(header["schema"])
            made[header["name"].replace("-", "_")] = str(max(value, 5000) if isinstance(value, float) else value)
    return made


@pytest.mark.parametrize(
    ("header", "value"), [("X_Deadline_Ms", "0"), ("X_Deadline_Ms", "soon"), ("X_Priority", "vip")]
)
def test_headers_that_do_not_fit_are_refused_as_documented(
    running: Running, document: dict[str, Any], header: str, value: str
) -> None:
    operation = document["paths"]["/predict"]["post"]
    with contextlib.suppress(StopIteration):
        body = Maker(document, 1).valid(body_schema(document, "/predict"))
    reply = running.ask("POST", "/predict", body, **{header: value})
    assert reply.status == 400
    check(document, operation, reply)
