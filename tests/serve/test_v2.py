"""The protocol's REST form: requests as bytes in, answers as bytes out, without a network."""

from __future__ import annotations

import contextlib
import doctest
import json
import struct
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.intake import Packed
from modelyard.core.contract import Column, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge
from modelyard.serve.guard.priority import HIGH, LOW, NORMAL
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import JSON
from modelyard.serve.v2 import elements, wishes
from modelyard.serve.v2.door import AskedTensors, V2Door
from tests.serve.tensor_models import PLAIN, asking, model_of, plain_column, tensor_column

UNHURRIED = settings(deadline=None)
REFUSED = (Malformed, TooLarge, ContractBroken)
SAID = Said("shapes@3", "shapes@3", "r1", None)
TENSOR = model_of([tensor_column("x", "FP32", 3)])
SETTLED = Settled(labels=["yes", "no"], probabilities=[[0.25, 0.75], [0.5, 0.5]])
HEADER = "Inference-Header-Content-Length"


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def entry(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return made | ({} if data is None else {"data": data}) | ({"parameters": parameters} if parameters else {})


X = entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])


def read(model: Model, data: bytes, **headers: bytes) -> AskedTensors:
    return V2Door().read(asking(data, **headers), model)


def with_tail(head: bytes, *tensors: bytes) -> tuple[bytes, dict[str, bytes]]:
    return b"".join((head, *tensors)), {HEADER.lower().replace("-", "_"): b"%d" % len(head)}


def read_slowly(model: Model, data: bytes) -> AskedTensors:
    """Read without the short way: with the header, all of the body is looked at closely."""
    whole, headers = with_tail(data)
    return read(model, whole, **headers)


def parse(answer: tuple[bytes, bytes, bytes]) -> tuple[dict[str, Any], bytes]:
    """Return an answer's JSON and the bytes behind it, as a client takes them apart."""
    data, kind, lines = answer
    if not lines:
        assert kind == JSON
        return json.loads(data), b""
    name, _, size = lines.decode().strip().partition(": ")
    assert (name, kind) == (HEADER, b"application/octet-stream")
    return json.loads(data[: int(size)]), data[int(size) :]


def test_a_tensor_is_read_and_the_answer_has_the_protocols_form() -> None:
    asked = read(TENSOR, body(X, id="abc"))
    assert asked.rows == 2
    assert asked.packed.tensors == [np.arange(1, 7, dtype="<f4").tobytes()]
    told, rest = parse(asked.answer(SETTLED, TENSOR, SAID))
    assert rest == b""
    assert told == {
        "model_name": "shapes",
        "model_version": "3",
        "id": "abc",
        "parameters": {"served_by": "shapes@3", "degraded": False},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["yes", "no"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]},
        ],
    }


def test_a_regression_answers_its_value() -> None:
    model = model_of([tensor_column("x", "FP32", 3)], task=Task.REGRESSION)
    told, _ = parse(read(model, body(X)).answer(Settled(values=[1.5, -2.0]), model, SAID))
    assert told["outputs"] == [{"name": "value", "datatype": "FP64", "shape": [2], "data": [1.5, -2.0]}]


def test_a_degraded_answer_says_who_gave_it_and_why() -> None:
    asked = read(TENSOR, body(X))
    told, _ = parse(asked.answer(SETTLED, TENSOR, Said("shapes@3", "shapes@3 fallback:constant", "r", "deadline")))
    assert told["parameters"] == {"served_by": "shapes@3 fallback:constant", "degraded": True, "reason": "deadline"}
    assert told["outputs"][0]["data"] == ["yes", "no"]


def test_parameters_of_the_caller_are_let_pass_and_not_said_back() -> None:
    asked = read(TENSOR, body({**X, "parameters": {"tag": 1}}, parameters={"tag": 7, "served_by": "me"}))
    told, _ = parse(asked.answer(SETTLED, TENSOR, SAID))
    assert told["parameters"] == {"served_by": "shapes@3", "degraded": False}


def test_only_the_outputs_asked_for_come_in_the_order_asked_for() -> None:
    asked = read(TENSOR, body(X, outputs=[{"name": "probabilities"}, {"name": "label"}]))
    told, _ = parse(asked.answer(SETTLED, TENSOR, SAID))
    assert [output["name"] for output in told["outputs"]] == ["probabilities", "label"]


@pytest.mark.parametrize(
    "outputs",
    [
        [{"name": "shap"}],
        [{"name": "label"}, {"name": "label"}],
        [{"name": "label", "parameters": {"classification": 2}}],
        [{"name": "label", "parameters": {"binary_data": 1}}],
        [{"name": "label", "kind": "x"}],
        ["label"],
    ],
)
def test_outputs_that_cannot_be_given_are_refused(outputs: list[Any]) -> None:
    with pytest.raises(Malformed):
        read(TENSOR, body(X, outputs=outputs))


