"""What callers see while processes are killed, hung and ended."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from modelyard.bundle.format import GRAPH
from modelyard.serve.keep.runfile import read_run
from modelyard.serve.messages import ERROR_FILE, Limits
from tests.serve.bodies import REFUSE, ROW, write_body
from tests.serve.entry import BODIES_FILE
from tests.serve.load import Load
from tests.serve.running import Running, eventually, launch, service, sweep, write_row

HUNG_S = 5.0  # no speed: beyond it, it waited for what it must not wait for


def test_a_killed_worker_costs_no_caller_an_answer_and_is_replaced(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running, Load(running.port, 4) as load:
        killed = running.pid_of("worker")
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: running.status().ready and running.pid_of("worker") != killed)
        count = len(load.replies)
        eventually(lambda: any(degraded is None for _, degraded, _ in load.since(count)))
        load.__exit__()
        assert load.lost == []
        assert {status for status, _, _ in load.replies} == {200}
        assert max(seconds for _, _, seconds in load.replies) < HUNG_S
        assert {degraded for _, degraded, _ in load.replies} <= {None, "worker_down", "worker_failed"}
        assert running.metric("modelyard_worker_restarts_total") == 1
        assert running.metric("modelyard_degraded_total") == sum(
            degraded is not None for _, degraded, _ in load.replies
        )


def test_a_hung_worker_is_noticed_and_replaced_while_callers_get_an_answer_in_time(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        os.kill(running.pid_of("worker"), signal.SIGSTOP)
        reply = running.predict(ROW, X_Deadline_Ms="200")
        assert (reply.status, reply.headers["x-degraded"]) == (200, "deadline")
        assert reply.seconds < HUNG_S
        eventually(lambda: running.events("killed"))
        running.wait_ready()
        assert "x-degraded" not in running.predict(ROW).headers


def test_an_idle_worker_that_hangs_is_noticed_without_a_caller(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        os.kill(running.pid_of("worker"), signal.SIGSTOP)
        eventually(lambda: running.ask("GET", "/v2/health/ready").status == 503)
        assert "no progress" in eventually(lambda: running.events("killed"))[0]["why"]
        eventually(lambda: running.ask("GET", "/v2/health/ready").status == 200)


def test_where_the_release_refuses_callers_are_told_when_to_come_again(tmp_path: Path) -> None:
    body = tmp_path / "body"
    one = {"income@3": (body, write_body(body, fallback=[REFUSE]))}
    limits = Limits(progress_timeout_s=30.0, queue_rows=4, batch_rows=2)
    with service(tmp_path / "run", one, limits=limits) as running:
        worker = running.pid_of("worker")
        os.kill(worker, signal.SIGSTOP)
        late = running.predict(ROW, X_Deadline_Ms="100")
        assert late.status == 504 and late.seconds < HUNG_S
        waiting = [threading.Thread(target=running.predict, args=(ROW,)) for _ in range(4)]
        for thread in waiting:
            thread.start()
        eventually(lambda: running.metric("modelyard_queue_rows") == 4)
        full = running.predict(ROW)
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert full.seconds < HUNG_S
        for thread in waiting:
            thread.join()
        assert running.metric("modelyard_overloads_total") == 1
        (body / GRAPH).rename(tmp_path / GRAPH)  # no replacement comes before it is back
        os.kill(worker, signal.SIGKILL)
        down = eventually(lambda: reply if (reply := running.predict(ROW)).status == 503 else None)
        assert down.headers["retry-after"] == "1"
        (tmp_path / GRAPH).rename(body / GRAPH)
        running.wait_ready()
        assert running.predict(ROW).status == 200


def test_a_killed_front_is_replaced_without_a_refused_connection(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        first = running.pid_of("front")
        os.kill(first, signal.SIGKILL)
        reply = running.predict(ROW)  # waits in the kernel's queue until the next front takes it
        assert reply.status in (200, 503)
        eventually(lambda: running.pid_of("front") != first)
        running.wait_ready()
        assert running.predict(ROW).status == 200


def test_a_front_that_hangs_is_replaced(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    limits = Limits(front_timeout_s=0.6)
    with service(tmp_path / "run", bodies, limits=limits) as running:
        os.kill(running.pid_of("front"), signal.SIGSTOP)
        assert "silent" in eventually(lambda: running.events("killed"))[0]["why"]
        running.wait_ready()


def test_a_term_signal_under_load_loses_no_request(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        load = Load(running.port, 8)
        with load:
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(10) == 0
            assert time.monotonic() - began < 5
        assert load.lost == []
        assert {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}
        assert read_run(running.folder) is None


def test_a_worker_whose_golden_answers_are_wrong_never_serves(tmp_path: Path) -> None:
    digest = write_body(tmp_path / "bad", golden_is_wrong=True)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / BODIES_FILE).write_text(json.dumps({"income@1": [str(tmp_path / "bad"), digest]}))
    write_row(folder, {"income@1": 1.0}, epoch=1)
    process = launch(folder)
    try:
        running = Running(folder, process, eventually(lambda: read_run(folder)).port)
        reply = eventually(lambda: running.predict(ROW))
        assert (reply.status, reply.headers["x-degraded"]) == (200, "worker_down")
        eventually(lambda: "golden requests otherwise" in (folder / ERROR_FILE).read_text())
        assert running.ask("GET", "/v2/health/ready").status == 503
        assert running.ask("GET", "/v2/health/live").status == 200
    finally:
        sweep(folder, process)
