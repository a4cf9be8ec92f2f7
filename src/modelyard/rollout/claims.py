"""What is tested of a requirement while a release serves, and what is counted for it.

A rate is a share of trials that were hits; a latency percentile is one, since p95 <= b says that at most
5 % are slower than b. A mean has a sum and a sum of squares. A gap compares the rates of groups. Metrics
of pairs or of several classes become rates by counting sets in the order of arrival: the k-th labelled
positive with the k-th labelled negative is right by 1, 0 or, where both score the same, 1/2; the k-th
rows of all classes together are right by the share of them that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Stage
from modelyard.core.rollout import Policy
from modelyard.errors import UsageError
from modelyard.measure.sequential import Allowance, Worse

ERRORS = "error_rate"
ERRORS_MARGIN = 0.01  # where no requirement speaks of errors
LATENCY = re.compile(r"latency_p(\d+)_ms")
_INSIDE = 1e-9  # a share allowed to be 0 or 1 is tested this far inside
_MOST_MARGIN = 1 - 1e-6


class Kind(StrEnum):
    """How a claim is counted."""

    RATE = "rate"  # ArmCounts.rates; of requests, where the metric is error_rate
    MEAN = "mean"  # ArmCounts.means
    GAP = "gap"  # ArmCounts.groups, each rate of its own


class Against(StrEnum):
    """What a claim holds the candidate to."""

    BOUND = "bound"
    MARGIN = "margin"  # no more than that worse than the stable release, at the same time
    BETTER = "better"  # than the stable release: the primary metric of an experiment


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that is tested: a requirement has one for its bound and one for its margin."""

    key: str
    requirement: Requirement
    kind: Kind
    against: Against
    allowance: Allowance
    counts: tuple[str, ...]  # where the arms keep its counts; more than one for several rates of groups
    counted: str  # in words: what is a hit, or a number

    @property
    def worse_than_stable(self) -> Allowance:
        """What is not exceeded by a release that is no worse than the stable one."""
        return Allowance(worse=self.allowance.worse)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a metric is counted. `edge` turns a bound into one of what is counted."""

    kind: Kind
    counted: str
    edge: Callable[[float], float] = float
    has_margin: bool = True  # a margin of the metric is one of what is counted


_WAYS: dict[str, _Way] = {
    ERRORS: _Way(kind=Kind.RATE, counted="requests that failed or that a fallback answered"),
    "accuracy": _Way(kind=Kind.RATE, counted="labelled requests answered right"),
    "recall": _Way(kind=Kind.RATE, counted="labelled positives found; of several classes, sets of one row each"),
    "precision": _Way(kind=Kind.RATE, counted="answered positives that are; of several classes, sets of one row each"),
    "balanced_accuracy": _Way(kind=Kind.RATE, counted="sets of one labelled row of each class, by the share right"),
    "roc_auc": _Way(kind=Kind.RATE, counted="pairs of a labelled positive and negative, ranked right"),
    "f1": _Way(
        kind=Kind.RATE,
        counted="true positives among labelled rows that are positive or were answered so",
        edge=lambda bound: bound / (2 - bound),
        has_margin=False,
    ),
    "log_loss": _Way(kind=Kind.MEAN, counted="negative log-likelihood of a labelled request"),
    "brier_loss": _Way(kind=Kind.MEAN, counted="squared distance of a labelled request's probabilities"),
    "mae": _Way(kind=Kind.MEAN, counted="absolute error of a labelled request"),
    "rmse": _Way(
        kind=Kind.MEAN, counted="squared error of a labelled request", edge=lambda bound: bound**2, has_margin=False
    ),
    "cost_per_thousand": _Way(kind=Kind.MEAN, counted="cost of a request, times a thousand"),
    "demographic_parity_difference": _Way(kind=Kind.GAP, counted="requests of a group answered positive"),
    "equal_opportunity_difference": _Way(kind=Kind.GAP, counted="labelled positives of a group found"),
    "equalized_odds_difference": _Way(
        kind=Kind.GAP, counted="labelled positives, and labelled negatives, of a group answered positive"
    ),
}


def claims(requirements: Sequence[Requirement], policy: Policy) -> tuple[Claim, ...]:
    """Return what is tested of the requirements, in their order; those not counted while serving have none.

    Raises: UsageError where an experiment's primary metric is none of the requirements, or cannot be compared.
    """
    found = [claim for one in watched(requirements, policy) for claim in _of(one) if one.id != policy.primary]
    if policy.primary is not None:
        found.insert(0, _primary(requirements, policy.primary))
    return tuple(found)


def watched(requirements: Sequence[Requirement], policy: Policy) -> tuple[Requirement, ...]:
    """Return the requirements that a rollout is judged by: errors are always among them.

    Raises: UsageError where a guardrail is none of the requirements.
    """
    known = {one.id: one for one in requirements}
    for name in policy.guardrails:
        if name not in known:
            raise UsageError(f"Guardrail `{name}` is no requirement. Known: {', '.join(sorted(known)) or 'none'}.")
    kept = {*policy.guardrails, policy.primary} if policy.guardrails else known.keys()
    chosen = tuple(one for one in requirements if one.id in kept)
    return chosen if any(one.metric == ERRORS for one in chosen) else (*chosen, _default_errors())


def unjudged(requirements: Sequence[Requirement], policy: Policy) -> tuple[str, ...]:
    """Return in words what no counts can show while serving, for which no step goes forward by itself."""
    asked = [one for one in watched(requirements, policy) if not judged_at_build(one)]
    return tuple(
        f"{told}: nothing judges it while serving, and no step goes forward by itself."
        for one in asked
        for told in uncounted(one)
    )


def judged_at_build(requirement: Requirement) -> bool:
    """Say whether the requirement is on the packed bundle, which does not change while it serves."""
    later = requirement.stages.get(Stage.ROLLOUT)
    return later is not None and later.inference is Inference.FIXED


def is_of_service(requirement: Requirement) -> bool:
    """Say whether it is on time or cost, of which copies of requests say nothing: they run behind others."""
    return LATENCY.fullmatch(requirement.metric) is not None or requirement.metric == "cost_per_thousand"


def uncounted(requirement: Requirement) -> tuple[str, ...]:
    """Return what of the requirement no counts can show while serving, in words; empty where all is shown."""
    way = _way(requirement.metric)
    if way is None:
        return (f"{requirement.metric} is not a rate or a mean of single requests",)
    if requirement.margin is not None and not way.has_margin:
        return (f"a margin of {requirement.metric} is not one of what is counted, only its bound is",)
    return ()


def _default_errors() -> Requirement:
    served = Estimator(measure=ERRORS, population="requests", inference=Inference.ALWAYS_VALID)
    return Requirement(
        id=f"{ERRORS}~stable",
        metric=ERRORS,
        direction=Direction.AT_MOST,
        margin=ERRORS_MARGIN,
        needs_labels=False,
        stages={Stage.ROLLOUT: served},
    )


def _of(requirement: Requirement) -> list[Claim]:
    way = _way(requirement.metric)
    if way is None or judged_at_build(requirement):
        return []
    found = []
    if requirement.bound is not None:
        found.append(_against_bound(requirement, way, requirement.bound))
    if requirement.margin is not None and way.has_margin:
        found.append(_against_stable(requirement, way, requirement.margin))
    return found


def _against_bound(requirement: Requirement, way: _Way, bound: float) -> Claim:
    worse = Worse.HIGHER if requirement.direction is Direction.AT_MOST else Worse.LOWER
    allowed, counted = _share_beyond(requirement.metric), way.counted
    if allowed is not None:
        allowance, counted = Allowance(bound=allowed), counted.format(f"{bound:g}")
    elif way.kind is Kind.GAP:
        allowance = Allowance(margin=min(bound, _MOST_MARGIN))
    else:
        edge = way.edge(bound)
        inside = min(max(edge, _INSIDE), 1 - _INSIDE) if way.kind is Kind.RATE else edge
        allowance = Allowance(worse=worse, bound=inside)
    return _claim(requirement, way, Against.BOUND, allowance, counted)


def _against_stable(requirement: Requirement, way: _Way, margin: float) -> Claim:
    worse = Worse.HIGHER if requirement.direction is Direction.AT_MOST else Worse.LOWER
    if _share_beyond(requirement.metric) is not None:
        beyond = f"what the stable release stayed below before the step, and of the candidate {margin:g} more"
        return _claim(requirement, way, Against.MARGIN, Allowance(), way.counted.format(beyond))
    allowed = margin if way.kind is Kind.MEAN else min(margin, _MOST_MARGIN)
    return _claim(requirement, way, Against.MARGIN, Allowance(worse=worse, margin=allowed), way.counted)


def _primary(requirements: Sequence[Requirement], name: str) -> Claim:
    found = next((one for one in requirements if one.id == name), None)
    if found is None:
        known = ", ".join(sorted(one.id for one in requirements)) or "none"
        raise UsageError(f"The primary metric `{name}` is no requirement. Known: {known}.")
    way = _way(found.metric)
    is_beyond = _share_beyond(found.metric) is not None
    if way is None or way.kind is Kind.GAP or judged_at_build(found) or (is_beyond and found.bound is None):
        raise UsageError(
            f"The primary metric `{name}` cannot be compared while serving: a rate, a mean, or a latency "
            "percentile with a bound is wanted."
        )
    worse = Worse.HIGHER if found.direction is Direction.AT_MOST else Worse.LOWER
    counted = way.counted.format(f"{found.bound:g}") if found.bound is not None else way.counted
    allowance = Allowance(worse=Worse.HIGHER if is_beyond else worse)
    return _claim(found, way, Against.BETTER, allowance, counted)


def _claim(requirement: Requirement, way: _Way, against: Against, allowance: Allowance, counted: str) -> Claim:
    stem = requirement.id.removesuffix("~stable")
    shifted = against is Against.MARGIN and _share_beyond(requirement.metric) is not None
    counts: tuple[str, ...] = (f"{stem}~stable" if shifted else requirement.id,)
    if requirement.metric == "equalized_odds_difference":
        counts = (f"{requirement.id} of positives", f"{requirement.id} of negatives")
    tails = {Against.BOUND: "", Against.MARGIN: "~stable", Against.BETTER: ">stable"}
    return Claim(
        key=stem + tails[against],
        requirement=requirement,
        kind=way.kind,
        against=against,
        allowance=allowance,
        counts=counts,
        counted=counted,
    )


def _way(metric: str) -> _Way | None:
    if LATENCY.fullmatch(metric):
        return _Way(kind=Kind.RATE, counted="requests that took more milliseconds than {}")
    if metric == "median_absolute_error":
        return _Way(kind=Kind.RATE, counted="labelled requests with a larger absolute error than {}")
    return _WAYS.get(metric)


def _share_beyond(metric: str) -> float | None:
    """Return the share that may lie beyond a percentile's bound; None for what is no percentile."""
    found = LATENCY.fullmatch(metric)
    if found:
        return 1 - int(found[1]) / 100
    return 0.5 if metric == "median_absolute_error" else None
