"""What of a spec can only be checked once the data is known: columns, classes, the number of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelyard.core.contract import Role
from modelyard.core.metrics import METRICS, Task
from modelyard.spec.fallback import answers, conditions
from modelyard.spec.faults import Fault, Place, listed, nearest, quoted, tell
from modelyard.spec.load import LoadedSpec

MOST_NAMES = 30


def check_columns(loaded: LoadedSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Return a fault, with its line, for each column that the spec names and the data does not have."""
    there = set(names)
    faults = [
        Fault(
            place=place,
            seen=f"the column {quoted(name)}, which the data does not have",
            wanted=f"one of {listed([quoted(one) for one in names], most=MOST_NAMES)}",
            nearest=nearest(name, names),
        )
        for place, name in _named(loaded)
        if name not in there
    ]
    faults.extend(_unseen(loaded))
    return tell(faults, loaded.file, loaded.marks)


def check_classes(loaded: LoadedSpec, task: Task, classes: Sequence[str]) -> tuple[str, ...]:
    """Return what does not fit the task as the data shows it, with lines.

    Args:
        task: binary or multiclass, as the number of classes says, or regression.
        classes: the labels as text; empty for regression.
    """
    return tell((*_metrics(loaded, task), *_labels(loaded, classes)), loaded.file, loaded.marks)


def _named(loaded: LoadedSpec) -> Iterator[tuple[Place, str]]:
    spec = loaded.spec
    yield ("task", "target"), spec.task.target
    for name in spec.data.columns:
        yield ("data", "columns", name), name
    for index, line in enumerate(spec.requirements):
        if line.slice is not None:
            yield ("requirements", index, "slice"), line.slice.partition("=")[0]
        if line.group is not None:
            yield ("requirements", index, "group"), line.group
    for place, condition in conditions(spec.serving.fallback):
        yield (*place, "column"), condition.column


def _unseen(loaded: LoadedSpec) -> Iterator[Fault]:
    """Yield the columns that a rule asks for although no caller needs to send them."""
    for place, condition in conditions(loaded.spec.serving.fallback):
        given = loaded.spec.data.columns.get(condition.column)
        if given is not None and given.role not in (None, Role.FEATURE):
            yield Fault(
                place=(*place, "column"),
                seen=f"{quoted(condition.column)}, a column with the role {given.role.value}",
                wanted="a feature: a rule is given what the model is given",
                reads=(("data", "columns", condition.column, "role"),),
            )


def _metrics(loaded: LoadedSpec, task: Task) -> Iterator[Fault]:
    spec = loaded.spec
    named: list[tuple[Place, str]] = [
        (("requirements", index, "metric"), line.metric) for index, line in enumerate(spec.requirements)
    ]
    if spec.objective is not None:
        named.append((("objective",), spec.objective))
    for place, name in named:
        if task not in METRICS[name].tasks:
            yield Fault(
                place=place,
                seen=f"{name}, and data for a {task.value} task",
                wanted=f"one of {listed([one.name for one in METRICS.values() if task in one.tasks])}",
            )
    if spec.threshold is not None and task is not Task.BINARY:
        yield Fault(
            place=("threshold",), seen=f"a threshold, and data for a {task.value} task", wanted="no such section"
        )


def _labels(loaded: LoadedSpec, classes: Sequence[str]) -> Iterator[Fault]:
    spec = loaded.spec
    shown = listed([quoted(one) for one in classes], most=MOST_NAMES)
    if spec.task.positive is not None and len(classes) > 2:
        yield Fault(
            place=("task", "positive"), seen=f"a positive class, and {len(classes)} classes in the data",
            wanted="no such line, or two classes",
        )  # fmt: skip
    elif spec.task.positive is not None and spec.task.positive not in classes:
        yield Fault(
            place=("task", "positive"), seen=f"{quoted(spec.task.positive)}, which the data does not have",
            wanted=f"one of {shown}", nearest=nearest(spec.task.positive, classes),
        )  # fmt: skip
    for where, answer in answers(spec.serving.fallback):
        if answer.probabilities is None:
            continue
        place: Place = (*where, "probabilities")
        for label in [one for one in answer.probabilities if one not in classes]:
            yield Fault(
                place=(*place, label), seen=f"the class {quoted(label)}, which the data does not have",
                wanted=f"one of {shown}", nearest=nearest(label, classes),
            )  # fmt: skip
        lacking = [quoted(one) for one in classes if one not in answer.probabilities]
        if lacking:
            yield Fault(place=place, seen=f"no probability of {listed(lacking, most=8)}", wanted="one of every class")
