"""The course of a rollout as a state machine: whatever is decided and asked for, in any order."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from modelyard.core.codec import decode, encode
from modelyard.core.release import Traffic
from modelyard.core.rollout import Cause, Decision, How, Outcome, Policy, Step, Strategy, TakenBack, Watch, Window
from modelyard.errors import UsageError
from modelyard.rollout.course import Course, Order, Seen, ask, begin, end, follow, move, take_over

STEPS = (Step(share=0.01), Step(share=0.1), Step(share=0.5))
POLICIES = (
    Policy(strategy=Strategy.CANARY, steps=STEPS),
    Policy(strategy=Strategy.SHADOW_CANARY, steps=(Step(share=0.0), *STEPS)),
    Policy(strategy=Strategy.BLUE_GREEN),
    Policy(strategy=Strategy.EXPERIMENT, steps=(Step(share=0.6),), primary="accuracy"),
)


def course_of(policy: Policy, *candidates: str) -> Course:
    return begin(
        id="r1",
        service="income",
        by="ann",
        policy=policy,
        requirements=(),
        stable="income@1",
        candidates=candidates or ("income@2",),
        epoch=4,
        now=100.0,
        watch=Watch(),
    )


class Courses(RuleBasedStateMachine):
    """Decisions as `decide` may make them, orders as people may give them, changes by others."""

    @initialize(policy=st.sampled_from(POLICIES), count=st.integers(1, 3))
    def start(self, policy: Policy, count: int) -> None:
        count = count if policy.strategy is Strategy.EXPERIMENT else 1
        self.candidates = tuple(f"income@{number}" for number in range(2, 2 + count))
        self.now = 100.0
        self.course = course_of(policy, *self.candidates)
        self.epochs = [self.course.epoch]
        self.gone: set[str] = set()

    def look(self, outcome: Outcome, *, back: tuple[str, ...] = (), winner: str | None = None) -> None:
        self.now += 1.0
        taken = {name: TakenBack(cause=Cause.REQUIREMENT, reason="worse") for name in back}
        state = replace(self.course.state, back=self.course.state.back | taken)
        self.gone |= set(back)
        decision = Decision(outcome=outcome, reason="so it was", back=state.back, winner=winner)
        windows = {name: Window(release=name, seconds=1.0) for name in ("income@1", *state.running)}
        self.course = move(self.course, decision, state, windows, self.now)
        self.epochs.append(self.course.epoch)

    @precondition(lambda self: self.course.ended is None)
    @rule(outcome=st.sampled_from((Outcome.HOLD, Outcome.INCIDENT)))
    def hold(self, outcome: Outcome) -> None:
        before, ordered = self.course, self.course.order is not None
        self.look(outcome)
        if not ordered and self.course.ended is None:
            assert self.course.wanted == before.wanted and self.course.epoch == before.epoch

    @precondition(lambda self: self.course.ended is None and not self.course.is_watched)
    @rule(data=st.data())
    def forward(self, data: st.DataObject) -> None:
        before = self.course
        running = before.state.running
        is_experiment = before.policy.strategy is Strategy.EXPERIMENT
        winner = data.draw(st.sampled_from(running)) if is_experiment else None
        self.look(Outcome.FORWARD, winner=winner)
        if before.paused and before.order is None:
            assert self.course.wanted == before.wanted
        elif winner is not None:
            assert self.course.wanted == {winner: 1.0} and self.course.epoch == before.epoch + 1
        else:
            assert self.course.wanted.get(running[0], 0.0) > before.wanted.get(running[0], 0.0)

    @precondition(lambda self: self.course.ended is None and len(self.course.state.running) > 1)
    @rule()
    def one_goes_back(self) -> None:
        name, before = self.course.state.running[0], self.course
        self.look(Outcome.HOLD, back=(name,))
        if before.order is None:
            assert self.course.epoch == before.epoch + 1
            assert all(self.course.wanted[one] == before.wanted[one] for one in self.course.state.running)

    @precondition(lambda self: self.course.ended is None)
    @rule()
    def all_go_back(self) -> None:
        epoch = self.course.epoch
        self.look(Outcome.BACK, back=self.course.state.running)
        assert self.course.ended is not None and self.course.ended.how is How.TAKEN_BACK
        assert self.course.wanted == {"income@1": 1.0} and self.course.epoch == epoch + 1

    @precondition(lambda self: self.course.ended is None)
    @rule(order=st.sampled_from([*Order, None]), paused=st.sampled_from([True, False, None]))
    def ask(self, order: Order | None, paused: bool | None) -> None:
        try:
            self.course = ask(self.course, order=order, paused=paused)
        except UsageError:
            return
        assert order is None or self.course.order is order

    @precondition(lambda self: self.course.ended is None)
    @rule()
    def fronts_follow(self) -> None:
        since = {name: Seen(window=Window(release=name, seconds=0.0)) for name in self.course.wanted}
        self.course = follow(self.course, since, self.now)
        assert self.course.state.began == self.now

    @precondition(lambda self: self.course.ended is None)
    @rule(data=st.data())
    def someone_changes_the_traffic(self, data: st.DataObject) -> None:
        names = ("income@1", *self.candidates, "income@9")
        first = data.draw(st.sampled_from(names))
        second = data.draw(st.sampled_from([None, *names]))
        shares = {first: 1.0} if second in (None, first) else {first: 0.75, str(second): 0.25}
        before = self.course
        self.course = take_over(before, Traffic(epoch=before.epoch + 3, shares=shares), self.now)
        assert self.course.ended is not None
        left = set(shares) & set(before.state.candidates)
        if left and shares != {first: 1.0}:  # nobody would judge the candidates any more
            assert self.course.wanted == {"income@1": 1.0} and self.course.epoch == before.epoch + 4

    @precondition(lambda self: self.course.ended is not None)
    @rule()
    def nothing_is_asked_of_what_has_ended(self) -> None:
        with pytest.raises(UsageError):
            ask(self.course, order=Order.FULL)

    @invariant()
    def it_is_sound(self) -> None:
        course = self.course
        assert math.isclose(sum(course.wanted.values()), 1.0)
        assert all(later >= sooner for sooner, later in pairwise(self.epochs))
        assert not self.gone & {name for name, share in course.wanted.items() if share > 0}
        assert not (course.mirrored and course.ended)
        assert all(course.wanted[name] == 0 for name in course.mirrored)
        assert decode(encode(course), Course) == course
        assert course.fits(
            Traffic(epoch=9, shares=course.wanted, shadow=course.mirrored, watch=None if course.ended else Watch())
        )


TestCourses = Courses.TestCase


def test_a_canary_goes_through_its_steps_and_is_watched_before_it_is_promoted() -> None:
    course, seen = course_of(POLICIES[1]), []
    now = 100.0
    for _ in range(4):
        seen.append((course.wanted, course.mirrored))
        decision = Decision(outcome=Outcome.FORWARD, reason="all passes")
        now += 60
        course = follow(move(course, decision, course.state, {}, now), {}, now)
    mirrored = ({"income@1": 1.0, "income@2": 0.0}, {"income@2": 1.0})
    assert seen == [mirrored, *(({"income@1": 1 - one.share, "income@2": one.share}, {}) for one in STEPS)]
    assert course.wanted == {"income@2": 1.0} and course.ended is None
    held = Decision(outcome=Outcome.HOLD, reason="watched")
    assert move(course, held, course.state, {}, now + 599).ended is None
    done = move(course, held, course.state, {}, now + 600)
    assert done.ended is not None and done.ended.how is How.PROMOTED and done.epoch == course.epoch + 1


def test_a_person_may_promote_while_nothing_is_decided_and_not_what_has_ended() -> None:
    held = Decision(outcome=Outcome.HOLD, reason="Held: too few.")
    course = ask(ask(course_of(POLICIES[0]), paused=True), order=Order.FULL)
    course = move(course, held, course.state, {}, 101.0)
    assert course.wanted == {"income@2": 1.0} and course.paused and course.order is None
    over = end(course, How.TAKEN_BACK, "It broke.", 102.0)
    with pytest.raises(UsageError, match="has ended: It broke"):
        ask(over, order=Order.FORWARD)


def test_only_an_experiment_has_several_candidates() -> None:
    with pytest.raises(UsageError, match="Several side by side are an experiment"):
        course_of(POLICIES[0], "income@2", "income@3")
    with pytest.raises(UsageError, match="Which of"):
        ask(course_of(POLICIES[3], "income@2", "income@3"), order=Order.FORWARD)


def test_the_history_has_each_change_once() -> None:
    course = course_of(POLICIES[0])
    for outcome in (Outcome.HOLD, Outcome.HOLD, Outcome.INCIDENT, Outcome.HOLD):
        course = move(course, Decision(outcome=outcome, reason=outcome), course.state, {}, 101.0)
    assert [one.outcome for one in course.history] == [Outcome.HOLD, Outcome.INCIDENT, Outcome.HOLD]
    assert msgspec.json.decode(encode(course))["history"][0]["at"] == 101.0
