"""The user's own candidate: a function that returns an estimator of scikit-learn's kind, or ONNX bytes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from modelyard.core.arrays import Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import Fitted, TrainingSet
from modelyard.errors import NotConvertible, UsageError

SKL_OPSETS = {"": 17, "ai.onnx.ml": 3}


class FunctionTrainer:
    """Calls `function(features, target, weight=, names=, classes=, seed=, params=)`.

    `features` is float32 (rows, features) of the encoding "dense". An estimator needs `predict_proba`
    for classification or `predict` for regression and a converter in skl2onnx; bytes are an ONNX model
    from float32 (rows, features) to probabilities (rows, classes) or values (rows, 1).
    """

    encoding = "dense"

    def __init__(self, function: str, path: str | None) -> None:
        self._function, self._path = function, path

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        del threads
        made = self._resolve()(
            np.asarray(data.features), data.target, weight=data.weight, names=data.names, classes=data.classes,
            seed=seed, params=dict(params),
        )  # fmt: skip
        if isinstance(made, bytes):
            return _from_bytes(made, data)
        return _from_estimator(made, data)

    def _resolve(self) -> Any:
        module, colon, name = self._function.partition(":")
        if self._path is not None and self._path not in sys.path:
            sys.path.insert(0, self._path)
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as fault:
            raise UsageError(
                f"`{self._function}` cannot be loaded{'' if colon else ' (wanted module:function)'}: {fault}."
            ) from fault


def _from_estimator(estimator: Any, data: TrainingSet) -> Fitted:
    width = data.features.shape[1]
    try:
        options = {id(estimator): {"zipmap": False}} if data.classes else None
        initial = [("features", FloatTensorType([None, width]))]
        model = convert_sklearn(estimator, initial_types=initial, target_opset=SKL_OPSETS, options=options)
    except Exception as fault:
        raise NotConvertible(f"`{type(estimator).__name__}` has no exact ONNX form: {str(fault)[:300]}") from fault

    def predict(rows: Singles) -> Floats:
        if data.classes:
            return _raw(np.asarray(estimator.predict_proba(np.asarray(rows)), dtype=np.float64), data.classes)
        return np.asarray(estimator.predict(np.asarray(rows)), dtype=np.float64).reshape(-1, 1)

    graph = _renamed(model, model.graph.output[-1].name, data.classes)
    return Fitted(graph=graph, raw=_raw_kind(data), predict=predict)


def _from_bytes(graph: bytes, data: TrainingSet) -> Fitted:
    try:
        model = onnx.load_model_from_string(graph)
        onnx.checker.check_model(model)
    except Exception as fault:
        raise NotConvertible(f"The bytes returned are not an ONNX model: {str(fault)[:300]}") from fault
    if len(model.graph.input) != 1:
        raise NotConvertible(f"The ONNX model has {len(model.graph.input)} inputs; wanted one, (rows, features).")
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    source, output = model.graph.input[0].name, model.graph.output[-1].name

    def predict(rows: Singles) -> Floats:
        answer = session.run([output], {source: np.asarray(rows, dtype=np.float32)})[0]
        return _raw(np.asarray(answer, dtype=np.float64), data.classes)

    return Fitted(graph=_renamed(model, output, data.classes), raw=_raw_kind(data), predict=predict)


def _raw_kind(data: TrainingSet) -> str:
    return "probability" if data.classes else "value"


def _raw(answer: Floats, classes: int) -> Floats:
    """Keep the positive class of a binary answer, all classes otherwise."""
    if classes and answer.shape[-1] != classes:
        raise NotConvertible(f"The model answers {answer.shape[-1]} columns; wanted {classes}, one a class.")
    return answer[:, 1:] if classes == 2 else answer.reshape(len(answer), -1)


def _renamed(model: Any, output: str, classes: int) -> bytes:
    """Return the model from `features` to `raw`, every other name prefixed so that it clashes with none."""
    source = model.graph.input[0].name
    names = {source: "features", output: "made"} if classes == 2 else {source: "features", output: "raw"}
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise NotConvertible(f"Node `{node.op_type}` holds a graph of its own, which cannot be joined.")
        node.input[:] = [_rename(name, names) for name in node.input]
        node.output[:] = [_rename(name, names) for name in node.output]
        node.name = _rename(node.name, {})
    for tensor in model.graph.initializer:
        tensor.name = _rename(tensor.name, names)
    nodes, constants = list(model.graph.node), list(model.graph.initializer)
    if classes == 2:  # only the positive class goes on
        constants.append(helper.make_tensor("own_positive", TensorProto.INT64, [1], [1]))
        nodes.append(helper.make_node("Gather", ["made", "own_positive"], ["raw"], name="own_gather", axis=1))
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    graph = helper.make_graph(
        nodes, "own",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width or None])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, None)],
        constants,
    )  # fmt: skip
    _check_opsets(model)
    return bytes(helper.make_model(graph, opset_imports=model.opset_import).SerializeToString(deterministic=True))


def _check_opsets(model: Any) -> None:
    for entry in model.opset_import:
        most = SKL_OPSETS.get(entry.domain)
        if most is None or entry.version > most:
            raise NotConvertible(f"The ONNX model uses opset {entry.version} of `{entry.domain}`; wanted {SKL_OPSETS}.")


def _rename(name: str, names: Mapping[str, str]) -> str:
    return names.get(name, f"own_{name}") if name else ""
