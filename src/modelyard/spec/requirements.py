"""`requirements`, `objective` and `threshold`: what must hold, and what is made as good as it can be."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from modelyard.core.contract import Role
from modelyard.core.metrics import METRICS, Metric, Needs, Task
from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Slice, Stage
from modelyard.spec.data import DataSpec
from modelyard.spec.faults import Fault, Place, quoted
from modelyard.spec.section import Section
from modelyard.spec.task import TaskSpec

LABEL_METRICS = tuple(metric.name for metric in METRICS.values() if metric.needs is Needs.LABELS)
ONE_SIDED = ("precision", "recall")  # each is best where the other is worst
# Measured on the packed bundle alone; while serving there is nothing of the kind to see.
ONLY_ON_THE_BUNDLE = ("batch_latency_p95_ms", "throughput_rows_per_s", "memory_mb", "size_mb")
DEFAULT_OBJECTIVE = {Task.BINARY: "roc_auc", Task.MULTICLASS: "log_loss", Task.REGRESSION: "r2"}


def _one_of(names: Sequence[str]) -> AfterValidator:
    def known(name: str) -> str:
        if name not in names:
            raise ValueError("unknown")
        return name

    return AfterValidator(known)


_QUALITY = tuple(metric.name for metric in METRICS.values() if metric.is_quality)
MetricName = Annotated[str, _one_of(tuple(METRICS)), Field(json_schema_extra={"enum": list(METRICS)})]
QualityName = Annotated[str, _one_of(_QUALITY), Field(json_schema_extra={"enum": list(_QUALITY)})]
LabelName = Annotated[str, _one_of(LABEL_METRICS), Field(json_schema_extra={"enum": list(LABEL_METRICS)})]
SLICE = r"^[^=]+=.+$"


class RequirementSpec(Section):
    """One thing that must hold: gate at build, verdict on the canary, alert in production."""

    metric: MetricName = Field(description="What is measured.")
    at_least: float | None = Field(default=None, description="Bound of a metric that is better when higher.")
    at_most: float | None = Field(default=None, description="Bound of a metric that is better when lower.")
    margin: float | None = Field(
        default=None,
        ge=0,
        description="Loss allowed against the stable release; looked at when a release is rolled out.",
    )
    slice: str | None = Field(
        default=None,
        pattern=SLICE,
        description="The rows it is measured on, `column=value`; all rows where it is not given.",
        json_schema_extra={"x-wanted": "column=value, such as sex=Female"},
    )
    group: str | None = Field(
        default=None, min_length=1, description="Column whose values a fairness metric compares; needed there only."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="How sure the interval must be before it says that a bound is met."
    )
    least_samples: int = Field(
        default=30, ge=1, le=1_000_000_000, description="With fewer rows the verdict is inconclusive."
    )
    accept_inconclusive: bool = Field(
        default=False, description="Whether an inconclusive verdict passes the gate at build; the report shows it."
    )

    @property
    def known(self) -> Metric:
        """What is known of the metric."""
        return METRICS[self.metric]

    @property
    def name(self) -> str:
        """The requirement's id: it stays the same when the bound is changed."""
        where = self.slice or self.group
        versus = "" if self.at_least is not None or self.at_most is not None else "~stable"
        return f"{self.metric}@{where}{versus}" if where else f"{self.metric}{versus}"

    def record(self, kept_back: Collection[str] = ()) -> Requirement:
        """Return the requirement as every room knows it.

        `kept_back` are columns that no request carries: what compares by them needs labelled rows, which tell them.
        """
        metric = self.known
        needs_labels = metric.needs_labels or self.group in kept_back
        column, _, value = (self.slice or "").partition("=")
        return Requirement(
            id=self.name,
            metric=self.metric,
            direction=Direction.AT_LEAST if metric.higher_is_better else Direction.AT_MOST,
            bound=self.at_least if self.at_least is not None else self.at_most,
            margin=self.margin,
            slice=Slice(column=column, value=value) if self.slice is not None else None,
            group=self.group,
            confidence=self.confidence,
            least_samples=self.least_samples,
            needs_labels=needs_labels,
            accept_inconclusive=self.accept_inconclusive,
            stages=_stages(
                metric, bounded=self.at_least is not None or self.at_most is not None, needs_labels=needs_labels
            ),
        )


