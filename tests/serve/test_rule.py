"""Rules over checked columns: what each case means, and every condition that cannot be asked."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import BundleFormat
from modelyard.serve.guard.fallback import Answering, order
from modelyard.serve.guard.rule import FEW
from tests.serve.bodies import GOLDEN_ROWS, contract
from tests.serve.orders import NO, PREVIOUS, YES, asked, body, rule, told

OSLO = {"column": "city", "is": "equals", "value": "Oslo"}


def test_the_first_case_that_a_row_meets_answers_it() -> None:
    settled = asked(
        rule(
            ([{"column": "age", "is": "at_least", "value": 60}], YES),
            ([{"column": "age", "is": "at_least", "value": 40}, OSLO], NO),
            ([{"column": "age", "is": "at_least", "value": 40}], YES),
            otherwise={"label": "<=50K", "probabilities": [0.5, 0.5]},
        ),
        GOLDEN_ROWS,
    )  # fmt: skip
    assert settled.labels == ["<=50K", ">50K", "<=50K"]
    assert settled.probabilities == [[0.5, 0.5], [0.125, 0.875], [0.75, 0.25]]


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"column": "age", "is": "above", "value": 45}, [False, True, False]),
        ({"column": "age", "is": "at_most", "value": 45}, [True, False, True]),
        ({"column": "age", "is": "below", "value": 45.0}, [True, False, False]),
        ({"column": "age", "is": "one_of", "value": [30, 45]}, [True, False, True]),
        ({"column": "score", "is": "equals", "value": 0}, [False, False, True]),
        ({"column": "city", "is": "missing"}, [False, True, False]),
        ({"column": "city", "is": "one_of", "value": ["Oslo", "Rome"]}, [False, False, True]),
        ({"column": "seen", "is": "at_least", "value": "2026-01-31T13:00:00+01:00"}, [True, False, True]),
        ({"column": "seen", "is": "above", "value": "2026-01-31"}, [True, False, True]),
        ({"column": "seen", "is": "equals", "value": "2025-06-01T03:30:00Z"}, [False, True, False]),
        ({"column": "seen", "is": "one_of", "value": ["2025-06-01T03:30:00", "2026-01-31"]}, [False, True, False]),
    ],
)
def test_each_comparison_means_what_it_says(condition: dict[str, Any], met: list[bool]) -> None:
    wanted = [">50K" if one else "<=50K" for one in met]
    assert asked(rule(([condition], YES)), GOLDEN_ROWS).labels == wanted
    assert asked(rule(([condition], YES)), GOLDEN_ROWS * FEW).labels == wanted * FEW


def test_a_missing_value_meets_no_condition_but_missing() -> None:
    row = {**GOLDEN_ROWS[0], "score": None, "city": None}
    for test, value in [("at_least", -1e300), ("above", -1e300), ("at_most", 1e300), ("below", 1e300), ("equals", 0)]:
        condition = {"column": "score", "is": test, "value": value}
        assert asked(rule(([condition], YES)), [row]).labels == ["<=50K"]
    assert asked(rule(([{"column": "score", "is": "missing"}], YES)), [row]).labels == [">50K"]
    assert asked(rule(([{"column": "city", "is": "equals", "value": "None"}], YES)), [row]).labels == ["<=50K"]


def test_numbers_mean_their_text_in_a_column_of_text() -> None:
    condition = {"column": "city", "is": "one_of", "value": [7, True]}
    rows = [{**GOLDEN_ROWS[0], "city": city} for city in ("7", "true", "True")]
    assert asked(rule(([condition], YES)), rows).labels == [">50K", ">50K", "<=50K"]


def test_truth_values_are_asked_as_truth_values() -> None:
    flags = (Column(name="flag", kind=Kind.BOOLEAN, role=Role.FEATURE, nullable=True),)
    made = Contract(task=Task.REGRESSION, target="t", columns=flags)
    entry = rule(([{"column": "flag", "is": "equals", "value": True}], {"value": 1}), otherwise={"value": 0})
    (step,) = order(body(entry, task=Task.REGRESSION, given=made), None)
    assert isinstance(step, Answering)
    rows: list[dict[str, Any]] = [{"flag": True}, {"flag": 0}, {"flag": None}, {}]
    assert step.answer(check_rows(made, rows), 4).values == [1.0, 0.0, 0.0, 0.0]
    entry["cases"][0]["when"][0].update({"is": "above", "value": False})
    with pytest.raises(BundleFormat, match="compares by size, and a boolean has none"):
        order(body(entry, task=Task.REGRESSION, given=made), None)


TESTS = {
    "at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt, "equals": operator.eq,
}  # fmt: skip
SMALL = st.integers(-2, 2)
NUMBER_CONDITIONS = st.fixed_dictionaries(
    {"column": st.sampled_from(["age", "score"]), "is": st.sampled_from(sorted(TESTS)), "value": SMALL}
)
CONDITIONS = (
    NUMBER_CONDITIONS
    | st.fixed_dictionaries({"column": st.sampled_from(["age", "score", "city", "seen"]), "is": st.just("missing")})
    | st.fixed_dictionaries(
        {"column": st.just("score"), "is": st.just("one_of"), "value": st.lists(SMALL, min_size=1, max_size=3)}
    )
    | st.fixed_dictionaries(
        {
            "column": st.just("city"),
            "is": st.just("one_of"),
            "value": st.lists(st.sampled_from(["Oslo", "Rome", "x"]), min_size=1, max_size=3),
        }
    )
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "age": SMALL,
            "score": st.none() | SMALL | st.just(0.5),
            "city": st.none() | st.sampled_from(["Oslo", "Rome", "y"]),
            "seen": st.just("2026-01-01"),
        }
    ),
    min_size=1,
    max_size=6,
)


def by_hand(cases: Sequence[Sequence[Mapping[str, Any]]], row: Mapping[str, Any]) -> float:
    """Say, row by row and value by value, which case a row meets first."""
    for number, when in enumerate(cases):
        if all(meets(condition, row[condition["column"]]) for condition in when):
            return float(number)
    return float(len(cases))


def meets(condition: Mapping[str, Any], value: Any) -> bool:
    test = condition["is"]
    if value is None or test == "missing":
        return value is None and test == "missing"
    return value in condition["value"] if test == "one_of" else bool(TESTS[test](value, condition["value"]))


@settings(deadline=None)
@given(cases=st.lists(st.lists(CONDITIONS, min_size=1, max_size=3), min_size=1, max_size=4), rows=ROWS)
def test_whole_columns_are_judged_as_row_by_row(cases: Any, rows: list[dict[str, Any]]) -> None:
    written = rule(*((when, {"value": number}) for number, when in enumerate(cases)), otherwise={"value": len(cases)})
    wanted = [by_hand(cases, row) for row in rows]
    assert asked(written, rows, task=Task.REGRESSION).values == wanted
    many = FEW // len(rows) + 1  # so many rows are judged as whole columns
    assert asked(written, rows * many, task=Task.REGRESSION).values == wanted * many


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"column": "agee", "is": "missing"}, "case 0, condition 0: unknown column `agee`, nearest `age`"),
        ({"column": "sex", "is": "equals", "value": "Male"}, "column `sex`: it is an audit column"),
        ({"column": "target", "is": "equals", "value": "a"}, "column `target`: it is a target column"),
        ({"column": "age", "is": "at_least", "value": "x"}, "column `age`: saw 'x', wanted a number"),
        ({"column": "age", "is": "equals", "value": 1.5}, "column `age`: saw 1.5, wanted a whole number"),
        ({"column": "age", "is": "equals"}, "column `age`: saw None, wanted a number"),
        ({"column": "city", "is": "below", "value": "Oslo"}, "`below` compares by size, and a category has none"),
        ({"column": "city", "is": "equals", "value": 1.5}, "column `city`: saw 1.5, wanted a string"),
        ({"column": "city", "is": "equals", "value": "<missing>"}, "which is a missing value: ask `is: missing`"),
        ({"column": "seen", "is": "above", "value": "soon"}, "column `seen`: saw 'soon', wanted an ISO 8601 date"),
        ({"column": "age", "is": "one_of", "value": 1}, "column `age`: saw 1, wanted a list of values"),
        ({"column": "age", "is": "one_of", "value": []}, "wanted a list of values for `one_of`"),
        ({"column": "age", "is": "one_of", "value": [1, "x"]}, "column `age`: saw 'x', wanted a number"),
        ({"column": "age", "is": "missing", "value": 1}, "saw a value, and `missing` compares with nothing"),
        ({"column": "age", "is": "about", "value": 1}, "Invalid enum value 'about'"),
        ({"column": "age", "is": "equals", "value": 1, "then": 2}, "unknown field `then`"),
    ],
)
def test_a_condition_that_the_contract_does_not_bear_is_told(condition: dict[str, Any], why: str) -> None:
    assert why in told(PREVIOUS, rule(([condition], YES)))


def test_a_tensor_cannot_be_looked_into() -> None:
    image = Column(name="image", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="FP32", shape=(3, 4))
    made = msgspec.structs.replace(contract(), columns=(*contract().columns, image))
    with pytest.raises(BundleFormat, match="`image`: it is a tensor"):
        order(body(rule(([{"column": "image", "is": "missing"}], YES)), given=made), None)
