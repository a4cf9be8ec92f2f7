"""The reason of a verdict, in sentences that a person reads at night."""

from __future__ import annotations

import math

from modelyard.core.requirement import Direction, Verdict
from modelyard.core.rollout import NO_HITS, ArmCounts, Hits
from modelyard.measure.sequential import Worse, strength
from modelyard.measure.sequential_intervals import (
    Interval,
    difference_of_means,
    difference_of_rates,
    mean_interval,
    rate_interval,
)
from modelyard.measure.sequential_means import Sums
from modelyard.measure.sequential_rates import Counts
from modelyard.rollout.claims import Against, Claim, Kind
from modelyard.rollout.judging import Judged, is_compared
from modelyard.rollout.look import Pair, gap_as_sums, hits_of, sums_of


def reason(claim: Claim, judged: Judged, ours: tuple[str, ArmCounts], stable: tuple[str, ArmCounts]) -> str:
    """Return why a claim has its verdict.

    Args:
        ours, stable: the releases with their counts since the step began.
    """
    if not judged.samples:
        return f"{subject(claim)}: nothing of {ours[0]} was counted yet; counted are {claim.counted}."
    told = {Kind.RATE: _rate, Kind.MEAN: _mean, Kind.GAP: _gap}[claim.kind](claim, judged, ours, stable)
    return f"{subject(claim)}: {told} {_tail(claim, judged, ours[0], stable[0])}"


def subject(claim: Claim) -> str:
    """Return what a claim is about: the metric, with its slice or group."""
    wanted = claim.requirement
    where = f" where {wanted.slice}" if wanted.slice else ""
    return f"{wanted.metric}{where}{f' by {wanted.group}' if wanted.group else ''}"


def percent(share: float) -> str:
    """Return a share in percent with three digits.

    >>> percent(0.0312)
    '3.12 %'
    """
    return f"{100 * share:.3g} %"


def grouped(count: float) -> str:
    """Return a count with its thousands apart.

    >>> grouped(12345)
    '12 345'
    """
    return f"{count:,.0f}".replace(",", " ") if float(count).is_integer() else f"{count:,.1f}".replace(",", " ")


def between(interval: Interval, *, confidence: float, as_share: bool) -> str:
    """Return `always-valid 95 % interval LOW to HIGH`."""

    def edge(number: float | None) -> str:
        if number is None:
            return "unbounded"
        return percent(number) if as_share else f"{number:.4g}"

    return f"always-valid {100 * confidence:g} % interval {edge(interval.low)} to {edge(interval.high)}"


def _rate(claim: Claim, judged: Judged, ours: tuple[str, ArmCounts], stable: tuple[str, ArmCounts]) -> str:
    confidence = claim.requirement.confidence
    mine, other = hits_of(claim, ours[1]), hits_of(claim, stable[1])
    interval = rate_interval(_counts(mine), confidence=confidence)
    shown = "" if _blurs(claim, judged, interval) else f" ({between(interval, confidence=confidence, as_share=True)})"
    share = f"{percent(mine.hits / mine.trials)}{shown}"
    seen = f"{claim.counted}: {grouped(mine.hits)} of {grouped(mine.trials)} by {ours[0]}, {share}"
    if claim.against is Against.BOUND:
        return f"{seen}; {_side(claim)} {percent(claim.allowance.bound or 0.0)} {_of_bound(claim)}."
    if not other.trials:
        return f"{seen}; nothing of {stable[0]} to compare with yet."
    change = difference_of_rates(_counts(mine), _counts(other), confidence=confidence)
    beside = f"{grouped(other.hits)} of {grouped(other.trials)} by {stable[0]}, {percent(other.hits / other.trials)}"
    by = mine.hits / mine.trials - other.hits / other.trials
    return f"{seen}, beside {beside}; {_allowed(claim, judged, change, by, as_share=True)}"


def _mean(claim: Claim, judged: Judged, ours: tuple[str, ArmCounts], stable: tuple[str, ArmCounts]) -> str:
    confidence = claim.requirement.confidence
    mine, other = sums_of(claim, ours[1]), sums_of(claim, stable[1])
    interval = mean_interval(mine, confidence=confidence)
    shown = "" if _blurs(claim, judged, interval) else f" ({between(interval, confidence=confidence, as_share=False)})"
    seen = f"{claim.counted}: {mine.mean:.4g} on average over {grouped(mine.count)} by {ours[0]}{shown}"
    if claim.against is Against.BOUND:
        return f"{seen}; {_side(claim)} {claim.allowance.bound:.4g} {_of_bound(claim)}."
    if not other.count:
        return f"{seen}; nothing of {stable[0]} to compare with yet."
    change = difference_of_means(mine, other, confidence=confidence)
    beside = f"{other.mean:.4g} over {grouped(other.count)} by {stable[0]}"
    by = mine.mean - other.mean
    return f"{seen}, beside {beside}; {_allowed(claim, judged, change, by, as_share=False)}"


