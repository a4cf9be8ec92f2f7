"""Rows held against the contract, beside an oracle that says the same in a few plain lines."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.check import MOST_FAULTS, check_rows, check_values
from modelyard.bundle.values import LONGEST_STRING
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken

CATEGORIES = ("red", "green", "blue")
SINGLE = [kind for kind in Kind if kind is not Kind.TENSOR]  # a value a row; tensors have tests of their own


def contract(*kinds: Kind, nullable: bool = True) -> Contract:
    columns = [
        Column(name=kind.value, kind=kind, role=Role.FEATURE, nullable=nullable, categories=CATEGORIES)
        for kind in kinds or SINGLE
    ]
    others = [
        Column(name="key", kind=Kind.CATEGORY, role=Role.ID, nullable=False),
        Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=False),
        Column(name="y", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False),
    ]
    return Contract(task=Task.BINARY, target="y", columns=(*columns, *others), classes=("no", "yes"))


BROKEN = object()


def oracle(kind: Kind, value: Any) -> Any:
    """What a value is in memory; None where it is missing, BROKEN where it breaks the contract."""
    if value is None or (value == "<missing>" and kind.is_string):
        return None
    if kind.is_string:
        if not isinstance(value, str) or len(value) > LONGEST_STRING:
            return BROKEN
        return BROKEN if any(0xD800 <= ord(letter) < 0xE000 for letter in value) else value
    if kind.is_time:
        return oracle_time(kind, value)
    if (kind is not Kind.BOOLEAN and isinstance(value, bool)) or not isinstance(value, int | float):
        return BROKEN
    if isinstance(value, float) and math.isnan(value):
        return None
    if (isinstance(value, float) and math.isinf(value)) or abs(value) >= 2**1024 - 2**970:
        return BROKEN
    if kind is Kind.INTEGER and (value != int(value) or abs(int(value)) > 2**53):
        return BROKEN
    if kind is Kind.BOOLEAN and value not in (0, 1):
        return BROKEN
    return float(value)


def oracle_time(kind: Kind, value: Any) -> Any:
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return BROKEN
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return BROKEN if kind is Kind.DATE and micros % 86_400_000_000 else micros


MOMENTS = st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=-7))])).map(datetime.isoformat)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**53 - 2, 2**53 + 2),
    st.integers(-1, 2),
    st.just(10**400),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.text(),
    st.sampled_from(["red", "<missing>", "", "NaN", "1", "\udc80", "2026-01-31", "20260131"]),
    st.just(LONGEST_STRING + 1).map(lambda length: "x" * length),
    st.dates().map(date.isoformat),
    MOMENTS,
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@settings(max_examples=400)
@given(kind=st.sampled_from(SINGLE), values=st.lists(VALUES, min_size=1, max_size=3), nullable=st.booleans())
def test_every_value_is_read_as_the_treatment_says(kind: Kind, values: list[Any], nullable: bool) -> None:
    wanted = [oracle(kind, plain(value)) for value in values]
    broken = [place for place, one in enumerate(wanted) if one is BROKEN or (one is None and not nullable)]
    rows = [{kind.value: value} for value in values]
    asked = contract(kind, nullable=nullable)
    if broken:
        with pytest.raises(ContractBroken) as caught:
            check_rows(asked, rows)
        assert [fault.split(",")[0] for fault in caught.value.faults] == [f"row {place}" for place in broken]
        assert all(f"column `{kind.value}`" in fault for fault in caught.value.faults)
        return
    column = check_rows(asked, rows)[kind.value]
    again = check_values(asked, {kind.value: values})[kind.value]
    for place, one in enumerate(wanted):
        for found in (column[place], again[place]):
            if kind.is_string:
                assert found == one
            elif kind.is_time:
                assert np.isnat(found) if one is None else found == np.datetime64(one, "us")
            else:
                assert math.isnan(found) if one is None else found == one
    assert column.dtype == (object if kind.is_string else "datetime64[us]" if kind.is_time else np.float64)


def test_a_column_left_out_is_missing_in_every_row() -> None:
    columns = check_rows(contract(), [{}, {"number": 1.5}])
    assert len(columns) == 2
    assert np.isnan(columns["integer"]).all() and np.isnat(columns["date"]).all()
    assert columns["category"].tolist() == [None, None] and columns["number"][1] == 1.5


def test_what_reaches_no_model_may_be_sent_and_is_left_out() -> None:
    columns = check_rows(contract(Kind.NUMBER), [{"number": 1, "key": 5, "sex": ["any"], "y": None}])
    assert list(columns) == ["number"]


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ContractBroken, match=r"row 1: unknown column `numbr`, nearest `number`"):
        check_rows(contract(), [{}, {"numbr": 1}])
    with pytest.raises(ContractBroken, match=r"unknown column `numbr`, nearest `number`"):
        check_values(contract(), {"numbr": [1]})


@pytest.mark.parametrize("row", [None, 5, "text", [1], 10**5000], ids=["null", "number", "text", "list", "huge"])
def test_a_row_that_is_no_object_is_refused(row: Any) -> None:
    with pytest.raises(ContractBroken, match=r"row 0: saw .*, wanted an object of named values"):
        check_rows(contract(), [row])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ContractBroken, match="differ in length"):
        check_values(contract(), {"number": [1], "text": []})


@pytest.mark.parametrize("values", ["text", b"bytes", 5, np.array(3.0), np.ones((2, 1)), {"a": 1}.values()])
def test_what_is_no_flat_list_is_refused(values: Any) -> None:
    with pytest.raises(ContractBroken, match="wanted one flat list of values"):
        check_values(contract(Kind.NUMBER), {"number": values})


def test_no_rows_are_no_rows() -> None:
    for columns in (check_rows(contract(), []), check_values(contract(), {"number": []}), check_values(contract(), {})):
        assert len(columns) == 0 and list(columns) == [kind.value for kind in SINGLE]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8])
def test_arrays_of_numbers_are_taken(dtype: type) -> None:
    columns = check_values(contract(Kind.NUMBER, Kind.INTEGER), {
        "number": np.array([1, 2], dtype=dtype), "integer": np.array([3, 4], dtype=dtype)})  # fmt: skip
    assert columns["number"].tolist() == [1.0, 2.0] and columns["integer"].tolist() == [3.0, 4.0]
    assert columns["number"].dtype == np.float64


def test_an_array_is_held_against_the_contract_like_a_list() -> None:
    asked = contract(Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY, Kind.DATETIME, nullable=False)
    sound: dict[str, Any] = {
        "number": np.array([0.5]), "integer": np.array([2**53]), "boolean": np.array([True]),
        "category": np.array(["red"]), "datetime": np.array(["2026-01-31"], dtype="datetime64[D]"),
    }  # fmt: skip
    assert check_values(asked, sound)["datetime"][0] == np.datetime64("2026-01-31", "us")
    faults: dict[str, Any] = {
        "number": [np.array([np.nan]), np.array([np.inf]), np.array([True]), np.array(["1"])],
        "integer": [np.array([0.5]), np.array([2**53 + 1]), np.array([-(2**63)])],
        "boolean": [np.array([2]), np.array(["true"])],
        "category": [np.array([b"red"]), np.array([None]), np.array([1])],
        "datetime": [np.array(["NaT"], dtype="datetime64[us]"), np.array([300_000], dtype="datetime64[Y]")],
    }
    for name, arrays in faults.items():
        for array in arrays:
            with pytest.raises(ContractBroken, match=f"row 0, column `{name}`"):
                check_values(asked, {**sound, name: array})


def test_an_array_given_is_never_changed_nor_shared() -> None:
    given = np.array([1.0, 2.0])
    found = check_values(contract(Kind.NUMBER), {"number": given})["number"]
    found[0] = 9.0
    assert given[0] == 1.0


def test_an_unknown_category_is_accepted_unless_the_release_refuses() -> None:
    rows: list[dict[str, Any]] = [{"category": "gren"}, {"category": "red"}, {"category": None}]
    assert check_rows(contract(), rows)["category"].tolist() == ["gren", "red", None]
    with pytest.raises(
        ContractBroken, match="row 0, column `category`: saw the unknown category 'gren', nearest `green`"
    ):
        check_rows(contract(), rows, unknown_category="refuse")
    assert check_rows(contract(), [{"text": "anything"}], unknown_category="refuse")["text"].tolist() == ["anything"]


@pytest.mark.parametrize("rows", [
    [{"number": "x"}] * 50_000,
    [{f"unknown {place}" * 500: 1 for place in range(5000)}],
    [{"category": "grean" * 2000}] * 50_000,
    [{"category": f"gre{place}"} for place in range(50_000)],
    [5] * 100_000,
])  # fmt: skip
def test_a_hostile_request_costs_little_and_gets_a_bounded_answer(rows: list[Any]) -> None:
    began = time.perf_counter()
    with pytest.raises(ContractBroken) as caught:
        check_rows(contract(), rows, unknown_category="refuse")
    assert time.perf_counter() - began < 2.0
    assert len(caught.value.faults) <= MOST_FAULTS and len("".join(caught.value.faults)) < 50_000


def test_contracts_are_never_mistaken_for_each_other() -> None:
    for place in range(300):
        one = contract(Kind.NUMBER) if place % 2 else contract(Kind.TEXT)
        assert list(check_rows(one, [{}])) == ["number" if place % 2 else "text"]
