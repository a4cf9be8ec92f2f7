"""Things to put into a store, and processes to do it in."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelyard.core.codec import digest, encode
from modelyard.core.evidence import Evidence, FallbackEvidence
from modelyard.core.release import Service, Traffic
from modelyard.store.audit import AuditLog
from modelyard.store.open import Store, open_store

FILES = {"graph.onnx": b"graph", "preprocess.json": b"[]", "steps/vocabulary.txt": b"a\nb\n"}


@dataclass
class SetClock:
    """A clock that stands still until it is moved; durations grow by half a second a look."""

    moment: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    _looks: list[None] = field(default_factory=list)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        self._looks.append(None)
        return len(self._looks) / 2

    def move(self, **step: float) -> None:
        self.moment += timedelta(**step)


def writing(data: bytes) -> Callable[[Path], None]:
    """Return a stage that writes one file."""

    def build(folder: Path) -> None:
        (folder / "x").write_bytes(data)

    return build


def open_here(home: Path, clock: SetClock | None = None, **changes: Any) -> Store:
    settings: dict[str, Any] = {
        "database_url": None,
        "user": "ada",
        "environment": "sandbox",
        "change_ticket": None,
        "command": "modelyard run",
        "clock": clock or SetClock(),
        "quota_bytes": None,
    }
    return open_store(home, **{**settings, **changes})


def open_log(folder: Path, clock: SetClock | None = None, **changes: Any) -> AuditLog:
    settings: dict[str, Any] = {
        "user": "ada",
        "environment": "sandbox",
        "change_ticket": "T-1",
        "command": "modelyard run",
        "clock": clock or SetClock(),
    }
    return AuditLog(folder, **{**settings, **changes})


def make_body(folder: Path, files: Mapping[str, bytes] = FILES, /, **extra: Any) -> str:
    """Fill a folder with a body and return its digest; `extra` goes into the manifest."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    facts = {name: {"sha256": digest(data), "size": len(data)} for name, data in files.items()}
    manifest = encode({"format": 1, "files": facts, **extra})
    (folder / "manifest.json").write_bytes(manifest)
    return digest(manifest)


def make_evidence(body: str, detail: str = "tried") -> Evidence:
    payload = FallbackEvidence(kind="constant", answered=True, seconds=0.25, detail=detail)
    return Evidence(release="", body=body, recorded="2026-01-02T03:04:05.000000Z", payload=payload)


def make_service(name: str, epoch: int, shares: Mapping[str, float], state: str = "running") -> Service:
    return Service(
        name=name,
        traffic=Traffic(epoch=epoch, shares=dict(shares)),
        host="127.0.0.1",
        port=8080,
        environment="sandbox",
        state=state,
        supervisor_pid=None,
        started=None,
    )


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return its pid; it exits 0, or 1 with the traceback shown."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, this process must end here, not run the parent's tests
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a process and return its exit code, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_many(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` to `work(count - 1)` in as many processes at once; all must end well."""
    pids = [fork(lambda number=number: work(number)) for number in range(count)]  # type: ignore[misc]
    assert [ended(pid) for pid in pids] == [0] * count


_STEPS = ("fsync", "rename", "replace", "mkdir", "write", "unlink", "ftruncate", "pwrite", "chmod")


def die_at(step: int) -> None:
    """From now on kill this process just before its `step`-th call that changes the disk."""
    left = step

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in _STEPS:
        setattr(os, name, watched(getattr(os, name)))
