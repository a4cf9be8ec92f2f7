from __future__ import annotations

from pathlib import Path

from modelyard.core.metrics import Task
from modelyard.spec import check_classes, check_columns
from tests.spec.making import LEAST, REGRESSION, loaded

CLASSES = ("<=50K", ">50K")

NAMING = """\
name: income
task:
  type: classification
  target: incme
data:
  path: train.csv
  columns:
    sx: {role: audit}
    age: {kind: integer}
requirements:
  - {metric: recall, at_least: 0.8, slice: "sexx=Female"}
  - metric: demographic_parity_difference
    at_most: 0.2
    group: race
"""


def test_columns_that_the_data_lacks_are_told_with_line_and_nearest_name(tmp_path: Path) -> None:
    wanted = 'wanted one of "age", "sex", "income"'
    assert check_columns(loaded(tmp_path, NAMING), ("age", "sex", "income")) == (
        f'system.yaml:4: task.target: saw the column "incme", which the data does not have, {wanted} (nearest: income)',
        f'system.yaml:8: data.columns.sx: saw the column "sx", which the data does not have, {wanted} (nearest: sex)',
        f'system.yaml:11: requirements[0].slice: saw the column "sexx", which the data does not have, {wanted} '
        "(nearest: sex)",
        f'system.yaml:14: requirements[1].group: saw the column "race", which the data does not have, {wanted}',
    )


def test_columns_that_are_there_are_no_fault(tmp_path: Path) -> None:
    assert check_columns(loaded(tmp_path, LEAST), ("age", "income")) == ()


def test_classes_that_fit_are_no_fault(tmp_path: Path) -> None:
    text = (
        LEAST + "serving: {fallback: [{kind: constant, label: '>50K', probabilities: {'<=50K': 0.4, '>50K': 0.6}}]}\n"
    )
    assert check_classes(loaded(tmp_path, text), Task.BINARY, CLASSES) == ()
    assert check_classes(loaded(tmp_path, REGRESSION), Task.REGRESSION, ()) == ()


def test_a_positive_class_that_the_data_lacks_is_told(tmp_path: Path) -> None:
    (told,) = check_classes(loaded(tmp_path, LEAST.replace(">50K", ">50k")), Task.BINARY, CLASSES)
    assert told.startswith('system.yaml:2: task.positive: saw ">50k", which the data does not have')
    assert told.endswith("(nearest: >50K)")


def test_a_positive_class_among_many_is_told(tmp_path: Path) -> None:
    (told,) = check_classes(loaded(tmp_path, LEAST), Task.MULTICLASS, ("a", "b", ">50K"))
    assert "a positive class, and 3 classes in the data" in told


def test_metrics_and_threshold_of_two_classes_are_told_where_there_are_more(tmp_path: Path) -> None:
    text = LEAST.replace(', positive: ">50K"', "") + (
        "objective: average_precision\n"
        "requirements: [{metric: average_precision, at_least: 0.5}]\n"
        "threshold: {maximise: f1}\n"
    )
    told = check_classes(loaded(tmp_path, text), Task.MULTICLASS, ("a", "b", "c"))
    assert [one.split(": ")[1] for one in told] == ["objective", "requirements[0].metric", "threshold"]


def test_a_constant_answer_has_the_classes_of_the_data(tmp_path: Path) -> None:
    text = LEAST + "serving: {fallback: [{kind: constant, label: x, probabilities: {x: 0.4, '>50K': 0.6}}]}\n"
    told = check_classes(loaded(tmp_path, text), Task.BINARY, CLASSES)
    assert 'the class "x", which the data does not have' in told[0]
    assert 'saw no probability of "<=50K"' in told[1]
