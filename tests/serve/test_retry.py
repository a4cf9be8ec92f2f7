"""The retry budget, against a plain count of what the window holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.serve.guard.retry import FLOOR, RetryBudget
from modelyard.serve.guard.window import BUCKETS


def test_a_tenth_of_the_requests_may_be_tried_again() -> None:
    budget = RetryBudget(0.0)
    budget.asked(0.0, by=500)
    assert [budget.take(0.5) for _ in range(51)] == [True] * 50 + [False]


def test_a_quiet_service_has_a_few_retries_all_the_same() -> None:
    budget = RetryBudget(0.0)
    assert [budget.take(0.0) for _ in range(FLOOR + 1)] == [True] * FLOOR + [False]


def test_the_floor_comes_in_place_of_the_share_and_not_on_top_of_it() -> None:
    budget = RetryBudget(0.0, share=0.1, floor=5)
    budget.asked(0.0, by=40)
    assert [budget.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    budget.asked(0.0, by=20)
    assert [budget.take(0.0) for _ in range(2)] == [True, False]


def test_what_was_taken_comes_back_when_the_window_has_passed() -> None:
    budget = RetryBudget(0.0, floor=1)
    assert budget.take(0.0)
    assert not budget.take(9.9)
    assert budget.take(10.0)


def test_a_share_of_nothing_allows_nothing() -> None:
    budget = RetryBudget(0.0, share=0.0)
    budget.asked(0.0, by=10_000)
    assert not budget.take(0.0)


STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 64, 65, 200, 700]), st.integers(0, 40), st.integers(0, 6)), max_size=40
)


@given(steps=STEPS)
def test_no_window_ever_has_more_retries_than_the_budget_says(steps: list[tuple[int, int, int]]) -> None:
    budget = RetryBudget(0.0, share=0.1, floor=3, window_s=10.0)
    now = 0.0
    asked: list[float] = []
    taken: list[float] = []
    for ticks, requests, wanted in steps:
        now += ticks / 64
        budget.asked(now, by=requests)
        asked += [now] * requests
        for _ in range(wanted):
            allowed = budget.take(now)
            inside = [sum(when // 1 > now // 1 - BUCKETS for when in times) for times in (asked, taken)]
            assert allowed == (inside[1] + 1 <= max(3, 0.1 * inside[0]))
            taken += [now] * allowed
