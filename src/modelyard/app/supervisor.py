"""A service's supervisor process, with the store behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelyard.app.managed import ManagedRollouts
from modelyard.app.outcomes import feeding
from modelyard.app.settings import Settings, read_settings
from modelyard.app.spawn import COMMAND
from modelyard.app.way_back import GuardedChanges
from modelyard.core.clock import SystemClock, stamp
from modelyard.core.codec import decode, encode
from modelyard.core.evidence import Evidence, FallbackEvidence
from modelyard.core.ids import ReleaseId, parse_release
from modelyard.errors import ModelyardError
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.supervisor import SupervisorPorts, supervise
from modelyard.serve.messages import ERROR_FILE, SupervisorJob
from modelyard.store.open import Store, open_store

Heard = Callable[[str, Mapping[str, Any]], None]


def main() -> None:
    """Run the service described on standard input until it is told to stop; the last line says why it could not."""
    try:
        sys.exit(run_supervisor(decode(sys.stdin.buffer.read(), SupervisorJob), read_settings()))
    except ModelyardError as fault:
        sys.stderr.write(encode({"error": fault.code, "message": str(fault)}).decode() + "\n")
        sys.exit(fault.exit_code)


def run_supervisor(job: SupervisorJob, settings: Settings, heard: Heard = lambda event, facts: None) -> int:
    """Run a service in this process; return its exit status. `heard` is told every event, on a thread of its own."""
    clock = SystemClock()
    store = open_store(
        settings.home,
        database_url=settings.database_url,
        user=settings.user,
        environment="service",
        change_ticket=settings.change_ticket,
        command=f"supervisor of {job.service}",
        clock=clock,
        quota_bytes=settings.quota_bytes,
    )
    try:
        ports = supervisor_ports(job, store, clock, heard)
        return supervise(job, replace(ports, rollouts=ManagedRollouts(settings, job.service)))
    finally:
        store.close()


def supervisor_ports(job: SupervisorJob, store: Store, clock: SystemClock, heard: Heard) -> SupervisorPorts:
    """Wire the store into what a supervisor needs."""

    def on_fallback(release: str, tried: FallbackEvidence) -> None:
        name, number = parse_release(release)
        id = ReleaseId(name=name, number=number or 1)
        body = store.releases.get(id).body
        record = Evidence(release=release, body=body, recorded=stamp(clock.now()), payload=tried)
        store.releases.evidence(id, append=record)

    def on_event(event: str, facts: Mapping[str, Any]) -> None:
        heard(event, facts)
        with store.audit.change(event, resources=(job.service,), rollback_available=False, must_not_wait=True) as note:
            note.update(facts)

    return SupervisorPorts(
        services=store.services,
        releases=store.releases,
        clock=clock,
        spawn=spawner(Path(job.run_folder) / ERROR_FILE, command=COMMAND),
        on_fallback=on_fallback,
        on_event=on_event,
        changes=GuardedChanges(
            folder=Path(job.run_folder).parent,
            store=lambda: (store.services, store.releases),
            audit=store.audit,
            clock=clock,
        ),
        feedback=feeding(Path(job.run_folder), clock),
    )
