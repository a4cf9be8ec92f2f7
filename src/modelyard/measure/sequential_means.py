"""Always-valid tests of means: cost of a request, size of an error, any number of finite variance.

The stake on an alternative that lies d standard deviations beyond the edge is the likelihood ratio
of the t-statistic, as in the sequential t-test, of all rows so far; a mixture over d gives the test.
It is exact for normal numbers and one release, else an approximation that needs `LEAST_ROWS` before
it speaks. Three things keep it on the safe side where numbers are skewed, as costs are:

- the candidate's variance is taken around the edge, not around its own mean, on the side that counts;
- it is taken to be at least the stable release's, times the growth of the mean that is allowed: many
  more rows show the rare large values that a lucky candidate has not met yet;
- a pass waits for `LEAST_ROWS_TO_PASS` of the candidate, and all for `LEAST_ROWS_ALONE` where the
  stable release was not observed.

What none of them mends: a candidate whose numbers have rare large values that the stable release's
have not, and that have not come yet, may pass wrongly (measured: 13 % of the times at a level of 5 %,
for lognormal costs at the edge with sigma 1 beside 0.5). A longer wait is the only help without an end
to the numbers; with one, see below. Where one row in twenty is twenty times the others in both
releases, 6 % pass wrongly instead of 5 %.

`bench/rollout_tests.py` measures what this holds. Numbers with known ends are better scaled to
[0, 1] and given to `sequential_rates`, which approximates nothing. Looks may come at any moment.
Source: Pérez-Ortiz, Lardy, de Heide and Grünwald, 2024, "E-statistics, group invariance and anytime
valid testing", section 4.1, for the t-test; its second-order expansion in d and the floor are ours.
"""

from __future__ import annotations

import math

import msgspec

from modelyard.errors import DataError
from modelyard.measure.sequential import Allowance, Evidence, Worse, mixed

STEPS = tuple(0.025 * 1.8**place for place in range(8))  # standard deviations beyond the edge: 0.025 to 1.5
WEIGHTS = (0.02, 0.04, 0.11, 0.16, 0.18, 0.19, 0.19, 0.11)
BETTER_PARTS = (0.7, 1.2)  # of the way from the edge to the stable release
BETTER_WEIGHTS = (0.5, 0.5)
LEAST_ROWS = 10  # of either release
LEAST_ROWS_TO_PASS = 50  # of the candidate
LEAST_ROWS_ALONE = 100  # of the candidate, where the stable release was not observed
MOST_GROWTH = 2.0
_MOST_SQUARES = 1e200  # beyond it differences overflow
_ROUNDING = 1e-9


class Sums(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of one release: how many, the sum of their numbers and the sum of the squares.

    Raises: DataError where no numbers have such sums.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(number) for number in (self.count, self.total, self.squares))
        least = self.total * self.total / self.count if finite and self.count > 0 else 0.0
        empty_but_not = self.count == 0 and (self.total != 0 or self.squares != 0)
        possible = least * (1 - _ROUNDING) <= self.squares <= _MOST_SQUARES
        if not finite or self.count < 0 or empty_but_not or not possible:
            raise DataError(
                f"Sums are {self.total} and, of squares, {self.squares}, of {self.count} rows: "
                f"sums with count * squares >= total ** 2, and squares up to {_MOST_SQUARES:g}, are wanted."
            )

    def plus(self, other: Sums) -> Sums:
        return Sums(
            count=self.count + other.count, total=self.total + other.total, squares=self.squares + other.squares
        )

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Of one row, unbiased; 0 for fewer than two."""
        if self.count < 2:
            return 0.0
        return max(self.squares - self.total * self.mean, 0.0) / (self.count - 1)


NOTHING = Sums()


class MeanState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a test of means must remember between looks. `start` makes the first."""

    allowance: Allowance
    candidate: Sums = NOTHING  # since the traffic was last split anew
    stable: Sums = NOTHING
    worse_kept: tuple[float, ...] = (0.0,) * len(STEPS)  # stakes from before that
    better_kept: tuple[float, ...] = (0.0,) * (len(STEPS) + len(BETTER_PARTS))
    against: Evidence = Evidence()  # the claim "no worse than allowed"
    cleared: Evidence = Evidence()  # the claim "worse than allowed"


def start(allowance: Allowance) -> MeanState:
    """Return a test that has seen nothing."""
    return MeanState(allowance=allowance)


