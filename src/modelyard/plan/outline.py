"""The plan of a build: parts of the table, candidates, budget, and every check with what it can resolve."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelyard.core.contract import Contract, Kind, Part, Prepared, Role
from modelyard.core.metrics import METRICS, NOT_OF_ANSWERS
from modelyard.core.requirement import Requirement, Stage
from modelyard.core.space import Budget, Choice, Dimension, Fixed, Plan
from modelyard.plan.resolution import half_width

_TRIED = {
    "baseline": "what any other must beat",
    "linear": "the plainest model; quick, small, and hard to overfit",
    "lightgbm": "boosted trees, most often the best on tables",
    "random_forest": "averaged trees; little to tune",
    "mlp": "a small network, where smooth interactions matter",
    "function": "your own",
}


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A heading and its lines."""

    title: str
    lines: tuple[str, ...]


def outline(
    *, name: str, objective: str, prepared: Prepared, plans: Sequence[Plan], budget: Budget,
    requirements: Sequence[Requirement], threshold: str, fallback: Sequence[str],
    rollout: Sequence[str],
) -> tuple[Section, ...]:  # fmt: skip
    """Return what a run will do and check, and why."""
    return (
        Section(title="Data", lines=tuple(_data(prepared))),
        Section(title="Columns", lines=tuple(_columns(prepared.contract))),
        Section(title="Found in the data", lines=tuple(_found(prepared)) or ("nothing to say",)),
        Section(title="Candidates", lines=tuple(_candidates(plans, prepared, objective))),
        Section(title="Budget", lines=tuple(_budget(budget, plans))),
        Section(title="Threshold", lines=(threshold,)),
        Section(title="Checks", lines=tuple(_checks(requirements, prepared))),
        Section(title="Always", lines=_ALWAYS),
        Section(title="Way back", lines=tuple(fallback)),
        Section(title="Rollout", lines=tuple(rollout)),
        Section(title="Outcome", lines=(f"a release of `{name}`, or the reasons why there is none",)),
    )


_ALWAYS = (
    "pipeline, packed bundle and served endpoint answer every test row alike, within 1e-5; else the next best is tried",
    "the test rows' labels are looked at once, on the packed bundle that would be sealed",
    "before sealing, workers, threads and batches are measured on this machine, in some 20 s at most",
    "a check that the rows cannot decide is inconclusive, and inconclusive does not pass",
)


def _data(prepared: Prepared) -> list[str]:
    parts = prepared.rows
    set_aside = f", {prepared.rows_quarantined} set aside as malformed" if prepared.rows_quarantined else ""
    return [
        f"{prepared.rows_read} rows read{set_aside}; {prepared.split_method}",
        f"{parts[Part.TRAIN]} to train on, {parts[Part.CALIBRATE]} to calibrate probabilities, "
        f"{parts[Part.VALID]} to choose on, {parts[Part.TEST]} to test on",
    ]


def _columns(contract: Contract) -> list[str]:
    lines = []
    for role in Role:
        named = contract.with_role(role)
        if named:
            lines.append(
                f"{role}: " + ", ".join(f"{column.name} ({_kind(column.kind, column.distinct)})" for column in named)
            )
    return lines


def _kind(kind: Kind, distinct: int) -> str:
    return f"{kind}, {distinct} values" if kind is Kind.CATEGORY else str(kind)


def _found(prepared: Prepared) -> list[str]:
    return [*(f"possible leak: {leak.reason}" for leak in prepared.leaks), *prepared.notes]


def _candidates(plans: Sequence[Plan], prepared: Prepared, objective: str) -> list[str]:
    better = "higher" if METRICS[objective].higher_is_better else "lower"
    lines = [f"judged by {objective}, {better} is better, on {prepared.rows[Part.VALID]} validation rows"]
    for plan in plans:
        searched = [f"{name} {_dimension(one)}" for name, one in plan.space.items() if not isinstance(one, Fixed)]
        tail = f"; searched: {', '.join(searched)}" if searched else "; one trial"
        lines.append(f"{plan.name}: {_TRIED.get(plan.algorithm, plan.algorithm)}{tail}")
    return lines


def _dimension(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        return "one of " + ", ".join(str(value) for value in dimension.values)
    if isinstance(dimension, Fixed):
        return str(dimension.value)
    return f"{dimension.low:g} to {dimension.high:g}"


def _budget(budget: Budget, plans: Sequence[Plan]) -> list[str]:
    bound = (
        f"{budget.trials} trials"
        if budget.trials is not None
        else f"{budget.seconds:g} s; each candidate's first trial is the probe that tells how many trials that buys"
    )
    return [
        f"{bound}, over {len(plans)} candidates",
        f"each fit in a process of its own, at most {budget.trial_timeout_s:g} s, {budget.memory_mb} MB, "
        f"{budget.threads} side by side, one thread each",
    ]


def _checks(requirements: Sequence[Requirement], prepared: Prepared) -> list[str]:
    lines = []
    for requirement in requirements:
        stages = ", ".join(
            f"{stage} ({one.population}, {one.inference.replace('_', ' ')})"
            for stage, one in requirement.stages.items()
        )
        lines.append(f"{_sentence(requirement)}: at {stages}{_projection(requirement, prepared)}")
    return lines or ["no requirement is written; nothing will stop a release but parity"]


def _sentence(requirement: Requirement) -> str:
    where = f" where {requirement.slice}" if requirement.slice else ""
    where += f" by {requirement.group}" if requirement.group else ""
    wanted = (
        [f"{requirement.direction.replace('_', ' ')} {requirement.bound:g}"] if requirement.bound is not None else []
    )
    if requirement.margin is not None:
        wanted.append(f"no more than {requirement.margin:g} worse than the stable release")
    return f"{requirement.metric}{where} {' and '.join(wanted)}, confidence {requirement.confidence:g}"


def _projection(requirement: Requirement, prepared: Prepared) -> str:
    metric = METRICS[requirement.metric]
    if Stage.BUILD not in requirement.stages or metric.needs in NOT_OF_ANSWERS or requirement.slice:
        return ""
    width = half_width(requirement, prepared)
    if width is None or requirement.bound is None:
        return ""
    sign = 1 if metric.higher_is_better else -1
    return (
        f"; projection: {prepared.rows[Part.TEST]} test rows resolve about ±{width:.2g}, "
        f"so {requirement.bound + sign * width:.4g} or better will be needed to pass"
    )
