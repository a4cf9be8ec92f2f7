from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.metrics import METRICS, Task
from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Slice, Stage
from modelyard.spec.requirements import ThresholdSpec
from tests.spec.making import LEAST, REGRESSION, faults, loaded, only


def records(folder: Path, *lines: str, base: str = LEAST) -> tuple[Requirement, ...]:
    text = base + "requirements:\n" + "".join(f"  - {{{line}}}\n" for line in lines)
    return loaded(folder, text).spec.requirement_records()


def fault(folder: Path, line: str, *, base: str = LEAST) -> str:
    return only(folder, f"{base}requirements:\n  - {{{line}}}\n")


def test_a_line_becomes_the_record_that_every_room_knows(tmp_path: Path) -> None:
    line = 'metric: recall, at_least: 0.8, slice: "sex=Female", confidence: 0.9, least_samples: 200'
    labelled = Estimator(measure="recall", population="labelled requests", inference=Inference.ALWAYS_VALID)
    assert records(tmp_path, line) == (
        Requirement(
            id="recall@sex=Female",
            metric="recall",
            direction=Direction.AT_LEAST,
            bound=0.8,
            slice=Slice(column="sex", value="Female"),
            confidence=0.9,
            least_samples=200,
            needs_labels=True,
            stages={
                Stage.BUILD: Estimator(measure="recall", population="test rows", inference=Inference.FIXED),
                Stage.ROLLOUT: labelled,
                Stage.LIVE: labelled,
            },
        ),
    )


