"""Hours that a rollout is projected to need."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from modelyard.core.rollout import Outcome, Policy, Step, Strategy
from modelyard.errors import UsageError
from modelyard.rollout import plan
from modelyard.rollout.plan import Observed
from tests.rollout.worlds import ACCURACY, CANARY, COST, ERRORS, FIVE, GAP, GOOD, LATENCY, looks, requirement, run

OBSERVED = {
    "error_rate~stable": Observed(mean=0.01),
    "latency_p95_ms": Observed(mean=0.03),
    "accuracy~stable": Observed(mean=0.85),
    "cost_per_thousand~stable": Observed(mean=1.0, spread=1.0),
    f"{GAP.id}~stable": Observed(mean=0.32, other=0.3, part=0.6),
}


def test_half_of_the_rollouts_end_near_the_hours_projected() -> None:
    told = plan(FIVE, CANARY, OBSERVED, requests_per_s=500.0).steps[0]
    assert told.usual_hours is not None
    seconds = [run(looks(seed, GOOD, batch=500), most=600) for seed in range(8)]
    assert all(decision.outcome is Outcome.FORWARD for decision, _, _ in seconds)
    median = float(np.median([place for _, _, place in seconds])) / 3600
    assert told.usual_hours / 3 < median < told.usual_hours * 3


def test_it_tells_how_many_pass_in_the_time_that_a_step_may_last() -> None:
    told = plan(FIVE, CANARY, OBSERVED, requests_per_s=1.0).steps[0]
    assert None not in (told.usual_hours, told.long_hours, told.sure_hours)
    for hours, part in ((told.usual_hours, 0.5), (told.long_hours, 0.8), (told.sure_hours, 0.95)):
        policy = msgspec.structs.replace(CANARY, most_s=3600 * (hours or 0.0))
        found = plan(FIVE, policy, OBSERVED, requests_per_s=1.0)
        assert found.steps[0].passing == pytest.approx(part, abs=0.002)
        assert (f"are enough for {part:.0%} of them" in found.words) == (part < 0.95)


def test_a_step_shorter_than_its_least_samples_take_lets_none_pass() -> None:
    policy = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1, least_samples=1000),), most_s=100.0)
    assert plan(FIVE, policy, OBSERVED, requests_per_s=10.0).steps[0].passing == 0.0


def test_twice_the_traffic_halves_the_hours() -> None:
    slow, fast = (plan(FIVE, CANARY, OBSERVED, requests_per_s=rate).steps[0].long_hours for rate in (10.0, 20.0))
    assert slow == pytest.approx(2 * (fast or 0.0))


def test_labels_that_come_for_one_request_in_ten_take_ten_times_as_long() -> None:
    rare = {"accuracy~stable": Observed(mean=0.85, seen=0.1)}
    often = {"accuracy~stable": Observed(mean=0.85)}
    first, second = (
        plan([ACCURACY], CANARY, seen | OBSERVED_ERRORS, requests_per_s=10.0).steps[0].claims[0]
        for seen in (rare, often)
    )
    assert first.usual == pytest.approx(10 * (second.usual or 0.0))


OBSERVED_ERRORS = {"error_rate~stable": OBSERVED["error_rate~stable"]}


def test_later_steps_take_their_least_only() -> None:
    steps = (Step(share=0.1), Step(share=0.5, least_s=7200.0))
    policy = Policy(strategy=Strategy.CANARY, steps=steps)
    assert plan(FIVE, policy, OBSERVED, requests_per_s=100.0).steps[1].long_hours == 2.0


@pytest.mark.parametrize(
    ("required", "seen", "words"),
    [
        (requirement("error_rate", margin=0.0), {"error_rate~stable": Observed(mean=0.01)}, "never"),
        (LATENCY, {"latency_p95_ms": Observed(mean=0.08)}, "is not within what is allowed"),
        (COST, {}, "nothing of the kind was observed"),
        (requirement("r2", bound=0.5, at_least=True), {}, "nothing judges it while serving"),
    ],
)
def test_what_never_passes_is_told_before(required: object, seen: dict[str, Observed], words: str) -> None:
    told = plan([required], CANARY, OBSERVED_ERRORS | seen, requests_per_s=10.0)  # type: ignore[list-item]
    assert told.steps[0].usual_hours is None
    assert words in told.words


def test_mirrored_traffic_needs_fewer_requests() -> None:
    steps = (Step(share=0.0), Step(share=0.1))
    shadow = Policy(strategy=Strategy.SHADOW_CANARY, steps=steps)
    first, second = (plan([ERRORS], one, OBSERVED, requests_per_s=10.0).steps[0] for one in (shadow, CANARY))
    assert (first.usual_hours or 0.0) < (second.usual_hours or 0.0)


def test_a_bound_on_a_gap_is_planned_on_the_candidates_rows() -> None:
    gap = requirement(GAP.id, bound=0.1, group="sex")
    told = plan([gap], CANARY, OBSERVED_ERRORS | {GAP.id: OBSERVED[f"{GAP.id}~stable"]}, requests_per_s=10.0)
    assert told.steps[0].usual_hours is not None


def test_the_more_a_margin_of_a_percentile_leaves_the_fewer_requests_it_takes() -> None:
    latency = requirement("latency_p95_ms", margin=5.0)

    def usual(beyond: float) -> float:
        seen = OBSERVED_ERRORS | {"latency_p95_ms~stable": Observed(mean=0.05, other=beyond)}
        return plan([latency], CANARY, seen, requests_per_s=10.0).steps[0].claims[0].usual or float("inf")

    assert usual(0.01) < usual(0.03) < usual(0.05) == float("inf")


def test_no_traffic_is_refused() -> None:
    with pytest.raises(UsageError, match="above 0"):
        plan(FIVE, CANARY, OBSERVED, requests_per_s=0.0)
