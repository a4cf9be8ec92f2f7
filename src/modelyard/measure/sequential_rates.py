"""Always-valid tests of shares: errors, slow requests, right answers, one group's positives.

Rows are compared block by block, a block being what came between two looks. In each block and for
each alternative the stake is multiplied by the likelihood ratio of the alternative to the allowed
pair of rates that is nearest to it in Kullback-Leibler divergence. Its expectation is at most 1
under every allowed pair: its logarithm is concave in the two rates, and it is 0 and stationary along
the (straight) edge at that pair. Nothing is approximated, and a drift of both rates over time is harmless.

A look may come at any moment that does not depend on outcomes since the look before (the clock, a
number of requests, anything seen earlier). Against a bound it may depend on everything.

Values in [0, 1] other than 0 and 1 may be counted too, as the sum of their values: the stake then
errs to the low side, since the ratio is convex in the value.
Source: Turner, Ly and Grünwald, 2024, "Generic e-variables for exact sequential k-sample tests that
allow for optional stopping", and Turner and Grünwald, 2023, "Exact anytime-valid confidence intervals
for contingency tables and beyond", for blocks; the mixture over alternatives and the level are ours.
"""

from __future__ import annotations

import math

import msgspec

from modelyard.errors import DataError, UsageError
from modelyard.measure.sequential import Allowance, Evidence, Worse, mixed

WORSE_STEPS = tuple(0.05 * 1.7**place for place in range(9))  # log odds beyond the edge: 0.05 to 3.5
WORSE_WEIGHTS = (0.03, 0.03, *(0.15,) * 6, 0.04)
BETTER_PARTS = (0.7, 1.2)  # of the way from the edge to the stable release, in log odds
BETTER_WEIGHTS = (0.5, 0.5)
LEAST_WAY = 0.2  # log odds; the way where the edge is at the stable release or nearly so
FIRST_LEVELS = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9)  # of the stable release, before it was seen
LEAST_BLOCK = 20  # rows; with random splitting a block of N rows uses (N - 1) / N of the information
NEAR_ONE = 1 - 1e-9
_HALVINGS = 60


class Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of one release: how many, and how many of them were hits (or the sum of values in [0, 1]).

    Raises: DataError where the hits are not between 0 and the trials.
    """

    trials: int = 0
    hits: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials < math.inf:
            raise DataError(f"Counts are {self.hits} hits of {self.trials} trials: 0 <= hits <= trials is wanted.")

    def plus(self, other: Counts) -> Counts:
        return Counts(trials=self.trials + other.trials, hits=self.hits + other.hits)


NOTHING = Counts()


class RateState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a test of shares must remember between looks. `start` makes the first."""

    allowance: Allowance
    waiting_candidate: Counts = NOTHING  # of the block that is not full yet
    waiting_stable: Counts = NOTHING
    candidate: Counts = NOTHING  # of all full blocks
    stable: Counts = NOTHING
    worse_logs: tuple[float, ...] = (0.0,) * len(WORSE_STEPS)
    better_logs: tuple[float, ...]
    against: Evidence = Evidence()  # the claim "no worse than allowed"
    cleared: Evidence = Evidence()  # the claim "worse than allowed"


def start(allowance: Allowance) -> RateState:
    """Return a test that has seen nothing.

    Raises: UsageError where the allowance cannot be tested on shares: a bound that is not inside
        (0, 1), or a margin of 1 and more.
    """
    _, offset = allowance.edge_of_shares()
    if not 0 <= offset < 1 or (allowance.bound is not None and offset == 0):
        raise UsageError(
            f"A share is allowed to be {allowance}: a bound inside (0, 1) or a margin in [0, 1) is wanted. "
            "What must never happen needs an alert, not a test."
        )
    parts = len(WORSE_STEPS if allowance.bound is not None else BETTER_PARTS)
    return RateState(allowance=allowance, better_logs=(0.0,) * parts)


def update(state: RateState, candidate: Counts, stable: Counts = NOTHING) -> RateState:
    """Return the test after one more look.

    Args:
        candidate, stable: what came since the look before, of each release; either may be empty.
            A test against a bound leaves the stable release out of account.

    >>> state = start(Allowance(bound=0.01))
    >>> update(state, Counts(trials=100, hits=9)).against.refutes(0.05)
    True
    """
    candidate, stable = state.waiting_candidate.plus(candidate), state.waiting_stable.plus(stable)
    if not _is_full(state.allowance, candidate, stable):
        return msgspec.structs.replace(state, waiting_candidate=candidate, waiting_stable=stable)
    block = (candidate.trials, _bad(state, candidate), stable.trials, _bad(state, stable))
    worse_gains, better_gains = _gains(state, block)
    worse_logs = tuple(log + gain for log, gain in zip(state.worse_logs, worse_gains, strict=True))
    better_logs = tuple(log + gain for log, gain in zip(state.better_logs, better_gains, strict=True))
    better_weights = BETTER_WEIGHTS if state.allowance.bound is None else WORSE_WEIGHTS
    return RateState(
        allowance=state.allowance,
        candidate=state.candidate.plus(candidate),
        stable=state.stable.plus(stable),
        worse_logs=worse_logs,
        better_logs=better_logs,
        against=state.against.moved(mixed(worse_logs, WORSE_WEIGHTS)),
        cleared=state.cleared.moved(mixed(better_logs, better_weights)),
    )


