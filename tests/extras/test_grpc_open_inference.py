"""The gRPC door speaks the Open Inference Protocol with a client that is not ours, in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.extras.environments import Environment
from tests.serve.bodies import CLASSES, ROW, expected, write_body
from tests.serve.grpc_front import GrpcFront, grpc_front

AGES = (20, 40, 61, 90)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcFront]:
    folder = tmp_path_factory.mktemp("served")
    digest = write_body(folder / "body")
    with grpc_front(folder / "run", (folder / "body", digest)) as made:
        yield made


@pytest.mark.extras
def test_a_client_of_another_house_gets_the_same_answers(
    front: GrpcFront, with_tritonclient: Environment, nowhere: Path, tmp_path: Path
) -> None:
    rows = [{**ROW, "age": age} for age in AGES]
    named = {name: [row[name] for row in rows] for name in ("age", "score", "city", "seen")}
    (tmp_path / "rows.json").write_text(json.dumps(named))
    done = with_tritonclient.script(
        "triton_grpc_answers.py", front.address, "income", str(tmp_path / "rows.json"), home=nowhere
    )
    assert done.code == 0, done.err
    told = done.json
    assert (told["live"], told["ready"], told["model_ready"], told["version_ready"]) == (True,) * 4
    assert (told["server"]["name"], told["config"], told["statistics"]) == ("modelyard", "income", "income")
    assert told["metadata"]["versions"] == ["1"]
    assert told["index"]["models"] == [{"name": "income", "version": "1", "state": "READY"}]
    assert told["traces"] == ["OFF"]
    assert told["id"] == "asked-1"
    shares = 1 / (1 + np.exp(-np.array(expected(rows))))
    for way in ("outputs", "gzip", "typed"):
        assert told[way]["label"] == [CLASSES[int(share > 0.5)] for share in shares]
        np.testing.assert_allclose(np.array(told[way]["probabilities"])[:, 1], shares, atol=1e-6)
    assert told["many"] == 200
    assert told["stream"][:10] + told["stream"][11:] == [str(place) for place in range(20) if place != 10]
    assert "no model `stranger`" in told["stream"][10]
    assert told["refused"] == {
        "stranger": "StatusCode.NOT_FOUND",
        "version": "StatusCode.NOT_FOUND",
        "output": "StatusCode.INVALID_ARGUMENT",
        "missing": "StatusCode.INVALID_ARGUMENT",
        "load": "StatusCode.PERMISSION_DENIED",
        "unload": "StatusCode.PERMISSION_DENIED",
        "memory": "StatusCode.UNIMPLEMENTED",
    }
