"""One release, every door: REST, the protocol, the shell, Python, a plain ONNX Runtime; all say the same."""

from __future__ import annotations

import csv
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from modelyard.app.model import Model
from modelyard.core.evidence import BuildEvidence
from tests.journeys.making import Place, shop_rows
from tests.journeys.shared import copy_of

FEATURES = ["age", "city", "hours"]
ROWS = shop_rows(400, seed=77).select(FEATURES)


@pytest.fixture(scope="module")
def model(shop: Place) -> Iterator[Model]:
    model = shop.app.open("shop@1")
    yield model
    model.close()


@pytest.fixture(scope="module")
def port(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service of the release, in a store of its own."""
    own = copy_of(shop, tmp_path_factory.mktemp("doors"))
    done = own.call("serve", "shop", "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    yield done.json["run"]["port"]
    own.quick("stop", "shop")


def ask(port: int, path: str, body: Any) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        client.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = client.getresponse()
        assert reply.status == 200, reply.read()
        return json.loads(reply.read())


def labels_of(model: Model) -> list[str]:
    answers = model.predict(ROWS.to_dicts())
    assert answers.labels is not None
    return [str(label) for label in answers.labels]


def positive(model: Model) -> np.ndarray[Any, Any]:
    answers = model.predict(ROWS.to_dicts())
    assert answers.probabilities is not None
    return np.asarray(answers.probabilities[:, 1], dtype=np.float64)


def test_the_threshold_meets_the_recall_that_was_asked_for(shop: Place, model: Model) -> None:
    _, evidence, _, _ = shop.app.show("shop@1")
    build = evidence[0][1].payload
    assert isinstance(build, BuildEvidence)
    bar = model.bundle.manifest.threshold
    assert bar is not None and bar != 0.5
    assert "recall" in build.threshold_reason
    recall = next(one for one in build.evaluation.judgements if one.requirement.metric == "recall")
    assert recall.verdict == "pass" and recall.observation.low is not None and recall.observation.low >= 0.8
    said = np.where(positive(model) >= bar, "yes", "no").tolist()
    assert said == labels_of(model)
    assert said != np.where(positive(model) >= 0.5, "yes", "no").tolist()  # so the doors below cannot pass by chance


def test_python_answers_dicts_frames_and_columns_alike(model: Model) -> None:
    wanted = positive(model)
    for rows in (ROWS, ROWS.to_dict(as_series=False), ROWS.to_dicts()):
        answers = model.predict(rows)
        assert answers.probabilities is not None and answers.labels is not None
        assert np.array_equal(answers.probabilities[:, 1], wanted)
        assert list(answers.labels) == labels_of(model)


@pytest.mark.parametrize("path", ["/predict", "/api/v1/shop"])
def test_plain_rows_over_http_answer_as_python_does(path: str, port: int, model: Model) -> None:
    said = ask(port, path, {"rows": ROWS.to_dicts()})["predictions"]
    assert [one["label"] for one in said] == labels_of(model)
    assert np.allclose([one["probabilities"]["yes"] for one in said], positive(model), atol=1e-6)


def test_the_open_inference_protocol_answers_as_python_does(port: int, model: Model) -> None:
    kinds = {"age": "INT64", "city": "BYTES", "hours": "FP64"}
    inputs = [
        {"name": name, "shape": [len(ROWS)], "datatype": kinds[name], "data": ROWS[name].to_list()} for name in FEATURES
    ]
    outputs = {one["name"]: one["data"] for one in ask(port, "/v2/models/shop/infer", {"inputs": inputs})["outputs"]}
    assert outputs["label"] == labels_of(model)
    assert np.allclose(np.reshape(outputs["probabilities"], (-1, 2))[:, 1], positive(model), atol=1e-6)


def test_the_shell_answers_as_python_does(shop: Place, model: Model, tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "rows.parquet")
    out = tmp_path / "out.csv"
    assert shop.quick("predict", "shop", str(tmp_path / "rows.parquet"), "--out", str(out)).code == 0
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert [line["prediction"] for line in lines] == labels_of(model)
    assert np.allclose([float(line["probability yes"]) for line in lines], positive(model), atol=1e-6)


def body_of(shop: Place) -> Path:
    (body,) = (shop.home / "bodies").glob("*/model.onnx")
    return body.parent


def test_a_plain_onnx_runtime_answers_the_raw_named_columns(shop: Place, model: Model) -> None:
    session = ort.InferenceSession(body_of(shop) / "model.onnx", providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == set(FEATURES)
    kinds: dict[str, Any] = {"tensor(string)": object, "tensor(double)": np.float64, "tensor(float)": np.float32}
    feed = {
        one.name: np.array(
            [np.nan if value is None else value for value in ROWS[one.name].to_list()], dtype=kinds[one.type]
        ).reshape(-1, 1)
        for one in session.get_inputs()
    }
    names = [one.name for one in session.get_outputs()]
    said = dict(zip(names, session.run(names, feed), strict=True))
    assert [str(label) for label in said["label"].reshape(-1)] == labels_of(model)
    assert np.allclose(said["probabilities"][:, 1], positive(model), atol=1e-6)


def test_protected_and_id_columns_never_reach_the_model(shop: Place, model: Model, port: int) -> None:
    inputs = {column.name for column in model.bundle.body.contract.features}
    assert inputs == set(FEATURES)
    graph = (body_of(shop) / "model.onnx").read_bytes()
    assert b"sex" not in graph and b"number" not in graph
    both = [{**ROWS.to_dicts()[0], "sex": sex} for sex in ("f", "m")]  # it may travel with the request
    first, second = ask(port, "/predict", {"rows": both})["predictions"]
    assert first == second


def test_the_evidence_says_who_saw_the_test_rows(shop: Place) -> None:
    _, evidence, _, _ = shop.app.show("shop")
    build = evidence[0][1].payload
    assert isinstance(build, BuildEvidence)
    assert [line.split(" of ")[0] for line in build.lineage.test_rows_seen_by] == ["parity", "evaluation"]
    assert all(one.passed and one.rows == build.evaluation.rows for one in build.parity)
    assert [one.between for one in build.parity] == ["pipeline and bundle", "pipeline and served endpoint"]


def altered(place: Place, name: str) -> Path:
    (body,) = (place.home / "bodies").glob(f"*/{name}")
    data = bytearray(body.read_bytes())
    data[len(data) // 2] ^= 1
    body.chmod(0o644)
    body.write_bytes(bytes(data))
    return body


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "manifest.json", "golden.json", "spec.yaml"])
def test_a_release_with_one_byte_changed_is_refused_by_every_door(name: str, shop: Place, tmp_path: Path) -> None:
    own = copy_of(shop, tmp_path)
    body = altered(own, name)
    ROWS.write_parquet(own.folder / "asked.parquet")
    (own.folder / "row.json").write_text(json.dumps(ROWS.to_dicts()[0]))
    for words in (
        ["show", "shop"], ["report", "shop"], ["diff", "shop@1", "shop@1"], ["predict", "shop", "asked.parquet"],
        ["predict", "shop", "row.json"], ["serve", "shop", "--port", "0"], ["serve", "shop", "--port", "0", "--detach"],
    ):  # fmt: skip
        done = own.quick(*words)
        assert (done.code, done.out) == (1, ""), words
        assert f"`{body}`" in done.err and "not what was sealed" in done.err, words
    left = {path.name for path in own.folder.iterdir()}
    assert left == {"asked.parquet", "row.json", "rows.parquet", "system.yaml"}
