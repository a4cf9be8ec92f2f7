"""`rollout`: how a release takes over from the one before, and what was rehearsed before it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from modelyard.core.drill import DEFAULT_DRILLS, DRILL_MAX_AGE_DAYS, WAY_BACK
from modelyard.core.metrics import Needs
from modelyard.core.release import ROUTING_KEY
from modelyard.core.rollout import Policy, Step, Strategy, steps_wanted
from modelyard.errors import UsageError
from modelyard.spec.faults import Fault, Place, listed, nearest, quoted
from modelyard.spec.requirements import ONLY_ON_THE_BUNDLE, RequirementSpec
from modelyard.spec.section import Section

HEADER = r"^[a-z0-9!#$%&'*+.^_`|~\-]{1,64}$"
MOST_STEPS = 20


def _known_drill(kind: str) -> str:
    if kind not in DEFAULT_DRILLS:
        raise ValueError("unknown")
    return kind


DrillName = Annotated[str, AfterValidator(_known_drill), Field(json_schema_extra={"enum": list(DEFAULT_DRILLS)})]


class StepSpec(Section):
    """One share of the traffic, and the least that is seen at it before the next."""

    share: float = Field(
        ge=0, lt=1, description="Share of the traffic that the new release answers; 0 mirrors requests to it."
    )
    least_time_s: float = Field(default=0.0, ge=0, le=2_592_000, description="Least time that the step lasts.")
    least_samples: int = Field(
        default=0, ge=0, le=1_000_000_000, description="Least requests that the new release has answered."
    )

    def record(self) -> Step:
        """Return the step as every room knows it."""
        return Step(share=self.share, least_s=self.least_time_s, least_samples=self.least_samples)


# The first step waits for every verdict, so a much smaller share would take that much longer.
_CANARY = (
    StepSpec(share=0.1, least_time_s=60.0, least_samples=100),
    StepSpec(share=0.5, least_time_s=60.0, least_samples=100),
)
DEFAULT_STEPS: dict[Strategy, tuple[StepSpec, ...]] = {
    Strategy.ALL_AT_ONCE: (),
    Strategy.BLUE_GREEN: (),
    Strategy.CANARY: _CANARY,
    Strategy.SHADOW_CANARY: (StepSpec(share=0.0, least_time_s=60.0, least_samples=100), *_CANARY),
    Strategy.EXPERIMENT: (StepSpec(share=0.5, least_time_s=60.0, least_samples=100),),
}


class RolloutSpec(Section):
    """How a release takes over from the one before, judged by the requirements, and what was rehearsed before."""

    strategy: Strategy = Field(
        default=Strategy.ALL_AT_ONCE,
        description="How the traffic moves. all_at_once and blue_green are one switch, the release before kept warm "
        "for `serving.keep_warm_s`; blue_green is watched for that long, and goes back by itself. Write `canary` for "
        "a release that goes step by step, judged by the requirements; a shadow_canary is mirrored first; an "
        "experiment runs until `primary` tells which is better. `modelyard deploy --strategy` names another once.",
    )
    steps: tuple[StepSpec, ...] = Field(
        default=(),
        max_length=MOST_STEPS,
        description="Shares of the traffic on the way to all of it; none means the strategy's own: 10 % and 50 % of a "
        "canary, mirrored before them of a shadow_canary, half of an experiment. The first waits for every verdict.",
    )
    level: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="Chance that a release that keeps every requirement is taken back, over all looks together.",
    )
    pass_level: float = Field(
        default=0.05, gt=0, le=0.5, description="Chance that a requirement that is not kept passes, over all looks."
    )
    limit_hours: float = Field(
        default=24.0, gt=0, le=8760, description="Time that a step may take; one without a verdict then goes back."
    )
    primary: str | None = Field(
        default=None,
        min_length=1,
        description="Requirement whose metric an experiment compares, by its id; such as `accuracy`, "
        "`recall@sex=Female`, or `accuracy~stable` where it has a margin alone.",
    )
    guardrails: tuple[str, ...] = Field(
        default=(), max_length=200, description="Ids of what an experiment must keep; none means every requirement."
    )
    key_header: str = Field(
        default=ROUTING_KEY,
        pattern=HEADER,
        description="Header whose value keeps a caller with one release while two answer.",
        json_schema_extra={"x-wanted": "the name of a header in lower case, such as x-routing-key"},
    )
    drills: tuple[DrillName, ...] = Field(
        default=DEFAULT_DRILLS,
        min_length=1,
        max_length=len(DEFAULT_DRILLS),
        description="What `modelyard drill` rehearses; outside a sandbox a deploy needs a passed rollback_service.",
    )
    drill_max_age_days: float = Field(
        default=DRILL_MAX_AGE_DAYS, gt=0, le=3650, description="Age beyond which a passed drill proves nothing more."
    )
    expected_requests_per_s: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        description="Traffic of the whole service, from which `modelyard plan` tells the hours of each step.",
    )

    def steps_in_effect(self, strategy: Strategy | None = None) -> tuple[StepSpec, ...]:
        """Return the steps of the section's own strategy, or of another one: that one's defaults."""
        if strategy is None or strategy is self.strategy:
            return self.steps or DEFAULT_STEPS[self.strategy]
        return DEFAULT_STEPS[strategy]

    def policy(self, strategy: Strategy | None = None, *, keep_warm_s: float) -> Policy:
        """Return the pace of a rollout.

        Args:
            strategy: one for this rollout alone; by default the section's own.
            keep_warm_s: time that the release before stays loaded, which `serving` says.
        Raises: UsageError for an experiment where the section names no primary metric.
        """
        chosen = strategy or self.strategy
        is_experiment = chosen is Strategy.EXPERIMENT
        if is_experiment and self.primary is None:
            raise UsageError(
                "A rollout by experiment has no primary metric: `rollout.primary` names none. "
                "Set it to the id of the requirement that tells which release is better, and build again."
            )
        return Policy(
            strategy=chosen,
            steps=tuple(step.record() for step in self.steps_in_effect(chosen)),
            level=self.level,
            pass_level=self.pass_level,
            most_s=self.limit_hours * 3600.0,
            keep_warm_s=keep_warm_s,
            primary=self.primary if is_experiment else None,
            guardrails=self.guardrails if is_experiment else (),
        )


def check_rollout(rollout: RolloutSpec, lines: Sequence[RequirementSpec], *, in_sandbox: bool) -> Iterator[Fault]:
    """Yield what does not go together in a rollout."""
    yield from _check_steps(rollout)
    yield from _check_primary(rollout, lines)
    yield from _check_guardrails(rollout, lines)
    for index, kind in enumerate(rollout.drills):
        if kind in rollout.drills[:index]:
            first = rollout.drills.index(kind)
            yield Fault(
                place=("rollout", "drills", index), seen=f"{kind} a second time", wanted="each drill once",
                also=("rollout", "drills", first),
            )  # fmt: skip
    if WAY_BACK not in rollout.drills and not in_sandbox:
        yield Fault(
            place=("rollout", "drills"), seen=f"no {WAY_BACK} outside a sandbox",
            wanted=f"{WAY_BACK} among them: without it every deploy is refused there", reads=(("environment",),),
        )  # fmt: skip


def _check_steps(rollout: RolloutSpec) -> Iterator[Fault]:
    """Yield a fault where the steps do not fit the strategy; none at all stand for its defaults."""
    if not rollout.steps:
        return
    shares = [step.share for step in rollout.steps]
    wanted = steps_wanted(rollout.strategy, shares)
    if wanted:
        takes_none = not DEFAULT_STEPS[rollout.strategy]
        wanted += ", and `strategy: canary` does" if takes_none else ""
        yield Fault(
            place=("rollout", "steps"), seen=f"shares {listed([f'{share:g}' for share in shares])}",
            wanted=f"others for {rollout.strategy.value}: {wanted}", reads=(("rollout", "strategy"),),
        )  # fmt: skip


def _check_primary(rollout: RolloutSpec, lines: Sequence[RequirementSpec]) -> Iterator[Fault]:
    here: Place = ("rollout", "primary")
    if rollout.primary is None:
        if rollout.strategy is Strategy.EXPERIMENT:
            yield Fault(
                place=here, seen="nothing for an experiment", wanted=_one_of(lines), reads=(("rollout", "strategy"),),
            )  # fmt: skip
        return
    found = next((line for line in lines if line.name == rollout.primary), None)
    if found is None:
        yield _unknown(here, rollout.primary, lines)
    elif found.known.needs is Needs.GROUPS or found.metric in ONLY_ON_THE_BUNDLE:
        yield Fault(
            place=here, seen=quoted(rollout.primary), wanted="a metric of single requests, which two releases can be "
            "compared by while they serve", reads=(("requirements",),),
        )  # fmt: skip


def _check_guardrails(rollout: RolloutSpec, lines: Sequence[RequirementSpec]) -> Iterator[Fault]:
    for index, name in enumerate(rollout.guardrails):
        if name not in [line.name for line in lines]:
            yield _unknown(("rollout", "guardrails", index), name, lines)


def _unknown(place: Place, name: str, lines: Sequence[RequirementSpec]) -> Fault:
    names = [line.name for line in lines]
    return Fault(
        place=place, seen=f"{quoted(name)}, which is no requirement", wanted=_one_of(lines),
        nearest=nearest(name, names), reads=(("requirements",),),
    )  # fmt: skip


def _one_of(lines: Sequence[RequirementSpec]) -> str:
    names = [line.name for line in lines]
    return f"the id of a requirement: {listed(names) if names else 'there is none yet'}"
