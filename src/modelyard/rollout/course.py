"""The course of a rollout: all that must be known to go on with it, whoever was killed meanwhile. Pure.

A course says which traffic table is wanted. Whoever keeps it writes the course first and changes the traffic then, so
that a table that is behind the course is brought up to it, and none is ever ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from modelyard.core.release import ROUTING_KEY, Traffic
from modelyard.core.requirement import Requirement
from modelyard.core.rollout import ArmCounts, Decision, How, Noted, Outcome, Policy, Strategy, Watch, Window
from modelyard.errors import UsageError
from modelyard.measure.sequential_means import split_anew
from modelyard.rollout.state import StepState, next_step, shares
from modelyard.rollout.state import begin as first_step

MOST_NOTED = 100  # of the newest decisions that differ from the one before


class Order(StrEnum):
    """What a person asked for."""

    FORWARD = "forward"  # to the next step
    FULL = "full"  # to all of the traffic


class Ended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of a rollout."""

    how: How
    reason: str
    at: float  # seconds since 1970


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was counted of a release before the step began."""

    window: Window
    labelled: ArmCounts = ArmCounts()


class Course(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout. Moments are seconds since 1970."""

    id: str
    service: str
    by: str  # who began it
    began: float
    policy: Policy
    requirements: tuple[Requirement, ...]
    state: StepState
    epoch: int  # of the traffic table that is wanted
    watch: Watch = Watch()
    key_header: str = ROUTING_KEY
    place: int = 0  # of the last outcome that was joined before
    followed: float | None = None  # since when all fronts follow the table; until the step begins
    was: dict[str, float] = {}  # the shares before these; a service that is started again may have them still
    tries: int = 0  # to bring the traffic to it
    before: dict[str, Window] = {}  # when the table was last changed: a release may be harmed from there on
    since: dict[str, Seen] = {}  # when the step began; empty until the fronts follow the table
    paused: bool = False  # it goes back, and never forward
    order: Order | None = None
    last: Decision | None = None
    windows: dict[str, Window] = {}  # at the last look
    history: tuple[Noted, ...] = ()
    ended: Ended | None = None

    @property
    def wanted(self) -> dict[str, float]:
        """The share of each release that is to answer or to be mirrored to."""
        if self.ended is not None and self.ended.how in (How.TAKEN_BACK, How.STOPPED):
            return {self.state.stable: 1.0}
        given = shares(self.state, self.policy)
        mirrored = self.mirrored
        return {name: share for name, share in given.items() if share > 0 or name in mirrored}

    @property
    def mirrored(self) -> dict[str, float]:
        """The share of requests that is mirrored to each release."""
        if self.ended is not None or self.policy.share_at(self.state.step) > 0:
            return {}
        return dict.fromkeys(self.state.running, 1.0)

    @property
    def is_watched(self) -> bool:
        """Say whether the candidate has all of the traffic."""
        return self.state.step >= len(self.policy.steps)

    def fits(self, traffic: Traffic) -> bool:
        """Say whether a table is the one that is wanted, whatever its epoch: after the end nothing is counted."""
        counts = traffic.watch is not None
        is_split_so = traffic.shares == self.wanted and traffic.shadow == self.mirrored
        return is_split_so and counts is (self.ended is None)


def begin(
    *,
    id: str,
    service: str,
    by: str,
    policy: Policy,
    requirements: Sequence[Requirement],
    stable: str,
    candidates: Sequence[str],
    epoch: int,
    now: float,
    watch: Watch,
    key_header: str = ROUTING_KEY,
    place: int = 0,
) -> Course:
    """Return the course at its start; `epoch` is that of the table in force.

    Raises: UsageError for no candidate, one named twice, or several where the strategy takes one.
    """
    if len(candidates) > 1 and policy.strategy is not Strategy.EXPERIMENT:
        raise UsageError(
            f"A rollout by {policy.strategy} has one candidate, and {', '.join(candidates)} were named. "
            "Several side by side are an experiment."
        )
    return Course(
        id=id,
        service=service,
        by=by,
        began=now,
        policy=policy,
        requirements=tuple(requirements),
        state=first_step(stable, candidates, now=now),
        epoch=epoch + 1,
        watch=watch,
        key_header=key_header,
        place=place,
    )


def follow(course: Course, since: Mapping[str, Seen], now: float) -> Course:
    """Return the course once the fronts answer by its table: from here on the step lasts and its requests count."""
    state = replace(course.state, began=now, looked=now)
    before = course.before or {name: seen.window for name, seen in since.items()}
    return replace(course, before=before, since=dict(since), state=state, followed=None, tries=0)


def begin_anew(course: Course) -> Course:
    """Return the course with its step to begin once more, as what was counted is gone; what tests have seen stays."""
    kept = {key: split_anew(test) for key, test in course.state.means.items()}
    return replace(course, before={}, since={}, followed=None, state=replace(course.state, seen={}, means=kept))


