"""How a release takes over: what is planned, what was observed of each release, what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

import msgspec

from modelyard.core.requirement import Slice, Verdict
from modelyard.errors import UsageError

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Level = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Strategy(StrEnum):
    """How a release takes over the traffic."""

    ALL_AT_ONCE = "all_at_once"
    BLUE_GREEN = "blue_green"  # both warm, one switch, the old one kept warm
    CANARY = "canary"  # step by step
    SHADOW_CANARY = "shadow_canary"  # mirrored first, then step by step
    EXPERIMENT = "experiment"  # side by side until a primary metric tells which is better


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One share of the traffic, and the least that is seen at it. A share of 0 is mirrored traffic."""

    share: Share
    least_s: Seconds = 0.0
    least_samples: Count = 0  # requests of the candidate


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pace of a rollout. How good a release must be stands in the requirements alone.

    Raises: UsageError where the steps or metrics do not fit the strategy.
    """

    strategy: Strategy
    steps: tuple[Step, ...] = ()
    level: Level = 0.05  # chance of a wrong fail over all requirements and looks together
    pass_level: Level = 0.05  # chance that a requirement that is not met passes
    most_s: Annotated[float, msgspec.Meta(gt=0)] = 86_400.0  # a step that is still open then goes back
    keep_warm_s: Seconds = 600.0  # time that the old release stays loaded after the last step
    primary: str | None = None  # id of the requirement whose metric an experiment compares
    guardrails: tuple[str, ...] = ()  # ids that an experiment must keep; all of them where none is named

    def __post_init__(self) -> None:
        shares = [step.share for step in self.steps]
        wanted = steps_wanted(self.strategy, shares)
        fault = f"shares {shares}: {wanted}" if wanted else ""
        is_experiment = self.strategy is Strategy.EXPERIMENT
        if is_experiment is (self.primary is None):
            fault = fault or f"primary {self.primary}: an experiment has a primary metric, and nothing else has one"
        if self.guardrails and not is_experiment:
            fault = fault or f"guardrails {self.guardrails}: only an experiment has them"
        if fault:
            raise UsageError(f"A rollout by {self.strategy} has {fault}.")

    def share_at(self, step: int) -> float:
        """Return the candidates' share of the traffic at a step; after the last it is all of it."""
        return self.steps[step].share if step < len(self.steps) else 1.0


def steps_wanted(strategy: Strategy, shares: Sequence[float]) -> str:
    """Return which shares the steps of a strategy must have, in words; empty where they fit."""
    if strategy in (Strategy.ALL_AT_ONCE, Strategy.BLUE_GREEN):
        return "it takes no steps" if shares else ""
    if strategy is Strategy.EXPERIMENT:
        fits = len(shares) == 1 and 0 < shares[0] < 1
        return "" if fits else "one share inside (0, 1) is wanted"
    shadowed = strategy is Strategy.SHADOW_CANARY
    rest = shares[1:] if shadowed else shares
    rising = all(low < high for low, high in pairwise(rest))
    if rest and rising and rest[0] > 0 and rest[-1] < 1 and (not shadowed or shares[0] == 0):
        return ""
    first = "0 and then " if shadowed else ""
    return f"{first}rising shares inside (0, 1) are wanted; all of the traffic follows by itself"


class Hits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Trials, and how many of them were hits, or the sum of values in [0, 1]."""

    trials: Count = 0
    hits: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers: how many, their sum and the sum of their squares."""

    count: Count = 0
    total: float = 0.0
    squares: Annotated[float, msgspec.Meta(ge=0)] = 0.0


NO_HITS = Hits()
NO_TOTALS = Totals()


class ArmCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was counted of one release since the step began, exactly: nothing is sampled.

    A request is counted when its reply has left, with its outcome; so no part is ever more than the whole.
    `rates`, `means` and `groups` stand under the `counts` of a claim (`rollout.claims`), which says what
    is counted there. `degraded` are requests that this release should have answered and a fallback did;
    they are not among the errors. `units` are what the traffic was split by, where that is not the single request:
    keys met for the first time. `agreement` is of mirrored rows that the stable release answered too.
    """

    requests: Count = 0
    errors: Count = 0
    degraded: Count = 0
    units: Count | None = None
    rates: dict[str, Hits] = {}
    means: dict[str, Totals] = {}
    groups: dict[str, dict[str, Hits]] = {}
    classes: dict[str, Count] = {}  # answers by class
    outputs: Totals = NO_TOTALS  # answered numbers, of a regression
    agreement: Hits = NO_HITS


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was observed of one release since the step began."""

    release: str  # income@2
    seconds: Seconds
    counts: ArmCounts = ArmCounts()
    restarts: dict[str, Count] = {}  # of its workers, by why
    hung: Count = 0  # workers that stopped making progress
    memory_replaced: Count = 0  # workers that took too much memory
    not_finite_rows: Count = 0  # answers with NaN or an infinity


class Counted(StrEnum):
    """What a front can count of a release by itself."""

    SLOWER = "slower"  # requests that took longer than `above_ms`, of those that were answered
    POSITIVE = "positive"  # answered rows whose class is `positive`
    COST = "cost"  # of a request, times a thousand: what its share of its batch kept the worker busy


class Watched(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that fronts count of each release. `counts` is the name that a claim knows it by."""

    counts: str
    what: Counted
    above_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None  # of SLOWER
    price_per_cpu_hour: Annotated[float, msgspec.Meta(ge=0)] | None = None  # of COST
    group: str | None = None  # of POSITIVE: the column whose values are the groups
    slice: Slice | None = None  # only requests whose rows are all in it


class Watch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted of each release for the verdicts of a rollout, beside requests, errors and answers."""

    items: Annotated[tuple[Watched, ...], msgspec.Meta(max_length=64)] = ()
    positive: str | None = None  # the class that counts as positive
    keeps_answers: bool = False  # answers are kept until their labels come
    columns: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()  # kept with them, for slices and groups


class Outcome(StrEnum):
    """What is done next."""

    FORWARD = "forward"  # to the next step; of an experiment: `winner` takes over
    HOLD = "hold"
    BACK = "back"
    STOP_EXPERIMENT = "stop_experiment"
    INCIDENT = "incident"  # hold, and tell people: the stable release breaks a bound as well


class Cause(StrEnum):
    """Why a release goes back, or an experiment stops. Each is counted apart."""

    REQUIREMENT = "requirement"
    RULE = "rule"  # crash loop, hang, memory, not finite
    TIME_LIMIT = "time_limit"
    SPLIT = "split"  # the traffic is not split as configured


class Ruling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of one requirement on one release, and why, in words."""

    requirement: str
    release: str
    verdict: Verdict
    reason: str
    samples: Count = 0  # of the release, that it was judged on
    samples_expected: Count | None = None  # more of them until a verdict, projected; None where nobody can tell
    incident: bool = False  # the stable release breaks the bound as well


def beside(reason: str, rulings: Iterable[Ruling]) -> str:
    """Return what a decision's reason says that is not said in the rulings already, on one line.

    >>> slow = Ruling(requirement="x", release="a@2", verdict=Verdict.FAIL, reason="Too slow.")
    >>> beside("a@2 goes back. Too slow.", [slow])
    'a@2 goes back.'
    """
    for ruling in rulings:
        reason = reason.replace(ruling.reason, " ") if ruling.reason else reason
    return " ".join(reason.split())


class TakenBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a release was taken back. It never comes again in the same rollout."""

    cause: Cause
    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done next, and why.

    `back` are all candidates that must answer nothing any more; the outcome is BACK once none is left.
    """

    outcome: Outcome
    reason: str
    rulings: tuple[Ruling, ...] = ()
    back: dict[str, TakenBack] = {}
    winner: str | None = None
    samples_expected: Count | None = None  # of the requirement that takes longest


class How(StrEnum):
    """How a rollout ended."""

    PROMOTED = "promoted"
    TAKEN_BACK = "taken_back"
    STOPPED = "stopped"  # an experiment whose traffic is not split as configured
    TAKEN_OVER = "taken_over"  # someone else changed the traffic


class Noted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision, when it was first made."""

    at: float
    step: int
    outcome: Outcome
    reason: str
