"""How long each step of a rollout will take at the expected traffic: a projection, and labelled as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from modelyard.core.requirement import Requirement
from modelyard.core.rollout import Policy, Step, Strategy
from modelyard.errors import UsageError
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_plan import PASS_POWER, Assumed, Needed, passed_by, samples_for
from modelyard.rollout.claims import Against, Claim, Kind, claims, unjudged
from modelyard.rollout.judging import Levels, levels
from modelyard.rollout.words import grouped

HALF, MOST, SURE = 0.5, 0.8, 0.95  # parts of all good candidates whose time is told
_NEAR = 1e-3  # of the requests: what is told is a projection
_HOUR_S = 3600.0
_LEAST_RATE = 1e-4  # a share observed as 0 or 1 is assumed this far inside
_AS_MANY = 0.5  # rows of both together that the candidate has where all traffic is mirrored


class Observed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was observed of the stable release, of what a claim counts.

    Of a rate its share, of a mean also the standard deviation of a row. Of a gap the rates of the two
    groups that are farthest apart: `mean` and `other`, with `part` of the rows of both in the first.
    Of the margin of a percentile: the share beyond the percentile, and as `other` that beyond it and the margin.
    """

    mean: float
    spread: float | None = None
    other: float | None = None
    part: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    seen: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0  # share of the requests that count, such as labelled ones


class ClaimProjection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests of the service until half, and until four in five, of good candidates pass; None: never or unknown.

    `one_look` are those of a test with one look and a power of 90 %.
    """

    claim: str
    usual: float | None
    long: float | None
    one_look: float | None
    words: str


class StepProjection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours until half, four in five, and 19 in 20 of good candidates leave a step; None: never or unknown.

    `passing` is the share of them that does within the time that a step may last.
    """

    share: float
    usual_hours: float | None
    long_hours: float | None
    sure_hours: float | None
    passing: float | None
    claims: tuple[ClaimProjection, ...]


