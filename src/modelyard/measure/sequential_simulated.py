"""The always-valid tests on many simulated experiments at once, in arrays.

What the tests beside this file do look by look for one experiment, these do for thousands; a test
holds both to the same numbers. They measure error rates and the rows needed, and serve nothing live.
All arrays are (looks, experiments).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from modelyard.core.arrays import Floats
from modelyard.measure import sequential_means as means
from modelyard.measure import sequential_rates as rates
from modelyard.measure.sequential import Allowance, Worse

_HALVINGS = 45
Bools = NDArray[np.bool_]
Numbers = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class RateLooks:
    """Rows and hits that came to each release between looks."""

    candidate: Numbers
    candidate_hits: Numbers
    stable: Numbers
    stable_hits: Numbers


@dataclass(frozen=True, kw_only=True)
class MeanLooks:
    """Rows, sums and sums of squares that came to each release between looks."""

    candidate: Numbers
    candidate_total: Floats
    candidate_squares: Floats
    stable: Numbers
    stable_total: Floats
    stable_squares: Floats


def draw_rates(
    rng: np.random.Generator, size: tuple[int, int], *, batch: int, share: float, candidate: float, stable: float
) -> RateLooks:
    """Draw looks after every `batch` requests, each of which reaches the candidate with chance `share`."""
    ours = rng.binomial(batch, share, size)
    theirs = batch - ours
    return RateLooks(
        candidate=ours,
        candidate_hits=rng.binomial(ours, candidate),
        stable=theirs,
        stable_hits=rng.binomial(theirs, stable),
    )


def draw_means(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    batch: int,
    share: float,
    candidate: Callable[[tuple[int, int]], Floats],
    stable: Callable[[tuple[int, int]], Floats],
) -> MeanLooks:
    """Draw looks as `draw_rates`; `candidate` and `stable` draw numbers of a shape."""
    ours = rng.binomial(batch, share, size)
    theirs = batch - ours
    return MeanLooks(
        **dict(zip(("candidate", "candidate_total", "candidate_squares"), _sums(ours, candidate), strict=True)),
        **dict(zip(("stable", "stable_total", "stable_squares"), _sums(theirs, stable), strict=True)),
    )


def rate_logs(allowance: Allowance, looks: RateLooks, *, worse: bool) -> Floats:
    """Return the logarithm of the stake after each look.

    Args:
        worse: True for the stake against "no worse than allowed", False for the other claim.
    """
    weights = np.array(rates.WORSE_WEIGHTS if worse or allowance.bound is not None else rates.BETTER_WEIGHTS)
    count = looks.candidate.shape[1]
    logs, waiting, seen = np.zeros((count, len(weights))), np.zeros((4, count)), np.zeros((2, count))
    path = np.zeros(looks.candidate.shape)
    bad = _bad(allowance, looks)
    for place in range(len(path)):
        waiting += np.stack([looks.candidate[place], bad[0][place], looks.stable[place], bad[1][place]])
        full = waiting[0] > 0
        if allowance.bound is None:
            full &= (waiting[2] > 0) & (waiting[0] + waiting[2] >= rates.LEAST_BLOCK)
        if full.any():
            logs[full] += _gains(allowance, waiting[:, full], seen[:, full], worse=worse)
            seen += np.where(full, waiting[2:], 0)
            waiting[:, full] = 0
        path[place] = logsumexp(logs + np.log(weights), axis=1)
    return path


def mean_logs(allowance: Allowance, looks: MeanLooks, *, worse: bool) -> Floats:
    """Return the logarithm of the stake after each look, as `rate_logs`."""
    slope, offset = allowance.edge_of_means()
    sign = 1 if allowance.worse is Worse.HIGHER else -1
    ours, our_mean, our_variance = _moments(looks.candidate, looks.candidate_total, looks.candidate_squares)
    theirs, their_mean, their_variance = _moments(looks.stable, looks.stable_total, looks.stable_squares)
    excess = (sign * our_mean - slope * sign * their_mean - offset) * (1 if worse else -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = (slope * sign * their_mean + offset) / (sign * their_mean)
        growth = np.where(sign * their_mean > 0, np.clip(growth, 1.0, max(slope, means.MOST_GROWTH)), 1.0)
        own = np.maximum(our_variance, their_variance * growth)
        around = np.maximum(own * (ours - 1) / ours + excess**2, own)
        variance = np.where(excess > 0, around, own)
        rows = ours / (1 + slope**2 * their_variance * ours / (variance * theirs))
        u = excess * np.sqrt(rows / variance)
        pull = u * np.sqrt(rows) * (1 - 1 / (4 * ours))
        bend = rows / 2 - np.maximum(u, 0) ** 2 * rows / (4 * ours)
        way = np.maximum((slope - 1) * sign * their_mean + offset, 0) / np.sqrt(variance) if slope else 0.0 * own
    steps = [np.full(own.shape, step) for step in means.STEPS]
    weights: tuple[float, ...] = means.WEIGHTS
    if not worse:
        steps += [part * way for part in means.BETTER_PARTS]
        weights = means.better_weights(allowance)
    kept = [(step, weight) for step, weight in zip(steps, weights, strict=True) if weight > 0]
    logs = logsumexp(np.stack([step * pull - step**2 * bend + np.log(weight) for step, weight in kept]), axis=0)
    alone = (theirs == 0) & (slope == 0)
    enough = np.where(alone, ours >= means.LEAST_ROWS_ALONE, np.minimum(ours, theirs) >= means.LEAST_ROWS)
    enough &= worse | (ours >= means.LEAST_ROWS_TO_PASS)
    return np.where(enough & (variance > 0), logs, 0.0)


def first_look(path: Floats, level: float) -> Floats:
    """Return after which look, from 1, each experiment's claim was refuted; infinite where it never was."""
    over: Bools = path >= -np.log(level)
    return np.where(over.any(axis=0), over.argmax(axis=0) + 1.0, np.inf)


