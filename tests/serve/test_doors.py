"""Reading requests and writing answers, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle.open import read_body
from modelyard.errors import ContractBroken
from modelyard.serve.batching import Settled
from modelyard.serve.doors import Malformed, Said, TooLarge, depth, fault_records
from modelyard.serve.forms.rows import RowsDoor
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import JSON
from modelyard.serve.v2.door import V2Door, model_metadata
from tests.serve.bodies import ROW, write_body
from tests.serve.tensor_models import asking

SAID = Said("income@1", "income@1", "r1", None)
LIMITS = Limits(most_rows=3, most_depth=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("bodies") / "b"
    write_body(folder)
    return Model("income@1", read_body(folder), LIMITS)


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def infer(**changes: dict[str, Any]) -> bytes:
    inputs = {
        "age": tensor("age", "INT64", [30]),
        "score": tensor("score", "FP64", [1.5]),
        "city": tensor("city", "BYTES", ["Paris"]),
        "seen": tensor("seen", "BYTES", ["2026-01-31T12:00:00Z"]),
    } | changes
    return json.dumps({"inputs": list(inputs.values())}).encode()


def test_rows_are_read_and_answered(model: Model) -> None:
    asked = RowsDoor().read(asking(json.dumps({"rows": [ROW, {**ROW, "city": None}]}).encode()), model)
    settled = Settled(labels=["<=50K", ">50K"], probabilities=[[0.5, 0.5], [0.25, 0.75]])
    data, kind, lines = asked.answer(settled, model, SAID)
    assert (kind, lines) == (JSON, b"")
    assert json.loads(data) == {
        "predictions": [
            {"label": "<=50K", "probabilities": {"<=50K": 0.5, ">50K": 0.5}},
            {"label": ">50K", "probabilities": {"<=50K": 0.25, ">50K": 0.75}},
        ],
        "served_by": "income@1",
        "degraded": False,
        "reason": None,
        "request_id": "r1",
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"rows": {}}', b'{"rows": []}', b'{"rows": [1]}', b'{"rows": [{}], "more": 1}', b"\xff\xfe",
     b'{"rows": [{"age": NaN}]}', b'{"rows": ' + b"[" * 100_000, b'{"rows":[{"a":' + b"[" * 20 + b"]" * 20 + b"}]}"],
)  # fmt: skip
def test_what_is_no_table_of_rows_is_malformed(model: Model, data: bytes) -> None:
    with pytest.raises(Malformed):
        RowsDoor().read(asking(data), model)


def test_a_nested_value_is_a_fault_of_its_column(model: Model) -> None:
    with pytest.raises(ContractBroken) as broken:
        RowsDoor().read(asking(json.dumps({"rows": [ROW, {**ROW, "age": [1]}]}).encode()), model)
    (record,) = fault_records(broken.value.faults)
    assert (record["row"], record["column"]) == (1, "age")


def test_more_rows_than_allowed_are_too_large(model: Model) -> None:
    with pytest.raises(TooLarge):
        RowsDoor().read(asking(json.dumps({"rows": [ROW] * 4}).encode()), model)
    with pytest.raises(TooLarge):
        V2Door().read(asking(infer(age=tensor("age", "INT64", [30] * 4))), model)


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"age": tensor("age", "BYTES", ["x"])}, "age"),
        ({"age": tensor("age", "FP64", [1.5])}, "age"),
        ({"age": tensor("age", "INT64", [None])}, "age"),
        ({"agee": tensor("agee", "INT64", [1])}, "agee"),
        ({"seen": tensor("seen", "BYTES", ["yesterday"])}, "seen"),
    ],
)
def test_the_protocols_door_names_the_column_that_breaks_the_contract(
    model: Model, changes: dict[str, Any], column: str
) -> None:
    with pytest.raises(ContractBroken) as broken:
        V2Door().read(asking(infer(**changes)), model)
    assert column in {record["column"] for record in fault_records(broken.value.faults)}


@pytest.mark.parametrize(
    "change",
    [
        tensor("age", "INT64", [30], [2]),
        tensor("age", "INT64", [30], [1, 2]),
        tensor("age", "INT64", [30], [-1]),
        tensor("age", "INT64", [1.5]),
        tensor("age", "INT64", ["30"]),
        tensor("age", "BOOL", [1]),
        tensor("age", "WORDS", [30]),
        tensor("age", "INT64", [[30, 31]], [1, 2]),
        tensor("age", "INT64", [[30]], [1]),
        tensor("age", "INT64", []),
        {"name": "age"},
        tensor("score", "FP64", [1.0]),  # twice
    ],
)
def test_tensors_that_contradict_themselves_are_malformed(model: Model, change: dict[str, Any]) -> None:
    with pytest.raises((Malformed, ContractBroken)) as raised:
        V2Door().read(asking(infer(age=change)), model)
    assert change["name"] in str(raised.value) or raised.type is Malformed


@pytest.mark.parametrize("shape", [[1], [1, 1]])
@pytest.mark.parametrize("nested", [False, True])
def test_columns_may_be_flat_or_nested_as_their_shape(model: Model, shape: list[int], nested: bool) -> None:
    if nested and len(shape) == 1:
        return
    change = tensor("age", "INT32", [[30]] if nested else [30], shape)
    asked = V2Door().read(asking(infer(age=change)), model)
    assert model.columns(asked.packed, asked.rows)["age"].tolist() == [30.0]


def test_the_id_is_said_back_and_only_the_outputs_asked_for_come(model: Model) -> None:
    request = json.loads(infer()) | {"id": "abc", "parameters": {"tag": 7}, "outputs": [{"name": "probabilities"}]}
    asked = V2Door().read(asking(json.dumps(request).encode()), model)
    settled = Settled(labels=["<=50K"], probabilities=[[0.75, 0.25]])
    said = Said("income@1", "income@1 fallback:constant", "r", "deadline")
    assert json.loads(asked.answer(settled, model, said)[0]) == {
        "model_name": "income",
        "model_version": "1",
        "id": "abc",
        "parameters": {"served_by": "income@1 fallback:constant", "degraded": True, "reason": "deadline"},
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.25]}],
    }


def test_an_output_that_is_not_there_is_malformed(model: Model) -> None:
    request = json.loads(infer()) | {"outputs": [{"name": "shap"}]}
    with pytest.raises(Malformed, match="shap"):
        V2Door().read(asking(json.dumps(request).encode()), model)


def test_metadata_names_the_raw_columns_and_leaves_out_what_no_model_sees(model: Model) -> None:
    metadata = json.loads(model_metadata(model.body, "income", ["1"]))
    assert {item["name"]: item["datatype"] for item in metadata["inputs"]} == {
        "age": "INT64",
        "score": "FP64",
        "city": "BYTES",
        "seen": "BYTES",
    }


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_depth_is_that_of_the_value(value: Any) -> None:
    def deep(item: Any) -> int:
        if isinstance(item, dict):
            return 1 + max((deep(part) for part in item.values()), default=0)
        return 1 + max((deep(part) for part in item), default=0) if isinstance(item, list) else 0

    assert depth(json.dumps(value).encode()) == deep(value)
