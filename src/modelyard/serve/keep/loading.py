"""Having a release loaded beside those that answer, and waiting until the fronts follow a table."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from modelyard.errors import ModelyardError, ServiceError
from modelyard.serve.keep import control
from modelyard.serve.messages import ChildInfo, Status, worker_name

LOOK_S = 0.01  # between looks at how far the fronts are
READY_S = 60.0  # for a release to load and answer its golden requests
MOST_DEATHS = 3  # of a worker that is loading, until a deploy gives up


def load(run: Path, release: str, *, timeout_s: float = READY_S) -> None:
    """Load a release beside those that answer, and wait until its golden requests are; raises ServiceError."""
    told = control.load(run, "warm", release)
    if not told.ok:
        raise ServiceError(f"`{release}` cannot be loaded: {told.detail}")
    before = {one.name: one.restarts for one in _workers(control.status(run), release)}
    end, why = time.monotonic() + timeout_s, ""
    while not why:
        state = control.status(run)
        if is_loaded(state, release):
            return
        deaths = max((one.restarts - before.get(one.name, 0) for one in _workers(state, release)), default=0)
        if deaths >= MOST_DEATHS:
            why = f"its worker ended {deaths} times while loading"
        elif time.monotonic() > end:
            why = f"its golden requests were not answered within {timeout_s:g} s"
        time.sleep(LOOK_S)
    with contextlib.suppress(ModelyardError):
        control.load(run, "cool", release)
    shares = ", ".join(sorted(state.routes.traffic.shares))
    raise ServiceError(f"`{release}` did not get ready: {why}. {shares} still answers. Its words are in {run}.")


def is_loaded(state: Status, release: str) -> bool:
    """Say whether every front sees every worker of a release answer its golden requests."""
    slots = {one.name for one in _workers(state, release)} | {worker_name(release, 0)}
    return bool(state.fronts) and all(
        (worker := report.workers.get(slot)) is not None and worker.connected and worker.golden is True
        for report in state.fronts.values()
        for slot in slots
    )


def wait_followed(run: Path, epoch: int, timeout_s: float) -> None:
    """Wait until all fronts answer by a table; raises ServiceError where they do not."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        state = control.status(run)
        if state.fronts and all(report.epoch >= epoch for report in state.fronts.values()):
            return
        time.sleep(LOOK_S)
    raise ServiceError(f"The fronts did not follow epoch {epoch} within {timeout_s:g} s.")


def _workers(state: Status, release: str) -> list[ChildInfo]:
    names = f"{release}."
    return [one for one in state.run.children if one.name.startswith(names) and one.name[len(names) :].isdecimal()]
