"""How many rows a comparison of two releases needs, before it is made.

The number is that of a test with one look. Looking all the time costs or saves rows, by factors that
were measured by simulation (`bench/rollout_tests.py`), not derived; they are projections.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import msgspec

from modelyard.errors import UsageError
from modelyard.measure.sequential import Allowance, Worse, check_level
from modelyard.measure.sequential_rates import nearest_allowed

# Rows until half, and until four in five, of watched tests had ended, over the rows of a test with one look
# and the power named: the worst of the cases measured.
FAIL_POWER, FAIL_FACTORS = 0.8, (1.5, 2.3)
PASS_POWER, PASS_FACTORS = 0.9, (0.95, 1.5)
# Of watched passes, the share that had not ended by so many times those rows: the worst of the cases as well.
_STILL_OPEN = ((0.0, 1.0), (0.95, 0.5), (1.5, 0.2), (1.8, 0.1), (2.25, 0.05))


class Assumed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is assumed of a release: its mean, and the standard deviation of a row; of a share, None."""

    mean: float
    spread: float | None = None


class Needed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that a test with one look needs, and those by which one that is watched has mostly ended."""

    candidate: int
    stable: int
    usually_watched: int  # rows of both: half of all watched tests have ended
    long_watched: int  # four in five have

    @property
    def total(self) -> int:
        return self.candidate + self.stable


def samples_for(
    allowance: Allowance, stable: Assumed, candidate: Assumed, *, level: float, power: float, share: float
) -> Needed:
    """Return the rows that a one-sided test with one look needs, and a watched one after it.

    The candidate's assumed mean says which test: beyond what is allowed the fail, within it the pass.

    Args:
        level: chance of a wrong verdict, in (0, 1).
        power: chance that the test ends with that verdict, in (level, 1).
        share: of the traffic that reaches the candidate, in (0, 1).
    Raises: UsageError for numbers out of range, or a candidate assumed exactly at the edge.
    Source: Farrington and Manning, 1990, "Test statistics and sample size formulae for comparative
        binomial trials with null hypothesis of non-zero risk difference or non-unity relative risk",
        for shares; the normal formula with both variances for means.

    >>> one, three = Assumed(mean=0.01), Assumed(mean=0.03)
    >>> samples_for(Allowance(), one, three, level=0.01, power=0.8, share=0.1).total
    4270
    """
    _check(level, power, share)
    if (stable.spread is None) != (candidate.spread is None):
        raise UsageError("A spread is assumed for one release only: give it for both, or for neither (shares).")
    excess, at_edge, as_assumed = (_of_shares if stable.spread is None else _of_means)(
        allowance, stable, candidate, share
    )
    if excess == 0:
        raise UsageError(
            f"The candidate is assumed at {candidate.mean}, the edge of what is allowed: no test can tell."
        )

    def rows(reached: float) -> float:
        normal = NormalDist()
        doubt, missed = normal.inv_cdf(1 - level), normal.inv_cdf(reached)
        root = (doubt * math.sqrt(at_edge) + missed * math.sqrt(as_assumed)) / excess
        return root * root / share

    usual_power, factors = (FAIL_POWER, FAIL_FACTORS) if excess > 0 else (PASS_POWER, PASS_FACTORS)
    ours = math.ceil(rows(power) * share)
    return Needed(
        candidate=ours,
        stable=math.ceil(rows(power)) - ours,
        usually_watched=math.ceil(rows(usual_power) * factors[0]),
        long_watched=math.ceil(rows(usual_power) * factors[1]),
    )


def passed_by(times: float) -> float:
    """Return the share of good candidates that a watched test has passed by so many times the rows of one look.

    One look is that of `samples_for` with a power of `PASS_POWER`. Between what was measured the share that is still
    open falls by the same factor for the same number of rows, and so it goes on beyond.

    >>> passed_by(1.5)
    0.8
    """
    before, after = next((pair for pair in pairwise(_STILL_OPEN) if times <= pair[1][0]), _STILL_OPEN[-2:])
    part = (max(0.0, times) - before[0]) / (after[0] - before[0])
    return 1 - before[1] * math.pow(after[1] / before[1], part)


def _of_shares(allowance: Allowance, stable: Assumed, candidate: Assumed, share: float) -> tuple[float, float, float]:
    """Return the excess over the edge and a candidate row's variance, at the edge and as assumed."""
    means = (candidate.mean, stable.mean)
    if not all(0 < mean < 1 for mean in means):
        raise UsageError(f"Shares are assumed to be {means}: numbers inside (0, 1) are wanted.")
    ours, theirs = means if allowance.worse is Worse.HIGHER else (1 - means[0], 1 - means[1])
    slope, offset = allowance.edge_of_shares()
    if slope == 0:
        return ours - offset, offset * (1 - offset), ours * (1 - ours)
    weight = slope**2 * share / (1 - share)
    edge = nearest_allowed((share, 1 - share), (ours, theirs), (slope, offset))
    variances = [a * (1 - a) + weight * b * (1 - b) for a, b in (edge, (ours, theirs))]
    return ours - slope * theirs - offset, variances[0], variances[1]


def _of_means(allowance: Allowance, stable: Assumed, candidate: Assumed, share: float) -> tuple[float, float, float]:
    sign = 1 if allowance.worse is Worse.HIGHER else -1
    slope, offset = allowance.edge_of_means()
    spreads = (candidate.spread or 0.0, stable.spread or 0.0)
    if not all(0 < spread < math.inf for spread in spreads):
        raise UsageError(f"Spreads are assumed to be {spreads}: numbers above 0 are wanted.")
    variance = spreads[0] ** 2 + slope**2 * spreads[1] ** 2 * share / (1 - share)
    return sign * (candidate.mean - slope * stable.mean) - offset, variance, variance


def _check(level: float, power: float, share: float) -> None:
    check_level(level)
    if not level < power < 1 or not 0 < share < 1:
        raise UsageError(
            f"A test is planned with power {power} and share {share}: a power between the level {level} and 1, "
            "and a share between 0 and 1, are wanted."
        )
