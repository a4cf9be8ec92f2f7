"""Parity catches what differs, however little or strange, and lets pass what may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Floats
from modelyard.core.evidence import Parity
from modelyard.core.metrics import Task
from modelyard.evaluate.parity import WORST, parity
from tests.evaluate.making import answers_of, contract, strings, table

COLUMNS = table(40)
POSITIVE = np.linspace(0.02, 0.98, 40)
REFERENCE: Floats = np.column_stack([1 - POSITIVE, POSITIVE])


def held(answers: Answers, reference: Floats = REFERENCE, *, threshold: float | None = None) -> Parity:
    return parity("a and b", contract(), COLUMNS, reference, answers, threshold=threshold, deviation=1.0)


def values(values: Floats, reference: Floats, deviation: float) -> Parity:
    return parity(
        "a and b", contract(Task.REGRESSION), COLUMNS.take(slice(0, len(reference))), reference[:, None],
        Answers(values=values), threshold=None, deviation=deviation,
    )  # fmt: skip


def test_the_same_answers_in_float32_pass() -> None:
    found = held(answers_of(POSITIVE))
    assert found.passed and found.rows == 40 and found.largest_difference < 1e-7 and not found.worst


@pytest.mark.parametrize("row", [0, 17, 39])
def test_one_row_beyond_the_tolerance_is_found_and_listed_with_its_columns(row: int) -> None:
    moved = POSITIVE.copy()
    moved[row] += 2e-5
    found = held(answers_of(moved))
    assert not found.passed and [one.row for one in found.worst] == [row]
    assert found.worst[0].difference == pytest.approx(2e-5, rel=0.01)
    assert found.worst[0].columns["x"] == COLUMNS["x"][row] and set(found.worst[0].columns) == {"x", "colour"}
    assert found.labels_changed == 0


@pytest.mark.parametrize("side", ["answer", "reference", "both"])
def test_nan_never_passes(side: str) -> None:
    moved, reference = POSITIVE.copy(), REFERENCE.copy()
    if side != "reference":
        moved[3] = np.nan
    if side != "answer":
        reference[3] = np.nan
    found = held(answers_of(moved), reference)
    assert not found.passed and found.worst[0].row == 3
    assert np.isfinite(found.largest_difference) and found.largest_difference > 1e300


def test_a_changed_label_is_found_though_the_probabilities_agree() -> None:
    right = answers_of(POSITIVE)
    assert right.labels is not None
    labels = right.labels.copy()
    labels[5] = "yes"
    found = held(replace(right, labels=labels))
    assert not found.passed and found.labels_changed == 1 and found.worst[0].row == 5


def test_a_label_may_differ_where_the_reference_stands_on_its_threshold() -> None:
    positive = np.array([0.4 - 5e-6, 0.4 + 5e-6, 0.4 - 2e-5])
    reference = np.column_stack([1 - positive, positive])
    other = Answers(labels=strings(["yes", "no", "yes"]), probabilities=reference)
    found = parity("a", contract(), COLUMNS.take(slice(0, 3)), reference, other, threshold=0.4, deviation=1.0)
    assert found.labels_changed == 1 and [one.row for one in found.worst] == [2]


def test_a_label_of_many_may_differ_between_classes_that_are_level() -> None:
    reference = np.array([[0.4, 0.4 - 5e-6, 0.2], [0.5, 0.3, 0.2]])
    other = Answers(labels=strings(["b", "b"]), probabilities=reference)
    found = parity(
        "a", contract(Task.MULTICLASS), COLUMNS.take(slice(0, 2)), reference, other, threshold=None, deviation=1.0
    )
    assert found.labels_changed == 1 and [one.row for one in found.worst] == [1]


@pytest.mark.parametrize("deviation", [1e-3, 1.0, 1e9])
def test_values_are_held_in_units_of_the_targets_deviation(deviation: float) -> None:
    reference = np.linspace(-2, 2, 9) * deviation
    assert values(reference + 9e-6 * deviation, reference, deviation).passed
    assert not values(reference + 1.1e-5 * deviation, reference, deviation).passed
    assert not values(np.where(reference == 0, np.inf, reference), reference, deviation).passed


@pytest.mark.parametrize("count", [0, 1, 39, 41])
def test_answers_to_another_number_of_rows_never_pass(count: int) -> None:
    found = held(answers_of(np.resize(POSITIVE, count)))
    assert not found.passed and found.rows == 40 and len(found.worst) == WORST
    assert not values(np.ones(1), np.ones(9), 1.0).passed


def test_no_rows_pass() -> None:
    empty = parity(
        "a",
        contract(),
        COLUMNS.take(slice(0, 0)),
        REFERENCE[:0],
        answers_of(POSITIVE[:0]),
        threshold=0.5,
        deviation=1.0,
    )
    assert empty.passed and empty.largest_difference == 0.0
