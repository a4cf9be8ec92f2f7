"""The user's own candidate: a function that returns an estimator of scikit-learn's kind, or ONNX bytes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from modelyard.core.arrays import Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import Fitted, TrainingSet
from modelyard.errors import NotConvertible, UsageError

SKL_OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 9
CHECKED_ROWS = 256  # of the training part, on which the graph must answer as the model does
TOLERANCE = 1e-4  # of the largest answer; parity over the test rows is far stricter


class FunctionTrainer:
    """Calls `function(features, target, weight=, names=, classes=, seed=, params=)`.

    `features` is float32 (rows, features) of the encoding "dense". An estimator needs `predict_proba`
    for classification or `predict` for regression; without a converter in skl2onnx it is compared, and cannot
    be sealed. Bytes are an ONNX model of opset 17 or lower from float32 (rows, features) to probabilities
    (rows, classes) or values (rows, 1) as its last output.
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
    wanted = "predict_proba" if data.classes else "predict"
    if isinstance(estimator, type) or not callable(getattr(estimator, wanted, None)):
        raise NotConvertible(
            f"The function returned a {type(estimator).__name__}; wanted a fitted estimator with `{wanted}`, or ONNX "
            "bytes."
        )

    def predict(rows: Singles) -> Floats:
        answer = getattr(estimator, wanted)(np.asarray(rows))
        return _raw(np.asarray(answer, dtype=np.float64), data.classes, len(rows))

    sample = np.asarray(data.features[:CHECKED_ROWS])
    expected = predict(sample)
    try:
        options = {id(estimator): {"zipmap": False}} if data.classes else None
        initial = [("features", FloatTensorType([None, data.features.shape[1]]))]
        model = convert_sklearn(estimator, initial_types=initial, target_opset=SKL_OPSETS, options=options)
        graph = _renamed(model, data)
        _check_answers(graph, sample, expected)
    except Exception as fault:  # noqa: BLE001 - a converter raises anything; it is compared, and cannot be sealed
        told = str(fault) if isinstance(fault, NotConvertible) else f"{type(fault).__name__}: {fault}"
        refusal = f"`{type(estimator).__name__}` has no exact ONNX form: {told[:300]}"
        return Fitted(graph=b"", raw=_raw_kind(data), predict=predict, refusal=refusal)
    return Fitted(graph=graph, raw=_raw_kind(data), predict=predict)


def _from_bytes(given: bytes, data: TrainingSet) -> Fitted:
    try:
        model = onnx.load_model_from_string(given)
        onnx.checker.check_model(model)
        session = ort.InferenceSession(given, providers=["CPUExecutionProvider"])
    except Exception as fault:
        raise NotConvertible(f"The bytes returned are not an ONNX model that runs: {str(fault)[:300]}") from fault
    sources, output = session.get_inputs(), session.get_outputs()[-1].name
    if len(sources) != 1 or sources[0].type != "tensor(float)":
        seen = ", ".join(f"{source.name} {source.type}" for source in sources)
        raise NotConvertible(f"The ONNX model takes {seen}; wanted one input of float32 (rows, features).")

    def predict(rows: Singles) -> Floats:
        answer = session.run([output], {sources[0].name: np.asarray(rows, dtype=np.float32)})[0]
        return _raw(np.asarray(answer, dtype=np.float64), data.classes, len(rows))

    sample = np.asarray(data.features[:CHECKED_ROWS])
    graph = _renamed(model, data)
    _check_answers(graph, sample, predict(sample))
    return Fitted(graph=graph, raw=_raw_kind(data), predict=predict)


def _check_answers(graph: bytes, rows: Singles, expected: Floats) -> None:
    """Raise NotConvertible unless the graph that will be joined answers as the model itself does."""
    try:
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        seen = session.run(["raw"], {"features": rows})[0]
    except Exception as fault:
        raise NotConvertible(f"the graph does not run as a part of another: {str(fault)[:200]}") from fault
    if seen.shape != expected.shape:
        raise NotConvertible(f"the graph answers {seen.shape} to {len(rows)} rows; wanted {expected.shape}")
    furthest = float(np.abs(seen - expected).max(initial=0.0))
    if not furthest <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise NotConvertible(f"the graph answers training rows otherwise than the model, by up to {furthest:.3g}")


def _raw_kind(data: TrainingSet) -> str:
    return "probability" if data.classes else "value"


def _raw(answer: Floats, classes: int, rows: int) -> Floats:
    """Keep the positive class of a binary answer, all classes otherwise; raises NotConvertible for other shapes."""
    wanted = (rows, classes) if classes else (rows, 1)
    if answer.shape != wanted and (classes or answer.shape != (rows,)):
        raise NotConvertible(f"The model answers {rows} rows with the shape {answer.shape}; wanted {wanted}.")
    return answer[:, 1:] if classes == 2 else answer.reshape(wanted)


def _renamed(model: Any, data: TrainingSet) -> bytes:
    """Return the model from `features` to `raw`, every other name prefixed so that it clashes with none."""
    model = _raised(model)
    constants = list(model.graph.initializer)
    held = {tensor.name for tensor in constants}
    source = next(value.name for value in model.graph.input if value.name not in held)
    output = model.graph.output[-1].name
    names = {source: "features", output: "made"}
    for node in model.graph.node:
        node.input[:] = [_rename(name, names) for name in node.input]
        node.output[:] = [_rename(name, names) for name in node.output]
        node.name = _rename(node.name, {})
    for tensor in constants:
        tensor.name = _rename(tensor.name, names)
    # Only the positive class goes on; a regression's values stand in one column whatever shape they came in.
    keep, value = ("Gather", [1]) if data.classes == 2 else ("Reshape", [-1, max(data.classes, 1)])
    constants.append(helper.make_tensor("own_keep", TensorProto.INT64, [len(value)], value))
    last = helper.make_node(
        keep, ["made", "own_keep"], ["raw"], name="own_last", **({"axis": 1} if len(value) == 1 else {})
    )
    outputs = 1 if data.classes <= 2 else data.classes
    graph = helper.make_graph(
        [*model.graph.node, last], "own",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, data.features.shape[1]])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, [None, outputs])],
        constants,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=IR_VERSION)
    return bytes(made.SerializeToString(deterministic=True))


def _raised(model: Any) -> Any:
    """Return the model in the opsets of ours; raises NotConvertible where it holds what cannot be joined."""
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise NotConvertible(f"Node `{node.op_type}` holds a graph of its own, which cannot be joined.")
    if model.functions or model.graph.sparse_initializer:
        raise NotConvertible("The ONNX model holds functions or sparse constants, which cannot be joined.")
    for entry in model.opset_import:
        most = SKL_OPSETS.get(entry.domain)
        if most is None or entry.version > most:
            raise NotConvertible(f"The ONNX model uses opset {entry.version} of `{entry.domain}`; wanted {SKL_OPSETS}.")
    old = next((entry.version for entry in model.opset_import if entry.domain == ""), SKL_OPSETS[""])
    if old == SKL_OPSETS[""]:
        return model
    try:  # an operator may mean another thing in an older opset
        return onnx.version_converter.convert_version(model, SKL_OPSETS[""])
    except Exception as fault:
        raise NotConvertible(f"The ONNX model's opset {old} cannot be raised: {str(fault)[:200]}") from fault


def _rename(name: str, names: Mapping[str, str]) -> str:
    return names.get(name, f"own_{name}") if name else ""
