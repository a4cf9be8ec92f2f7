"""What the command line asks of a running service, from outside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from modelyard.core.codec import decode, encode, encode_pretty, write_atomic
from modelyard.core.release import Traffic
from modelyard.errors import NotRunning, ServiceError, StoreConflict, UnknownName
from modelyard.serve.keep.processes import is_same, wait_gone
from modelyard.serve.keep.runfile import end_orphans, read_run
from modelyard.serve.messages import CONTROL_SOCKET, RUN_FILE, TRAFFIC_FILE, Done, Routes, RunInfo, Status
from modelyard.serve.wire import connect_to

T = TypeVar("T", Done, Status)

POKE_TIMEOUT_S = 30.0  # a reload may verify a body


class Running(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run file and whether its supervisor lives."""

    run: RunInfo
    alive: bool
    orphans: int  # processes that a dead supervisor left, which still answer


def poke(run_folder: Path, verb: Literal["reload", "follow", "stop"]) -> Done:
    """Give a command to the supervisor; raises NotRunning where none answers."""
    return _ask(run_folder, {"verb": verb}, Done)


def load(run_folder: Path, verb: Literal["warm", "cool"], release: str) -> Done:
    """Have the supervisor load a release beside those that answer, or let go of it; raises NotRunning."""
    return _ask(run_folder, {"verb": verb, "release": release}, Done)


def status(run_folder: Path) -> Status:
    """Ask the supervisor how the service is; raises NotRunning where none answers."""
    return _ask(run_folder, {"verb": "status"}, Status)


def stop(run_folder: Path, timeout_s: float) -> str:
    """Drain and end a service, wait until it is gone, and say in words what was ended.

    Processes that a dead supervisor left are ended too. Raises: NotRunning where there is nothing, ServiceError
    where the supervisor is still there after `timeout_s`.
    """
    run = read_run(run_folder)
    if run is None:
        raise NotRunning(f"No service runs in `{run_folder}`.")
    if not is_same(run.pid, run.start_ticks):
        ended = end_orphans(run)
        (run_folder / RUN_FILE).unlink(missing_ok=True)
        return f"The supervisor (process {run.pid}) was dead already; ended {len(ended)} processes that it left."
    poke(run_folder, "stop")
    if not wait_gone(run.pid, run.start_ticks, timeout_s=timeout_s):
        raise ServiceError(f"Service `{run.service}` (process {run.pid}) is still draining after {timeout_s:g} s.")
    return f"Service `{run.service}` (process {run.pid}) has drained and ended."


def running(folder: Path) -> Iterator[Running]:
    """Yield what runs, or left a run file, in the run folders inside `folder`."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        found = _look(entry)
        if found is not None:
            yield found


def is_there(run_folder: Path) -> bool:
    """Say whether a service's supervisor lives, or processes that a dead one left."""
    found = _look(run_folder)
    return found is not None and (found.alive or found.orphans > 0)


def _look(run_folder: Path) -> Running | None:
    run = read_run(run_folder)
    if run is None:
        return None
    alive = is_same(run.pid, run.start_ticks)
    left = sum(is_same(child.pid, child.start_ticks) for child in run.children)
    return Running(run=run, alive=alive, orphans=0 if alive else left)


def follow_locally(run_folder: Path, traffic: Traffic) -> None:
    """Write a traffic table into the local copy, which fronts follow while their supervisor is dead.

    Raises: NotRunning where there is no local copy, UnknownName for a release that has no workers here,
    StoreConflict where the epoch is not higher than the copy's.
    """
    path = run_folder / TRAFFIC_FILE
    try:
        copy = decode(path.read_bytes(), Routes)
    except (OSError, msgspec.MsgspecError) as fault:
        raise NotRunning(f"There is no local copy of a traffic table in `{run_folder}`.") from fault
    for release in traffic.shares:
        if release not in copy.bodies:
            raise UnknownName("release with workers here", release, tuple(copy.bodies))
    if traffic.epoch <= copy.traffic.epoch:
        raise StoreConflict(f"Epoch {traffic.epoch} is not above the local copy's {copy.traffic.epoch}. Read it again.")
    previous = {name: other for name, other in copy.previous.items() if name in traffic.shares}
    write_atomic(path, encode_pretty(Routes(traffic=traffic, bodies=copy.bodies, previous=previous)), mode=0o600)


def local_traffic(run_folder: Path) -> Traffic | None:
    """Return the traffic table of the local copy; None where there is none."""
    try:
        return decode((run_folder / TRAFFIC_FILE).read_bytes(), Routes).traffic
    except (OSError, msgspec.MsgspecError):
        return None


def wait_ready(run_folder: Path, timeout_s: float) -> Status:
    """Wait until a service that is starting is ready; raises ServiceError, with its last state, where it is not."""
    end = time.monotonic() + timeout_s
    last = "no supervisor answered"
    while time.monotonic() < end:
        with contextlib.suppress(NotRunning):
            state = status(run_folder)
            if state.ready:
                return state
            last = f"the fronts' reports were {state.fronts}"
        time.sleep(0.02)
    raise ServiceError(f"The service in `{run_folder}` was not ready after {timeout_s:g} s; {last}.")


def _ask(run_folder: Path, line: dict[str, str], kind: type[T]) -> T:
    try:
        sock = connect_to(run_folder, CONTROL_SOCKET, timeout_s=POKE_TIMEOUT_S)
    except OSError as fault:
        raise NotRunning(f"No supervisor answers in `{run_folder}`: {fault.strerror}.") from fault
    with sock, sock.makefile("rwb") as stream:
        try:
            stream.write(encode(line) + b"\n")
            stream.flush()
            reply = stream.readline()
        except OSError as fault:
            raise NotRunning(f"The supervisor in `{run_folder}` went away: {fault}.") from fault
    if not reply:
        raise NotRunning(f"The supervisor in `{run_folder}` went away without an answer.")
    return decode(reply, kind)
