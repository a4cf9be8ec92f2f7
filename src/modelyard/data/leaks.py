"""Look for ways in which the answer may have got into the question. What is found is a warning, not a proof."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from modelyard.core.arrays import Array, Floats, Ints
from modelyard.core.contract import Column, Contract, Kind, Leak, Part
from modelyard.core.metrics import Task
from modelyard.data.learn import as_floats
from modelyard.data.linear import exact_sums

_SAMPLE = 100_000
_LEAST_ROWS = 100
_WRITTEN = (
    r"^\s*[-+(]?\s*\p{Sc}?\s*[0-9][0-9.,' ]*\s*(\p{Sc}|%)?\s*\)?\s*$"  # digits with signs of money, share or thousands
)
_BINS = 64
_FEW = 50
TELLING = {Task.BINARY: 0.99, Task.MULTICLASS: 0.95, Task.REGRESSION: 0.98}
_MEASURED = {
    Task.BINARY: "area under the ROC curve",
    Task.MULTICLASS: "share of the errors of always guessing the commonest class that it avoids",
    Task.REGRESSION: "share of variance explained",
}


def find_leaks(parts: Mapping[Part, pl.DataFrame], contract: Contract) -> tuple[Leak, ...]:
    """Return what looks like a leak, in words.

    Rules: `duplicate_rows` (the same features in training and another part), `id_like` (a feature that
    numbers or names the rows), `known_later` (a feature that is the target in other words, or numbers
    that sum to it), `predicts_target` (a feature that alone predicts nearly all of it).
    """
    train = _sample(parts[Part.TRAIN])
    leaks = _duplicates(parts, contract)
    leaks += [leak for column in contract.features if (leak := _id_like(parts[Part.TRAIN], column)) is not None]
    if train.height < _LEAST_ROWS:
        return tuple(leaks)
    sums = _sums(train, contract) if contract.task is Task.REGRESSION else []
    told = {leak.column for leak in sums}
    single = [_single(train, column, contract) for column in contract.features if column.name not in told]
    return (*leaks, *sums, *(leak for leak in single if leak is not None))


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.gather_every(max(1, -(-frame.height // _SAMPLE)))


def _duplicates(parts: Mapping[Part, pl.DataFrame], contract: Contract) -> list[Leak]:
    names = [column.name for column in contract.features]
    train = parts[Part.TRAIN].select(names).hash_rows()
    twins = 1.0 - train.n_unique() / max(len(train), 1)
    found = []
    for part in (Part.CALIBRATE, Part.VALID, Part.TEST):
        frame = parts[part]
        shared = (
            frame.select(names).hash_rows().is_in(train.implode()) if frame.height else pl.Series([], dtype=pl.Boolean)
        )
        count = int(shared.sum())
        if not count:
            continue
        share = count / frame.height
        found.append(
            Leak(
                rule="duplicate_rows",
                column=None,
                strength=share,
                reason=f"{count} of {frame.height} {part} rows ({share:.2%}) have the same features as a training row; "
                f"within the training rows {twins:.2%} repeat another. If they are the same cases, split by group.",
            )
        )
    return found


def _id_like(train: pl.DataFrame, column: Column) -> Leak | None:
    """Return a leak if nearly every row has a value of its own that only names it."""
    present = train[column.name].drop_nulls()
    share = column.distinct / max(len(present), 1)
    least = {Kind.INTEGER: 1.0, Kind.CATEGORY: 0.95}.get(column.kind)
    if least is None or len(present) < _LEAST_ROWS or share < least or written_number(present) is not None:
        return None
    ordered = column.kind is Kind.INTEGER and present.is_sorted()
    how = "and they rise with the rows, as a running number does" if ordered else "so it can only name the row"
    return Leak(
        rule="id_like",
        column=column.name,
        strength=share,
        reason=f"`{column.name}` has {column.distinct} different values in {len(present)} rows, {how}. "
        "Give it `role: id` or `role: ignore`.",
    )


def written_number(values: pl.Series) -> str | None:
    """Return an example where nearly all strings are numbers written with signs, such as `$1,200.50` or `12 %`."""
    if values.dtype != pl.String or not len(values):
        return None
    sample = values.head(_LEAST_ROWS * 10)
    met = sample.str.contains(_WRITTEN)
    return str(sample.filter(met)[0]) if int(met.sum()) >= 0.9 * len(sample) else None


def _sums(train: pl.DataFrame, contract: Contract) -> list[Leak]:
    """Find numbers that add up to the target."""
    names = [column.name for column in contract.features if column.kind.is_numeric and column.missing_share < 0.5]
    frame = train.select([*names, contract.target]).cast(pl.Float64).drop_nulls()
    values = frame.to_numpy()
    found = []
    for sum_ in exact_sums(values[:, :-1], values[:, -1]):
        terms = " + ".join(f"{weight:.6g} × `{names[place]}`" for place, weight in sum_.weights.items())
        whole = f"{terms}{f' + {sum_.constant:.6g}' if abs(sum_.constant) > 1e-6 else ''}"
        for place in sum_.weights:
            found.append(
                Leak(
                    rule="known_later",
                    column=names[place],
                    strength=round(sum_.explained, 6),
                    reason=f"`{contract.target}` = {whole} in the training rows, so `{names[place]}` is known "
                    "only when the target is. Give it `role: ignore`.",
                )
            )
    return found


def _single(train: pl.DataFrame, column: Column, contract: Contract) -> Leak | None:
    """Return a leak if this feature alone tells the target on rows that it was not fitted on."""
    if column.kind is Kind.TEXT:
        return None
    values, target = train[column.name], train[contract.target]
    if contract.task is not Task.REGRESSION and _is_copy(values, target, contract):
        return Leak(
            rule="known_later",
            column=column.name,
            strength=1.0,
            reason=f"Each of the {column.distinct} values of `{column.name}` stands with one class of "
            f"`{contract.target}` only: it looks like the target in other words. "
            "Give it `role: ignore` unless it is known beforehand.",
        )
    strength = _strength(_codes(values, column), target, contract)
    if strength < TELLING[contract.task]:
        return None
    return Leak(
        rule="predicts_target",
        column=column.name,
        strength=round(min(strength, 1.0), 6),
        reason=f"`{column.name}` alone predicts `{contract.target}`: {_MEASURED[contract.task]} {strength:.4f}. "
        "Is it known when the question is asked? If not give it `role: ignore`.",
    )


def _is_copy(values: pl.Series, target: pl.Series, contract: Contract) -> bool:
    few = values.n_unique()
    if not len(contract.classes) <= few <= _FEW:
        return False
    pairs = pl.DataFrame({"value": values, "label": target}).group_by("value").agg(pl.col("label").n_unique())
    return pairs["label"].max() == 1


def _codes(values: pl.Series, column: Column) -> Ints:
    """Number the values: strings and truth each their own, numbers and times by quantile; missing is 0."""
    missing = values.is_null().to_numpy()
    codes = np.zeros(len(values), dtype=np.int64)
    if column.kind.is_string or column.kind is Kind.BOOLEAN:
        codes[~missing] = values.drop_nulls().rank("dense").to_numpy()
        return codes
    numbers = as_floats(values.drop_nulls())
    if len(numbers):
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1], method="nearest"))
        codes[~missing] = np.searchsorted(edges, numbers, side="left") + 1
    return codes


def _strength(codes: Ints, target: pl.Series, contract: Contract) -> float:
    """Return how well the mean target of each code, from one half of the rows, tells the other half's."""
    if contract.task is Task.REGRESSION:
        truth = target.cast(pl.Float64).to_numpy().reshape(-1, 1)
    else:
        truth = np.stack([(target == label).to_numpy() for label in contract.classes], axis=1).astype(np.float64)
    guess = _crossed(codes, truth)
    if contract.task is Task.BINARY:
        return area_under_roc(guess[:, 1], truth[:, 1])
    if contract.task is Task.MULTICLASS:
        common = float(truth.mean(axis=0).max())
        right = float((guess.argmax(axis=1) == truth.argmax(axis=1)).mean())
        return (right - common) / max(1.0 - common, 1e-12)
    variance = float(((truth - truth.mean()) ** 2).mean())
    return 1.0 - float(((truth - guess) ** 2).mean()) / max(variance, 1e-300)


def _crossed(codes: Ints, truth: Floats) -> Floats:
    """Return for each row the mean of its code over the other half, drawn to the overall mean by one row."""
    half = np.random.default_rng(0).permutation(len(codes)) % 2
    size, prior = int(codes.max()) + 1, truth.mean(axis=0)
    guess = np.empty_like(truth)
    for side in (0, 1):
        seen = half != side
        counts = np.bincount(codes[seen], minlength=size)[:, None]
        sums = np.stack([np.bincount(codes[seen], weights=column[seen], minlength=size) for column in truth.T], axis=1)
        guess[~seen] = ((sums + prior) / (counts + 1))[codes[~seen]]
    return guess


def area_under_roc(scores: Floats, positive: Array) -> float:
    """Return the chance that a positive scores above a negative, ties counting half; 0.5 without both.

    >>> area_under_roc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]))
    0.875
    """
    levels, places = np.unique(scores, return_inverse=True)
    good = np.bincount(places, weights=positive, minlength=len(levels))
    bad = np.bincount(places, weights=1 - positive, minlength=len(levels))
    if not good.sum() or not bad.sum():
        return 0.5
    below = np.cumsum(bad) - bad
    return float((good * (below + bad / 2)).sum() / (good.sum() * bad.sum()))
