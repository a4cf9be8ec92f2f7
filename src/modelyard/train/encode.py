"""Learning from the training part how raw columns become features."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modelyard.bundle.steps import (
    PARTS,
    VERSION,
    DateStep,
    NumberStep,
    Preprocess,
    Step,
    StringStep,
    TextStep,
    date_parts,
    words_of,
)
from modelyard.core.arrays import Array, Columns, Floats
from modelyard.core.contract import Column, Contract, Kind
from modelyard.core.encoding import BlockFeature, CategoryFeature, Encoding, Feature, IndicatorFeature, NumberFeature
from modelyard.errors import DataError

MOST_CELLS = 100_000_000  # of the columns that categories, or words, of a matrix become: 400 MB of float32
MOST_WORDS = 256
WORD_ROWS = 5  # a word must be in this many rows
MOST_DENSE_KEYS = 100
DENSE_KEY_ROWS = 10
FEWEST_INDICATED, MOST_INDICATED = 3, 40  # values of a number that get an indicator each, beside the number itself
TREE_KEY_ROWS = 5
SMOOTHING_ROWS = 20.0  # a category's rate is drawn towards the overall rate by this many rows
MOST_RATE_CLASSES = 10
EXACT_INTEGER = 2**24  # float32 holds every whole number up to here


def learn_steps(contract: Contract, columns: Columns) -> Preprocess:
    """Return the steps that make the graph's inputs, in contract order; raises DataError without features."""
    if not contract.features:
        raise DataError("No column is left as a feature. Give at least one column the role `feature`.")
    return Preprocess(version=VERSION, steps=tuple(_step(column, columns[column.name]) for column in contract.features))


def _step(column: Column, values: Array) -> Step:
    if column.kind.is_numeric:
        return NumberStep(column=column.name)
    if column.kind is Kind.CATEGORY:
        return StringStep(column=column.name)
    if column.kind is Kind.TEXT:
        return _text_step(column.name, values)
    present = values[~np.isnat(values)]
    parts = date_parts(present) if len(present) else {}
    varying = tuple(part for part in PARTS if part in parts and len(np.unique(parts[part])) > 1)
    return DateStep(column=column.name, parts=varying or ("epoch_days",))


def _text_step(name: str, values: Array) -> TextStep:
    rows: Counter[str] = Counter()
    for text in values:
        if text is not None:
            rows.update(set(words_of(text)))
    count = len(values)
    usable = [(n, word) for word, n in rows.items() if WORD_ROWS <= n <= 0.6 * count]
    words = sorted(
        word for _, word in sorted(usable, key=lambda item: (-item[0], item[1]))[: _affordable(count, 1, MOST_WORDS)]
    )
    weights = tuple(math.log((1 + count) / (1 + rows[word])) + 1.0 for word in words)
    return TextStep(column=name, vocabulary=tuple(words), weights=weights)


def learn_encoding(
    kind: str, steps: Preprocess, inputs: Mapping[str, Array], target: Array, *, classes: int
) -> Encoding:
    """Return how the graph's inputs become features for estimators of a kind.

    Args:
        kind: "tree" keeps order and missing values and turns a category into the rate of the target
            in it; "dense" fills, standardises and makes one column a category.
        target: int64 in [0, classes), or float64 where `classes` is 0.
    Source: for the rates, Micci-Barreca, 2001, "A Preprocessing Scheme for High-Cardinality
        Categorical Attributes in Classification and Prediction Problems", equation 4 with a
        constant number of smoothing rows.
    """
    numbers = [step for step in steps.steps if isinstance(step, NumberStep | DateStep)]
    features: list[Feature] = []
    if numbers:
        names = tuple(name for step in numbers for name in _names(step))
        block = np.concatenate([inputs[step.output] for step in numbers], axis=1)
        sources = tuple(step.output for step in numbers)
        features.append((_tree_numbers if kind == "tree" else _dense_numbers)(sources, names, block))
        if kind == "dense":
            features.extend(one for step in numbers for one in _indicators(step, inputs[step.output]))
    strings = sum(isinstance(step, StringStep) for step in steps.steps)
    for step in steps.steps:
        if isinstance(step, StringStep):
            values = inputs[step.output][:, 0]
            if kind == "tree":
                features.append(_rates(step.output, values, target, classes))
            else:
                features.append(_one_hot(step.output, values, most=_affordable(len(values), strings, MOST_DENSE_KEYS)))
        elif isinstance(step, TextStep):
            words = (*step.vocabulary, "length", "missing")
            features.append(BlockFeature(source=step.output, names=tuple(f"{step.column}:{word}" for word in words)))
    return Encoding(kind=kind, features=tuple(features))


def _names(step: NumberStep | DateStep) -> tuple[str, ...]:
    return (step.column,) if isinstance(step, NumberStep) else tuple(f"{step.column}.{part}" for part in step.parts)


def _tree_numbers(sources: tuple[str, ...], names: tuple[str, ...], block: Floats) -> NumberFeature:
    """Leave what float32 holds exactly as it is; bring the rest near zero first."""
    shift, scale = np.zeros(block.shape[1]), np.ones(block.shape[1])
    for place in range(block.shape[1]):
        present = block[:, place][~np.isnan(block[:, place])]
        if not len(present) or (np.all(present == np.floor(present)) and np.abs(present).max() <= EXACT_INTEGER):
            continue
        shift[place], scale[place] = _centred(present, np.median, lambda values: float(np.abs(values).max()))
    return NumberFeature(sources=sources, names=names, shift=tuple(shift.tolist()), scale=tuple(scale.tolist()))


