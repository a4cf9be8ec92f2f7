"""The asking side of the fitting process: starts it, hands it jobs, replaces it when it dies."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
from collections.abc import Callable

from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode, encode
from modelyard.core.ports import Spawn
from modelyard.train.job import FitEnd, FitJob

TICK_S = 0.25
PATIENCE_S = 2.0  # for a process that said its last to be gone


class Fitter:
    """One fitting process, started when first needed. Not safe to share between threads."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None

    def fit(self, job: FitJob, *, tick: Callable[[], None]) -> FitEnd:
        """Run one job; `tick` is called a few times a second while it runs."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        line = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(encode(job) + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while not selector.select(TICK_S):
                    tick()
            line = process.stdout.readline()
        tick()
        if line.endswith(b"\n"):
            return decode(line, FitEnd)
        code = self._end(patience_s=PATIENCE_S)  # it was killed, or ended by itself, and said nothing or half a line
        return FitEnd(state=TrialState.CRASHED, reason=f"the fitting process itself ended with status {code}")

    def cancel(self) -> None:
        """Kill the process, so that a fit under way on another thread ends at once."""
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the process; twice is harmless."""
        self._end(patience_s=0.0)

    def _end(self, *, patience_s: float) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # a job that was never read
            process.stdin.close()
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()  # its child dies with it
            code = process.wait()
        process.stdout.close()
        return code

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end(patience_s=0.0)
        if self._process is None:
            self._process = self._spawn("fitter")
        return self._process
