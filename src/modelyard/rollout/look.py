"""One look: what came since the last one goes into the tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec

from modelyard.core.rollout import NO_HITS, NO_TOTALS, ArmCounts, Hits, Policy, Window
from modelyard.errors import DataError, UsageError
from modelyard.measure import sequential_means as means
from modelyard.measure import sequential_rates as rates
from modelyard.measure import sequential_split as split
from modelyard.measure.sequential import Allowance
from modelyard.measure.sequential_means import MeanState, Sums
from modelyard.measure.sequential_rates import Counts, RateState
from modelyard.rollout.claims import ERRORS, Against, Claim, Kind
from modelyard.rollout.state import StepState, split_for

EDGE, STABLE, WORSE = "edge", "stable", "worse"  # what a test of a claim asks
_HALF_A_ROW = 0.5


class Pair(NamedTuple):
    """Two groups whose gap is tested: `high` may exceed `low`. Its share of the claim's level is `weight`."""

    counts: str
    high: str
    low: str
    weight: float


def look(
    windows: Mapping[str, Window], found: Sequence[Claim], policy: Policy, state: StepState, now: float
) -> StepState:
    """Return the state after what the windows add to it.

    Raises: DataError where a release has no window, or counts fell.
        UsageError where a requirement was changed during the rollout.
    """
    present = {name: _counts_of(windows, name) for name in (state.stable, *state.running)}
    fresh = {name: _since(name, counts, state.seen.get(name, ArmCounts())) for name, counts in present.items()}
    grown = msgspec.structs.replace(state, groups=_groups(found, present, state))
    rate_tests, mean_tests = dict(state.rates), dict(state.means)
    for name in state.running:
        for claim in found:
            for key, allowance, ours, theirs in _rate_looks(grown, claim, name, fresh):
                rate_tests[key] = _rate(rate_tests.get(key), key, allowance, ours, theirs)
            for key, allowance, sums, their_sums in _mean_looks(grown, claim, name, present):
                mean_tests[key] = _mean(mean_tests.get(key), key, allowance, sums, their_sums)
    seen = state.seen | present
    moved = msgspec.structs.replace(grown, looked=now, seen=seen, rates=rate_tests, means=mean_tests)
    return msgspec.structs.replace(moved, split=_split(moved, policy, fresh))


def hits_of(claim: Claim, counts: ArmCounts) -> Hits:
    """Return the trials and hits of a claim that is a rate."""
    if claim.requirement.metric == ERRORS:
        return Hits(trials=counts.requests, hits=counts.errors + counts.degraded)
    return counts.rates.get(claim.counts[0], NO_HITS)


def key_of(release: str, claim: Claim, role: str, pair: Pair | None = None) -> str:
    """Return the name of one test of a claim on a candidate."""
    between = f" {pair.counts} {pair.high}>{pair.low}" if pair else ""
    return f"{release} {claim.key} {role}{between}"


def primary_key(release: str, primary: str) -> str:
    """Return the name of the test that a candidate is better than the stable release."""
    return f"{release} {primary.removesuffix('~stable')}>stable {EDGE}"


def pairs_of(state: StepState, claim: Claim) -> Iterator[Pair]:
    """Yield the pairs of groups that are compared, both ways round.

    The k-th pair has 1 / (k (k + 1)) of the level, so that groups met late take nothing from the others.
    """
    groups = state.groups.get(claim.key, ())
    met = sorted(combinations(range(len(groups)), 2), key=lambda pair: (pair[1], pair[0]))
    for place, (first, second) in enumerate(met, start=1):
        weight = 1 / (place * (place + 1)) / 2 / len(claim.counts)
        for counts in claim.counts:
            yield Pair(counts, groups[first], groups[second], weight)
            yield Pair(counts, groups[second], groups[first], weight)


def _counts_of(windows: Mapping[str, Window], name: str) -> ArmCounts:
    if name not in windows:
        raise DataError(f"There is no window of `{name}`, only of {', '.join(sorted(windows)) or 'none'}: give one.")
    return windows[name].counts


def _since(name: str, now: ArmCounts, before: ArmCounts) -> ArmCounts:
    """Return what came since the last look, of all that is tested block by block."""
    for what in ("requests", "errors", "degraded"):
        if getattr(now, what) < getattr(before, what):
            raise _fell(name, what, getattr(before, what), getattr(now, what))
    return ArmCounts(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        degraded=now.degraded - before.degraded,
        units=None if now.units is None else now.units - (before.units or 0),
        rates={key: _less(name, key, hits, before.rates.get(key, NO_HITS)) for key, hits in now.rates.items()},
        groups={
            key: {
                group: _less(name, f"{key} of {group}", hits, before.groups.get(key, {}).get(group, NO_HITS))
                for group, hits in by_group.items()
            }
            for key, by_group in now.groups.items()
        },
    )


def _less(name: str, what: str, now: Hits, before: Hits) -> Hits:
    if now.trials < before.trials or now.hits < before.hits:
        raise _fell(name, what, before.trials, now.trials)
    return Hits(trials=now.trials - before.trials, hits=now.hits - before.hits)


def _fell(name: str, what: str, before: float, now: float) -> DataError:
    return DataError(
        f"The counts of `{name}` fell: {what} was {before:g} at the last look and is {now:g}. "
        "Counts since the step began are wanted; nothing is judged on these."
    )


