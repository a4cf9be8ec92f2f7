"""Tiny real bundles: graphs made by hand, whose answers a few lines of numpy can repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.check import check_rows
from modelyard.bundle.format import CONTRACT, GOLDEN, GRAPH, MANIFEST, PREPROCESS, REQUIRED, FileEntry, Golden, Manifest
from modelyard.bundle.steps import DateStep, NumberStep, Preprocess, StringStep
from modelyard.core.codec import digest, encode
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task

CLASSES = ("<=50K", ">50K")
CITIES = {"Paris": 0.5, "Oslo": -0.5, "<missing>": 0.0}
AGES = 201  # an age beyond the table makes the graph raise
CONSTANT: dict[str, Any] = {"kind": "constant", "label": "<=50K", "probabilities": {"<=50K": 0.75, ">50K": 0.25}}
REFUSE: dict[str, Any] = {"kind": "refuse"}
GOLDEN_ROWS: tuple[dict[str, Any], ...] = (
    {"age": 30, "score": 1.5, "city": "Paris", "seen": "2026-01-31T12:00:00Z"},
    {"age": 61, "score": -2.25, "city": None, "seen": "2025-06-01T03:30:00Z", "sex": "Female"},
    {"age": 45, "score": 0.0, "city": "Oslo", "seen": "2026-11-20T23:59:59Z"},
)
ROW = GOLDEN_ROWS[0]


def contract(task: Task = Task.BINARY) -> Contract:
    columns = (
        Column(name="age", kind=Kind.INTEGER, role=Role.FEATURE, nullable=False, minimum=17, maximum=90),
        Column(name="score", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True),
        Column(
            name="city", kind=Kind.CATEGORY, role=Role.FEATURE, nullable=True, categories=("Paris", "Oslo"), distinct=2
        ),
        Column(name="seen", kind=Kind.DATETIME, role=Role.FEATURE, nullable=False),
        Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=True, categories=("Female", "Male")),
        Column(name="target", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False),
    )
    classes = () if task is Task.REGRESSION else CLASSES
    return Contract(task=task, target="target", columns=columns, classes=classes)


def expected(rows: Sequence[Mapping[str, Any]], *, shift: float = 0.0) -> list[float]:
    """The logit of each row, by plain arithmetic."""
    return [
        (row["age"] - 40) / 20
        + shift
        + 0.25 * row["score"]
        + CITIES.get(row["city"] or "<missing>", 0.125)
        + 0.01 * int(row["seen"][11:13])
        for row in rows
    ]


def graph(task: Task = Task.BINARY, *, shift: float = 0.0) -> bytes:
    """logit = table[age] + score / 4 + effect[city] + hour / 100."""
    table = ((np.arange(AGES) - 40) / 20 + shift).astype(np.float64)
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array(0.25), "quarter"),
        numpy_helper.from_array(np.array(0.01), "hundredth"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Cast", ["age"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["by_age"], axis=0),
        helper.make_node("Mul", ["score", "quarter"], ["by_score"]),
        helper.make_node(
            "LabelEncoder",
            ["city"],
            ["effect"],
            domain="ai.onnx.ml",
            keys_strings=list(CITIES),
            values_floats=list(CITIES.values()),
            default_float=0.125,
        ),
        helper.make_node("Cast", ["effect"], ["by_city"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["seen.parts", "hundredth"], ["by_hour"]),
        helper.make_node("Sum", ["by_age", "by_score", "by_city", "by_hour"], ["logit"]),
    ]
    if task is Task.REGRESSION:
        nodes.append(helper.make_node("Reshape", ["logit", "flat"], ["value"]))
        outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None])]
    else:
        constants += [
            numpy_helper.from_array(np.array(1.0), "one"),
            numpy_helper.from_array(np.array(CLASSES, dtype=object), "classes"),
        ]
        nodes += [
            helper.make_node("Sigmoid", ["logit"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["both"], axis=1),
            helper.make_node("Cast", ["both"], ["probabilities"], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", ["both"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "best"], ["label"], axis=0),
        ]
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ]
    inputs = [
        helper.make_tensor_value_info("age", TensorProto.DOUBLE, [None, 1]),
        helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None, 1]),
        helper.make_tensor_value_info("city", TensorProto.STRING, [None, 1]),
        helper.make_tensor_value_info("seen.parts", TensorProto.DOUBLE, [None, 1]),
    ]
    made = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return data


def write_body(
    folder: Path,
    *,
    task: Task = Task.BINARY,
    fallback: Sequence[Mapping[str, Any]] = (CONSTANT,),
    shift: float = 0.0,
    golden_is_wrong: bool = False,
    unknown_category: str = "accept",
) -> str:
    """Write a bundle into `folder` and return its digest."""
    folder.mkdir(parents=True)
    made = graph(task, shift=shift)
    steps = Preprocess(
        version=1,
        steps=(
            NumberStep(column="age"),
            NumberStep(column="score"),
            StringStep(column="city"),
            DateStep(column="seen", parts=("hour",)),
        ),
    )
    engine = OnnxLoader().load(made)
    outputs = engine.run(steps.apply(check_rows(contract(task), GOLDEN_ROWS)))
    off = 0.5 if golden_is_wrong else 0.0
    if task is Task.REGRESSION:
        golden = Golden(rows=GOLDEN_ROWS, values=tuple(float(value) + off for value in outputs["value"]))
    else:
        golden = Golden(
            rows=GOLDEN_ROWS,
            labels=tuple(outputs["label"].tolist()),
            probabilities=tuple(tuple(share + off for share in row) for row in outputs["probabilities"].tolist()),
        )
    files = dict.fromkeys(REQUIRED, b"{}\n") | {  # the service reads no spec
        CONTRACT: encode(contract(task)),
        PREPROCESS: encode(steps),
        GRAPH: made,
        GOLDEN: encode(golden),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = encode(manifest_of(task, fallback, files, unknown_category))
    (folder / MANIFEST).write_bytes(manifest)
    return digest(manifest)


def manifest_of(
    task: Task, fallback: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], unknown_category: str
) -> Manifest:
    nothing = hashlib.sha256(b"").hexdigest()
    return Manifest(
        format=1,
        name="income",
        task=task,
        target="target",
        classes=() if task is Task.REGRESSION else CLASSES,
        threshold=None,
        candidate="by hand",
        algorithm="by hand",
        params={},
        seed=0,
        spec_digest=nothing,
        data_digest=nothing,
        code_version="0",
        libraries={"onnx": onnx.__version__},
        unknown_category=unknown_category,
        fallback=tuple(dict(entry) for entry in fallback),
        files={name: FileEntry(size=len(data), sha256=digest(data)) for name, data in files.items()},
    )
