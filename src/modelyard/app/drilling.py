"""The verb that rehearses failures and the way back of a release, on copies of its service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from modelyard.app.bench import alone
from modelyard.app.drill_bodies import copied
from modelyard.app.drill_harm import RATE, open_copy
from modelyard.app.records import Records
from modelyard.app.sealed_spec import spec_of
from modelyard.app.serving import supervisor_job
from modelyard.app.settings import Settings
from modelyard.core.clock import stamp
from modelyard.core.drill import DrillEvidence, Outcome
from modelyard.core.evidence import Evidence
from modelyard.core.machine import fingerprint
from modelyard.core.ports import Progress
from modelyard.core.requirement import Verdict
from modelyard.rollout.drills import check_kinds, drill_all


class DrillReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `drill` did."""

    release: str
    recorded: str  # RFC 3339
    evidence: DrillEvidence

    @property
    def verdict(self) -> Verdict:
        """Return fail where a drill failed, inconclusive where one could not be tried, else pass."""
        outcomes = {drilled.outcome for drilled in self.evidence.drills}
        if Outcome.FAILED in outcomes:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if Outcome.NOT_TRIED in outcomes else Verdict.PASS


class Drills(Records):
    """Rehearses."""

    def __init__(self, settings: Settings | None = None, *, progress: Progress, command: str = "python") -> None:
        super().__init__(settings, command=command)
        self.progress = progress

    def drill(self, ref: str, kinds: Sequence[str] | None = None) -> DrillReport:
        """Rehearse each kind on a copy of the service, and append what came of it to the release's evidence.

        Args:
            kinds: of drills; those that the release's own spec lists by default.

        Raises: UsageError for a kind that is not known, UnknownName for the release, and what opening its body does.
        A drill that fails raises nothing: its record says so.
        """
        asked = None if kinds is None else check_kinds(kinds)
        with self.store() as store:
            release = store.releases.get(ref)
            spec = spec_of(store.releases.body(release.id))
            chosen = asked or check_kinds(spec.rollout.drills)
            records = [record for _, record in store.releases.evidence(release.id)]
            job, left_out = alone(supervisor_job(spec.name, Path(), spec, records, host="127.0.0.1", port=0))
            made = copied(release, store.releases, job)
            resources = (release.id.name, str(release.id))
            about = {"drills": list(chosen)}
            with store.audit.change("drill", resources=resources, rollback_available=False, model=about) as note:
                drills = drill_all(
                    chosen,
                    lambda kind: open_copy(kind, made),
                    clock=self.clock,
                    pause=time.sleep,
                    progress=self.progress,
                )
                evidence = DrillEvidence(
                    machine=fingerprint(), rate=RATE, way_back=made.behind_told, left_out=left_out, drills=drills
                )
                recorded = stamp(self.clock.now())
                record = Evidence(release=str(release.id), body=release.body, recorded=recorded, payload=evidence)
                store.releases.evidence(release.id, append=record)
                note["outcomes"] = {drilled.kind: drilled.outcome.value for drilled in drills}
        return DrillReport(release=str(release.id), recorded=recorded, evidence=evidence)
