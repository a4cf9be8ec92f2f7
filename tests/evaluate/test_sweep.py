"""A sweep of a real body in real processes, and what becomes of it when one of them ends, hangs or takes too long."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from modelyard.app.spawn import child_environment, spawn
from modelyard.core.codec import encode
from modelyard.core.metrics import Task
from modelyard.errors import EngineFailed
from modelyard.evaluate import sweep_bench
from modelyard.evaluate.sweep import SweepPlan, processes, sweep
from modelyard.evaluate.sweep_bench import Bench
from modelyard.evaluate.sweep_child import Arrivals, SweepJob, arrival_times
from modelyard.evaluate.sweep_choice import choose
from tests.bundle.packed import packed, rows_of
from tests.evaluate.texts import text_body

ENDS_AFTER = """
import os, sys
from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.evaluate.sweep_child import run_sweep
def lines():
    for count, line in enumerate(sys.stdin.buffer):
        if count == {lines}:
            os._exit(7)
        yield line
class Lines:
    def __init__(self): self.all = lines()
    def readline(self): return next(self.all)
    def __iter__(self): return self.all
run_sweep(Lines(), sys.stdout.buffer, OnnxLoader())
"""
SILENT = "import sys; sys.stdin.buffer.read()"


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("swept"), Task.BINARY)


def plan(
    body: Path,
    *,
    cores: int = 1,
    limit_s: float = 20.0,
    rows: str | None = None,
    most: int = 8,
    batch_ms: float = 250.0,
) -> SweepPlan:
    return SweepPlan(
        body=str(body), rows=rows, batch_ms=batch_ms, cores=cores, memory_mb=100_000.0, limit_s=limit_s, aim_s=0.1,
        most_batch_rows=most,
    )  # fmt: skip


class Started:
    """A spawn that runs a text of Python in place of the sweep's process, and remembers what it started."""

    def __init__(self, text: str) -> None:
        self.text, self.all = text, list[subprocess.Popen[bytes]]()

    def __call__(self, kind: str, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        self.all.append(
            subprocess.Popen(
                [sys.executable, "-c", self.text],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(),
            )
        )
        return self.all[-1]


def test_a_body_is_measured_over_batches_threads_and_workers(body: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(encode([*rows_of(Task.BINARY, 20), {"cents": "breaks the contract"}]))
    seen = sweep(plan(body, cores=2, rows=str(tmp_path / "rows.json"), most=64), spawn)
    assert {p.layout for p in seen.points} == {(1, 1), (1, 2), (2, 1)} and seen.stopped == ""
    assert {p.batch_rows for p in seen.points if p.layout == (1, 1)} >= {1, 2, 4}
    for one in seen.points:
        assert one.rounds == 5 and one.calls >= 10 * one.workers
        assert one.p50_ms <= one.p99_ms and one.rows_per_s_low <= one.rows_per_s <= one.rows_per_s_high
        # Two sources: rows a second by the clock of a round, and by the median time of a batch.
        assert one.rows_per_s == pytest.approx(one.workers * one.batch_rows / (one.p50_ms / 1000), rel=0.9)
        assert 20 < one.memory_mb < 2000
    assert 0.05 < seen.load_s < 30 and seen.load_s < seen.spent_s < 20
    assert [w.delay_ms > 0 for w in seen.waits] in ([], [False, True, True])
    found = choose(seen.points, deadline_ms=1000.0, waits=seen.waits, cores=2)
    assert found.batch_rows in {p.batch_rows for p in seen.points} and len(found.reasons) == 3


def test_without_rows_the_golden_ones_are_asked(body: Path) -> None:
    seen = sweep(plan(body, most=2), spawn)
    assert {p.layout for p in seen.points} == {(1, 1)} and {p.batch_rows for p in seen.points} == {1, 2}


@pytest.mark.parametrize("with_rows", [False, True])
def test_a_model_whose_rows_have_any_length_is_asked_with_rows_of_one_length(with_rows: bool, tmp_path: Path) -> None:
    rows = [{"ids": [1] * length} for length in (3, 9, 9, 9, 5)]
    (tmp_path / "rows.json").write_bytes(encode(rows))
    body = text_body(tmp_path)
    seen = sweep(plan(body, rows=str(tmp_path / "rows.json") if with_rows else None, most=4), spawn)
    assert seen.stopped == "" and {p.batch_rows for p in seen.points} >= {1, 2, 4}


def test_what_was_measured_before_a_process_ended_is_kept(body: Path) -> None:
    spawned = Started(ENDS_AFTER.format(lines=3))
    seen = sweep(plan(body), spawned)
    assert [(p.layout, p.batch_rows) for p in seen.points] == [((1, 1), 1)]
    assert "ended with status 7" in seen.stopped
    found = choose(seen.points, deadline_ms=1000.0, cores=1)
    assert (found.workers, found.threads, found.batch_rows) == (1, 1, 1)
    assert all(one.poll() is not None for one in spawned.all)


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "print('no record', flush=True); input()"])
def test_a_body_that_cannot_even_be_opened_has_no_sweep(text: str, body: Path) -> None:
    spawned = Started(text)
    with pytest.raises(EngineFailed, match=r"status [13]|no record of the sweep"):
        sweep(plan(body), spawned)
    assert all(one.poll() is not None for one in spawned.all)


