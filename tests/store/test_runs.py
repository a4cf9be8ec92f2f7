"""Runs: a ledger that loses nothing and holds nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.run import RunState
from modelyard.errors import StoreConflict, UnknownName, UsageError
from modelyard.store.open import Store
from tests.store.conftest import Opener
from tests.store.making import ended, fork, in_many, open_here


def test_a_run_comes_back_with_its_records_in_order(opener: Opener) -> None:
    runs = opener().runs
    run = runs.begin("income", "s" * 64)
    for number in (2, 0, 1):
        assert runs.append(run, "trial", number, bytes([number, 0, 255]))
    runs.append(run, "probe", 0, b"{}")
    runs.finish(run, RunState.DONE)
    again = opener().runs
    assert again.records(run, "trial") == [bytes([number, 0, 255]) for number in range(3)]
    assert again.records(run, "nothing") == []
    assert again.get(run).state is RunState.DONE
    assert again.all("income") == again.all() == [again.get(run)]


def test_the_same_record_twice_is_one_and_another_is_a_conflict(opener: Opener) -> None:
    runs = opener().runs
    run = runs.begin("income", "")
    assert runs.append(run, "trial", 0, b"a")
    assert not runs.append(run, "trial", 0, b"a")
    with pytest.raises(StoreConflict, match="another record 0"):
        runs.append(run, "trial", 0, b"b")
    assert runs.records(run, "trial") == [b"a"]


def test_a_finished_run_takes_nothing_more_and_keeps_its_end(opener: Opener) -> None:
    runs = opener().runs
    run = runs.begin("income", "")
    runs.finish(run, RunState.FAILED)
    runs.finish(run, RunState.FAILED)
    with pytest.raises(StoreConflict, match="is finished"):
        runs.append(run, "trial", 0, b"a")
    with pytest.raises(StoreConflict, match="has ended already"):
        runs.finish(run, RunState.DONE)
    with pytest.raises(UsageError, match="not an end"):
        runs.finish(run, RunState.RUNNING)


def test_an_unknown_run_is_said(opener: Opener) -> None:
    runs = opener().runs
    known = runs.begin("income", "")
    for call in (lambda: runs.get("x"), lambda: runs.records("x", "t"), lambda: runs.append("x", "t", 0, b"")):
        with pytest.raises(UnknownName, match=known):
            call()
    with pytest.raises(UsageError, match="from 0"):
        runs.append(known, "t", -1, b"")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=3)), max_size=12))
def test_the_ledger_is_a_map_that_only_grows(store: Store, writes: list[tuple[int, bytes]]) -> None:
    run, model = store.runs.begin("income", ""), dict[int, bytes]()
    for number, record in writes:
        if model.setdefault(number, record) == record:
            store.runs.append(run, "trial", number, record)
        else:
            with pytest.raises(StoreConflict):
                store.runs.append(run, "trial", number, record)
    assert store.runs.records(run, "trial") == [model[number] for number in sorted(model)]


def test_sixteen_processes_writing_runs_at_once_lose_nothing(opener: Opener) -> None:
    shared = opener().runs.begin("shared", "")

    def work(number: int) -> None:
        own = opener()
        run = own.runs.begin(f"own{number}", "s")
        for trial in range(10):
            own.runs.append(run, "trial", trial, f"{number}/{trial}".encode())
            own.runs.append(shared, "trial", 10 * number + trial, f"{number}/{trial}".encode())
        own.runs.finish(run, RunState.DONE)

    in_many(16, work)
    runs = opener().runs
    everything = [f"{number}/{trial}".encode() for number in range(16) for trial in range(10)]
    assert runs.records(shared, "trial") == everything
    assert len(runs.all()) == 17
    for number in range(16):
        (run,) = runs.all(f"own{number}")
        assert run.state is RunState.DONE
        assert runs.records(run.id, "trial") == everything[10 * number : 10 * number + 10]


def test_an_open_store_survives_a_fork_on_both_sides(opener: Opener) -> None:
    store = opener()
    run = store.runs.begin("income", "")

    def work() -> None:
        for number in range(0, 40, 2):
            store.runs.append(run, "trial", number, b"child")

    pid = fork(work)
    for number in range(1, 40, 2):
        store.runs.append(run, "trial", number, b"parent")
    assert ended(pid) == 0
    assert store.runs.records(run, "trial") == [b"child", b"parent"] * 20


def test_a_killed_writer_loses_nothing_that_was_acknowledged(home: Path) -> None:
    run = open_here(home).runs.begin("income", "")
    reader, writer = os.pipe()

    def work() -> None:
        own = open_here(home)
        for number in range(1000):
            own.runs.append(run, "trial", number, str(number).encode())
            os.write(writer, f"{number}\n".encode())

    pid = fork(work)
    with os.fdopen(reader, "rb") as acknowledged:
        heard = [acknowledged.readline() for _ in range(50)]
        os.kill(pid, signal.SIGKILL)
        os.close(writer)
        heard += acknowledged.readlines()
    ended(pid)
    records = open_here(home).runs.records(run, "trial")
    assert records == [str(number).encode() for number in range(len(records))]
    assert len(heard) <= len(records) <= len(heard) + 1