def _gap(claim: Claim, judged: Judged, ours: tuple[str, ArmCounts], stable: tuple[str, ArmCounts]) -> str:
    if judged.pair is None:
        return f"fewer than two groups by {ours[0]} yet."
    pair, confidence = judged.pair, claim.requirement.confidence
    rows = ours[1].groups.get(pair.counts, {})
    seen = " and ".join(_group(rows.get(group, NO_HITS), group) for group in (pair.high, pair.low))
    mine, other = _gap_of(ours[1], pair), _gap_of(stable[1], pair)
    counts = [_counts(rows.get(group, NO_HITS)) for group in (pair.high, pair.low)]
    interval = difference_of_rates(counts[0], counts[1], confidence=confidence)
    gap = f"a gap of {percent(mine)} ({between(interval, confidence=confidence, as_share=True)})"
    limit = f"at most {percent(claim.allowance.margin)}"
    if claim.against is Against.MARGIN:
        limit += " more"
    return f"{claim.counted}: {seen} by {ours[0]}, {gap}, beside {percent(other)} by {stable[0]}; {limit} is wanted."


def _gap_of(counts: ArmCounts, pair: Pair) -> float:
    return gap_as_sums(counts.groups.get(pair.counts, {}), pair).mean


def _group(hits: Hits, name: str) -> str:
    share = percent(hits.hits / hits.trials) if hits.trials else "none"
    return f"{share} of {grouped(hits.trials)} where {name}"


def _counts(hits: Hits) -> Counts:
    return Counts(trials=hits.trials, hits=hits.hits)


def _side(claim: Claim) -> str:
    return "at most" if claim.allowance.worse is Worse.HIGHER else "at least"


def _of_bound(claim: Claim) -> str:
    """Return the bound as the requirement has it, where something else of it is counted."""
    bound = claim.requirement.bound
    if bound is None or math.isclose(bound, claim.allowance.bound or 0.0, abs_tol=1e-8):
        return "is wanted"
    side = "at least" if claim.requirement.direction is Direction.AT_LEAST else "at most"
    return f"is wanted ({claim.requirement.metric} {side} {bound:g})"


def _blurs(claim: Claim, judged: Judged, interval: Interval) -> bool:
    """Say whether an interval would seem to contradict a verdict: the test of one side tells earlier than it."""
    limit = claim.allowance.bound if claim.against is Against.BOUND else claim.allowance.margin
    if judged.verdict is not Verdict.FAIL or limit is None:
        return False
    if claim.against is not Against.BOUND and claim.allowance.worse is Worse.LOWER:
        limit = -limit
    above_low = interval.low is None or interval.low <= limit
    return above_low and (interval.high is None or limit <= interval.high)


def _allowed(claim: Claim, judged: Judged, change: Interval, by: float, *, as_share: bool) -> str:
    interval = between(change, confidence=claim.requirement.confidence, as_share=as_share)
    if _blurs(claim, judged, change):
        interval = f"{by:+.4g}" if not as_share else f"{100 * by:+.3g} points"
    if claim.against is Against.BETTER:
        return f"difference: {interval}; better than the stable release is wanted."
    margin = claim.allowance.margin
    most = f"at most {percent(margin) if as_share else f'{margin:.4g}'} worse" if margin else "no worse"
    return f"difference: {interval}; {most} than the stable release is wanted."


def _tail(claim: Claim, judged: Judged, name: str, stable: str) -> str:
    proof = f"the evidence is {strength(judged.against)}"
    if judged.verdict is Verdict.FAIL:
        worse = (
            f" {name} does worse than {stable}, so that it is the release and not the traffic;"
            if is_compared(claim)
            else ""
        )
        return f"Not kept:{worse} {proof}."
    if judged.incident:
        return f"{stable} breaks the bound alike: an incident of both releases, and no reason to go back; {proof}."
    if judged.verdict is Verdict.PASS:
        return "Kept."
    if judged.samples < claim.requirement.least_samples:
        return f"Not decided: at least {grouped(claim.requirement.least_samples)} samples are needed to judge."
    if judged.expected is None:
        return "Not decided: nothing points either way yet."
    return f"Not decided: about {grouped(judged.expected)} more samples of {name} are projected to tell."


def as_sums(counts: ArmCounts) -> Sums:
    """Return the answered numbers of a regression as sums."""
    return Sums(count=counts.outputs.count, total=counts.outputs.total, squares=counts.outputs.squares)
