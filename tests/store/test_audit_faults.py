"""The audit log in bad times: edits show, kills do not hurt, a rollback never waits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import AuditError
from modelyard.store.audit import AuditLog
from modelyard.store.lock import locked
from tests.store.making import SetClock, die_at, ended, fork, in_many, open_log


def write(log: AuditLog, count: int = 1, operation: str = "deploy") -> None:
    for _ in range(count):
        with log.change(operation, resources=["income@1"], rollback_available=True):
            pass


@pytest.fixture(autouse=True)
def _busy_disk_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour's load must not send lines elsewhere; the one test of a hanging disk sets its own limit."""
    monkeypatch.setattr("modelyard.store.audit.HURRY_S", 10.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of six lines, not to be changed."""
    folder = tmp_path_factory.mktemp("small") / "audit"
    write(open_log(folder), 3)
    return folder


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "audit")


def edit(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> list[str]:
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    return open_log(folder).verify()


@pytest.mark.parametrize("file", ["audit.jsonl", "head.json"])
def test_a_flipped_bit_in_any_byte_is_found(small: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(small, tmp_path / "audit")
    log, data = open_log(folder), (folder / file).read_bytes()
    unseen = []
    for place in range(len(data)):
        (folder / file).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        if not log.verify():
            unseen.append(place)
    assert unseen == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_byte_replaced_removed_or_added_is_found(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = shutil.copytree(small, tmp_path_factory.mktemp("edited") / "audit")
    path = folder / "audit.jsonl"
    old = path.read_bytes()
    place = data.draw(st.integers(0, len(old) - 1))
    new = data.draw(st.binary(max_size=2).filter(lambda new: new != old[place : place + 1]))
    path.write_bytes(old[:place] + new + old[place + 1 :])
    faults = open_log(folder).verify()
    shutil.rmtree(folder)
    assert faults


def test_a_removed_line_is_found(folder: Path) -> None:
    assert edit(folder, lambda lines: [*lines[:2], *lines[3:]])


def test_the_first_line_removed_is_found(folder: Path) -> None:
    assert edit(folder, lambda lines: lines[1:])


def test_two_swapped_lines_are_found(folder: Path) -> None:
    assert edit(folder, lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])


@pytest.mark.parametrize("kept", range(6))
def test_truncation_is_found(folder: Path, kept: int) -> None:
    assert "cut off" in edit(folder, lambda lines: lines[:kept])[0]


def test_a_line_given_a_right_hash_of_its_own_is_found(folder: Path) -> None:
    def forge(lines: list[bytes]) -> list[bytes]:
        from modelyard.core.codec import digest, encode

        fields = {**json.loads(lines[2]), "user": "eve"}
        del fields["hash"]
        return [*lines[:2], encode({**fields, "hash": digest(encode(fields))}) + b"\n", *lines[3:]]

    assert "does not follow" in edit(folder, forge)[0]


def test_a_removed_head_is_found(folder: Path) -> None:
    (folder / "head.json").unlink()
    assert "head file is missing" in open_log(folder).verify()[0]


def test_a_removed_log_is_found(folder: Path) -> None:
    (folder / "audit.jsonl").unlink()
    assert open_log(folder).verify()


@pytest.mark.parametrize("harm", ["truncate", "remove log", "remove head", "edit last"])
def test_damage_stays_on_record_when_the_log_is_written_again(folder: Path, harm: str) -> None:
    path = folder / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    match harm:
        case "truncate":
            path.write_bytes(b"".join(lines[:3]))
        case "remove log":
            path.unlink()
        case "remove head":
            (folder / "head.json").unlink()
        case "edit last":
            path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"ada", b"eve"))
    log = open_log(folder)
    write(log, 2)
    assert any("damage was found" in fault for fault in log.verify())
    assert len([entry for entry in log.entries() if entry["operation"] == "audit.damage"]) == 1


@pytest.mark.parametrize("torn", [b"{", b'{"change":"cha', b"\0" * 100, b"x" * 200_000])
def test_a_torn_last_line_is_kept_aside_and_noted_and_is_no_tampering(folder: Path, torn: bytes) -> None:
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(torn)
    log = open_log(folder)
    assert log.verify() == []
    assert len([*log.entries()]) == 6
    write(log)
    assert log.verify() == []
    assert (folder / "audit.torn-1").read_bytes() == torn
    note = [*log.entries()][6]
    assert (note["operation"], note["model_metadata"]["file"]) == ("audit.torn", "audit.torn-1")


def test_a_writer_killed_between_its_two_lines_leaves_a_whole_log(tmp_path: Path) -> None:
    def work() -> None:
        with open_log(tmp_path / "audit").change("deploy", resources=[], rollback_available=True):
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(fork(work)) == -9
    log = open_log(tmp_path / "audit")
    assert [entry["outcome"] for entry in log.entries()] == ["started"]
    write(log)
    assert log.verify() == []


@pytest.mark.parametrize(("rotate_bytes", "days"), [(10_000_000, 0), (1500, 0), (1500, 50)])
def test_a_writer_killed_before_any_of_its_writes_leaves_a_whole_log(
    tmp_path: Path, rotate_bytes: int, days: int
) -> None:
    step, code, clock = 0, -9, SetClock()
    while code == -9:
        step += 1

        def work(step: int = step) -> None:
            log = open_log(tmp_path / "audit", clock, rotate_bytes=rotate_bytes)
            die_at(step)
            write(log, operation=f"op-{step}")

        before = [entry["sequence"] for entry in open_log(tmp_path / "audit").entries()]
        code = ended(fork(work))
        log = open_log(tmp_path / "audit", clock, rotate_bytes=rotate_bytes)
        assert log.verify() == []
        assert [entry["sequence"] for entry in log.entries()][-1:] >= before[-1:]
        write(log)
        assert log.verify() == []
        clock.move(days=days)
    assert code == 0
    assert (next(log.entries())["sequence"] == 1) == (days == 0)
    assert step > 6


def test_changes_are_refused_while_the_log_cannot_be_written(folder: Path) -> None:
    log, done = open_log(folder), []
    (folder / "audit.jsonl").unlink()
    (folder / "audit.jsonl").mkdir()
    with (
        pytest.raises(AuditError, match="Changes are refused"),
        log.change("deploy", resources=[], rollback_available=True),
    ):
        done.append("deploy")
    assert done == []


def test_what_must_not_wait_goes_on_and_is_replayed_late(folder: Path) -> None:
    log, done = open_log(folder), []
    (folder / "audit.jsonl").rename(folder / "away")
    (folder / "audit.jsonl").mkdir()
    with log.change("rollback", resources=["income@2"], rollback_available=True, must_not_wait=True) as detail:
        done.append("rollback")
        detail["epoch"] = 4
    assert done == ["rollback"]
    (folder / "audit.jsonl").rmdir()
    (folder / "away").rename(folder / "audit.jsonl")
    write(log)
    assert log.verify() == []
    late = [entry for entry in log.entries() if entry["late"]]
    assert [(entry["operation"], entry["outcome"]) for entry in late] == [("rollback", "started"), ("rollback", "done")]
    assert late[1]["model_metadata"] == {"epoch": 4}
    assert [entry["sequence"] for entry in late] == [7, 8]
    write(log)
    assert len([entry for entry in log.entries() if entry["late"]]) == 2


def test_what_must_not_wait_does_not_wait_for_a_lock(folder: Path) -> None:
    log = open_log(folder)
    with locked(folder / "audit.lock"):
        began = time.perf_counter()
        with log.change("rollback", resources=[], rollback_available=True, must_not_wait=True):
            spent_s = time.perf_counter() - began
    assert spent_s < 1.0
    write(log)
    assert [entry["outcome"] for entry in log.entries() if entry["late"]] == ["started", "done"]


def test_what_must_not_wait_is_written_straight_when_nothing_is_in_the_way(folder: Path) -> None:
    log = open_log(folder)
    with log.change("rollback", resources=[], rollback_available=True, must_not_wait=True):
        pass
    assert [(entry["operation"], entry["late"]) for entry in [*log.entries()][6:]] == [("rollback", False)] * 2


def test_without_log_and_reserve_the_line_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    log = open_log(tmp_path / "audit")
    with log.change("rollback", resources=["income@2"], rollback_available=True, must_not_wait=True):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1].partition("time: ")[2])["operation"] == "rollback"


def test_a_disk_that_hangs_holds_no_rollback_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    hanging, log = threading.Event(), open_log(folder)
    monkeypatch.setattr("modelyard.store.audit.HURRY_S", 0.25)
    monkeypatch.setattr(os, "fsync", lambda handle: hanging.wait(30) and None)
    began = time.perf_counter()
    with log.change("rollback", resources=[], rollback_available=True, must_not_wait=True):
        spent_s = time.perf_counter() - began
    hanging.set()
    for thread in threading.enumerate():
        if thread.name == "audit":
            thread.join()
    assert spent_s < 1.0
    assert "rollback" in capsys.readouterr().err
    assert log.verify() == []


def test_the_outcome_is_kept_in_the_reserve_when_the_log_fails_meanwhile(folder: Path) -> None:
    log = open_log(folder)
    with log.change("deploy", resources=[], rollback_available=True):
        (folder / "audit.jsonl").rename(folder / "away")
        (folder / "audit.jsonl").mkdir()
    (folder / "audit.jsonl").rmdir()
    (folder / "away").rename(folder / "audit.jsonl")
    write(log)
    assert [entry["outcome"] for entry in log.entries() if entry["late"]] == ["done"]
    assert log.verify() == []


def test_a_full_reserve_is_said_on_standard_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = open_log(folder)
    (folder / "audit.jsonl").unlink()
    (folder / "audit.jsonl").mkdir()
    big = {f"note{number}": "x" * 10_000 for number in range(10)}
    for _ in range(2):
        with log.change("rollback", resources=[], rollback_available=True, model=big, must_not_wait=True):
            pass
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_replay_killed_before_any_of_its_writes_loses_and_doubles_nothing(folder: Path, tmp_path: Path) -> None:
    log = open_log(folder)
    with locked(folder / "audit.lock"), log.change("stop", resources=[], rollback_available=True, must_not_wait=True):
        pass
    step, code = 0, -9
    while code == -9:
        step += 1
        own = shutil.copytree(folder, tmp_path / f"copy{step}")

        def work(step: int = step, own: Path = own) -> None:
            die_at(step)
            write(open_log(own))

        code = ended(fork(work))
        after = open_log(own)
        write(after)
        late = [entry["outcome"] for entry in after.entries() if entry["late"]]
        assert late == ["started", "done"]
        assert after.verify() == []
        shutil.rmtree(own)
    assert code == 0


def test_writers_that_may_not_wait_and_writers_that_may_leave_one_whole_chain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_log(tmp_path / "audit")

    def work(number: int) -> None:
        log = open_log(tmp_path / "audit")
        for _ in range(20):
            with log.change(f"op-{number}", resources=[], rollback_available=True, must_not_wait=number % 2 == 0):
                pass

    in_many(6, work)
    log = open_log(tmp_path / "audit")
    write(log)
    assert log.verify() == []
    said = [json.loads(line.partition("time: ")[2]) for line in capfd.readouterr().err.splitlines()]
    kept = [(entry["change"], entry["outcome"]) for entry in log.entries() if entry["operation"].startswith("op-")]
    assert len(kept) == len({*kept})
    assert len({*kept} | {(entry["change"], entry["outcome"]) for entry in said}) == 6 * 20 * 2
