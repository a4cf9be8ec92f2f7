"""How a drill goes, on copies that are scripts: what is measured, what passes, and that every copy is left."""

from __future__ import annotations

import pytest

from modelyard.app.system import Silent
from modelyard.core.drill import DEFAULT_DRILLS, Became, Drilled, Kept, Outcome
from modelyard.errors import CannotRehearse, ServiceError, UsageError
from modelyard.rollout.drills import LIMIT_S, ROLLBACK_LIMIT_S, check_kinds, drill, drill_all
from tests.rollout.copies import Script, Theatre


def drilled(script: Script, kind: str = "worker_killed") -> Drilled:
    theatre = Theatre(script)
    done = drill(kind, theatre.open, clock=theatre.clock, pause=theatre.clock.pause)
    assert theatre.left == len(theatre.copies) == 1
    return done


def test_a_failure_that_is_seen_and_mended_passes_with_its_times_and_counts() -> None:
    done = drilled(Script(seen_after=0.1, whole_after=0.5, bad_for=0.8))
    assert done.outcome is Outcome.PASSED and done.limit_s == LIMIT_S
    assert done.detection_s == pytest.approx(0.1, abs=0.03)
    assert done.recovery_s == pytest.approx(0.8, abs=0.03)
    assert done.degraded == pytest.approx(40, abs=1) and done.sent > done.degraded
    assert (done.lost, done.failed, done.changes, done.changes_lost) == (0, 0, 1, 0)
    assert "a worker is gone" in done.why


def test_a_service_that_is_whole_only_later_than_its_answers_has_not_recovered_before() -> None:
    assert drilled(Script(whole_after=2.0, bad_for=0.1)).recovery_s == pytest.approx(2.0, abs=0.05)


def test_answers_that_stay_slow_are_no_recovery() -> None:
    done = drilled(Script(slow_s=0.5), "worker_slow")
    assert done.outcome is Outcome.FAILED and "not answered as before" in done.why
    assert done.recovery_s is None


def test_what_nobody_can_see_fails_and_is_not_mended() -> None:
    theatre = Theatre(Script(seen_after=None))
    done = drill("worker_hung", theatre.open, clock=theatre.clock, pause=theatre.clock.pause)
    assert done.outcome is Outcome.FAILED and "to be seen" in done.why and done.detection_s is None
    assert theatre.copies[0].done == ["harm", "finish"]


def test_what_does_not_recover_fails_with_the_last_reason() -> None:
    done = drilled(Script(whole_after=None))
    assert done.outcome is Outcome.FAILED and done.why.startswith("It had not recovered after 30 s: it is not ready.")


@pytest.mark.parametrize("kind", ["store_unavailable", "wrong_outputs", "rollback_service"])
@pytest.mark.parametrize("bad", [Became.DEGRADED, Became.FAILED])
def test_callers_must_not_notice_what_they_should_never_meet(kind: str, bad: Became) -> None:
    done = drilled(Script(bad=bad, bad_for=0.2), kind)
    assert done.outcome is Outcome.FAILED and "nobody should have" in done.why


def test_a_lost_request_or_a_lost_change_fails_every_drill() -> None:
    lost = drilled(Script(bad=Became.LOST, bad_for=0.05))
    assert lost.outcome is Outcome.FAILED and "no answer at all" in lost.why and lost.lost > 0
    undone = drilled(Script(kept=Kept(2, 1)))
    assert undone.outcome is Outcome.FAILED and "1 of 2 acknowledged changes" in undone.why


def test_going_back_is_decided_and_not_detected() -> None:
    done = drilled(Script(seen_after=None, whole_after=0.3), "rollback_service")
    assert done.outcome is Outcome.PASSED and done.detection_s is None and done.limit_s == ROLLBACK_LIMIT_S
    assert done.recovery_s == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(CannotRehearse("no bound on memory"), Outcome.NOT_TRIED), (ServiceError("it did not start"), Outcome.FAILED)],
)
def test_what_cannot_be_tried_does_not_pass(fault: Exception, outcome: Outcome) -> None:
    done = drilled(Script(harm_fails=fault))
    assert (done.outcome, done.why, done.sent) == (outcome, str(fault), 0)


def test_a_copy_that_was_not_well_before_says_nothing_of_the_failure() -> None:
    assert drilled(Script(first=Became.FAILED)).outcome is Outcome.NOT_TRIED


def test_every_kind_gets_a_fresh_copy_in_the_order_of_the_list() -> None:
    theatre = Theatre(Script())
    kinds = check_kinds(("rollback_service", "worker_killed", "worker_killed"))
    done = drill_all(kinds, theatre.open, clock=theatre.clock, pause=theatre.clock.pause, progress=Silent())
    assert [one.kind for one in done] == ["worker_killed", "rollback_service"]
    assert len(theatre.copies) == theatre.left == 2


@pytest.mark.parametrize("kinds", [(), ("worker_tired",), ("worker_killed", "worker_tired")])
def test_an_unknown_drill_is_refused_with_those_there_are(kinds: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="Known: worker_killed, worker_hung"):
        check_kinds(kinds)
    assert check_kinds(DEFAULT_DRILLS) == DEFAULT_DRILLS
