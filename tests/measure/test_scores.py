"""Every metric against scikit-learn, and what is undefined."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

import modelyard.measure
from modelyard.core.arrays import Array, Floats
from modelyard.core.metrics import METRICS, NOT_OF_ANSWERS, Needs, Task
from modelyard.errors import DataError, UnknownName
from modelyard.measure.outcome import Outcome
from modelyard.measure.scores import score, why_undefined
from tests.measure.outcomes import answered, binary, multiclass, regression

ANSWERED = [metric for metric in METRICS.values() if metric.needs not in NOT_OF_ANSWERS]
WEIGHTS = np.random.default_rng(5).random(400)

Second = Callable[[Outcome], float]


def _ece(o: Outcome) -> float:
    """Guo et al.'s definition, bin by bin."""
    assert o.probabilities is not None
    confidence, right = o.probabilities.max(axis=1), o.probabilities.argmax(axis=1) == o.y_true
    w, total = o.row_weights, 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = np.average(confidence[inside], weights=w[inside]) - np.average(right[inside], weights=w[inside])
            total += abs(gap) * w[inside].sum() / w.sum()
    return float(total)


def _macro(function: Callable[..., float]) -> Second:
    return lambda o: function(o.y_true, o.labels, average="macro", sample_weight=o.weights)


def _positive(function: Callable[..., float]) -> Second:
    return lambda o: function(o.y_true, o.labels, sample_weight=o.weights)


def _probability(o: Outcome) -> Floats:
    assert o.probabilities is not None
    return o.probabilities[:, 1]


BINARY: dict[str, Second] = {
    "roc_auc": lambda o: sk.roc_auc_score(o.y_true, _probability(o), sample_weight=o.weights),
    "average_precision": lambda o: sk.average_precision_score(o.y_true, _probability(o), sample_weight=o.weights),
    "log_loss": lambda o: sk.log_loss(o.y_true, o.probabilities, sample_weight=o.weights),
    "brier_loss": lambda o: sk.brier_score_loss(o.y_true, _probability(o), sample_weight=o.weights),
    "calibration_error": _ece,
    "accuracy": _positive(sk.accuracy_score),
    "balanced_accuracy": _positive(sk.balanced_accuracy_score),
    "precision": _positive(sk.precision_score),
    "recall": _positive(sk.recall_score),
    "f1": _positive(sk.f1_score),
}
MULTICLASS: dict[str, Second] = {
    "roc_auc": lambda o: sk.roc_auc_score(
        o.y_true, o.probabilities, multi_class="ovr", average="weighted", sample_weight=o.weights
    ),
    "log_loss": BINARY["log_loss"],
    "brier_loss": lambda o: sk.brier_score_loss(
        o.y_true, o.probabilities, sample_weight=o.weights, labels=np.arange(o.classes), scale_by_half=False
    ),
    "calibration_error": _ece,
    "accuracy": BINARY["accuracy"],
    "balanced_accuracy": BINARY["balanced_accuracy"],
    "precision": _macro(sk.precision_score),
    "recall": _macro(sk.recall_score),
    "f1": _macro(sk.f1_score),
}
REGRESSION: dict[str, Second] = {
    "r2": lambda o: sk.r2_score(o.y_true, o.values, sample_weight=o.weights),
    "rmse": lambda o: sk.root_mean_squared_error(o.y_true, o.values, sample_weight=o.weights),
    "mae": lambda o: sk.mean_absolute_error(o.y_true, o.values, sample_weight=o.weights),
    "median_absolute_error": lambda o: float(np.median(np.abs(o.y_true - np.asarray(o.values)))),
}


