"""Laws of the verdict on a drill, whatever its callers met."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.codec import decode, encode
from modelyard.core.drill import DEFAULT_DRILLS, Asked, Became, Drilled, Kept, Outcome, Sign
from modelyard.rollout.drills_judge import Course, judge

WHEN = "2026-01-01T00:00:00.000000Z"
moments = st.floats(0.0, 20.0)
requests = st.builds(
    lambda due, took, became: Asked(due, due + took, became), moments, st.floats(0.0, 3.0), st.sampled_from(Became)
)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    harmed = draw(st.floats(0.0, 10.0))
    began = harmed + draw(st.floats(0.0, 2.0))
    sign = draw(st.none() | st.floats(harmed, 20.0).map(lambda at: Sign(at, "something")))
    return Course(
        kind=draw(st.sampled_from(DEFAULT_DRILLS)),
        limit_s=draw(st.floats(0.5, 30.0)),
        harmed=harmed,
        began=began,
        slow_s=draw(st.none() | st.floats(0.25, 2.0)),
        sign=sign,
        whole=draw(st.none() | st.floats(began, 20.0)),
        why_not="it is not ready",
        asked=tuple(draw(st.lists(requests, max_size=12))),
        kept=Kept(3, draw(st.integers(0, 3))),
    )


@given(courses())
def test_counts_are_of_requests_after_the_harm_and_times_are_never_below_zero(course: Course) -> None:
    done = judge(course, WHEN)
    mine = [one for one in course.asked if one.due >= course.harmed]
    assert done.sent == len(mine)
    assert done.sent - done.lost - done.failed - done.degraded == sum(o.became is Became.ANSWERED for o in mine)
    assert decode(encode(done), Drilled) == done  # which holds the bounds of its fields


@given(courses())
def test_a_pass_means_whole_in_time_nothing_lost_and_a_request_seen(course: Course) -> None:
    done = judge(course, WHEN)
    if done.outcome is Outcome.PASSED:
        assert done.recovery_s is not None and done.recovery_s <= course.limit_s
        assert done.lost == done.changes_lost == 0 and done.sent > 0


@given(courses(), requests)
def test_one_more_bad_request_never_turns_a_failure_into_a_pass(course: Course, more: Asked) -> None:
    before = judge(course, WHEN)
    if more.became is Became.ANSWERED or not before.sent:
        return
    after = judge(
        Course(
            kind=course.kind, limit_s=course.limit_s, harmed=course.harmed, began=course.began, slow_s=course.slow_s,
            sign=course.sign, whole=course.whole, why_not=course.why_not, asked=(*course.asked, more), kept=course.kept,
        ),
        WHEN,
    )  # fmt: skip
    assert not (before.outcome is Outcome.FAILED and after.outcome is Outcome.PASSED)


@given(courses())
def test_recovery_ends_after_every_request_that_was_not_as_before(course: Course) -> None:
    done = judge(course, WHEN)
    bad = [one.ended for one in course.asked if one.due >= course.harmed and one.became is not Became.ANSWERED]
    if done.recovery_s is not None and bad:
        assert done.recovery_s >= max(bad) - max(course.began, course.harmed) - 1e-9
