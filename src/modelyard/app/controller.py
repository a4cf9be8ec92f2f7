"""A service's controller: keeps its rollout in a process of its own, so that what decides cannot harm what serves."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.app.records import Records
from modelyard.app.traffic import TrafficVerbs
from modelyard.core.clock import stamp
from modelyard.core.codec import decode
from modelyard.core.evidence import Evidence, RolloutEvidence
from modelyard.flow.rollout.courses import Courses
from modelyard.flow.rollout.keeper import Keeper
from modelyard.flow.rollout.observer import Counts
from modelyard.serve.messages import ControllerJob
from modelyard.store.outcomes import Outcomes

LOCK_FILE = "controller.lock"


def main() -> None:
    """Keep the rollout described on standard input until it has ended."""
    keep(decode(sys.stdin.buffer.read(), ControllerJob))


def keep(job: ControllerJob) -> None:
    """Keep the rollout of a service; where another process does, wait until that has ended."""
    folder = Path(job.run_folder)
    records = Records(command=f"controller of {job.service}")
    verbs = TrafficVerbs(records.settings, records.store, records.clock, records.command)
    opened: list[Outcomes] = []

    def outcomes() -> Outcomes:
        if not opened:
            opened.append(Outcomes(folder, clock=records.clock))
        return opened[0]

    with (folder / LOCK_FILE).open("ab") as alone, verbs.changes() as changes:
        fcntl.flock(alone, fcntl.LOCK_EX)

        def tell(event: str, facts: Mapping[str, Any]) -> None:
            line = changes.audit.change(event, resources=(job.service,), rollback_available=True, must_not_wait=True)
            with line as note:
                note.update(facts)

        def record(ref: str, evidence: RolloutEvidence) -> None:
            with records.store() as store:
                release = store.releases.get(ref)
                said = Evidence(
                    release=str(release.id), body=release.body, recorded=stamp(records.clock.now()), payload=evidence
                )
                store.releases.evidence(release.id, append=said)

        keeper = Keeper(
            courses=Courses(folder),
            traffics=changes,
            observer=Counts(folder, outcomes),
            clock=records.clock,
            tell=tell,
            record=record,
        )
        keeper.run(time.sleep)
