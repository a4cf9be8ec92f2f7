"""Reading rows quickly and packing them, beside the slow road, which is the truth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows, check_values
from modelyard.bundle.intake import Intake, Packed, join
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken, EngineFailed
from tests.bundle.test_check import SINGLE, contract

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(2**53 - 2, 2**53 + 2),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["red", "<missing>", "n/a", "é", "\udc80", "2026-01-31", "2026-01-31T05:06:07.123456+02:00"]),
)


def equal(one: Columns, other: Columns) -> bool:
    return all(
        (one[name].dtype.kind == "O" and one[name].tolist() == other[name].tolist())
        or (one[name].dtype.kind != "O" and np.array_equal(one[name], other[name], equal_nan=True))
        for name in one
    ) and list(one) == list(other)


@settings(max_examples=500)
@given(
    kinds=st.lists(st.sampled_from(SINGLE), min_size=1, max_size=7, unique=True),
    nullable=st.booleans(),
    values=st.lists(st.lists(VALUES, min_size=8, max_size=8), min_size=1, max_size=3),
)
def test_what_is_read_quickly_is_what_the_slow_road_reads(
    kinds: list[Kind], nullable: bool, values: list[list[Any]]
) -> None:
    asked = contract(*kinds, nullable=nullable)
    rows = [{kind.value: value for kind, value in zip(kinds, line, strict=False)} for line in values]
    intake = Intake(asked)
    found = intake.rows(json.dumps({"rows": rows}).encode())
    try:
        slow = check_rows(asked, rows)
    except ContractBroken:
        assert found is None
        return
    again = intake.columns(intake.pack(slow), len(rows))
    assert equal(again, slow)
    if found is not None:
        assert found[1] == len(rows)
        assert equal(intake.columns(found[0], len(rows)), slow)


def test_plain_rows_take_the_quick_road() -> None:
    rows = [{"integer": 3, "number": 1.5, "boolean": True, "category": "red", "text": "so", "date": "2026-01-31",
             "datetime": "2026-01-31T05:06:07Z", "key": 5, "sex": ["any"]}]  # fmt: skip
    assert Intake(contract(nullable=False)).rows(json.dumps({"rows": rows}).encode()) is not None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"rows":[]}', b'{"rows":[{}],"more":1}', b'{"rows":[{"nmber":1}]}', b"[" * 100_000, b"\xff",
     b'{"rows":[{"number":1e999}]}', b'{"rows":[{"integer":1.5}]}', b'{"rows":[{"category":1}]}'],
)  # fmt: skip
def test_whatever_is_not_plain_is_left_to_the_slow_road(body: bytes) -> None:
    assert Intake(contract()).rows(body) is None


def test_a_release_that_refuses_unknown_categories_looks_at_each() -> None:
    assert Intake(contract(Kind.CATEGORY), unknown_category="refuse").rows(b'{"rows":[{"category":"red"}]}') is None


def tensors() -> Contract:
    columns = (
        Column(name="x", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="FP32", shape=(2, 3)),
        Column(name="ids", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="INT64", shape=(-1,)),
        Column(name="words", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="BYTES", shape=(2,)),
        Column(name="age", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True),
    )
    return Contract(task=Task.REGRESSION, target="y", columns=columns)


def some(rows: int) -> dict[str, Any]:
    return {
        "x": np.arange(rows * 6, dtype=np.float64).reshape(rows, 2, 3).tolist(),
        "ids": [[1, 2, row] for row in range(rows)],
        "words": [["é", "x" * row] for row in range(rows)],
        "age": [None] * rows,
    }


def test_tensors_are_packed_cut_and_joined_without_a_change() -> None:
    asked = tensors()
    intake = Intake(asked)
    columns = check_values(asked, some(5))
    packed = intake.pack(columns)
    assert columns["x"].dtype == np.float32 and columns["ids"].dtype == np.int64
    assert equal(intake.columns(packed, 5), columns)
    halves = [intake.cut(packed, 0, 2, 5), intake.cut(packed, 2, 5, 5)]
    assert equal(intake.columns(halves[1], 3), columns.take(slice(2, 5)))
    assert equal(intake.columns(join(halves), 5), columns)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("x", [[1, 2], [3, 4]], "shape"),
        ("x", [[1, 2, 3], [4, 5, "6"]], "not FP32"),
        ("x", [[1, 2, 3], [4, 5, 1e39]], "beyond the range"),
        ("x", [[1, 2, 3], [4, 5]], "different shapes"),
        ("ids", [2.5], "not INT64"),
        ("ids", [True], "not INT64"),
        ("ids", [2**63], "INT64"),
        ("words", ["a", 3], "not a string"),
    ],
)
def test_a_tensor_that_breaks_the_contract_is_refused_with_its_row(name: str, value: Any, why: str) -> None:
    given_values = some(3)
    given_values[name][1] = value
    with pytest.raises(ContractBroken, match=f"row 1, column `{name}`.*{why}"):
        check_rows(tensors(), [{key: values[row] for key, values in given_values.items()} for row in range(3)])


def test_a_batch_that_does_not_fit_the_contract_is_no_columns() -> None:
    intake = Intake(contract())
    for packed in (Packed(), Packed(numbers=b"123"), Packed(strings=["a"])):
        with pytest.raises(EngineFailed):
            intake.columns(packed, 1)
