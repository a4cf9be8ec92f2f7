"""Tensors through the doors of a whole service of real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.open import open_bundle
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.probe import endpoint_answers
from tests.serve.load import V2
from tests.serve.running import Running, eventually, service
from tests.serve.tensor_bodies import BAD, ROWS, contract, expected, write_tensor_body


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("tensors") / "body"
    return folder, write_tensor_body(folder)


@pytest.fixture(scope="module")
def running(made: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with service(tmp_path_factory.mktemp("tensors") / "run", {"income@1": made}) as one:
        yield one


def rows_of(count: int, length: int, *, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {
            "x": generator.normal(size=(2, 3)).astype(np.float32).tolist(),
            "ids": generator.integers(0, 100, length).tolist(),
            "age": int(generator.integers(17, 90)),
        }
        for _ in range(count)
    ]


def tensors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"x": "FP32", "ids": "INT64", "age": "FP64"}
    arrays = {name: np.array([row[name] for row in rows]) for name in kinds}
    return {
        "inputs": [
            {"name": name, "datatype": kinds[name], "shape": list(array.shape), "data": array.reshape(-1).tolist()}
            for name, array in arrays.items()
        ]
    }


def binary(rows: list[dict[str, Any]]) -> tuple[bytes, dict[str, str]]:
    """Return a body with raw tensors behind its JSON, and the header that says where they begin."""
    kinds = {"x": ("FP32", "<f4"), "ids": ("INT64", "<i8"), "age": ("FP64", "<f8")}
    inputs, pieces = [], []
    for name, (datatype, code) in kinds.items():
        array = np.array([row[name] for row in rows], dtype=code)
        pieces.append(array.tobytes())
        size = {"binary_data_size": len(pieces[-1])}
        inputs.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": size})
    outputs = [{"name": "value", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return head + b"".join(pieces), {"Inference_Header_Content_Length": str(len(head))}


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 40), (3, 5), (300, 7)])
def test_every_form_of_tensors_is_answered_as_arithmetic_says(running: Running, count: int, length: int) -> None:
    rows = rows_of(count, length)
    wanted = expected(rows)
    plain = running.predict(*rows)
    assert plain.status == 200 and plain.json["degraded"] is False
    np.testing.assert_allclose([one["value"] for one in plain.json["predictions"]], wanted, rtol=1e-5)
    protocol = running.ask("POST", V2, tensors(rows)).json
    assert protocol["outputs"][0]["shape"] == [count]
    np.testing.assert_allclose(protocol["outputs"][0]["data"], wanted, rtol=1e-5)
    body, headers = binary(rows)
    raw = running.ask("POST", V2, body, **headers)
    size = int(raw.headers["Inference-Header-Content-Length"])
    np.testing.assert_allclose(np.frombuffer(raw.data[size:], dtype="<f8"), wanted, rtol=1e-5)


def test_requests_of_different_lengths_at_once_each_get_their_own(running: Running) -> None:
    def ask(place: int) -> None:
        for step in range(6):
            rows = rows_of(1 + place % 3, 1 + (place + step) % 4, seed=100 * place + step)
            reply = running.ask("POST", V2, tensors(rows))
            got.append((reply.json["outputs"][0]["data"], expected(rows)))

    got: list[tuple[list[float], list[float]]] = []
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 60
    for told, wanted in got:
        np.testing.assert_allclose(told, wanted, rtol=1e-5)


def test_batches_too_large_for_the_socket_are_answered_each_with_its_own_rows(running: Running) -> None:
    def ask(place: int) -> None:
        rows = rows_of(1 + place % 3, 20_000 + place % 2, seed=place)
        reply = running.ask("POST", V2, tensors(rows))
        got.append((reply.json["outputs"][0]["data"], expected(rows)))

    got: list[tuple[list[float], list[float]]] = []
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    small = rows_of(2, 3)
    got.append((running.ask("POST", V2, tensors(small)).json["outputs"][0]["data"], expected(small)))
    assert len(got) == 13
    for told, wanted in got:
        np.testing.assert_allclose(told, wanted, rtol=1e-5)


def test_a_worker_killed_with_a_large_batch_is_replaced_and_the_rows_are_tried_again(
    made: tuple[Path, str], tmp_path: Path
) -> None:
    with service(tmp_path / "run", {"income@1": made}) as own:
        rows = rows_of(1, 30_000)
        assert own.ask("POST", V2, tensors(rows)).status == 200
        os.kill(own.pid_of("worker"), signal.SIGSTOP)
        replies: list[Any] = []
        patient = {"X_Deadline_Ms": "9000"}  # a busy machine takes its time to start the worker that tries again
        asking = threading.Thread(target=lambda: replies.append(own.ask("POST", V2, tensors(rows), **patient)))
        asking.start()
        eventually(lambda: own.events("killed"))
        asking.join()
        (reply,) = replies
        assert reply.status == 200 and "x-degraded" not in reply.headers
        np.testing.assert_allclose(reply.json["outputs"][0]["data"], expected(rows), rtol=1e-5)


def test_a_row_that_breaks_the_model_fails_alone(running: Running) -> None:
    reply = running.predict(BAD)
    assert (reply.status, reply.headers["x-degraded"]) == (200, "model_error")
    assert reply.json["predictions"] == [{"value": -1.5}]
    assert "x-degraded" not in running.predict(*ROWS).headers


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"x": [[1, 2], [3, 4]]}, "x"),
        ({"x": [[1, 2, 3], [4, 5, None]]}, "x"),
        ({"x": 3}, "x"),
        ({"ids": [1.5, 2]}, "ids"),
        ({"ids": [[1], [2]]}, "ids"),
        ({"ids": [2**63]}, "ids"),
    ],
)
def test_tensors_that_break_the_contract_name_row_and_column(
    running: Running, change: dict[str, Any], column: str
) -> None:
    reply = running.predict(ROWS[0], {**ROWS[0], **change})
    assert reply.status == 422
    assert {(fault["row"], fault["column"]) for fault in reply.json["faults"]} == {(1, column)}


def test_metadata_names_the_tensors_with_their_shapes(running: Running) -> None:
    inputs = running.ask("GET", "/v2/models/income").json["inputs"]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in inputs} == {
        "x": ("FP32", [-1, 2, 3]),
        "ids": ("INT64", [-1, -1]),
        "age": ("FP64", [-1]),
    }


def test_the_endpoint_answers_tensors_bit_for_bit_as_the_bundle_does(made: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = made
    columns = check_rows(contract(), rows_of(500, 4))
    direct = open_bundle(folder, OnnxLoader()).answer(columns).values
    batches = [columns.take(slice(start, start + 200)) for start in range(0, 500, 200)]
    spawn = spawner(tmp_path / "errors", command=(sys.executable, "-m", "tests.serve.entry"))
    served = endpoint_answers(folder, batches, spawn=spawn).values
    assert direct is not None and served is not None
    assert served.tobytes() == direct.tobytes()
