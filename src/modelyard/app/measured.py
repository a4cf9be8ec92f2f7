"""A service for one measurement, in a process of its own: a supervisor over one release, which no row or log knows of.

Its job is one line on standard input; it drains and ends when that input does, however its parent ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from modelyard.app.lent import run_lent
from modelyard.app.settings import read_settings
from modelyard.app.supervisor import supervisor_ports
from modelyard.core.clock import SystemClock
from modelyard.core.evidence import FallbackEvidence
from modelyard.core.release import Service, Traffic
from modelyard.errors import StoreConflict
from modelyard.serve.keep.supervisor import supervise
from modelyard.serve.messages import SupervisorJob
from modelyard.store.open import open_store


class MeasuredJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which release to run, and how."""

    release: str
    job: SupervisorJob


class OneRow:
    """The row of a service that the store does not hold."""

    def __init__(self, wanted: MeasuredJob) -> None:
        self._row = Service(
            name=wanted.job.service,
            traffic=Traffic(epoch=1, shares={wanted.release: 1.0}),
            host=wanted.job.host,
            port=wanted.job.port,
            environment="sandbox",
            state="running",
            supervisor_pid=None,
            started=None,
        )

    def get(self, name: str) -> Service | None:
        return self._row if name == self._row.name else None

    def put(self, service: Service, *, expect_epoch: int | None) -> None:
        raise StoreConflict(f"Service `{service.name}` was started for a measurement; its traffic does not change.")

    def all(self) -> list[Service]:
        return [self._row]


def main() -> None:
    """Run the service until standard input ends."""
    run_lent(MeasuredJob, _run)


def _run(wanted: MeasuredJob) -> int:
    settings, clock = read_settings(), SystemClock()
    store = open_store(
        settings.home,
        database_url=settings.database_url,
        user=settings.user,
        environment="sandbox",
        change_ticket=settings.change_ticket,
        command=f"measurement of {wanted.release}",
        clock=clock,
        quota_bytes=settings.quota_bytes,
    )
    try:
        ports = supervisor_ports(wanted.job, store, clock, _unheard)
        return supervise(wanted.job, replace(ports, services=OneRow(wanted), on_fallback=_untold, on_event=_unheard))
    finally:
        store.close()


def _unheard(event: str, facts: Mapping[str, Any]) -> None:
    """Leave the audit log alone: nobody's service changed."""


def _untold(release: str, tried: FallbackEvidence) -> None:
    """Leave the release's evidence alone: what is measured is told by who measures."""


if __name__ == "__main__":
    main()
