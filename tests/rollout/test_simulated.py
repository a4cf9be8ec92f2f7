"""Many simulated rollouts through `decide` itself."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from modelyard.core.requirement import Verdict
from modelyard.core.rollout import Cause, Outcome
from modelyard.measure.exact import proportion_interval
from tests.rollout.worlds import CANARY, CANDIDATE, FIVE, GOOD, WATCHED, Release, looks, policy_of, run, worse

LEVEL = WATCHED.level


def fails(seed: int, batch: int, requests: int) -> bool:
    """Say whether a release fails beside itself, watched to the end."""
    stable = worse(positives={"F": 0.3, "M": 0.3})
    seen = looks(seed, stable, stable=stable, batch=batch)
    decision, _, _ = run(seen, policy=WATCHED, most=requests // batch)
    return decision.outcome is Outcome.BACK and decision.back[CANDIDATE].cause is Cause.REQUIREMENT


def test_the_same_release_rarely_fails() -> None:
    experiments = 150
    wrong = sum(fails(seed, batch=250, requests=10_000) for seed in range(experiments))
    assert proportion_interval(wrong, experiments, 0.95)[0] <= LEVEL


@pytest.mark.soak
def test_the_same_release_rarely_fails_with_a_look_after_every_ten_requests() -> None:
    experiments = 2000
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        each = [range(experiments), [10] * experiments, [10_000] * experiments]
        wrong = sum(pool.map(fails, *each, chunksize=10))
    assert proportion_interval(wrong, experiments, 0.95)[0] <= LEVEL


def test_good_candidates_go_forward_where_the_traffic_suffices() -> None:
    ended = [run(looks(seed, GOOD, batch=1000), most=300)[0].outcome for seed in range(20)]
    assert ended.count(Outcome.FORWARD) >= 19


def test_an_under_observed_candidate_never_goes_forward() -> None:
    policy = policy_of(CANARY, most_s=20.0)
    ended = [run(looks(seed, GOOD, batch=50), policy=policy, most=20)[0] for seed in range(20)]
    assert {one.back[CANDIDATE].cause for one in ended} == {Cause.TIME_LIMIT}


@pytest.mark.parametrize(
    "candidate",
    [worse(errors=0.04), worse(slow=0.1), worse(right=0.78), worse(cost=2.0), worse(positives={"F": 0.2, "M": 0.32})],
)
def test_every_regression_is_taken_back(candidate: Release) -> None:
    for seed in range(4):
        decision, _, _ = run(looks(seed, candidate, batch=500), requirements=FIVE, most=400)
        assert decision.outcome is Outcome.BACK
        assert decision.back[CANDIDATE].cause is Cause.REQUIREMENT
        decided = [one for one in decision.rulings if one.verdict is not Verdict.INCONCLUSIVE]
        assert decided and all(one.samples_expected is None for one in decided)  # nothing more is waited for
