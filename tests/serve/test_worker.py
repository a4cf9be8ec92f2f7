"""The worker: what it answers, and that rows at fault fail alone."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.intake import Intake, Packed
from modelyard.bundle.open import Bundle, open_bundle
from modelyard.core.codec import encode
from modelyard.core.metrics import Task
from modelyard.errors import BundleAltered, EngineFailed
from modelyard.serve.keep.children import spawner
from modelyard.serve.messages import BodyRef, WorkerJob
from modelyard.serve.wire import LATE, LENGTH, AnswerFrame, BatchFrame, connect_to, pack, to_answers, unpack_answer
from modelyard.serve.worker import Runner, answer_golden, work
from tests.serve.bodies import CLASSES, ROW, contract, expected, write_body
from tests.serve.running import eventually

POISON = {**ROW, "age": 500}  # beyond the graph's table: it raises
NONSENSE = {**ROW, "score": None}  # NaN through the graph


def opened(folder: Path, **options: Any) -> Bundle:
    write_body(folder, **options)
    return open_bundle(folder, OnnxLoader())


def answer(bundle: Bundle, rows: list[dict[str, Any]], *, deadline: float = 0.0) -> AnswerFrame:
    columns = check_rows(bundle.body.contract, rows)
    packed = Intake(bundle.body.contract).pack(columns)
    return Runner(bundle).answer(BatchFrame(1, len(rows), packed, deadline, []))


def test_good_rows_are_answered_as_arithmetic_says(tmp_path: Path) -> None:
    rows = [{**ROW, "age": age} for age in (20, 40, 90)]
    answers = to_answers(answer(opened(tmp_path / "b"), rows), CLASSES)
    assert answers.probabilities is not None and answers.labels is not None
    wanted = 1 / (1 + np.exp(-np.array(expected(rows))))
    np.testing.assert_allclose(answers.probabilities[:, 1], wanted, atol=1e-6)
    assert answers.labels.tolist() == [CLASSES[int(share > 0.5)] for share in wanted]


@pytest.mark.parametrize("places", [{0}, {4}, {2, 3}, {0, 1, 6}, set(range(7))])
def test_rows_that_make_the_model_fail_fail_alone(tmp_path: Path, places: set[int]) -> None:
    bundle = opened(tmp_path / "b")
    rows = [POISON if place in places else {**ROW, "age": 20 + place} for place in range(7)]
    frame = answer(bundle, rows)
    assert set(frame.bad) == places
    assert "data bounds" in frame.reason
    if len(places) < 7:
        answers = to_answers(frame, CLASSES)
        assert answers.probabilities is not None
        good = [place for place in range(7) if place not in places]
        wanted = 1 / (1 + np.exp(-np.array(expected([rows[place] for place in good]))))
        np.testing.assert_allclose(answers.probabilities[good, 1], wanted, atol=1e-6)


def test_outputs_that_are_not_finite_are_named(tmp_path: Path) -> None:
    frame = answer(opened(tmp_path / "b"), [ROW, NONSENSE, ROW])
    assert (frame.bad, frame.not_finite) == ([1], 1)
    assert "not finite" in frame.reason


def test_a_regression_keeps_the_other_rows_too(tmp_path: Path) -> None:
    frame = answer(opened(tmp_path / "b", task=Task.REGRESSION), [ROW, POISON, NONSENSE, {**ROW, "age": 60}])
    assert set(frame.bad) == {1, 2}
    values = to_answers(frame, ()).values
    assert values is not None
    np.testing.assert_allclose(values[[0, 3]], expected([ROW, {**ROW, "age": 60}]), atol=1e-9)


def test_wrong_golden_answers_stop_a_worker_before_it_listens(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="golden"):
        answer_golden(opened(tmp_path / "b", golden_is_wrong=True))


def test_an_altered_byte_stops_a_worker(tmp_path: Path) -> None:
    digest = write_body(tmp_path / "b")
    (tmp_path / "b" / "model.onnx").write_bytes(b"x" + (tmp_path / "b" / "model.onnx").read_bytes()[1:])
    ref = BodyRef(folder=str(tmp_path / "b"), digest=digest)
    with pytest.raises(BundleAltered):
        work(WorkerJob(release="income@1", slot=0, body=ref, run_folder=str(tmp_path)), OnnxLoader())


def test_another_bundle_than_the_one_asked_for_stops_a_worker(tmp_path: Path) -> None:
    write_body(tmp_path / "b")
    ref = BodyRef(folder=str(tmp_path / "b"), digest="0" * 64)
    with pytest.raises(BundleAltered):
        work(WorkerJob(release="income@1", slot=0, body=ref, run_folder=str(tmp_path)), OnnxLoader())


def test_a_batch_that_does_not_fit_the_contract_is_answered_as_bad(tmp_path: Path) -> None:
    frame = Runner(opened(tmp_path / "b")).answer(BatchFrame(3, 2, Packed()))
    assert (frame.id, frame.bad) == (3, [0, 1])


def test_a_batch_whose_callers_no_longer_wait_does_not_run(tmp_path: Path) -> None:
    bundle = opened(tmp_path / "b")
    late = answer(bundle, [ROW, ROW], deadline=time.monotonic() - 0.001)
    assert (late.bad, late.reason, late.infer_us) == ([0, 1], LATE, 0.0)
    assert answer(bundle, [ROW], deadline=time.monotonic() + 10).bad == []


def received(stream: socket.socket) -> AnswerFrame:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            came = stream.recv(count - len(data))
            assert came
            data += came
        return data

    return unpack_answer(exactly(LENGTH.unpack(exactly(LENGTH.size))[0]))


def test_a_front_that_stops_within_a_frame_holds_up_no_other(tmp_path: Path) -> None:
    digest = write_body(tmp_path / "b")
    ref = BodyRef(folder=str(tmp_path / "b"), digest=digest)
    job = WorkerJob(release="income@1", slot=0, body=ref, run_folder=str(tmp_path))
    spawn = spawner(tmp_path / "errors", command=(sys.executable, "-m", "tests.serve.entry"))
    process = spawn("worker", encode(job))
    try:
        stalled = eventually(lambda: connect_to(tmp_path, job.name))
        packed = Intake(contract()).pack(check_rows(contract(), [ROW]))
        frame = pack(BatchFrame(1, 1, packed))
        with stalled, connect_to(tmp_path, job.name) as other:
            stalled.sendall(frame[:-3])
            time.sleep(0.05)  # so that it is the first to be turned to
            other.sendall(frame)
            assert received(other).bad == []
            assert stalled.recv(1) == b""  # it was let go
    finally:
        process.kill()
        process.wait()
