"""What always-valid tests share: what is allowed, the evidence so far, and what follows from it.

A test starts with a stake of 1 on each of a few alternatives and bets against a claim. The stake is
an e-process: while the claim is true its expectation stays at most 1, whenever one looks, so it ever
reaches 1 / level with a chance of at most the level (Ville's inequality). Two claims are bet against:
"the candidate is no worse than allowed" (its loss is a fail) and "the candidate is worse than
allowed" (its loss is a pass). Stakes are kept as natural logarithms.
Source: Ramdas, Grünwald, Vovk and Shafer, 2023, "Game-theoretic statistics and safe anytime-valid
inference", sections 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from modelyard.core.requirement import Verdict
from modelyard.errors import UsageError

_LARGEST_EXPONENT = 700.0  # beyond it `math.exp` overflows
_SCALE = (  # lower ends, as in Jeffreys' scale for Bayes factors
    (100.0, "decisive"),
    (10.0**1.5, "very strong"),
    (10.0, "strong"),
    (10.0**0.5, "substantial"),
    (1.0, "weak"),
)


class Worse(StrEnum):
    """Which way a number gets worse."""

    HIGHER = "higher"
    LOWER = "lower"


class Allowance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How bad the candidate's mean may be.

    With `bound`: the bound itself, whatever the stable release does. Without: `ratio` times the
    stable release's mean, and worse than that by `margin`, in the metric's unit.
    Raises: UsageError where a bound stands beside a margin or ratio, or the allowance would demand
        a candidate better than the stable release.
    """

    worse: Worse = Worse.HIGHER
    bound: float | None = None
    ratio: float = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.ratio, self.margin, self.bound or 0.0)
        if not all(math.isfinite(number) for number in numbers):
            raise UsageError(f"An allowance is {self}: finite numbers are wanted.")
        if self.bound is not None and (self.ratio != 1.0 or self.margin != 0.0):
            raise UsageError(f"An allowance has bound {self.bound} beside a ratio or margin: give one or the other.")
        demanding = self.ratio < 1 if self.worse is Worse.HIGHER else not 0 < self.ratio <= 1
        if self.margin < 0 or demanding:
            wanted = "at least 1" if self.worse is Worse.HIGHER else "in (0, 1]"
            raise UsageError(
                f"An allowance where {self.worse} is worse has ratio {self.ratio} and margin {self.margin}: "
                f"a ratio {wanted} and a margin of at least 0 are wanted."
            )

    def edge_of_shares(self) -> tuple[float, float]:
        """Return (slope, offset): the worst allowed share of bad rows is slope * stable's + offset.

        Where lower is worse the bad rows are those that are not hits.
        """
        if self.bound is not None:
            return 0.0, self.bound if self.worse is Worse.HIGHER else 1 - self.bound
        return self.ratio, self.margin if self.worse is Worse.HIGHER else self.margin + 1 - self.ratio

    def edge_of_means(self) -> tuple[float, float]:
        """Return (slope, offset) as `edge_of_shares`, of numbers negated where lower is worse."""
        if self.bound is not None:
            return 0.0, self.bound if self.worse is Worse.HIGHER else -self.bound
        return self.ratio, self.margin


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stake against one claim, as logarithms: now, and at its highest so far."""

    now: float = 0.0
    peak: float = 0.0

    def moved(self, now: float) -> Evidence:
        return Evidence(now=now, peak=max(self.peak, now))

    @property
    def e_value(self) -> float:
        """What a stake of 1 has become."""
        return math.exp(min(self.now, _LARGEST_EXPONENT))

    @property
    def p_value(self) -> float:
        """A p-value that holds under any number of looks; it never rises."""
        return math.exp(-max(self.peak, 0.0))

    def refutes(self, level: float) -> bool:
        """Say whether the claim is refuted; wrong with a chance of at most `level`, over all looks."""
        check_level(level)
        return self.peak >= -math.log(level)


def conclude(against: Evidence, cleared: Evidence, *, fail_level: float, pass_level: float) -> Verdict:
    """Return the verdict of one requirement after any number of looks.

    Args:
        against: the stake against "the candidate is no worse than allowed".
        cleared: the stake against "the candidate is worse than allowed".
        fail_level, pass_level: chances of a wrong fail and of a wrong pass, in (0, 1).
    Raises: UsageError for a level outside (0, 1).

    >>> str(conclude(Evidence(now=1.0, peak=5.0), Evidence(), fail_level=0.01, pass_level=0.05))
    'fail'
    """
    failed, passed = against.refutes(fail_level), cleared.refutes(pass_level)
    if failed:
        return Verdict.FAIL
    return Verdict.PASS if passed else Verdict.INCONCLUSIVE


def share_level(level: float, weights: Mapping[str, float]) -> dict[str, float]:
    """Share the chance of any wrong verdict out over requirements, by weight (Bonferroni).

    Raises: UsageError for a level outside (0, 1), no weights, or one that is not above 0.

    >>> share_level(0.05, {"errors": 3.0, "cost": 1.0})
    {'errors': 0.037500000000000006, 'cost': 0.0125}
    """
    check_level(level)
    total = sum(weights.values())
    if not weights or not all(0 < weight < math.inf for weight in weights.values()):
        raise UsageError(f"The weights of a level are {dict(weights)}: one above 0 for each requirement is wanted.")
    return {name: level * weight / total for name, weight in weights.items()}


def strength(evidence: Evidence) -> str:
    """Return the highest stake so far in words, for people.

    >>> strength(Evidence(now=0.2, peak=math.log(250)))
    'decisive (a stake of 1 became 250)'
    """
    stake = math.exp(min(max(evidence.peak, 0.0), _LARGEST_EXPONENT))
    word = next(word for least, word in _SCALE if stake >= least)
    shown = f"{stake:.3g}" if stake < 1000 else ("over 1000" if stake < 1e6 else "over a million")
    return f"{word} (a stake of 1 became {shown})" if stake > 1 else "none"


def mixed(logs: Sequence[float], weights: Sequence[float]) -> float:
    """Return the logarithm of the weighted sum of stakes given as logarithms."""
    staked = [(log, weight) for log, weight in zip(logs, weights, strict=True) if weight > 0]
    highest = max(log for log, _ in staked)
    return highest + math.log(sum(weight * math.exp(log - highest) for log, weight in staked))


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"A level is {level}: a chance between 0 and 1 is wanted, such as 0.05.")
