"""The protocol's REST form: requests as bytes in, answers as bytes out, without a network."""

from __future__ import annotations

import doctest
import json
import struct
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from modelyard.core.metrics import Task
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said
from modelyard.serve.guard.priority import HIGH, LOW, NORMAL
from modelyard.serve.request import JSON
from modelyard.serve.v2 import elements, wishes
from tests.serve.tensor_models import PLAIN, model_of, tensor_column
from tests.serve.v2_requests import HEADER, TENSOR, X, body, entry, read, read_slowly, with_tail

SAID = Said("shapes@3", "shapes@3", "r1", None)
SETTLED = Settled(labels=["yes", "no"], probabilities=[[0.25, 0.75], [0.5, 0.5]])


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


@pytest.mark.parametrize("module", [elements, wishes])
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
