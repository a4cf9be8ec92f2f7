"""A service and its rollout, in lines that a person reads at night."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from modelyard.app.course_verbs import Seen
from modelyard.bundle.answers import FeedbackCounts
from modelyard.core.rollout import Decision, Outcome, Ruling, Window, beside
from modelyard.rollout.course import Course
from modelyard.rollout.words import grouped

WIDTH = 100
INDENT = " " * 6
REPEATED = 60  # characters from which a sentence is said only once
_SENTENCES = re.compile(r"(?<=\.)\s+(?=[A-Z])")
_OPENINGS = ("Held:", "Incident:", "Watched, with all of the traffic:")  # that say nothing by themselves
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
        yield from _course(seen.course, now, is_open=seen.is_open, labels=seen.labels)


def _course(course: Course, now: float, *, is_open: bool, labels: FeedbackCounts | None) -> Iterator[str]:
    yield ""
    names = ", ".join(course.state.candidates)
    began = datetime.fromtimestamp(course.began, UTC)
    kind = course.policy.strategy.replace("_", " ")
    yield f"Rollout {course.id}: {names} beside {course.state.stable}, {kind}, begun {began:%d %b %H:%M} by {course.by}"
    rulings = () if course.last is None else course.last.rulings
    if course.ended is not None:
        how = course.ended.how.replace("_", " ")
        told = f"{how} after {_span(course.ended.at - course.began)}"
        yield from _wrapped(f"{told}: ", beside(course.ended.reason, rulings))
        if is_open:
            yield "The traffic is being changed to that."
    else:
        yield _step(course, now)
        if course.last is not None:
            yield from _decision(course.last)
    if course.windows:
        yield ""
        yield from _windows(course.windows)
    if labels is not None and course.ended is None:
        yield _labels(labels)
    if rulings:
        yield ""
        yield from _rulings(rulings, several=len(course.state.candidates) > 1)
    yield from _history(course)


def _decision(decision: Decision) -> Iterator[str]:
    """Yield what is decided, with what its reason adds to the rulings below it."""
    more = beside(decision.reason, decision.rulings)
    for opening in _OPENINGS:
        more = more.removeprefix(opening).strip()
    yield from _wrapped(f"{_outcome(decision.outcome)}: ", more) if more else [_outcome(decision.outcome)]


def _labels(counts: FeedbackCounts) -> str:
    """Return what became of all outcomes that were handed in for the service."""
    rest = ((counts.unmatched, "unmatched"), (counts.duplicate, "duplicate"), (counts.malformed, "malformed"))
    joined = f"{grouped(counts.joined)} joined ({grouped(counts.late)} late), "
    return f"labels: {joined}" + ", ".join(f"{grouped(n)} {what}" for n, what in rest)


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


def _rulings(rulings: tuple[Ruling, ...], *, several: bool) -> Iterator[str]:
    """Yield a line a requirement, and its reason below; a sentence that stands above is not said again."""
    said: dict[str, str] = {}
    for one in rulings:
        name = f"{one.requirement} of {one.release}" if several else one.requirement
        facts = [f"{grouped(one.samples)} samples"] if one.samples else []
        facts += [f"about {grouped(one.samples_expected)} more"] if one.samples_expected else []
        facts += ["incident"] if one.incident else []
        told = f" ({', '.join(facts)})" if facts else ""
        yield f"{_MARKS[one.verdict]}  {name}{told}"
        sentences = _SENTENCES.split(one.reason)
        known = [said[each] for each in sentences if each in said]
        fresh = [each for each in sentences if each not in said]
        if known and not any(len(each) >= REPEATED for each in fresh):
            fresh = [f"The same as for {known[0]}."]
        metric = re.split("[@~]", one.requirement)[0]
        yield from textwrap.wrap(
            " ".join(fresh).removeprefix(f"{metric}: "), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT
        )
        said |= {each: name for each in fresh if each not in said and len(each) >= REPEATED}


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
