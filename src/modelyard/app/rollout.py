"""The verbs of rollouts: begin one, ask for the next step, pause, resume, and see how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelyard.app.records import Records
from modelyard.app.sealed_spec import spec_of
from modelyard.app.traffic import TrafficVerbs
from modelyard.bundle.open import read_manifest
from modelyard.core.ids import check_name, parse_release
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.core.rollout import Strategy
from modelyard.errors import NotRunning, UsageError
from modelyard.flow.rollout.beginning import Asked, start, told
from modelyard.flow.rollout.courses import Courses
from modelyard.flow.rollout.observer import Counts
from modelyard.rollout.course import Course, Order, ask
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed
from modelyard.serve.messages import Status
from modelyard.store.outcomes import Outcomes


class Begun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout that was begun."""

    course: Course
    changed: Changed
    notes: tuple[str, ...] = ()  # what cannot be judged, and other things to know


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service and its rollout are."""

    service: str
    traffic: Traffic
    status: Status | None  # None: no supervisor answers
    course: Course | None  # the open rollout or the last
    is_open: bool


@dataclass(frozen=True)
class RolloutVerbs:
    """Commands on the rollouts of this store's services."""

    records: Records

    def begin(self, refs: Sequence[str], strategy: Strategy | None = None) -> Begun | Changed:
        """Let one release or several take over as their spec says, or by another strategy; all at once is a deploy.

        Raises: what `Changes.deploy` and `beginning.start` do; UsageError for releases of several names.
        """
        if not refs or len({parse_release(ref)[0] for ref in refs}) != 1:
            raise UsageError(f"A rollout is of one or more releases of one name; {', '.join(refs) or 'none'} came.")
        with self.records.store() as store:
            releases = [store.releases.get(ref) for ref in refs]
            body = store.releases.body(releases[-1].id)
        spec, manifest = spec_of(body), read_manifest(body)
        chosen = strategy or spec.rollout.strategy
        names = tuple(str(release.id) for release in releases)
        if chosen is Strategy.ALL_AT_ONCE:
            if len(names) > 1:
                raise UsageError(f"One release takes all of the traffic at once, and {', '.join(names)} were named.")
            return self._traffic().deploy(names[0])
        name = releases[-1].id.name
        folder = self._folder(name)
        asked = Asked(
            service=name,
            candidates=names,
            policy=spec.policy(chosen),
            requirements=spec.requirement_records(),
            by=self.records.settings.user,
            positive=manifest.classes[-1] if manifest.task is Task.BINARY else None,
            price_per_cpu_hour=spec.serving.price_per_cpu_hour,
            key_header=spec.rollout.key_header,
            place=self._place(folder),
        )
        with self._traffic().changes() as changes:
            course, changed = start(
                asked,
                courses=Courses(folder),
                traffics=changes,
                observer=Counts(folder, lambda: Outcomes(folder)),
                clock=self.records.clock,
            )
        return Begun(course=course, changed=changed, notes=tuple(told(asked, course)))

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
        folder = self._folder(name)
        try:
            status = control.status(folder)
        except NotRunning:
            status = None
        courses = Courses(folder)
        with self._traffic().changes() as changes:
            traffic = changes.current(name)
        return Seen(service=name, traffic=traffic, status=status, course=courses.read(), is_open=courses.is_open)

    def _ask(self, name: str, verb: str, *, order: Order | None = None, paused: bool | None = None) -> Course:
        courses = Courses(self._folder(name))
        with self._traffic().changes() as changes, courses.hold():
            course = courses.need()
            with changes.audit.change(verb, resources=(name, *course.state.running), rollback_available=True) as note:
                asked = ask(course, order=order, paused=paused)
                courses.write(asked)
                note.update({"rollout": course.id, "step": course.state.step, "order": order, "paused": asked.paused})
        return asked

    def _traffic(self) -> TrafficVerbs:
        records = self.records
        return TrafficVerbs(records.settings, records.store, records.clock, records.command)

    def _folder(self, name: str) -> Path:
        folder = self.records.settings.home / "run" / check_name(name)
        if not folder.is_dir():
            raise NotRunning(f"No service `{name}` runs. Serve a release of it first: modelyard serve {name}@NUMBER")
        return folder

    def _place(self, folder: Path) -> int:
        outcomes = Outcomes(folder, clock=self.records.clock)
        try:
            outcomes.ingest()
            return outcomes.last_place()
        finally:
            outcomes.close()
