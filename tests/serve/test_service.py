"""Whole services of real processes, and the faults that they must survive."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from modelyard.core.release import Traffic
from modelyard.errors import NotRunning, StoreConflict, UnknownName
from modelyard.serve import control
from modelyard.serve.messages import ERROR_FILE, LOG_FILE, Limits
from modelyard.serve.processes import end, is_same
from modelyard.serve.runfile import read_run
from tests.serve.bodies import REFUSE, ROW, expected, write_body
from tests.serve.entry import BODIES_FILE, MODULES, ROW_FILE
from tests.serve.running import Running, eventually, launch, service, sweep, write_row

V2 = "/v2/models/income/infer"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("bodies")
    made = {
        "income@1": write_body(folder / "income@1"),
        "income@2": write_body(folder / "income@2", shift=1.0),
        "income@3": write_body(folder / "income@3", fallback=[REFUSE]),
    }
    return {name: (folder / name, digest) for name, digest in made.items()}


@pytest.fixture(scope="module")
def steady(bodies: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that no test harms."""
    with service(tmp_path_factory.mktemp("steady") / "run", bodies) as running:
        yield running


def v2(*rows: dict[str, Any]) -> dict[str, Any]:
    kinds = {"age": "INT64", "score": "FP64", "city": "BYTES", "seen": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    return {"inputs": inputs}


class Load:
    """Callers that ask one after the other, on connections they keep, until told to stop."""

    def __init__(self, port: int, callers: int, *, deadline_ms: int = 1000) -> None:
        self.replies: list[tuple[int, str | None, float]] = []
        self.lost: list[str] = []
        self.port, self.deadline_ms = port, deadline_ms
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.replies) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        headers = {"X-Deadline-Ms": str(self.deadline_ms)}
        body = json.dumps({"rows": [ROW]})
        while not self._stop.is_set():
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                client.connect()
            except ConnectionRefusedError:
                return  # the announced end
            with contextlib.closing(client):
                self._talk(client, body, headers)

    def _talk(self, client: http.client.HTTPConnection, body: str, headers: dict[str, str]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                client.request("POST", "/predict", body=body, headers=headers)
                reply = client.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException) as fault:
                self.lost.append(repr(fault))
                return
            self.replies.append((reply.status, reply.headers.get("X-Degraded"), time.monotonic() - began))
            if reply.will_close:
                return

    def since(self, count: int) -> list[tuple[int, str | None, float]]:
        return self.replies[count:]


# the doors


def test_both_doors_answer_what_arithmetic_says(steady: Running) -> None:
    rows = [{**ROW, "age": age, "city": city} for age, city in ((20, "Paris"), (50, None), (90, "Rome"))]
    wanted = 1 / (1 + np.exp(-np.array(expected(rows))))
    plain = steady.predict(*rows)
    assert plain.status == 200
    np.testing.assert_allclose([one["probabilities"][">50K"] for one in plain.json["predictions"]], wanted, atol=1e-6)
    protocol = steady.ask("POST", V2, v2(*rows)).json
    assert [output["shape"] for output in protocol["outputs"]] == [[3], [3, 2]]
    np.testing.assert_allclose(np.array(protocol["outputs"][1]["data"]).reshape(3, 2)[:, 1], wanted, atol=1e-6)
    assert protocol["outputs"][0]["data"] == [one["label"] for one in plain.json["predictions"]]


def test_every_answer_says_who_and_which(steady: Running) -> None:
    for reply in (steady.predict(ROW), steady.ask("GET", "/v2"), steady.ask("GET", "/nowhere")):
        assert reply.headers["x-request-id"] and reply.headers["x-served-by"]
    mine = steady.predict(ROW, X_Request_Id="mine-1")
    assert (mine.headers["x-request-id"], mine.json["request_id"]) == ("mine-1", "mine-1")
    assert (mine.headers["x-served-by"], mine.json["served_by"]) == ("income@1", "income@1")


def test_the_alias_is_the_plain_door(steady: Running) -> None:
    assert steady.ask("POST", "/api/v1/income", {"rows": [ROW]}).json["predictions"]


def test_health_and_metadata_answer(steady: Running) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/income/ready", "/v2", "/v2/models/income"):
        assert steady.ask("GET", path).status == 200
    assert steady.ask("GET", "/v2/models/income/versions/1").json["versions"] == ["1"]


@pytest.mark.parametrize("path", ["/v2/models/income/versions/2/infer", "/v2/models/outcome/infer"])
def test_a_model_or_version_that_is_not_served_is_not_found(steady: Running, path: str) -> None:
    reply = steady.ask("POST", path, v2(ROW))
    assert reply.status == 404 and reply.json["error"]


