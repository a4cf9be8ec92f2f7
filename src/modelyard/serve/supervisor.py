"""The process that keeps a service running: holds the listening socket; starts, watches, replaces the rest."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from modelyard.bundle.open import read_body
from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import encode_pretty, write_atomic
from modelyard.core.evidence import FallbackEvidence
from modelyard.core.ports import Releases, Services
from modelyard.errors import ModelyardError
from modelyard.serve.children import Child, Spawn
from modelyard.serve.governor import Governor
from modelyard.serve.messages import (
    CONTROL_SOCKET,
    RUN_FILE,
    FrontJob,
    FrontReport,
    Push,
    Routes,
    RunInfo,
    Status,
    SupervisorJob,
    WorkerJob,
    worker_name,
)
from modelyard.serve.processes import listen
from modelyard.serve.rehearsal import try_fallback
from modelyard.serve.runfile import claim, this_run
from modelyard.serve.switchboard import Switchboard
from modelyard.serve.wire import listen_at

TICK_S = 0.03
FAULT_S = 1.0  # after a tick that failed
RECONCILE_S = 10.0  # between looks at the store while it cannot be reached


@dataclass(frozen=True)
class SupervisorPorts:
    """What a supervisor needs of the outside.

    `on_event` and `on_fallback` are called on a thread of their own, in order; what they raise is noted and does
    not touch the service.
    """

    services: Services
    releases: Releases
    clock: Clock
    spawn: Spawn
    on_fallback: Callable[[str, FallbackEvidence], None]
    on_event: Callable[[str, Mapping[str, Any]], None]


def supervise(job: SupervisorJob, ports: SupervisorPorts) -> int:
    """Run a service until it is told to stop; return 0, or 1 where requests had to be cut.

    Raises: PortTaken, AlreadyExists where the service runs already, UnknownName where neither the store nor the
    local copy has a traffic table, and what `Releases.body` raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Supervisor(job, ports).run())


