"""What goes forward, what holds, what goes back, and what is said of it."""

from __future__ import annotations

import msgspec
import pytest

from modelyard.core import codec
from modelyard.core.requirement import Estimator, Inference, Stage, Verdict
from modelyard.core.rollout import ArmCounts, Cause, Hits, Outcome, Policy, Step, Strategy, Totals, Window
from modelyard.errors import DataError, UsageError
from modelyard.rollout import StepState, begin, claims, decide, next_step, shares
from modelyard.rollout.decide import CRASH_LOOP
from tests.rollout.worlds import (
    ACCURACY,
    CANARY,
    CANDIDATE,
    COST,
    ERRORS,
    FIVE,
    GAP,
    GOOD,
    LATENCY,
    STABLE,
    Release,
    looks,
    policy_of,
    requirement,
    run,
    window,
    worse,
)

BAD = {
    "errors +2 points": (worse(errors=0.03), "error_rate"),
    "p95 beyond its bound": (worse(slow=0.12), "latency_p95_ms"),
    "accuracy down": (worse(right=0.78), "accuracy"),
    "cost ×2": (worse(cost=2.0), "cost_per_thousand"),
    "positive rate of one group −10 points": (worse(positives={"F": 0.2, "M": 0.32}), GAP.id),
}
START = begin(STABLE, [CANDIDATE], now=0.0)


def pair(ours: ArmCounts, theirs: ArmCounts) -> dict[str, Window]:
    return {STABLE: window(STABLE, theirs), CANDIDATE: window(CANDIDATE, ours)}


@pytest.mark.parametrize("name", list(BAD))
def test_a_regression_goes_back_and_names_its_requirement(name: str) -> None:
    candidate, broken = BAD[name]
    decision, state, _ = run(looks(1, candidate, batch=200), most=400)
    assert decision.outcome is Outcome.BACK
    assert decision.back[CANDIDATE].cause is Cause.REQUIREMENT
    assert [one.requirement for one in decision.rulings if one.verdict is Verdict.FAIL] == [broken]
    assert "Not kept" in decision.reason and "interval" in decision.reason
    assert shares(state, CANARY) == {STABLE: 1.0, CANDIDATE: 0.0}


def test_a_good_candidate_goes_forward() -> None:
    decision, _, _ = run(looks(2, GOOD, batch=500), most=400)
    assert decision.outcome is Outcome.FORWARD
    assert {one.verdict for one in decision.rulings} == {Verdict.PASS}


@pytest.mark.parametrize("asked", [{"least_samples": 10**6}, {"least_s": 10**6}])
def test_what_passed_waits_for_the_least_of_the_step(asked: dict[str, float]) -> None:
    decision, _, _ = run(looks(2, GOOD, batch=500), policy=policy_of(CANARY, **asked), most=250)
    assert decision.outcome is Outcome.HOLD
    assert {one.verdict for one in decision.rulings} == {Verdict.PASS}
    assert "at least" in decision.reason


def test_an_under_observed_candidate_holds_and_goes_back_in_the_end() -> None:
    policy = policy_of(CANARY, most_s=30.0)
    seen = looks(3, GOOD, batch=10)
    held, _, _ = run(seen, policy=policy, most=29)
    assert held.outcome is Outcome.HOLD
    decision, _, place = run(looks(3, GOOD, batch=10), policy=policy, most=100)
    assert (decision.outcome, place) == (Outcome.BACK, 30)
    assert decision.back[CANDIDATE].cause is Cause.TIME_LIMIT


def test_back_is_final_whatever_comes_later() -> None:
    _, state, _ = run(looks(1, worse(errors=0.2)), most=100)
    later, after = decide(next(looks(5, GOOD)), FIVE, CANARY, state, 1e6)
    assert later.outcome is Outcome.BACK
    assert after == state


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"not_finite_rows": 1}, "NaN or an infinity"),
        ({"restarts": CRASH_LOOP}, "crash loop"),
        ({"hung": 1}, "hung"),
        ({"memory_replaced": 1}, "memory"),
    ],
)
def test_a_deterministic_rule_takes_back_at_once(facts: dict[str, int], words: str) -> None:
    windows = {STABLE: window(STABLE), CANDIDATE: window(CANDIDATE, **facts)}
    decision, _ = decide(windows, FIVE, CANARY, START, 1.0)
    assert decision.outcome is Outcome.BACK
    assert decision.back[CANDIDATE].cause is Cause.RULE
    assert words in decision.reason


def test_fewer_restarts_than_a_crash_loop_hold() -> None:
    windows = {STABLE: window(STABLE), CANDIDATE: window(CANDIDATE, restarts=CRASH_LOOP - 1)}
    assert decide(windows, FIVE, CANARY, START, 1.0)[0].outcome is Outcome.HOLD


def test_what_befalls_the_stable_release_takes_no_candidate_back() -> None:
    windows = {STABLE: window(STABLE, hung=3, not_finite_rows=9), CANDIDATE: window(CANDIDATE)}
    assert decide(windows, FIVE, CANARY, START, 1.0)[0].outcome is Outcome.HOLD


