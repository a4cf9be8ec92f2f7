"""The root of a spec: one system, from its goal to how it is served."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

from pydantic import Field

from modelyard.core import codec
from modelyard.core.contract import Role
from modelyard.core.metrics import Task
from modelyard.core.requirement import Requirement
from modelyard.core.rollout import Policy, Strategy
from modelyard.core.space import Plan
from modelyard.spec.budget import BudgetSpec, check_budget
from modelyard.spec.candidates import (
    DEFAULT_CANDIDATES,
    NAME,
    NAME_WANTED,
    CandidateSpec,
    check_candidate,
    check_candidate_names,
    with_baseline,
)
from modelyard.spec.data import DataSpec, check_data, shares
from modelyard.spec.faults import Fault
from modelyard.spec.requirements import (
    DEFAULT_OBJECTIVE,
    QualityName,
    RequirementSpec,
    ThresholdSpec,
    check_objective,
    check_requirement,
    check_requirement_names,
    check_threshold,
    threshold_in_effect,
)
from modelyard.spec.rollout import RolloutSpec, check_rollout
from modelyard.spec.section import Section
from modelyard.spec.serving import ServingSpec, check_serving
from modelyard.spec.task import TaskSpec, check_task
from modelyard.spec.world import World

FORMAT: Literal[1] = 1


class Environment(StrEnum):
    """Where the system lives; how strict operations are goes by it."""

    SANDBOX = "sandbox"
    STAGING = "staging"
    PRODUCTION = "production"


class System(Section):
    """One system: what it is for, what it learns from, what must hold, how it is built and served."""

    modelyard: Literal[1] = Field(default=FORMAT, description="Version of the spec's format.")
    name: str = Field(
        pattern=NAME,
        description="Name of the system; its releases are NAME@1, NAME@2 and so on.",
        json_schema_extra={"x-wanted": NAME_WANTED},
    )
    goal: str = Field(default="", max_length=10_000, description="What the system is for, in words; shown on the card.")
    environment: Environment = Field(
        default=Environment.SANDBOX,
        description="Where it lives; a sandbox skips tickets, approvals and proven ways back, and logs that it did.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of everything random.")
    task: TaskSpec = Field(description="What the model answers.")
    data: DataSpec = Field(description="Where the rows are, how they are read and split.")
    objective: QualityName | None = Field(
        default=None,
        description="Metric the search makes as good as it can; by default roc_auc for two classes, "
        "log_loss for more, r2 for a regression.",
    )
    requirements: tuple[RequirementSpec, ...] = Field(
        default=(), max_length=200, description="What must hold: gate at build, verdict on the canary, live alert."
    )
    threshold: ThresholdSpec | None = Field(
        default=None,
        description="How the threshold of two classes is chosen; by default 0.5, or the best f1 where a requirement "
        "bounds a label metric.",
    )
    candidates: tuple[CandidateSpec, ...] = Field(
        default=DEFAULT_CANDIDATES,
        min_length=1,
        max_length=50,
        description="Ways to meet the task that are tried; a baseline always is.",
    )
    budget: BudgetSpec = Field(default=BudgetSpec(), description="What the search for a model may spend.")
    serving: ServingSpec = Field(
        default=ServingSpec(), description="How a release is served, and what answers when it cannot."
    )
    rollout: RolloutSpec = Field(
        default=RolloutSpec(), description="How a release takes over from the one before, and what is rehearsed."
    )

    def objective_for(self, task: Task) -> str:
        """Return the metric that the search makes as good as it can."""
        return self.objective or DEFAULT_OBJECTIVE[task]

    def requirement_records(self) -> tuple[Requirement, ...]:
        """Return the requirements as every room knows them, in the order of the spec."""
        columns = self.data.columns.items()
        kept_back = {name for name, column in columns if column.role not in (None, Role.FEATURE)}
        return tuple(line.record(kept_back) for line in self.requirements)

    def threshold_in_effect(self) -> ThresholdSpec | None:
        """Return how the threshold of a binary task is chosen; None means 0.5."""
        return threshold_in_effect(self.threshold, self.requirements)

    def split_shares(self) -> tuple[float, float, float]:
        """Return the shares of test, calibrate and valid that are in effect."""
        return shares(self.data, self.task)

    def plans(self) -> tuple[Plan, ...]:
        """Return the candidates as the search sees them, a baseline among them."""
        rows = self.split_shares()[1] > 0
        return tuple(one.plan(calibrate=rows) for one in with_baseline(self.candidates))

    def policy(self, strategy: Strategy | None = None) -> Policy:
        """Return the pace of a rollout, by the spec's strategy or by another; raises as `RolloutSpec.policy`."""
        return self.rollout.policy(strategy, keep_warm_s=self.serving.keep_warm_s)

    def canonical(self) -> bytes:
        """Return the spec with all its defaults as canonical JSON."""
        return codec.encode(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON; where the spec stands does not matter to it."""
        return codec.digest(self.canonical())


def reopen(canonical: bytes) -> System:
    """Return the spec in canonical JSON, as a bundle holds it; the world is not looked at."""
    return System.model_validate_json(canonical)


def check(system: System, world: World) -> Iterator[Fault]:
    """Yield all that does not go together, with itself or with the world."""
    yield from check_task(system.task)
    yield from check_data(system.data, system.task, world)
    yield from check_objective(system.objective, system.task)
    for index, line in enumerate(system.requirements):
        yield from check_requirement(line, index, system.task, system.data)
    yield from check_requirement_names(system.requirements)
    yield from check_threshold(system.threshold, system.requirements, system.task)
    for index, candidate in enumerate(system.candidates):
        yield from check_candidate(candidate, index, system.task, system.data.split)
    yield from check_candidate_names(system.candidates)
    yield from check_budget(system.budget, world)
    yield from check_serving(system.serving, system.task)
    in_sandbox = system.environment is Environment.SANDBOX
    yield from check_rollout(system.rollout, system.requirements, in_sandbox=in_sandbox)