def test_the_served_version_may_be_named(steady: Running) -> None:
    assert steady.ask("POST", "/v2/models/income/versions/1/infer", v2(ROW)).json["model_version"] == "1"


def test_a_wrong_method_is_told(steady: Running) -> None:
    reply = steady.ask("GET", "/predict")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


def test_a_row_that_breaks_the_contract_gets_its_column_and_reason(steady: Running) -> None:
    reply = steady.predict(ROW, {**ROW, "age": "old", "cty": "Paris"})
    assert reply.status == 422
    assert {(fault["row"], fault["column"]) for fault in reply.json["faults"]} == {(1, "cty")}
    reply = steady.predict(ROW, {**ROW, "age": "old"})
    assert reply.json["faults"] == [{"row": 1, "column": "age", "reason": "saw 'old', wanted a number"}]
    assert steady.metric('modelyard_contract_faults_total{release="income@1",column="age"}') >= 1


def test_audit_columns_may_be_sent_and_never_reach_the_log(steady: Running) -> None:
    assert steady.predict({**ROW, "sex": "Secretvalue"}).status == 200
    assert steady.predict({**ROW, "age": "x", "sex": "Secretvalue"}, X_Request_Id="audited").status == 422
    log = steady.folder / LOG_FILE
    eventually(lambda: "audited" in log.read_text())
    assert "Secretvalue" not in log.read_text()


def test_unknown_categories_are_counted(steady: Running) -> None:
    before = steady.metric('modelyard_unknown_categories_total{release="income@1",column="city"}')
    assert steady.predict({**ROW, "city": "Atlantis"}).status == 200
    assert steady.metric('modelyard_unknown_categories_total{release="income@1",column="city"}') == before + 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"rows": 1}'])
def test_malformed_bodies_are_refused(steady: Running, body: bytes) -> None:
    assert steady.ask("POST", "/predict", body).status == 400
    assert steady.ask("POST", V2, body).status == 400


