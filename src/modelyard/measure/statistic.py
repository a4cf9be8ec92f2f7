"""Metrics made ready to be computed under many weightings of the same rows at once.

One form serves the point estimate (one weighting) and the bootstrap (a thousand): sorting and
counting are done once, and a weighting is then a row of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelyard.core.arrays import Floats

Finish = Callable[[Floats, Floats], Floats]
Gauge = Callable[[Floats], Floats]


class Statistic(Protocol):
    """A metric of fixed rows as a function of their weights.

    Where `is_gap` is true the value is a seminorm of the parts (a sum or range of absolute gaps),
    which is pulled upwards by noise; the interval is built accordingly.
    """

    @property
    def is_gap(self) -> bool: ...

    def parts(self, weights: Floats, rng: np.random.Generator | None = None) -> Floats:
        """Return (b, parts) for (b, n) weights; NaN where undefined.

        With a generator, what the rows cannot exclude is drawn too (see `Additive.doubt`).
        """
        ...

    def value(self, parts: Floats) -> Floats:
        """Return (b,) values of (b, parts)."""
        ...


def first(parts: Floats) -> Floats:
    """Return the only part."""
    return np.asarray(parts[:, 0])


@dataclass(frozen=True, kw_only=True)
class Additive:
    """A metric that is a function of weighted sums over the rows.

    `doubt` has the shape of a gamma draw for each sum, `unit` its scale (the weight of one row):
    half a row of doubt in each cell of a count, as Jeffreys' prior has it. Without it a cell that
    was empty by luck would stay empty in every resample and the interval would have no width.
    """

    columns: Floats  # (n, sums)
    finish: Finish  # (b, sums), doubt of the same shape -> (b, parts)
    doubt: Floats | None = None  # (sums,)
    unit: float = 1.0
    gauge: Gauge = first
    is_gap: bool = False

    def parts(self, weights: Floats, rng: np.random.Generator | None = None) -> Floats:
        sums = weights @ self.columns
        doubt = np.zeros_like(sums)
        if rng is not None and self.doubt is not None:
            doubt = self.unit * rng.standard_gamma(self.doubt, size=sums.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.finish(sums, doubt)

    def value(self, parts: Floats) -> Floats:
        return self.gauge(parts)


def mean_of(losses: Floats, *, finish: Callable[[Floats], Floats] = lambda mean: mean) -> Additive:
    """Return the weighted mean of a loss, after `finish` (such as a root)."""

    def ratio(sums: Floats, _doubt: Floats) -> Floats:
        return finish(np.where(sums[:, 1:] > 0, sums[:, :1] / sums[:, 1:], np.nan))

    return Additive(columns=np.column_stack([losses, np.ones(len(losses))]), finish=ratio)


def only(statistic: Statistic, weights: Floats | None, rows: int) -> float | None:
    """Return the statistic under one weighting (None: all alike), None where undefined."""
    if rows == 0:
        return None
    matrix = np.ones((1, rows)) if weights is None else np.asarray(weights, dtype=np.float64)[None, :]
    value = float(statistic.value(statistic.parts(matrix))[0])
    return value if np.isfinite(value) else None
