"""The choice and the gate: by the objective, among those that keep the rest; and what stands in the way is said."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from modelyard.core.requirement import Estimator, Inference, Slice, Stage, Verdict
from modelyard.errors import RequirementInconclusive, RequirementNotMet
from modelyard.evaluate.choose import choose
from modelyard.evaluate.evaluation import judged, passed_over, require
from modelyard.evaluate.timing import observe_timings
from tests.evaluate.making import answers_of, contender, guess, question, requirement, table, timings

VALID = table(900)
GOOD, FAIR, POOR = guess(VALID), guess(VALID, noise=1.0), answers_of(np.full(900, 0.4))


def test_the_best_by_the_objective_is_chosen_and_the_others_say_how_far_they_are() -> None:
    found = choose(question(), VALID, [contender("poor", POOR), contender("fair", FAIR), contender("good", GOOD)])
    assert [one.candidate for one in found] == ["good", "fair", "poor"]
    assert [one.chosen for one in found] == [True, False, False]
    assert found[0].gap is None and found[0].reason.startswith("best roc_auc on the validation rows")
    gap = found[2].gap
    assert gap is not None and gap.high is not None and gap.high < 0 and found[2].reason == "clearly behind `good`"
    values = [one.objective.value for one in found if one.objective is not None and one.objective.value is not None]
    assert values == sorted(values, reverse=True) and gap.value == pytest.approx(values[2] - values[0])


def test_an_error_is_better_when_lower() -> None:
    found = choose(question(objective="log_loss"), VALID, [contender("poor", POOR), contender("good", GOOD)])
    assert found[0].candidate == "good"


def test_one_that_breaks_a_requirement_gives_way_to_the_next_best() -> None:
    asked = question(requirement("latency_p95_ms", 5.0))
    slow, quick = contender("slow", GOOD, single_ms=10.0), contender("quick", FAIR)
    found = choose(asked, VALID, [slow, quick])
    assert [one.candidate for one in found] == ["quick", "slow"]
    assert "among those that break no requirement" in found[0].reason
    assert found[1].reason.startswith("breaks a requirement on the validation rows")
    assert found[0].latency_p95_ms == pytest.approx(1.95, rel=0.01) and found[0].size_mb == 2.0


def test_where_all_break_one_the_best_goes_on_and_it_is_said() -> None:
    found = choose(
        question(requirement("latency_p95_ms", 0.1)), VALID, [contender("fair", FAIR), contender("good", GOOD)]
    )
    assert found[0].candidate == "good" and "every candidate breaks a requirement there" in found[0].reason


def test_equals_go_by_the_order_of_the_spec_and_are_named() -> None:
    found = choose(question(), VALID, [contender("first", GOOD), contender("second", GOOD)])
    assert found[0].candidate == "first" and "these rows cannot tell it from `second`" in found[0].reason


def test_a_requirement_of_another_stage_does_not_choose() -> None:
    asked = question(requirement("latency_p95_ms", 0.1, stage=Stage.LIVE))
    assert all(not one.judgements for one in choose(asked, VALID, [contender("good", GOOD)]))


def test_every_requirement_of_the_build_is_judged_on_what_it_names() -> None:
    asked = question(
        requirement("accuracy", 0.5),
        requirement("accuracy", 0.99, slice=Slice(column="sex", value="F")),
        requirement("demographic_parity_difference", 0.5, group="sex"),
        requirement("size_mb", 1.0),
        requirement("recall", 0.5, slice=Slice(column="sex", value="nobody")),
    )
    found = judged(asked, VALID, GOOD, timings(), rng=np.random.default_rng(0))
    assert [one.verdict for one in found] == [
        Verdict.PASS, Verdict.FAIL, Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
    ]  # fmt: skip


def test_the_gate_names_what_is_not_met_and_what_cannot_be_told() -> None:
    rng = np.random.default_rng(0)
    met, broken, open_one, accepted = (
        judged(question(one), VALID, GOOD, timings(), rng=rng)[0]
        for one in (
            requirement("accuracy", 0.5),
            requirement("size_mb", 1.0),
            requirement("recall", 0.5, slice=Slice(column="sex", value="nobody")),
            requirement("recall", 0.5, slice=Slice(column="sex", value="nobody"), accept=True),
        )
    )
    require([], where="`x`")
    require([met, accepted], where="`x`")
    with pytest.raises(RequirementNotMet, match="`x`: 1 requirement is not met") as caught:
        require([met, broken, open_one], where="`x`")
    assert caught.value.exit_code == 3 and caught.value.reasons == (broken.reason,)
    with pytest.raises(RequirementInconclusive, match="2 requirements are inconclusive") as held:
        require([met, open_one, open_one], where="`x`")
    assert held.value.exit_code == 4


def test_timings_are_told_in_the_units_of_their_metrics() -> None:
    seen = {one.metric: one for one in observe_timings(timings(), confidence=0.95, price_per_cpu_hour=0.36)}
    value = {name: one.value for name, one in seen.items()}
    assert value["latency_p50_ms"] == pytest.approx(1.4995, abs=0.002)
    assert value["latency_p95_ms"] == pytest.approx(1.95, abs=0.002)
    assert value["latency_p99_ms"] == pytest.approx(1.99, abs=0.002)
    assert value["batch_latency_p95_ms"] == 4.0 and value["throughput_rows_per_s"] == pytest.approx(60_000)
    assert value["cost_per_thousand"] == pytest.approx(0.002 * 1000 / 3600 * 0.36)
    assert value["memory_mb"] == 12.5 and value["size_mb"] == 2.0
    assert seen["latency_p95_ms"].samples == 1000 and seen["size_mb"].low == seen["size_mb"].high == 2.0


def test_what_a_build_cannot_see_is_passed_over_with_its_reason_and_lets_the_release_pass() -> None:
    errors = requirement("error_rate", 0.01, stage=Stage.ROLLOUT)
    against = replace(requirement("accuracy", 0.9, stage=Stage.ROLLOUT), bound=None, margin=0.01)
    asked = question(requirement("accuracy", 0.5), errors, against)
    found = judged(asked, VALID, GOOD, timings(), rng=np.random.default_rng(0))
    assert [one.requirement.metric for one in found] == ["accuracy"]
    require(found, where="here")
    serving, margin = passed_over(asked.requirements)
    assert serving.requirement == errors and "counted while a release serves" in serving.reason
    assert margin.requirement == against and "a margin against the stable release" in margin.reason
    assert all("neither met nor broken" in one.reason for one in (serving, margin))


@pytest.mark.parametrize(("bound", "verdict"), [(0.5, Verdict.PASS), (0.99, Verdict.FAIL)])
def test_a_margin_beside_a_bound_is_passed_over_at_build_and_the_bound_judged(bound: float, verdict: Verdict) -> None:
    both = replace(requirement("accuracy", bound), margin=0.03)
    served = Estimator(measure="accuracy", population="labelled requests", inference=Inference.ALWAYS_VALID)
    both = replace(both, stages={**both.stages, Stage.ROLLOUT: served})
    [found] = judged(question(both), VALID, GOOD, timings(), rng=np.random.default_rng(0))
    assert (found.verdict, found.requirement) == (verdict, both)
    assert "margin of 0.03" in found.reason and found.reason.endswith("it is judged at rollout.")
    if verdict is Verdict.PASS:
        require([found], where="here")


def test_a_margin_of_what_no_request_shows_is_told_to_be_judged_nowhere() -> None:
    size = replace(requirement("size_mb", 9.0), margin=1.0)
    [found] = judged(question(size), VALID, GOOD, timings(), rng=np.random.default_rng(0))
    assert found.verdict is Verdict.PASS and "nothing of the kind either" in found.reason
