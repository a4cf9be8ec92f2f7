"""The processes of a service: how they are started, and when one is started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from modelyard.serve.keep.processes import start_ticks
from modelyard.serve.messages import ChildInfo

FIRST_BACKOFF_S = 0.1
MOST_BACKOFF_S = 10.0
RETIRE_S = 2.0  # for a retired process to end by itself
HEALTHY_S = 30.0  # after this long without a failure the backoff begins anew

ProcessKind = Literal["front", "worker", "controller"]


class Spawn(Protocol):
    """Starts a process that reads its job as JSON from its standard input; without a job it waits for one there."""

    def __call__(
        self, kind: ProcessKind, job_json: bytes | None, *, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]: ...


def spawner(errors: Path, *, command: Sequence[str] = (sys.executable, "-m", "modelyard.app")) -> Spawn:
    """Return a `Spawn` for `command KIND`; what the processes write to standard error is appended to `errors`.

    Each has a session of its own, so that Ctrl-C reaches the supervisor alone and requests in flight can finish.
    """

    def spawn(kind: ProcessKind, job_json: bytes | None, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        with errors.open("ab") as file:
            process = subprocess.Popen(
                [*command, kind],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        if job_json is not None:
            give(process, job_json)
        return process

    return spawn


def give(process: subprocess.Popen[bytes], job_json: bytes) -> None:
    """Write a process its job; one that is gone already is found by whoever watches it."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(job_json)


class Child:
    """One place in the service that a process fills, again and again if need be."""

    def __init__(
        self, kind: ProcessKind, name: str, release: str, start: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        self.kind, self.name, self.release = kind, name, release
        self.restarts = 0
        self.started_at = 0.0
        self.retired = False  # it is to end and not to come again
        self.gives_way = False  # the process has its turn when others do not want it
        self._retired_at: float | None = None
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._ticks = 0
        self._failures = 0
        self._due_at = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def info(self) -> ChildInfo | None:
        if self._process is None:
            return None
        return ChildInfo(
            kind=self.kind, name=self.name, pid=self._process.pid, start_ticks=self._ticks, restarts=self.restarts
        )

    def start_if_due(self, now: float) -> bool:
        """Start the process where there is none and the backoff is over; say whether it was."""
        if self._process is not None or self.retired or now < self._due_at:
            return False
        self._process, self.gives_way = self._start(), False
        self._ticks = start_ticks(self._process.pid) or 0
        self.started_at = now
        return True

    def exit_code(self, now: float) -> int | None:
        """Return how the process ended, once, and set when the next may start; None while it runs."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        self._failures = 1 if now - self.started_at > HEALTHY_S else self._failures + 1
        self.restarts += 1
        self._due_at = now + backoff_s(self._failures)
        return code

    def retire(self) -> None:
        """End the process for good."""
        if not self.retired:
            self.retired = True
            self.send(signal.SIGTERM)

    def is_gone(self, now: float) -> bool:
        """Say whether a retired process has ended; one that does not is killed."""
        if self._retired_at is None:
            self._retired_at = now
        if now - self._retired_at > RETIRE_S:
            self.send(signal.SIGKILL)
        return self.has_ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def backoff_s(failures: int) -> float:
    """Return how long to wait before the next start, after so many failures in a row.

    >>> [backoff_s(failures) for failures in (1, 2, 3, 20)]
    [0.0, 0.1, 0.2, 10.0]
    """
    return 0.0 if failures <= 1 else min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (failures - 2))
