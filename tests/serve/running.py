"""A whole service of real processes, and an independent client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from modelyard.core.codec import encode
from modelyard.core.release import Service, Traffic
from modelyard.serve.keep import control
from modelyard.serve.keep.processes import end
from modelyard.serve.keep.runfile import read_run
from modelyard.serve.messages import ERROR_FILE, Limits, Status, SupervisorJob
from tests.serve.entry import BODIES_FILE, EVENTS, ROW_FILE

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, timeout_s: float = 10.0) -> T:
    """Return the first true thing that `look` gives; an assertion fails where none came in time."""
    end_at = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < end_at:
        try:
            seen = look()
            if seen:
                return seen
            last = seen
        except (OSError, http.client.HTTPException) as fault:
            last = fault
        time.sleep(0.01)
    raise AssertionError(f"It did not come to pass within {timeout_s} s; last seen: {last!r}")


class Reply:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes, seconds: float) -> None:
        self.status, self.headers, self.data, self.seconds = status, headers, data, seconds

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Running:
    """A service under test."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.folder, self.process, self.port = folder, process, port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        began = time.monotonic()
        with contextlib.closing(client):
            client.request(method, path, body=data, headers={k.replace("_", "-"): v for k, v in headers.items()})
            reply = client.getresponse()
            return Reply(reply.status, dict(reply.headers.items()), reply.read(), time.monotonic() - began)

    def predict(self, *rows: Mapping[str, Any], **headers: str) -> Reply:
        return self.ask("POST", "/predict", {"rows": list(rows)}, **headers)

    def status(self) -> Status:
        return control.status(self.folder)

    def wait_ready(self) -> Status:
        return control.wait_ready(self.folder, 15.0)

    def pid_of(self, kind: str) -> int:
        return next(child.pid for child in self.status().run.children if child.kind == kind)

    def events(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / EVENTS
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] == name]

    def metric(self, start: str) -> float:
        text = self.ask("GET", "/metrics").data.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


def write_bodies(folder: Path, bodies: Mapping[str, tuple[Path, str]]) -> None:
    """Have the store of a folder know these releases."""
    (folder / BODIES_FILE).write_text(json.dumps({name: [str(path), sha] for name, (path, sha) in bodies.items()}))


def write_row(folder: Path, shares: Mapping[str, float], *, epoch: int, previous: str | None = None) -> None:
    row = Service(
        name="income",
        traffic=Traffic(epoch=epoch, shares=dict(shares), previous=previous),
        host="127.0.0.1",
        port=0,
        environment="sandbox",
        state="running",
        supervisor_pid=None,
        started=None,
    )
    (folder / ROW_FILE).write_bytes(encode(row))


def launch(
    folder: Path, *, port: int = 0, limits: Limits | None = None, keep_warm_s: float = 60.0, **more: Any
) -> subprocess.Popen[bytes]:
    """Start a supervisor over a folder that has its row and bodies; `more` goes into its job."""
    job = SupervisorJob(
        service="income",
        run_folder=str(folder),
        port=port,
        alias="/api/v1/income",
        limits=limits or Limits(progress_timeout_s=0.5, idle_check_s=0.4, grace_s=5.0),
        keep_warm_s=keep_warm_s,
        **more,
    )
    with (folder / ERROR_FILE).open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve.entry", "supervisor"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(encode(job))
    process.stdin.close()
    return process


@contextlib.contextmanager
def service(
    folder: Path,
    bodies: Mapping[str, tuple[Path, str]],
    *,
    limits: Limits | None = None,
    epoch: int = 1,
    keep_warm_s: float = 60.0,
    **more: Any,
) -> Iterator[Running]:
    """Run a service of the first of `bodies` until the block ends."""
    folder.mkdir(exist_ok=True)
    write_bodies(folder, bodies)
    write_row(folder, {next(iter(bodies)): 1.0}, epoch=epoch)
    process = launch(folder, limits=limits, keep_warm_s=keep_warm_s, **more)
    try:
        yield Running(folder, process, control.wait_ready(folder, 20.0).run.port)
    finally:
        sweep(folder, process)


def children_of(pid: int) -> list[int]:
    """Return the processes that one has started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in threads for word in path.read_text().split()]


def sweep(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, however the test ended."""
    started: list[int] = []
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing more, of which no file tells yet
        started = children_of(process.pid)
        process.kill()
    process.wait()
    run = read_run(folder)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for child in run.children if run is not None else ():
        end(child.pid, child.start_ticks, number=signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
