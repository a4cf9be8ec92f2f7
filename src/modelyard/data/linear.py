"""Find small sets of columns whose weighted sum is another column exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelyard.core.arrays import Floats

EXACT = 1e-6  # unexplained share of variance under which a sum counts as exact
_ROWS = 5_000
_MOST_SUMS = 3
_SLIGHT = 1e-4  # a weight, both sides standardised, under which a column takes no part


@dataclass(frozen=True)
class Sum:
    """target = constant + sum of weight × column."""

    weights: dict[int, float]  # by column place
    constant: float
    explained: float  # share of variance, at most 1


def exact_sums(columns: Floats, target: Floats) -> Iterator[Sum]:
    """Yield sums of columns that give the target, each with as few columns as will do, no column twice.

    Args:
        columns: (rows, columns), finite. target: (rows,), finite.
    """
    step = max(1, len(target) // _ROWS)
    columns, target = columns[::step], target[::step]
    with np.errstate(over="ignore", invalid="ignore"):
        spread, noise = columns.std(axis=0), target.std()
    left = [place for place in range(columns.shape[1]) if np.isfinite(spread[place]) and spread[place] > 0]
    if not np.isfinite(noise) or noise == 0:
        return
    scaled = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    aim = (target - target.mean()) / noise
    for _ in range(_MOST_SUMS):
        chosen = _fewest(scaled, aim, left)
        if not chosen:
            return
        weights, lost = _fit(scaled, aim, chosen)
        raw = {place: float(w * noise / spread[place]) for place, w in zip(chosen, weights, strict=True)}
        constant = float(target.mean() - sum(weight * columns[:, place].mean() for place, weight in raw.items()))
        yield Sum(weights=raw, constant=constant, explained=max(0.0, 1.0 - lost))
        left = [place for place in left if place not in chosen]


def _fewest(scaled: Floats, aim: Floats, places: list[int]) -> list[int]:
    """Return a smallest set of columns that gives the aim exactly: drop one at a time while it still does."""
    if not places or len(aim) < 3 * len(places) + 30:
        return []
    weights, lost = _fit(scaled, aim, places)
    if lost > EXACT:
        return []
    strong = [place for place, weight in zip(places, weights, strict=True) if abs(weight) > _SLIGHT]
    chosen = strong if strong and _fit(scaled, aim, strong)[1] <= EXACT else list(places)
    order = sorted(zip(chosen, _fit(scaled, aim, chosen)[0], strict=True), key=lambda pair: abs(pair[1]))
    for place, _ in order:
        rest = [other for other in chosen if other != place]
        if rest and _fit(scaled, aim, rest)[1] <= EXACT:
            chosen = rest
    return chosen


def _fit(scaled: Floats, aim: Floats, places: list[int]) -> tuple[Floats, float]:
    """Return least-squares weights and the share of variance that they leave."""
    weights: Floats = np.linalg.lstsq(scaled[:, places], aim, rcond=None)[0].astype(np.float64)
    return weights, float(((aim - scaled[:, places] @ weights) ** 2).mean())