def _groups(found: Sequence[Claim], present: Mapping[str, ArmCounts], state: StepState) -> dict[str, tuple[str, ...]]:
    """Return the groups met of each claim, those met first at this look by how many rows they have."""
    met = dict(state.groups)
    for claim in found:
        if claim.kind is not Kind.GAP:
            continue
        rows: dict[str, int] = {}
        for counts in present.values():
            for key in claim.counts:
                for group, hits in counts.groups.get(key, {}).items():
                    rows[group] = rows.get(group, 0) + hits.trials
        known = met.get(claim.key, ())
        fresh = sorted((one for one in rows if one not in known and rows[one]), key=lambda one: (-rows[one], one))
        met[claim.key] = (*known, *fresh)
    return met


RateLook = tuple[str, Allowance, Hits, Hits]
MeanLook = tuple[str, Allowance, Sums, Sums]


def _rate_looks(state: StepState, claim: Claim, name: str, fresh: Mapping[str, ArmCounts]) -> Iterator[RateLook]:
    ours, theirs = fresh[name], fresh[state.stable]
    if claim.kind is Kind.RATE:
        mine, other = hits_of(claim, ours), hits_of(claim, theirs)
        yield key_of(name, claim, EDGE), claim.allowance, mine, other
        if claim.against is Against.BOUND:
            yield key_of(name, claim, STABLE), claim.allowance, other, NO_HITS
            yield key_of(name, claim, WORSE), claim.worse_than_stable, mine, other
    if claim.kind is Kind.GAP:
        for pair in pairs_of(state, claim):
            arms = ((EDGE, ours), (STABLE, theirs)) if claim.against is Against.BOUND else ((EDGE, ours),)
            for role, counts in arms:
                rows = counts.groups.get(pair.counts, {})
                high, low = rows.get(pair.high, NO_HITS), rows.get(pair.low, NO_HITS)
                yield key_of(name, claim, role, pair), Allowance(margin=claim.allowance.margin), high, low


def _mean_looks(state: StepState, claim: Claim, name: str, present: Mapping[str, ArmCounts]) -> Iterator[MeanLook]:
    ours, theirs = present[name], present[state.stable]
    if claim.kind is Kind.MEAN:
        mine, other = sums_of(claim, ours), sums_of(claim, theirs)
        yield key_of(name, claim, EDGE), claim.allowance, mine, other
        if claim.against is Against.BOUND:
            yield key_of(name, claim, STABLE), claim.allowance, other, means.NOTHING
            yield key_of(name, claim, WORSE), claim.worse_than_stable, mine, other
    if claim.kind is Kind.GAP:
        margin = claim.allowance.margin if claim.against is Against.MARGIN else 0.0
        for pair in pairs_of(state, claim):
            mine = gap_as_sums(ours.groups.get(pair.counts, {}), pair, less=margin)
            other = gap_as_sums(theirs.groups.get(pair.counts, {}), pair)
            yield key_of(name, claim, WORSE, pair), Allowance(), mine, other


def sums_of(claim: Claim, counts: ArmCounts) -> Sums:
    """Return the rows and sums of a claim that is a mean."""
    totals = counts.means.get(claim.counts[0], NO_TOTALS)
    return Sums(count=totals.count, total=totals.total, squares=totals.squares)


def gap_as_sums(rows: Mapping[str, Hits], pair: Pair, *, less: float = 0.0) -> Sums:
    """Return sums of as many numbers as tell as much of the gap between two rates as the rows do.

    Their mean is the gap, less what is allowed, and their mean's variance that of the gap. The margin is
    taken off here since the test of means would let the variance grow with the mean, which gaps do not do.
    """
    high, low = rows.get(pair.high, NO_HITS), rows.get(pair.low, NO_HITS)
    if not high.trials or not low.trials:
        return means.NOTHING
    count = int(high.trials * low.trials / (high.trials + low.trials))
    if count < 2:
        return means.NOTHING
    gap = high.hits / high.trials - low.hits / low.trials - less
    variance = count * sum(_variance(hits) / hits.trials for hits in (high, low))
    return Sums(count=count, total=count * gap, squares=variance * (count - 1) + count * gap * gap)


def _variance(hits: Hits) -> float:
    rate = (hits.hits + _HALF_A_ROW) / (hits.trials + 2 * _HALF_A_ROW)
    return rate * (1 - rate)


def _rate(test: RateState | None, key: str, allowance: Allowance, ours: Hits, theirs: Hits) -> RateState:
    if test is None:
        test = rates.start(allowance)
    _check_same(test.allowance, allowance, key)
    if not ours.trials and not theirs.trials:
        return test
    mine, other = (Counts(trials=hits.trials, hits=hits.hits) for hits in (ours, theirs))
    return rates.update(test, mine, other)


def _mean(test: MeanState | None, key: str, allowance: Allowance, ours: Sums, theirs: Sums) -> MeanState:
    """Look at all rows since the step began: differences of large sums would be off by rounding."""
    if test is None:
        test = means.start(allowance)
    _check_same(test.allowance, allowance, key)
    if ours == test.candidate and theirs == test.stable:
        return test
    empty = msgspec.structs.replace(test, candidate=means.NOTHING, stable=means.NOTHING)
    return means.update(empty, ours, theirs)


def _check_same(begun: Allowance, asked: Allowance, key: str) -> None:
    if begun != asked:
        raise UsageError(
            f"The test `{key}` began with {begun} and is asked for {asked}: requirements stay as they were when the "
            "rollout began. Begin another one to judge by others."
        )


def _split(state: StepState, policy: Policy, fresh: Mapping[str, ArmCounts]) -> split.SplitState | None:
    test = split_for(state, policy)
    arms = [counts for name, counts in fresh.items() if name == state.stable or name in state.running]
    if test is None:
        return None
    by_unit = all(counts.units is not None for counts in arms)
    counted = (counts.units if by_unit else counts.requests for counts in arms)
    return split.update(test, tuple(count or 0 for count in counted))
