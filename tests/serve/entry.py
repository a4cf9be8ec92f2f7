"""Stands in for the composition root: `python -m tests.serve.entry front|worker|supervisor`, job on standard input."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import modelyard  # noqa: F401 - switches telemetry off before libraries are imported
from modelyard.bundle.answers import Feedback, FeedbackCounts, Unread
from modelyard.core.clock import SystemClock
from modelyard.core.codec import decode, encode, write_atomic
from modelyard.core.evidence import FallbackEvidence
from modelyard.core.ids import ReleaseId
from modelyard.core.release import Release, Service
from modelyard.core.rollout import Strategy
from modelyard.errors import ModelyardError, StoreConflict, StoreError, UnknownName, UsageError
from modelyard.serve.keep.change import Changes
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.rollouts import Verb
from modelyard.serve.messages import ERROR_FILE, FrontJob, SupervisorJob, WorkerJob

EVENTS = "events.jsonl"
ROW_FILE = "row.json"  # the service's row, as a store would have it
BODIES_FILE = "bodies.json"  # release -> [folder, digest]
MODULES = "modules.txt"


class FileServices:
    """The service's row in a file; a missing file is a store that cannot be reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Service | None:
        try:
            return decode((self.folder / ROW_FILE).read_bytes(), Service)
        except OSError as fault:
            raise StoreError(f"The store is gone: {fault.strerror}.") from fault

    def put(self, service: Service, *, expect_epoch: int | None) -> None:
        before = self.get(service.name)
        if before is None or before.traffic.epoch != expect_epoch or service.traffic.epoch <= expect_epoch:
            raise StoreConflict(f"The row is {before}; wanted epoch {expect_epoch}.")
        write_atomic(self.folder / ROW_FILE, encode(service))

    def all(self) -> list[Service]:
        row = self.get("")
        return [] if row is None else [row]


class FileReleases:
    """Bodies by a table in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _entry(self, release: str) -> list[str]:
        table: dict[str, list[str]] = json.loads((self.folder / BODIES_FILE).read_text())
        if release not in table:
            raise UnknownName("release", release, tuple(table))
        return table[release]

    def get(self, id: ReleaseId | str) -> Release:
        name, at, number = str(id).partition("@")
        if not at:
            return self.all(name)[-1]
        return Release(
            id=ReleaseId(name=name, number=int(number)),
            body=self._entry(str(id))[1],
            spec_digest="",
            sealed="",
            headline="",
            size_bytes=0,
        )

    def body(self, id: ReleaseId) -> Path:
        return Path(self._entry(str(id))[0])

    def seal(self, *_: Any, **__: Any) -> Release:
        raise AssertionError("A supervisor seals nothing.")

    def all(self, name: str | None = None) -> list[Release]:
        return [self.get(one) for one in sorted(json.loads((self.folder / BODIES_FILE).read_text()))]

    def evidence(self, *_: Any, **__: Any) -> list[Any]:
        raise AssertionError("A supervisor reports through its own port.")


class FileAudit:
    """The audit log as lines in a file, one a change, with how it ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def change(
        self,
        operation: str,
        *,
        resources: Sequence[str],
        rollback_available: bool,
        model: Mapping[str, Any] | None = None,
        must_not_wait: bool = False,
    ) -> Iterator[dict[str, Any]]:
        facts: dict[str, Any] = {"operation": operation, "resources": list(resources), "outcome": "failed"}
        try:
            yield facts
            facts["outcome"] = "done"
        finally:
            say(self.folder, "audit", facts)

    def entries(self, *, last: int | None = None) -> Iterator[Mapping[str, Any]]:
        raise AssertionError("A service reads no audit log.")

    def verify(self) -> list[str]:
        raise AssertionError("A service verifies no audit log.")


def changes(folder: Path) -> Changes:
    """What may be done to the service of a run folder, as the composition root wires it."""
    return Changes(
        folder=folder.parent,
        store=lambda: (FileServices(folder), FileReleases(folder)),
        audit=FileAudit(folder),
        clock=SystemClock(),
    )


def say(folder: Path, event: str, facts: Mapping[str, Any]) -> None:
    """Note an event, as the composition root does on the audit log."""
    with (folder / EVENTS).open("ab") as file:
        file.write(msgspec.json.encode({"event": event, **facts}) + b"\n")


def main(kind: str) -> int:
    if kind == "worker":  # its libraries before its job: it may stand by for one
        from modelyard.adapters.onnx_engine import OnnxLoader
        from modelyard.serve.worker import work

        data = sys.stdin.buffer.read()
        if not data:
            return 0
        job = decode(data, WorkerJob)
        _say_modules(Path(job.run_folder), kind)
        work(job, OnnxLoader())
        return 0
    data = sys.stdin.buffer.read()
    if kind == "front":
        from modelyard.serve.front import front

        front_job = decode(data, FrontJob)
        _say_modules(Path(front_job.run_folder), kind)
        front(front_job, clock=SystemClock(), version="0.0.0")
        return 0
    return _supervisor(decode(data, SupervisorJob))


def _supervisor(job: SupervisorJob) -> int:
    from modelyard.serve.keep.supervisor import SupervisorPorts, supervise

    folder = Path(job.run_folder)

    def on_event(event: str, facts: Mapping[str, Any]) -> None:
        say(folder, event, facts)

    def on_fallback(release: str, evidence: FallbackEvidence) -> None:
        on_event("fallback", {"release": release, "answered": evidence.answered, "kind": evidence.kind})

    ports = SupervisorPorts(
        services=FileServices(folder),
        releases=FileReleases(folder),
        clock=SystemClock(),
        spawn=spawner(folder / ERROR_FILE, command=(sys.executable, "-m", "tests.serve.entry")),
        on_fallback=on_fallback,
        on_event=on_event,
        changes=changes(folder),
        feedback=_feed,
        rollouts=SaidRollouts(),
    )
    try:
        return supervise(job, ports)
    except ModelyardError as fault:
        sys.stderr.write(f"{fault.code}: {fault}\n")
        return fault.exit_code


class SaidRollouts:
    """Rollouts that do nothing but say what was asked; there is nothing to resume."""

    def status(self) -> Any:
        return {"asked": "status"}

    def begin(self, releases: Sequence[str], strategy: Strategy | None, by: str) -> Any:
        return {"asked": "begin", "by": by, "releases": releases, "strategy": strategy}

    def ask(self, verb: Verb, by: str, *, full: bool = False) -> Any:
        if verb == "resume":
            raise UsageError("The rollout is not paused.")
        return {"asked": verb, "by": by, "full": full}


def _feed(rows: Sequence[Feedback | Unread]) -> FeedbackCounts:
    """Say of every outcome that could be read that it was joined."""
    faults = [one.why for one in rows if isinstance(one, Unread)]
    return FeedbackCounts(
        joined=len(rows) - len(faults), malformed=len(faults), first_fault=faults[0] if faults else None
    )


def _say_modules(folder: Path, kind: str) -> None:
    (folder / f"{kind}.{MODULES}").write_text("\n".join(sys.modules))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