def test_a_margin_alone_is_looked_at_when_a_release_is_rolled_out(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: accuracy, margin: 0.01")
    assert record.id == "accuracy~stable"
    assert (record.bound, record.margin) == (None, 0.01)
    assert set(record.stages) == {Stage.ROLLOUT}


def test_a_bound_and_a_margin_are_one_requirement_at_all_stages(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: accuracy, at_least: 0.8, margin: 0.01")
    assert (record.id, record.bound, record.margin) == ("accuracy", 0.8, 0.01)
    assert set(record.stages) == set(Stage)


def test_latency_is_measured_on_the_bundle_and_then_on_requests(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: latency_p95_ms, at_most: 5")
    assert record.direction is Direction.AT_MOST
    assert not record.needs_labels
    assert [record.stages[stage].population for stage in Stage] == ["packed bundle", "requests", "requests"]


def test_a_size_is_not_looked_at_again_in_production(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: size_mb, at_most: 10")
    assert set(record.stages) == {Stage.BUILD, Stage.ROLLOUT}


def test_demographic_parity_needs_no_labels(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: demographic_parity_difference, at_most: 0.25, group: sex")
    assert (record.group, record.needs_labels) == ("sex", False)
    assert record.stages[Stage.LIVE].population == "requests"


def test_a_slice_is_cut_at_its_first_sign_of_equality(tmp_path: Path) -> None:
    (record,) = records(tmp_path, 'metric: recall, at_least: 0.8, slice: "a=b=c"')
    assert record.slice == Slice(column="a", value="b=c")


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if Task.BINARY in metric.tasks])
def test_each_metric_has_one_direction(tmp_path: Path, name: str) -> None:
    group = ", group: sex" if name.endswith("_difference") else ""
    right, wrong = ("at_least", "at_most") if METRICS[name].higher_is_better else ("at_most", "at_least")
    (record,) = records(tmp_path, f"metric: {name}, {right}: 0.5{group}")
    assert record.direction.value == right
    assert f"wanted `{right}`" in fault(tmp_path, f"metric: {name}, {wrong}: 0.5{group}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("metric: f1, at_least: 0.1, at_most: 0.9", "`at_most` beside `at_least`, wanted `at_least` alone"),
        ("metric: f1", "f1 without a bound, wanted `at_least`, `margin` or both"),
        ("metric: f1, at_least: 1.1", "saw 1.1, wanted a number from 0 to 1, as f1 is"),
        ("metric: f1, margin: 2", "margin: saw 2, wanted a number from 0 to 1"),
        ("metric: log_loss, at_most: -1", "a number of at least 0, as log_loss is"),
        ("metric: latency_p95_ms, at_most: 5, slice: a=b", "a slice for latency_p95_ms"),
        ("metric: demographic_parity_difference, at_most: 0.1", "without `group`"),
        ("metric: f1, at_least: 0.1, group: sex", "a group for f1"),
        ("metric: f1, at_least: 0.1, slice: sex", "wanted column=value"),
        ("metric: f1, at_least: 0.1, confidence: 0.5", "a number above 0.5 and below 1"),
        ("metric: f1, at_least: 0.1, least_samples: 0", "a whole number from 1"),
        ("metric: r2, at_least: 0.1", "saw r2, wanted a metric of a classification"),
        ("at_least: 0.1", "metric: saw no such line"),
    ],
)
def test_requirements_that_cannot_hold_are_told(tmp_path: Path, line: str, told: str) -> None:
    assert told in fault(tmp_path, line)


def test_a_rate_of_errors_is_for_a_running_service_alone(tmp_path: Path) -> None:
    bounded, against = (
        records(tmp_path, f"metric: error_rate, {bound}")[0] for bound in ("at_most: 0.01", "margin: 0.01")
    )
    assert list(bounded.stages) == [Stage.ROLLOUT, Stage.LIVE] and list(against.stages) == [Stage.ROLLOUT]
    found = bounded.stages[Stage.ROLLOUT]
    assert (found.measure, found.population, found.inference) == ("error_rate", "requests", Inference.ALWAYS_VALID)
    assert not bounded.needs_labels
    assert "a slice for error_rate" in fault(tmp_path, "metric: error_rate, at_most: 0.01, slice: a=b")
    assert "wanted one of" in only(tmp_path, LEAST + "objective: error_rate\n")


def test_r2_has_no_lower_end(tmp_path: Path) -> None:
    (record,) = records(tmp_path, "metric: r2, at_least: -3", base=REGRESSION)
    assert record.bound == -3


def test_a_metric_of_two_classes_is_taken_where_there_may_be_two(tmp_path: Path) -> None:
    base = LEAST.replace(', positive: ">50K"', "")
    assert records(tmp_path, "metric: average_precision, at_least: 0.5", base=base)
    assert "of a regression" in fault(tmp_path, "metric: average_precision, at_least: 0.5", base=REGRESSION)


def test_a_slice_on_an_ignored_column_is_told(tmp_path: Path) -> None:
    base = LEAST.replace("train.csv", "train.csv, columns: {sex: {role: ignore}}")
    assert "which is ignored" in fault(tmp_path, "metric: f1, at_least: 0.1, slice: sex=F", base=base)


def test_the_objective_follows_the_task(tmp_path: Path) -> None:
    spec = loaded(tmp_path, LEAST).spec
    assert [spec.objective_for(task) for task in Task] == ["roc_auc", "log_loss", "r2"]
    assert loaded(tmp_path, LEAST + "objective: f1\n").spec.objective_for(Task.BINARY) == "f1"


def test_an_objective_of_another_task_is_told(tmp_path: Path) -> None:
    assert "a metric of a regression: r2, rmse" in only(tmp_path, REGRESSION + "objective: roc_auc\n")
    assert "wanted one of roc_auc" in only(tmp_path, LEAST + "objective: latency_p95_ms\n")


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        ("{}", "neither `maximise` nor both costs"),
        ("{false_positive_cost: 1}", "neither `maximise` nor both costs"),
        ("{maximise: f1, false_positive_cost: 1, false_negative_cost: 2}", "`maximise` beside costs"),
        ("{false_positive_cost: 0, false_negative_cost: 0}", "one above 0"),
        ("{maximise: precision}", "a requirement with `at_least` on recall"),
        ("{maximise: recall}", "a requirement with `at_least` on precision"),
        ("{maximise: roc_auc}", "wanted one of accuracy"),
    ],
)
def test_thresholds_that_cannot_be_chosen_are_told(tmp_path: Path, threshold: str, told: str) -> None:
    assert told in only(tmp_path, f"{LEAST}threshold: {threshold}\n")


def test_the_threshold_is_a_half_unless_something_bounds_labels(tmp_path: Path) -> None:
    recall = LEAST + "requirements: [{metric: recall, at_least: 0.8}]\n"
    assert loaded(tmp_path, LEAST).spec.threshold_in_effect() is None
    assert loaded(tmp_path, recall).spec.threshold_in_effect() == ThresholdSpec(maximise="f1")
    best = loaded(tmp_path, recall + "threshold: {maximise: precision}\n").spec
    assert best.threshold_in_effect() == ThresholdSpec(maximise="precision")


def test_a_threshold_needs_two_classes(tmp_path: Path) -> None:
    assert "a threshold in a regression" in only(tmp_path, REGRESSION + "threshold: {maximise: f1}\n")


def test_costs_are_taken_as_they_are(tmp_path: Path) -> None:
    text = LEAST + "threshold: {false_positive_cost: 1, false_negative_cost: 5}\n"
    assert faults(tmp_path, text) == []
