"""The whole protocol over REST with a client that is not ours: every datatype, in JSON and as bytes, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extras.environments import Environment
from tests.serve.every_tensor import TYPES, expected, write_every_tensor
from tests.serve.running import Running, service

ROWS: dict[str, Any] = {datatype: [[1, 2], [3, 4], [0, 5]] for datatype in TYPES} | {
    "BOOL": [[True, False], [False, False], [True, True]],
    "INT8": [[-3, 2], [-128, 127], [0, 5]],
    "INT64": [[-9, 2, 1], [3, 4, 5], [0, 5, 2]],  # of a size that varies
    "UINT64": [[2**40, 2], [0, 0], [1, 1]],
    "FP16": [[0.5, -0.25], [1.5, 2.0], [0.0, -7.0]],
    "FP32": [[0.1, -2.5], [1e-3, 3.0], [4.0, -4.0]],
    "FP64": [[0.1, -(2.0**40)], [1e-9, -1.0], [0.5, 0.25]],
    "BYTES": [["a", "Zürich"], ["b", ""], ["b", "b"]],
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A service of a model that takes a tensor of every datatype."""
    body = tmp_path / "income@1"
    with service(tmp_path / "run", {"income@1": (body, write_every_tensor(body))}) as one:
        yield one


@pytest.mark.extras
def test_tensors_of_every_datatype_get_the_same_answers_whichever_way_they_travel(
    running: Running, with_tritonclient: Environment, nowhere: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(ROWS))
    address = f"127.0.0.1:{running.port}"
    done = with_tritonclient.script("triton_tensors.py", address, "income", str(rows), home=nowhere)
    assert done.code == 0, done.err
    told = done.json
    exact = {**ROWS, "FP32": np.array(ROWS["FP32"], dtype=np.float32)}
    wanted = expected(exact)
    for way, answer in told["answers"].items():
        np.testing.assert_allclose(answer["probabilities"], wanted, rtol=0, atol=1e-6, err_msg=way)
        assert answer["label"] == ["<=50K" if row[0] >= row[1] else ">50K" for row in wanted]
    for answer in (answer for way, answer in told["answers"].items() if "all" not in way):
        assert (answer["dtype"], answer["id"]) == ("float32", "a-1")
        assert answer["parameters"] == {"served_by": "income@1", "degraded": False}
    for shares in told["asynchronous"]:
        np.testing.assert_allclose(shares, wanted, rtol=0, atol=1e-6)
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(told["server"]["extensions"])
    _check_pages(told)


def _check_pages(told: dict[str, Any]) -> None:
    (stats,) = told["statistics"]
    assert told["all_statistics"] == [stats]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("income", "1", 27)  # 9 requests of 3 rows
    assert stats["inference_stats"]["success"]["count"] == 9
    assert stats["inference_stats"]["success"]["ns"] > stats["inference_stats"]["compute_infer"]["ns"] > 0
    assert told["index"] == [{"name": "income", "version": "1", "state": "READY", "reason": ""}]
    assert told["trace"]["trace_level"] == ["OFF"]
    refused = told["refused"]
    assert {name: status for name, (status, _) in refused.items()} == {
        "load": "403",
        "unload": "403",
        "trace": "501",
        "version": "404",
        "model": "404",
        "missing": "422",
        "datatype": "422",
    }
    assert "Version `9`" in refused["version"][1]
    assert "`stranger`" in refused["model"][1]
    assert "`bool`: is missing" in refused["missing"][1]
    assert "send `FP32`" in refused["datatype"][1]
