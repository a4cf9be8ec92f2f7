"""Stands in for the composition root: `python -m tests.serve.entry front|worker|supervisor`, job on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import modelyard  # noqa: F401 - switches telemetry off before libraries are imported
from modelyard.core.clock import SystemClock
from modelyard.core.codec import decode
from modelyard.core.evidence import FallbackEvidence
from modelyard.core.ids import ReleaseId
from modelyard.core.release import Release, Service
from modelyard.errors import ModelyardError, StoreError
from modelyard.serve.children import spawner
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
        raise AssertionError("The supervisor only reads.")

    def all(self) -> list[Service]:
        raise AssertionError("The supervisor reads its own row only.")


class FileReleases:
    """Bodies by a table in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _entry(self, release: str) -> list[str]:
        entry: list[str] = json.loads((self.folder / BODIES_FILE).read_text())[release]
        return entry

    def get(self, id: ReleaseId | str) -> Release:
        name, _, number = str(id).partition("@")
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
        raise AssertionError("A supervisor lists nothing.")

    def evidence(self, *_: Any, **__: Any) -> list[Any]:
        raise AssertionError("A supervisor reports through its own port.")


def main(kind: str) -> int:
    data = sys.stdin.buffer.read()
    if kind == "worker":
        from modelyard.adapters.onnx_engine import OnnxLoader
        from modelyard.serve.worker import work

        job = decode(data, WorkerJob)
        _say_modules(Path(job.run_folder), kind)
        work(job, OnnxLoader())
        return 0
    if kind == "front":
        from modelyard.serve.front import front

        front_job = decode(data, FrontJob)
        _say_modules(Path(front_job.run_folder), kind)
        front(front_job, clock=SystemClock(), version="0.0.0")
        return 0
    return _supervisor(decode(data, SupervisorJob))


def _supervisor(job: SupervisorJob) -> int:
    from modelyard.serve.supervisor import SupervisorPorts, supervise

    folder = Path(job.run_folder)

    def on_event(event: str, facts: Mapping[str, Any]) -> None:
        with (folder / EVENTS).open("ab") as file:
            file.write(msgspec.json.encode({"event": event, **facts}) + b"\n")

    def on_fallback(release: str, evidence: FallbackEvidence) -> None:
        on_event("fallback", {"release": release, "answered": evidence.answered, "kind": evidence.kind})

    ports = SupervisorPorts(
        services=FileServices(folder),
        releases=FileReleases(folder),
        clock=SystemClock(),
        spawn=spawner(folder / ERROR_FILE, command=(sys.executable, "-m", "tests.serve.entry")),
        on_fallback=on_fallback,
        on_event=on_event,
    )
    try:
        return supervise(job, ports)
    except ModelyardError as fault:
        sys.stderr.write(f"{fault.code}: {fault}\n")
        return fault.exit_code


def _say_modules(folder: Path, kind: str) -> None:
    (folder / f"{kind}.{MODULES}").write_text("\n".join(sys.modules))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
