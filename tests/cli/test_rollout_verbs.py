"""The verbs of rollouts where there is nothing to do: each says why, and what would help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.main import main
from modelyard.core.codec import encode
from modelyard.core.release import Traffic
from modelyard.core.rollout import How, Policy, Step, Strategy, Watch
from modelyard.flow.rollout.courses import Courses
from modelyard.rollout.course import Course, begin, end
from modelyard.serve.messages import TRAFFIC_FILE, Routes

VERBS = ("promote", "pause", "resume")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of a service whose supervisor is dead, and whose store is empty."""
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "home" / "run" / "income"
    run.mkdir(parents=True)
    traffic = Traffic(epoch=3, shares={"income@1": 0.9, "income@2": 0.1}, previous="income@1")
    (run / TRAFFIC_FILE).write_bytes(encode(Routes(traffic=traffic, bodies={})))
    return run


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def course(**more: Any) -> Course:
    policy = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1), Step(share=0.5)))
    return begin(
        id="income-1", service="income", by="ann", policy=policy, requirements=(), stable="income@1",
        candidates=("income@2",), epoch=2, now=0.0, watch=Watch(), **more,
    )  # fmt: skip


@pytest.mark.parametrize("verb", [*VERBS, "status"])
def test_a_service_that_does_not_run_is_told_with_the_way_to_start_it(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = ask(capsys, verb, "other")
    assert (code, err) == (2, "No service `other` runs. Serve a release of it first: modelyard serve other@NUMBER\n")
    code, _, err = ask(capsys, verb, "../income")
    assert code == 2 and "`../income`" in err


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_rollout_there_is_nothing_to_change(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = ask(capsys, verb, "income")
    assert code == 2 and "There is no rollout of the service `income`" in err


@pytest.mark.parametrize("verb", VERBS)
def test_one_that_has_ended_is_told_with_how(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Courses(folder).write(end(course(), How.TAKEN_BACK, "Too slow.", 9.0))
    code, _, err = ask(capsys, verb, "income")
    assert (code, err) == (2, "The rollout income-1 of `income` has ended: Too slow.\n")


def test_orders_are_kept_for_who_keeps_the_rollout_and_told_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Courses(folder).open(course())
    assert ask(capsys, "pause", "income")[:2] == (
        0, "The rollout income-1 is paused at its shares; it goes back where it has to.\n",
    )  # fmt: skip
    code, _, err = ask(capsys, "pause", "income")
    assert code == 2 and "is paused already" in err
    assert ask(capsys, "resume", "income")[0] == 0
    code, _, err = ask(capsys, "resume", "income")
    assert code == 2 and "is not paused already" in err
    assert json.loads(ask(capsys, "promote", "income", "--full", "--json")[1])["order"] == "full"
    entries = json.loads(ask(capsys, "audit", "--json")[1])
    done = [(one["operation"], one["outcome"]) for one in entries if one["outcome"] != "started"]
    assert done == [("pause", "done"), ("pause", "refused"), ("resume", "done"), ("resume", "refused"),
                    ("promote", "done")]  # fmt: skip


def test_a_status_needs_neither_supervisor_nor_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No supervisor answers" in ask(capsys, "status", "income")[1]
    Courses(folder).open(course())
    code, out, _ = ask(capsys, "status", "income")
    assert code == 0 and out.startswith("income: income@1 90 %, income@2 10 % (epoch 3)\n")
    assert "Rollout income-1: income@2 beside income@1, canary" in out and "waits for the fronts" in out


def test_a_course_that_cannot_be_read_says_how_to_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rollout.json").write_text("{")
    code, _, err = ask(capsys, "status", "income")
    assert code == 2 and "cannot be read" in err and "modelyard rollback income" in err