# what the caller wishes


@pytest.mark.parametrize(
    ("parameters", "timeout_s", "priority"),
    [
        ({}, None, None),
        ({"timeout": 0, "priority": 0}, None, None),
        ({"timeout": 250_000}, 0.25, None),
        ({"priority": 1}, None, HIGH),
        ({"priority": 2}, None, NORMAL),
        ({"priority": 3, "timeout": 1}, 1e-6, LOW),
    ],
)
def test_timeout_and_priority_of_the_protocol_are_heeded(
    parameters: dict[str, Any], timeout_s: float | None, priority: int | None
) -> None:
    for asked in (read(TENSOR, body(X, parameters=parameters)), read_slowly(TENSOR, body(X, parameters=parameters))):
        assert asked.wishes is not None
        assert (asked.wishes.timeout_s, asked.wishes.priority) == (timeout_s, priority)
    assert read(TENSOR, body(X)).wishes is None


@pytest.mark.parametrize(
    "parameters",
    [{"timeout": -1}, {"timeout": 1.5}, {"timeout": "soon"}, {"timeout": 2**80}, {"priority": 4}, {"priority": True}],
)
def test_a_timeout_or_priority_that_means_nothing_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=r"`(timeout|priority)`"):
        read(TENSOR, body(X, parameters=parameters))


# binary tensors


def test_binary_inputs_and_json_inputs_mean_the_same() -> None:
    model = model_of([*PLAIN, tensor_column("x", "FP32", 3)])
    plain = {
        "note": ("BYTES", ["a b", ""], b"\x03\0\0\0a b\0\0\0\0"),
        "count": ("INT64", [1, 2], struct.pack("<2q", 1, 2)),
        "day": ("BYTES", ["2026-01-31"] * 2, b"\x0a\0\0\x002026-01-31" * 2),
        "score": ("FP64", [0.5, None], struct.pack("<2d", 0.5, float("nan"))),
        "city": ("BYTES", ["Zürich", "Oslo"], b"\x07\0\0\0Z\xc3\xbcrich\x04\0\0\0Oslo"),
        "open": ("BOOL", [True, False], b"\1\0"),
        "seen": ("BYTES", ["2026-01-31T12:00:00Z"] * 2, b"\x14\0\0\x002026-01-31T12:00:00Z" * 2),
        "age": ("INT64", [40, 41], struct.pack("<2q", 40, 41)),
    }
    in_json = [entry(name, kind, [2], values) for name, (kind, values, _) in plain.items()]
    in_binary = [entry(name, kind, [2], binary_data_size=len(raw)) for name, (kind, _, raw) in plain.items()]
    tensor = np.arange(6, dtype="<f4")
    asked = read(model, body(*in_json, entry("x", "FP32", [2, 3], tensor.tolist())))
    head = body(*in_binary, entry("x", "FP32", [2, 3], binary_data_size=24))
    data, headers = with_tail(head, *(raw for _, _, raw in plain.values()), tensor.tobytes())
    assert read(model, data, **headers).packed == asked.packed
    mixed = [*in_binary[:4], *in_json[4:], entry("x", "FP32", [2, 3], binary_data_size=24)]
    data, headers = with_tail(body(*mixed), *(raw for _, _, raw in list(plain.values())[:4]), tensor.tobytes())
    assert read(model, data, **headers).packed == asked.packed


@pytest.mark.parametrize("wish", ["all", "each", "label", "all but one"])
def test_outputs_come_as_bytes_where_the_caller_asks(wish: str) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "all": {"parameters": {"binary_data_output": True}},
        "each": {"outputs": [{"name": n, "parameters": {"binary_data": True}} for n in ("label", "probabilities")]},
        "label": {"outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]},
        "all but one": {
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": False}}],
        },
    }
    told, rest = parse(read(TENSOR, body(X, **wishes[wish])).answer(SETTLED, TENSOR, SAID))
    label, shares = told["outputs"]
    size = label["parameters"]["binary_data_size"]
    assert "data" not in label
    assert rest[:size] == b"\3\0\0\0yes\2\0\0\0no"
    if wish in ("label", "all but one"):
        assert shares["data"] == [0.25, 0.75, 0.5, 0.5]
        assert len(rest) == size
    else:
        assert shares["parameters"]["binary_data_size"] == len(rest) - size
        np.testing.assert_array_equal(np.frombuffer(rest[size:], "<f4"), [0.25, 0.75, 0.5, 0.5])