def _bad(allowance: Allowance, looks: RateLooks) -> tuple[Numbers, Numbers]:
    if allowance.worse is Worse.HIGHER:
        return looks.candidate_hits, looks.stable_hits
    return looks.candidate - looks.candidate_hits, looks.stable - looks.stable_hits


def _gains(allowance: Allowance, block: Floats, seen: Floats, *, worse: bool) -> Floats:
    """Return what blocks add to the logarithm of each alternative's stake, (experiments, alternatives)."""
    slope, offset = allowance.edge_of_shares()
    ours, our_bad, theirs, their_bad = (each[:, None] for each in block)
    steps = np.array(rates.WORSE_STEPS)
    if slope == 0:
        rate = _shifted(np.array(offset), steps if worse else -steps)
        return np.asarray(_log_ratio(ours, our_bad, rate, np.array(offset)))

    def at(level: Floats) -> Floats:
        meets = slope * level + offset
        inside = np.minimum(meets, rates.NEAR_ONE)
        way = np.maximum(_log_odds(inside) - _log_odds(level), rates.LEAST_WAY)
        rate = _shifted(inside, steps if worse else -np.array(rates.BETTER_PARTS) * way)
        edge = _nearest((ours, theirs), (rate, level), (slope, offset))
        gain = _log_ratio(ours, our_bad, rate, edge[0]) + _log_ratio(theirs, their_bad, level, edge[1])
        return np.where(worse & (meets >= rates.NEAR_ONE), 0.0, gain)

    first = seen[0] == 0
    gains = at((seen[1] + 0.5)[:, None] / (seen[0] + 1)[:, None])
    if first.any():
        each = np.stack([at(np.full((len(first), 1), level)) for level in rates.FIRST_LEVELS])
        gains[first] = (logsumexp(each, axis=0) - np.log(len(each)))[first]
    return gains


def _nearest(
    sizes: tuple[Floats, Floats], pair: tuple[Floats, Floats], edge: tuple[float, float]
) -> tuple[Floats, Floats]:
    (ours, theirs), (candidate, stable), (slope, offset) = sizes, pair, edge
    if edge == (1.0, 0.0):
        pooled = (ours * candidate + theirs * stable) / (ours + theirs)
        return pooled, pooled
    level = (candidate - offset) / slope
    low = np.maximum(np.minimum(stable, level), 1e-12)
    high = np.minimum(np.maximum(stable, level), min(1.0, (1 - offset) / slope) * (1 - 1e-12))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        meets = slope * middle + offset
        pull = ours * slope * (meets - candidate) / (meets * (1 - meets))
        rises = pull + theirs * (middle - stable) / (middle * (1 - middle)) < 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    middle = (low + high) / 2
    return slope * middle + offset, middle


def _log_ratio(trials: Floats, bad: Floats, rate: Floats, allowed: Floats) -> Floats:
    return np.asarray(bad * np.log(rate / allowed) + (trials - bad) * np.log((1 - rate) / (1 - allowed)))


def _log_odds(rate: Floats) -> Floats:
    return np.asarray(np.log(rate / (1 - rate)))


def _shifted(rate: Floats, step: Floats) -> Floats:
    odds = rate / (1 - rate) * np.exp(step)
    return np.asarray(odds / (1 + odds))


def _sums(counts: Numbers, draw: Callable[[tuple[int, int]], Floats]) -> tuple[Numbers, Floats, Floats]:
    total, squares = np.zeros(counts.shape), np.zeros(counts.shape)
    for place in range(int(counts.max())):
        drawn = np.where(counts > place, draw(counts.shape), 0.0)
        total += drawn
        squares += drawn**2
    return counts, total, squares


def _moments(counts: Numbers, total: Floats, squares: Floats) -> tuple[Floats, Floats, Floats]:
    """Return rows, mean and variance of a row, after each look."""
    rows, summed = counts.cumsum(axis=0).astype(float), total.cumsum(axis=0)
    mean = summed / np.maximum(rows, 1)
    return rows, mean, np.maximum(squares.cumsum(axis=0) - summed * mean, 0) / np.maximum(rows - 1, 1)
