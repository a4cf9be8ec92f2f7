"""The verbs of rollouts: begin one as the spec of its release says, and those of one that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelyard.app.course_verbs import CourseVerbs
from modelyard.app.sealed_spec import spec_of
from modelyard.bundle.open import read_body
from modelyard.core.ids import parse_release
from modelyard.core.metrics import Task
from modelyard.core.rollout import Strategy
from modelyard.errors import UsageError
from modelyard.flow.rollout.beginning import Asked, start, told
from modelyard.flow.rollout.courses import Courses
from modelyard.flow.rollout.observer import Counts
from modelyard.rollout.course import Course
from modelyard.serve.keep.change import Changed
from modelyard.store.outcomes import Outcomes


class Begun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout that was begun."""

    course: Course
    changed: Changed
    notes: tuple[str, ...] = ()  # what cannot be judged, and other things to know


@dataclass(frozen=True)
class RolloutVerbs(CourseVerbs):
    """Commands on the rollouts of this store's services."""

    def begin(self, refs: Sequence[str], strategy: Strategy | None = None) -> Begun | Changed:
        """Let one release or several take over as their spec says, or by another strategy; all at once is a deploy.

        Raises: what `Changes.deploy` and `beginning.start` do; UsageError for releases of several names.
        """
        if not refs or len({parse_release(ref)[0] for ref in refs}) != 1:
            raise UsageError(f"A rollout is of one or more releases of one name; {', '.join(refs) or 'none'} came.")
        with self.records.store() as store:
            releases = [store.releases.get(ref) for ref in refs]
            body = store.releases.body(releases[-1].id)
        spec, sealed = spec_of(body), read_body(body)
        chosen = strategy or spec.rollout.strategy
        names = tuple(str(release.id) for release in releases)
        if chosen is Strategy.ALL_AT_ONCE:
            if len(names) > 1:
                raise UsageError(f"One release takes all of the traffic at once, and {', '.join(names)} were named.")
            return self.traffic().deploy(names[0])
        name = releases[-1].id.name
        manifest, features = sealed.manifest, tuple(column.name for column in sealed.contract.features)
        folder = self.folder(name)
        asked = Asked(
            service=name,
            candidates=names,
            policy=spec.policy(chosen),
            requirements=spec.requirement_records(),
            features=features,
            by=self.records.settings.user,
            positive=manifest.classes[-1] if manifest.task is Task.BINARY else None,
            price_per_cpu_hour=spec.serving.price_per_cpu_hour,
            key_header=spec.rollout.key_header,
            place=self._place(folder),
        )
        with self.traffic().changes() as changes:
            course, changed = start(
                asked,
                courses=Courses(folder),
                traffics=changes,
                observer=Counts(folder, lambda: Outcomes(folder)),
                clock=self.records.clock,
            )
        return Begun(course=course, changed=changed, notes=tuple(told(asked, course)))

    def _place(self, folder: Path) -> int:
        outcomes = Outcomes(folder, clock=self.records.clock)
        try:
            outcomes.ingest()
            return outcomes.last_place()
        finally:
            outcomes.close()
