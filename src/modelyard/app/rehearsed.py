"""A copy of a service, for one drill to harm, in a process of its own: a supervisor over a store of the copy's own.

Its job is one line on standard input; it drains and ends when that input does. Every event is a line of JSON on
standard output, which no full disk can stop.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelyard.app.copy_store import CopyReleases, CopyServices
from modelyard.app.lent import run_lent
from modelyard.app.spawn import COMMAND
from modelyard.core.clock import SystemClock
from modelyard.core.codec import encode
from modelyard.core.evidence import FallbackEvidence
from modelyard.serve.keep.change import Changes
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.supervisor import SupervisorPorts, supervise
from modelyard.serve.messages import ERROR_FILE, BodyRef, SupervisorJob
from modelyard.store.open import open_audit


class RehearsedJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run, over which bodies, with which folder for the copy's own store."""

    home: str
    bodies: dict[str, BodyRef]
    job: SupervisorJob


def main() -> None:
    """Run the copy until standard input ends."""
    run_lent(RehearsedJob, _run)


def _run(wanted: RehearsedJob) -> int:
    return supervise(wanted.job, _ports(wanted))


def _ports(wanted: RehearsedJob) -> SupervisorPorts:
    home, clock = Path(wanted.home), SystemClock()
    services, releases = CopyServices(home), CopyReleases(wanted.bodies)
    audit = open_audit(
        home, user="drill", environment="sandbox", change_ticket=None, command="drill", clock=clock
    )  # of the copy's own folder, and gone with it
    return SupervisorPorts(
        services=services,
        releases=releases,
        clock=clock,
        spawn=spawner(Path(wanted.job.run_folder) / ERROR_FILE, command=COMMAND),
        on_fallback=_untold,
        on_event=_tell,
        changes=Changes(
            folder=Path(wanted.job.run_folder).parent, store=lambda: (services, releases), audit=audit, clock=clock
        ),
    )


def _tell(event: str, facts: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # whoever rehearsed has gone: this ends too
        sys.stdout.write(encode({"event": event, "facts": dict(facts)}).decode() + "\n")
        sys.stdout.flush()


def _untold(release: str, tried: FallbackEvidence) -> None:
    """Leave the release's evidence alone: the drill says what it saw."""


if __name__ == "__main__":
    main()
