"""Keeping a rollout: look, decide, write the course, change the traffic; again until it has ended.

Whoever is killed at any of these is followed by another who reads the course and goes on: the course is written before
the traffic is changed, each change names the epoch that it expects, and a change that is there already is not made
again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from modelyard.core.clock import Clock, stamp_seconds
from modelyard.core.evidence import RolloutEvidence
from modelyard.core.release import Traffic
from modelyard.core.rollout import Decision, How, Window
from modelyard.errors import CourseUnreadable, DataError, ModelyardError, NotRunning, StoreConflict, StoreError
from modelyard.flow.rollout.courses import Courses
from modelyard.rollout.course import Course, Seen, begin_anew, end, follow, move, settle, take_over
from modelyard.rollout.decide import decide
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed

LOOK_S = 0.25  # between looks
FIRST_LOOK_S, FIRST_S = 0.1, 20.0  # early in a step, where a large regression shows within some dozens of requests
MOST_FAILURES = 40  # looks in a row that fail, until the candidate goes back
SETTLE_S = 0.5  # after the fronts follow a table, until requests that began by the one before are answered
ALIVE_S = 5.0  # a look takes no longer
CHANGE_S = 90.0  # for releases to load and the fronts to follow
TRIES = 3  # to bring the traffic to a course, until the candidate goes back


class Traffics(Protocol):
    """What changes the traffic of a service; `Changes`."""

    def set_traffic(self, name: str, shares: Mapping[str, float], **table: Any) -> Changed: ...

    def rollback(self, name: str) -> Changed: ...

    def current(self, name: str) -> Traffic:
        """Return the table with the highest epoch, of the store and the local copy."""
        ...


class Observer(Protocol):
    """What is counted of releases while they serve."""

    def seen(self, course: Course, now: float) -> dict[str, Seen]:
        """Return what was counted so far of each release of the course."""
        ...

    def so_far(self, course: Course, now: float) -> dict[str, Window]:
        """Return what fronts counted so far of each release of the course."""
        ...

    def windows(self, course: Course, now: float) -> dict[str, Window]:
        """Return what was counted of each release since the step began."""
        ...


@dataclass(frozen=True)
class Keeper:
    """Keeps the rollout of one service. `tell` puts an event on the audit log, `record` evidence on a release."""

    courses: Courses
    traffics: Traffics
    observer: Observer
    clock: Clock
    tell: Callable[[str, Mapping[str, Any]], None]
    record: Callable[[str, RolloutEvidence], None]
    said: dict[str, str] = field(default_factory=dict)  # the last reason of each event that is told once

    def run(self, pause: Callable[[float], None]) -> None:
        """Look again and again until the rollout has ended. One that cannot be looked at for long goes back."""
        failures = 0
        while True:
            try:
                if self.look():
                    return
                failures = 0
            except CourseUnreadable as fault:
                if self._abandon(fault):
                    return
            except DataError as fault:
                self._begin_anew(fault)
            except ModelyardError as fault:
                failures += 1
                self.tell("rollout_look_failed", {"times": failures, "why": str(fault)[:300]})
                if failures >= MOST_FAILURES:
                    self._give_up(fault)
            pause(self._pause_s())

    def look(self) -> bool:
        """Take one turn; say whether the rollout has ended and the traffic is as it should be."""
        with self.courses.hold():
            course = self.courses.read()
            if course is None or not self.courses.is_open:
                return True
            self.courses.alive(self.clock.monotonic() + ALIVE_S)
            now = self.clock.now().timestamp()
            table = self.traffics.current(course.service)
            moved = self._moved(course, table, now)
            if moved.epoch > course.epoch and moved.ended is None:
                moved = replace(moved, before=self.observer.so_far(moved, now))
            if moved is not course:
                self.courses.write(moved)
                self._tell(course, moved)
            if moved.ended is not None and table.epoch >= moved.epoch:
                self._finish(moved)
                return True
        if moved.epoch > table.epoch:
            self._bring(moved, table)
        return False

    def _moved(self, course: Course, table: Traffic, now: float) -> Course:
        """Return the course after what came since the last look."""
        if course.ended is not None:
            return settle(course, table)
        if table.epoch < course.epoch:
            return course
        if not course.fits(table):
            return take_over(course, table, now)
        if table.epoch > course.epoch:  # its table, under a newer epoch
            return replace(course, epoch=table.epoch)
        if not course.since:
            return self._begun(course, now)
        windows = self.observer.windows(course, now)
        decision, state = decide(windows, course.requirements, course.policy, course.state, now)
        return move(course, decision, state, windows, now)

    def _begun(self, course: Course, now: float) -> Course:
        """Return the course with its step begun, if all fronts follow its table for long enough."""
        if not self._follows(course.epoch):
            return replace(course, followed=None) if course.followed is not None else course
        if course.followed is None:
            return replace(course, followed=now)
        return follow(course, self.observer.seen(course, now), now) if now - course.followed >= SETTLE_S else course

    def _follows(self, epoch: int) -> bool:
        """Say whether the fronts answer by a table; without a supervisor they take the local copy by themselves."""
        try:
            fronts = control.status(self.courses.folder).fronts.values()
        except NotRunning:
            local = control.local_traffic(self.courses.folder)
            return local is not None and local.epoch >= epoch
        return bool(fronts) and all(report.epoch >= epoch for report in fronts)

    def _bring(self, course: Course, table: Traffic) -> None:
        """Change the traffic to what the course wants. What cannot be done now is tried at the next look."""
        self.courses.alive(self.clock.monotonic() + CHANGE_S)
        try:
            if course.ended is not None and course.ended.how is not How.PROMOTED:
                changed = self.traffics.rollback(course.service)
                self.tell("rollout_taken_back", {"rollout": course.id, "seconds": changed.seconds})
            else:
                put_in_force(course, self.traffics, table)
        except StoreConflict:
            return  # someone was quicker: the next look sees what they did
        except (StoreError, NotRunning) as fault:
            self._say_once("rollout_waits", str(fault))
        except ModelyardError as fault:
            self._failed(course, fault)

    def _failed(self, course: Course, fault: ModelyardError) -> None:
        """Note that the traffic could not be changed; after some tries the candidate goes back."""
        with self.courses.hold():
            now = self.clock.now().timestamp()
            table = self.traffics.current(course.service)
            known = self.courses.read()
            if known is None or known.ended is not None or known.epoch != course.epoch:
                return
            tried = replace(known, tries=known.tries + 1, epoch=max(known.epoch, table.epoch + 1))
            self.tell("rollout_cannot_go_on", {"rollout": course.id, "tries": tried.tries, "why": str(fault)[:300]})
            if tried.tries >= TRIES:
                tried = end(tried, How.TAKEN_BACK, f"The traffic could not be changed: {fault}", now)
            self.courses.write(tried)

    def _pause_s(self) -> float:
        """Return how long to wait before the next look."""
        with contextlib.suppress(CourseUnreadable):  # the next look says so
            course = self.courses.read()
            is_young = course is not None and self.clock.now().timestamp() - course.state.began < FIRST_S
            if course is not None and is_young and not course.is_watched:
                return FIRST_LOOK_S
        return LOOK_S

    def _abandon(self, fault: CourseUnreadable) -> bool:
        """Take back what nobody can judge any more; say whether that was done."""
        name = self.courses.folder.name
        if self.traffics.current(name).watch is not None:
            try:
                self.traffics.rollback(name)
            except ModelyardError as other:
                self._say_once("rollout_waits", str(other))
                return False
        self.tell("rollout_unreadable", {"why": str(fault)[:300], "kept_as": str(self.courses.put_aside())})
        return True

    def _say_once(self, event: str, why: str) -> None:
        """Tell why nothing can be done now, and not again as long as it is so."""
        if self.said.get(event) != why:
            self.said[event] = why
            self.tell(event, {"why": why[:300]})

    def _begin_anew(self, fault: DataError) -> None:
        """Let the step begin once more: what was counted since it began is gone."""
        with self.courses.hold():
            course = self.courses.read()
            if course is not None and course.ended is None:
                self.tell("rollout_counts_lost", {"rollout": course.id, "why": str(fault)[:300]})
                self.courses.write(begin_anew(course))

    def _give_up(self, fault: ModelyardError) -> None:
        with self.courses.hold():
            course = self.courses.read()
            if course is not None and course.ended is None:
                now = self.clock.now().timestamp()
                self.courses.write(end(course, How.TAKEN_BACK, f"It cannot be judged any more: {fault}", now))

    def _finish(self, course: Course) -> None:
        """Put what came of it on the record of each candidate, and let go of the course."""
        assert course.ended is not None
        for release in course.state.candidates:
            with contextlib.suppress(StoreError):  # the course has it too
                self.record(release, evidence_of(course))
        self.courses.close()
        self.tell("rollout_ended", {"rollout": course.id, "how": course.ended.how, "reason": course.ended.reason})

    def _tell(self, before: Course, after: Course) -> None:
        """Put a change of what is decided on the audit log; looks that change nothing are not told."""
        if after.epoch == before.epoch and after.ended == before.ended and len(after.history) == len(before.history):
            return
        decision: Decision | None = after.last
        facts: dict[str, Any] = {"rollout": after.id, "step": after.state.step, "shares": after.wanted}
        if decision is not None:
            facts |= {"outcome": decision.outcome, "reason": decision.reason[:2000]}
        self.tell("rollout_decided", facts)


def put_in_force(course: Course, traffics: Traffics, table: Traffic) -> Changed:
    """Change the traffic from a table to what a course wants; raises as `Changes.set_traffic`."""
    return traffics.set_traffic(
        course.service,
        course.wanted,
        expect_epoch=table.epoch,
        previous=course.state.stable,
        rules=table.rules,
        shadow=course.mirrored,
        key_header=course.key_header,
        watch=None if course.ended is not None else course.watch,
    )


def evidence_of(course: Course) -> RolloutEvidence:
    """Return the record of a rollout that has ended."""
    assert course.ended is not None
    return RolloutEvidence(
        rollout=course.id,
        service=course.service,
        stable=course.state.stable,
        policy=course.policy,
        began=stamp_seconds(course.began),
        ended=stamp_seconds(course.ended.at),
        how=course.ended.how,
        reason=course.ended.reason,
        rulings=() if course.last is None else course.last.rulings,
        windows=course.windows,
        history=course.history,
    )
