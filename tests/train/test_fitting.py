"""Fits in a process of their own: whatever a candidate does is a row with its reason, and the next one works."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode
from modelyard.train.child import _weights
from modelyard.train.fitter import Fitter
from modelyard.train.job import FitEnd, FitInfo, FitJob
from tests.train import light
from tests.train.making import job


@pytest.fixture(scope="module")
def fitter() -> Iterator[Fitter]:
    one = Fitter(light.spawn)
    yield one
    one.close()


def fit(fitter: Fitter, asked: FitJob, *, tick: Callable[[], None] = lambda: None) -> FitEnd:
    return fitter.fit(asked, tick=tick)


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie that nobody has read yet does not."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(*pids: int) -> bool:
    """Wait until none of the processes runs, ten seconds at most."""
    waiting = threading.Event()
    for _ in range(500):
        if not any(alive(pid) for pid in pids):
            return True
        waiting.wait(0.02)
    return False


def test_a_fit_that_works_leaves_its_graph_its_answers_and_its_facts(fitter: Fitter, tmp_path: Path) -> None:
    asked = job(tmp_path, "mean", params={"shift": 2.0})
    assert fit(fitter, asked).state is TrialState.DONE
    out = Path(asked.folder)
    assert (out / "model.onnx").read_bytes() == b"3.5 5 1"
    assert np.load(out / "valid.npy").tolist() == [[3.5]] * 10
    assert np.load(out / "calibrate.npy").shape == (0, 1)
    info = decode((out / "fit.json").read_bytes(), FitInfo)
    assert (info.raw, info.facts, info.refusal) == ("value", {"centre": 3.5}, "") and info.fit_s >= 0


@pytest.mark.parametrize(
    ("trainer", "state", "reason"),
    [
        ("raising", TrialState.CRASHED, r"KeyError: .*column"),
        ("leaving", TrialState.CRASHED, "ended by itself with status 0"),
        ("exiting", TrialState.CRASHED, "SystemExit: 3"),
        ("segfault", TrialState.CRASHED, "killed by SIGSEGV"),
        ("hungry", TrialState.OUT_OF_MEMORY, "needed more than the 700 MB of `budget.memory_mb`"),
        ("endless", TrialState.TIMED_OUT, "took longer than 1.0 s"),
        ("shape", TrialState.CRASHED, r"valid rows with the shape \(10,\), wanted \(10, 1\)"),
        ("not-a-number", TrialState.CRASHED, "valid rows with NaN or infinities"),
        ("refused", TrialState.REFUSED, "^this cannot be told as a graph$"),
        ("killing_the_parent", TrialState.CRASHED, "the fitting process itself ended with status -9"),
        ("unknown", TrialState.CRASHED, "There is no algorithm `unknown`"),
        ("compared", TrialState.DONE, "^$"),
    ],
)
def test_whatever_a_fit_does_is_a_row_and_the_next_fit_works(
    fitter: Fitter, tmp_path: Path, trainer: str, state: TrialState, reason: str
) -> None:
    end = fit(fitter, job(tmp_path, trainer, timeout_s=1.0 if trainer == "endless" else 20.0, memory_mb=700))
    assert end.state is state and re.search(reason, end.reason), end
    (tmp_path / "next").mkdir()
    assert fit(fitter, job(tmp_path / "next", "mean")).state is TrialState.DONE


def test_a_fit_without_a_graph_says_why(fitter: Fitter, tmp_path: Path) -> None:
    asked = job(tmp_path, "compared")
    assert fit(fitter, asked).state is TrialState.DONE
    out = Path(asked.folder)
    assert not (out / "model.onnx").exists()
    assert decode((out / "fit.json").read_bytes(), FitInfo).refusal == "no exact form"


def test_a_class_without_a_training_row_is_said(fitter: Fitter, tmp_path: Path) -> None:
    target = np.array([0, 2] * 5)
    end = fit(fitter, job(tmp_path, "mean", target=target, classes=3))
    assert end.state is TrialState.CRASHED and "no training row is of class number 1" in end.reason


def test_what_a_fit_prints_or_reads_disturbs_nothing(fitter: Fitter, tmp_path: Path) -> None:
    end = fit(fitter, job(tmp_path, "talking"))
    assert end.state is TrialState.DONE, end


def test_a_process_that_a_fit_left_behind_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_CHILD", str(tmp_path / "child"))
    fitter = Fitter(light.spawn)
    try:
        end = fit(fitter, job(tmp_path, "leaving_a_child"))
        assert "left a process behind" in end.reason
        assert gone(int((tmp_path / "child").read_text()))
    finally:
        fitter.close()


def begun(path: Path) -> tuple[int, int]:
    """Return the ids of the fitting process and its child, once the fit has begun."""
    text = path.read_text() if path.exists() else ""
    return (int(text.split()[0]), int(text.split()[1])) if " " in text else (0, 0)


def test_a_fitting_process_killed_in_the_middle_is_a_row_and_leaves_no_orphan(tmp_path: Path) -> None:
    fitter, seen = Fitter(light.spawn), list[tuple[int, int]]()

    def kill() -> None:
        pids = begun(tmp_path / "begun")
        if pids[0] and not seen:
            seen.append(pids)
            os.kill(pids[0], signal.SIGKILL)

    try:
        end = fit(fitter, job(tmp_path, "slow", params={"begun": str(tmp_path / "begun")}), tick=kill)
        assert end.state is TrialState.CRASHED and "status -9" in end.reason
        assert gone(*seen[0])
        assert fit(fitter, job(tmp_path, "mean")).state is TrialState.DONE
    finally:
        fitter.close()


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_when_the_one_who_asked_goes_both_processes_go(tmp_path: Path, how: str) -> None:
    fitter, seen = Fitter(light.spawn), list[tuple[int, int]]()

    class Leave(Exception):
        pass

    def leave() -> None:
        pids = begun(tmp_path / "begun")
        if pids[0]:
            seen.append(pids)
            raise Leave

    asked = job(tmp_path, "slow", params={"begun": str(tmp_path / "begun")}, timeout_s=60.0)
    with pytest.raises(Leave):
        fit(fitter, asked, tick=leave)
    process = fitter._process
    assert process is not None and process.stdin is not None
    if how == "close":
        fitter.close()
    else:
        process.stdin.close()  # as when the asking process is killed
        process.wait(10)
    assert gone(*seen[0])
    fitter.close()


def test_ticks_come_while_a_fit_runs(fitter: Fitter, tmp_path: Path) -> None:
    ticks: list[int] = []
    fit(fitter, job(tmp_path, "endless", timeout_s=0.8), tick=lambda: ticks.append(1))
    assert len(ticks) >= 2


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_class_weights_are_those_of_scikit_learn(tmp_path: Path, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(3, p=[0.7, 0.2, 0.1], size=500)
    weight = rng.uniform(0.5, 2, size=500)
    np.save(tmp_path / "weight.npy", weight)
    given = str(tmp_path / "weight.npy") if weighted else None
    asked = job(tmp_path, "mean", classes=3, class_weight="balanced", weight=given)
    seen = _weights(asked, target)
    assert seen is not None
    if weighted:  # every class weighs the same, and all of them what they weighed before
        mass = np.bincount(target, weights=seen)
        assert np.allclose(mass, weight.sum() / 3)
        assert np.allclose((seen / weight)[target == 1], (seen / weight)[target == 1][0])
    else:
        assert np.allclose(seen, compute_sample_weight("balanced", target))


def test_class_weights_reach_the_trainer(fitter: Fitter, tmp_path: Path) -> None:
    asked = job(tmp_path, "mean", target=np.array([1] * 9 + [0]), classes=2, class_weight="balanced")
    assert fit(fitter, asked).state is TrialState.DONE
    assert (Path(asked.folder) / "model.onnx").read_bytes() == b"0.5 5 1"
