"""Rows, answers and questions for the tests of this room."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.open import Answers
from modelyard.core.arrays import Array, Columns, Floats
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import METRICS, Task
from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Slice, Stage
from modelyard.evaluate.choose import Contender
from modelyard.evaluate.evaluation import Question
from modelyard.evaluate.timing import Timings

CLASSES = ("no", "yes")


def strings(values: Any) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def contract(task: Task = Task.BINARY, *extra: Column) -> Contract:
    columns = (
        Column(name="x", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True),
        Column(name="colour", kind=Kind.CATEGORY, role=Role.FEATURE, nullable=True, distinct=3),
        Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=True, distinct=2),
        Column(
            name="y", kind=Kind.NUMBER if task is Task.REGRESSION else Kind.CATEGORY, role=Role.TARGET, nullable=False
        ),
        *extra,
    )
    classes = {Task.BINARY: CLASSES, Task.MULTICLASS: ("a", "b", "c"), Task.REGRESSION: ()}[task]
    return Contract(task=task, target="y", columns=columns, classes=classes)


def table(rows: int = 600, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    yes = x + rng.normal(size=rows) > 0.3
    return Columns({
        "x": x,
        "colour": strings([("red", "green", None)[place] for place in rng.integers(0, 3, size=rows)]),
        "sex": strings(rng.choice(["F", "M"], size=rows, p=[0.4, 0.6])),
        "y": strings(np.where(yes, "yes", "no")),
    })  # fmt: skip


def answers_of(positive: Floats, threshold: float = 0.5) -> Answers:
    table = np.column_stack([1 - positive, positive]).astype(np.float32)
    return Answers(labels=strings(np.where(positive >= threshold, "yes", "no")), probabilities=table)


def guess(columns: Columns, *, noise: float = 0.0, seed: int = 3) -> Answers:
    """Answer by x, as well as can be; with `noise`, worse."""
    margin = columns["x"] * 1.5 - 0.3 + np.random.default_rng(seed).normal(size=len(columns)) * noise
    return answers_of(1 / (1 + np.exp(-margin)))


def requirement(
    metric: str, bound: float, *, slice: Slice | None = None, group: str | None = None, accept: bool = False,
    stage: Stage = Stage.BUILD, least: int = 30,
) -> Requirement:  # fmt: skip
    known = METRICS[metric]
    return Requirement(
        id=metric, metric=metric, bound=bound, slice=slice, group=group, accept_inconclusive=accept,
        least_samples=least,
        direction=Direction.AT_LEAST if known.higher_is_better else Direction.AT_MOST,
        stages={stage: Estimator(measure=metric, population="test rows", inference=Inference.FIXED)},
    )  # fmt: skip


def question(*requirements: Requirement, objective: str = "roc_auc", of: Contract | None = None) -> Question:
    return Question(
        contract=of or contract(), requirements=requirements, objective=objective, price_per_cpu_hour=0.36, seed=0
    )


def timings(single_ms: float = 1.0, *, size: int = 2_000_000) -> Timings:
    spread = tuple(single_ms * (1 + place / 1000) for place in range(1000))
    return Timings(
        single_ms=spread, batch_ms=(4.0,) * 60, rows_per_s=(50_000.0, 60_000.0, 70_000.0), cpu_s=(0.001, 0.002, 0.003),
        open_ms=20.0, memory_mb=12.5, body_bytes=size,
    )  # fmt: skip


def contender(name: str, answers: Answers, *, single_ms: float = 1.0) -> Contender:
    return Contender(
        candidate=name, algorithm="linear", params={"p": 1}, trials=3, failed=1, fit_s=0.5, answers=answers,
        timings=timings(single_ms),
    )  # fmt: skip
