"""A tiny real bundle over tensors, whose answers a line of numpy can repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.format import CONTRACT, GOLDEN, GRAPH, MANIFEST, PREPROCESS, REQUIRED, Golden
from modelyard.bundle.steps import NumberStep, Preprocess, TensorStep
from modelyard.core.codec import digest, encode
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from tests.serve.bodies import manifest_of
from tests.serve.tensor_models import tensor_column

WEIGHTS = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
ROWS: tuple[dict[str, Any], ...] = (
    {"x": [[1, 2, 3], [4, 5, 6]], "ids": [3, 4], "age": 30},
    {"x": [[0.5, 0, 0], [0, 0, -1]], "ids": [7, 0], "age": 61},
)
BAD = {"x": [[0, 0, 0], [0, 0, 0]], "ids": [1, 10_000], "age": 30}  # an id beyond the graph's table makes it raise
IDS = 100


def contract() -> Contract:
    """A fixed image, a text's ids of any length, and a plain number."""
    age = Column(name="age", kind=Kind.NUMBER, role=Role.FEATURE, nullable=False)
    target = Column(name="target", kind=Kind.NUMBER, role=Role.TARGET, nullable=False)
    columns = (tensor_column("x", "FP32", 2, 3), tensor_column("ids", "INT64", -1), age, target)
    return Contract(task=Task.REGRESSION, target="target", columns=columns)


def expected(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Each row's value: the weighted sum of x, the mean square of the ids, and a tenth of the age."""
    return [
        float((np.array(row["x"], dtype=np.float64) * WEIGHTS).sum())
        + float(np.mean(np.array(row["ids"], dtype=np.float64) ** 2))
        + row["age"] / 10
        for row in rows
    ]


def graph() -> bytes:
    constants = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array((np.arange(IDS) ** 2).astype(np.float32), "squares"),
        numpy_helper.from_array(np.array(0.1), "tenth"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["mean_x"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["mean_x"], ["mean_x.double"], to=TensorProto.DOUBLE),
        helper.make_node("Gather", ["squares", "ids"], ["squared"], axis=0),
        helper.make_node("ReduceMean", ["squared"], ["mean_ids"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["mean_ids"], ["mean_ids.double"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["age", "tenth"], ["by_age"]),
        helper.make_node("Reshape", ["by_age", "flat"], ["by_age.flat"]),
        helper.make_node("Mul", ["mean_x.double", "six"], ["sum_x"]),
        helper.make_node("Sum", ["sum_x", "mean_ids.double", "by_age.flat"], ["value"]),
    ]
    constants.append(numpy_helper.from_array(np.array(6.0), "six"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 3]),
        helper.make_tensor_value_info("ids", TensorProto.INT64, [None, None]),
        helper.make_tensor_value_info("age", TensorProto.DOUBLE, [None, 1]),
    ]
    outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None])]
    made = helper.make_graph(nodes, "tensors", inputs, outputs, constants)
    data: bytes = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString()
    return data


def write_tensor_body(folder: Path) -> str:
    """Write the bundle into `folder` and return its digest."""
    steps = Preprocess(version=1, steps=(TensorStep(column="x"), TensorStep(column="ids"), NumberStep(column="age")))
    outputs = OnnxLoader().load(graph()).run(steps.apply(check_rows(contract(), ROWS)))
    np.testing.assert_allclose(outputs["value"], expected(ROWS), rtol=1e-6)
    return write_sealed(folder, contract(), steps, graph(), ROWS)


def write_sealed(
    folder: Path, contract: Contract, steps: Preprocess, graph: bytes, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Write the bundle of a regression graph, with these golden rows, and return its digest."""
    folder.mkdir(parents=True)
    outputs = OnnxLoader().load(graph).run(steps.apply(check_rows(contract, rows)))
    golden = Golden(rows=tuple(dict(row) for row in rows), values=tuple(outputs["value"].tolist()))
    files = dict.fromkeys(REQUIRED, b"{}\n") | {
        CONTRACT: encode(contract),
        PREPROCESS: encode(steps),
        GRAPH: graph,
        GOLDEN: encode(golden),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = encode(manifest_of(Task.REGRESSION, [{"kind": "constant", "value": -1.5}], files, "accept"))
    (folder / MANIFEST).write_bytes(manifest)
    return digest(manifest)
