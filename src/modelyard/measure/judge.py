"""The only judge: whether an observation keeps a requirement.

An interval decides, never the point. All of it on the good side of the bound is a pass, all of it
beyond is a fail, anything else is inconclusive, which means hold. The two-sided interval is used at
its full width, so either verdict is wrong less often than one minus the confidence. `judge` never
raises: an observation that cannot be judged is inconclusive and the reason says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from modelyard.core.metrics import METRICS, Needs
from modelyard.core.requirement import Direction, Judgement, Observation, Requirement, Verdict
from modelyard.measure.words import interval_words, number_words, observed_words

Finding = tuple[Verdict, str]

_PRECEDENCE = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


def judge(
    requirement: Requirement,
    observation: Observation,
    reference: Observation | None = None,
    *,
    difference: Observation | None = None,
) -> Judgement:
    """Return the verdict of a requirement on an observation, with its reason in a sentence.

    With a bound, the interval must lie on its good side: pass at low >= bound for at_least (high <=
    bound for at_most), fail when the whole interval misses it, inconclusive between.

    With a margin, the observation may be worse than `reference` by at most the margin, which is
    absolute and in the metric's unit. Where both answered the same rows, give `difference`, the
    paired difference observation - reference with its interval. Without it the widest interval that
    the two allow is taken, [low - reference.high, high - reference.low], which never passes or fails
    too easily. With bound and margin the worse verdict counts.

    Inconclusive whatever the numbers: no value or no interval on the side that matters, fewer than
    `least_samples`, a lower confidence than required, another metric, slice or group than required,
    a margin without a reference. Sizes have no sampling error: `least_samples` and the confidence do
    not apply to them. `accept_inconclusive` is the gate's affair, not the judge's.
    """
    findings = list(_findings(requirement, observation, reference, difference))
    verdict = worst(each for each, _ in findings)
    sentences = [sentence for each, sentence in findings if each is verdict]
    return Judgement(
        requirement=requirement,
        verdict=verdict,
        reason=" ".join(sentences),
        observation=observation,
        reference=reference,
    )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the gravest verdict: one fail is a fail, else one inconclusive holds.

    No verdict at all is inconclusive: what nobody looked at is not promoted.

    >>> worst([Verdict.PASS, Verdict.INCONCLUSIVE])
    <Verdict.INCONCLUSIVE: 'inconclusive'>
    """
    given = set(verdicts)
    return next((verdict for verdict in _PRECEDENCE if verdict in given), Verdict.INCONCLUSIVE)


def _findings(
    requirement: Requirement, observation: Observation, reference: Observation | None, difference: Observation | None
) -> Iterable[Finding]:
    obstacle = _mismatch(requirement, observation) or _obstacle(requirement, observation)
    if obstacle:
        yield Verdict.INCONCLUSIVE, obstacle
        return
    if requirement.bound is None and requirement.margin is None:
        yield Verdict.INCONCLUSIVE, f"Requirement `{requirement.id}` sets neither bound nor margin: nothing to judge."
    if requirement.bound is not None:
        yield _against_bound(requirement, observation, requirement.bound)
    if requirement.margin is not None:
        yield _against_reference(requirement, observation, reference, difference, requirement.margin)


def _against_bound(requirement: Requirement, observation: Observation, bound: float) -> Finding:
    low, high = _edges(observation)
    verdict = _decide(requirement.direction, low, high, bound)
    seen = observed_words(observation, bound)
    side = "at least" if requirement.direction is Direction.AT_LEAST else "at most"
    wanted = f"{side} {number_words(observation, bound, bound)} is wanted"
    return verdict, f"{seen}: {wanted}{_TAILS[verdict] if low != high else ''}."


def _against_reference(
    requirement: Requirement,
    observation: Observation,
    reference: Observation | None,
    difference: Observation | None,
    margin: float,
) -> Finding:
    name = observation.metric
    if reference is None:
        return Verdict.INCONCLUSIVE, f"{name} may lose at most {margin:g} against a reference, and there is none."
    for other, kind in ((reference, "The reference"), (difference, "The difference")):
        obstacle = other and (_mismatch(requirement, other) or _obstacle(requirement, other))
        if obstacle:
            return Verdict.INCONCLUSIVE, f"{kind} cannot be judged by. {obstacle}"
    change = difference or _widest_difference(observation, reference)
    low, high = _edges(change)
    rising = requirement.direction is Direction.AT_LEAST
    limit = -margin if rising else margin
    verdict = _decide(
        requirement.direction, low, high, limit + (-1 if rising else 1) * _rounding(observation, reference)
    )
    value = number_words(observation, observation.value, None)
    than = number_words(observation, reference.value, None)
    step = f"{number_words(change, change.value, limit)}{interval_words(change, limit)}"
    loss = "drop" if rising else "rise"
    allowed = f"a {loss} of at most {number_words(change, margin, limit)} is allowed"
    tail = _TAILS[verdict] if low != high else ""
    return verdict, f"{name} is {value} and the reference's {than}, a difference of {step}: {allowed}{tail}."


