"""A service, its callers and a rollout, each in processes of their own, and what came of every request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from modelyard.app.records import Records
from modelyard.app.rollout import RolloutVerbs
from modelyard.app.settings import Settings
from modelyard.app.traffic import TrafficVerbs
from modelyard.core.release import Traffic
from modelyard.flow.rollout.courses import Courses
from modelyard.rollout.course import Course
from modelyard.serve.keep import control
from modelyard.serve.messages import worker_name
from modelyard.serve.routing import choose
from rollout_load import BROKEN, TIMED_OUT, Job

COMMAND = [sys.executable, "-m", "modelyard"]
LOAD = Path(__file__).with_name("rollout_load.py")
T = TypeVar("T")


class Place:
    """A store, and the services of it. `home` is a folder of this run alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "MODELYARD_HOME": str(home), "MODELYARD_USER": "bench"}
        self.records = Records(Settings(home=home, user="bench"), command="bench")
        self.rollouts = RolloutVerbs(self.records)
        self.traffic = TrafficVerbs(self.records.settings, self.records.store, self.records.clock, "bench")

    def run_folder(self, name: str) -> Path:
        return self.home / "run" / name

    def command(self, *words: str) -> str:
        """Run a command as a person would; return what it printed."""
        done = subprocess.run(
            [*COMMAND, *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"modelyard {' '.join(words)} ended with {done.returncode}: {done.stdout}")
        return done.stdout

    @contextlib.contextmanager
    def service(self, release: str) -> Iterator[int]:
        """Serve a release until the block ends; give the port."""
        name = release.partition("@")[0]
        self.command("serve", release, "--port", "0", "--detach")
        try:
            yield self.port(name)
        finally:
            subprocess.run(
                [*COMMAND, "stop", name], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip

    def port(self, name: str) -> int:
        return control.status(self.run_folder(name)).run.port

    def course(self, name: str) -> Course | None:
        return Courses(self.run_folder(name)).read()

    def wait_ended(self, name: str, seconds: float) -> Course | None:
        """Wait until the rollout has ended and its traffic is set; None where it has not in time."""
        courses, end = Courses(self.run_folder(name)), time.monotonic() + seconds
        while time.monotonic() < end:
            if not courses.is_open:
                return courses.read()
            time.sleep(0.1)
        return None

    def table(self, name: str) -> Traffic:
        found = control.local_traffic(self.run_folder(name))
        assert found is not None
        return found

    def pids(self, name: str, kind: str, release: str = "") -> list[int]:
        """Return the processes of a kind of a service; of workers those of a release."""
        children = control.status(self.run_folder(name)).run.children
        start = worker_name(release, 0)[:-1] if release else ""
        return [one.pid for one in children if one.kind == kind and one.name.startswith(start)]

    def controller(self, name: str) -> int | None:
        """Return the process that keeps the rollout of a service."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if entry.name.isdigit() and b"controller" in (entry / "cmdline").read_bytes():
                    held = {str(link.readlink()) for link in (entry / "fd").iterdir()}
                    if str(self.run_folder(name) / "controller.lock") in held:
                        return int(entry.name)
        return None


@dataclass
class Heard:
    """What became of every request, in the order in which they ended. Moments are of the monotonic clock."""

    due: np.ndarray
    sent: np.ndarray
    done: np.ndarray
    number: np.ndarray
    status: np.ndarray
    served_by: np.ndarray  # text
    degraded: np.ndarray
    wrong: np.ndarray  # answered otherwise than the sealed model does
    prefix: str

    @property
    def failed(self) -> np.ndarray:
        return (self.status < 200) | (self.status >= 500)

    @property
    def took_s(self) -> np.ndarray:
        return self.done - self.due

    def met(self, table: Traffic, candidate: str, stable: str) -> np.ndarray:
        """Return which requests met the candidate: as the reply says, else as the table draws."""
        unsaid = ~np.isin(self.served_by, [candidate, stable])
        drawn = np.array(
            [
                bool(is_unsaid) and choose(table, f"{self.prefix}-{number}")[0] == candidate
                for number, is_unsaid in zip(self.number.tolist(), unsaid.tolist(), strict=True)
            ],
            dtype=bool,
        )
        return (self.served_by == candidate) | drawn


class Calling:
    """Callers in a process of their own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._process = subprocess.Popen([sys.executable, str(LOAD)], stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()

    def finish(self) -> Heard:
        """End the load and return what was heard."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(60):
            sys.exit(f"The load ended with {self._process.returncode}.")
        with np.load(self.job.out) as found:
            times, facts, names = found["times"], found["facts"], found["names"]
        return Heard(
            due=times[:, 0], sent=times[:, 1], done=times[:, 2], number=facts[:, 0], status=facts[:, 1],
            served_by=names[facts[:, 2]], degraded=facts[:, 3] > 0, wrong=facts[:, 4] > 0, prefix=self.job.prefix,
        )  # fmt: skip

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def calling(place: Place, name: str, port: int, **job: Any) -> Iterator[Calling]:
    """Have callers ask a service until the block ends, at the latest."""
    out = place.home / f"heard-{name}-{time.monotonic_ns()}.npz"
    load = Calling(Job(port=port, out=str(out), prefix=f"{name}-{time.monotonic_ns():x}", **job))
    try:
        yield load
    finally:
        load.close()


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """Return the first true thing that `look` gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{what} did not come to pass within {seconds:g} s")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wall_to_monotonic(moment: float) -> float:
    """Return the moment on the monotonic clock of one in seconds since 1970."""
    return moment - time.time() + time.monotonic()


def table_of(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def statuses(heard: Heard, among: np.ndarray) -> str:
    """Return how often each status came, in words."""
    told = {TIMED_OUT: "no answer", BROKEN: "connection broke"}
    found, counts = np.unique(heard.status[among], return_counts=True)
    return ", ".join(f"{told.get(int(one), int(one))}: {count}" for one, count in zip(found, counts, strict=True))


def as_json(figures: list[dict[str, Any]]) -> str:
    return json.dumps({"figures": figures})
