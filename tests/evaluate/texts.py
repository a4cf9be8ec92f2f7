"""A text-like model whose rows have any length, and a body of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.steps import VERSION, Preprocess, TensorStep
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.release.pack import Parts, pack

WORDS, WIDTH, HIDDEN = 1000, 64, 256


def text_graph(*, layers: int = 2) -> bytes:
    """Return a text-like graph: embeddings of ids, layers of a matrix, the mean over a length that is free."""
    chance = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((chance.normal(size=shape) / shape[0] ** 0.5).astype(np.float32), name)

    sizes = [WIDTH, *([HIDDEN] * layers)]
    nodes, kept, last = [helper.make_node("Gather", ["table", "ids"], ["x0"])], [weights("table", WORDS, WIDTH)], "x0"
    for layer, (wide, out) in enumerate(pairwise(sizes)):
        kept.append(weights(f"w{layer}", wide, out))
        nodes += [
            helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]),
        ]
        last = f"r{layer}"
    kept.append(weights("head", HIDDEN, 1))
    nodes += [
        helper.make_node("ReduceMean", [last], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes, "text", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["rows", 1])], kept,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


def text_body(folder: Path, *, length: int = 7) -> Path:
    """Pack a body of the graph; its golden requests are all of one length."""
    ids = Column(name="ids", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="INT64", shape=(-1,))
    target = Column(name="y", kind=Kind.NUMBER, role=Role.TARGET, nullable=False)
    parts = Parts(
        name="texts", contract=Contract(task=Task.REGRESSION, target="y", columns=(ids, target)),
        preprocess=Preprocess(version=VERSION, steps=(TensorStep(column="ids"),)), graph=text_graph(), threshold=None,
        candidate="by hand", algorithm="by hand", params={}, seed=0, spec_text="name: texts\n",
        spec_canonical=b'{"name":"texts"}', spec_digest="0" * 64, data_digest="1" * 64, code_version="0",
        libraries={}, unknown_category="accept", fallback=({"kind": "refuse"},),
        golden=Columns({"ids": np.random.default_rng(1).integers(1, WORDS, (8, length))}),
    )  # fmt: skip
    body = folder / "body"
    body.mkdir(parents=True)
    pack(parts, body, OnnxLoader())
    return body
