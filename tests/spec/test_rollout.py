"""How a release takes over: what the spec may say of it, what is told where it does not fit, and its policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.drill import DEFAULT_DRILLS
from modelyard.core.rollout import Step, Strategy
from modelyard.errors import UsageError
from modelyard.spec import explain, reopen
from modelyard.spec.requirements import RequirementSpec
from modelyard.spec.rollout import RolloutSpec, StepSpec, check_rollout
from tests.spec.making import LEAST, faults, loaded, only

ACCURACY = "requirements:\n  - {metric: accuracy, at_least: 0.8}\n  - {metric: recall, margin: 0.1}\n"
SAMPLES = "  - {metric: size_mb, at_most: 9}\n"
STAGING = LEAST + "environment: staging\n"


def rollout(more: str, *, before: str = LEAST) -> str:
    return f"{before}rollout: {{{more}}}\n"


def test_what_is_not_said_is_one_switch(tmp_path: Path) -> None:
    policy = loaded(tmp_path, LEAST).spec.policy()
    assert policy.strategy is Strategy.ALL_AT_ONCE and policy.steps == ()


def test_a_canary_is_a_word_away_and_has_its_own_steps(tmp_path: Path) -> None:
    policy = loaded(tmp_path, rollout("strategy: canary")).spec.policy()
    assert policy.strategy is Strategy.CANARY and [step.share for step in policy.steps] == [0.1, 0.5]
    assert (policy.level, policy.pass_level, policy.most_s, policy.keep_warm_s) == (0.05, 0.05, 86_400.0, 600.0)
    assert (policy.primary, policy.guardrails) == (None, ())


def test_what_is_said_reaches_the_policy(tmp_path: Path) -> None:
    steps = "steps: [{share: 0, least_samples: 50}, {share: 0.2, least_time_s: 30}]"
    text = rollout(f"strategy: shadow_canary, {steps}, level: 0.01, pass_level: 0.1, limit_hours: 2")
    policy = loaded(tmp_path, f"{text}serving: {{keep_warm_s: 7}}\n").spec.policy()
    assert policy.steps == (Step(share=0.0, least_samples=50), Step(share=0.2, least_s=30.0))
    assert (policy.level, policy.pass_level, policy.most_s, policy.keep_warm_s) == (0.01, 0.1, 7200.0, 7.0)


@given(own=st.sampled_from(Strategy), asked=st.none() | st.sampled_from(Strategy))
def test_any_strategy_can_be_asked_for_and_has_steps_that_fit_it(own: Strategy, asked: Strategy | None) -> None:
    section = RolloutSpec(strategy=own, primary="accuracy", guardrails=("recall~stable",))
    policy = section.policy(asked, keep_warm_s=600.0)
    is_experiment = (asked or own) is Strategy.EXPERIMENT
    assert policy.strategy is (asked or own)
    assert (policy.primary, policy.guardrails) == (("accuracy", ("recall~stable",)) if is_experiment else (None, ()))


@given(
    strategy=st.sampled_from(Strategy),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99]), max_size=3),
    primary=st.sampled_from([None, "accuracy", "size_mb", "nothing"]),
    guardrails=st.lists(st.sampled_from(["accuracy", "size_mb", "nothing"]), max_size=2),
)
def test_a_section_without_a_fault_always_gives_a_policy(
    strategy: Strategy, shares: list[float], primary: str | None, guardrails: list[str]
) -> None:
    section = RolloutSpec(
        strategy=strategy,
        steps=tuple(StepSpec(share=share) for share in shares),
        primary=primary,
        guardrails=tuple(guardrails),
    )
    lines = (RequirementSpec(metric="accuracy", at_least=0.8), RequirementSpec(metric="size_mb", at_most=9.0))
    if not list(check_rollout(section, lines, in_sandbox=True)):
        assert section.policy(keep_warm_s=0.0).strategy is strategy


def test_the_own_steps_are_kept_where_the_own_strategy_is_asked_for() -> None:
    section = RolloutSpec(strategy=Strategy.CANARY, steps=(StepSpec(share=0.3),))
    assert section.policy(Strategy.CANARY, keep_warm_s=0.0).steps == (Step(share=0.3),)
    assert section.policy(Strategy.BLUE_GREEN, keep_warm_s=0.0).steps == ()


def test_an_experiment_without_a_primary_metric_says_where_to_name_one() -> None:
    with pytest.raises(UsageError, match=r"`rollout.primary` names none"):
        RolloutSpec().policy(Strategy.EXPERIMENT, keep_warm_s=0.0)


@pytest.mark.parametrize(
    "more",
    [
        "strategy: all_at_once",
        "strategy: blue_green, key_header: x-customer",
        "strategy: experiment, primary: accuracy, guardrails: [recall~stable], steps: [{share: 0.3}]",
        "primary: recall~stable",
        "drills: [disk_full], drill_max_age_days: 0.5",
        "expected_requests_per_s: 0.25",
    ],
)
def test_what_goes_together_is_taken(tmp_path: Path, more: str) -> None:
    assert faults(tmp_path, rollout(more, before=LEAST + ACCURACY)) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("strategy: canry", 'rollout.strategy: saw "canry", wanted one of all_at_once'),
        ("strategy: blue_green, steps: [{share: 0.1}]", "rollout.steps: saw shares 0.1, wanted others for blue_green"),
        ("steps: [{share: 0.1}]", "it takes no steps, and `strategy: canary` does"),
        ("strategy: canary, steps: [{share: 0.5}, {share: 0.1}]", "rising shares inside (0, 1) are wanted"),
        ("strategy: canary, steps: [{share: 0}]", "saw shares 0, wanted others for canary"),
        ("strategy: shadow_canary, steps: [{share: 0.1}]", "0 and then rising shares"),
        ("steps: [{share: 1}]", "rollout.steps[0].share: saw 1, wanted a number of at least 0 and below 1"),
        ("steps: [{least_samples: 3}]", "rollout.steps[0].share: saw no such line"),
        ("level: 0", "rollout.level: saw 0, wanted a number above 0 and at most 0.5"),
        ("limit_hours: 0", "rollout.limit_hours"),
        ("strategy: experiment", "rollout.primary: saw nothing for an experiment, wanted the id of a requirement"),
        ("primary: acuracy", "(nearest: accuracy)"),
        (
            "primary: recall",
            "wanted the id of a requirement: accuracy, recall~stable, size_mb (nearest: recall~stable)",
        ),
        ("primary: size_mb", "a metric of single requests"),
        ("guardrails: [accuracy, nothing]", 'rollout.guardrails[1]: saw "nothing", which is no requirement'),
        ("key_header: X-Key", "the name of a header in lower case"),
        ("drills: [worker_kiled]", "(nearest: worker_killed)"),
        ("drills: []", "rollout.drills"),
        ("drills: [disk_full, disk_full]", "rollout.drills[1]: saw disk_full a second time"),
        ("drill_max_age_days: 0", "rollout.drill_max_age_days"),
        ("expected_requests_per_s: 0", "rollout.expected_requests_per_s"),
        ("keep_warm_s: 3", "an unknown field"),
    ],
)
def test_what_does_not_is_told_with_its_line(tmp_path: Path, more: str, told: str) -> None:
    found = only(tmp_path, rollout(more, before=LEAST + ACCURACY + SAMPLES))
    assert told in found and found.startswith("8: rollout.")


def test_a_fault_in_a_requirement_hides_what_was_concluded_from_it_alone(tmp_path: Path) -> None:
    text = rollout("primary: recal, level: 2", before=LEAST + "requirements: [{metric: recal, at_least: 1}]\n")
    assert [line.split(":")[1].strip() for line in faults(tmp_path, text)] == [
        "requirements[0].metric",
        "rollout.level",
    ]


def test_outside_a_sandbox_the_way_back_is_among_what_is_rehearsed(tmp_path: Path) -> None:
    assert "no rollback_service outside a sandbox" in only(tmp_path, rollout("drills: [disk_full]", before=STAGING))
    assert faults(tmp_path, rollout("drills: [rollback_service]", before=STAGING)) == []


def test_a_spec_that_was_sealed_before_there_was_such_a_section_has_its_defaults(tmp_path: Path) -> None:
    sealed = json.loads(loaded(tmp_path, LEAST).spec.canonical())
    del sealed["rollout"]
    spec = reopen(json.dumps(sealed).encode())
    assert spec.rollout == RolloutSpec() and spec.rollout.drills == DEFAULT_DRILLS
    assert spec.policy().strategy is Strategy.ALL_AT_ONCE


def test_the_steps_that_a_strategy_brings_are_explained(tmp_path: Path) -> None:
    told = explain(loaded(tmp_path, rollout("strategy: shadow_canary")))
    assert "rollout.steps = [{share: 0, least_time_s: 60, least_samples: 100}, {share: 0.1," in told
