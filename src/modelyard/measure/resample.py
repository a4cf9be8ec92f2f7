"""Drawing rows again: the bootstrap's weightings and what metrics become under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from modelyard.core.arrays import Floats
from modelyard.measure.outcome import Outcome
from modelyard.measure.statistic import Statistic

_BLOCK = 1_000_000  # weights held at once: 8 MB, which the caches of small machines still like


def weightings(outcome: Outcome, rng: np.random.Generator, resamples: int) -> Iterator[Floats]:
    """Yield blocks (b, n) of row weights, `resamples` rows in all.

    Each resample draws as many units as there are, with replacement: rows, or whole clusters where
    the outcome has them. A row's own weight multiplies how often it was drawn. Nothing is
    stratified: class and group counts vary from resample to resample as they would between samples.
    Source: Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 6; Field and
    Welsh, 2007, "Bootstrapping clustered data", for clusters.
    """
    units, unit_of_row = outcome.units()
    block = max(1, min(resamples, _BLOCK // max(1, len(outcome))))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, units, size=(rows, units))
        drawn += units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
        if outcome.clusters is not None:
            counts = np.take(counts, unit_of_row, axis=1)
        if outcome.weights is not None:
            counts *= outcome.weights
        yield counts


def resampled(
    statistics: Sequence[Statistic], outcome: Outcome, rng: np.random.Generator, resamples: int
) -> list[Floats]:
    """Return the parts (resamples, parts) of each statistic; all see the same draws."""
    blocks: list[list[Floats]] = [[] for _ in statistics]
    if not statistics:
        return []
    for weights in weightings(outcome, rng, resamples):
        for kept, each in zip(blocks, statistics, strict=True):
            kept.append(each.parts(weights, rng))
    return [np.concatenate(kept) for kept in blocks]
