"""Starting Modelyard's own processes, one module of this package a kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from modelyard.app.openmp import library_folder

# One thread each where a library would take all cores by itself: what runs is bounded by its job.
COMMAND = (sys.executable, "-m", "modelyard.app")
ENDS_BY_ITSELF = "fitter"  # when its standard input ends; it forks, and must have no threads
QUIET = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}


def spawn(kind: str, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the process of a kind with pipes on its standard input and output.

    It is in a process group of its own, so that Ctrl-C reaches the command alone, which then ends what it started.
    """
    return subprocess.Popen(
        [*(COMMAND if kind == ENDS_BY_ITSELF else command_with_us()), kind],
        process_group=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        env=child_environment(),
    )


def command_with_us() -> tuple[str, ...]:
    """Return the command of a process that must not outlive this one, however this one ends."""
    return (*COMMAND, "--while", str(os.getpid()))


def child_environment() -> Mapping[str, str]:
    """Return the environment that a child starts with."""
    environment = {**os.environ, **QUIET}  # noqa: TID251 - handed on whole, nothing is read but the library path
    folder = library_folder()
    if folder is not None:
        paths = [str(folder), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(paths)
    return environment
