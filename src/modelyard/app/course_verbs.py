"""The verbs of a rollout that is there: ask for the next step, pause, resume, and see how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelyard.app.records import Records
from modelyard.app.traffic import TrafficVerbs
from modelyard.bundle.answers import FeedbackCounts
from modelyard.core.ids import check_name
from modelyard.core.release import Traffic
from modelyard.errors import NotRunning, StoreError
from modelyard.flow.rollout.courses import Courses
from modelyard.rollout.course import Course, Order, ask
from modelyard.serve.keep import control
from modelyard.serve.messages import Status
from modelyard.store.outcomes import Outcomes


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service and its rollout are."""

    service: str
    traffic: Traffic
    status: Status | None  # None: no supervisor answers
    course: Course | None  # the open rollout or the last
    is_open: bool
    labels: FeedbackCounts | None = None  # where the rollout needs them: what became of all feedback so far


@dataclass(frozen=True)
class CourseVerbs:
    """Commands on rollouts that began. They need no spec, so that a supervisor can give them too."""

    records: Records

    def promote(self, name: str, *, full: bool = False) -> Course:
        """Have the rollout go to its next step, or to all of the traffic, whatever is decided; raises UsageError."""
        return self._ask(name, "promote", order=Order.FULL if full else Order.FORWARD)

    def pause(self, name: str) -> Course:
        """Have the rollout not go forward; it still goes back. Raises UsageError."""
        return self._ask(name, "pause", paused=True)

    def resume(self, name: str) -> Course:
        """Let a paused rollout go forward again; raises UsageError."""
        return self._ask(name, "resume", paused=False)

    def status(self, name: str) -> Seen:
        """Return how a service and its rollout are; raises NotRunning, UnknownName."""
        folder = self.folder(name)
        try:
            status = control.status(folder)
        except NotRunning:
            status = None
        courses = Courses(folder)
        with self.traffic().changes() as changes:
            traffic = changes.current(name)
        course = courses.read()
        return Seen(
            service=name,
            traffic=traffic,
            status=status,
            course=course,
            is_open=courses.is_open,
            labels=None if course is None or not course.watch.keeps_answers else self._labels(folder),
        )

    def traffic(self) -> TrafficVerbs:
        """Return the verbs on traffic, by the same person."""
        records = self.records
        return TrafficVerbs(records.settings, records.store, records.clock, records.command)

    def folder(self, name: str) -> Path:
        """Return the run folder of a service; raises NotRunning where there is none."""
        folder = self.records.settings.home / "run" / check_name(name)
        if not folder.is_dir():
            raise NotRunning(f"No service `{name}` runs. Serve a release of it first: modelyard serve {name}@NUMBER")
        return folder

    def _ask(self, name: str, verb: str, *, order: Order | None = None, paused: bool | None = None) -> Course:
        courses = Courses(self.folder(name))
        with self.traffic().changes() as changes, courses.hold():
            course = courses.need()
            with changes.audit.change(verb, resources=(name, *course.state.running), rollback_available=True) as note:
                asked = ask(course, order=order, paused=paused)
                courses.write(asked)
                note.update({"rollout": course.id, "step": course.state.step, "order": order, "paused": asked.paused})
        return asked

    def _labels(self, folder: Path) -> FeedbackCounts | None:
        """Return what became of feedback; None where it cannot be read now, which holds up nothing else."""
        try:
            outcomes = Outcomes(folder, clock=self.records.clock)
        except StoreError:
            return None
        try:
            return outcomes.counts()
        except StoreError:
            return None
        finally:
            outcomes.close()
