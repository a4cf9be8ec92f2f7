"""Slices and fairness beside hand computations."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.requirement import Slice
from modelyard.evaluate.outcomes import group_values, outcome_of, rows_of
from modelyard.evaluate.slices import LEAST_ROWS, MOST_VALUES, fairness, observe_requirement, sliced
from tests.evaluate.making import answers_of, contract, guess, requirement, strings, table

COLUMNS = table(800)
ANSWERS = guess(COLUMNS)


def test_the_metrics_of_a_slice_are_those_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    found = sliced(contract(), COLUMNS, ANSWERS, requirements=(), objective="accuracy", confidence=0.95, rng=rng)
    assert {(one.column, one.value) for one in found} == {
        ("sex", "F"), ("sex", "M"), ("colour", "red"), ("colour", "green")
    }  # fmt: skip
    assert ANSWERS.labels is not None and ANSWERS.probabilities is not None
    for one in found:
        rows = COLUMNS[one.column] == one.value
        truth, labels, positive = (
            COLUMNS["y"][rows] == "yes",
            ANSWERS.labels[rows] == "yes",
            ANSWERS.probabilities[rows, 1],
        )
        wanted = {
            "accuracy": accuracy_score(truth, labels),
            "precision": precision_score(truth, labels),
            "recall": recall_score(truth, labels),
            "roc_auc": roc_auc_score(truth, positive),
        }
        assert one.rows == rows.sum()
        seen = {observation.metric: observation.value for observation in one.observations}
        assert seen == {name: pytest.approx(value) for name, value in wanted.items()}
        assert all(observation.slice == Slice(column=one.column, value=one.value) for observation in one.observations)


def test_fairness_is_the_largest_gap_between_groups() -> None:
    found = fairness(contract(), COLUMNS, ANSWERS, confidence=0.95, rng=np.random.default_rng(0))
    assert ANSWERS.labels is not None
    truth, labels = COLUMNS["y"] == "yes", ANSWERS.labels == "yes"
    rates = {}
    for value in ("F", "M"):
        rows = COLUMNS["sex"] == value
        rates[value] = (labels[rows].mean(), labels[rows & truth].mean(), labels[rows & ~truth].mean())
    chosen, recall, wrong = (abs(one - other) for one, other in zip(rates["F"], rates["M"], strict=True))
    assert {one.metric: one.value for one in found} == {
        "demographic_parity_difference": pytest.approx(chosen),
        "equal_opportunity_difference": pytest.approx(recall),
        "equalized_odds_difference": pytest.approx(max(recall, wrong)),
    }
    assert {one.group for one in found} == {"sex"}


def test_a_requirement_on_a_slice_looks_at_its_rows_only() -> None:
    asked = requirement("accuracy", 0.5, slice=Slice(column="sex", value="F"))
    seen = observe_requirement(asked, contract(), COLUMNS, ANSWERS, rng=np.random.default_rng(0))
    assert seen.samples == (COLUMNS["sex"] == "F").sum() and seen.slice == asked.slice
    nobody = requirement("accuracy", 0.5, slice=Slice(column="sex", value="X"))
    none = observe_requirement(nobody, contract(), COLUMNS, ANSWERS, rng=np.random.default_rng(0))
    assert none.value is None and none.samples == 0


def test_a_slice_that_is_asked_for_comes_whatever_its_size() -> None:
    few = COLUMNS.take(slice(0, 40))
    asked = [requirement("accuracy", 0.5, slice=Slice(column="sex", value="X"))]
    found = sliced(
        contract(), few, guess(few), requirements=asked, objective="accuracy", confidence=0.95,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert ("X", 0) in {(one.value, one.rows) for one in found}
    assert all(one.rows >= LEAST_ROWS for one in found if one.value != "X")


def groups(values: Array, kind: Kind) -> list[str | None]:
    column = Column(name="g", kind=kind, role=Role.AUDIT, nullable=True)
    found: list[str | None] = group_values(column, Columns({"g": values})).tolist()
    return found


def test_groups_of_few_numbers_are_told_apart_and_read_back() -> None:
    values = np.array([1_000_001.0, 1_000_002.0, 0.1, np.nan, 0.1 + 1e-12, -3.0])
    seen = groups(values, Kind.NUMBER)
    assert seen == ["1000001", "1000002", "0.1", None, repr(0.1 + 1e-12), "-3"]
    asked = Contract(
        task=Task.BINARY, target="y", columns=(Column(name="g", kind=Kind.NUMBER, role=Role.AUDIT, nullable=True),)
    )
    for row, name in enumerate(seen):
        if name is not None:
            rows = rows_of(Slice(column="g", value=name), asked, Columns({"g": values}))
            assert np.flatnonzero(rows).tolist() == [row]


def test_groups_of_many_numbers_are_ranges_of_equal_mass() -> None:
    seen = groups(np.append(np.arange(1e9, 1e9 + 100), np.nan), Kind.INTEGER)
    assert seen[-1] is None and [seen.count(name) for name in dict.fromkeys(seen[:-1])] == [25, 25, 25, 25]


def test_groups_of_truths_and_of_times_are_named_as_people_do() -> None:
    assert groups(np.array([1.0, 0.0, np.nan]), Kind.BOOLEAN) == ["true", "false", None]
    assert groups(np.array(["2026-01-31", "NaT"], dtype="datetime64[us]"), Kind.DATE) == ["2026", None]


@pytest.mark.parametrize(
    ("value", "rows"), [("2026", [0, 1]), ("2026-01", [0]), ("2026-01-31", [0]), ("2027", []), ("x", [])]
)
def test_a_slice_of_time_is_named_by_how_it_begins(value: str, rows: list[int]) -> None:
    column = Column(name="t", kind=Kind.DATETIME, role=Role.FEATURE, nullable=True)
    times = Columns({"t": np.array(["2026-01-31T10:00", "2026-02-01", "NaT"], dtype="datetime64[us]")})
    asked = Contract(task=Task.REGRESSION, target="y", columns=(column,))
    assert np.flatnonzero(rows_of(Slice(column="t", value=value), asked, times)).tolist() == rows


def test_only_the_most_frequent_values_are_sliced() -> None:
    rows = 50 * 40
    names = strings([f"v{place % 50}" for place in range(rows)])
    columns = Columns({**table(rows).values, "sex": names})
    found = sliced(
        contract(), columns, guess(columns), requirements=(), objective="accuracy", confidence=0.95,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert sum(one.column == "sex" for one in found) == MOST_VALUES


def test_weights_and_groups_of_rows_reach_the_measures() -> None:
    extra = (
        Column(name="w", kind=Kind.NUMBER, role=Role.WEIGHT, nullable=False),
        Column(name="g", kind=Kind.CATEGORY, role=Role.GROUP, nullable=True),
    )
    columns = Columns({
        "x": np.zeros(4), "colour": strings("abab"), "sex": strings("FFMM"), "y": strings(["yes", "no", "yes", "no"]),
        "w": np.array([1.0, 2.0, 3.0, 4.0]), "g": strings(["one", "one", None, None]),
    })  # fmt: skip
    outcome = outcome_of(contract(Task.BINARY, *extra), columns, answers_of(np.array([0.9, 0.9, 0.1, 0.1])))
    assert outcome.weights is not None and outcome.weights.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert outcome.units()[0] == 3  # a row whose group is missing is a group of its own
    assert (
        outcome.y_true.tolist() == [1, 0, 1, 0]
        and outcome.labels is not None
        and outcome.labels.tolist() == [1, 1, 0, 0]
    )