_TAILS = {
    Verdict.PASS: ", and the whole interval keeps it",
    Verdict.FAIL: ", and the whole interval misses it",
    Verdict.INCONCLUSIVE: ", and the interval lies on both sides; more rows narrow it",
}


def _decide(direction: Direction, low: float, high: float, bound: float) -> Verdict:
    """Return the verdict of an interval on a bound, its edges on the good side counting as good."""
    if direction is Direction.AT_MOST:
        low, high, bound = -high, -low, -bound
    if low >= bound:
        return Verdict.PASS
    return Verdict.FAIL if high < bound else Verdict.INCONCLUSIVE


def _rounding(observation: Observation, reference: Observation) -> float:
    """Return what a difference of two numbers may be off by, so that 8.3 - 8.0 is within 0.3."""
    return 1e-12 * max(abs(observation.value or 0.0), abs(reference.value or 0.0))


def _widest_difference(observation: Observation, reference: Observation) -> Observation:
    """Return the difference whose interval holds every pair of values of the two intervals."""
    low, high = _edges(observation)
    reference_low, reference_high = _edges(reference)
    assert observation.value is not None
    assert reference.value is not None
    edges = (low - reference_high, high - reference_low)
    return Observation(
        metric=observation.metric,
        value=observation.value - reference.value,
        low=edges[0] if math.isfinite(edges[0]) else None,
        high=edges[1] if math.isfinite(edges[1]) else None,
        confidence=min(observation.confidence, reference.confidence),
        samples=min(observation.samples, reference.samples),
        unit=observation.unit,
        method="the widest difference that both intervals allow",
    )


def _edges(observation: Observation) -> tuple[float, float]:
    """Return the interval; an unknown edge is as far away as can be."""
    low = -math.inf if observation.low is None else observation.low
    high = math.inf if observation.high is None else observation.high
    return low, high


def _mismatch(requirement: Requirement, observation: Observation) -> str:
    """Say what else than required was observed; empty where it fits."""
    measures = {requirement.metric, *(estimator.measure for estimator in requirement.stages.values())}
    pairs = (
        ("metric", observation.metric, requirement.metric, observation.metric in measures),
        ("slice", observation.slice, requirement.slice, observation.slice == requirement.slice),
        ("group", observation.group, requirement.group, observation.group == requirement.group),
    )
    for what, seen, wanted, fits in pairs:
        if not fits:
            return (
                f"The {what} observed is {seen or 'none'}, and requirement `{requirement.id}` is on {wanted or 'none'}."
            )
    return ""


def _obstacle(requirement: Requirement, observation: Observation) -> str:
    """Say why no number of this observation can be judged; empty where it can."""
    name = observation.metric
    where = f" of {observation.slice}" if observation.slice else ""
    if observation.value is None:
        return f"{name}{where} was not measured: {observation.method}."
    numbers = [observation.value, *(edge for edge in (observation.low, observation.high) if edge is not None)]
    low, high = _edges(observation)
    if not all(math.isfinite(number) for number in numbers) or low > high:
        interval = f"{observation.low} to {observation.high}"
        return f"{name}{where} is {observation.value} with the interval {interval}: such numbers judge nothing."
    if _has_no_sampling_error(observation):
        return ""
    if observation.samples < requirement.least_samples:
        seen = observed_words(observation, None)
        return f"{seen}: at least {requirement.least_samples} are needed to judge."
    if observation.low is None and observation.high is None:
        return f"{name}{where} has no interval: {observation.method}."
    if observation.confidence < requirement.confidence:
        seen = f"{100 * observation.confidence:g} %"
        return f"{name}{where} has an interval at {seen}: {100 * requirement.confidence:g} % is required."
    return ""


def _has_no_sampling_error(observation: Observation) -> bool:
    """Say whether this is a size: a body weighed once, low and high equal to the value."""
    metric = METRICS.get(observation.metric)
    weighed = metric is not None and metric.needs is Needs.BODY
    return weighed and observation.low == observation.value == observation.high
