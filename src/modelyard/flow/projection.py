"""How long the next release would take to take over, from what was measured of the newest one when it was built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from modelyard.core.evidence import BuildEvidence, Evaluation, SliceScore
from modelyard.core.ports import Releases
from modelyard.core.requirement import Observation, Requirement
from modelyard.core.rollout import Policy, Strategy
from modelyard.evaluate.timing import RUN
from modelyard.rollout.claims import ERRORS, LATENCY, Against, Claim, Kind, claims, unjudged
from modelyard.rollout.plan import Observed
from modelyard.rollout.plan import plan as project
from modelyard.spec.system import System

_TOLD_AT = 1.0  # requests a second, where the spec names no traffic and only requests are told


@dataclass(frozen=True)
class Measured:
    """A release and its build."""

    release: str
    build: BuildEvidence


def newest(releases: Releases, name: str) -> Measured | None:
    """Return the newest release of a name that has a build on record, None where there is none."""
    for release in reversed(releases.all(name)):
        builds = [one.payload for _, one in releases.evidence(release.id) if isinstance(one.payload, BuildEvidence)]
        if builds:
            return Measured(str(release.id), builds[-1])
    return None


def rollout_lines(spec: System, before: Measured | None) -> Iterator[str]:
    """Yield how a release of the spec would take over, with the hours of each step or what is missing to tell them.

    Args:
        before: the release that would answer meanwhile; it is taken to be the spec's newest.
    Raises: UsageError where the primary metric of an experiment cannot be compared while serving.
    """
    policy, requirements, rate = spec.policy(), spec.requirement_records(), spec.rollout.expected_requests_per_s
    found = claims(requirements, policy)
    yield _way(policy)
    if not policy.steps:
        return
    if before is None:
        yield f"no release of `{spec.name}` is sealed yet: the first answers all traffic, and later ones are compared"
        return
    seen = observed(found, before.build)
    projection = project(requirements, policy, seen, requests_per_s=rate or _TOLD_AT)
    if rate is None:
        yield "no hours can be told: `rollout.expected_requests_per_s` is not set; requests are, of the whole service:"
        yield from (f"  {one.words}" for step in projection.steps for one in step.claims)
        yield from unjudged(requirements, policy)
    else:
        yield from projection.words.splitlines()
    yield f"rests on what was measured of {before.release} when it was built, alone and on its test rows"
    if any(claim.requirement.metric == ERRORS for claim in found):
        yield f"no service was looked at for {ERRORS}: it is taken to be 0"
    if any(claim.requirement.needs_labels for claim in found):
        yield "every request is taken to get its label at once: labels that come later or more rarely take longer"


def observed(found: Sequence[Claim], build: BuildEvidence) -> dict[str, Observed]:
    """Return what a build knows of each claim, by its key; what it does not know is not there."""
    known = {claim.key: _observed(claim, build.evaluation) for claim in found}
    return {key: seen for key, seen in known.items() if seen is not None}


def _way(policy: Policy) -> str:
    if not policy.steps:
        return f"{policy.strategy}: all of the traffic at once, before anything is judged while serving"
    shares = ", ".join(f"{100 * step.share:g} %" if step.share else "mirrored" for step in policy.steps)
    end = "until one is better" if policy.strategy is Strategy.EXPERIMENT else "then all of it"
    hours = policy.most_s / 3600
    limit = f"a step without a verdict after {hours:g} {'hour' if hours == 1 else 'hours'} goes back"
    return f"{policy.strategy}: {shares} of the traffic, {end}; {limit}"


def _observed(claim: Claim, evaluation: Evaluation) -> Observed | None:
    required = claim.requirement
    if required.metric == ERRORS:
        return Observed(mean=0.0)
    if claim.kind is Kind.GAP:
        return _gap(required, evaluation)
    if LATENCY.fullmatch(required.metric):
        return _beyond(claim, evaluation)
    seen = _find(required, evaluation)
    counted = _counted(required, evaluation)
    if seen is None or seen.value is None or required.metric == "median_absolute_error" or not 0 < counted <= 1:
        return None
    if claim.kind is Kind.MEAN:
        return _mean(seen, seen.value, counted)
    hits = seen.value / (2 - seen.value) if required.metric == "f1" else seen.value
    return Observed(mean=hits, seen=counted)


def _find(required: Requirement, evaluation: Evaluation) -> Observation | None:
    """Return what was measured of the requirement's metric on its rows."""
    told = (
        *(one.observation for one in evaluation.judgements),
        *evaluation.observations,
        *(one for part in evaluation.slices for one in part.observations),
    )
    wanted = (required.metric, required.slice, required.group)
    return next((one for one in told if (one.metric, one.slice, one.group) == wanted), None)


