"""The protocol's REST form: what is refused, and that the short way of reading is the long one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.intake import Packed
from modelyard.core.contract import Column, Kind, Role
from modelyard.errors import ContractBroken
from modelyard.serve.doors import Malformed, TooLarge
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.v2.door import V2Door
from tests.serve.tensor_models import PLAIN, asking, model_of, plain_column, tensor_column
from tests.serve.v2_requests import TENSOR, X, body, entry, read, read_slowly, with_tail

UNHURRIED = settings(deadline=None)
REFUSED = (Malformed, TooLarge, ContractBroken)

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
    with pytest.raises(TooLarge, match=r"^1180591620717411303424 rows came"):
        read(model, body(entry("x", "FP32", [2**70, 1], [1])))
    with pytest.raises(TooLarge, match=r"^more than 10\^30 rows came, at most 3 are taken at once"):
        read(model, body(entry("x", "FP32", [10**40, 1], [1])))


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
