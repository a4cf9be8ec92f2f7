"""A tiny real bundle that takes a tensor of every datatype, whose answers a few lines of numpy can repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.format import CONTRACT, GOLDEN, GRAPH, MANIFEST, PREPROCESS, REQUIRED, Golden
from modelyard.bundle.steps import Preprocess, TensorStep
from modelyard.core.codec import digest, encode
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from tests.serve.bodies import CLASSES, REFUSE, manifest_of
from tests.serve.tensor_models import tensor_column

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
WORDS = {"a": 1.0, "b": -1.0}  # any other is 0.5
WIDTH = 2  # elements of a row
VARIES = "INT64"  # whose rows are of any size


def name_of(datatype: str) -> str:
    """Return the name of the column of a datatype."""
    return datatype.lower()


def contract() -> Contract:
    columns = [tensor_column(name_of(one), one, -1 if one == VARIES else WIDTH) for one in TYPES]
    columns.append(Column(name="target", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False))
    return Contract(task=Task.BINARY, target="target", columns=tuple(columns), classes=CLASSES)


def expected(tensors: dict[str, Any]) -> list[list[float]]:
    """The probabilities of rows by datatype, by plain arithmetic."""
    logit = np.zeros(len(tensors["BOOL"]))
    for datatype, rows in tensors.items():
        known = [[WORDS.get(word, 0.5) for word in row] for row in rows] if datatype == "BYTES" else rows
        logit += np.asarray(known).astype(np.float64).sum(axis=1) / 16
    positive = 1 / (1 + np.exp(-logit))
    return [[1 - share, share] for share in positive.tolist()]


def graph() -> bytes:
    """logit = the sum of all elements, over 16."""
    constants = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "along"),
        numpy_helper.from_array(np.array(1 / 16), "sixteenth"),
        numpy_helper.from_array(np.array(1.0), "one"),
        numpy_helper.from_array(np.array(CLASSES, dtype=object), "classes"),
    ]
    nodes = [node for datatype in TYPES for node in _summed(datatype)]
    nodes += [
        helper.make_node("Sum", [f"{name_of(datatype)}.sum" for datatype in TYPES], ["total"]),
        helper.make_node("Mul", ["total", "sixteenth"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["probabilities"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["both"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "best"], ["label"], axis=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name_of(datatype), kind, [None, None if datatype == VARIES else WIDTH])
        for datatype, kind in TYPES.items()
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    made = helper.make_graph(nodes, "tensors", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return data


def _summed(datatype: str) -> list[NodeProto]:
    """Return what sums up the elements of a row, as float64."""
    name, nodes = name_of(datatype), []
    source = name
    if datatype == "BYTES":
        source = "bytes.value"
        words = {"keys_strings": list(WORDS), "values_floats": list(WORDS.values()), "default_float": 0.5}
        nodes.append(helper.make_node("LabelEncoder", [name], [source], domain="ai.onnx.ml", **words))
    nodes.append(helper.make_node("Cast", [source], [f"{name}.wide"], to=TensorProto.DOUBLE))
    nodes.append(helper.make_node("ReduceSum", [f"{name}.wide", "along"], [f"{name}.sum"], keepdims=1))
    return nodes


def golden_rows() -> tuple[dict[str, Any], ...]:
    rows = []
    for number in range(2):
        row: dict[str, Any] = {name_of(datatype): [number, number + 1] for datatype in TYPES}
        rows.append(row | {"bool": [True, number == 0], "bytes": ["a", "c"]})
    return tuple(rows)


def write_every_tensor(folder: Path) -> str:
    """Write the bundle into `folder` and return its digest."""
    folder.mkdir(parents=True)
    made, asked, rows = graph(), contract(), golden_rows()
    steps = Preprocess(version=1, steps=tuple(TensorStep(column=name_of(datatype)) for datatype in TYPES))
    outputs = OnnxLoader().load(made).run(steps.apply(check_rows(asked, rows)))
    golden = Golden(
        rows=rows,
        labels=tuple(outputs["label"].tolist()),
        probabilities=tuple(tuple(row) for row in outputs["probabilities"].tolist()),
    )
    files = dict.fromkeys(REQUIRED, b"{}\n") | {  # the service reads no spec
        CONTRACT: encode(asked),
        PREPROCESS: encode(steps),
        GRAPH: made,
        GOLDEN: encode(golden),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = encode(manifest_of(Task.BINARY, [REFUSE], files, "accept"))
    (folder / MANIFEST).write_bytes(manifest)
    return digest(manifest)
