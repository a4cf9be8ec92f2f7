"""The schedule is pure: what it may spend, what it tries first, what it drops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.candidate import Trial, TrialState
from modelyard.core.space import Budget, Choice, Fixed, Plan
from modelyard.train.schedule import (
    MOST_FAILURES_IN_A_ROW,
    TOLERANCE,
    expected_trials,
    next_turn,
    seconds_left,
)


def plan(name: str, *, varies: bool = True) -> Plan:
    space: dict[str, Choice | Fixed] = {"p": Choice(values=(1, 2)) if varies else Fixed(value=1)}
    return Plan(name=name, algorithm=name, encoding="tree", space={**space})


def trial(number: int, candidate: str, *, spent_s: float = 1.0, value: float | None = 0.5) -> Trial:
    state = TrialState.CRASHED if value is None else TrialState.DONE
    return Trial(number=number, candidate=candidate, params={}, state=state, value=value, spent_s=spent_s)


PLANS = st.lists(st.booleans(), min_size=1, max_size=5).map(
    lambda flags: [plan(f"c{place}", varies=varies) for place, varies in enumerate(flags)]
)
SEEDS = st.integers(0, 2**32 - 1)
THREADS = st.integers(1, 4)


def simulate(plans: list[Plan], budget: Budget, seed: int, *, typical_s: float, fails: float = 0.2) -> list[Trial]:
    """Run a search whose trials take time by candidate and by chance, cut off where the search cuts them."""
    rng = np.random.default_rng(seed)
    speed = {one.name: typical_s * float(rng.lognormal(0, 0.5)) for one in plans}
    trials: list[Trial] = []
    while names := next_turn(plans, trials, budget):
        took = max(speed[name] * float(rng.lognormal(0, 0.4)) for name in names)
        left = seconds_left(trials, budget)
        if left is not None and budget.seconds is not None:
            took = min(took, left + TOLERANCE * budget.seconds)
        for name in names:
            value = None if rng.random() < fails else float(rng.normal())
            trials.append(trial(len(trials), name, spent_s=took / len(names), value=value))
        assert len(trials) < 20_000
    return trials


@given(plans=PLANS, trials=st.integers(1, 60), threads=THREADS, seed=SEEDS)
def test_a_budget_in_trials_is_never_exceeded_and_spent_while_anything_varies(
    plans: list[Plan], trials: int, threads: int, seed: int
) -> None:
    seen = simulate(plans, Budget(trials=trials, threads=threads), seed, typical_s=1.0, fails=0.0)
    assert len(seen) == (trials if any(one.varies for one in plans) else min(trials, len(plans)))


@given(plans=PLANS, seed=SEEDS, threads=THREADS, fails=st.sampled_from([0.0, 0.3, 1.0]))
def test_each_candidate_is_tried_once_before_any_is_tried_again(
    plans: list[Plan], seed: int, threads: int, fails: float
) -> None:
    for budget in (Budget(trials=30, threads=threads), Budget(seconds=100.0, threads=threads)):
        seen = [one.candidate for one in simulate(plans, budget, seed, typical_s=1.0, fails=fails)]
        assert seen[: len(plans)] == [one.name for one in plans][: len(seen)]
        fixed = {one.name for one in plans if not one.varies}
        assert not fixed & set(seen[len(plans) :])


@given(plans=PLANS.filter(lambda plans: any(one.varies for one in plans)), threads=THREADS, seed=SEEDS)
def test_a_budget_in_seconds_is_kept_within_a_tenth_when_trials_are_short(
    plans: list[Plan], threads: int, seed: int
) -> None:
    seen = simulate(plans, Budget(seconds=100.0, threads=threads), seed, typical_s=1.0, fails=0.0)
    assert 90.0 <= sum(one.spent_s for one in seen) <= 110.0


@given(plans=PLANS, seed=SEEDS, threads=THREADS, typical=st.floats(0.5, 500.0), fails=st.floats(0.0, 1.0))
def test_a_budget_in_seconds_is_never_exceeded_by_more_than_a_tenth(
    plans: list[Plan], seed: int, threads: int, typical: float, fails: float
) -> None:
    seen = simulate(plans, Budget(seconds=100.0, threads=threads), seed, typical_s=typical, fails=fails)
    assert sum(one.spent_s for one in seen) <= 100.0 * (1 + TOLERANCE) + 1e-9


@given(plans=PLANS, seed=SEEDS, threads=THREADS, seconds=st.booleans())
def test_a_search_resumed_after_any_turn_goes_the_same_way(
    plans: list[Plan], seed: int, threads: int, seconds: bool
) -> None:
    budget = Budget(seconds=60.0, threads=threads) if seconds else Budget(trials=40, threads=threads)
    seen = simulate(plans, budget, seed, typical_s=2.0)
    done = 0
    while names := next_turn(plans, seen[:done], budget):
        assert list(names) == [one.candidate for one in seen[done : done + len(names)]]
        done += len(names)
    assert done == len(seen)


def test_a_candidate_that_keeps_failing_is_dropped() -> None:
    plans, budget = [plan("good"), plan("bad")], Budget(trials=100, threads=1)
    seen = [trial(0, "good"), *(trial(1 + place, "bad", value=None) for place in range(MOST_FAILURES_IN_A_ROW))]
    following = []
    for _ in range(12):
        (name,) = next_turn(plans, seen, budget)
        following.append(name)
        seen.append(trial(len(seen), name))
    assert set(following) == {"good"}
    assert next_turn(plans[1:], seen[1 : 1 + MOST_FAILURES_IN_A_ROW], budget) == ()


def test_three_turns_in_four_go_to_the_leader_and_the_fourth_to_the_one_that_had_least() -> None:
    plans = [plan("a"), plan("b"), plan("c")]
    values = {"a": 0.1, "b": 0.9, "c": 0.2}
    seen: list[Trial] = []
    while names := next_turn(plans, seen, Budget(trials=19, threads=1)):
        seen.extend(trial(len(seen), name, value=values[name]) for name in names)
    assert [one.candidate for one in seen[3:]] == [*"bbba", *"bbbc", *"bbba", *"bbbc"]


def test_a_candidate_too_slow_for_what_is_left_gives_way_to_a_quicker_one() -> None:
    plans = [plan("slow"), plan("quick")]
    seen = [trial(0, "slow", spent_s=30.0, value=0.9), trial(1, "quick", spent_s=1.0, value=0.1)]
    assert next_turn(plans, seen, Budget(seconds=100.0, threads=2)) == ("slow", "slow")
    assert next_turn(plans, seen, Budget(seconds=80.0, threads=2)) == ("quick", "quick")
    assert next_turn(plans, seen, Budget(seconds=80.0, threads=1)) == ("slow",)
    assert next_turn(plans, seen, Budget(seconds=31.0, threads=1)) == ()


def test_seconds_lost_count_as_spent() -> None:
    plans, seen = [plan("a")], [trial(0, "a", spent_s=10.0)]
    assert seconds_left(seen, Budget(seconds=60.0), lost_s=15.0) == 35.0
    assert next_turn(plans, seen, Budget(seconds=60.0), lost_s=49.9) == ()
    assert next_turn(plans, [], Budget(seconds=60.0), lost_s=60.0) == ()


def test_how_many_trials_seconds_buy_is_told_from_those_that_ended() -> None:
    plans, budget = [plan("a"), plan("still", varies=False)], Budget(seconds=100.0)
    assert expected_trials(plans, [], budget) == 0
    assert expected_trials(plans, [trial(0, "a", spent_s=2.0), trial(1, "still", spent_s=48.0)], budget) == 2 + 25
    assert expected_trials(plans, [], Budget(trials=7)) == 7


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(300))
def test_budgets_are_kept_over_many_kinds_of_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plans = [plan(f"c{place}") for place in range(int(rng.integers(1, 6)))]
    seen = simulate(plans, Budget(seconds=60.0), seed, typical_s=float(rng.uniform(0.05, 1.5)), fails=0.05)
    assert 54.0 <= sum(one.spent_s for one in seen) <= 66.0