def test_a_process_that_says_nothing_does_not_hold_the_build(body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_bench, "LOAD_TIMEOUT_S", 0.3)
    spawned = Started(SILENT)
    with pytest.raises(EngineFailed, match="said nothing"):
        sweep(plan(body), spawned)
    assert [one.poll() is not None for one in spawned.all] == [True]


def test_the_time_limit_leaves_what_was_measured_by_then(body: Path) -> None:
    seen = sweep(plan(body, limit_s=1e-9), spawn)
    assert [(p.layout, p.batch_rows) for p in seen.points] == [((1, 1), 1)] and "time limit" in seen.stopped


def test_batches_that_take_longer_than_one_may_are_not_looked_at(body: Path) -> None:
    seen = sweep(plan(body, batch_ms=1e-3, most=64), spawn)
    assert {p.batch_rows for p in seen.points} == {1}


def test_layouts_that_would_not_fit_the_memory_are_left_out_and_said(body: Path) -> None:
    small = SweepPlan(body=str(body), rows=None, batch_ms=250.0, cores=2, memory_mb=1.0, aim_s=0.05, most_batch_rows=2)
    seen = sweep(small, spawn)
    assert {p.layout for p in seen.points} == {(1, 1)}
    assert "1 x 2, 2 x 1" in seen.stopped and "memory" in seen.stopped


def test_processes_are_of_one_number_of_threads_each() -> None:
    assert processes([(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]) == {1: 4, 2: 2}


def test_rows_that_come_one_by_one_are_all_answered_and_wait_at_least_as_long_as_told(body: Path) -> None:
    bench = Bench(SweepJob(body=str(body), threads=1), spawn)
    try:
        bench.grow({1: 1})
        at_once, later = (
            bench.arrivals(Arrivals(batch_rows=8, delay_ms=delay_ms, per_s=200.0, seconds=0.2, seed=1))
            for delay_ms in (0.0, 15.0)
        )
    finally:
        bench.close()
    assert len(at_once.ms) == len(later.ms) == 40 and min(at_once.ms) > 0
    assert np.median(later.ms) > 5 + np.median(at_once.ms)  # few rows came in company


def test_arrivals_are_as_frequent_as_told_and_the_same_for_a_seed() -> None:
    moments = arrival_times(1000.0, 2.0, seed=3)
    assert len(moments) == 2000 and moments[-1] == pytest.approx(2.0, rel=0.1)
    assert (np.diff(moments) > 0).all() and (moments == arrival_times(1000.0, 2.0, seed=3)).all()
    assert len(arrival_times(0.1, 0.1, seed=0)) == 1


def test_bench_is_closed_twice_without_harm(body: Path) -> None:
    bench = Bench(SweepJob(body=str(body), threads=1), spawn)
    bench.grow({1: 1})
    bench.close()
    bench.close()
