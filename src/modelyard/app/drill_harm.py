"""How each drill harms a copy of a service, what is seen of it, and what a person would do then."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from modelyard.app.bench import ROWS_PATH
from modelyard.app.copy_store import DATABASE
from modelyard.app.drill_bodies import SPOILT, Copied, spoil
from modelyard.app.drill_copy import TELLING, Copy, guarded_folder, kill
from modelyard.app.way_back import ServiceChange
from modelyard.core.drill import Asked, Kept, Sight, Sign
from modelyard.errors import CannotRehearse, ModelyardError, NotRunning, ServiceError
from modelyard.loadtest.address import parse_address
from modelyard.loadtest.background import Background
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changed
from modelyard.serve.messages import Status, worker_name

RATE = 50.0  # requests a second
WAITED_S = 0.15  # a batch that is out for longer says that its worker is in trouble
LEAST_TIMEOUT_S = 5.0  # after which a request without an answer is lost; twice the deadline where that is longer
FULL_S = 15.0  # for the service to be whole again while the disk is full


class ServiceRehearsal:
    """The Rehearsal port over a copy."""

    def __init__(
        self, kind: str, copy: Copy, load: Background, *, before: dict[str, str], acknowledged: Sequence[Changed]
    ) -> None:
        self.kind, self.copy, self.load = kind, copy, load
        self._before = before  # what the copy said of itself while the release behind answered
        self._acknowledged = list(acknowledged)
        self._harmed_at = float("inf")
        self._sign: Sign | None = None
        self._counted = 0
        self._service = ServiceChange(copy.changes, copy.copied.release)

    def harm(self) -> None:
        self._counted = _troubled(control.status(self.copy.run))
        self._harmed_at = time.monotonic()
        _HARMS[self.kind](self)

    def look(self) -> Sight:
        now = time.monotonic()
        try:
            state: Status | None = control.status(self.copy.run)
        except NotRunning:
            state = None
        if self._sign is None and now >= self._harmed_at:
            self._sign = self._first_sign(state, now)
        why = "no supervisor answers" if state is None else self._unwell(state)
        return Sight(self._sign, not why, why)

    def mend(self) -> None:
        if self.kind == "rollback_service" or (self.kind in SPOILT and self._answers(self.copy.copied.spoilt)):
            self._acknowledged.append(self._service.undo())
        elif self.kind == "store_unavailable":
            self._give_store_back()
        elif self.kind == "disk_full":
            self._wait_until_whole()
            _bound_files(self.copy.pids, resource.RLIM_INFINITY)
        elif self.kind == "controller_killed":
            self._acknowledged.append(self._service.undo())
            self.copy.start()

    def asked(self) -> Sequence[Asked]:
        return self.load.asked()

    def finish(self) -> tuple[Sequence[Asked], Kept]:
        asked = self.load.finish()
        return asked, Kept(len(self._acknowledged), self._lost())

    def deploy(self) -> None:
        """Let the release that is rehearsed answer, by a change that is acknowledged."""
        self._acknowledged.append(self._service.apply())

    def harm_worker(self, number: signal.Signals) -> None:
        """Send a signal to the first worker of the release."""
        name = worker_name(self.copy.copied.release, 0)
        state = control.status(self.copy.run)
        pid = next((child.pid for child in state.run.children if child.name == name), None)
        if pid is None:
            raise ServiceError(f"The copy has no worker `{name}` to harm.")
        kill(pid, number)

    def deploy_spoilt(self) -> None:
        """Let a release that went wrong answer; where it is refused, that is the first sign."""
        try:
            self._acknowledged.append(ServiceChange(self.copy.changes, self.copy.copied.spoilt).apply())
        except ServiceError as fault:
            self._sign = Sign(time.monotonic(), f"the deploy was refused: {_first_sentence(fault)}")

    def take_store_away(self) -> None:
        """Put the database aside, and go back meanwhile."""
        aside = self.copy.folder / "aside"
        aside.mkdir()
        for path in self.copy.database:
            path.rename(aside / path.name)
        (self.copy.folder / DATABASE).mkdir()  # what is there now cannot be opened
        changed = self._service.undo()
        self._acknowledged.append(changed)
        if changed.store != "written":
            self._sign = Sign(
                time.monotonic(), f"`rollback` said that the store was not reached: {_first_sentence(changed.store)}"
            )

    def fill_disk(self) -> None:
        """Let no process of the copy write to any file any more, and end a worker."""
        try:
            _bound_files(self.copy.pids, 0)
        except (OSError, ValueError) as fault:
            raise CannotRehearse(f"The files of other processes cannot be bounded here: {fault}.") from fault
        self.harm_worker(signal.SIGKILL)

    def _first_sign(self, state: Status | None, now: float) -> Sign | None:
        if self.kind == "disk_full":  # the end of a worker is no sign of a full disk
            return self.copy.sign(self._harmed_at, frozenset({"supervisor_fault"}))
        told = self.copy.sign(self._harmed_at, TELLING)
        if told is not None:
            return told
        if state is None:
            return Sign(now, "status: no supervisor answers")
        why = self._trouble(state)
        if not why and _troubled(state) > self._counted:
            why = "requests were degraded or failed"
        return Sign(now, f"status: {why}") if why else None

    def _trouble(self, state: Status) -> str:
        """Return what is wrong with the workers of what answers, or with the store; empty where nothing is."""
        if state.store != "reachable":
            return f"the store is not reachable: {state.store}"
        for report in state.fronts.values():
            for name, worker in report.workers.items():
                if not any(name.startswith(f"{release}.") for release in state.routes.traffic.shares):
                    continue
                if not worker.connected:
                    return f"worker `{name}` is not there"
                if worker.golden is not True:
                    return f"worker `{name}` has not answered its golden requests"
                if worker.waiting_s > WAITED_S:
                    return f"worker `{name}` has been at a batch for {worker.waiting_s:.2f} s"
        return ""

    def _unwell(self, state: Status) -> str:
        """Return why the copy is not as before; empty where it is."""
        if not state.ready or state.draining:
            return "it is not ready"
        wanted = self._acknowledged[-1].release if self._acknowledged else self.copy.copied.release
        if set(state.routes.traffic.shares) != {wanted}:
            return f"{', '.join(state.routes.traffic.shares)} answers, not {wanted}"
        if why := self._trouble(state):
            return why
        if wanted == self.copy.copied.behind and self._before:
            return self._differs()
        return ""

    def _differs(self) -> str:
        """Return what the service says otherwise than while the release behind answered before."""
        try:
            now = self.copy.facts()
        except ModelyardError as fault:
            return str(fault)
        wrong = [path for path, said in self._before.items() if now.get(path) != said]
        return f"{', '.join(wrong)} is not as it was before the deploy" if wrong else ""

    def _answers(self, release: str) -> bool:
        return release in control.status(self.copy.run).routes.traffic.shares

    def _give_store_back(self) -> None:
        (self.copy.folder / DATABASE).rmdir()
        for path in (self.copy.folder / "aside").iterdir():
            path.rename(self.copy.folder / path.name)
        control.poke(self.copy.run, "reload")  # as the next change would

    def _wait_until_whole(self) -> None:
        """Wait until callers are answered as before although the disk is full; raises ServiceError."""
        end, why = time.monotonic() + FULL_S, ""
        while time.monotonic() < end:
            why = self._unwell(control.status(self.copy.run))
            if not why:
                return
            time.sleep(0.02)
        raise ServiceError(f"With the disk full the service did not recover within {FULL_S:g} s: {why}.")

    def _lost(self) -> int:
        """Return how many acknowledged changes are not in force: in the row, or where the service follows it."""
        if not self._acknowledged:
            return 0
        row = self.copy.services.get(self.copy.name)
        governing = control.status(self.copy.run).routes.traffic
        if row is None:
            return len(self._acknowledged)
        epoch = min(row.traffic.epoch, governing.epoch)
        behind = sum(changed.epoch > epoch for changed in self._acknowledged)
        last = {self._acknowledged[-1].release}
        agree = set(row.traffic.shares) == last == set(governing.shares)
        return behind if behind or agree else 1


_HARMS: dict[str, Callable[[ServiceRehearsal], None]] = {
    "worker_killed": lambda copy: copy.harm_worker(signal.SIGKILL),
    "worker_hung": lambda copy: copy.harm_worker(signal.SIGSTOP),
    "worker_slow": ServiceRehearsal.deploy_spoilt,
    "out_of_memory": ServiceRehearsal.deploy_spoilt,
    "nan_outputs": ServiceRehearsal.deploy_spoilt,
    "wrong_outputs": ServiceRehearsal.deploy_spoilt,
    "store_unavailable": ServiceRehearsal.take_store_away,
    "disk_full": ServiceRehearsal.fill_disk,
    "controller_killed": lambda copy: copy.copy.kill_supervisor(),
    "rollback_service": ServiceRehearsal.deploy,
}


@contextlib.contextmanager
def open_copy(kind: str, copied: Copied) -> Iterator[ServiceRehearsal]:
    """Start a copy of the service for one drill, under load; on leaving all of it is ended, whatever happened."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(guarded_folder())
        bodies = dict(copied.bodies)
        if kind in SPOILT:
            bodies[copied.spoilt] = spoil(kind, copied, folder / "spoilt")
        copy = Copy(copied, folder, copied.release if kind in SPOILT else copied.behind, bodies)
        stack.callback(copy.kill_supervisor)
        copy.start()
        before = {} if kind in SPOILT else copy.facts()
        acknowledged = []
        if kind not in SPOILT and kind != "rollback_service":
            acknowledged.append(ServiceChange(copy.changes, copied.release).apply())
        address = parse_address(f"http://127.0.0.1:{copy.port}{copied.job.alias or ROWS_PATH}")
        timeout_s = max(LEAST_TIMEOUT_S, 2 * copied.job.limits.deadline_ms / 1000)
        load = Background(address, copied.requests, rate=RATE, timeout_s=timeout_s)
        stack.callback(load.close)
        yield ServiceRehearsal(kind, copy, load, before=before, acknowledged=acknowledged)


def _troubled(state: Status) -> int:
    """Return how many requests the fronts answered by a fallback or failed."""
    return sum(
        counts.degraded + counts.failed for report in state.fronts.values() for counts in report.releases.values()
    )


def _bound_files(pids: Sequence[int], size_bytes: int) -> None:
    """Bound how large any file may be that processes write to; 0 is a disk without room."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes if hard == resource.RLIM_INFINITY else 0, hard))


def _first_sentence(told: object) -> str:
    return str(told).partition(". ")[0].partition(" '")[0].rstrip(".: ")  # without folders that are gone by then