def _mean(seen: Observation, value: float, counted: float) -> Observed | None:
    """Return a mean with the deviation of a row that its interval tells of."""
    if seen.low is None or seen.high is None or not seen.high > seen.low or seen.samples < 2:
        return None
    deviation = (seen.high - seen.low) / 2 / NormalDist().inv_cdf(0.5 + seen.confidence / 2) * math.sqrt(seen.samples)
    if seen.metric == "cost_per_thousand":
        return Observed(mean=value, spread=deviation * math.sqrt(RUN), seen=counted)  # its samples are runs of rows
    if seen.metric == "rmse":
        return Observed(mean=value**2, spread=2 * value * deviation, seen=counted) if value > 0 else None
    return Observed(mean=value, spread=deviation, seen=counted)


def _beyond(claim: Claim, evaluation: Evaluation) -> Observed | None:
    """Return the share of calls that took longer than the bound, or than the percentile and the margin beyond it."""
    required, curve = claim.requirement, next((one for one in evaluation.curves if one.name == "latency"), None)
    percentile = LATENCY.fullmatch(required.metric)
    if curve is None or percentile is None:
        return None

    def share(ms: float) -> float:
        return 1 - float(np.interp(ms, curve.x, curve.y, left=0.0, right=1.0))

    if claim.against is Against.MARGIN:
        below = int(percentile[1]) / 100
        slowest = float(np.interp(below, curve.y, curve.x))
        return Observed(mean=1 - below, other=share(slowest + (required.margin or 0.0)))
    return None if required.bound is None else Observed(mean=share(required.bound))


def _counted(required: Requirement, evaluation: Evaluation) -> float:
    """Return the share of the requests that count for a metric; 0 where nobody can tell."""
    share = 1.0
    if required.slice is not None:
        named = (required.slice.column, required.slice.value)
        part = next((one for one in evaluation.slices if (one.column, one.value) == named), None)
        share = 0.0 if part is None or not evaluation.rows else part.rows / evaluation.rows
    return share * _of_classes(required.metric, evaluation)


def _of_classes(metric: str, evaluation: Evaluation) -> float:
    """Return the share of rows, or of sets of one row a class, that count for a metric of classes."""
    if evaluation.confusion is None or metric not in ("recall", "precision", "balanced_accuracy", "roc_auc", "f1"):
        return 1.0
    counts = np.array(evaluation.confusion.counts, dtype=np.float64)
    total = counts.sum()
    if not total:
        return 0.0
    true, told = counts.sum(axis=1) / total, counts.sum(axis=0) / total
    two = len(counts) == 2
    if metric == "f1":
        return float(1 - counts[0, 0] / total) if two else 0.0
    if metric in ("recall", "precision") and two:
        return float((true if metric == "recall" else told)[1])
    return float((told if metric == "precision" else true).min())


@dataclass(frozen=True)
class _Group:
    """Rows of a group, and shares of them: positive, answered so, and the latter among the positive and the others."""

    rows: int
    positive: float
    answered: float
    recall: float
    false_positive_rate: float


def _gap(required: Requirement, evaluation: Evaluation) -> Observed | None:
    """Return the rates of the two groups that are farthest apart."""
    parts = [_group(part) for part in evaluation.slices if part.column == required.group]
    groups = [one for one in parts if one is not None]
    if len(groups) < 2 or len(groups) < len(parts) or not evaluation.rows:
        return None
    rates = {
        "demographic_parity_difference": [[(one.answered, float(one.rows)) for one in groups]],
        "equal_opportunity_difference": [[(one.recall, one.rows * one.positive) for one in groups]],
        "equalized_odds_difference": [
            [(one.recall, one.rows * one.positive) for one in groups],
            [(one.false_positive_rate, one.rows * (1 - one.positive)) for one in groups],
        ],
    }[required.metric]
    high, low = max(((max(each), min(each)) for each in rates), key=lambda ends: ends[0][0] - ends[1][0])
    both = high[1] + low[1]
    if not 0 < high[1] < both:
        return None
    return Observed(mean=high[0], other=low[0], part=high[1] / both, seen=min(both / evaluation.rows, 1.0))


def _group(part: SliceScore) -> _Group | None:
    """Return the counts of a group of two classes, which its accuracy, precision and recall determine together."""
    values = {one.metric: one.value for one in part.observations}
    accuracy, precision, recall = (values.get(name) for name in ("accuracy", "precision", "recall"))
    if accuracy is None or not precision or not recall or accuracy >= 1:
        return None
    hits = (1 - accuracy) / (1 / recall + 1 / precision - 2)
    positive, answered = hits / recall, hits / precision
    if not 0 < positive < 1:
        return None
    return _Group(part.rows, positive, answered, recall, (answered - hits) / (1 - positive))
