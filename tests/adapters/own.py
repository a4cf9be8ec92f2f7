"""Functions as users write them, good and bad; the tests name them as `tests.adapters.own:NAME`."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC


def pipeline(features: Any, target: Any, **_: Any) -> Any:
    last = LogisticRegression(max_iter=500) if target.dtype.kind == "i" else Ridge()
    return make_pipeline(StandardScaler(), last).fit(features, target)


def histogram(features: Any, target: Any, **_: Any) -> Any:
    return HistGradientBoostingClassifier(max_iter=5).fit(features, target)


def no_probabilities(features: Any, target: Any, **_: Any) -> Any:
    return LinearSVC().fit(features, target)


def model_bytes(features: Any, target: Any, *, classes: int, params: dict[str, Any], **_: Any) -> bytes:
    """Softmax over the first columns, or the first column; `opset`, `kind` and `outputs` as asked for."""
    width = features.shape[1]
    outputs = params.get("outputs", classes or 1)
    kind = params.get("element", TensorProto.FLOAT)
    weight = np.eye(width, outputs, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["raw", "features"], ["w"]), helper.make_node("Softmax", ["w"], ["p"])]
    if not classes:
        nodes[1] = helper.make_node("Identity", ["w"], ["p"])
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("raw", kind, [None, width])],
        [helper.make_tensor_value_info("p", kind, [None, outputs])],
        [helper.make_tensor("features", TensorProto.FLOAT, weight.shape, weight.reshape(-1))],
    )  # fmt: skip
    opset = [helper.make_opsetid("", params.get("opset", 17))]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def garbage(*_: Any, **__: Any) -> bytes:
    return b"\x00garbage"


def nothing(*_: Any, **__: Any) -> None:
    return None


def unfitted(*_: Any, **__: Any) -> Any:
    return LogisticRegression()


def raising(*_: Any, **__: Any) -> Any:
    raise KeyError("the \udc80 column")


def endless(*_: Any, **__: Any) -> Any:
    while True:
        pass


def hungry(*_: Any, **__: Any) -> Any:
    return [bytearray(50_000_000) for _ in range(10_000)]


def leaving(*_: Any, **__: Any) -> Any:
    os._exit(0)


def exiting(*_: Any, **__: Any) -> Any:
    sys.exit(3)


def segfault(*_: Any, **__: Any) -> Any:
    ctypes.string_at(0)


def killing_the_parent(*_: Any, **__: Any) -> Any:
    os.kill(os.getppid(), 9)
    while True:
        pass


def leaving_a_child(*_: Any, **__: Any) -> Any:
    """Leave a process behind, its id in the file that the environment names."""
    child = os.fork()
    if child == 0:
        while True:
            pass
    with open(os.environ["OWN_CHILD"], "w") as file:  # noqa: PTH123
        file.write(str(child))
    raise RuntimeError("left a process behind")


def talking(features: Any, target: Any, **named: Any) -> Any:
    """Print, and read what there is to read."""
    sys.stdout.write('{"state":"done"}\n')
    sys.stdout.flush()
    os.write(1, b"nonsense\n")
    assert sys.stdin.read() == "" and os.read(0, 10) == b""
    return pipeline(features, target, **named)


def restless(features: Any, target: Any, **named: Any) -> Any:
    """Another model each time."""
    noise = np.frombuffer(os.urandom(8 * len(target)), dtype=np.uint64) / 2**64
    return make_pipeline(StandardScaler(), Ridge()).fit(features, target + 5 * noise)


def two_columns(features: Any, target: Any, **_: Any) -> Any:
    return LinearRegression().fit(features, np.column_stack([target, target]))