def test_a_body_above_the_bound_is_refused(steady: Running) -> None:
    with socket.create_connection(("127.0.0.1", steady.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_deadline_that_is_no_number_is_refused(steady: Running) -> None:
    assert steady.predict(ROW, X_Deadline_Ms="soon").status == 400


def test_a_request_above_the_batch_cap_comes_back_whole_and_in_order(steady: Running) -> None:
    rows = [{**ROW, "age": number % 90} for number in range(1000)]
    reply = steady.predict(*rows)
    wanted = 1 / (1 + np.exp(-np.array(expected(rows))))
    np.testing.assert_allclose([one["probabilities"][">50K"] for one in reply.json["predictions"]], wanted, atol=1e-6)


def test_another_client_with_many_requests_at_once_gets_its_own_answers(steady: Running) -> None:
    def ask(age: int) -> None:
        with httpx2.Client() as client:
            for step in range(5):
                row = {**ROW, "age": age + step}
                reply = client.post(f"http://127.0.0.1:{steady.port}/predict", json={"rows": [row]})
                share = reply.json()["predictions"][0]["probabilities"][">50K"]
                got.append((share, 1 / (1 + np.exp(-expected([row])[0]))))

    got: list[tuple[float, float]] = []
    threads = [threading.Thread(target=ask, args=(10 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 40
    np.testing.assert_allclose([share for share, _ in got], [wanted for _, wanted in got], atol=1e-6)


def test_a_row_that_breaks_the_model_is_answered_by_the_fallback_and_leaves_the_others_alone(steady: Running) -> None:
    bad = steady.predict({**ROW, "age": 500})
    assert (bad.status, bad.headers["x-degraded"]) == (200, "model_error")
    assert bad.json["degraded"] is True and bad.json["served_by"] == "income@1 fallback:constant"
    assert bad.json["predictions"] == [{"label": "<=50K", "probabilities": {"<=50K": 0.75, ">50K": 0.25}}]
    good = steady.predict(ROW)
    assert "x-degraded" not in good.headers
    protocol = steady.ask("POST", V2, v2({**ROW, "score": None})).json
    assert protocol["parameters"] == {
        "served_by": "income@1 fallback:constant",
        "degraded": True,
        "reason": "model_error",
    }


def test_counts_equal_what_the_callers_counted(steady: Running) -> None:
    name = 'modelyard_requests_total{release="income@1",door="rows",code="200"}'
    before = steady.metric(name)
    for _ in range(17):
        steady.predict(ROW)
    assert steady.metric(name) == before + 17


def test_front_and_worker_import_no_heavy_library(steady: Running) -> None:
    for kind in ("front", "worker"):
        modules = (steady.folder / f"{kind}.{MODULES}").read_text().split()
        assert "numpy" in modules or kind == "worker"
        for heavy in ("polars", "scipy", "sklearn", "lightgbm", "pandas"):
            assert heavy not in modules
    maps = {kind: Path(f"/proc/{steady.pid_of(kind)}/maps").read_text() for kind in ("front", "worker")}
    for text in maps.values():
        assert not any(f"/{heavy}/" in text for heavy in ("polars", "scipy", "sklearn", "lightgbm"))
    assert "/onnxruntime/" in maps["worker"] and "/onnxruntime/" not in maps["front"]


def test_the_fallback_was_tried_when_the_service_started(steady: Running) -> None:
    assert eventually(lambda: steady.events("fallback")) == [
        {"event": "fallback", "release": "income@1", "answered": True, "kind": "constant"}
    ]


def test_sockets_and_run_files_are_this_users_alone(steady: Running) -> None:
    for name in ("control.sock", "income@1.0", "run.json", "traffic.json"):
        assert (steady.folder / name).stat().st_mode & 0o077 == 0


# faults


def test_a_killed_worker_costs_no_caller_an_answer_and_is_replaced(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running, Load(running.port, 4) as load:
        count = len(load.replies)
        os.kill(running.pid_of("worker"), signal.SIGKILL)
        eventually(lambda: any(degraded for _, degraded, _ in load.since(count)))
        eventually(lambda: load.replies[-1][1] is None and running.status().ready)
        load.__exit__()
        assert load.lost == []
        assert {status for status, _, _ in load.replies} == {200}
        assert max(seconds for _, _, seconds in load.replies) < 1.2
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
        assert reply.seconds < 0.25
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


def test_where_the_release_refuses_callers_are_told_when_to_come_again(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    limits = Limits(progress_timeout_s=30.0, queue_rows=4, batch_rows=2)
    with service(tmp_path / "run", {"income@3": bodies["income@3"]}, limits=limits) as running:
        worker = running.pid_of("worker")
        os.kill(worker, signal.SIGSTOP)
        late = running.predict(ROW, X_Deadline_Ms="100")
        assert late.status == 504 and late.seconds < 0.2
        waiting = [threading.Thread(target=running.predict, args=(ROW,)) for _ in range(4)]
        for thread in waiting:
            thread.start()
        eventually(lambda: running.metric("modelyard_queue_rows") == 4)
        full = running.predict(ROW)
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert full.seconds < 0.2
        for thread in waiting:
            thread.join()
        assert running.metric("modelyard_overloads_total") == 1
        os.kill(worker, signal.SIGKILL)
        down = eventually(lambda: reply if (reply := running.predict(ROW)).status == 503 else None)
        assert down.headers["retry-after"] == "1"
        running.wait_ready()


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


# the control plane


def test_a_new_epoch_switches_to_a_release_that_is_loaded_beside_and_back(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        load = Load(running.port, 2)
        with load:
            write_row(running.folder, {"income@2": 1.0}, epoch=2)
            assert control.poke(running.folder, "reload").ok
            eventually(lambda: running.predict(ROW).json["served_by"] == "income@2")
            began = time.monotonic()
            write_row(running.folder, {"income@1": 1.0}, epoch=3)
            control.poke(running.folder, "reload")
            eventually(lambda: running.predict(ROW).json["served_by"] == "income@1")
            assert time.monotonic() - began < 1.0  # it was kept warm
        assert load.lost == []
        assert {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}


def test_a_release_that_left_the_shares_is_let_go_after_a_while(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies, keep_warm_s=0.05) as running:
        load = Load(running.port, 2)
        with load:
            write_row(running.folder, {"income@2": 1.0}, epoch=2)
            control.poke(running.folder, "reload")
            eventually(lambda: [child.name for child in running.status().run.children] == ["front", "income@2.0"])
        assert {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}
        assert running.predict(ROW).json["served_by"] == "income@2"
        assert not (running.folder / "income@1.0").exists()
        write_row(running.folder, {"income@1": 1.0}, epoch=3)
        control.poke(running.folder, "reload")
        eventually(lambda: running.predict(ROW).json["served_by"] == "income@1")
        assert running.events("supervisor_fault") == []


def test_shares_are_kept_and_versions_may_be_named(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        write_row(running.folder, {"income@1": 0.5, "income@2": 0.5}, epoch=2)
        control.poke(running.folder, "reload")
        running.wait_ready()
        met = [running.predict(ROW, X_Routing_Key=f"k{number}").json["served_by"] for number in range(60)]
        assert {"income@1", "income@2"} == set(met)
        again = [running.predict(ROW, X_Routing_Key=f"k{number}").json["served_by"] for number in range(60)]
        assert again == met
        assert running.ask("POST", "/v2/models/income/versions/2/infer", v2(ROW)).json["model_version"] == "2"


def test_an_older_epoch_is_not_followed(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, epoch=5) as running:
        write_row(running.folder, {"income@2": 1.0}, epoch=4)
        assert "behind" in control.poke(running.folder, "reload").detail
        assert running.predict(ROW).json["served_by"] == "income@1"


def test_with_the_store_gone_the_local_copy_governs(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        (running.folder / ROW_FILE).unlink()
        assert "local copy" in control.poke(running.folder, "reload").detail
        assert "store is gone" in running.status().store.lower()
        control.stop(running.folder, 10)
        running.process.wait()
        again = launch(running.folder)
        try:
            running.port = control.wait_ready(running.folder, 15).run.port
            assert running.predict(ROW).json["served_by"] == "income@1"
            assert running.events("governed_by_local_copy")
        finally:
            sweep(running.folder, again)


def test_with_the_supervisor_dead_rollback_works_and_its_successor_clears_up(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "run", bodies) as running:
        write_row(running.folder, {"income@2": 1.0}, epoch=2)
        control.poke(running.folder, "reload")
        eventually(lambda: running.predict(ROW).json["served_by"] == "income@2")
        left = eventually(lambda: run if (run := read_run(running.folder)) and len(run.children) == 3 else None)
        running.process.kill()
        running.process.wait()
        with pytest.raises(NotRunning):
            running.status()
        with pytest.raises(UnknownName):
            control.follow_locally(running.folder, Traffic(epoch=3, shares={"income@7": 1.0}))
        with pytest.raises(StoreConflict):
            control.follow_locally(running.folder, Traffic(epoch=2, shares={"income@1": 1.0}))
        control.follow_locally(running.folder, Traffic(epoch=3, shares={"income@1": 1.0}))
        eventually(lambda: running.predict(ROW).json["served_by"] == "income@1", timeout_s=1.0)
        (found,) = control.running(running.folder.parent)
        assert (found.alive, found.orphans) == (False, 3)
        again = launch(running.folder)
        try:
            running.port = eventually(lambda: control.wait_ready(running.folder, 15)).run.port
            assert running.predict(ROW).json["served_by"] == "income@1"  # the copy's epoch is above the store's
            (stale,) = running.events("stale_run_file")
            assert f"process {left.pid} is dead" in stale["found"] and len(stale["orphans_ended"]) == 3
            assert not any(is_same(child.pid, child.start_ticks) for child in left.children)
        finally:
            sweep(running.folder, again)


def test_what_a_dead_supervisor_left_can_be_stopped(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        left = read_run(running.folder)
        assert left is not None
        end(left.pid, left.start_ticks, number=signal.SIGKILL)
        running.process.wait()
        assert "ended 2 processes" in control.stop(running.folder, 5)
        assert list(control.running(running.folder.parent)) == []


def test_a_taken_port_is_said_with_who_has_it(
    steady: Running, bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / BODIES_FILE).write_text(json.dumps({name: [str(path), sha] for name, (path, sha) in bodies.items()}))
    write_row(folder, {"income@1": 1.0}, epoch=1)
    process = launch(folder, port=steady.port)
    assert process.wait(20) == 2
    said = (folder / ERROR_FILE).read_text()
    assert said.startswith("service.port_taken") and f"Port {steady.port}" in said and "tests.serve.entry" in said


def test_a_second_supervisor_of_the_same_folder_is_refused(steady: Running) -> None:
    process = launch(steady.folder)
    assert process.wait(20) == 2
    assert (
        f"runs already (process {steady.process.pid}, port {steady.port})" in (steady.folder / ERROR_FILE).read_text()
    )
    assert steady.predict(ROW).status == 200


def test_status_stop_and_list_tell_the_truth(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies) as running:
        state = running.status()
        assert state.ready and state.store == "reachable" and state.run.pid == running.process.pid
        (found,) = control.running(tmp_path)
        assert found.alive and found.run.port == running.port
        assert "drained" in control.stop(running.folder, 10)
        assert running.process.wait(5) == 0
        with pytest.raises(NotRunning):
            control.stop(running.folder, 1)