@pytest.mark.parametrize(
    ("size", "header", "words"),
    [
        (24, b"-1", "Inference-Header-Content-Length"),
        (24, b"1e3", "Inference-Header-Content-Length"),
        (24, b"99999", "Inference-Header-Content-Length"),
        (24, b"9" * 5000, "Inference-Header-Content-Length"),
        (24, b"0", "cannot be read"),
        (24, b"10", "cannot be read"),
        (25, None, "beyond the 24 bytes"),
        (-1, None, "no number of bytes"),
        (True, None, "no number of bytes"),
        ("24", None, "no number of bytes"),
        (2**70, None, "beyond the 24 bytes|cannot be read"),
        (23, None, "23 bytes"),
        (0, None, "0 bytes"),
    ],
)
def test_sizes_that_do_not_fit_the_body_are_refused(size: Any, header: bytes | None, words: str) -> None:
    data, headers = with_tail(body(entry("x", "FP32", [2, 3], binary_data_size=size)), b"\0" * 24)
    if header is not None:
        headers = dict.fromkeys(headers, header)
    with pytest.raises(Malformed, match=words):
        read(TENSOR, data, **headers)


def test_bytes_that_no_input_names_are_refused() -> None:
    data, headers = with_tail(body(X), b"\0")
    with pytest.raises(Malformed, match="1 bytes follow"):
        read(TENSOR, data, **headers)


def test_an_input_with_data_twice_or_not_at_all_is_refused() -> None:
    with pytest.raises(Malformed, match="neither `data` nor"):
        read(TENSOR, body(entry("x", "FP32", [2, 3])))
    data, headers = with_tail(body({**X, "parameters": {"binary_data_size": 24}}), b"\0" * 24)
    with pytest.raises(Malformed, match="both `data` and"):
        read(TENSOR, data, **headers)
    with pytest.raises(Malformed, match="beyond the 0 bytes"):
        read(TENSOR, body(entry("x", "FP32", [2, 3], binary_data_size=24)))


# what is refused


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": [1]}',
        body(X, more=1),
        body({**X, "more": 1}),
        body(X, id=7),
        body(X, X),
        b'{"inputs": ' + b"[" * 100_000,
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":' + b"[" * 100_000 + b"}]}",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":' + b"[" * 50 + b"]" * 50 + b"}]}",
        body(entry("x", "FP32", [2, 3], {"a": 1})),
        body(entry("x", "FP32", [2, 3], [[1, 2], [3, 4], [5, 6]])),
        body(entry("x", "FP32", [2, 3], [[1, 2, 3], [4, 5]])),
        body(entry("x", "FP32", [2, 3], [[[1, 2, 3], [4, 5, 6]]])),
        body(entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5])),
        body(entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, "6"])),
        body(entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, True])),
        body(entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 1e39])),
        body(entry("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 10**400])),
        body(entry("x", "FP32", [-2, 3], [1, 2, 3, 4, 5, 6])),
        body(entry("x", "BF16", [2, 3], [1, 2, 3, 4, 5, 6])),
        body(entry("x", "INT32", [2, 3], [1, 2, 3, 4, 5, 6.5])),
    ],
)
def test_what_is_no_request_of_the_protocol_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read(TENSOR, data)
    assert len(str(refused.value)) < 600


def test_more_rows_than_are_taken_at_once_are_too_large() -> None:
    model = model_of([tensor_column("x", "FP32", 1)], limits=Limits(most_rows=3))
    with pytest.raises(TooLarge, match="4 rows came, at most 3"):
        read(model, body(entry("x", "FP32", [4, 1], [1, 2, 3, 4])))
    with pytest.raises(TooLarge):
        read(model, body(entry("x", "FP32", [2**70, 1], [1])))


def test_a_shape_that_is_not_the_contracts_is_told_as_such() -> None:
    with pytest.raises(ContractBroken, match=r"column `x`: saw the shape \[1, 4\], wanted \[rows, 3\]"):
        read(TENSOR, body(entry("x", "FP32", [1, 4], [1, 2, 3, 4])))


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
SHAPES = st.lists(st.integers(-2, 4) | st.integers(-(2**70), 2**70), max_size=4)
INPUTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "ids", "age", "city", "stranger"]) | st.text(max_size=3),
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "INT8", "BOOL", "BYTES", "BF16"]),
        "shape": SHAPES | ANY,
    },
    optional={
        "data": ANY,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "shared"]), SCALARS) | ANY,
    },
)


ATTACKED_COLUMNS = [
    tensor_column("x", "FP32", 2),
    tensor_column("ids", "INT64", -1),
    plain_column("age", Kind.INTEGER, nullable=False),
    plain_column("city", Kind.CATEGORY),
]
ATTACKED = [model_of(some) for some in (ATTACKED_COLUMNS, ATTACKED_COLUMNS[:1], ATTACKED_COLUMNS[2:])]


