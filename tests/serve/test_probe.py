"""The service for one measurement: the same answers through the real door as in process."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.open import open_bundle, read_body
from modelyard.core.metrics import Task
from modelyard.errors import ServiceError
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.probe import endpoint_answers, serve_rows
from tests.serve.bodies import ROW, contract, write_body

ENTRY = (sys.executable, "-m", "tests.serve.entry")


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_the_endpoint_answers_bit_for_bit_as_the_bundle_does(tmp_path: Path, task: Task) -> None:
    write_body(tmp_path / "b", task=task)
    generator = np.random.default_rng(0)
    rows = [
        {
            "age": int(generator.integers(0, 120)),
            "score": float(generator.normal()),
            "city": [None, "Paris", "Oslo", "Zürich", '\u2028"quoted"'][int(generator.integers(5))],
            "seen": f"2026-0{generator.integers(1, 10)}-11T07:00:00.00000{generator.integers(10)}",
        }
        for _ in range(2500)
    ]
    columns = check_rows(contract(task), rows)
    direct = open_bundle(tmp_path / "b", OnnxLoader()).answer(columns)
    batches = [columns.take(slice(start, start + 1000)) for start in range(0, 2500, 1000)]
    served = endpoint_answers(tmp_path / "b", batches, spawn=spawner(tmp_path / "errors", command=ENTRY))
    if task is Task.REGRESSION:
        assert direct.values is not None and served.values is not None
        assert served.values.tobytes() == direct.values.tobytes()
    else:
        assert direct.probabilities is not None and served.probabilities is not None
        assert direct.labels is not None and served.labels is not None
        assert served.probabilities.tobytes() == direct.probabilities.tobytes()
        assert served.labels.tolist() == direct.labels.tolist()


def test_rows_that_the_model_cannot_answer_are_an_error_and_never_a_degraded_answer(tmp_path: Path) -> None:
    write_body(tmp_path / "b")
    columns = check_rows(contract(), [{**ROW, "age": 500}])
    with pytest.raises(ServiceError, match="model_error"):
        endpoint_answers(tmp_path / "b", [columns], spawn=spawner(tmp_path / "errors", command=ENTRY))


def test_a_service_that_cannot_start_says_so_soon(tmp_path: Path) -> None:
    write_body(tmp_path / "b", golden_is_wrong=True)
    began = time.monotonic()
    with (
        pytest.raises(ServiceError, match="ended with code"),
        serve_rows(tmp_path / "b", read_body(tmp_path / "b"), spawn=spawner(tmp_path / "errors", command=ENTRY)),
    ):
        raise AssertionError("It must not be ready.")
    assert time.monotonic() - began < 10
