"""The same metrics on parts of the rows: protected groups, categories, and what the spec names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Bools, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.evidence import SliceScore
from modelyard.core.metrics import METRICS, Needs, Task
from modelyard.core.requirement import Observation, Requirement, Slice
from modelyard.evaluate.outcomes import group_values, outcome_of, rows_of
from modelyard.measure.intervals import observe, observe_all

LEAST_ROWS = 30
MOST_VALUES = 10  # of one column
MOST_FEATURES = 5  # feature columns that are sliced besides the protected ones
FEW_VALUES = 8  # a feature with at most this many values is sliced
RESAMPLES = 400

SLICED = {
    Task.BINARY: ("roc_auc", "accuracy", "precision", "recall"),
    Task.MULTICLASS: ("roc_auc", "accuracy", "balanced_accuracy"),
    Task.REGRESSION: ("r2", "rmse", "mae"),
}


def sliced(
    contract: Contract, columns: Columns, answers: Answers, *, requirements: Sequence[Requirement], objective: str,
    confidence: float, rng: np.random.Generator,
) -> tuple[SliceScore, ...]:  # fmt: skip
    """Return the metrics of every slice with enough rows; slices that the spec names come whatever their size."""
    names = tuple(dict.fromkeys((objective, *SLICED[contract.task])))
    scores = []
    for slice, rows in _slices(contract, columns, requirements):
        part = outcome_of(contract, columns.take(rows), _take(answers, rows))
        observations = observe_all(names, part, confidence=confidence, rng=rng, resamples=RESAMPLES, slice=slice)
        scores.append(
            SliceScore(column=slice.column, value=slice.value, rows=int(rows.sum()), observations=observations)
        )
    return tuple(scores)


def fairness(
    contract: Contract, columns: Columns, answers: Answers, *, confidence: float, rng: np.random.Generator
) -> tuple[Observation, ...]:
    """Return every fairness metric for every protected column."""
    names = [m.name for m in METRICS.values() if m.needs is Needs.GROUPS and contract.task in m.tasks]
    found: list[Observation] = []
    for column in contract.with_role(Role.AUDIT):
        if not names or column.kind is Kind.TEXT:
            continue
        outcome = outcome_of(contract, columns, answers, group=column.name)
        found.extend(
            observe_all(names, outcome, confidence=confidence, rng=rng, resamples=RESAMPLES, group=column.name)
        )
    return tuple(found)


def observe_requirement(
    requirement: Requirement, contract: Contract, columns: Columns, answers: Answers, *, rng: np.random.Generator
) -> Observation:
    """Return what a requirement on answers asks for: its metric, on its slice, at its confidence."""
    if requirement.slice is not None:
        rows = rows_of(requirement.slice, contract, columns)
        columns, answers = columns.take(rows), _take(answers, rows)
    outcome = outcome_of(contract, columns, answers, group=requirement.group)
    return observe(
        requirement.metric, outcome, confidence=requirement.confidence, rng=rng,
        slice=requirement.slice, group=requirement.group,
    )  # fmt: skip


def _slices(contract: Contract, columns: Columns, requirements: Sequence[Requirement]) -> list[tuple[Slice, Bools]]:
    found: dict[str, tuple[Slice, Bools]] = {}
    for requirement in requirements:
        if requirement.slice is not None:
            found[str(requirement.slice)] = (requirement.slice, rows_of(requirement.slice, contract, columns))
    few = [c for c in contract.features if c.kind is Kind.CATEGORY and 2 <= c.distinct <= FEW_VALUES]
    for column in (*contract.with_role(Role.AUDIT), *few[:MOST_FEATURES]):
        if column.kind is not Kind.TEXT:
            for slice, rows in _of_column(column, columns):
                found.setdefault(str(slice), (slice, rows))
    return list(found.values())


def _of_column(column: Column, columns: Columns) -> list[tuple[Slice, Bools]]:
    groups = group_values(column, columns)
    counts = Counter(value for value in groups if value is not None)
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]
    return [
        (Slice(column=column.name, value=value), np.asarray(groups == value, dtype=np.bool_))
        for value, count in largest
        if count >= LEAST_ROWS
    ]


def _take(answers: Answers, rows: Bools) -> Answers:
    return Answers(
        labels=None if answers.labels is None else answers.labels[rows],
        probabilities=None if answers.probabilities is None else answers.probabilities[rows],
        values=None if answers.values is None else answers.values[rows],
    )
