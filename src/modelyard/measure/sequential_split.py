"""An always-valid test that traffic is split between releases as configured.

A split that is off means that rows get lost or are counted twice, mostly not at random, and then no
comparison of the releases says anything. The stake bets on shares drawn around the configured ones
(Dirichlet), closely and loosely, and is exact under any number of looks at any moments.
Source: Lindon and Malek, 2022, "Anytime-valid inference for multinomial count data"; the mixture
over concentrations is ours.
"""

from __future__ import annotations

import math

import msgspec

from modelyard.errors import DataError, UsageError
from modelyard.measure.sequential import Evidence, mixed

CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)  # rows that a guess of the shares weighs
_WEIGHTS = (1 / len(CONCENTRATIONS),) * len(CONCENTRATIONS)
_ROUNDING = 1e-9


class SplitState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the test must remember between looks."""

    shares: tuple[float, ...]  # configured, one a release
    counts: tuple[int, ...]  # since these shares hold
    kept: tuple[float, ...] = (0.0,) * len(CONCENTRATIONS)  # stakes from before that
    off: Evidence = Evidence()  # the claim "split as configured"


def start(shares: tuple[float, ...]) -> SplitState:
    """Return a test that has seen nothing.

    Args:
        shares: of the traffic, one a release, at least two; each above 0 and 1 together.
    Raises: UsageError for other shares.
    """
    if len(shares) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > _ROUNDING:
        raise UsageError(f"The shares of the traffic are {shares}: two or more above 0 that make 1 are wanted.")
    return SplitState(shares=shares, counts=(0,) * len(shares))


def update(state: SplitState, counts: tuple[int, ...]) -> SplitState:
    """Return the test after one more look, where `counts` requests came to each release since the last.

    Raises: DataError for a negative count or another number of releases.

    >>> state = update(start((0.1, 0.9)), (200, 800))
    >>> state.off.refutes(0.001)
    True
    """
    if len(counts) != len(state.shares) or not all(0 <= count < math.inf for count in counts):
        raise DataError(f"The requests by release are {counts}: {len(state.shares)} counts from 0 up are wanted.")
    seen = tuple(before + more for before, more in zip(state.counts, counts, strict=True))
    logs = [kept + log for kept, log in zip(state.kept, _stakes(state.shares, seen), strict=True)]
    return msgspec.structs.replace(state, counts=seen, off=state.off.moved(mixed(logs, _WEIGHTS)))


def split_anew(state: SplitState, shares: tuple[float, ...]) -> SplitState:
    """Return the test for when other shares are configured from now on. The evidence so far is kept.

    Raises: UsageError as `start`.
    """
    fresh = start(shares)
    kept = zip(state.kept, _stakes(state.shares, state.counts), strict=True)
    return msgspec.structs.replace(fresh, kept=tuple(before + log for before, log in kept), off=state.off)


def _stakes(shares: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return the logarithm of the Dirichlet-multinomial over the multinomial, by concentration."""
    expected = sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))
    total = sum(counts)
    return tuple(
        math.lgamma(weight)
        - math.lgamma(weight + total)
        + sum(
            math.lgamma(weight * share + count) - math.lgamma(weight * share)
            for share, count in zip(shares, counts, strict=True)
        )
        - expected
        for weight in CONCENTRATIONS
    )
