"""One door to every metric of `core.metrics` that is computed from answers.

Undefined is None, never NaN: one class only where two are compared, no positive where a share of
positives is asked, a target without variance, no rows at all. `why_undefined` has the words. Asking
for what the outcome cannot give (probabilities it lacks, a metric of another task) raises DataError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from modelyard.core.metrics import METRICS, NOT_OF_ANSWERS, Metric, Needs
from modelyard.errors import DataError, UnknownName
from modelyard.measure import classification, fairness, probability, ranking, regression
from modelyard.measure.outcome import Outcome
from modelyard.measure.statistic import Statistic, only

T = TypeVar("T")


def score(metric_name: str, outcome: Outcome) -> float | None:
    """Return the metric of an outcome, None where it is undefined.

    Raises: UnknownName; DataError where the outcome lacks what the metric needs.
    """
    return only(statistic(metric_name, outcome), outcome.weights, len(outcome))


def statistic(metric_name: str, outcome: Outcome) -> Statistic:
    """Return the metric made ready for many weightings of the outcome's rows. Raises as `score`."""
    metric = find(metric_name)
    if outcome.task not in metric.tasks:
        kinds = ", ".join(task.value for task in metric.tasks)
        raise DataError(f"`{metric_name}` is a metric of {kinds}; these rows are of a {outcome.task.value} task.")
    return _BUILDERS[metric_name](outcome)


def find(metric_name: str) -> Metric:
    """Return the metric of that name if it is computed from answers. Raises: UnknownName, DataError."""
    if metric_name not in METRICS:
        raise UnknownName("metric", metric_name, tuple(METRICS))
    metric = METRICS[metric_name]
    if metric.needs is Needs.SERVICE:
        raise DataError(f"`{metric_name}` is counted while a release serves, not computed from answers.")
    if metric.needs in NOT_OF_ANSWERS:
        raise DataError(f"`{metric_name}` is measured on the packed bundle, not computed from answers.")
    return metric


def why_undefined(metric_name: str, outcome: Outcome) -> str:
    """Say in words why a metric of this outcome is undefined."""
    if len(outcome) == 0:
        return "undefined: there are no rows"
    if outcome.row_weights.sum() == 0:
        return "undefined: all rows have the weight 0"
    return f"undefined: {_WHY.get(metric_name, 'the rows do not determine it')}"


def _given(outcome: Outcome, name: str, value: T | None) -> T:
    if value is None:
        raise DataError(f"The metric needs `{name}`, which this outcome of {len(outcome)} rows lacks: add them.")
    return value


def _labelled(name: str) -> Callable[[Outcome], Statistic]:
    def build(outcome: Outcome) -> Statistic:
        labels = _given(outcome, "labels", outcome.labels)
        unit = row_unit(outcome)
        return classification.cell_statistic(name, outcome.y_true, labels, outcome.classes, unit=unit)

    return build


def _stated(make: Callable[..., Statistic]) -> Callable[[Outcome], Statistic]:
    return lambda outcome: make(outcome.y_true, _given(outcome, "probabilities", outcome.probabilities))


def _valued(make: Callable[..., Statistic]) -> Callable[[Outcome], Statistic]:
    return lambda outcome: make(outcome.y_true, _given(outcome, "values", outcome.values))


def _grouped(name: str) -> Callable[[Outcome], Statistic]:
    def build(outcome: Outcome) -> Statistic:
        labels = _given(outcome, "labels", outcome.labels)
        groups = _given(outcome, "groups", outcome.groups)
        return fairness.gap_statistic(name, outcome.y_true, labels, groups, unit=row_unit(outcome))

    return build


def _accuracy(outcome: Outcome) -> Statistic:
    labels = _given(outcome, "labels", outcome.labels)
    return classification.accuracy_statistic(outcome.y_true, labels, unit=row_unit(outcome))


def _average_precision(outcome: Outcome) -> Statistic:
    probabilities = _given(outcome, "probabilities", outcome.probabilities)
    return ranking.AveragePrecision(ranking.Ranks.of(outcome.y_true == 1, probabilities[:, 1]))


def row_unit(outcome: Outcome) -> float:
    """Return the weight that one independent unit adds to a count, in the mean over the weight."""
    effective = outcome.effective_units()
    return float(outcome.row_weights.sum()) / effective if effective > 0 else 1.0


_BUILDERS: dict[str, Callable[[Outcome], Statistic]] = {
    "roc_auc": _stated(ranking.RocAuc.of),
    "average_precision": _average_precision,
    "log_loss": _stated(probability.log_loss_statistic),
    "brier_loss": _stated(probability.brier_statistic),
    "calibration_error": _stated(probability.calibration_statistic),
    "accuracy": _accuracy,
    "balanced_accuracy": _labelled("balanced_accuracy"),
    "precision": _labelled("precision"),
    "recall": _labelled("recall"),
    "f1": _labelled("f1"),
    "r2": _valued(regression.r2_statistic),
    "rmse": _valued(regression.rmse_statistic),
    "mae": _valued(regression.mae_statistic),
    "median_absolute_error": _valued(regression.MedianAbsoluteError.of),
    "demographic_parity_difference": _grouped("demographic_parity_difference"),
    "equal_opportunity_difference": _grouped("equal_opportunity_difference"),
    "equalized_odds_difference": _grouped("equalized_odds_difference"),
}

_WHY = {
    "roc_auc": "the rows have one class only",
    "average_precision": "no row is positive",
    "balanced_accuracy": "the rows have one class only",
    "precision": "no answer is positive",
    "recall": "no row is positive",
    "f1": "no row and no answer is positive",
    "r2": "the target has no variance",
    "demographic_parity_difference": "fewer than two groups have rows",
    "equal_opportunity_difference": "fewer than two groups have positive rows",
    "equalized_odds_difference": "fewer than two groups have both positive and negative rows",
}
