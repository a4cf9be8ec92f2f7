"""A service and its rollout, in lines that a person reads at night."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from modelyard.app.rollout import Seen
from modelyard.core.rollout import Outcome, Ruling, Window
from modelyard.rollout.course import Course
from modelyard.rollout.words import grouped

WIDTH = 100
_MARKS = {"pass": "pass", "fail": "FAIL", "inconclusive": "open"}


def lines(seen: Seen, now: float) -> Iterator[str]:
    """Yield what is to be known of a service and its rollout; `now` is in seconds since 1970."""
    traffic = seen.traffic
    shares = ", ".join(f"{name} {100 * share:g} %" for name, share in traffic.shares.items() if share > 0)
    yield f"{seen.service}: {shares} (epoch {traffic.epoch})"
    for name, share in traffic.shadow.items():
        yield f"mirrored: {100 * share:g} % of the requests to {name}"
    for rule in traffic.rules:
        yield f"rule: {rule.header}: {rule.value} goes to {rule.release}"
    if seen.status is None:
        yield "No supervisor answers; the fronts go on by the local copy of the traffic table."
    elif not seen.status.ready:
        yield "The service is not ready."
    if seen.course is not None:
        yield from _course(seen.course, now, is_open=seen.is_open)


def _course(course: Course, now: float, *, is_open: bool) -> Iterator[str]:
    yield ""
    names = ", ".join(course.state.candidates)
    began = datetime.fromtimestamp(course.began, UTC)
    kind = course.policy.strategy.replace("_", " ")
    yield f"Rollout {course.id}: {names} beside {course.state.stable}, {kind}, begun {began:%d %b %H:%M} by {course.by}"
    if course.ended is not None:
        yield from _wrapped(f"{course.ended.how.replace('_', ' ')} after {_span(course.ended.at - course.began)}: ",
                            course.ended.reason)  # fmt: skip
        if is_open:
            yield "The traffic is being changed to that."
    else:
        yield _step(course, now)
        if course.last is not None:
            yield from _wrapped(f"{_outcome(course.last.outcome)}: ", course.last.reason)
    if course.windows:
        yield ""
        yield from _windows(course.windows)
    if course.last is not None and course.last.rulings:
        yield ""
        yield from _rulings(course.last.rulings)
    yield from _history(course)


def _step(course: Course, now: float) -> str:
    step, steps = course.state.step, len(course.policy.steps)
    where = f"step {step + 1} of {steps}" if step < steps else "all of the traffic, watched"
    if not course.since:
        return f"{where}: waits for the fronts to follow"
    told = f"{where}, for {_span(now - course.state.began)}"
    return f"{told}; paused: it goes back, and not forward" if course.paused else told


def _outcome(outcome: Outcome) -> str:
    return outcome.replace("_", " ")


def _windows(windows: dict[str, Window]) -> Iterator[str]:
    head = ("release", "requests", "errors", "degraded", "restarts", "NaN rows")
    rows = [
        (
            name,
            *(grouped(count) for count in (one.counts.requests, one.counts.errors, one.counts.degraded)),
            str(sum(one.restarts.values())),
            str(one.not_finite_rows),
        )
        for name, one in windows.items()
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = [cell.rjust(width) if place else cell.ljust(width)
                 for place, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        yield "  ".join(cells)


def _rulings(rulings: tuple[Ruling, ...]) -> Iterator[str]:
    for one in rulings:
        more = f" (about {grouped(one.samples_expected)} more samples)" if one.samples_expected else ""
        yield from _wrapped(f"{_MARKS[one.verdict]}  ", f"{one.reason}{more}")


def _history(course: Course) -> Iterator[str]:
    if len(course.history) > 1:
        yield ""
        for one in course.history:
            at = datetime.fromtimestamp(one.at, UTC)
            yield f"{at:%H:%M:%S}  step {one.step + 1}  {_outcome(one.outcome)}"


def _wrapped(first: str, text: str) -> list[str]:
    return textwrap.wrap(first + text, WIDTH, subsequent_indent=" " * min(len(first), 14))


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
