"""The highest rate of queues whose latency theory knows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from modelyard.core.load import Arrivals, LoadPlan, LoadResult
from modelyard.errors import UsageError
from modelyard.loadtest import find
from modelyard.loadtest.address import parse_address
from modelyard.loadtest.arrivals import arrivals
from modelyard.loadtest.measure import Subject
from modelyard.loadtest.summary import summarize
from modelyard.loadtest.tally import Outcome, Tally
from tests.loadtest.loads import Heard, p99_at_most, plan

SUBJECT = Subject(address=parse_address("http://127.0.0.1:1/"), bodies=[b"{}"])
SERVED = 1000.0  # a second, by one server with exponential times: M/M/1


class Queue:
    """Stands in for `measure`: one server, served in order of arrival."""

    def __init__(self, *, failing_from: float = math.inf, lagging_from: float = math.inf) -> None:
        self.random = np.random.default_rng(11)
        self.failing_from, self.lagging_from = failing_from, lagging_from
        self.plans: list[LoadPlan] = []

    def __call__(
        self, subject: Subject, wanted: LoadPlan, progress: Heard, *, requirements: tuple[()] = (), name: str = ""
    ) -> LoadResult:
        self.plans.append(wanted)
        tally, free = Tally(wanted.warmup_s), 0.0
        closed = wanted.arrivals is Arrivals.CLOSED
        due_at = itertools.count(0, 1 / SERVED) if closed else arrivals(wanted)
        for due in itertools.takewhile(lambda moment: moment < wanted.warmup_s + wanted.seconds, due_at):
            free = max(free, due) + self.random.exponential(1 / SERVED)
            lag = 0.05 if (wanted.rate or 0) >= self.lagging_from else 0.0
            bad = (wanted.rate or 0) >= self.failing_from and self.random.random() < 0.5
            done = min(free + lag, due + wanted.timeout_s)
            tally.add(due, due + lag, due + lag, done, Outcome.STATUS if bad else Outcome.ANSWERED)
        return summarize(wanted, tally, requirements=requirements)


def test_finds_the_rate_that_queueing_theory_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "measure", Queue())
    heard = Heard()
    wanted = plan(arrivals=Arrivals.POISSON, rate=None, seconds=20.0, warmup_s=1.0)
    found, last = find.find_rate(SUBJECT, wanted, [p99_at_most(50.0)], heard)
    theory = SERVED - math.log(100) / 0.050  # P(T > t) = exp(-(served - rate) t)
    assert found.highest is not None and found.highest == pytest.approx(theory, rel=0.08)
    assert found.lowest_failing is not None and found.lowest_failing > found.highest
    assert last is not None and last.plan.rate == found.highest and last.plan.seconds == 20.0
    assert len(heard.lines) == 1 + len(found.steps)
    assert sum(step.met and step.rate == found.highest for step in found.steps) >= 3  # found, and confirmed twice


def test_every_step_has_the_samples_that_a_p99_needs_and_callers_who_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = Queue()
    monkeypatch.setattr(find, "measure", queue)
    find.find_rate(SUBJECT, plan(arrivals=Arrivals.POISSON, rate=None), [p99_at_most(50.0)], Heard())
    capacity, *steps = queue.plans
    assert capacity.arrivals is Arrivals.CLOSED
    assert all((one.rate or 0) * one.seconds >= 1999 for one in steps)
    assert {one.timeout_s for one in steps} == {1.0}


def test_a_rate_at_which_requests_fail_is_not_met_however_fast_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "measure", Queue(failing_from=400))
    found, _ = find.find_rate(
        SUBJECT, plan(arrivals=Arrivals.POISSON, rate=None, seconds=5.0), [p99_at_most(50.0)], Heard()
    )
    assert found.highest is not None and 360 < found.highest < 400
    assert any("failed" in step.reason for step in found.steps)


def test_where_the_generator_is_the_limit_the_rate_is_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "measure", Queue(lagging_from=300))
    found, _ = find.find_rate(
        SUBJECT, plan(arrivals=Arrivals.POISSON, rate=None, seconds=5.0), [p99_at_most(40.0)], Heard()
    )
    assert found.highest is not None and 120 <= found.highest < 300
    assert found.lowest_failing is None and "the generator itself was the limit" in found.conclusion


def test_no_rate_is_said_where_none_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "measure", Queue(failing_from=0))
    found, last = find.find_rate(
        SUBJECT, plan(arrivals=Arrivals.POISSON, rate=None, seconds=1.0), [p99_at_most(50.0)], Heard()
    )
    assert (found.highest, found.confirmed, last) == (None, False, None)
    assert "No rate" in found.conclusion


def test_the_highest_rate_needs_a_bound() -> None:
    with pytest.raises(UsageError, match="needs a bound"):
        find.find_rate(SUBJECT, plan(), [], Heard())