def _dense_numbers(sources: tuple[str, ...], names: tuple[str, ...], block: Floats) -> NumberFeature:
    missing = np.isnan(block)
    flags = tuple(int(place) for place in np.flatnonzero(missing.any(axis=0)))
    shift, scale = np.zeros(block.shape[1]), np.ones(block.shape[1])
    for place in range(block.shape[1]):
        present = block[~missing[:, place], place]
        if len(present):
            shift[place], scale[place] = _centred(present, np.mean, np.std)
            if present.min() == present.max():
                scale[place] = 0.0  # what a constant column is elsewhere, no weight was learned for
    return NumberFeature(
        sources=sources,
        names=(*names, *(f"{names[place]} is missing" for place in flags)),
        shift=tuple(shift.tolist()),
        scale=tuple(scale.tolist()),
        fill=(0.0,) * block.shape[1],
        flags=flags,
    )


def _centred(
    present: Floats, centre: Callable[[Floats], np.floating[Any]], spread: Callable[[Floats], Any]
) -> tuple[float, float]:
    """Return shift and scale after which values are centred with spread 1; scale is 1 where nothing is spread."""
    largest = float(np.abs(present).max())
    if largest == 0.0:
        return 0.0, 1.0
    unit = 2.0 ** np.floor(np.log2(largest))  # which changes no digit; squares of what is far from 1 are lost
    values = present / unit
    shift = float(centre(values))
    wide = float(spread(values - shift))
    with np.errstate(over="ignore"):
        scale = float(np.float64(1.0) / wide / unit) if wide > 0 else 1.0
    return float(shift * unit), scale if np.isfinite(scale) else 1.0


def _indicators(step: NumberStep | DateStep, block: Floats) -> list[IndicatorFeature]:
    """Return an indicator of each value for whole numbers that take few: hours, months, codes."""
    found = []
    for place, name in enumerate(_names(step)):
        present = block[:, place][~np.isnan(block[:, place])]
        values, counts = np.unique(present, return_counts=True)
        if FEWEST_INDICATED <= len(values) <= MOST_INDICATED and np.all(values == np.floor(values)):
            usual = values[counts >= min(DENSE_KEY_ROWS, max(1, len(block) // 20))].tolist()
            if usual:
                names = tuple(f"{name}={value:g}" for value in usual)
                found.append(IndicatorFeature(source=step.output, place=place, values=tuple(usual), names=names))
    return found


def _keys(values: Array, *, least_rows: int, most: int) -> tuple[str, ...]:
    """Return the values that come often enough, most frequent first, ties by name."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return tuple(key for key, count in counts[:most] if count >= least_rows)


def _rates(source: str, values: Array, target: Array, classes: int) -> CategoryFeature:
    keys = _keys(values, least_rows=TREE_KEY_ROWS, most=1000)
    places = {key: place for place, key in enumerate(keys)}
    codes = np.array([places.get(value, len(keys)) for value in values], dtype=np.int64)
    counts = np.bincount(codes, minlength=len(keys) + 1).astype(np.float64)
    if classes > MOST_RATE_CLASSES:  # too many rates: the rank by frequency keeps at least an order
        ranks = [(float(place),) for place in range(len(keys))]
        return CategoryFeature(source=source, keys=keys, table=tuple(ranks), other=(-1.0,), names=(source,))
    outcomes = _outcomes(target, classes)
    overall = outcomes.mean(axis=0)
    table = np.empty((len(keys) + 1, outcomes.shape[1]))
    for place in range(outcomes.shape[1]):
        sums = np.bincount(codes, weights=outcomes[:, place], minlength=len(keys) + 1)
        table[:, place] = (sums + SMOOTHING_ROWS * overall[place]) / (counts + SMOOTHING_ROWS)
    rows = tuple(tuple(float(np.float32(rate)) for rate in row) for row in table)
    names = (source,) if outcomes.shape[1] == 1 else tuple(f"{source} rate {place}" for place in range(classes))
    return CategoryFeature(source=source, keys=keys, table=rows[:-1], other=rows[-1], names=names)


def _outcomes(target: Array, classes: int) -> Floats:
    """Return what the rates are of: the target, the positive class, or each class."""
    if classes == 0:
        return np.asarray(target, dtype=np.float64).reshape(-1, 1)
    if classes == 2:
        return np.asarray(target == 1, dtype=np.float64).reshape(-1, 1)
    return np.asarray(target[:, None] == np.arange(classes), dtype=np.float64)


def _affordable(rows: int, columns: int, most: int) -> int:
    """Return how many new columns each of `columns` may become, so that the matrix stays bounded."""
    return max(4, min(most, MOST_CELLS // max(rows, 1) // max(columns, 1)))


def _one_hot(source: str, values: Array, *, most: int) -> CategoryFeature:
    least = max(DENSE_KEY_ROWS, len(values) // 1000)
    keys = _keys(values, least_rows=min(least, max(1, len(values) // 20)), most=most)
    width = max(len(keys), 1)
    table = tuple(tuple(1.0 if place == key else 0.0 for place in range(width)) for key in range(len(keys)))
    names = tuple(f"{source}={key}" for key in keys) or (source,)
    return CategoryFeature(source=source, keys=keys, table=table, other=(0.0,) * width, names=names)
