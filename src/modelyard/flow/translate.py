"""From what the spec says to what the rooms take."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.core.arrays import Array, Floats
from modelyard.core.contract import Contract, Part, Role
from modelyard.core.data_plan import DataPlan, Declared, Format, Goal, Reading, Split, SplitMethod
from modelyard.core.metrics import METRICS, Task
from modelyard.errors import SpecFaults
from modelyard.measure.outcome import Outcome
from modelyard.measure.scores import score
from modelyard.measure.threshold import ThresholdChoice, choose_threshold
from modelyard.spec.against_data import check_classes, check_columns
from modelyard.spec.load import LoadedSpec
from modelyard.spec.requirements import LABEL_METRICS
from modelyard.spec.system import System
from modelyard.train.features import FeatureSet
from modelyard.train.search import Value


def data_plan(loaded: LoadedSpec) -> DataPlan:
    """Return the data section as the data room takes it, with paths from where the spec stands."""
    spec = loaded.spec
    test, calibrate, valid = spec.split_shares()
    data = spec.data
    return DataPlan(
        goal=Goal(spec.task.type.value),
        target=spec.task.target,
        path=str(loaded.data_path),
        test_path=None if loaded.test_path is None else str(loaded.test_path),
        positive=spec.task.positive,
        columns={
            name: Declared(kind=one.kind, role=None if one.role is None else Role(one.role), format=one.format)
            for name, one in data.columns.items()
        },
        reading=reading_of(spec),
        allowed_malformed_share=data.allowed_malformed_share,
        split=Split(method=split_method(spec), test=test, calibrate=calibrate, valid=valid, seed=spec.seed),
    )


def reading_of(spec: System) -> Reading:
    """Return how files are read, for training and for predictions alike."""
    data = spec.data
    return Reading(
        format=Format(data.format.value), separator=data.separator, encoding=data.encoding, null_values=data.null_values
    )


def split_method(spec: System) -> SplitMethod:
    """Return how rows are split: by time or group where a column has that role, unless the spec says otherwise."""
    method = spec.data.split.method.value
    if method != "auto":
        return SplitMethod(method)
    if spec.data.with_role(Role.TIME):
        return SplitMethod.TIME
    if spec.data.with_role(Role.GROUP):
        return SplitMethod.GROUP
    return SplitMethod.RANDOM if spec.task.kinds == (Task.REGRESSION,) else SplitMethod.STRATIFIED


def check_against_data(loaded: LoadedSpec, contract: Contract) -> None:
    """Raise SpecFaults for every column and class that the spec names and the data does not have."""
    names = tuple(column.name for column in contract.columns)
    faults = (*check_columns(loaded, names), *check_classes(loaded, contract.task, contract.classes))
    if faults:
        raise SpecFaults(loaded.file, faults)


def value_of(spec: System, features: FeatureSet, objective: str) -> Value:
    """Return the objective of answers to the validation rows, better when higher."""
    sign = 1.0 if METRICS[objective].higher_is_better else -1.0
    target = np.load(features.target(Part.VALID))
    path = features.weight(Part.VALID)
    weight = None if path is None else np.load(path)
    contract, scale = features.contract, features.scale

    def value(answers: Floats) -> float | None:
        if contract.task is Task.REGRESSION:
            truth = target * scale.deviation + scale.mean
            outcome = Outcome(task=contract.task, y_true=truth, values=answers[:, 0], weights=weight)
        else:
            labels = _labels(spec, answers, target, weight)
            outcome = Outcome(
                task=contract.task, classes=len(contract.classes), y_true=target, probabilities=answers,
                labels=labels, weights=weight,
            )  # fmt: skip
        found = score(objective, outcome)
        return None if found is None else sign * found

    return value


def label_rules(spec: System, objective: str) -> Any:
    """Return what the labels behind an objective depend on, None where it does not look at labels."""
    wanted = spec.threshold_in_effect()
    if objective not in LABEL_METRICS or wanted is None:
        return None
    return {"threshold": wanted.model_dump(mode="json"), "requirements": spec.requirement_records()}


def _labels(spec: System, answers: Floats, target: Array, weight: Floats | None) -> Array:
    if answers.shape[1] != 2:
        return np.asarray(answers.argmax(axis=1))
    choice = threshold_of(spec, answers, target, weight, judged_rows=None)
    bar = 0.5 if choice is None else choice.threshold
    return np.asarray(answers[:, 1] >= bar, dtype=np.int64)


def threshold_of(
    spec: System, answers: Floats, target: Array, weight: Floats | None, *, judged_rows: int | None
) -> ThresholdChoice | None:
    """Return the threshold that the spec asks for, chosen on validation rows; None means 0.5.

    `judged_rows` is how many rows the requirements will be judged on.
    """
    wanted = spec.threshold_in_effect()
    if wanted is None:
        return None
    bounds = [one for one in spec.requirement_records() if one.metric in LABEL_METRICS and one.slice is None]
    costs = (wanted.false_positive_cost, wanted.false_negative_cost)
    return choose_threshold(
        answers[:, 1], target,
        maximise=wanted.maximise or "f1",
        subject_to=[(one.metric, one.direction, one.bound) for one in bounds if one.bound is not None],
        costs=None if costs[0] is None or costs[1] is None else (costs[0], costs[1]),
        weights=weight,
        confidence=max((one.confidence for one in bounds), default=None),
        judged_rows=judged_rows,
    )  # fmt: skip
