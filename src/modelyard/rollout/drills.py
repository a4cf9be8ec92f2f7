"""Rehearsing a failure: harm, wait for the first sign, mend, wait until callers are answered as before; then judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from msgspec.structs import replace

from modelyard.core.clock import Clock, stamp
from modelyard.core.drill import DEFAULT_DRILLS, Became, Drilled, Outcome, Sign
from modelyard.core.ports import Progress, Rehearsal
from modelyard.errors import CannotRehearse, ModelyardError, UsageError
from modelyard.rollout.drills_judge import DECIDED, Course, as_before, judge

LIMIT_S = 30.0  # to recover from a failure, the person's part in it too
ROLLBACK_LIMIT_S = 5.0  # to go back, from the decision
QUIET_S = 1.0  # of load before the harm
SETTLED_S = 0.6  # of good answers, until the service counts as recovered: longer than reports take
LOOK_S = 0.02
SLOW_LEAST_S, SLOW_TIMES = 0.25, 5.0  # an answer that took longer, and so many times the slowest in quiet, is slow

Open = Callable[[str], AbstractContextManager[Rehearsal]]


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds in the order in which they are rehearsed, each once; raises UsageError for unknown ones."""
    unknown = [kind for kind in kinds if kind not in DEFAULT_DRILLS]
    if unknown or not kinds:
        raise UsageError(
            f"There is no drill {', '.join(f'`{kind}`' for kind in unknown) or 'named'}. "
            f"Known: {', '.join(DEFAULT_DRILLS)}."
        )
    return tuple(kind for kind in DEFAULT_DRILLS if kind in kinds)


def drill_all(
    kinds: Sequence[str], open_copy: Open, *, clock: Clock, pause: Callable[[float], None], progress: Progress
) -> tuple[Drilled, ...]:
    """Rehearse each kind on a fresh copy of the service; one that fails does not keep the others from being tried."""
    done = []
    progress.stage("drills", total=float(len(kinds)))
    for number, kind in enumerate(kinds):
        progress.advance(float(number), kind)
        drilled = drill(kind, open_copy, clock=clock, pause=pause)
        done.append(drilled)
        progress.say(f"{kind}: {drilled.outcome}. {drilled.why}")
    progress.advance(float(len(kinds)))
    return tuple(done)


def drill(kind: str, open_copy: Open, *, clock: Clock, pause: Callable[[float], None]) -> Drilled:
    """Rehearse one kind; what goes wrong is in the record. `pause` waits so many seconds."""
    began, limit_s = stamp(clock.now()), ROLLBACK_LIMIT_S if kind in DECIDED else LIMIT_S
    try:
        with open_copy(kind) as copy:
            return judge(_run(Course(kind=kind, limit_s=limit_s), copy, clock, pause), began)
    except CannotRehearse as fault:
        return Drilled(kind=kind, outcome=Outcome.NOT_TRIED, why=str(fault), began=began, limit_s=limit_s)
    except (ModelyardError, OSError) as fault:
        return Drilled(kind=kind, outcome=Outcome.FAILED, why=str(fault), began=began, limit_s=limit_s)


def _run(course: Course, copy: Rehearsal, clock: Clock, pause: Callable[[float], None]) -> Course:
    """Harm the copy and stay until it is as before, or the time is over."""
    pause(QUIET_S)
    quiet = copy.asked()
    if not quiet or any(one.became is not Became.ANSWERED for one in quiet):
        raise CannotRehearse(
            f"The copy did not answer well before it was harmed: {copy.look().why or 'too few answers'}."
        )
    slowest = max(one.ended - one.due for one in quiet)
    harmed = clock.monotonic()
    copy.harm()
    began = clock.monotonic()
    course = replace(course, harmed=harmed, began=began, slow_s=max(SLOW_LEAST_S, SLOW_TIMES * slowest))
    sign = None if course.kind in DECIDED else _await_sign(copy, clock, pause, began + course.limit_s)
    if sign is None and course.kind not in DECIDED:
        course = replace(course, why_not="Nothing was to be seen of it on status or log")
    else:
        copy.mend()
        course = _await_whole(replace(course, sign=sign), copy, clock, pause)
    asked, kept = copy.finish()
    return replace(course, asked=tuple(asked), kept=kept)


def _await_sign(copy: Rehearsal, clock: Clock, pause: Callable[[float], None], end: float) -> Sign | None:
    while clock.monotonic() < end:
        sight = copy.look()
        if sight.sign is not None:
            return sight.sign
        pause(LOOK_S)
    return None


def _await_whole(course: Course, copy: Rehearsal, clock: Clock, pause: Callable[[float], None]) -> Course:
    """Wait until the copy has been whole, and every answer as before, for a while."""
    since, why = None, ""
    while (now := clock.monotonic()) < course.began + course.limit_s + SETTLED_S:
        sight = copy.look()
        if not sight.whole:
            since, why = None, sight.why
        elif since is None:
            since, why = now, ""
        else:
            last_bad = max((one.ended for one in copy.asked() if not as_before(one, course)), default=since)
            if now - max(since, last_bad) >= SETTLED_S:
                return replace(course, whole=since)
        pause(LOOK_S)
    return replace(course, why_not=why or "Callers were not answered as before")
