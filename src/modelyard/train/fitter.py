"""The asking side of the fitting process: starts it, hands it jobs, replaces it when it dies."""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Callable

from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode, encode
from modelyard.core.ports import Spawn
from modelyard.train.job import FitEnd, FitJob

TICK_S = 0.25


class Fitter:
    """One fitting process, started when first needed. Not safe to share between threads."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None

    def fit(self, job: FitJob, *, tick: Callable[[], None]) -> FitEnd:
        """Run one job; `tick` is called a few times a second while it runs."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(encode(job) + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while not selector.select(TICK_S):
                    tick()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        tick()
        if not line:
            code = process.wait()
            self._process = None
            return FitEnd(state=TrialState.CRASHED, reason=f"the fitting process itself ended with status {code}")
        return decode(line, FitEnd)

    def close(self) -> None:
        """End the process; twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.kill()
            process.wait()
            process.stdout.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = self._spawn("fitter")
        return self._process
