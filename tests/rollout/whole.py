"""Whole rollouts, simulated: from the first step to all of the traffic or back, through `decide` and the course."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelyard.core.requirement import Requirement
from modelyard.core.rollout import Policy, Step, Strategy, Watch
from modelyard.rollout.course import Course, Seen, begin, follow, move
from modelyard.rollout.decide import decide
from modelyard.rollout.plan import Observed, StepProjection, plan
from tests.rollout.worlds import ACCURACY, CANDIDATE, COST, ERRORS, GOOD, LATENCY, STABLE, Release, looks, window

FOUR = (ERRORS, LATENCY, ACCURACY, COST)
SHARES = (0.1, 0.5)
LOOKS = 80  # in the longest time of a step


def observed() -> dict[str, Observed]:
    """Return what is seen of the stable release of these worlds, as a plan asks for it."""
    return {
        f"{ERRORS.id}~stable": Observed(mean=GOOD.errors),
        LATENCY.id: Observed(mean=GOOD.slow),
        f"{ACCURACY.id}~stable": Observed(mean=GOOD.right),
        f"{COST.id}~stable": Observed(mean=GOOD.cost, spread=GOOD.cost),
    }


def planned(*, requests_per_s: float = 1.0) -> StepProjection:
    """Return what the plan says of the first step, which waits for the verdicts."""
    return plan(FOUR, pace(), observed(), requests_per_s=requests_per_s).steps[0]


def enough_requests() -> float:
    """Return the requests that are enough, by the plan, for 19 in 20 good candidates."""
    hours = planned().sure_hours
    assert hours is not None
    return hours * 3600


def one_look_requests() -> int:
    """Return the requests after which a test with one look passes a good candidate with a power of 90 %, of each."""
    return math.ceil(max(claim.one_look or math.inf for claim in planned().claims))


def pace(*, steps: Sequence[float] = SHARES, looks: int = LOOKS) -> Policy:
    """Return a canary whose steps last at most so many looks, a second apart."""
    return Policy(
        strategy=Strategy.CANARY,
        steps=tuple(Step(share=share) for share in steps),
        most_s=float(looks),
        keep_warm_s=3.0,
    )


def rollout(
    seed: int,
    candidate: Release = GOOD,
    *,
    requests: float,
    policy: Policy | None = None,
    requirements: Sequence[Requirement] = FOUR,
    labels: bool = True,
) -> Course:
    """Return the course of a rollout that has ended; so many requests come in the longest time of a step."""
    policy = policy or pace()
    batch = max(1, math.ceil(requests / policy.most_s))
    course = begin(
        id="r", service="income", by="test", policy=policy, requirements=requirements, stable=STABLE,
        candidates=[CANDIDATE], epoch=1, now=0.0, watch=Watch(),
    )  # fmt: skip
    now, epoch, seen = 0.0, course.epoch, None
    while course.ended is None:
        now += 1
        if seen is None or course.epoch != epoch:  # the fronts follow a new table: counts begin at 0
            epoch, share = course.epoch, policy.share_at(course.state.step)
            seen = looks(seed * 100 + course.state.step, candidate, batch=batch, share=share, labels=labels)
            course = follow(course, {name: Seen(window=window(name)) for name in (STABLE, CANDIDATE)}, now)
            continue
        windows = next(seen)
        decision, state = decide(windows, course.requirements, course.policy, course.state, now)
        course = move(course, decision, state, windows, now)
    return course
