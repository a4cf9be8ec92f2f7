"""The circuit breaker, against a plain model that keeps every outcome."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.serve.guard.breaker import Breaker, BreakerPolicy, State
from modelyard.serve.guard.window import BUCKETS, Window

POLICY = BreakerPolicy(window_s=10.0, least=4, share=0.5, open_s=2.0, most_open_s=30.0, probes=3)


def breaker(told: list[tuple[State, State, float]] | None = None, policy: BreakerPolicy = POLICY) -> Breaker:
    return Breaker(policy, 0.0, None if told is None else lambda *facts: told.append(facts))


def opened(now: float = 0.0) -> Breaker:
    found = breaker()
    found.failed(now, by=POLICY.least)
    return found


def test_everything_passes_while_requests_end_well() -> None:
    found = breaker()
    for second in range(100):
        assert found.allow(second)
        found.passed(second)
    assert (found.state, found.counts(), found.wait_s(99)) == (State.CLOSED, (10, 0), 0)


def test_few_failures_mean_nothing() -> None:
    found = breaker()
    found.failed(0.0, by=POLICY.least - 1)
    assert found.allow(0.0)
    found.failed(0.0)
    assert not found.allow(0.0)


def test_it_opens_at_the_share_and_not_below_it() -> None:
    found = breaker()
    found.passed(0.0, by=6)
    found.failed(0.0, by=5)
    assert found.allow(0.0)
    found.failed(0.0)
    assert not found.allow(0.0)


def test_outcomes_that_left_the_window_are_forgotten() -> None:
    found = breaker()
    found.failed(0.5, by=3)
    found.failed(10.0)
    assert found.allow(10.0)
    assert found.counts() == (0, 1)


def test_an_open_one_tells_how_long_it_stays_so() -> None:
    found = opened(now=1.0)
    assert not found.allow(1.5)
    assert found.wait_s(1.5) == 1.5
    assert not found.allow(2.9)
    assert found.allow(3.0)


def test_a_bounded_number_of_probes_passes_and_all_that_end_well_close_it() -> None:
    told: list[tuple[State, State, float]] = []
    found = breaker(told)
    found.failed(0.0, by=4)
    assert [found.allow(2.0) for _ in range(5)] == [True, True, True, False, False]
    found.passed(2.1, 2.0)
    found.passed(2.2, 2.0)
    assert not found.allow(2.2)
    found.passed(2.3, 2.0)
    assert found.allow(2.3)
    assert told == [
        (State.CLOSED, State.OPEN, 0.0),
        (State.OPEN, State.HALF_OPEN, 2.0),
        (State.HALF_OPEN, State.CLOSED, 2.3),
    ]
    assert found.counts() == (0, 0)


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    found, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait_s = found.wait_s(now)
        waits.append(wait_s)
        now += wait_s
        assert found.allow(now)
        found.failed(now, now)
        assert not found.allow(now)
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_the_time_it_stays_open_begins_anew_once_it_was_closed() -> None:
    found = opened()
    found.allow(2.0)
    found.failed(2.0)
    found.allow(6.0)
    found.passed(6.0, by=3)
    assert found.state is State.CLOSED
    found.failed(6.0, by=4)
    assert found.wait_s(6.0) == 2.0


def test_outcomes_of_requests_from_before_say_nothing() -> None:
    found = opened()
    found.passed(0.5, 0.0, by=100)
    found.allow(2.0)
    found.failed(2.5, 1.9)  # let through before it opened, given up only now
    found.passed(2.5, 1.9, by=100)
    assert found.state is State.HALF_OPEN
    found.passed(2.5, 2.0, by=3)
    found.failed(2.6, 2.4, by=100)
    assert (found.state, found.counts()) == (State.CLOSED, (0, 0))


def test_probes_whose_callers_left_do_not_keep_it_half_open_for_good() -> None:
    found = opened()
    assert all(found.allow(2.0) for _ in range(3))
    found.passed(2.0, 2.0)
    assert not found.allow(3.9)
    assert found.wait_s(3.0) == 1.0
    assert [found.allow(4.0), found.allow(4.0), found.allow(4.0)] == [True, True, False]
    found.passed(4.1, 2.0)  # one from before that was only slow counts as well
    found.passed(4.1, 4.0)
    assert found.state is State.CLOSED


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_s": 0}, {"open_s": 0}, {"open_s": 31}, {"share": 0}, {"share": 1.1}, {"least": 0}, {"probes": 0},
        {"window_s": math.nan},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="breaker"):
        BreakerPolicy(**wrong)


TICK = 1 / 64  # with windows that are powers of two, no time is rounded


class Plain:
    """A breaker as its description reads, with a list of outcomes and nothing clever."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy, self.state, self.since, self.wait_s = policy, State.CLOSED, -math.inf, policy.open_s
        self.outcomes: list[tuple[float, bool]] = []
        self.let = self.good = 0
        self.last_probe = -math.inf

    def window(self, now: float) -> list[bool]:
        width = self.policy.window_s / BUCKETS
        return [good for when, good in self.outcomes if when // width > now // width - BUCKETS]

    def become(self, state: State, now: float) -> None:
        self.state, self.since, self.outcomes, self.let, self.good = state, now, [], 0, 0

    def allow(self, now: float) -> bool:
        if self.state is State.OPEN and now - self.since >= self.wait_s:
            self.become(State.HALF_OPEN, now)
        if self.state is State.HALF_OPEN:
            if self.let == self.policy.probes and now - self.last_probe >= self.policy.open_s:
                self.let = self.good
            if self.let == self.policy.probes:
                return False
            self.let, self.last_probe = self.let + 1, now
        return self.state is not State.OPEN

    def ended(self, now: float, began: float, good: bool) -> None:
        if self.state is State.OPEN or began < self.since:
            return
        if self.state is State.CLOSED:
            self.outcomes.append((now, good))
            seen = self.window(now)
            failed = seen.count(False)
            if not good and len(seen) >= self.policy.least and failed >= self.policy.share * len(seen):
                self.become(State.OPEN, now)
        elif not good:
            self.wait_s = min(2 * self.wait_s, self.policy.most_open_s)
            self.become(State.OPEN, now)
        else:
            self.good += 1
            if self.good == self.policy.probes:
                self.wait_s = self.policy.open_s
                self.become(State.CLOSED, now)


class AgainstPlain(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        policy = BreakerPolicy(window_s=20.0, least=4, share=0.5, open_s=2.0, most_open_s=10.0, probes=2)
        self.now = 64.0
        self.told: list[tuple[State, State]] = []
        self.ours = Breaker(policy, self.now, lambda before, after, _: self.told.append((before, after)))
        self.plain = Plain(policy)
        self.out: list[float] = []  # when the requests that are out were let through

    @rule(ticks=st.sampled_from([0, 1, 16, 64, 128, 130, 640, 1400]))
    def wait(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule()
    def ask(self) -> None:
        before = self.plain.state
        allowed = self.ours.allow(self.now)
        assert allowed is self.plain.allow(self.now)
        if allowed:
            self.out.append(self.now)
        if self.plain.state is not before:
            assert self.told[-1] == (before, self.plain.state)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), good=st.booleans())
    def end(self, data: st.DataObject, good: bool) -> None:
        began = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before, transitions = self.plain.state, len(self.told)
        (self.ours.passed if good else self.ours.failed)(self.now, began)
        self.plain.ended(self.now, began, good)
        expected = [] if self.plain.state is before else [(before, self.plain.state)]
        assert self.told[transitions:] == expected
        if self.plain.state is State.CLOSED and began >= self.plain.since:
            seen = self.plain.window(self.now)
            assert self.ours.counts() == (seen.count(True), seen.count(False))

    @invariant()
    def they_agree(self) -> None:
        assert self.ours.state is self.plain.state
        if self.plain.state is State.OPEN:
            assert self.ours.wait_s(self.now) == max(0.0, self.plain.since + self.plain.wait_s - self.now)


TestAgainstPlain = AgainstPlain.TestCase
TestAgainstPlain.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_window_counts_nine_to_ten_tenths_of_its_time() -> None:
    window = Window(10.0, 0.0)
    for second in range(1, 40):
        window.shift(second, 1, 2)
        assert (window.first, window.second) == (min(second, 9), 2 * min(second, 9))


def test_a_window_does_not_mind_time_that_goes_back() -> None:
    window = Window(10.0, 100.0)
    assert not window.shift(99.0, 1, 1)
    assert window.shift(101.0, 1, 1)
    assert (window.first, window.turn) == (1, 102.0)
