"""The plan names what will be done, and says that a projection is one."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Slice, Stage
from modelyard.core.space import Budget, Choice, Fixed, Plan, Range
from modelyard.plan.outline import Section, outline
from tests.release.samples import binary

PLANS = (
    Plan(name="baseline", algorithm="baseline", encoding="tree", space={}),
    Plan(
        name="trees", algorithm="lightgbm", encoding="tree",
        space={
            "learning_rate": Range(low=0.01, high=0.3, log=True), "max_trees": Fixed(value=100),
            "kind": Choice(values=("a", "b")),
        },
    ),
)  # fmt: skip
AT_BUILD = {Stage.BUILD: Estimator(measure="roc_auc", population="test rows", inference=Inference.FIXED)}


def sections(requirements: Sequence[Requirement] = (), budget: Budget | None = None) -> dict[str, Section]:
    made = outline(
        name="income", objective="roc_auc", prepared=binary().prepared, plans=PLANS,
        budget=budget or Budget(seconds=60.0), requirements=requirements, threshold="0.5", fallback=("refuse",),
        rollout=("canary",),
    )  # fmt: skip
    return {section.title: section for section in made}


def test_each_candidate_is_told_with_what_is_searched() -> None:
    lines = sections()["Candidates"].lines
    assert any(line.startswith("baseline") and "one trial" in line for line in lines)
    assert any(
        "learning_rate 0.01 to 0.3" in line and "kind one of a, b" in line and "max_trees" not in line for line in lines
    )


def test_a_budget_in_seconds_says_how_it_becomes_trials() -> None:
    assert "probe" in sections()["Budget"].lines[0]
    assert sections(budget=Budget(trials=7))["Budget"].lines[0].startswith("7 trials")


def test_a_check_is_told_with_its_stage_and_a_projection_that_says_so() -> None:
    bound = Requirement(id="a", metric="roc_auc", direction=Direction.AT_LEAST, bound=0.9, stages=AT_BUILD)
    (line,) = sections([bound])["Checks"].lines
    assert "roc_auc at least 0.9" in line and "build (test rows, fixed)" in line and "projection" in line


def test_a_slice_gets_no_projection_for_its_rows_are_not_counted_yet() -> None:
    bound = Requirement(
        id="a",
        metric="roc_auc",
        direction=Direction.AT_LEAST,
        bound=0.9,
        stages=AT_BUILD,
        slice=Slice(column="sex", value="Female"),
    )
    (line,) = sections([bound])["Checks"].lines
    assert "where sex=Female" in line and "projection" not in line


def test_a_spec_without_requirements_is_told_what_that_means() -> None:
    assert "nothing will stop a release but parity" in sections()["Checks"].lines[0]