def test_every_metric_of_answers_is_checked_against_a_second_source() -> None:
    checked = set(BINARY) | set(MULTICLASS) | set(REGRESSION)
    assert {metric.name for metric in ANSWERED if metric.needs is not Needs.GROUPS} == checked
    assert {m.name for m in ANSWERED if Task.MULTICLASS in m.tasks} == set(MULTICLASS)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_metrics_agree_with_scikit_learn(name: str, ties: bool, weights: Floats | None) -> None:
    outcome = binary(400, ties=ties, weights=weights)
    assert score(name, outcome) == pytest.approx(BINARY[name](outcome), abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", MULTICLASS)
def test_multiclass_metrics_agree_with_scikit_learn(name: str, weights: Floats | None) -> None:
    outcome = multiclass(400, 7, weights=weights)
    assert score(name, outcome) == pytest.approx(MULTICLASS[name](outcome), abs=1e-12)


@pytest.mark.parametrize("rows", [399, 400])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_metrics_agree_with_scikit_learn(name: str, rows: int) -> None:
    outcome = regression(rows)
    assert score(name, outcome) == pytest.approx(REGRESSION[name](outcome), rel=1e-9)


@pytest.mark.parametrize("name", ["r2", "rmse", "mae"])
def test_weighted_regression_metrics_agree_with_scikit_learn(name: str) -> None:
    outcome = regression(400, weights=WEIGHTS)
    assert score(name, outcome) == pytest.approx(REGRESSION[name](outcome), rel=1e-9)


def _of_task(task: Task) -> Outcome:
    if task is Task.MULTICLASS:
        return multiclass(200, 5)
    return binary(200) if task is Task.BINARY else regression(200)


@pytest.mark.parametrize("name", [metric.name for metric in ANSWERED if metric.needs is not Needs.GROUPS])
def test_whole_weights_count_as_repeated_rows(name: str) -> None:
    times = np.random.default_rng(2).integers(0, 4, 200)
    task = METRICS[name].tasks[-1]
    outcome = _of_task(task)
    repeated = outcome.take(np.repeat(np.arange(200), times))
    weighted = Outcome(
        task=outcome.task,
        classes=outcome.classes,
        y_true=outcome.y_true,
        probabilities=outcome.probabilities,
        labels=outcome.labels,
        values=outcome.values,
        weights=times.astype(np.float64),
    )
    assert score(name, weighted) == pytest.approx(score(name, repeated), abs=1e-9)


def test_r2_keeps_its_digits_when_the_mean_is_a_million_times_the_spread() -> None:
    outcome = regression(500)
    far = Outcome(task=Task.REGRESSION, y_true=outcome.y_true + 1e7, values=np.asarray(outcome.values) + 1e7)
    assert score("r2", far) == pytest.approx(score("r2", outcome), abs=1e-6)


def _rate(labels: Array, rows: Array) -> float:
    return float(labels[rows].mean())


def test_gaps_between_groups_agree_with_rates_counted_by_hand() -> None:
    groups = np.random.default_rng(1).choice(np.array(["a", "b", "c", None], dtype=object), 600)
    outcome = binary(600, groups=groups)
    labels, y = outcome.labels, outcome.y_true
    assert labels is not None
    known = [groups == name for name in "abc"]
    selected = [_rate(labels, rows) for rows in known]
    found = [_rate(labels, rows & (y == 1)) for rows in known]
    alarmed = [_rate(labels, rows & (y == 0)) for rows in known]
    assert score("demographic_parity_difference", outcome) == pytest.approx(max(selected) - min(selected))
    assert score("equal_opportunity_difference", outcome) == pytest.approx(max(found) - min(found))
    larger = max(max(found) - min(found), max(alarmed) - min(alarmed))
    assert score("equalized_odds_difference", outcome) == pytest.approx(larger)


def test_a_group_without_positives_does_not_count_in_equal_opportunity() -> None:
    outcome = answered([1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1, 1], groups=["a", "a", "b", "b", "c", "c"])
    assert score("equal_opportunity_difference", outcome) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("roc_auc", binary(50, share=1.0), "one class only"),
        ("balanced_accuracy", binary(50, share=0.0), "one class only"),
        ("average_precision", binary(50, share=0.0), "no row is positive"),
        ("recall", answered([0, 0], [0, 1]), "no row is positive"),
        ("precision", answered([0, 1], [0, 0]), "no answer is positive"),
        ("f1", answered([0, 0], [0, 0]), "no row and no answer"),
        ("equal_opportunity_difference", answered([1, 0], [1, 1], groups=["a", "b"]), "fewer than two groups"),
        ("demographic_parity_difference", answered([1, 0], [1, 1], groups=[None, None]), "fewer than two groups"),
        ("equalized_odds_difference", answered([1, 1], [1, 1], groups=["a", "b"]), "both positive and negative"),
        ("accuracy", answered([], []), "no rows"),
        ("log_loss", binary(0), "no rows"),
        ("roc_auc", multiclass(0, 4), "no rows"),
        ("rmse", regression(5, weights=np.zeros(5)), "weight 0"),
        ("accuracy", binary(5, weights=np.zeros(5)), "weight 0"),
        ("median_absolute_error", regression(5, weights=np.zeros(5)), "weight 0"),
        ("r2", Outcome(task=Task.REGRESSION, y_true=np.full(9, 0.1), values=np.arange(9.0)), "no variance"),
        ("r2", regression(1), "no variance"),
    ],
)
def test_what_is_undefined_is_none_and_says_why(name: str, outcome: Outcome, words: str) -> None:
    assert score(name, outcome) is None
    assert words in why_undefined(name, outcome)


def test_a_class_never_answered_counts_as_zero_precision() -> None:
    outcome = Outcome(
        task=Task.MULTICLASS, classes=4, y_true=np.array([0, 1, 2, 2]), labels=np.array([0, 1, 1, 1], dtype=np.int64)
    )
    assert score("precision", outcome) == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert score("recall", outcome) == pytest.approx((1 + 1 + 0) / 3)


def test_a_metric_of_the_bundle_is_not_computed_from_answers() -> None:
    with pytest.raises(DataError, match="counted while a release serves"):
        score("error_rate", binary(10))
    with pytest.raises(DataError, match="measured on the packed bundle"):
        score("latency_p95_ms", binary(10))


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(DataError, match="metric of regression"):
        score("rmse", binary(10))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownName, match="auroc"):
        score("auroc", binary(10))


def test_missing_answers_are_named() -> None:
    with pytest.raises(DataError, match="`probabilities`"):
        score("roc_auc", answered([0, 1], [0, 1]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": np.array([0, 1], dtype=np.int64)}, "has 2 rows"),
        ({"labels": np.array([0, 1, 2], dtype=np.int64)}, "0 to 1"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "integers"),
        ({"probabilities": np.array([[0.5, 0.5], [np.nan, 1.0], [0.0, 1.0]])}, "NaN"),
        ({"probabilities": np.array([[0.5, 0.6], [0.0, 1.0], [0.0, 1.0]])}, "sum to 1"),
        ({"probabilities": np.array([0.5, 0.6, 0.1])}, "shape"),
        ({"weights": np.array([1.0, -1.0, 1.0])}, "negative"),
    ],
)
def test_an_outcome_that_contradicts_itself_is_refused(changed: dict[str, Array], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Outcome(task=Task.BINARY, classes=2, y_true=np.array([0, 1, 1]), **changed)


def test_the_examples_in_the_documentation_run() -> None:
    modules = [
        importlib.import_module(f"modelyard.measure.{m.name}") for m in pkgutil.iter_modules(modelyard.measure.__path__)
    ]
    results = [doctest.testmod(module, raise_on_error=True) for module in modules]
    assert sum(result.attempted for result in results) >= 10
