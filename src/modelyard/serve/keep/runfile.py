"""The run folder's claim: one supervisor at a time, and what a dead one left behind is said and ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelyard.core.codec import decode
from modelyard.errors import AlreadyExists
from modelyard.serve.keep.processes import command_of, end, is_same, start_ticks, wait_gone
from modelyard.serve.messages import LOCK_FILE, RUN_FILE, RunInfo, SupervisorJob

ORPHAN_GRACE_S = 15.0


@contextlib.contextmanager
def claim(
    folder: Path,
    job: SupervisorJob,
    tell: Callable[[str, Mapping[str, Any]], None],
    take_over: Callable[[RunInfo], None] = lambda _: None,
) -> Iterator[None]:
    """Hold the run folder; raises AlreadyExists where a living supervisor does.

    A run file whose process is dead, or is another by now, is told as `stale_run_file`; the front and workers that
    it names are ended if they still are the same processes, and the front may finish its requests.
    `take_over` is called before they are ended.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(_running(folder, job.service)) from None
        _clear_stale(folder, tell, take_over)
        yield
    finally:
        os.close(handle)


def read_run(folder: Path) -> RunInfo | None:
    """Return the run file; None where there is none that can be read."""
    try:
        return decode((folder / RUN_FILE).read_bytes(), RunInfo)
    except (OSError, msgspec.MsgspecError):
        return None


def this_run(
    job: SupervisorJob, *, port: int, grpc_port: int | None, management_port: int | None, started: str
) -> RunInfo:
    """Return the run file's record for this process."""
    pid = os.getpid()
    return RunInfo(
        service=job.service,
        pid=pid,
        start_ticks=start_ticks(pid) or 0,
        host=job.host,
        port=port,
        grpc_port=grpc_port,
        management_port=management_port,
        tls=job.tls_cert is not None,
        tls_cert=job.tls_cert,
        needs_key=job.needs_key,
        started=started,
    )


def end_orphans(run: RunInfo) -> list[int]:
    """End the controller, the fronts, then the workers that a dead supervisor left; return the pids of those there."""
    ended = []
    for kind in ("controller", "front", "worker"):
        for child in run.children:
            if child.kind == kind and end(child.pid, child.start_ticks):
                ended.append(child.pid)
                if not wait_gone(child.pid, child.start_ticks, timeout_s=ORPHAN_GRACE_S):
                    end(child.pid, child.start_ticks, number=9)
    return ended


def _clear_stale(
    folder: Path, tell: Callable[[str, Mapping[str, Any]], None], take_over: Callable[[RunInfo], None]
) -> None:
    run = read_run(folder)
    if run is None:
        return
    if start_ticks(run.pid) is None:
        found = "is dead"
    else:
        found = f"is another process by now (`{command_of(run.pid)}`)"
    take_over(run)
    ended = end_orphans(run)
    (folder / RUN_FILE).unlink(missing_ok=True)
    tell("stale_run_file", {"pid": run.pid, "found": f"process {run.pid} {found}", "orphans_ended": ended})


def _running(folder: Path, service: str) -> str:
    run = read_run(folder)
    who = f"process {run.pid}, port {run.port}" if run and is_same(run.pid, run.start_ticks) else "it is just starting"
    return f"Service `{service}` runs already ({who}). Stop it first: modelyard stop {service}"
