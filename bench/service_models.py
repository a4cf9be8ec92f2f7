"""The models that the service is measured with, sealed as releases: the peers' own graphs, answered with a class.

The peers' harness writes `NAME.onnx` with one input `x`. A release answers a question, so that a graph that ends in
logits, or in an embedding, gets a head: a softmax, behind a fixed projection where there are no classes. What ONNX
Runtime is measured with in process is the very same graph.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_weights import split
from modelyard.app.spawn import spawn
from modelyard.bundle.format import WEIGHTS
from modelyard.bundle.steps import VERSION, Preprocess, TensorStep
from modelyard.core.arrays import Columns
from modelyard.core.clock import SystemClock, stamp
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.evidence import Evidence
from modelyard.core.machine import fingerprint
from modelyard.core.metrics import Task
from modelyard.flow.sweep import sweep_body
from modelyard.release.pack import Parts, pack
from modelyard.spec.load import load
from modelyard.store.open import open_store

SPEC = """modelyard: 1
name: {name}
goal: Answer requests of one row while the service is measured.
task: {{type: classification, target: y}}
data: {{path: rows.csv}}
requirements: [{{metric: accuracy, at_least: 0.1}}]
serving: {serving}
"""


@dataclass(frozen=True)
class Kindred:
    """One of the harness's models."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    classes: int


MODELS = {
    "tabular": Kindred("tabular", "FP32", (30,), 2),
    "mlp": Kindred("mlp", "FP32", (30,), 2),
    "cnn": Kindred("cnn", "FP32", (3, 224, 224), 1000),
    "encoder": Kindred("encoder", "INT64", (128,), 2),
}


def graph(folder: Path, model: Kindred) -> bytes:
    """Return the harness's graph with `label` (text) and `probabilities` as its outputs."""
    made = onnx.load(folder / f"{model.name}.onnx")
    nodes, constants = made.graph.node, made.graph.initializer
    names = [output.name for output in made.graph.output]
    if "probabilities" in names:
        source = "probabilities"
        for node in nodes:
            node.output[:] = ["number" if name == "label" else name for name in node.output]
        place = "number"
    else:
        source = _scores(made, model, names[0])
        nodes.append(helper.make_node("ArgMax", [source], ["place"], axis=1, keepdims=0))
        place = "place"
    constants.append(numpy_helper.from_array(np.array(_classes(model), dtype=object), "names"))
    nodes.append(helper.make_node("Gather", ["names", place], ["label"], axis=0))
    del made.graph.output[:]
    made.graph.output.extend(
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, model.classes]),
        ]
    )
    data: bytes = made.SerializeToString()
    return data


def _scores(made: onnx.ModelProto, model: Kindred, output: str) -> str:
    if model.name == "mlp":  # it ends in a softmax already
        made.graph.node.append(helper.make_node("Identity", [output], ["probabilities"]))
        return "probabilities"
    if model.name == "encoder":
        weights = np.random.default_rng(11).standard_normal((384, model.classes)).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(weights, "head"))
        made.graph.node.append(helper.make_node("MatMul", [output, "head"], ["logits"]))
        output = "logits"
    made.graph.node.append(helper.make_node("Softmax", [output], ["probabilities"], axis=1))
    return "probabilities"


def _classes(model: Kindred) -> list[str]:
    return [f"class {place}" for place in range(model.classes)]


def rows(model: Kindred, count: int) -> np.ndarray:
    """Return inputs of the model, always the same."""
    random = np.random.default_rng(7)
    if model.datatype == "INT64":
        return random.integers(0, 30522, (count, *model.shape))
    return random.standard_normal((count, *model.shape), np.float32)


def seal(models: Path, home: Path, name: str, *, serving: str = "{}", deadline_ms: float = 1000.0) -> str:
    """Seal one of the models in a store, with the sweep that a build makes; return the release.

    `deadline_ms` is the one that the spec's serving section states.
    """
    model = MODELS[name]
    column = Column(
        name="x", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype=model.datatype, shape=model.shape
    )
    contract = Contract(
        task=Task.BINARY if model.classes == 2 else Task.MULTICLASS,
        target="y",
        columns=(column, Column(name="y", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False)),
        classes=tuple(_classes(model)),
    )
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "system.yaml"
        (Path(made) / "rows.csv").write_text("x,y\n1,a\n2,b\n")
        path.write_text(SPEC.format(name=name, serving=serving))
        spec = load(path)
        body = Path(made) / "body"
        body.mkdir()
        whole, weights = split(graph(models, model), WEIGHTS)
        pack(
            Parts(
                name=name,
                contract=contract,
                preprocess=Preprocess(version=VERSION, steps=(TensorStep(column="x"),)),
                graph=whole,
                weights=weights,
                threshold=None,
                candidate="given",
                algorithm="onnx",
                params={},
                seed=0,
                spec_text=spec.text,
                spec_canonical=spec.spec.canonical(),
                spec_digest=spec.digest,
                data_digest="0" * 64,
                code_version="0",
                libraries={"onnx": onnx.__version__},
                unknown_category="accept",
                fallback=({"kind": "refuse"},),
                golden=Columns({"x": rows(model, 1 if name == "cnn" else 4)}),
            ),
            body,
            OnnxLoader(),
        )
        store = open_store(home, database_url=None, user="bench", environment="bench", change_ticket=None,
                           command="bench", clock=SystemClock(), quota_bytes=None)  # fmt: skip
        try:
            release = store.releases.seal(name, body, [], headline="given", spec_digest=spec.digest)
            sweep = sweep_body(
                body, rows=None, deadline_ms=deadline_ms, requirements=(), machine=fingerprint(), spawn=spawn
            )
            clock = SystemClock()
            record = Evidence(release=str(release.id), body=release.body, recorded=stamp(clock.now()), payload=sweep)
            store.releases.evidence(release.id, append=record)
            return str(release.id)
        finally:
            store.close()
