"""The control plane: tables, stores and supervisors that come and go."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from modelyard.core.release import Traffic
from modelyard.errors import NotRunning, StoreConflict, UnknownName
from modelyard.serve.keep import control
from modelyard.serve.keep.processes import end, is_same
from modelyard.serve.keep.runfile import read_run
from modelyard.serve.messages import ERROR_FILE
from tests.serve.bodies import ROW
from tests.serve.entry import BODIES_FILE, ROW_FILE
from tests.serve.load import Load, v2
from tests.serve.running import Running, eventually, launch, service, sweep, write_row


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
            assert time.monotonic() - began < 5.0  # it was kept warm
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
            eventually(lambda: [child.name for child in running.status().run.children] == ["front.0", "income@2.0"])
        assert {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}
        assert running.predict(ROW).json["served_by"] == "income@2"
        assert not (running.folder / "income@1.0").exists()
        write_row(running.folder, {"income@1": 1.0}, epoch=3)
        control.poke(running.folder, "reload")
        eventually(lambda: running.predict(ROW).json["served_by"] == "income@1")
        assert running.events("supervisor_fault") == []


def test_shares_are_kept_and_versions_may_be_named(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, pin_versions=True) as running:
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
