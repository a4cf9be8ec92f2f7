"""The beginning of a rollout: what is asked, held against what serves, written down, and set going."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from modelyard.core.clock import Clock
from modelyard.core.release import ROUTING_KEY, Traffic
from modelyard.core.requirement import Requirement
from modelyard.core.rollout import Policy, Strategy
from modelyard.errors import ModelyardError, UsageError
from modelyard.flow.rollout.courses import Courses
from modelyard.flow.rollout.keeper import Observer, Traffics, put_in_force
from modelyard.rollout.claims import LATENCY, Against, Claim, claims, judged_at_build, unjudged, watched
from modelyard.rollout.course import Course, begin
from modelyard.rollout.watching import kept_columns, watch
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed
from modelyard.serve.keep.following import largest
from modelyard.serve.told.quantiles import stayed_below_ms

LEAST_TIMED = 100  # requests of the stable release, before what it stayed below can be a limit


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a rollout is to be, from the newest candidate's sealed spec and from the command."""

    service: str
    candidates: tuple[str, ...]
    policy: Policy
    requirements: tuple[Requirement, ...]
    features: tuple[str, ...]  # columns of a request
    by: str
    positive: str | None = None
    price_per_cpu_hour: float | None = None
    key_header: str = ROUTING_KEY
    place: int = 0  # of the last outcome that was joined before


def start(
    asked: Asked, *, courses: Courses, traffics: Traffics, observer: Observer, clock: Clock
) -> tuple[Course, Changed]:
    """Begin a rollout: the course is written, the candidates load, the first table is in force.

    Raises: UsageError where one is open, where a candidate has the traffic already, and where the requirements cannot
    be judged so; NotRunning; and what setting the traffic raises: then nothing has begun.
    """
    control.status(courses.folder)  # raises where nothing runs
    with courses.hold():
        last = courses.read()
        _check_free(courses, last)
        table = traffics.current(asked.service)
        course = _course(asked, table, courses.folder, clock)
        course = replace(course, before=observer.so_far(course, course.began))
        courses.open(course)
        courses.alive(clock.monotonic())
        try:
            changed = put_in_force(course, traffics, table)
        except ModelyardError:
            courses.take_back(last)
            raise
    return course, changed


def _course(asked: Asked, table: Traffic, run_folder: Path, clock: Clock) -> Course:
    """Return the course of what is asked, beside what has the most of the traffic now."""
    stable = largest(table)
    if stable in asked.candidates:
        raise UsageError(f"{stable} has the most of the traffic of `{asked.service}` already.")
    found = claims(asked.requirements, asked.policy)
    return begin(
        id=f"{asked.service}-{clock.now():%Y%m%d-%H%M%S}",
        service=asked.service,
        by=asked.by,
        policy=asked.policy,
        requirements=asked.requirements,
        stable=stable,
        candidates=asked.candidates,
        epoch=table.epoch,
        now=clock.now().timestamp(),
        watch=watch(
            found,
            positive=asked.positive,
            price_per_cpu_hour=asked.price_per_cpu_hour,
            stable_ms=_stable_ms(found, run_folder, stable),
            columns=kept_columns(found),
        ),
        key_header=asked.key_header,
        place=asked.place,
    )


def told(asked: Asked, course: Course) -> list[str]:
    """Return in words what cannot be judged of what is asked, as nothing counts it."""
    known = {item.counts for item in course.watch.items}
    lines = []
    for claim in claims(asked.requirements, asked.policy):
        if LATENCY.fullmatch(claim.requirement.metric) and claim.counts[0] not in known:
            lines.append(
                f"{claim.key} is not judged: {course.state.stable} has answered fewer than {LEAST_TIMED} requests, so "
                "nobody knows what it stays below. The rollout holds; promote it by hand, or begin it later."
            )
        if claim.requirement.metric == "cost_per_thousand" and claim.counts[0] not in known:
            lines.append(f"{claim.key} is not judged: the spec names no `serving.price_per_cpu_hour`.")
    lines += [*unjudged(asked.requirements, asked.policy), *_untold(asked)]
    if asked.policy.strategy is Strategy.EXPERIMENT and len(asked.candidates) > 1:
        lines.append(f"{len(asked.candidates)} candidates share {100 * asked.policy.share_at(0):g} % of the traffic.")
    return lines


def _untold(asked: Asked) -> Iterator[str]:
    """Say of which columns nothing is known before feedback tells it, or ever."""
    for one in watched(asked.requirements, asked.policy):
        if judged_at_build(one):
            continue
        if one.metric == "f1" and asked.positive is None:
            yield f"{one.id} is not judged: over several classes it is no rate of single rows. Promote it by hand."
        by = [one.group, None if one.slice is None else one.slice.column]
        for column in (name for name in by if name is not None and name not in asked.features):
            if one.needs_labels:
                yield f'{one.id} waits for feedback that tells `{column}`, as "columns": {{"{column}": ...}}.'
            else:
                yield f"{one.id} is not judged: no request carries `{column}`. The rollout holds; promote it by hand."


def _check_free(courses: Courses, last: Course | None) -> None:
    if last is None or not courses.is_open:
        return
    if last.ended is not None:
        raise UsageError(
            f"The rollout {last.id} has just ended ({last.ended.how.replace('_', ' ')}), and its traffic is being "
            f"changed to that. See it end: modelyard status {last.service} --watch"
        )
    raise UsageError(
        f"The rollout {last.id} of {', '.join(last.state.running)} is open. Let it end, `modelyard promote "
        f"{last.service}`, or take it back: modelyard rollback {last.service}"
    )


def _stable_ms(found: Sequence[Claim], run_folder: Path, stable: str) -> Mapping[str, float]:
    """Return what the stable release stayed below so far, for each margin of a latency percentile."""
    limits = {}
    for claim in found:
        named = LATENCY.fullmatch(claim.requirement.metric)
        if named and claim.against is Against.MARGIN:
            below = stayed_below_ms(run_folder, stable, int(named[1]) / 100, least=LEAST_TIMED)
            if below is not None:
                limits[claim.counts[0]] = below
    return limits
