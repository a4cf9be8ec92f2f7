"""From a file of data to a first spec: a look at the rows suggests roles, a fallback and what to check."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelyard import data
from modelyard.core.arrays import Array
from modelyard.core.contract import Kind, Prepared, Role
from modelyard.core.data_plan import DataPlan, Declared, Goal
from modelyard.core.ports import Progress, Tables
from modelyard.errors import MissingColumn, UsageError
from modelyard.spec.init import SuggestedColumn, Suggestions, starter
from modelyard.spec.requirements import RequirementSpec
from modelyard.spec.task import ModelType

MOST_CLASSES = 20  # a numeric target with more values is a regression


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What `init` is told."""

    name: str
    data_path: Path
    target: str
    test_path: Path | None = None
    task: ModelType | None = None
    positive: str | None = None
    audit: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


def first_spec(wish: Wish, folder: Path, *, tables: Tables, progress: Progress) -> str:
    """Return the text of a spec that stands in `folder`, with every default visible and what the data suggests."""
    task = wish.task or _task(wish, tables)
    if task is ModelType.GENERATION:
        raise UsageError("`--task generation` is not built yet in this version; wanted classification or regression.")
    declared = {**dict.fromkeys(wish.audit, Declared(role=Role.AUDIT)),
                **dict.fromkeys(wish.ignore, Declared(role=Role.IGNORE))}  # fmt: skip
    plan = DataPlan(
        goal=Goal(task.value), target=wish.target, path=str(wish.data_path), positive=wish.positive,
        test_path=None if wish.test_path is None else str(wish.test_path), columns=declared,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="modelyard-") as place:
        prepared = data.prepare(plan, Path(place), progress=progress)
        truth = tables.read(Path(place) / "train.parquet", [wish.target])[wish.target]
    for note in prepared.notes:
        progress.say(note)
    positive = wish.positive
    if positive is None and len(prepared.contract.classes) == 2:
        positive = prepared.contract.classes[1]
    return starter(
        name=wish.name,
        data_path=_relative(wish.data_path, folder),
        test_path=None if wish.test_path is None else _relative(wish.test_path, folder),
        target=wish.target,
        task_type=task,
        positive=positive,
        suggestions=_suggest(wish, prepared, truth),
    )


def _task(wish: Wish, tables: Tables) -> ModelType:
    """Tell classification from regression by the target's values."""
    columns = tables.read(wish.data_path)
    if wish.target not in columns:
        raise MissingColumn(f"`{wish.data_path}`", (wish.target,), tuple(columns))
    values = columns[wish.target]
    if values.dtype == object or len(np.unique(values[~np.isnan(values)])) <= MOST_CLASSES:
        return ModelType.CLASSIFICATION
    return ModelType.REGRESSION


def _suggest(wish: Wish, prepared: Prepared, truth: Array) -> Suggestions:
    shares: Mapping[str, float] = {}
    mean: float | None = None
    if prepared.contract.classes:
        counts = Counter(truth.tolist())
        shares = {name: counts.get(name, 0) / len(truth) for name in prepared.contract.classes}
    else:
        mean = float(np.mean(truth))
    return Suggestions(
        columns=_columns(wish, prepared), requirements=_requirements(wish, prepared), probabilities=shares, mean=mean
    )


def _columns(wish: Wish, prepared: Prepared) -> dict[str, SuggestedColumn]:
    found: dict[str, SuggestedColumn] = {}
    for leak in prepared.leaks:
        if leak.column is None or leak.column in found:
            continue
        if leak.rule == "id_like":
            found[leak.column] = SuggestedColumn(role=Role.ID, reason=leak.reason)
        elif leak.rule in ("known_later", "predicts_target"):
            found[leak.column] = SuggestedColumn(role=Role.IGNORE, reason=leak.reason)
    found |= {name: SuggestedColumn(role=Role.AUDIT, reason="asked for") for name in wish.audit}
    return found | {name: SuggestedColumn(role=Role.IGNORE, reason="asked for") for name in wish.ignore}


def _requirements(wish: Wish, prepared: Prepared) -> tuple[RequirementSpec, ...]:
    """Return a bound on latency, and one on fairness for each protected column of a binary task."""
    lines = [RequirementSpec(metric="latency_p95_ms", at_most=50.0)]
    if len(prepared.contract.classes) == 2:
        for name in wish.audit:
            if prepared.contract.column(name).kind is not Kind.TEXT:
                lines.append(RequirementSpec(metric="demographic_parity_difference", at_most=0.3, group=name))
    return tuple(lines)


def _relative(path: Path, folder: Path) -> str:
    """Return a path as seen from the spec's folder where it lies below it, absolute otherwise."""
    whole = path.absolute()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)
