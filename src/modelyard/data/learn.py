"""Learn the contract and the profile of a table from its training rows, and from no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from modelyard.core.arrays import Floats
from modelyard.core.contract import MOST_CATEGORIES, Column, ColumnProfile, Contract, Histogram, Kind, Role
from modelyard.core.data_plan import DataPlan, Goal
from modelyard.core.metrics import Task
from modelyard.data.check import Shape
from modelyard.errors import DataError

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
_MOST_CLASSES = 1_000
_TOP = 10
_FEW = 50  # distinct whole numbers whose counts are worth naming


def learn(train: pl.DataFrame, shapes: Sequence[Shape], plan: DataPlan) -> Contract:
    """Return what the training rows show of each column; raises DataError if the target cannot be learned."""
    classes = _classes(train[plan.target], plan) if plan.goal is Goal.CLASSIFICATION else ()
    if plan.goal is Goal.REGRESSION:
        _check_values(train[plan.target])
    task = Task.REGRESSION if not classes else Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    columns = tuple(_column(train[shape.name], shape) for shape in shapes)
    return Contract(
        task=task, target=plan.target, columns=columns, classes=classes, missing_texts=plan.reading.null_values
    )


def check_classes(labels: pl.Series, target: str) -> None:
    """Raise DataError if labels are so many that they look like a quantity, or like names of rows."""
    classes = labels.unique().sort()
    if len(classes) > _MOST_CLASSES or (len(classes) > 100 and len(classes) > 0.2 * len(labels)):
        raise DataError(
            f"The target `{target}` has {len(classes)} classes in {len(labels)} rows, such as "
            f"`{classes[0]}` and `{classes[1]}`. If it is a quantity, write plain numbers and set `task.type` "
            "to regression."
        )


def profile(train: pl.DataFrame, contract: Contract) -> tuple[ColumnProfile, ...]:
    """Return the distribution of each column that is not ignored."""
    return tuple(_profile(train[one.name], one) for one in contract.columns if one.role is not Role.IGNORE)


def _classes(labels: pl.Series, plan: DataPlan) -> tuple[str, ...]:
    """Return the classes sorted; of two, the positive one last: the one asked for, else the rarer."""
    counts = {label: int(count) for label, count in labels.value_counts(name="rows").iter_rows()}
    classes = sorted(counts)
    if len(classes) < 2:
        raise DataError(
            f"The target `{plan.target}` has one class in the training rows, `{classes[0]}`; "
            "a classification needs two."
        )
    _check_positive(plan, classes)
    if len(classes) == 2:
        positive = plan.positive or min(classes, key=lambda label: (counts[label], label != classes[1]))
        classes.sort(key=lambda label: label == positive)
    return tuple(classes)


def _check_positive(plan: DataPlan, classes: Sequence[str]) -> None:
    if plan.positive is None:
        return
    if plan.positive not in classes:
        known = ", ".join(f"`{label}`" for label in classes[:20])
        raise DataError(f"The positive class `{plan.positive}` is not among the values of `{plan.target}`: {known}.")
    if len(classes) > 2:
        raise DataError(
            f"`positive: {plan.positive}` is for two classes, but `{plan.target}` has {len(classes)}. Leave it out."
        )


def _check_values(target: pl.Series) -> None:
    if target.n_unique() < 2:
        raise DataError(f"The target `{target.name}` is {target[0]} in every training row; there is nothing to learn.")


def _column(values: pl.Series, shape: Shape) -> Column:
    present = values.drop_nulls()
    low, high = _range(present) if not shape.kind.is_string and shape.kind is not Kind.BOOLEAN else (None, None)
    if shape.kind is Kind.BOOLEAN and len(present):
        low, high = float(present.cast(pl.Int8).min() == 1), float(present.cast(pl.Int8).max() == 1)
    longest = present.str.len_chars().max() if shape.kind.is_string and len(present) else 0
    return Column(
        name=shape.name,
        kind=shape.kind,
        role=shape.role,
        nullable=values.null_count() > 0,
        missing_share=values.null_count() / max(len(values), 1),
        minimum=low,
        maximum=high,
        categories=_categories(present) if shape.kind is Kind.CATEGORY else (),
        distinct=present.n_unique(),
        longest=longest if isinstance(longest, int) else 0,
        format=shape.format,
    )


def _range(present: pl.Series) -> tuple[float | None, float | None]:
    if not len(present):
        return None, None
    numbers = as_floats(present)
    return float(numbers.min()), float(numbers.max())


def as_floats(present: pl.Series) -> Floats:
    """Return values without missing ones as float64; dates and times as microseconds since 1970."""
    if present.dtype == pl.Date:
        present = present.cast(pl.Datetime("us"))
    return present.to_physical().cast(pl.Float64).to_numpy()


def _categories(present: pl.Series) -> tuple[str, ...]:
    return tuple(value for value, _ in _top(present, MOST_CATEGORIES))


def _top(present: pl.Series, most: int) -> list[tuple[str, int]]:
    """Return the most frequent values with their counts; of equal counts, the smaller value first."""
    frame = present.alias("value").to_frame()
    counts = frame.group_by("value").len("rows").sort(["rows", "value"], descending=[True, False]).head(most)
    return [(spelled(value), int(rows)) for value, rows in counts.iter_rows()]


def spelled(value: object) -> str:
    """Write a value as people read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _profile(values: pl.Series, column: Column) -> ColumnProfile:
    present = values.drop_nulls()
    is_measured = column.kind.is_numeric and len(present) > 0
    numbers = as_floats(present) if not column.kind.is_string and len(present) else None
    countable = column.kind in (Kind.CATEGORY, Kind.BOOLEAN) or (
        column.kind is Kind.INTEGER and column.distinct <= _FEW
    )
    quantiles = np.quantile(numbers, QUANTILES) if numbers is not None else ()
    return ColumnProfile(
        column=column.name,
        missing_share=column.missing_share,
        distinct=column.distinct,
        mean=_finite(numbers, np.mean) if is_measured else None,
        deviation=_finite(numbers, np.std) if is_measured else None,
        quantiles={f"{share:g}": float(value) for share, value in zip(QUANTILES, quantiles, strict=False)},
        histogram=histogram(numbers, bins=min(BINS, column.distinct)) if numbers is not None else None,
        top=tuple(_top(present, _TOP)) if countable else (),
    )


def _finite(numbers: Floats | None, measure: Callable[[Floats], np.floating[Any]]) -> float | None:
    """Return a measure of the numbers, or None where it is too large for a float."""
    if numbers is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(measure(numbers))
    return value if math.isfinite(value) else None


def histogram(numbers: Floats, *, bins: int = BINS) -> Histogram:
    """Count values in bins of equal width from the smallest to the largest, both inside.

    >>> histogram(np.array([1.0, 1.0, 2.0]), bins=2).counts
    (2, 1)
    """
    low, high = float(numbers.min()), float(numbers.max())
    steps = np.linspace(0.0, 1.0, bins + 1 if high > low else 2)
    edges = low * (1.0 - steps) + high * steps  # high - low may be beyond what a float holds
    edges[-1] = np.nextafter(high, np.inf)
    places = np.minimum(np.searchsorted(edges, numbers, side="right"), len(edges) - 1) - 1
    counts = np.bincount(places, minlength=len(edges) - 1)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
