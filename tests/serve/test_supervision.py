"""The supervisor's care: its rules, the process that stands by, and the crew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.core.release import Traffic
from modelyard.serve.keep.crew import QUARANTINE_S, Crew
from modelyard.serve.keep.processes import is_stopped, keep_short, resident_bytes, start_ticks
from modelyard.serve.keep.standby import PAUSE_S, Standby
from modelyard.serve.keep.watch import Heard, why_kill_for_memory, why_kill_front, why_kill_worker
from modelyard.serve.messages import (
    BodyRef,
    Doors,
    FrontReport,
    Limits,
    Routes,
    SupervisorJob,
    WorkerState,
    quarantine_name,
)
from modelyard.serve.told.metrics import Metrics
from tests.serve.running import eventually

LIMITS = Limits(progress_timeout_s=1.0, front_timeout_s=5.0, start_timeout_s=60.0)
WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


def report(*, suspects: tuple[str, ...] = (), pid: int = 1, **workers: WorkerState) -> FrontReport:
    return FrontReport(pid=pid, epoch=1, ready=True, requests=0, degraded=0, workers=workers, suspects=suspects)


def state(*, connected: bool = True, golden: bool | None = True, waiting_s: float = 0.0) -> WorkerState:
    return WorkerState(connected=connected, golden=golden, waiting_s=waiting_s)


def why(started_at: float, now: float, *heard: Heard) -> str | None:
    found = why_kill_worker("w", started_at=started_at, reports=heard, now=now, limits=LIMITS)
    return None if found is None else found.word


# rules


def test_a_worker_that_one_front_waits_for_too_long_has_to_go() -> None:
    idle, stuck = report(w=state()), report(w=state(waiting_s=1.5))
    assert why(0.0, 10.0, Heard(idle, 10.0)) is None
    assert why(0.0, 10.0, Heard(idle, 10.0), Heard(stuck, 9.9)) == "hung"


def test_what_its_predecessor_did_is_not_held_against_a_worker() -> None:
    stuck, wrong = report(w=state(waiting_s=1.5)), report(w=state(golden=False))
    assert why(9.0, 10.0, Heard(stuck, 9.9)) is None  # that batch was sent before it started
    assert why(9.0, 10.0, Heard(wrong, 8.9)) is None
    assert why(9.0, 10.0, Heard(wrong, 9.5)) == "wrong"


def test_a_worker_that_no_front_reaches_has_to_go_after_its_time_to_start() -> None:
    away = report(w=state(connected=False, golden=None))
    assert why(0.0, 59.0, Heard(away, 59.0)) is None
    assert why(0.0, 61.0, Heard(away, 61.0)) == "slow"
    assert why(0.0, 61.0, Heard(away, 61.0), Heard(report(w=state()), 61.0)) is None
    assert why(0.0, 61.0) is None  # nobody has looked yet


def test_a_front_that_is_silent_has_to_go() -> None:
    assert why_kill_front(started_at=0.0, heard=None, now=59.0, limits=LIMITS) is None  # it may still be starting
    slow = why_kill_front(started_at=0.0, heard=None, now=61.0, limits=LIMITS)
    assert slow is not None and slow.seen == "without a word 61 s after its start"
    assert why_kill_front(started_at=0.0, heard=Heard(report(), 4.0), now=8.0, limits=LIMITS) is None
    found = why_kill_front(started_at=0.0, heard=Heard(report(), 4.0), now=9.5, limits=LIMITS)
    assert found is not None and found.seen == "silent for 5.5 s"


def test_memory_is_held_against_its_bound_where_there_is_one() -> None:
    own = resident_bytes(os.getpid())
    assert own > 10_000_000 and resident_bytes(2**22 + 1) == 0
    assert why_kill_for_memory(own, None) is None
    assert why_kill_for_memory(own, own // 1024 // 1024 + 1) is None
    found = why_kill_for_memory(own, 5)
    assert found is not None and "above its bound of 5 MB" in found.seen


def test_what_processes_said_stays_bounded_while_they_write_on(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    with path.open("ab", buffering=0) as other:
        for turn in range(50):
            other.write(b"%06d\n" % turn * 100)
            keep_short(path, 1000)
            assert path.stat().st_size <= 1000
    assert (tmp_path / "stderr.log.1").read_bytes().endswith(b"000049\n")
    assert (tmp_path / "stderr.log.1").stat().st_size <= 1000
    keep_short(tmp_path / "none", 10)


# a process that stands by


def waiting() -> subprocess.Popen[bytes]:
    return subprocess.Popen(WAITS, stdin=subprocess.PIPE)


def test_the_process_that_stands_by_becomes_the_next_worker_and_another_takes_its_place_after_a_pause() -> None:
    standby = Standby(waiting)
    assert standby.take(b"{}") is None
    standby.keep(100.0)
    first = standby.pid
    process = standby.take(b"{}")
    assert process is not None and process.pid == first and process.wait(10) == 0
    standby.pause(100.0)
    standby.keep(100.0)
    assert standby.pid is None
    standby.keep(100.0 + PAUSE_S)
    assert standby.pid not in (None, first)
    standby.close()
    assert standby.pid is None


def test_one_that_was_stopped_or_ended_is_not_given_a_job() -> None:
    standby = Standby(waiting)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        standby.keep(100.0)
        pid = standby.pid
        assert pid is not None
        os.kill(pid, number)
        eventually(lambda pid=pid: is_stopped(pid) or start_ticks(pid) is None)  # type: ignore[misc]
        assert standby.take(b"{}") is None
        assert start_ticks(pid) is None


# the crew


class Starting:
    """Starts processes that only wait."""

    standby = None
    fronts: dict[str, Doors] = {"front.0": "http"}

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def front(self, name: str, routes: Routes) -> subprocess.Popen[bytes]:
        self.processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return self.processes[-1]

    def worker(
        self, release: str, slot: int | None, routes: Routes, now: float, *, hurries: bool = True
    ) -> subprocess.Popen[bytes]:
        return self.front(release, routes)

    def hang_up(self) -> None: ...

    def close(self) -> None: ...

    def sweep(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def crew_of(folder: Path, told: list[tuple[str, dict[str, Any]]]) -> Iterator[Crew]:
    job = SupervisorJob(service="income", run_folder=str(folder), workers=2, limits=LIMITS)
    starting = Starting()
    starter: Any = starting
    try:
        yield Crew(
            job,
            starter,
            metrics=Metrics(),
            tell=lambda event, facts: told.append((event, dict(facts))),
        )
    finally:
        starting.sweep()


def routes_of(*releases: str) -> Routes:
    ref = BodyRef(folder="", digest="")
    return Routes(traffic=Traffic(epoch=1, shares={releases[0]: 1.0}), bodies=dict.fromkeys(releases, ref))


def test_suspects_get_a_worker_of_their_own_which_ends_some_time_after_the_last(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    async def run(crew: Crew) -> None:
        crew.man(routes_of("income@1"))
        now = asyncio.get_running_loop().time()
        crew.tick(now)
        front = crew.children["front.0"].pid
        assert front is not None and {one.name for one in crew.infos} == {"front.0", "income@1.0", "income@1.1"}
        crew.hear(report(pid=front + 1, suspects=("income@1",)))  # not ours
        assert told == []
        crew.hear(report(pid=front, suspects=("income@1",)))
        crew.hear(report(pid=front, suspects=("income@1",)))
        assert [event for event, _ in told] == ["quarantined"] and crew.wake.is_set()
        crew.tick(now)
        quarantine = crew.children[quarantine_name("income@1")]
        assert quarantine.pid is not None
        crew.tick(now + QUARANTINE_S - 1)
        assert not quarantine.retired
        crew.tick(now + QUARANTINE_S + 1)
        assert quarantine.retired
        await _until_gone(crew, quarantine_name("income@1"), now + QUARANTINE_S + 1)
        assert await crew.end(5.0)

    with crew_of(tmp_path, told) as crew:
        asyncio.run(run(crew))


def test_a_process_that_ended_is_counted_told_and_started_again(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    async def run(crew: Crew) -> None:
        crew.man(routes_of("income@1", "income@2"))
        now = asyncio.get_running_loop().time()
        crew.tick(now)
        child = crew.children["income@2.1"]
        before = child.pid
        crew.wake.clear()
        child.send(signal.SIGKILL)
        await asyncio.wait_for(crew.wake.wait(), 5)  # at once, without a tick
        crew.tick(now + 0.1)
        assert child.pid not in (None, before)
        assert ("replaced", {"process": "income@2.1", "exit": -9, "why": "ended", "restarts": 1}) in told
        crew.man(routes_of("income@1"))
        assert child.retired
        os.kill(child.pid or 0, signal.SIGSTOP)  # it cannot end by itself
        await _until_gone(crew, "income@2.1", now + 0.2)
        assert await crew.end(5.0)

    with crew_of(tmp_path, told) as crew:
        asyncio.run(run(crew))


async def _until_gone(crew: Crew, name: str, now: float) -> None:
    for turn in range(500):
        crew.tick(now + turn / 50)
        if name not in crew.children:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is still there")