def _stages(metric: Metric, *, bounded: bool, needs_labels: bool) -> dict[Stage, Estimator]:
    """Return where the requirement is checked, what is measured there, and on whom."""

    def estimator(population: str, inference: Inference) -> Estimator:
        return Estimator(measure=metric.name, population=population, inference=inference)

    on_bundle = metric.needs in (Needs.TIMING, Needs.BODY)
    build = estimator("packed bundle" if on_bundle else "test rows", Inference.FIXED)
    if metric.name in ONLY_ON_THE_BUNDLE:
        later = {Stage.ROLLOUT: build}
    else:
        served = estimator("labelled requests" if needs_labels else "requests", Inference.ALWAYS_VALID)
        later = {Stage.ROLLOUT: served, Stage.LIVE: served}
    # A margin alone speaks of a stable release: there is none at build, and none to compare with later.
    if not bounded:
        return {Stage.ROLLOUT: later[Stage.ROLLOUT]}
    return later if metric.needs is Needs.SERVICE else {Stage.BUILD: build, **later}


class ThresholdSpec(Section):
    """How the probability from which a row counts as positive is chosen, on validation rows."""

    maximise: LabelName | None = Field(
        default=None, description="Metric to make as high as the requirements on other metrics allow."
    )
    false_positive_cost: float | None = Field(
        default=None, ge=0, description="Cost of calling a negative row positive; the sum of costs is made least."
    )
    false_negative_cost: float | None = Field(
        default=None, ge=0, description="Cost of calling a positive row negative."
    )


def threshold_in_effect(threshold: ThresholdSpec | None, lines: Sequence[RequirementSpec]) -> ThresholdSpec | None:
    """Return how the threshold of a binary task is chosen; None means 0.5.

    Where nothing is said and a requirement bounds a label metric over all rows, f1 is made as high as
    the requirements allow.
    """
    if threshold is not None:
        return threshold
    bounded = any(line.metric in LABEL_METRICS and line.at_least is not None for line in lines)
    return ThresholdSpec(maximise="f1") if bounded else None


def metric_fault(place: Place, name: str, kinds: tuple[Task, ...], task: TaskSpec) -> Iterator[Fault]:
    """Yield a fault where a metric is not one of the task's."""
    if not set(METRICS[name].tasks) & set(kinds):
        fitting = [one.name for one in METRICS.values() if set(one.tasks) & set(kinds) and one.is_quality]
        yield Fault(
            place=place, seen=name, wanted=f"a metric of a {task.type.value}: {', '.join(fitting)}",
            reads=(("task",),),
        )  # fmt: skip


def check_objective(objective: str | None, task: TaskSpec) -> Iterator[Fault]:
    """Yield a fault where the objective does not fit the task."""
    if objective is not None:
        yield from metric_fault(("objective",), objective, task.kinds, task)


def check_threshold(
    threshold: ThresholdSpec | None, lines: Sequence[RequirementSpec], task: TaskSpec
) -> Iterator[Fault]:
    """Yield what does not go together in the threshold."""
    if threshold is None:
        return
    here: Place = ("threshold",)
    costs = (threshold.false_positive_cost, threshold.false_negative_cost)
    if Task.BINARY not in task.kinds:
        yield Fault(place=here, seen="a threshold in a regression", wanted="no such section", reads=(("task",),))
    elif threshold.maximise is not None and costs != (None, None):
        yield Fault(place=here, seen="`maximise` beside costs", wanted="one of the two")
    elif threshold.maximise is None and None in costs:
        yield Fault(
            place=here, seen="neither `maximise` nor both costs",
            wanted="`maximise`, or `false_positive_cost` and `false_negative_cost`",
        )  # fmt: skip
    elif costs == (0.0, 0.0):
        yield Fault(place=here, seen="two costs of 0", wanted="one above 0 at least")
    elif threshold.maximise in ONE_SIDED and not any(
        line.metric in LABEL_METRICS and line.metric != threshold.maximise and line.at_least is not None
        for line in lines
    ):
        other = ONE_SIDED[1 - ONE_SIDED.index(threshold.maximise)]
        yield Fault(
            place=(*here, "maximise"),
            seen=f"{threshold.maximise} alone",
            wanted=f"a requirement with `at_least` on {other} beside it: else calling all rows one way is best",
            reads=(("requirements",),),
        )


