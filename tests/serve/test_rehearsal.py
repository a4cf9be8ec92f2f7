"""The rehearsal of the way back: each step through the front's own code, another release through a real worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.bundle.format import Body
from modelyard.bundle.open import read_body
from modelyard.core.codec import decode, encode
from modelyard.core.evidence import Evidence, FallbackEvidence
from modelyard.core.metrics import Task
from modelyard.serve.guard.rehearsal import try_fallback
from modelyard.serve.http.reply import HttpRequest
from modelyard.serve.messages import BodyRef, WorkerJob
from modelyard.serve.request import Code
from tests.serve.bodies import CONSTANT, REFUSE, write_body
from tests.serve.orders import MISSING, NO, PREVIOUS, VARIANT, YES, rule

RULE = rule(([{"column": "age", "is": "at_least", "value": 30}], YES), otherwise=NO)


def made(folder: Path, *fallback: Mapping[str, Any], task: Task = Task.BINARY, **options: Any) -> Body:
    write_body(folder, task=task, fallback=fallback, **options)
    return read_body(folder)


def outcome(evidence: FallbackEvidence) -> list[tuple[str, bool | None]]:
    return [(step.kind, step.answered) for step in evidence.steps]


@pytest.fixture(scope="module")
def elder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Body]]:
    """The release before, with a worker: its run folder and its body."""
    folder = tmp_path_factory.mktemp("elder")
    digest = write_body(folder / "body", shift=-5.0)
    run = folder / "run"
    run.mkdir()
    job = WorkerJob(release="income@1", body=BodyRef(folder=str(folder / "body"), digest=digest), run_folder=str(run))
    process = subprocess.Popen([sys.executable, "-m", "tests.serve.entry", "worker"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(encode(job))
    process.stdin.close()
    try:
        yield run, read_body(folder / "body")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("task", "entry", "said"),
    [
        (Task.BINARY, CONSTANT, "Answered the label `<=50K`, marked as degraded."),
        (Task.BINARY, RULE, "Answered the label `>50K`, marked as degraded."),
        (Task.BINARY, REFUSE, "Refused with Retry-After."),
        (Task.REGRESSION, {"kind": "constant", "value": 12.5}, "Answered the value 12.5, marked as degraded."),
        (
            Task.REGRESSION,
            rule(([MISSING], {"value": 1}), otherwise={"value": -2}),
            "Answered the value -2, marked as degraded.",
        ),
    ],
)
def test_a_step_that_answers_here_is_tried_and_timed(
    tmp_path: Path, task: Task, entry: dict[str, Any], said: str
) -> None:
    evidence = try_fallback(made(tmp_path / "b", entry, task=task))
    assert (evidence.kind, evidence.answered, evidence.detail) == (entry["kind"], True, said)
    (step,) = evidence.steps
    assert (step.kind, step.answered, step.detail, step.release) == (entry["kind"], True, said, None)
    assert 0 < step.seconds == evidence.seconds < 5


def test_an_order_without_an_end_ends_in_a_refusal_that_is_tried_too(tmp_path: Path) -> None:
    assert outcome(try_fallback(made(tmp_path / "a"))) == [("refuse", True)]
    assert outcome(try_fallback(made(tmp_path / "b", PREVIOUS))) == [("previous", None), ("refuse", True)]


def test_what_is_never_reached_is_not_tried(tmp_path: Path) -> None:
    assert outcome(try_fallback(made(tmp_path / "b", CONSTANT, REFUSE))) == [("constant", True)]


def test_the_first_release_passes_over_the_one_before_it(tmp_path: Path) -> None:
    evidence = try_fallback(made(tmp_path / "b", PREVIOUS, CONSTANT))
    assert outcome(evidence) == [("previous", None), ("constant", True)]
    assert evidence.answered
    assert evidence.steps[0].detail == "There is no release before this one; passed over."


def test_a_release_is_not_asked_in_its_own_place(tmp_path: Path) -> None:
    evidence = try_fallback(made(tmp_path / "b", VARIANT, REFUSE), release="small@3")
    assert outcome(evidence) == [("variant", None), ("refuse", True)]
    assert evidence.steps[0].detail == "It is this release itself; passed over."


def test_another_release_is_asked_through_its_own_worker(tmp_path: Path, elder: tuple[Path, Body]) -> None:
    run, before = elder
    body = made(tmp_path / "b", PREVIOUS, RULE)
    evidence = try_fallback(body, release="income@2", previous="income@1", others={"income@1": before}, run_folder=run)
    assert outcome(evidence) == [("previous", True), ("rule", True)]
    assert evidence.steps[0].release == "income@1"
    assert evidence.steps[0].detail == "Answered the label `<=50K` by `income@1`, marked as degraded."
    assert evidence.detail.startswith("previous: Answered the label")
    assert evidence.kind == "previous, rule"


def test_the_release_itself_is_out_of_reach_although_its_worker_runs(tmp_path: Path, elder: tuple[Path, Body]) -> None:
    run, _ = elder
    evidence = try_fallback(made(tmp_path / "b", CONSTANT), release="income@1", run_folder=run)
    assert outcome(evidence) == [("constant", True)]


def test_a_variant_whose_worker_is_not_there_is_told_and_the_rest_is_tried(tmp_path: Path) -> None:
    small = made(tmp_path / "s", REFUSE)
    body = made(tmp_path / "b", VARIANT, CONSTANT)
    evidence = try_fallback(body, others={"small@3": small}, run_folder=tmp_path, wait_s=0.05)
    assert outcome(evidence) == [("variant", False), ("constant", True)]
    assert not evidence.answered
    assert evidence.steps[0].detail == "No worker of `small@3` could be reached in 0.05 s."


def test_a_release_that_is_not_known_here_is_told(tmp_path: Path) -> None:
    evidence = try_fallback(made(tmp_path / "b", VARIANT, REFUSE))
    assert evidence.steps[0].detail == "There is no release `small@3` to ask."


def test_a_release_that_answers_another_question_is_not_asked(tmp_path: Path) -> None:
    other = made(tmp_path / "o", REFUSE, task=Task.REGRESSION)
    evidence = try_fallback(made(tmp_path / "b", VARIANT, REFUSE), others={"small@3": other}, run_folder=tmp_path)
    assert evidence.steps[0].detail == (
        "`small@3` cannot answer for this release: its task is regression, wanted binary."
    )


@pytest.mark.parametrize(
    "fallback",
    [
        [{"kind": "magic"}],
        [PREVIOUS, {**CONSTANT, "label": "rich"}],
        [rule(([{"column": "agee", "is": "missing"}], YES))],
    ],
)
def test_an_order_that_cannot_be_read_is_no_way_back(tmp_path: Path, fallback: Sequence[Any]) -> None:
    evidence = try_fallback(made(tmp_path / "b", *fallback))
    assert not evidence.answered
    assert evidence.detail.startswith("The fallbacks cannot be used: fallback ")
    assert evidence.steps == ()


def test_an_answer_that_is_not_marked_as_degraded_fails_the_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpRequest.answer

    def silent(request: HttpRequest, body: bytes, *, degraded: bytes | None = None, **named: Any) -> None:
        real(request, body, **named)

    monkeypatch.setattr(HttpRequest, "answer", silent)
    evidence = try_fallback(made(tmp_path / "b", CONSTANT))
    assert (evidence.answered, evidence.detail) == (False, "The answer is not marked as degraded.")


def test_a_refusal_without_a_time_to_come_back_fails_the_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpRequest.refuse

    def silent(
        request: HttpRequest, code: Code, message: str, *, retry_after_s: int | None = None, **named: Any
    ) -> None:
        real(request, code, message, **named)

    monkeypatch.setattr(HttpRequest, "refuse", silent)
    evidence = try_fallback(made(tmp_path / "b", REFUSE))
    assert (evidence.answered, evidence.detail) == (False, "The reply was 503 and did not refuse as it should.")


def test_records_from_before_there_were_steps_are_read() -> None:
    old = {
        "release": "income@1", "body": "b", "recorded": "r",
        "payload": {"type": "fallback", "kind": "constant", "answered": True, "seconds": 0.1, "detail": "d"},
    }  # fmt: skip
    payload = decode(msgspec.json.encode(old), Evidence).payload
    assert isinstance(payload, FallbackEvidence)
    assert payload.steps == ()


def test_steps_are_kept_with_the_evidence(tmp_path: Path) -> None:
    evidence = try_fallback(made(tmp_path / "b", PREVIOUS, CONSTANT))
    record = Evidence(release="income@1", body="b", recorded="r", payload=evidence)
    assert decode(encode(record), Evidence) == record