class Supervisor:
    """Of one thread, the event loop's."""

    def __init__(self, job: SupervisorJob, ports: SupervisorPorts) -> None:
        self.job, self.ports = job, ports
        self.folder = Path(job.run_folder)
        self.children: dict[str, Child] = {}
        self.restarts: dict[str, int] = {}
        self.report: FrontReport | None = None
        self.draining = False
        self._governor = Governor(job, ports.services, ports.releases, ports.clock)
        self._told = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="told")
        self._stop = asyncio.Event()
        self._reported_at = 0.0
        self._tried: set[str] = set()
        self._saved: tuple[Any, ...] = ()
        self._run: RunInfo
        self._sock: socket.socket
        self._switchboard: Switchboard

    @property
    def routes(self) -> Routes:
        return self._governor.routes

    async def run(self) -> int:
        """Start everything, watch it, and drain when told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        with claim(self.folder, self.job, self.tell):
            self._governor.begin(self.tell)
            self._sock = listen(self.job.host, self.job.port)
            port = self._sock.getsockname()[1]
            self._run = this_run(self.job, port=port, started=stamp(self.ports.clock.now()))
            self._switchboard = Switchboard(self)
            await self._switchboard.start(listen_at(self.folder, CONTROL_SOCKET))
            self._follow_routes()
            self.children["front"] = Child("front", "front", "", self._start_front)
            self.tell("started", {"port": port, "epoch": self.routes.traffic.epoch})
            watching = loop.create_task(self._watch())
            await asyncio.wait({watching, loop.create_task(self._stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            code = await self._drain(watching)
            self._told.shutdown(wait=True)
        return code

    @property
    def _front_follows(self) -> bool:
        """Say whether the front answers by the newest table; until then the releases before it are needed."""
        return self.report is not None and self.report.epoch == self.routes.traffic.epoch

    # what the switchboard asks

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def reload(self) -> str:
        """Read the service's row again and follow it."""
        detail = await asyncio.to_thread(self._governor.read_row)
        self._follow_routes()
        return detail

    def status(self) -> Status:
        return Status(
            run=self._run,
            routes=self.routes,
            ready=self._front_follows and self.report is not None and self.report.ready,
            draining=self.draining,
            store=self._governor.store,
            front=self.report,
        )

    def push(self) -> Push:
        front = self.children.get("front")
        return Push(routes=self.routes, restarts=self.restarts, front_restarts=front.restarts if front else 0)

    def heard(self, report: FrontReport) -> None:
        """Take a front's report, if it comes from the front that is ours."""
        front = self.children.get("front")
        if front is not None and report.pid == front.pid:
            self.report, self._reported_at = report, asyncio.get_running_loop().time()

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Tell the outside what happened, without waiting for it."""
        self._told.submit(self.ports.on_event, event, dict(facts))

    # watching

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time() + RECONCILE_S
        while True:
            now = loop.time()
            try:
                for child in list(self.children.values()):
                    self._watch_child(child, now)
                if self._front_follows and self._governor.cool(self.routes.traffic):
                    self._follow_routes()
                if now >= reconcile_at:
                    reconcile_at = now + RECONCILE_S
                    if self._governor.store != "reachable":
                        await self.reload()
                self._save_run()
            except Exception as fault:  # noqa: BLE001 - a full disk or process table must not end what still answers
                self.tell("supervisor_fault", {"why": f"{type(fault).__name__}: {fault}"[:300]})
                await asyncio.sleep(FAULT_S)
            await asyncio.sleep(TICK_S)

    def _watch_child(self, child: Child, now: float) -> None:
        code = child.exit_code(now)
        if child.retired:
            if child.has_ended:
                self.children.pop(child.name, None)
                (self.folder / child.name).unlink(missing_ok=True)
                self._follow_routes()  # its release may be wanted again by now
            return
        if code is not None:
            self.tell("replaced", {"process": child.name, "exit": code, "restarts": child.restarts})
            if child.release:
                self.restarts[child.release] = self.restarts.get(child.release, 0) + 1
            else:
                self.report = None
            self._switchboard.push()
        if child.start_if_due(now):
            return
        why = self._why_kill(child, now)
        if why is not None:
            self.tell("killed", {"process": child.name, "why": why})
            child.send(signal.SIGKILL)

    def _why_kill(self, child: Child, now: float) -> str | None:
        """Say why a process has to go; None where it may stay."""
        limits, age = self.job.limits, now - child.started_at
        if child.pid is None:
            return None
        if child.kind == "front":
            silent_s = min(age, now - self._reported_at)
            return f"silent for {silent_s:.1f} s" if silent_s > limits.front_timeout_s else None
        if self.report is None:
            return None
        state = self.report.workers.get(child.name)
        if state is None or not state.connected:
            never = state is not None and age > limits.start_timeout_s
            return f"not ready after {age:.0f} s" if never else None
        if limits.progress_timeout_s < state.waiting_s < age:  # longer than it lives was another's batch
            return f"no progress for {state.waiting_s:.1f} s"
        if state.golden is False and self._reported_at > child.started_at:
            return "golden requests answered wrongly"
        return None

    # starting

    def _follow_routes(self) -> None:
        """Have the workers that the routes ask for, and tell the front."""
        if self._governor.changed:
            write_atomic(self.folder / self._governor.file, encode_pretty(self.routes), mode=0o600)
            self._governor.changed = False
        for release in self.routes.bodies:
            for slot in range(self.job.workers):
                name = worker_name(release, slot)
                if name not in self.children:
                    self.children[name] = Child("worker", name, release, self._worker_starter(release, slot))
            if release not in self._tried:
                self._tried.add(release)
                self._told.submit(self._try_fallback, release, Path(self.routes.bodies[release].folder))
        for child in self.children.values():
            if child.release and child.release not in self.routes.bodies:
                child.retire()
        self._switchboard.push()

    def _worker_starter(self, release: str, slot: int) -> Callable[[], Any]:
        def start() -> Any:
            job = WorkerJob(
                release=release,
                slot=slot,
                body=self.routes.bodies[release],
                run_folder=str(self.folder),
                threads=self.job.threads,
                memory_mb=self.job.memory_mb,
            )
            return self.ports.spawn("worker", encode_pretty(job))

        return start

    def _start_front(self) -> Any:
        job = FrontJob(
            service=self.job.service,
            run_folder=str(self.folder),
            listen_fd=self._sock.fileno(),
            routes=self.routes,
            workers=self.job.workers,
            alias=self.job.alias,
            limits=self.job.limits,
        )
        return self.ports.spawn("front", encode_pretty(job), pass_fds=(self._sock.fileno(),))

    def _try_fallback(self, release: str, folder: Path) -> None:
        try:
            self.ports.on_fallback(release, try_fallback(read_body(folder)))
        except ModelyardError as fault:
            self.ports.on_event("fallback_untried", {"release": release, "why": str(fault)})

    def _save_run(self) -> None:
        """Write the run file where a process came or went."""
        infos = tuple(info for child in self.children.values() if (info := child.info) is not None)
        if infos != self._saved:
            self._saved = infos
            self._run = self._run.having(infos)
            write_atomic(self.folder / RUN_FILE, encode_pretty(self._run), mode=0o600)

    # ending

    async def _drain(self, watching: asyncio.Task[None]) -> int:
        """Let the front finish what it has, then end everything; return the exit code."""
        self.draining = True
        self.tell("draining", {})
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        self._sock.close()  # the front's copy is the last; when it closes it, callers are refused at once
        front = self.children.pop("front", None)
        code = 0
        if front is not None and front.pid is not None:
            front.send(signal.SIGTERM)
            if not await _ended([front], self.job.limits.grace_s + 2.0):
                code = 1
                front.send(signal.SIGKILL)
                await _ended([front], 2.0)
        workers = list(self.children.values())
        for number in (signal.SIGTERM, signal.SIGKILL):
            for worker in workers:
                worker.send(number)
            if await _ended(workers, 2.0):
                break
        await self._switchboard.close()
        for name in [*self.children, CONTROL_SOCKET, RUN_FILE]:
            (self.folder / name).unlink(missing_ok=True)
        self.tell("stopped", {"exit": code})
        return code


async def _ended(children: list[Child], timeout_s: float) -> bool:
    """Wait until processes have ended; say whether they have."""
    end = asyncio.get_running_loop().time() + timeout_s
    while not all(child.has_ended for child in children):
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.01)
    return True