def check_requirement(line: RequirementSpec, index: int, task: TaskSpec, data: DataSpec) -> Iterator[Fault]:
    """Yield what does not go together in one requirement."""
    place: Place = ("requirements", index)
    yield from metric_fault((*place, "metric"), line.metric, task.kinds, task)
    yield from _check_bounds(line, place)
    yield from _check_rows(line, place, data)


def _check_bounds(line: RequirementSpec, place: Place) -> Iterator[Fault]:
    metric = line.known
    right, wrong = ("at_least", "at_most") if metric.higher_is_better else ("at_most", "at_least")
    better = "higher" if metric.higher_is_better else "lower"
    if getattr(line, wrong) is not None:
        both = getattr(line, right) is not None
        yield Fault(
            place=(*place, wrong),
            seen=f"`{wrong}` {'beside' if both else 'for'} {f'`{right}`' if both else line.metric}",
            wanted=f"`{right}`{' alone' if both else ''}: {line.metric} is better when {better}",
        )
    elif line.at_least is None and line.at_most is None and line.margin is None:
        yield Fault(place=place, seen=f"{line.metric} without a bound", wanted=f"`{right}`, `margin` or both")
    low, high = _range(metric)
    for name in (right, "margin"):
        value = getattr(line, name)
        least, most = (0.0, high - low) if name == "margin" else (low, high)
        if value is not None and not least <= value <= most:
            yield Fault(place=(*place, name), seen=f"{value:g}", wanted=f"{_between(least, most)}, as {line.metric} is")


def _range(metric: Metric) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have."""
    if metric.unit != "share":
        return 0.0, math.inf
    # R² has no lower end; the Brier loss of many classes is a sum over them.
    return {"r2": (-math.inf, 1.0), "brier_loss": (0.0, 2.0)}.get(metric.name, (0.0, 1.0))


def _between(low: float, high: float) -> str:
    if math.isinf(high):
        return f"a number of at least {low:g}"
    return f"a number of at most {high:g}" if math.isinf(low) else f"a number from {low:g} to {high:g}"


def _check_rows(line: RequirementSpec, place: Place, data: DataSpec) -> Iterator[Fault]:
    metric = line.known
    if metric.needs is Needs.GROUPS and line.group is None:
        yield Fault(place=place, seen=f"{line.metric} without `group`", wanted="`group`: the column to compare")
    if metric.needs is not Needs.GROUPS and line.group is not None:
        yield Fault(
            place=(*place, "group"), seen=f"a group for {line.metric}", wanted="`slice`, or a fairness metric",
        )  # fmt: skip
    if not metric.is_quality and line.slice is not None:
        yield Fault(place=(*place, "slice"), seen=f"a slice for {line.metric}", wanted="no slice: it is not of rows")
    for name, column in (("slice", (line.slice or "").partition("=")[0]), ("group", line.group or "")):
        declared = data.columns.get(column)
        if column and declared is not None and declared.role is Role.IGNORE:
            yield Fault(
                place=(*place, name), seen=f"{quoted(column)}, which is ignored under `data.columns`",
                wanted="a column that is kept; `role: audit` keeps it from the model",
                reads=(("data", "columns", column),),
            )  # fmt: skip


def check_requirement_names(lines: Sequence[RequirementSpec]) -> Iterator[Fault]:
    """Yield a fault for each requirement that stands there twice."""
    first: dict[str, int] = {}
    for index, line in enumerate(lines):
        if line.at_least is None and line.at_most is None and line.margin is None:
            continue
        if line.name in first:
            yield Fault(
                place=("requirements", index),
                seen=f"a second requirement on {line.name}",
                wanted="one, put together with the other",
                also=("requirements", first[line.name]),
            )
        first.setdefault(line.name, index)
