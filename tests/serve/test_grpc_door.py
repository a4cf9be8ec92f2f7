"""Tensors of every datatype through the gRPC door: what goes in is what travels to the worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.contract import Kind
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge
from modelyard.serve.grpc.call import GrpcRequest
from modelyard.serve.grpc.door import AskedMessage, GrpcDoor
from modelyard.serve.grpc.infer import read_infer
from modelyard.serve.model import Model
from tests.serve.grpc_protos import of
from tests.serve.tensor_models import model_of, plain_column, tensor_column

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
DTYPES = {name: np.dtype(name.lower().replace("fp", "float")) for name in (*FIELDS, "FP16")}
SAID = Said("income@1", "income@1", "id", None)


def asked(model: Model, message: Any) -> AskedMessage:
    """Read a message as the door does."""
    data = message.SerializeToString()
    request = GrpcRequest(method=b"POST", path=b"", headers={}, body=data, id="id", arrived=0.0)
    request.message = read_infer(data)
    return GrpcDoor().read(request, model)


def request_of(name: str, datatype: str, shape: list[int], *, raw: bytes | None = None, typed: Any = ()) -> Any:
    message = of("ModelInferRequest")(model_name="income")
    one = message.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    elif datatype == "BYTES":
        one.contents.bytes_contents.extend(typed)
    else:
        getattr(one.contents, FIELDS[datatype]).extend(typed)
    return message


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_numbers_arrive_as_they_were_sent(datatype: str, data: st.DataObject) -> None:
    model = model_of((tensor_column("x", datatype, 3),))
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None
    rows = data.draw(st.integers(1, 40))
    values = data.draw(hnp.arrays(DTYPES[datatype], (rows, 3), elements=elements))
    found = asked(model, request_of("x", datatype, [rows, 3], raw=values.tobytes()))
    assert (found.packed.tensors, found.rows, found.is_raw) == ([values.tobytes()], rows, True)
    if datatype in FIELDS:
        found = asked(model, request_of("x", datatype, [rows, 3], typed=values.ravel().tolist()))
        assert (found.packed.tensors, found.rows, found.is_raw) == ([values.tobytes()], rows, False)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_strings_arrive_as_they_were_sent(texts: list[str]) -> None:
    model = model_of((tensor_column("x", "BYTES"),))
    raw = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    found = asked(model, request_of("x", "BYTES", [len(texts)], raw=raw))
    typed = asked(model, request_of("x", "BYTES", [len(texts)], typed=[text.encode() for text in texts]))
    assert found.packed.tensors == typed.packed.tensors == [raw]


def test_sizes_that_vary_travel_with_the_rows() -> None:
    model = model_of((tensor_column("x", "INT64", -1),))
    values = np.arange(10, dtype=np.int64)
    found = asked(model, request_of("x", "INT64", [2, 5], raw=values.tobytes()))
    assert (found.packed.tensors, found.packed.shapes, found.rows) == ([values.tobytes()], [[5]], 2)


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "INT8"])
def test_plain_columns_take_numbers_of_any_datatype(datatype: str) -> None:
    model = model_of((plain_column("a", Kind.NUMBER),))
    values = np.array([1, 2, 3], dtype=DTYPES[datatype])
    cells = np.array([1, 2, 3], dtype=np.float64).tobytes()
    for message in (
        request_of("a", datatype, [3, 1], raw=values.tobytes()),
        request_of("a", datatype, [3], typed=values.tolist()),
    ):
        assert asked(model, message).packed.numbers == cells


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (request_of("x", "FP32", [1, 3], raw=bytes(11)), "11 bytes"),
        (request_of("x", "FP32", [1, 3], typed=[1.0, 2.0]), "8 bytes"),
        (request_of("x", "INT8", [1, 3], typed=[1, 2, 300]), "beyond its datatype"),
        (request_of("x", "FP32", [1, 3], typed=()), "0 bytes"),
        (request_of("x", "INT64", [1, 3], typed=()), "0 values"),
        (request_of("x", "BF16", [1, 3], raw=bytes(6)), "BF16"),
        (request_of("x", "FP32", [2**62, 2**62], raw=bytes(12)), "rows"),
        (request_of("x", "FP32", [-1, 3], raw=bytes(12)), "negative"),
        (request_of("x", "FP32", [], raw=bytes(12)), "shape"),
    ],
)
def test_contents_that_do_not_fit_are_refused(message: Any, words: str) -> None:
    with pytest.raises((Malformed, ContractBroken, TooLarge), match=words):
        asked(model_of((tensor_column("x", "FP32", 3),)), message)


def test_wishes_are_heeded() -> None:
    message = request_of("x", "FP32", [1, 3], raw=bytes(12))
    message.parameters["timeout"].int64_param = 250_000
    found = asked(model_of((tensor_column("x", "FP32", 3),)), message)
    assert found.wishes is not None and found.wishes.timeout_s == 0.25
    message.outputs.add(name="label").parameters["classification"].int64_param = 3
    with pytest.raises(Malformed, match="classification"):
        asked(model_of((tensor_column("x", "FP32", 3),)), message)


def test_a_regression_answers_its_value() -> None:
    model = model_of((tensor_column("x", "FP32", 3),), task=Task.REGRESSION)
    for message in (request_of("x", "FP32", [1, 3], raw=bytes(12)), request_of("x", "FP32", [1, 3], typed=[0.0] * 3)):
        message.id = "mine"
        body, kind, extra = asked(model, message).answer(Settled(values=[2.5]), model, SAID)
        answer = of("ModelInferResponse").FromString(body)
        assert (kind, extra, answer.id) == (b"application/grpc", b"", "mine")
        (value,) = answer.outputs
        assert (value.name, value.datatype, list(value.shape)) == ("value", "FP64", [1])
        raw = b"".join(answer.raw_output_contents)
        assert np.frombuffer(raw).tolist() == [2.5] if raw else list(value.contents.fp64_contents) == [2.5]


def test_answers_differ_by_who_gave_them_though_their_beginnings_are_remembered() -> None:
    model = model_of((tensor_column("x", "FP32", 3),))
    found = asked(model, request_of("x", "FP32", [1, 3], raw=bytes(12)))
    settled = Settled(labels=["no"], probabilities=[[0.75, 0.25]])
    said = [SAID, Said("income@1", "income@1 fallback:constant", "id", "deadline"), SAID]
    answers = [of("ModelInferResponse").FromString(found.answer(settled, model, one)[0]) for one in said]
    assert [one.parameters["degraded"].bool_param for one in answers] == [False, True, False]
    assert answers[1].parameters["reason"].string_param == "deadline"
    assert answers[0] == answers[2]
