"""Whole rollouts, simulated to their end."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from modelyard.core.rollout import Cause, How
from modelyard.measure.exact import proportion_interval
from tests.rollout.whole import enough_requests, rollout
from tests.rollout.worlds import CANDIDATE, worse

LITTLE = 0.05  # of what is enough


def reaches_all(seed: int) -> bool:
    return ended(seed, 1.0) is How.PROMOTED


def ended(seed: int, times: float) -> How:
    course = rollout(seed, requests=times * enough_requests())
    assert course.ended is not None
    return course.ended.how


def test_a_good_candidate_reaches_all_of_the_traffic_by_itself_where_the_plan_says_that_the_traffic_suffices() -> None:
    assert sum(map(reaches_all, range(100))) >= 95


@pytest.mark.soak
def test_a_good_candidate_reaches_all_of_the_traffic_in_nearly_all_of_many_runs() -> None:
    runs = 1000
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        good = sum(pool.map(reaches_all, range(runs), chunksize=20))
    assert proportion_interval(good, runs, 0.95)[0] >= 0.95


def test_a_candidate_that_too_little_is_seen_of_never_reaches_all_of_the_traffic() -> None:
    assert {ended(seed, LITTLE) for seed in range(15)} == {How.TAKEN_BACK}


def test_a_candidate_whose_labels_never_come_goes_back_at_the_time_limit() -> None:
    for course in map(partial(rollout, requests=enough_requests(), labels=False), range(5)):
        assert course.ended is not None
        assert course.ended.how is How.TAKEN_BACK
        assert course.state.back[CANDIDATE].cause is Cause.TIME_LIMIT
        assert "accuracy" in course.ended.reason


def test_a_bad_candidate_is_taken_back_long_before_the_time_limit() -> None:
    for seed in range(10):
        course = rollout(seed, worse(errors=0.06), requests=enough_requests())
        assert course.state.back[CANDIDATE].cause is Cause.REQUIREMENT
        assert course.state.step == 0