def test_a_bound_that_both_releases_break_alike_is_an_incident() -> None:
    slow = worse(slow=0.12)
    decision, state, _ = run(looks(4, slow, stable=slow, batch=200), requirements=[ERRORS, LATENCY], most=200)
    assert decision.outcome is Outcome.INCIDENT
    assert CANDIDATE in state.running
    assert "an incident of both releases" in decision.reason


def test_a_bound_that_both_break_takes_back_the_candidate_that_is_worse() -> None:
    decision, _, _ = run(
        looks(4, worse(slow=0.3), stable=worse(slow=0.12), batch=200), requirements=[ERRORS, LATENCY], most=200
    )
    assert decision.outcome is Outcome.BACK


def test_with_all_of_the_traffic_a_broken_bound_goes_back_on_its_own() -> None:
    policy = Policy(strategy=Strategy.BLUE_GREEN)
    ours = ArmCounts(requests=500, rates={LATENCY.id: Hits(trials=500, hits=100)})
    decision, _ = decide(pair(ours, ArmCounts()), [LATENCY], policy, START, 1.0)
    assert decision.outcome is Outcome.BACK


def test_after_the_last_step_a_release_is_watched_and_never_goes_forward() -> None:
    policy = Policy(strategy=Strategy.ALL_AT_ONCE, most_s=1.0)
    ours = ArmCounts(requests=5000, rates={LATENCY.id: Hits(trials=5000, hits=10)})
    decision, _ = decide(pair(ours, ArmCounts()), [LATENCY], policy, START, 1e6)
    assert decision.outcome is Outcome.HOLD


def test_without_labels_the_proxy_is_named_and_nothing_goes_forward() -> None:
    rows = {"classes": {"no": 700, "yes": 300}}
    ours = msgspec.convert(
        {**rows, "requests": 1000, "agreement": {"trials": 1000, "hits": 970.0}}, ArmCounts, strict=False
    )
    theirs = ArmCounts(requests=1000, classes={"no": 760, "yes": 240})
    decision, _ = decide(pair(ours, theirs), [ACCURACY], policy_of(CANARY), START, 1.0)
    ruling = next(one for one in decision.rulings if one.requirement == "accuracy")
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert "needs labels" in ruling.reason
    assert "97 %" in ruling.reason
    assert "differ by 6 %" in ruling.reason


def test_the_proxy_of_a_regression_is_how_far_its_answers_moved() -> None:
    numbers = [Totals(count=1000, total=mean * 1000, squares=(mean**2 + 1) * 1000) for mean in (5.0, 4.0)]
    ours, theirs = (ArmCounts(requests=1000, outputs=one) for one in numbers)
    mae = requirement("mae", margin=0.1, labels=True)
    decision, _ = decide(pair(ours, theirs), [mae], CANARY, START, 1.0)
    assert "+1 on average" in decision.rulings[0].reason


@pytest.mark.parametrize("metric", ["calibration_error", "r2", "average_precision"])
def test_what_no_counts_show_is_never_a_pass(metric: str) -> None:
    decision, _ = decide(pair(ArmCounts(), ArmCounts()), [requirement(metric, bound=0.1)], CANARY, START, 1.0)
    assert decision.rulings[0].verdict is Verdict.INCONCLUSIVE
    assert "nothing here judges it" in decision.rulings[0].reason


def test_what_was_judged_at_build_is_passed_over_with_its_reason() -> None:
    built = Estimator(measure="size_mb", population="packed bundle", inference=Inference.FIXED)
    size = msgspec.structs.replace(requirement("size_mb", bound=5.0), stages={Stage.ROLLOUT: built})
    decision, _ = decide(pair(ArmCounts(), ArmCounts()), [size], CANARY, START, 1.0)
    assert decision.rulings[0].verdict is Verdict.PASS
    assert "judged at build" in decision.rulings[0].reason


def test_errors_are_judged_though_no_requirement_speaks_of_them() -> None:
    decision, _, _ = run(looks(1, worse(errors=0.1), batch=200), requirements=[LATENCY], most=100)
    assert decision.outcome is Outcome.BACK
    assert decision.rulings[-1].requirement == "error_rate~stable"


def test_a_degraded_answer_counts_as_an_error() -> None:
    ours = ArmCounts(requests=500, degraded=100)
    decision, _ = decide(pair(ours, ArmCounts(requests=4500)), [ERRORS], CANARY, START, 1.0)
    assert decision.outcome is Outcome.BACK


def test_tests_go_on_from_step_to_step() -> None:
    policy = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1), Step(share=0.5, least_samples=300)), most_s=1e9)
    decision, state, _ = run(looks(2, GOOD, batch=500), policy=policy, most=400)
    assert decision.outcome is Outcome.FORWARD
    moved = next_step(state, policy, now=500.0)
    assert shares(moved, policy) == {STABLE: 0.5, CANDIDATE: 0.5}
    seen = looks(8, GOOD, batch=200, share=0.5)
    first, moved = decide(next(seen), FIVE, policy, moved, 501.0)
    assert first.outcome is Outcome.HOLD
    while first.outcome is Outcome.HOLD:
        first, moved = decide(next(seen), FIVE, policy, moved, 502.0)
    assert first.outcome is Outcome.FORWARD
    assert moved.seen[CANDIDATE].requests < 600


