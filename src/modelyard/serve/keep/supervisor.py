"""The process that keeps a service running: holds the listening sockets; starts, watches, replaces the rest."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import signal
import threading
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
from modelyard.serve.guard.exposure import exposures
from modelyard.serve.guard.rehearsal import try_fallback
from modelyard.serve.guard.tls import server_context
from modelyard.serve.keep.change import Changes
from modelyard.serve.keep.children import Spawn
from modelyard.serve.keep.crew import Crew
from modelyard.serve.keep.governor import Governor
from modelyard.serve.keep.management import Feed, Management
from modelyard.serve.keep.processes import keep_short
from modelyard.serve.keep.rollouts import Rollouts
from modelyard.serve.keep.runfile import claim, read_run, this_run
from modelyard.serve.keep.starting import Starter
from modelyard.serve.keep.switchboard import Switchboard
from modelyard.serve.messages import (
    CONTROL_SOCKET,
    ERROR_FILE,
    RUN_FILE,
    FrontReport,
    Push,
    Routes,
    RunInfo,
    Status,
    SupervisorJob,
)
from modelyard.serve.pause import pause
from modelyard.serve.told.board import open_board
from modelyard.serve.told.board_file import clear
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.wire import listen_at

TICK_S = 0.05  # a process that ends is seen at once, without a tick
FAULT_S = 1.0  # after a tick that failed
MEASURE_S = 1.0  # between looks at what processes use
RECONCILE_S = 10.0  # between looks at the store while it cannot be reached
MOST_ERROR_BYTES = 1024 * 1024  # of what processes said before they had a log


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
    changes: Changes  # what the management address may do
    feedback: Feed | None = None  # takes outcomes that came late; None: the management address takes none
    rollouts: Rollouts | None = None  # None: it does none either


def supervise(job: SupervisorJob, ports: SupervisorPorts) -> int:
    """Run a service until it is told to stop; return 0, or 1 where requests had to be cut.

    Raises: PortTaken, AlreadyExists where the service runs already, UnknownName where neither the store nor the
    local copy has a traffic table, UsageError for a certificate that cannot be used, and what `Releases.body` raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Supervisor(job, ports).run())