def update(state: MeanState, candidate: Sums, stable: Sums = NOTHING) -> MeanState:
    """Return the test after one more look.

    Args:
        candidate, stable: what came since the look before, of each release; either may be empty.
            Against a bound the stable release only tells how far numbers scatter.
    Raises: DataError where the sums together are those of no numbers.

    >>> state = start(Allowance(bound=1.0))
    >>> update(state, Sums(count=200, total=400.0, squares=1000.0)).against.refutes(0.01)
    True
    """
    candidate, stable = state.candidate.plus(candidate), state.stable.plus(stable)
    worse, better = _logs(state.allowance, candidate, stable)
    worse_logs = [kept + log for kept, log in zip(state.worse_kept, worse, strict=True)]
    better_logs = [kept + log for kept, log in zip(state.better_kept, better, strict=True)]
    return msgspec.structs.replace(
        state,
        candidate=candidate,
        stable=stable,
        against=state.against.moved(mixed(worse_logs, WEIGHTS)),
        cleared=state.cleared.moved(mixed(better_logs, better_weights(state.allowance))),
    )


def split_anew(state: MeanState) -> MeanState:
    """Return the test for when the traffic's shares have just changed.

    Rows from before and after are then never mixed into one mean, so that a number that drifts over
    the day is not taken for a difference between releases. The evidence so far is kept.
    """
    worse, better = _logs(state.allowance, state.candidate, state.stable)
    return msgspec.structs.replace(
        state,
        candidate=NOTHING,
        stable=NOTHING,
        worse_kept=tuple(kept + log for kept, log in zip(state.worse_kept, worse, strict=True)),
        better_kept=tuple(kept + log for kept, log in zip(state.better_kept, better, strict=True)),
    )


def better_weights(allowance: Allowance) -> tuple[float, ...]:
    """Return the weights of the steps and then of the parts, the latter where there is a way to go.

    With a margin nearly all is bet on a candidate as good as the stable release.
    """
    has_way = allowance.bound is None and (allowance.margin > 0 or allowance.ratio != 1)
    on_parts = 0.9 if has_way else 0.0
    return (*(weight * (1 - on_parts) for weight in WEIGHTS), *(weight * on_parts for weight in BETTER_WEIGHTS))


Logs = tuple[tuple[float, ...], tuple[float, ...]]


def _logs(allowance: Allowance, candidate: Sums, stable: Sums) -> Logs:
    """Return the logarithm of each alternative's stake on these rows, worse and better."""
    no_worse, no_better = (0.0,) * len(STEPS), (0.0,) * (len(STEPS) + len(BETTER_PARTS))
    slope, offset = allowance.edge_of_means()
    alone = slope == 0 and stable.count == 0
    if candidate.count < (LEAST_ROWS_ALONE if alone else LEAST_ROWS) or (not alone and stable.count < LEAST_ROWS):
        return no_worse, no_better
    sign = 1 if allowance.worse is Worse.HIGHER else -1
    excess = sign * candidate.mean - slope * sign * stable.mean - offset
    own = max(candidate.variance, stable.variance * _growth(sign * stable.mean, slope, offset))
    around_edge = own * (candidate.count - 1) / candidate.count + excess * excess
    way = (slope - 1) * sign * stable.mean + offset if slope else 0.0
    worse = _stakes(candidate, stable, slope, max(around_edge, own) if excess > 0 else own, excess, STEPS)
    if candidate.count < LEAST_ROWS_TO_PASS:
        return worse, no_better
    variance = max(around_edge, own) if excess < 0 else own
    spread = math.sqrt(variance)
    parts = tuple(max(part * way / spread, 0.0) if spread else 0.0 for part in BETTER_PARTS)
    return worse, _stakes(candidate, stable, slope, variance, -excess, (*STEPS, *parts))


def _growth(mean: float, slope: float, offset: float) -> float:
    """Return how many times the stable mean is allowed: variances are taken to grow by as much.

    Numbers that grow in proportion grow in variance by the square of that; those that are shifted do
    not grow in variance at all. `MOST_GROWTH` serves where the mean is near 0 and says nothing.
    """
    if mean <= 0:
        return 1.0
    return min(max((slope * mean + offset) / mean, 1.0), max(slope, MOST_GROWTH))


def _stakes(
    candidate: Sums, stable: Sums, slope: float, variance: float, excess: float, steps: tuple[float, ...]
) -> tuple[float, ...]:
    """Return the logarithm of the t-statistic's likelihood ratio for steps beyond the edge.

    With w chi-distributed the ratio is exp(-n d**2 / 2) E[exp(d u w)]; its logarithm to the second
    order in d stands here. `rows` is how many of the candidate's would tell as much as both releases do.
    """
    if variance == 0:
        return (0.0,) * len(steps)
    count = candidate.count
    theirs = slope**2 * stable.variance * count / (variance * stable.count) if slope else 0.0
    rows = count / (1 + theirs)
    u = excess * math.sqrt(rows / variance)
    pull = u * math.sqrt(rows) * (1 - 1 / (4 * count))
    bend = rows / 2 - max(u, 0.0) ** 2 * rows / (4 * count)
    return tuple(step * pull - step**2 * bend for step in steps)
