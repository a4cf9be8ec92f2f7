"""The metrics Modelyard knows: names, direction, unit, and what they need. Maths is in `measure`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Task(StrEnum):
    """What a model answers."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class Needs(StrEnum):
    """What a metric is computed from."""

    PROBABILITIES = "probabilities"  # labels and class probabilities
    LABELS = "labels"  # labels and predicted labels
    VALUES = "values"  # targets and predicted values
    GROUPS = "groups"  # labels, predicted labels and a group column
    TIMING = "timing"  # the packed bundle, run
    BODY = "body"  # the packed bundle, weighed
    SERVICE = "service"  # requests of a running service; nothing of it is to be seen before


NOT_OF_ANSWERS = frozenset({Needs.TIMING, Needs.BODY, Needs.SERVICE})


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. `higher_is_better` gives the only direction a requirement may have."""

    name: str
    needs: Needs
    higher_is_better: bool
    unit: str  # "share", "ms", "MB", "target" (the target's own unit), ...
    tasks: tuple[Task, ...]
    meaning: str

    @property
    def needs_labels(self) -> bool:
        return self.needs not in NOT_OF_ANSWERS and self.name != "demographic_parity_difference"

    @property
    def is_quality(self) -> bool:
        return self.needs in (Needs.PROBABILITIES, Needs.LABELS, Needs.VALUES)


_CLASSES = (Task.BINARY, Task.MULTICLASS)
_ALL = tuple(Task)


def _metric(name: str, needs: Needs, higher: bool, unit: str, tasks: tuple[Task, ...], meaning: str) -> Metric:
    return Metric(name=name, needs=needs, higher_is_better=higher, unit=unit, tasks=tasks, meaning=meaning)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric(
            "roc_auc",
            Needs.PROBABILITIES,
            True,
            "share",
            _CLASSES,
            "chance that a positive ranks above a negative; one against the rest, weighted by class, for many",
        ),
        _metric(
            "average_precision", Needs.PROBABILITIES, True, "share", (Task.BINARY,), "area under precision over recall"
        ),
        _metric("log_loss", Needs.PROBABILITIES, False, "nats", _CLASSES, "mean negative log-likelihood"),
        _metric(
            "brier_loss",
            Needs.PROBABILITIES,
            False,
            "share",
            _CLASSES,
            "mean squared distance of probabilities from what came (summed over classes for many)",
        ),
        _metric(
            "calibration_error",
            Needs.PROBABILITIES,
            False,
            "share",
            _CLASSES,
            "mean gap between stated confidence and accuracy, 15 bins",
        ),
        _metric("accuracy", Needs.LABELS, True, "share", _CLASSES, "share of right labels"),
        _metric("balanced_accuracy", Needs.LABELS, True, "share", _CLASSES, "mean recall over classes"),
        _metric(
            "precision", Needs.LABELS, True, "share", _CLASSES, "of the positive class; mean over classes for many"
        ),
        _metric("recall", Needs.LABELS, True, "share", _CLASSES, "of the positive class; mean over classes for many"),
        _metric("f1", Needs.LABELS, True, "share", _CLASSES, "harmonic mean of precision and recall; mean for many"),
        _metric("r2", Needs.VALUES, True, "share", (Task.REGRESSION,), "share of variance explained"),
        _metric("rmse", Needs.VALUES, False, "target", (Task.REGRESSION,), "root of the mean squared error"),
        _metric("mae", Needs.VALUES, False, "target", (Task.REGRESSION,), "mean absolute error"),
        _metric(
            "median_absolute_error", Needs.VALUES, False, "target", (Task.REGRESSION,), "half of the errors are below"
        ),
        _metric(
            "demographic_parity_difference",
            Needs.GROUPS,
            False,
            "share",
            (Task.BINARY,),
            "largest gap in the share predicted positive between groups",
        ),
        _metric(
            "equal_opportunity_difference",
            Needs.GROUPS,
            False,
            "share",
            (Task.BINARY,),
            "largest gap in recall between groups",
        ),
        _metric(
            "equalized_odds_difference",
            Needs.GROUPS,
            False,
            "share",
            (Task.BINARY,),
            "larger of the gaps in recall and in false positive rate between groups",
        ),
        _metric("latency_p50_ms", Needs.TIMING, False, "ms", _ALL, "one row through the packed bundle, in process"),
        _metric("latency_p95_ms", Needs.TIMING, False, "ms", _ALL, "one row through the packed bundle, in process"),
        _metric("latency_p99_ms", Needs.TIMING, False, "ms", _ALL, "one row through the packed bundle, in process"),
        _metric(
            "batch_latency_p95_ms", Needs.TIMING, False, "ms", _ALL, "a batch of 256 rows through the packed bundle"
        ),
        _metric("throughput_rows_per_s", Needs.TIMING, True, "rows/s", _ALL, "batches of 4096 rows, one thread"),
        _metric(
            "cost_per_thousand",
            Needs.TIMING,
            False,
            "currency",
            _ALL,
            "CPU seconds of a thousand single rows times the spec's price",
        ),
        _metric("memory_mb", Needs.BODY, False, "MB", _ALL, "growth of the process when the bundle is opened and run"),
        _metric("size_mb", Needs.BODY, False, "MB", _ALL, "bytes of the bundle's body, in millions"),
        _metric(
            "error_rate",
            Needs.SERVICE,
            False,
            "share",
            _ALL,
            "requests that failed or that a fallback answered; seen only while a release serves",
        ),
    )
}
