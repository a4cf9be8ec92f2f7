"""Whether a drill passed: pure rules over what its callers and its watcher saw."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelyard.core.drill import Asked, Became, Drilled, Kept, Outcome, Sign

UNSEEN = frozenset({"store_unavailable", "wrong_outputs", "rollback_service"})  # callers must not notice
DECIDED = frozenset({"rollback_service"})  # nothing is to be detected: somebody decides


class Course(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a drill went; moments on the clock of its requests."""

    kind: str
    limit_s: float
    harmed: float = 0.0  # when the harm began: requests that were due from then on count
    began: float = 0.0  # when the harm was done, or the decision to go back was made
    slow_s: float | None = None  # an answer that took longer is not as before; None: none is too slow
    sign: Sign | None = None
    whole: float | None = None  # since when the service was whole again
    why_not: str = ""  # it was not, or no sign was seen
    asked: tuple[Asked, ...] = ()
    kept: Kept = Kept(0, 0)


def as_before(one: Asked, course: Course) -> bool:
    """Say whether a request that was due after the harm was answered as those before it."""
    if one.due < course.harmed:
        return True
    in_time = course.slow_s is None or one.ended - one.due <= course.slow_s
    return one.became is Became.ANSWERED and in_time


def judge(course: Course, began: str) -> Drilled:
    """Say whether a drill passed, and with which times and counts.

    Times count from the harm, or from the first request that was not answered as before where that came earlier; for
    a decision from that. It has recovered once it was whole again and no later request was answered otherwise.
    """
    mine = [one for one in course.asked if one.due >= course.harmed]
    worse = [one for one in mine if not as_before(one, course)]
    decided = course.kind in DECIDED
    start = course.began if decided else min([course.began, *(one.due for one in worse)])
    if course.sign is not None and course.sign.at < start:
        start = course.harmed  # it was seen while it was being done
    recovery_s = None
    if course.whole is not None:
        recovery_s = max(0.0, max([course.whole, *(one.ended for one in worse)]) - start)
    counts = {became: sum(one.became is became for one in mine) for became in Became}
    answered = [one.ended - one.due for one in mine if one.became in (Became.ANSWERED, Became.DEGRADED)]
    faults = _faults(course, counts, recovery_s)
    return Drilled(
        kind=course.kind,
        outcome=Outcome.FAILED if faults else Outcome.PASSED,
        why=" ".join(faults) or _told(course, len(mine), len(worse)),
        began=began,
        limit_s=course.limit_s,
        detection_s=None if course.sign is None else max(0.0, course.sign.at - start),
        recovery_s=recovery_s,
        sent=len(mine),
        lost=counts[Became.LOST],
        degraded=counts[Became.DEGRADED],
        failed=counts[Became.FAILED],
        worst_ms=1000 * max(answered) if answered else None,
        changes=course.kept.acknowledged,
        changes_lost=course.kept.lost,
    )


def _faults(course: Course, counts: Mapping[Became, int], recovery_s: float | None) -> list[str]:
    """Return every reason why a drill did not pass, in sentences."""
    faults = []
    if course.whole is None:
        faults.append(f"It had not recovered after {course.limit_s:g} s: {course.why_not.rstrip('.')}.")
    elif recovery_s is not None and recovery_s > course.limit_s:
        faults.append(f"It took {recovery_s:.1f} s to recover, more than {course.limit_s:g} s.")
    if counts[Became.LOST]:
        faults.append(f"{counts[Became.LOST]} requests got no answer at all.")
    seen = counts[Became.DEGRADED] + counts[Became.FAILED]
    if course.kind in UNSEEN and seen:
        faults.append(f"{seen} callers noticed, by an answer that was degraded or failed; nobody should have.")
    if course.kept.lost:
        faults.append(
            f"{course.kept.lost} of {course.kept.acknowledged} acknowledged changes were not in force after it."
        )
    if not sum(counts.values()):
        faults.append("No request was sent, so nothing was seen of what callers met.")
    return faults


def _told(course: Course, sent: int, worse: int) -> str:
    sign = "" if course.sign is None else f"First seen by: {course.sign.what}. "
    if not worse:
        return f"{sign}All {sent} requests were answered as before."
    return f"{sign}{worse} of {sent} requests were answered otherwise or late."