def test_a_split_that_is_off_stops_an_experiment() -> None:
    policy = Policy(strategy=Strategy.EXPERIMENT, steps=(Step(share=0.5),), primary="accuracy")
    decision, state, _ = run(looks(1, GOOD, share=0.4), policy=policy, most=200)
    assert decision.outcome is Outcome.STOP_EXPERIMENT
    assert "not split as configured" in decision.reason
    assert decide({}, FIVE, policy, state, 1e6)[0].outcome is Outcome.STOP_EXPERIMENT


def test_a_split_that_is_off_holds_a_canary() -> None:
    decision, _, _ = run(looks(2, GOOD, share=0.2, batch=500), most=200)
    assert decision.outcome is Outcome.HOLD
    assert "not split as configured" in decision.reason


def test_a_better_candidate_wins_an_experiment() -> None:
    policy = Policy(strategy=Strategy.EXPERIMENT, steps=(Step(share=0.5),), primary="accuracy", most_s=1e9)
    decision, _, _ = run(looks(1, worse(right=0.9), share=0.5, batch=500), policy=policy, most=200)
    assert (decision.outcome, decision.winner) == (Outcome.FORWARD, CANDIDATE)


def test_of_several_candidates_the_bad_one_leaves_and_the_others_go_on() -> None:
    names = ["income@2", "income@3"]
    policy = Policy(strategy=Strategy.EXPERIMENT, steps=(Step(share=0.4),), primary="accuracy", most_s=1e9)
    state = begin(STABLE, names, now=0.0)
    good = ArmCounts(requests=2000, errors=20)
    bad = ArmCounts(requests=2000, errors=400)
    windows = {STABLE: window(STABLE, ArmCounts(requests=6000, errors=60))}
    windows |= {name: window(name, counts) for name, counts in zip(names, (good, bad), strict=True)}
    decision, state = decide(windows, [ACCURACY], policy, state, 1.0)
    assert decision.outcome is Outcome.HOLD
    assert list(decision.back) == ["income@3"]
    assert shares(state, policy) == {STABLE: 0.8, "income@2": 0.2, "income@3": 0.0}


def test_a_controller_killed_at_every_look_decides_the_same() -> None:
    state = kept = START
    seen, again = (looks(1, worse(errors=0.02)) for _ in range(2))
    for place in range(60):
        decision, state = decide(next(seen), FIVE, CANARY, state, float(place))
        kept = codec.decode(codec.encode(kept), StepState)
        same, kept = decide(next(again), FIVE, CANARY, kept, float(place))
        assert same == decision
    assert kept == state


def test_counts_that_fell_are_refused() -> None:
    _, state = decide(pair(ArmCounts(requests=10), ArmCounts(requests=90)), [ERRORS], CANARY, START, 1.0)
    with pytest.raises(DataError, match=r"fell: requests was 10 .* is 9"):
        decide(pair(ArmCounts(requests=9), ArmCounts(requests=90)), [ERRORS], CANARY, state, 2.0)


def test_a_requirement_that_changed_meanwhile_is_refused() -> None:
    windows = pair(ArmCounts(requests=10), ArmCounts(requests=90))
    _, state = decide(windows, [ERRORS], CANARY, START, 1.0)
    with pytest.raises(UsageError, match="stay as they were"):
        decide(windows, [requirement("error_rate", margin=0.5)], CANARY, state, 2.0)


def test_a_missing_window_is_told() -> None:
    with pytest.raises(DataError, match="no window of `income@2`"):
        decide({STABLE: window(STABLE)}, FIVE, CANARY, START, 1.0)


def test_the_level_is_shared_over_all_that_is_tested() -> None:
    both = requirement("error_rate", bound=0.1, margin=0.01)
    assert [one.key for one in claims([both, COST, GAP], CANARY)] == [
        "error_rate", "error_rate~stable", "cost_per_thousand~stable", f"{GAP.id}~stable",
    ]  # fmt: skip


def test_a_group_gap_beyond_its_bound_goes_back() -> None:
    gap = requirement(GAP.id, bound=0.1, group="sex")
    bad = Release(positives={"F": 0.1, "M": 0.32})
    decision, _, _ = run(looks(1, bad, batch=200), requirements=[gap], most=200)
    assert decision.outcome is Outcome.BACK
    assert "where F" in decision.reason


@pytest.mark.parametrize(
    ("strategy", "given"),
    [
        (Strategy.CANARY, ()),
        (Strategy.CANARY, (0.5, 0.1)),
        (Strategy.CANARY, (0.0, 0.1)),
        (Strategy.SHADOW_CANARY, (0.1, 0.5)),
        (Strategy.BLUE_GREEN, (0.5,)),
        (Strategy.EXPERIMENT, (0.5,)),
    ],
)
def test_steps_that_do_not_fit_a_strategy_are_refused(strategy: Strategy, given: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        Policy(strategy=strategy, steps=tuple(Step(share=share) for share in given))
