"""A process with its libraries loaded that waits for its job, so that the next worker is up at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from modelyard.serve.keep.children import give
from modelyard.serve.keep.courtesy import give_way
from modelyard.serve.keep.processes import is_stopped

PAUSE_S = 1.0  # after the last worker was started, so that loading libraries takes no processor from it


class Standby:
    """At most one process. It reads its job from its standard input, and ends by itself when that closes.

    It gives way to others: who takes it has to bring it back.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._due_at = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def pause(self, now: float) -> None:
        """Start no process for a moment."""
        self._due_at = now + PAUSE_S

    def keep(self, now: float) -> None:
        """Start the process where there is none."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
            self.pause(now)
        if self._process is None and now >= self._due_at:
            self._process = self._start()
            give_way(self._process.pid)  # loading libraries takes a second, and nobody waits for it

    def take(self, job_json: bytes) -> subprocess.Popen[bytes] | None:
        """Give the process its job and let go of it; None where none waits that could do it."""
        process = self._process
        if process is None or process.poll() is not None or is_stopped(process.pid):
            self.close()
            return None
        self._process = None
        give(process, job_json)
        return process

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.kill()
            process.stdin.close()
            process.wait()
