"""Deploy and rollback: nothing is lost, nothing half ready answers, and the way back is there whatever died."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.clock import SystemClock
from modelyard.core.codec import decode, encode_pretty, write_atomic
from modelyard.core.ports import Releases, Services
from modelyard.core.release import Service, Traffic
from modelyard.errors import NotRunning, ServiceError, StoreError, UnknownName, UsageError
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changes
from modelyard.serve.keep.following import next_traffic, way_back
from modelyard.serve.keep.governor import Governor, ways_back
from modelyard.serve.messages import TRAFFIC_FILE, Routes, SupervisorJob
from tests.serve.bodies import CONSTANT, REFUSE, ROW, write_body
from tests.serve.entry import ROW_FILE, FileAudit, FileReleases, FileServices, changes
from tests.serve.load import Load
from tests.serve.running import Running, eventually, launch, service, sweep, write_bodies, write_row

HUNG_S = 5.0  # no speed: beyond it, it waited for what it must not wait for
PREVIOUS = {"kind": "previous"}


def row_of(folder: Path) -> Service:
    return decode((folder / ROW_FILE).read_bytes(), Service)


# pure parts

epochs = st.integers(0, 50)
names = st.sampled_from(["income@1", "income@2", "income@3"])
tables = st.builds(
    Traffic, epoch=epochs, shares=names.map(lambda one: {one: 1.0}), previous=st.one_of(st.none(), names)
)


@given(row=st.one_of(st.none(), tables), local=st.one_of(st.none(), tables), release=names)
def test_the_next_table_is_above_both_and_knows_what_answered(
    row: Traffic | None, local: Traffic | None, release: str
) -> None:
    following = next_traffic(row, local, release)
    known = [one for one in (row, local) if one is not None]
    assert all(following.epoch > one.epoch for one in known)
    assert following.shares == {release: 1.0}
    if known:
        newest = max(known, key=lambda one: one.epoch)
        assert following.previous in {*newest.shares, newest.previous}
    if following.previous is not None and following.previous != release:
        back = way_back("income", following)
        assert back.epoch > following.epoch and back.shares == {following.previous: 1.0}


def test_a_rollback_is_not_rolled_back_into_what_failed() -> None:
    back = way_back("income", Traffic(epoch=4, shares={"income@2": 1.0}, previous="income@1"))
    with pytest.raises(UsageError, match="modelyard deploy income@NUMBER"):
        way_back("income", back)


def test_a_deploy_of_what_answers_already_keeps_the_way_back() -> None:
    now = Traffic(epoch=4, shares={"income@2": 1.0}, previous="income@1")
    assert next_traffic(now, None, "income@2").previous == "income@1"


# which table governs


class Told(list[str]):
    def __call__(self, event: str, facts: object) -> None:
        self.append(event)


def governor(folder: Path, told: Told, *, keep_warm_s: float = 60.0) -> Governor:
    job = SupervisorJob(service="income", run_folder=str(folder), keep_warm_s=keep_warm_s)
    return Governor(job, FileServices(folder), FileReleases(folder), SystemClock(), told)


def put_copy(folder: Path, source: Governor, traffic: Traffic) -> None:
    routes = Routes(traffic=traffic, bodies=source.routes.bodies)
    write_atomic(folder / TRAFFIC_FILE, encode_pretty(routes))


def test_a_store_that_is_behind_is_brought_up_to_the_local_copy(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    write_bodies(tmp_path, bodies)
    write_row(tmp_path, {"income@2": 1.0}, epoch=2)
    told = Told()
    first = governor(tmp_path, told)
    first.begin()
    put_copy(tmp_path, first, Traffic(epoch=3, shares={"income@2": 1.0}, previous="income@1"))
    second = governor(tmp_path, told)
    second.begin()
    assert row_of(tmp_path).traffic == second.routes.traffic
    assert row_of(tmp_path).traffic.epoch == 3 and told == ["reconciled"]


def test_of_two_tables_with_one_epoch_the_local_copy_stands(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    write_bodies(tmp_path, bodies)
    write_row(tmp_path, {"income@1": 1.0}, epoch=2)
    found = governor(tmp_path, Told())
    found.begin()
    write_row(tmp_path, {"income@2": 1.0}, epoch=3)
    put_copy(tmp_path, found, Traffic(epoch=3, shares={"income@1": 1.0}))
    found.take(found.ask())
    assert found.routes.traffic == row_of(tmp_path).traffic == Traffic(epoch=4, shares={"income@1": 1.0})


def test_releases_that_a_fallback_names_are_kept_loaded_as_long_as_it_may_be_asked(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    small = {"kind": "variant", "release": "income@3"}
    digest = write_body(tmp_path / "four", fallback=[PREVIOUS, small, CONSTANT])
    write_bodies(tmp_path, {**bodies, "income@4": (tmp_path / "four", digest)})
    write_row(tmp_path, {"income@4": 1.0}, epoch=1, previous="income@1")
    found = governor(tmp_path, Told(), keep_warm_s=0.0)
    found.begin()
    assert set(found.routes.bodies) == {"income@4", "income@1", "income@3"}
    assert found.routes.previous == {"income@4": "income@1"}
    assert not found.cool()
    with pytest.raises(UsageError, match="answers callers"):
        found.let_go("income@3")
    write_row(tmp_path, {"income@2": 1.0}, epoch=2, previous="income@4")
    found.take(found.ask())
    time.sleep(0.001)
    assert found.cool() and set(found.routes.bodies) == {"income@2"}


def test_a_fallback_to_a_release_that_is_gone_is_told_and_holds_nothing_up(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    digest = write_body(tmp_path / "four", fallback=[PREVIOUS, REFUSE])
    write_bodies(tmp_path, {"income@4": (tmp_path / "four", digest)})
    write_row(tmp_path, {"income@4": 1.0}, epoch=1, previous="income@1")
    told = Told()
    found = governor(tmp_path, told)
    found.begin()
    assert told == ["fallback_missing"] and found.routes.previous == {}
    assert ways_back([REFUSE, CONSTANT], "income@1") == ways_back([PREVIOUS], None) == []


# running services


def test_twenty_deploys_back_and_forth_under_load_lose_nothing(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running, Load(running.port, 4) as load:
        verbs = changes(running.folder)
        for turn in range(20):
            wanted = f"income@{2 - turn % 2}"
            done = verbs.deploy(wanted)
            assert (done.release, done.store, done.fronts) == (wanted, "written", "follow")
            assert running.predict(ROW).json["served_by"] == wanted
        load.__exit__()
        assert load.lost == []
        assert {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}
        assert max(seconds for _, _, seconds in load.replies) < HUNG_S
        (*_, last) = running.events("audit")
        assert (last["operation"], last["outcome"], last["previous"]) == ("deploy", "done", "income@2")
        assert row_of(running.folder).traffic.previous == "income@2"


def test_a_deploy_works_where_nothing_is_kept_warm(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "income", bodies, keep_warm_s=0.001) as running:
        verbs = changes(running.folder)
        for wanted in ("income@2", "income@1", "income@3"):
            assert verbs.deploy(wanted).release == wanted
            eventually(lambda wanted=wanted: set(running.status().routes.bodies) == {wanted})  # type: ignore[misc]


def test_a_release_that_does_not_get_ready_is_refused_and_the_one_before_goes_on(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    digest = write_body(tmp_path / "bad", golden_is_wrong=True)
    known = {**bodies, "income@9": (tmp_path / "bad", digest)}
    with service(tmp_path / "income", known) as running, Load(running.port, 2) as load:
        before = row_of(running.folder)
        with pytest.raises(
            ServiceError, match=r"did not get ready: its worker ended 3 times .* income@1 still answers"
        ):
            changes(running.folder).deploy("income@9")
        assert row_of(running.folder) == before
        eventually(lambda: "income@9" not in running.status().routes.bodies)
        eventually(lambda: not [one for one in running.status().run.children if one.name.startswith("income@9")])
        load.__exit__()
        assert load.lost == [] and {(status, degraded) for status, degraded, _ in load.replies} == {(200, None)}
        assert running.events("audit")[-1]["outcome"] == "failed"
        with pytest.raises(UnknownName):
            changes(running.folder).deploy("income@77")


def test_a_rollback_is_one_step(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "income", bodies) as running:
        verbs = changes(running.folder)
        verbs.deploy("income@2")
        began = time.monotonic()
        done = verbs.rollback("income")
        assert running.predict(ROW).json["served_by"] == "income@1"
        assert time.monotonic() - began < HUNG_S
        assert (done.release, done.previous, done.fronts) == ("income@1", None, "follow")
        with pytest.raises(UsageError, match="Nothing is known to have answered"):
            verbs.rollback("income")


def test_a_rollback_works_with_the_supervisor_dead_and_its_successor_stays_with_it(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running:
        verbs = changes(running.folder)
        verbs.deploy("income@2")
        running.process.kill()
        running.process.wait()
        with pytest.raises(NotRunning):
            verbs.deploy("income@3")
        began = time.monotonic()
        done = verbs.rollback("income")
        eventually(lambda: running.predict(ROW).json["served_by"] == "income@1")
        assert time.monotonic() - began < HUNG_S
        assert done.store == "written" and "supervisor is dead" in done.fronts
        _succeed(running)


def test_a_rollback_of_a_service_that_does_not_run_is_refused_with_what_to_do(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "income"
    folder.mkdir()
    write_bodies(folder, bodies)
    write_row(folder, {"income@2": 1.0}, epoch=4, previous="income@1")
    before = row_of(folder)
    told = r"does not run, .* income@2 answered last; serve the one before it: modelyard serve income@1"
    with pytest.raises(NotRunning, match=told) as fault:
        changes(folder).rollback("income")
    assert fault.value.exit_code == 2 and row_of(folder) == before
    write_row(folder, {"income@1": 1.0}, epoch=4)
    with pytest.raises(NotRunning, match=r"does not run, .* modelyard serve income@NUMBER"):
        changes(folder).rollback("income")
    (folder / ROW_FILE).unlink()
    with pytest.raises(NotRunning, match="does not run"):
        changes(folder).rollback("income")
    with pytest.raises(UnknownName):
        changes(folder).deploy("income@77")


def test_a_rollback_works_with_the_store_gone_and_the_store_follows_when_it_is_back(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running:
        changes(running.folder).deploy("income@2")
        row = (running.folder / ROW_FILE).read_bytes()
        (running.folder / ROW_FILE).unlink()
        began = time.monotonic()
        done = changes(running.folder).rollback("income")
        assert running.predict(ROW).json["served_by"] == "income@1"
        assert time.monotonic() - began < HUNG_S
        assert done.fronts == "follow" and "store is gone" in done.store.lower()
        (running.folder / ROW_FILE).write_bytes(row)
        assert "brought up" in control.poke(running.folder, "reload").detail
        assert row_of(running.folder).traffic.shares == {"income@1": 1.0}
        assert running.events("reconciled")


def test_a_rollback_does_not_wait_for_a_store_that_hangs(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "income", bodies) as running:
        changes(running.folder).deploy("income@2")
        hung = threading.Event()

        def store() -> tuple[Services, Releases]:
            hung.wait(20)
            raise StoreError("It hung for long.")

        verbs = Changes(folder=running.folder.parent, store=store, audit=FileAudit(running.folder), clock=SystemClock())
        began = time.monotonic()
        done = verbs.rollback("income")
        assert running.predict(ROW).json["served_by"] == "income@1"
        assert time.monotonic() - began < HUNG_S
        assert "did not answer within" in done.store
        hung.set()


def test_what_answers_nobody_any_more_can_be_let_go_and_what_answers_goes_back(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    with service(tmp_path / "income", bodies) as running:
        verbs = changes(running.folder)
        verbs.deploy("income@2")
        done = verbs.unload("income@2")
        assert done is not None and done.release == "income@1"
        assert verbs.unload("income@2") is None
        assert "income@2" not in running.status().routes.bodies


def _succeed(running: Running) -> None:
    """Start the successor of a supervisor that died, and see that it follows what was decided without it."""
    again = launch(running.folder)
    try:
        running.port = eventually(lambda: control.wait_ready(running.folder, 15)).run.port
        assert running.predict(ROW).json["served_by"] == "income@1"
        assert row_of(running.folder).traffic.shares == {"income@1": 1.0}
    finally:
        sweep(running.folder, again)