def move(course: Course, decision: Decision, state: StepState, windows: Mapping[str, Window], now: float) -> Course:
    """Return the course after a decision. Where the traffic has to change its epoch is one higher."""
    before = course.wanted
    course = replace(course, windows=dict(windows), last=decision, state=state, history=_noted(course, decision, now))
    if decision.outcome is Outcome.BACK:
        return end(course, How.TAKEN_BACK, decision.reason, now)
    if decision.outcome is Outcome.STOP_EXPERIMENT:
        return end(course, How.STOPPED, decision.reason, now)
    if course.is_watched:
        is_over = now - state.began >= course.policy.keep_warm_s
        return end(course, How.PROMOTED, _promoted(course), now) if is_over and not course.paused else course
    goes = decision.outcome is Outcome.FORWARD and not course.paused
    if goes or course.order is not None:
        return _forward(course, decision.winner, now)
    if course.wanted != before:  # one of several candidates was taken back
        return replace(course, epoch=course.epoch + 1, was=before)
    return course


def end(course: Course, how: How, reason: str, now: float) -> Course:
    """Return the course ended; the traffic goes back, or stays and is counted no more."""
    return replace(course, ended=Ended(how=how, reason=reason, at=now), order=None, epoch=course.epoch + 1)


def take_over(course: Course, traffic: Traffic, now: float) -> Course:
    """Return the course after someone else changed the traffic to a table that it does not want.

    Where that is the split before, as the service was started again meanwhile, it is changed once more.
    """
    told = ", ".join(f"{name} {100 * share:g} %" for name, share in traffic.shares.items())
    course = replace(course, epoch=traffic.epoch)
    if traffic.shares == course.was and set(traffic.names) & set(course.state.candidates):
        return replace(course, epoch=traffic.epoch + 1)
    if traffic.shares == {course.state.stable: 1.0}:
        return _ended_by_other(course, How.TAKEN_BACK, f"It was taken back by hand: {told}.", now)
    if set(traffic.shares) == set(course.state.running) and len(traffic.shares) == 1:
        return _ended_by_other(course, How.PROMOTED, f"It was promoted by hand: {told}.", now)
    if set(traffic.shares) & set(course.state.candidates):
        return end(course, How.TAKEN_BACK, f"The traffic was changed to one that nobody judges: {told}.", now)
    return _ended_by_other(course, How.TAKEN_OVER, f"The traffic was changed by hand: {told}.", now)


def settle(course: Course, traffic: Traffic) -> Course:
    """Return an ended course with the epoch of a table that is as it wants, or above one that is not so yet.

    A table above its epoch without its candidates is someone else's, and stays.
    """
    if course.fits(traffic):
        return course if traffic.epoch == course.epoch else replace(course, epoch=traffic.epoch)
    assert course.ended is not None
    is_left = course.ended.how in (How.TAKEN_BACK, How.STOPPED) or traffic.watch is not None
    if is_left and traffic.epoch >= course.epoch and set(traffic.names) & set(course.state.candidates):
        return replace(course, epoch=traffic.epoch + 1)
    return course


def ask(course: Course, *, order: Order | None = None, paused: bool | None = None) -> Course:
    """Return the course with what a person asks for; raises UsageError where there is nothing to do."""
    if course.ended is not None:
        raise UsageError(f"The rollout {course.id} of `{course.service}` has ended: {course.ended.reason}")
    if order is not None and course.is_watched:
        raise UsageError(f"{', '.join(course.state.running)} has all of the traffic already.")
    if order is not None and course.policy.strategy is Strategy.EXPERIMENT and len(course.state.running) > 1:
        names = ", ".join(course.state.running)
        raise UsageError(f"Which of {names} is promoted? End the experiment with: modelyard deploy RELEASE")
    if paused is not None and paused is course.paused:
        raise UsageError(f"The rollout {course.id} {'is paused' if paused else 'is not paused'} already.")
    return replace(
        course,
        order=course.order if order is None else order,
        paused=course.paused if paused is None else paused,
    )


def _ended_by_other(course: Course, how: How, reason: str, now: float) -> Course:
    return replace(course, ended=Ended(how=how, reason=reason, at=now), order=None)


def _forward(course: Course, winner: str | None, now: float) -> Course:
    state, steps, was = course.state, len(course.policy.steps), course.wanted
    if winner is not None:
        state = replace(state, candidates=(winner,), back={})
    if course.order is Order.FULL:
        state = replace(state, step=steps - 1)
    state = next_step(state, course.policy, now=now)
    return replace(course, state=state, order=None, since={}, epoch=course.epoch + 1, was=was)


def _noted(course: Course, decision: Decision, now: float) -> tuple[Noted, ...]:
    """Return the decisions that differ in outcome or step, and of each the first."""
    step, past = course.state.step, course.history
    if past and (past[-1].outcome, past[-1].step) == (decision.outcome, step):
        return past
    return (*past, Noted(at=now, step=step, outcome=decision.outcome, reason=decision.reason))[-MOST_NOTED:]


def _promoted(course: Course) -> str:
    name = ", ".join(course.state.running)
    return (
        f"{name} has had all of the traffic for {course.policy.keep_warm_s:g} s, and nothing it must keep was broken."
    )