@settings(UNHURRIED, max_examples=200)
@given(
    inputs=st.lists(INPUTS, max_size=4),
    more=st.fixed_dictionaries({}, optional={"id": ANY, "parameters": ANY, "outputs": ANY}),
    tail=st.binary(max_size=40),
    cut=st.integers(-2, 2),
    has_header=st.booleans(),
)
def test_hostile_bodies_raise_nothing_but_what_is_declared(
    inputs: list[Any], more: dict[str, Any], tail: bytes, cut: int, has_header: bool
) -> None:
    data, headers = with_tail(body(*inputs, **more), tail)
    if has_header:
        headers = {name: b"%d" % max(0, int(value) + cut) for name, value in headers.items()}
    for model in ATTACKED:
        with contextlib.suppress(*REFUSED):
            read(model, data, **headers if has_header else {})


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_but_what_is_declared(data: bytes) -> None:
    with contextlib.suppress(*REFUSED):
        read(TENSOR, data)


# the short way and the long way


def outcome(model: Model, data: bytes, *, slowly: bool) -> Packed | type[Exception]:
    try:
        return (read_slowly if slowly else read)(model, data).packed
    except REFUSED as fault:
        return type(fault)


AUDIT = Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=True)
LIKELY = {
    "note": st.text(max_size=4),
    "count": st.integers(-9, 9) | st.just(2**60) | st.just(1.0),
    "day": st.sampled_from(["2026-01-31", "2026-01-31T12:00:00", "soon"]),
    "score": st.floats(-9, 9) | st.integers(-9, 9) | st.booleans(),
    "city": st.sampled_from(["Oslo", "Rome", "<missing>"]) | st.integers(0, 1),
    "open": st.booleans() | st.integers(0, 1),
    "seen": st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31", ""]),
    "age": st.integers(-9, 9) | st.floats(-9, 9),
    "sex": st.sampled_from(["Female", 5]),
}
USUAL = {"note": "BYTES", "count": "INT64", "day": "BYTES", "score": "FP64", "city": "BYTES", "open": "BOOL",
         "seen": "BYTES", "age": "INT64", "sex": "BYTES"}  # fmt: skip


LIKELY_MODELS = {way: model_of([*PLAIN, AUDIT], unknown_category=way) for way in ("accept", "refuse")}


@settings(UNHURRIED, max_examples=250)
@given(data=st.data(), rows=st.sampled_from([1, 1, 1, 2]), unknown=st.sampled_from(["accept", "refuse"]))
def test_the_short_way_reads_plain_columns_as_the_long_one(data: st.DataObject, rows: int, unknown: str) -> None:
    model = LIKELY_MODELS[unknown]
    inputs = []
    for name, values in LIKELY.items():
        if data.draw(st.integers(0, 9)):
            found = data.draw(st.lists(values | st.none(), min_size=rows, max_size=rows))
            datatype = USUAL[name] if data.draw(st.integers(0, 9)) else data.draw(st.sampled_from(["INT8", "FP32"]))
            inputs.append(entry(name, datatype, data.draw(st.sampled_from([[rows], [rows], [rows, 1]])), found))
    sent = body(*inputs)
    assert outcome(model, sent, slowly=False) == outcome(model, sent, slowly=True)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "UINT64"])
@UNHURRIED
@given(data=st.data(), width=st.sampled_from([1, 3, 70]), rows=st.integers(1, 3), extra=st.integers(0, 1))
def test_the_short_way_reads_tensors_as_the_long_one(
    datatype: str, data: st.DataObject, width: int, rows: int, extra: int
) -> None:
    numbers = st.integers(-300, 300) | st.sampled_from([2**64 - 1, 2**64, 1e39, 70_000.0, None, True, "1"])
    if datatype.startswith("FP"):
        numbers |= st.floats(-9, 9)
    fill = data.draw(st.lists(numbers, min_size=1, max_size=3))
    values = (fill * (rows * width))[: rows * width + extra]
    columns = [tensor_column("x", datatype, width), tensor_column("y", datatype, -1)]
    sent = [entry(name, datatype, [rows, width], values) for name in ("x", "y")]
    for model, inputs in ((model_of(columns), sent), (model_of(columns[:1]), sent[:1])):
        assert outcome(model, body(*inputs), slowly=False) == outcome(model, body(*inputs), slowly=True)


def test_a_door_that_meets_another_body_under_the_same_name_reads_by_that_one() -> None:
    door, narrow = V2Door(), body(entry("x", "FP32", [1, 1], [1.0]))
    with pytest.raises(ContractBroken):
        door.read(asking(narrow), TENSOR)
    assert door.read(asking(narrow), model_of([tensor_column("x", "FP32", 1)])).rows == 1


@pytest.mark.parametrize("module", [elements, wishes])
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
