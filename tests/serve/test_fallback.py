"""The order of fallbacks as a front reads it from a bundle: what each step answers, and every fault that is told."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import Body
from modelyard.bundle.open import read_body
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import BundleFormat
from modelyard.serve.guard.fallback import Answering, Other, Reason, Refuse, Step, misfits, order
from tests.serve.bodies import CLASSES, CONSTANT, GOLDEN_ROWS, REFUSE, contract, write_body
from tests.serve.orders import MISSING, NO, PREVIOUS, VARIANT, YES, asked, body, rule, told


def shown(steps: Sequence[Step]) -> list[str]:
    return [f"{step.by} {step.release}" if isinstance(step, Other) else step.by for step in steps]


# the order


def test_the_steps_are_those_of_the_bundle_in_its_order() -> None:
    steps = order(body(PREVIOUS, VARIANT, rule(([{"column": "age", "is": "missing"}], YES))), "income@1")
    assert shown(steps) == ["previous income@1", "variant small@3", "rule"]


@pytest.mark.parametrize(
    ("entries", "previous", "steps"),
    [
        ([], None, ["refuse"]),
        ([PREVIOUS], None, ["refuse"]),
        ([PREVIOUS], "income@1", ["previous income@1", "refuse"]),
        ([PREVIOUS, CONSTANT], None, ["constant"]),
        ([REFUSE, CONSTANT], None, ["refuse"]),
        ([CONSTANT, PREVIOUS, VARIANT], "income@1", ["constant"]),
        ([VARIANT, REFUSE], None, ["variant small@3", "refuse"]),
    ],
)
def test_an_order_always_ends_in_a_step_that_ends_it(entries: Any, previous: str | None, steps: list[str]) -> None:
    assert shown(order(body(*entries), previous)) == steps


def test_a_release_is_not_its_own_fallback() -> None:
    steps = order(body(VARIANT, PREVIOUS, CONSTANT), "income@2", own="income@2")
    assert shown(steps) == ["variant small@3", "constant"]
    assert shown(order(body(VARIANT, CONSTANT), None, own="small@3")) == ["constant"]


def test_reasons_are_words_for_headers() -> None:
    assert all(reason.value.isascii() and reason.value.replace("_", "").isalpha() for reason in Reason)


# constants


@pytest.mark.parametrize("shares", [{"<=50K": 0.75, ">50K": 0.25}, [0.75, 0.25], None])
def test_a_constant_answers_every_row_alike(tmp_path: Path, shares: Any) -> None:
    write_body(tmp_path / "b", fallback=[{**CONSTANT, "probabilities": shares}])
    (step,) = order(read_body(tmp_path / "b"), None)
    assert isinstance(step, Answering)
    settled = step.answer(check_rows(contract(), GOLDEN_ROWS), 3)
    assert settled.labels == ["<=50K"] * 3
    assert settled.probabilities == [[1.0, 0.0] if shares is None else [0.75, 0.25]] * 3
    assert settled.values is None


def test_a_constant_of_a_regression_is_a_value() -> None:
    settled = asked({"kind": "constant", "value": 12}, GOLDEN_ROWS[:2], task=Task.REGRESSION)
    assert (settled.values, settled.labels) == ([12.0, 12.0], None)


# faults


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "magic"},
        {},
        {"kind": "variant"},
        {"kind": "previous", "release": "a@1"},
        {"kind": "refuse", "label": "x"},
        {"kind": "constant"},
        {"kind": "constant", "label": "rich"},
        {"kind": "constant", "label": "<=50K", "probabilities": {"<=50K": 0.5}},
        {"kind": "constant", "label": "<=50K", "probabilities": {"<=50K": 0.5, "x": 0.5}},
        {"kind": "constant", "label": "<=50K", "probabilities": [0.9, 0.9]},
        {"kind": "constant", "label": "<=50K", "probabilities": [1.5, -0.5]},
        {"kind": "constant", "label": "<=50K", "probabilities": ["1", "0"]},
        {"kind": "rule", "cases": [], "otherwise": NO},
        {"kind": "rule", "cases": [{"when": [], "then": YES}], "otherwise": NO},
        {"kind": "rule", "cases": [{"when": [{"column": "age", "is": "missing"}], "then": YES}]},
        {"kind": "rule", "cases": [{"when": [MISSING], "then": {"value": 1}}], "otherwise": NO},
    ],
)  # fmt: skip
def test_a_step_that_makes_no_sense_is_told_wherever_it_stands(entry: dict[str, Any]) -> None:
    assert "fallback 0" in told(entry)
    assert "fallback 1" in told(REFUSE, entry)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), True, "1"])
def test_a_value_is_a_finite_number(value: Any) -> None:
    assert "fallback 0" in told({"kind": "constant", "value": value}, task=Task.REGRESSION)


def test_all_faults_of_an_order_are_told_at_once() -> None:
    text = told(
        {"kind": "constant", "label": ">50k"},
        rule(([{"column": "agee", "is": "missing"}, {"column": "age", "is": "below", "value": "x"}], {"label": "y"})),
        {"kind": "magic"},
    )
    for fault in (
        "fallback 0: `label` is '>50k', wanted one of `<=50K`, `>50K`, nearest `>50K`",
        "fallback 1, case 0, condition 0: unknown column `agee`",
        "fallback 1, case 0, condition 1: column `age`",
        "fallback 1, case 0: `label` is 'y'",
        "fallback 2: Invalid value 'magic'",
    ):
        assert fault in text


def test_a_long_list_of_faults_is_told_in_part() -> None:
    text = told(*({"kind": "constant", "label": f"label {number}"} for number in range(50)))
    assert "fallback 19" in text
    assert "fallback 20" not in text


# another release in the place of one


def columns(*, without: str = "", **more: Column) -> Contract:
    kept = [column for column in contract().columns if column.name != without]
    return msgspec.structs.replace(contract(), columns=(*kept, *more.values()))


def city(kind: Kind) -> Column:
    return Column(name="city", kind=kind, role=Role.FEATURE, nullable=True)


EXTRA = Column(name="extra", kind=Kind.NUMBER, role=Role.FEATURE, nullable=False)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (body(), ()),
        (body(task=Task.REGRESSION), ("its task is regression, wanted binary",)),
        (
            body(given=msgspec.structs.replace(contract(), classes=CLASSES[::-1])),
            ("its classes are `>50K`, `<=50K`, wanted `<=50K`, `>50K`",),
        ),
        (body(given=columns(without="score")), ("it does not know the column `score`",)),
        (body(given=columns(without="sex")), ()),
        (body(given=columns(extra=EXTRA)), ("it needs the column `extra`",)),
        (body(given=columns(extra=msgspec.structs.replace(EXTRA, nullable=True))), ()),
        (
            body(given=columns(without="city", city=city(Kind.TEXT))),
            (),
        ),
        (
            body(given=columns(without="city", city=city(Kind.NUMBER))),
            ("its column `city` is number, wanted category",),
        ),
    ],
)  # fmt: skip
def test_a_release_that_cannot_answer_for_another_is_told(other: Body, why: tuple[str, ...]) -> None:
    assert misfits(body(), other) == why


def test_a_refusal_answers_nothing() -> None:
    (step,) = order(body(REFUSE), None)
    assert isinstance(step, Refuse)
    assert not isinstance(step, Answering)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "age", "city", "rule", "<=50K", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "label", "when", "then", "is", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
WHOLE = [VARIANT, CONSTANT, rule(([{"column": "city", "is": "one_of", "value": ["Oslo"]}, MISSING], YES))]


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in ((*place, key), *places(one, (*place, key)))]


@settings(deadline=None, max_examples=300)
@given(place=st.sampled_from(places(WHOLE)), value=ANYTHING, task=st.sampled_from([Task.BINARY, Task.REGRESSION]))
def test_whatever_stands_in_a_manifest_is_an_order_or_is_told(place: tuple[Any, ...], value: Any, task: Task) -> None:
    tree: Any = copy.deepcopy(WHOLE)
    parent = tree
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    made = body(task=task)
    manifest = msgspec.structs.replace(made.manifest, fallback=tuple(tree))
    try:
        steps = order(msgspec.structs.replace(made, manifest=manifest), None)
    except BundleFormat:
        return
    rows = check_rows(made.contract, GOLDEN_ROWS)
    assert all(not step.answer(rows, 3).failed for step in steps if isinstance(step, Answering))