class Projection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Projected, not measured: the time of each step, and what it rests on."""

    steps: tuple[StepProjection, ...]
    words: str


def plan(
    requirements: Sequence[Requirement], policy: Policy, observed: Mapping[str, Observed], *, requests_per_s: float
) -> Projection:
    """Return the hours that each step needs for a candidate as good as the stable release.

    The first step waits for all verdicts. Later ones go on with its evidence, so they take only the least
    time and samples asked for. The primary metric of an experiment has no projection: how long it takes
    depends on how much better a candidate is, and one that is as good never wins.

    Args:
        observed: of the stable release, by the key of the claim (`claims`); what is missing is told.
        requests_per_s: of the whole service, above 0.
    Raises: UsageError for a rate of requests that is not above 0.
    """
    if not 0 < requests_per_s < math.inf:
        raise UsageError(f"A rollout is planned for {requests_per_s} requests a second: a number above 0 is wanted.")
    found = claims(requirements, policy)
    unseen = unjudged(requirements, policy)
    allowed = levels(found, policy, 1)
    steps = []
    for place, step in enumerate(policy.steps):
        shown = tuple(_claim(claim, observed, step.share, allowed[claim.key]) for claim in found)
        is_open = place == 0 and (bool(unseen) or policy.strategy is Strategy.EXPERIMENT)
        steps.append(
            _step(step, found, shown if place == 0 else (), requests_per_s, most_s=policy.most_s, is_open=is_open)
        )
    lines = [f"Projected for {requests_per_s:g} requests a second and a candidate as good as the stable release:"]
    lines += [_words(place, step, policy.most_s) for place, step in enumerate(steps, start=1)]
    lines += [f"    {one.words}" for step in steps for one in step.claims]
    lines += unseen
    return Projection(steps=tuple(steps), words="\n".join(lines))


def _step(
    step: Step,
    found: Sequence[Claim],
    shown: tuple[ClaimProjection, ...],
    requests_per_s: float,
    *,
    most_s: float,
    is_open: bool,
) -> StepProjection:
    samples = max([step.least_samples, *(claim.requirement.least_samples for claim in found)])
    least = max(step.least_s, samples / (step.share or 1.0) / requests_per_s) / _HOUR_S
    one_look = [one.one_look for one in shown]
    known = [count for count in one_look if count is not None]
    if is_open or len(known) < len(one_look):
        return StepProjection(
            share=step.share, usual_hours=None, long_hours=None, sure_hours=None, passing=None, claims=shown
        )
    usual, long, sure = (
        max(least, _requests_until(part, known) / requests_per_s / _HOUR_S) for part in (HALF, MOST, SURE)
    )
    return StepProjection(
        share=step.share,
        usual_hours=usual,
        long_hours=long,
        sure_hours=sure,
        passing=passing(most_s * requests_per_s, known) if most_s >= least * _HOUR_S else 0.0,
        claims=shown,
    )


def passing(requests: float, one_look: Sequence[float]) -> float:
    """Return the share of good candidates for which all tests have passed after so many requests.

    Args:
        one_look: requests that each test would need with one look and a power of 90 %.
    """
    return math.prod(passed_by(requests / needed) for needed in one_look)


def _requests_until(part: float, one_look: Sequence[float]) -> float:
    """Return the requests after which a part of all good candidates have passed every test."""
    if not one_look:
        return 0.0
    low, high = 0.0, max(one_look)
    while passing(high, one_look) < part:
        high *= 2
    while high - low > _NEAR * high:
        middle = (low + high) / 2
        low, high = (low, middle) if passing(middle, one_look) >= part else (middle, high)
    return high


def _claim(claim: Claim, observed: Mapping[str, Observed], share: float, level: Levels) -> ClaimProjection:
    known = observed.get(claim.key)
    if claim.against is Against.BETTER:
        return _unknown(claim, "depends on how much better the candidate is; one that is as good never wins.")
    if known is None:
        return _unknown(claim, "unknown: nothing of the kind was observed of the stable release.")
    try:
        needed, rows = _needed(claim, known, share or _AS_MANY, level.passing)
    except UsageError as error:
        return _unknown(claim, f"never: {error}")
    if needed is None:
        return _unknown(claim, f"never: the stable release itself, at {known.mean:g}, is not within what is allowed.")
    mirrored = 1.0 if share else 2.0  # one request then is a row of each release
    usual, long, one_look = (
        count / rows / known.seen / mirrored for count in (needed.usually_watched, needed.long_watched, needed.total)
    )
    words = f"about {grouped(math.ceil(usual))} requests until half pass, {grouped(math.ceil(long))} until 4 in 5."
    return ClaimProjection(claim=claim.key, usual=usual, long=long, one_look=one_look, words=f"{claim.key}: {words}")


def _needed(claim: Claim, known: Observed, share: float, level: float) -> tuple[Needed | None, float]:
    """Return the rows that the test of a claim needs, None where it never passes, and such rows in a request."""
    if claim.kind is Kind.GAP:
        return _needed_of_gap(claim, known, share, level)
    stable = candidate = Assumed(mean=known.mean, spread=known.spread)
    if claim.kind is Kind.RATE:
        stable = Assumed(mean=_inside(known.mean))
        candidate = stable if known.other is None else Assumed(mean=_inside(known.other))
    if not _is_within(claim.allowance, stable.mean):
        return None, 1.0
    return samples_for(claim.allowance, stable, candidate, level=level, power=PASS_POWER, share=share), 1.0


def _needed_of_gap(claim: Claim, known: Observed, share: float, level: float) -> tuple[Needed | None, float]:
    high, low = _inside(known.mean), _inside(known.other or 0.0)
    allowance = Allowance(margin=claim.allowance.margin)
    if claim.against is Against.BOUND:  # the two groups are the arms, and only the candidate's rows count
        if high - low >= allowance.margin:
            return None, 1.0
        arms = Assumed(mean=low), Assumed(mean=high)
        return samples_for(allowance, *arms, level=level, power=PASS_POWER, share=known.part), share
    both = known.part * (1 - known.part)  # of the rows, what tells as much of the gap
    spread = math.sqrt(both * (high * (1 - high) / known.part + low * (1 - low) / (1 - known.part)))
    gap = Assumed(mean=high - low, spread=spread)
    return samples_for(allowance, gap, gap, level=level / 2, power=PASS_POWER, share=share), both


def _inside(rate: float) -> float:
    return min(max(rate, _LEAST_RATE), 1 - _LEAST_RATE)


def _is_within(allowance: Allowance, mean: float) -> bool:
    if allowance.bound is None:
        return True
    return mean < allowance.bound if allowance.worse is Worse.HIGHER else mean > allowance.bound


def _unknown(claim: Claim, words: str) -> ClaimProjection:
    return ClaimProjection(claim=claim.key, usual=None, long=None, one_look=None, words=f"{claim.key}: {words}")


def _words(place: int, step: StepProjection, most_s: float) -> str:
    share = f"{100 * step.share:g} % of the traffic" if step.share else "mirrored traffic"
    if step.usual_hours is None or step.long_hours is None or step.sure_hours is None or step.passing is None:
        return f"step {place}, {share}: no time can be named, see below."
    told = f"{step.usual_hours:.2g} hours for half of all rollouts, {step.long_hours:.2g} for 4 in 5"
    told = f"step {place}, {share}: {told}, {step.sure_hours:.2g} for 19 in 20."
    if step.sure_hours * _HOUR_S <= most_s:
        return told
    return f"{told} The {most_s / _HOUR_S:.3g} that a step may last are enough for {step.passing:.0%} of them."
