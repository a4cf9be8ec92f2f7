"""The log: what is always written, what is sampled and with which probability, and what a full disk costs."""

from __future__ import annotations

import json
import multiprocessing
import threading
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.serve.told import log as log_module
from modelyard.serve.told.log import Log
from modelyard.serve.told.rolling import KEPT, Rolling
from modelyard.serve.told.sampling import Sampling

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("came", [100, 10_000, 300_000])
def test_the_sum_of_what_was_kept_over_its_probability_is_what_came(came: int) -> None:
    sampling = Sampling(400, chance=Random(3).random)
    kept = [p for p in (sampling.wants() for _ in range(came)) if p > 0]
    assert sum(1 / p for p in kept) == pytest.approx(came, rel=0.2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), loads=st.lists(st.sampled_from([0, 10, 500, 3_000]), min_size=1, max_size=8))
def test_each_interval_keeps_about_what_there_is_room_for_whatever_comes(seed: int, loads: list[int]) -> None:
    sampling = Sampling(40, chance=Random(seed).random)
    for load in loads:
        kept = sum(sampling.wants() > 0 for _ in range(load))
        assert kept <= 40 * 6  # a burst out of nothing: a half of the room more each time that it doubles
        sampling.adapt()
        assert 0 < sampling.p <= 1


def test_a_steady_load_is_kept_at_the_rate_that_was_asked() -> None:
    sampling = Sampling(40, chance=Random(5).random)
    kept = []
    for _ in range(60):
        kept.append(sum(sampling.wants() > 0 for _ in range(2_000)))
        sampling.adapt()
    assert 25 <= sum(kept[10:]) / 50 <= 48


def test_all_is_kept_again_once_little_comes() -> None:
    sampling = Sampling(40, chance=Random(5).random)
    for _ in range(20_000):
        sampling.wants()
    for _ in range(30):
        sampling.adapt()
    assert [sampling.wants() for _ in range(39)] == [1.0] * 39


def test_without_room_nothing_is_kept() -> None:
    sampling = Sampling(0)
    sampling.adapt()
    assert not any(sampling.wants() for _ in range(1000))


def test_a_request_line_says_its_probability_and_why_it_was_degraded(tmp_path: Path) -> None:
    log = Log(tmp_path / "service.log", most_bytes=100_000)
    facts = {"time": NOON, "request": "r-1", "release": "income@1", "door": "v2", "rows": 3, "ms": 1.23456}
    log.request(**facts, p=log.wants(), code=200)  # type: ignore[arg-type]
    log.request(**facts, p=1.0, code=200, degraded="deadline")  # type: ignore[arg-type]
    log.close()
    good, degraded = lines(tmp_path / "service.log")
    assert good == {
        "time": "2026-01-02T12:00:00Z", "event": "request", "p": 1.0, "request": "r-1", "release": "income@1",
        "door": "v2", "code": 200, "rows": 3, "ms": 1.235,
    }  # fmt: skip
    assert degraded == {**good, "degraded": "deadline"}


def test_under_a_flood_good_answers_are_sampled_and_events_are_all_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "FLUSH_S", 30.0)
    log = Log(tmp_path / "service.log", most_bytes=10_000_000, sample_per_s=1)
    for number in range(10_000):
        p = log.wants()
        if p:
            log.write({"event": "request", "p": p})
        if number % 10 == 0:
            log.write({"event": "refused", "p": 1.0})
    assert log.p < 0.05
    log.close()
    found = lines(tmp_path / "service.log")
    assert sum(line["event"] == "refused" for line in found) == 1000
    assert sum(line["event"] == "request" for line in found) < 300
    assert log.dropped == 0


def test_a_line_that_cannot_be_written_is_counted_and_the_others_are(tmp_path: Path) -> None:
    log = Log(tmp_path / "service.log", most_bytes=10_000)
    log.write({"event": "good"})
    log.write({"event": object()})
    log.write({"event": "\ud800"})
    log.write({"event": "good"})
    log.close()
    assert [line["event"] for line in lines(tmp_path / "service.log")] == ["good", "good"]
    assert log.dropped == 2


def test_what_else_is_to_be_done_is_done_in_the_logs_thread_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "FLUSH_S", 0.01)
    names, twice = [], threading.Event()

    def act() -> None:
        names.append(threading.current_thread().name)
        if len(names) == 2:
            twice.set()

    log = Log(tmp_path / "service.log", most_bytes=10_000)
    log.also(act)
    assert twice.wait(5)
    log.close()
    assert set(names) == {"log"} and len(names) >= 3


def test_lines_leave_without_the_log_being_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "FLUSH_S", 0.01)
    log = Log(tmp_path / "service.log", most_bytes=10_000)
    written = threading.Event()
    log.write({"event": "soon"})
    log.also(lambda: written.set() if (tmp_path / "service.log").exists() else None)
    assert written.wait(5)
    assert lines(tmp_path / "service.log") == [{"event": "soon"}]
    log.close()


def append_many(path: Path, name: str) -> None:
    file = Rolling(path, most_bytes=20_000)
    for number in range(300):
        file.append(b"".join(b'{"by":"%b","number":%d}\n' % (name.encode(), number * 5 + part) for part in range(5)))


def test_several_processes_write_whole_lines_to_one_file_and_none_is_lost_before_its_time(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, f"front.{number}")) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    files = sorted(tmp_path.iterdir())
    assert {file.name for file in files} == {"service.log", "service.1.log", "service.2.log"}
    assert len(files) == KEPT and all(file.stat().st_size < 21_000 for file in files)
    for name in ("front.0", "front.1", "front.2"):
        newest_last = [tmp_path / "service.2.log", tmp_path / "service.1.log", path]
        numbers = [line["number"] for file in newest_last for line in lines(file) if line["by"] == name]
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == len(numbers)