class Supervisor:
    """Of one thread, the event loop's."""

    def __init__(self, job: SupervisorJob, ports: SupervisorPorts) -> None:
        self.job, self.ports = job, ports
        self.folder = Path(job.run_folder)
        self.draining = False
        self._governor = Governor(job, ports.services, ports.releases, ports.clock, self.tell)
        self._starter = Starter(job, ports.spawn)
        self._told = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="told")
        self._stop, self._changing = asyncio.Event(), asyncio.Lock()
        self._reconcile_at = self._measure_at = 0.0
        self._reconciling: asyncio.Task[None] | None = None
        self._tried: set[tuple[str, str | None]] = set()  # releases with the one before each, of which all is rehearsed
        self._saved: tuple[Any, ...] = ()
        self._management: Management | None = None
        self._crew: Crew
        self._run: RunInfo
        self._switchboard: Switchboard

    @property
    def routes(self) -> Routes:
        return self._governor.routes

    async def run(self) -> int:
        """Start everything, watch it, and drain when told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        died = read_run(self.folder) is not None  # the supervisor before did not end in order
        with claim(self.folder, self.job, self.tell, self._starter.take_over):
            if not died:  # what was counted goes on after a crash, as a rollout may be judged by it
                clear(self.folder)
            metrics = Metrics(open_board(self.folder / "supervisor.board"))
            self._crew = Crew(self.job, self._starter, metrics=metrics, tell=self.tell)
            context = server_context(self.job.tls_cert, self.job.tls_key)
            self._governor.begin()
            self._starter.listen()
            if self.job.management_port is not None:
                ports = self.ports
                self._management = Management(self, ports.changes, context, ports.feedback, ports.rollouts)
                await self._management.start()
            self._run = self._this_run()
            self._switchboard = Switchboard(self)
            await self._switchboard.start(listen_at(self.folder, CONTROL_SOCKET))
            self._follow_routes()
            self.tell("started", {"port": self._run.port, "epoch": self.routes.traffic.epoch})
            for why in exposures(self.job):
                self.tell("exposed", {"why": why})
            watching = loop.create_task(self._watch())
            await asyncio.wait({watching, loop.create_task(self._stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            code = await self._drain(watching)
            self._told.shutdown(wait=True)
        return code

    # what the switchboard and the management address ask

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def reload(self) -> str:
        """Read the service's row again and follow it."""
        row = await asyncio.to_thread(self._governor.ask)  # may take long, and holds up nothing
        return await self._change(functools.partial(self._governor.take, row))

    async def follow(self) -> str:
        """Take the local copy, if it is newer."""
        return await self._change(self._governor.follow_copy)

    async def warm(self, release: str) -> str:
        """Load a release beside those that answer."""
        return await self._change(functools.partial(self._governor.warm, release))

    async def cool(self, release: str) -> str:
        """Let go of a release that does not answer."""
        return await self._change(functools.partial(self._governor.let_go, release))

    def status(self) -> Status:
        """Say how the service is."""
        return Status(
            run=self._run,
            routes=self.routes,
            ready=self._crew.follow(self.routes.traffic.epoch) and self._crew.ready,
            draining=self.draining,
            store=self._governor.store,
            fronts={name: heard.report for name, heard in self._crew.reports.items()},
            standby=self._starter.standby.pid if self._starter.standby is not None else None,
        )

    def push(self) -> Push:
        """Return what fronts are told."""
        return Push(routes=self.routes)

    def heard(self, report: FrontReport) -> None:
        """Take a front's report."""
        self._crew.hear(report)

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Tell the outside what happened, without waiting for it."""
        self._told.submit(self.ports.on_event, event, dict(facts))

    # watching

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._reconcile_at = loop.time() + RECONCILE_S
        while True:
            self._crew.wake.clear()
            try:
                self._tick(loop.time())
            except Exception as fault:  # noqa: BLE001 - a full disk or process table must not end what still answers
                self._fault(fault)
                await asyncio.sleep(FAULT_S)
            await pause(self._crew.wake, TICK_S)

    def _tick(self, now: float) -> None:
        self._crew.tick(now)
        follows = self._crew.follow(self.routes.traffic.epoch)  # until then the releases before are needed
        if follows and not self._changing.locked() and self._governor.cool():
            self._follow_routes()
        if now >= self._reconcile_at:
            self._reconcile_at = now + RECONCILE_S
            if self._governor.store != "reachable" and (self._reconciling is None or self._reconciling.done()):
                self._reconciling = asyncio.get_running_loop().create_task(self._reconcile())
        if now >= self._measure_at:
            self._measure_at = now + MEASURE_S
            keep_short(self.folder / ERROR_FILE, MOST_ERROR_BYTES)
            self._crew.measure()
        self._save_run()

    async def _reconcile(self) -> None:
        try:
            await self.reload()
        except ModelyardError as fault:
            self._fault(fault)

    def _fault(self, fault: Exception) -> None:
        self.tell("supervisor_fault", {"why": f"{type(fault).__name__}: {fault}"[:300]})

    # following

    async def _change(self, change: Callable[[], str]) -> str:
        async with self._changing:
            detail = await asyncio.to_thread(change)
            self._follow_routes()
            return detail

    def _follow_routes(self) -> None:
        """Have the workers that the routes ask for, and tell the fronts."""
        if self._governor.changed:
            write_atomic(self.folder / self._governor.file, encode_pretty(self.routes), mode=0o600)
            self._governor.changed = False
        for release in self.routes.bodies:
            tried = (release, self.routes.previous.get(release))
            if tried not in self._tried:
                self._tried.add(tried)
                # A daemon: it may wait for another release's worker, and must not hold up the end.
                threading.Thread(target=self._rehearse, args=(release, self.routes), daemon=True).start()
        self._crew.man(self.routes, unheard=self._governor.unheard)
        self._switchboard.push()

    def _rehearse(self, release: str, routes: Routes) -> None:
        """Try the fallbacks of a release, and hand on what came of it."""
        job = self.job
        try:
            bodies = {name: read_body(Path(ref.folder)) for name, ref in routes.bodies.items()}
            tried = try_fallback(
                bodies.pop(release),
                release=release,
                previous=routes.previous.get(release),
                others=bodies,
                run_folder=self.folder,
                workers=job.workers,
                limits=job.limits,
            )
            self._told.submit(self._tell_fallback, release, tried)
        except ModelyardError as fault:
            self.tell("fallback_untried", {"release": release, "why": str(fault)})
        except RuntimeError:  # nothing is told any more: the service ends
            return

    def _tell_fallback(self, release: str, tried: FallbackEvidence) -> None:
        try:
            self.ports.on_fallback(release, tried)
        except ModelyardError as fault:
            self.ports.on_event("fallback_untried", {"release": release, "why": str(fault)})

    def _this_run(self) -> RunInfo:
        port = self._starter.port("http")
        assert port is not None
        return this_run(
            self.job,
            port=port,
            grpc_port=self._starter.port("grpc"),
            management_port=None if self._management is None else self._management.port,
            started=stamp(self.ports.clock.now()),
        )

    def _save_run(self) -> None:
        """Write the run file where a process came or went."""
        infos = self._crew.infos
        if infos != self._saved:
            self._saved = infos
            self._run = self._run.having(infos)
            write_atomic(self.folder / RUN_FILE, encode_pretty(self._run), mode=0o600)

    # ending

    async def _drain(self, watching: asyncio.Task[None]) -> int:
        """Let the fronts finish what they have, then end everything; return the exit code."""
        self.draining = True
        self.tell("draining", {})
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        code = 0 if await self._crew.end(self.job.limits.grace_s + 2.0) else 1
        if self._management is not None:
            await self._management.close()
        await self._switchboard.close()
        for name in (CONTROL_SOCKET, RUN_FILE):
            (self.folder / name).unlink(missing_ok=True)
        self.tell("stopped", {"exit": code})
        return code
