"""The processes of a service: those that are wanted are there, those that stop making progress are replaced."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard.serve.keep.children import Child
from modelyard.serve.keep.courtesy import be_as_others, give_way
from modelyard.serve.keep.processes import resident_bytes
from modelyard.serve.keep.starting import Starter
from modelyard.serve.keep.watch import (
    Heard,
    Why,
    why_kill_controller,
    why_kill_for_memory,
    why_kill_front,
    why_kill_worker,
)
from modelyard.serve.messages import (
    ROLLOUT_MARK,
    ChildInfo,
    FrontReport,
    Routes,
    SupervisorJob,
    quarantine_name,
    worker_name,
)
from modelyard.serve.told.metrics import Metrics

LOOK_S = 0.25  # between looks at memory
CONTROLLER_LOADS_S = 3.0  # about
CONTROLLER = "controller"  # the name of what keeps a rollout
QUARANTINE_S = 5.0  # without suspects, until the worker for them ends

Tell = Callable[[str, Mapping[str, Any]], None]


class Crew:
    """Of one thread, the event loop's."""

    def __init__(self, job: SupervisorJob, starter: Starter, *, metrics: Metrics, tell: Tell) -> None:
        self.children: dict[str, Child] = {}
        self.reports: dict[str, Heard] = {}  # by front
        self.wake = asyncio.Event()  # something is to be done before the next tick
        self._job, self._starter, self._tell, self._metrics = job, starter, tell, metrics
        self._killed: dict[str, str] = {}  # process -> the word for why
        self._routes: Routes | None = None
        self._suspected: dict[str, float] = {}  # release -> when a front last said so
        self._unheard: frozenset[str] = frozenset()  # releases that no caller can meet
        self._look_at = 0.0
        self._mark = Path(job.run_folder) / ROLLOUT_MARK

    @property
    def infos(self) -> tuple[ChildInfo, ...]:
        """Return the processes that run now."""
        return tuple(info for child in self.children.values() if (info := child.info) is not None)

    @property
    def ready(self) -> bool:
        """Say whether every front is."""
        return all(
            (heard := self.reports.get(name)) is not None and heard.report.ready for name in self._starter.fronts
        )

    def follow(self, epoch: int) -> bool:
        """Say whether every front answers by the table of an epoch."""
        return all(
            (heard := self.reports.get(name)) is not None and heard.report.epoch == epoch
            for name in self._starter.fronts
        )

    def man(self, routes: Routes, *, unheard: frozenset[str] = frozenset()) -> None:
        """Have the fronts, and the workers that the routes ask for.

        Workers of releases that are `unheard`, as no caller can meet them, give way to all others.
        """
        self._routes, self._unheard = routes, unheard
        for child in self.children.values():  # before fronts are told that callers meet them
            self._give_way(child, follows=False)
        for name in self._starter.fronts:
            if name not in self.children:
                self.children[name] = Child("front", name, "", functools.partial(self._start_front, name))
        self._match()

    def hear(self, report: FrontReport) -> None:
        """Take a front's report, if it comes from one that is ours."""
        now = asyncio.get_running_loop().time()
        if not any(child.pid == report.pid and child.kind == "front" for child in self.children.values()):
            return
        self.reports[report.name] = Heard(report, now)
        for release in report.suspects:
            if release not in self._suspected:
                self._tell("quarantined", {"release": release, "front": report.name})
                self.wake.set()
            self._suspected[release] = now

    def tick(self, now: float) -> None:
        """Look after every process."""
        self._suspected = {one: at for one, at in self._suspected.items() if now - at <= QUARANTINE_S}
        self._match()
        self._match_controller()
        look = now >= self._look_at
        if look:
            self._look_at = now + LOOK_S
        follows = self.follow(self._routes.traffic.epoch) if self._routes is not None else False
        for child in list(self.children.values()):
            self._watch(child, now, look=look)
            self._give_way(child, follows=follows)
        if self._starter.standby is not None and self.ready:
            self._starter.standby.keep(now)

    async def end(self, grace_s: float) -> bool:
        """Let the fronts finish what they have, then end the workers; say whether no request had to be cut."""
        self._starter.hang_up()
        self._starter.close()
        controllers = [child for child in self.children.values() if child.kind == "controller"]
        for child in controllers:  # whoever keeps the rollout next goes on from its file
            child.send(signal.SIGTERM)
        for child in self.children.values():
            if child.release in self._unheard:  # nobody waits for it, and it may be stopped
                child.send(signal.SIGKILL)
        fronts = [child for child in self.children.values() if child.kind == "front"]
        clean = await _end(fronts, grace_s)
        await _end([child for child in self.children.values() if child.kind == "worker"] + controllers, 2.0)
        for name in self.children:
            (Path(self._job.run_folder) / name).unlink(missing_ok=True)
        return clean

    def _match(self) -> None:
        """Have a place for every worker that is wanted, and retire those that are not."""
        assert self._routes is not None
        wanted: dict[str, tuple[str, int | None]] = {}
        for release in self._routes.bodies:
            for slot in range(self._job.workers):
                wanted[worker_name(release, slot)] = (release, slot)
            if release in self._suspected:
                wanted[quarantine_name(release)] = (release, None)
        for name, (release, place) in wanted.items():
            if name not in self.children:
                start = functools.partial(self._start_worker, release, place)
                self.children[name] = Child("worker", name, release, start)
                self.wake.set()
        for child in self.children.values():
            if child.release and child.name not in wanted:
                child.retire()

    def _match_controller(self) -> None:
        """Have a controller as long as there is a rollout to keep."""
        wanted, child = self._mark.exists(), self.children.get(CONTROLLER)
        if wanted and child is None:
            self.children[CONTROLLER] = Child("controller", CONTROLLER, "", self._starter.controller)
        elif not wanted and child is not None:
            child.retire()

    def _watch(self, child: Child, now: float, *, look: bool) -> None:
        code = child.exit_code(now)
        if child.retired:
            if child.is_gone(now):
                self.children.pop(child.name, None)
                (Path(self._job.run_folder) / child.name).unlink(missing_ok=True)
                self._metrics.memory.drop(child.name)
                self.wake.set()  # its release may be wanted again by now
            return
        if code is not None:
            self._count(child, code)
        if child.start_if_due(now):
            child.gives_way = child.kind == "worker"  # as one that stood by does
            self._wake_at_end(child.pid)
            return
        why = self._why_kill(child, now, look=look)
        if why is not None:
            self._tell("killed", {"process": child.name, "why": why.seen})
            self._killed[child.name] = why.word
            child.send(signal.SIGKILL)

    def _give_way(self, child: Child, *, follows: bool) -> None:
        """Have a worker give way while no caller can meet it, which is sure only once all fronts follow the table.

        A controller does while it loads what it decides with.
        """
        if child.pid is None or child.kind == "front":
            return
        if child.kind == "controller":
            loads = asyncio.get_running_loop().time() - child.started_at < CONTROLLER_LOADS_S
            if child.gives_way is not loads:
                child.gives_way = give_way(child.pid) if loads else not be_as_others(child.pid)
            return
        if child.gives_way and child.release not in self._unheard:
            child.gives_way = not be_as_others(child.pid)
        elif not child.gives_way and follows and child.release in self._unheard:
            child.gives_way = give_way(child.pid)

    def _count(self, child: Child, code: int) -> None:
        """Count a process that ended and is to be replaced."""
        word = self._killed.pop(child.name, "ended")
        self._tell("replaced", {"process": child.name, "exit": code, "why": word, "restarts": child.restarts})
        if child.release:
            self._metrics.restarts.add(child.release, word)
        elif child.kind == "front":
            self.reports.pop(child.name, None)
            self._metrics.front_restarts.add()

    def measure(self) -> None:
        """Count the processor time of the workers and of this process, and say what memory they have."""
        self._metrics.see("supervisor", os.getpid())
        for child in self.children.values():
            if child.kind == "worker" and child.pid is not None:
                self._metrics.see(child.name, child.pid)

    def _why_kill(self, child: Child, now: float, *, look: bool) -> Why | None:
        """Say why a process has to go; None where it may stay."""
        limits, began = self._job.limits, child.started_at
        if child.pid is None:
            return None
        if child.kind == "controller":
            return why_kill_controller(self._mark, started_at=began, now=now) if look else None
        if child.kind == "front":
            return why_kill_front(started_at=began, heard=self.reports.get(child.name), now=now, limits=limits)
        why = why_kill_worker(child.name, started_at=began, reports=self.reports.values(), now=now, limits=limits)
        if why is None and look:
            why = why_kill_for_memory(resident_bytes(child.pid), self._job.memory_mb)
        return why

    def _wake_at_end(self, pid: int | None) -> None:
        """See to it that the end of a process is noticed at once."""
        if pid is None:
            return
        loop = asyncio.get_running_loop()
        try:
            handle = os.pidfd_open(pid)
        except OSError:  # it has ended already, or there are no handles left: the next tick sees it
            return

        def ended() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            self.wake.set()

        loop.add_reader(handle, ended)

    def _start_worker(self, release: str, slot: int | None) -> subprocess.Popen[bytes]:
        assert self._routes is not None
        now, hurries = asyncio.get_running_loop().time(), release not in self._unheard
        return self._starter.worker(release, slot, self._routes, now, hurries=hurries)

    def _start_front(self, name: str) -> subprocess.Popen[bytes]:
        assert self._routes is not None
        return self._starter.front(name, self._routes)


async def _end(children: list[Child], timeout_s: float) -> bool:
    """End processes, those that do not end in time by force; say whether none was forced."""
    for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 2.0)):
        for child in children:
            child.send(number)
        end = asyncio.get_running_loop().time() + wait_s
        while not all(child.has_ended for child in children) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        if all(child.has_ended for child in children):
            return number is signal.SIGTERM
    return False
