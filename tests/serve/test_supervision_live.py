"""The supervisor's care seen from outside: a whole service whose processes are killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

from modelyard.errors import NotRunning
from modelyard.serve.keep import control
from modelyard.serve.keep.processes import start_ticks
from modelyard.serve.messages import RunInfo
from modelyard.serve.wire import connect_to
from tests.serve.bodies import ROW
from tests.serve.load import Load
from tests.serve.running import Running, eventually, launch, service, sweep, write_bodies, write_row


def test_a_killed_worker_is_replaced_from_the_process_that_stands_by(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        standby = eventually(lambda: running.status().standby)
        eventually(lambda: _has_loaded(standby, "onnxruntime"))
        took = _seconds_to_replace(running)
        assert running.pid_of("worker") == standby
        assert took < 10.0
        assert eventually(lambda: running.status().standby) != standby
        assert running.metric('modelyard_worker_restarts_total{release="income@1",why="ended"}') == 1


def test_without_one_that_stands_by_a_killed_worker_is_replaced_too(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies, standby=False) as running:
        assert _seconds_to_replace(running) < 30.0
        assert running.status().standby is None


def test_the_process_that_stands_by_ends_with_a_supervisor_that_is_killed(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        standby = eventually(lambda: running.status().standby)
        running.process.kill()
        running.process.wait()
        eventually(lambda: start_ticks(standby) is None)
        assert running.predict(ROW).status == 200


def test_a_worker_beyond_its_memory_is_replaced_and_told(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, memory_mb=400) as running:
        assert running.predict(ROW).status == 200
        assert running.events("killed") == []
    folder = tmp_path / "small"
    folder.mkdir()
    write_bodies(folder, bodies)
    write_row(folder, {"income@1": 1.0}, epoch=1)
    process = launch(folder, memory_mb=20)
    try:
        small = Running(folder, process, 0)
        killed = eventually(lambda: [one["why"] for one in small.events("killed")])
        assert killed[0].startswith("memory of ") and "above its bound of 20 MB" in killed[0]
        assert eventually(lambda: [one for one in small.events("replaced") if one["why"] == "memory"])
    finally:
        sweep(folder, process)


def test_two_fronts_share_a_port_and_both_must_be_ready(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, fronts=2) as running:
        assert set(running.status().fronts) == {"front.0", "front.1"}
        with Load(running.port, 4) as load:
            os.kill(running.pid_of("front"), signal.SIGKILL)
            eventually(lambda: running.events("replaced"))
            running.wait_ready()
        refused = [one for one in load.lost if "Refused" in one]
        assert refused == []
        assert {status for status, _, _ in load.replies} == {200}
        answered = running.metric("modelyard_rows_total")
        # The counts of the killed front are not lost, but for replies of its last batch: one of each caller at most.
        assert answered >= len(load.replies) - 4
        assert running.metric("modelyard_front_restarts_total") == 1


def test_the_front_for_grpc_has_an_address_of_its_own_and_is_replaced_like_any(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies, grpc_port=0) as running:
        state = running.status()
        assert set(state.fronts) == {"front.0", "grpc.0"}
        assert state.run.grpc_port not in (None, state.run.port)
        pids = {one.name: one.pid for one in state.run.children}
        os.kill(pids["grpc.0"], signal.SIGKILL)
        eventually(lambda: [one for one in running.events("replaced") if one["process"] == "grpc.0"])
        assert running.predict(ROW).status == 200
        running.wait_ready()


def test_a_front_killed_under_load_refuses_no_connection(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        callers = Callers(running.port, 6)
        with callers:
            for _ in range(3):
                before = running.pid_of("front")
                os.kill(before, signal.SIGKILL)
                eventually(lambda before=before: _other_than(running, "front", before))  # type: ignore[misc]
                running.wait_ready()
        assert callers.refused == 0
        assert callers.answered > 20
        assert callers.cut <= 3 * 6  # what was on a connection of the killed front


def test_a_supervisor_that_was_killed_is_followed_by_one_that_refuses_no_connection(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies, grpc_port=0, fronts=2) as running:
        before = running.status().run
        with Callers(running.port, 6) as callers:
            running.process.kill()
            running.process.wait()
            following = launch(running.folder, port=running.port, grpc_port=before.grpc_port, fronts=2)
            try:
                after = eventually(lambda: _run_of(running, following.pid))
                running.wait_ready()
                answered = callers.answered
                eventually(lambda: callers.answered > answered + 20)
                callers.stop()
            finally:
                sweep(running.folder, following)
    assert (after.port, after.grpc_port) == (before.port, before.grpc_port)
    assert not {one.pid for one in after.children} & {one.pid for one in before.children}
    assert (callers.refused, callers.cut) == (0, 0)


def test_a_report_of_suspects_starts_the_quarantine_at_once(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        front = running.pid_of("front")
        line = {"verb": "report", "pid": front, "epoch": 1, "ready": True, "requests": 0, "degraded": 0}
        more = {"workers": {}, "suspects": ["income@1"]}
        with connect_to(running.folder, "control.sock") as sock:
            sock.sendall(json.dumps({**line, **more}).encode() + b"\n")
            eventually(lambda: (running.folder / "income@1.q").exists())
        assert running.events("quarantined")


class Callers:
    """Callers that open a connection for every request."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.refused, self.cut, self.answered = port, 0, 0, 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        body = json.dumps({"rows": [ROW]})
        while not self._stop.is_set():
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
            with contextlib.closing(client):
                try:
                    client.request("POST", "/predict", body=body)
                    client.getresponse().read()
                    self.answered += 1
                except ConnectionRefusedError:
                    self.refused += 1
                except (OSError, http.client.HTTPException):
                    self.cut += 1


def _run_of(running: Running, supervisor: int) -> RunInfo | None:
    with contextlib.suppress(NotRunning):
        run = control.status(running.folder).run
        return run if run.pid == supervisor and any(one.kind == "front" for one in run.children) else None
    return None


def _other_than(running: Running, kind: str, before: int) -> bool:
    pids = [one.pid for one in running.status().run.children if one.kind == kind]
    return bool(pids) and before not in pids


def _seconds_to_replace(running: Running) -> float:
    """Kill the worker; return the time until a front has its golden requests answered again."""
    before = running.pid_of("worker")
    began = time.monotonic()
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        found = control.status(running.folder)
        seen = found.fronts["front.0"].workers.get("income@1.0") if "front.0" in found.fronts else None
        pids = [one.pid for one in found.run.children if one.name == "income@1.0"]
        return bool(seen and seen.connected and seen.golden and pids and pids != [before])

    eventually(back)
    return time.monotonic() - began


def _has_loaded(pid: int, library: str) -> bool:
    with contextlib.suppress(OSError):
        return library in Path(f"/proc/{pid}/maps").read_text()
    return False