def nearest_allowed(
    sizes: tuple[float, float], rates: tuple[float, float], edge: tuple[float, float]
) -> tuple[float, float]:
    """Return the rates on the edge that are nearest to others in Kullback-Leibler divergence.

    Args:
        sizes: rows of candidate and stable, which weigh the two divergences; both above 0.
        rates: of candidate and stable, inside (0, 1).
        edge: (slope, offset): candidate = slope * stable + offset, which meets the unit square.
    """
    (ours, theirs), (candidate, stable), (slope, offset) = sizes, rates, edge
    if (slope, offset) == (1.0, 0.0):
        pooled = (ours * candidate + theirs * stable) / (ours + theirs)
        return pooled, pooled
    least, most = 1e-12, min(1.0, (1 - offset) / slope) * (1 - 1e-12)
    level = (candidate - offset) / slope
    low, high = max(min(stable, level), least), min(max(stable, level), most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        meets = slope * middle + offset
        pull = ours * slope * (meets - candidate) / (meets * (1 - meets))
        if pull + theirs * (middle - stable) / (middle * (1 - middle)) < 0:
            low = middle
        else:
            high = middle
    middle = (low + high) / 2
    return slope * middle + offset, middle


def _is_full(allowance: Allowance, candidate: Counts, stable: Counts) -> bool:
    if allowance.bound is not None:
        return candidate.trials > 0
    return candidate.trials > 0 and stable.trials > 0 and candidate.trials + stable.trials >= LEAST_BLOCK


def _bad(state: RateState, counts: Counts) -> float:
    return counts.hits if state.allowance.worse is Worse.HIGHER else counts.trials - counts.hits


Block = tuple[int, float, int, float]  # candidate's rows and bad ones, stable's rows and bad ones
Gains = tuple[tuple[float, ...], tuple[float, ...]]


def _gains(state: RateState, block: Block) -> Gains:
    """Return what the block adds to the logarithm of each alternative's stake, worse and better."""
    slope, offset = state.allowance.edge_of_shares()
    if slope == 0:
        gains = [_gain_on_bound(block, offset, sign * step) for sign in (1, -1) for step in WORSE_STEPS]
        return tuple(gains[: len(WORSE_STEPS)]), tuple(gains[len(WORSE_STEPS) :])
    if state.stable.trials:
        level = (_bad(state, state.stable) + 0.5) / (state.stable.trials + 1)
        return _gains_at(block, level, (slope, offset))
    each = [_gains_at(block, level, (slope, offset)) for level in FIRST_LEVELS]
    evenly = (1 / len(each),) * len(each)
    worse, better = zip(*each, strict=True)
    return tuple(mixed(g, evenly) for g in zip(*worse, strict=True)), tuple(
        mixed(g, evenly) for g in zip(*better, strict=True)
    )


def _gains_at(block: Block, level: float, edge: tuple[float, float]) -> Gains:
    """Return the gains where the stable release is taken to be at a level."""
    meets = edge[0] * level + edge[1]
    worse = [shifted(meets, step) if meets < NEAR_ONE else None for step in WORSE_STEPS]
    way = max(log_odds(min(meets, NEAR_ONE)) - log_odds(level), LEAST_WAY)
    better = [shifted(min(meets, NEAR_ONE), -part * way) for part in BETTER_PARTS]
    return (
        tuple(0.0 if rate is None else _gain(block, (rate, level), edge) for rate in worse),
        tuple(_gain(block, (rate, level), edge) for rate in better),
    )


def _gain(block: Block, rates: tuple[float, float], edge: tuple[float, float]) -> float:
    ours, our_bad, theirs, their_bad = block
    allowed = nearest_allowed((ours, theirs), rates, edge)
    return _log_ratio(ours, our_bad, rates[0], allowed[0]) + _log_ratio(theirs, their_bad, rates[1], allowed[1])


def _gain_on_bound(block: Block, bound: float, step: float) -> float:
    return _log_ratio(block[0], block[1], shifted(bound, step), bound)


def _log_ratio(trials: float, bad: float, rate: float, allowed: float) -> float:
    return bad * math.log(rate / allowed) + (trials - bad) * math.log((1 - rate) / (1 - allowed))


def log_odds(rate: float) -> float:
    return math.log(rate / (1 - rate))


def shifted(rate: float, step: float) -> float:
    """Return a rate moved by a step in log odds, inside (0, 1)."""
    odds = rate / (1 - rate) * math.exp(step)
    return odds / (1 + odds)
