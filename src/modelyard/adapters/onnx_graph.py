"""Graphs built with onnx: raw named columns in, labels, probabilities or values out.

The featurizer, the estimator and the head are joined into one graph, so that what turns columns into
features in training is the very same nodes that do it in the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.core.arrays import Array
from modelyard.core.encoding import (
    FARTHEST,
    LEAST_PROBABILITY,
    CategoryFeature,
    Encoding,
    Head,
    IndicatorFeature,
    NumberFeature,
)
from modelyard.errors import NotConvertible

OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 9


class GraphWriter:
    """Collects the nodes and constants of one graph under names that do not clash."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def node(
        self, kind: str, inputs: Sequence[str], *, output: str | None = None, domain: str = "", **facts: object
    ) -> str:
        """Add a node of one output and return the output's name."""
        name = output or self._name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}_node", domain=domain, **facts))
        return name

    def constant(self, value: Array) -> str:
        """Add a constant and return its name."""
        name = self._name("constant")
        if value.dtype == object:
            tensor = helper.make_tensor(name, TensorProto.STRING, value.shape, [v.encode() for v in value.reshape(-1)])
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.constants.append(tensor)
        return name

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{self.prefix}_{stem}_{self._count}"


def write_model(
    writer: GraphWriter, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> bytes:
    """Return the bytes of a checked model; equal calls give equal bytes."""
    graph = helper.make_graph(writer.nodes, "modelyard", list(inputs), list(outputs), writer.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="modelyard", ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def featurizer(encoding: Encoding, widths: Mapping[str, int]) -> bytes:
    """Return a graph from the raw inputs to `features`, float32 (rows, features).

    `widths` gives the columns of each input in the order in which the graph names them.
    """
    writer = GraphWriter("encode")
    _features(writer, encoding, "features")
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(encoding.names)])
    return write_model(writer, _inputs(encoding, widths), [output])


def whole(encoding: Encoding, widths: Mapping[str, int], estimator: bytes, head: Head) -> bytes:
    """Return the graph that is sealed: featurizer, estimator and head in one.

    `estimator` is a model from `features` to `raw`. Raises NotConvertible if it is not.
    """
    writer = GraphWriter("encode")
    _features(writer, encoding, "features")
    model = _estimator(estimator)
    writer.nodes.extend(model.graph.node)
    writer.constants.extend(model.graph.initializer)
    outputs = _head(writer, head)
    try:
        return write_model(writer, _inputs(encoding, widths), outputs)
    except onnx.checker.ValidationError as fault:
        raise NotConvertible(f"The estimator's graph does not fit behind the features: {str(fault)[:300]}") from fault


def _inputs(encoding: Encoding, widths: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
    kinds: dict[str, int] = {}
    for feature in encoding.features:
        if isinstance(feature, NumberFeature):
            kinds.update(dict.fromkeys(feature.sources, TensorProto.DOUBLE))
        elif isinstance(feature, IndicatorFeature):
            kinds[feature.source] = TensorProto.DOUBLE
        else:
            kinds[feature.source] = TensorProto.STRING if isinstance(feature, CategoryFeature) else TensorProto.FLOAT
    return [helper.make_tensor_value_info(name, kinds[name], [None, width]) for name, width in widths.items()]


def _features(writer: GraphWriter, encoding: Encoding, output: str) -> None:
    blocks: list[str] = []
    for feature in encoding.features:
        if isinstance(feature, NumberFeature):
            blocks.extend(_numbers(writer, feature))
        elif isinstance(feature, CategoryFeature):
            blocks.append(_category(writer, feature))
        elif isinstance(feature, IndicatorFeature):
            blocks.append(_indicators(writer, feature))
        else:
            blocks.append(feature.source)
    writer.node("Concat", blocks, output=output, axis=1)


def _numbers(writer: GraphWriter, feature: NumberFeature) -> list[str]:
    sources = feature.sources
    raw = sources[0] if len(sources) == 1 else writer.node("Concat", sources, axis=1)
    shifted = writer.node("Sub", [raw, writer.constant(np.array([feature.shift], dtype=np.float64))])
    scaled = writer.node("Mul", [shifted, writer.constant(np.array([feature.scale], dtype=np.float64))])
    near = writer.node("Clip", [scaled, *(writer.constant(np.array(edge)) for edge in (-FARTHEST, FARTHEST))])
    single = writer.node("Cast", [near], to=TensorProto.FLOAT)
    if feature.fill is None:
        return [single]
    missing = writer.node("IsNaN", [single])
    fill = writer.constant(np.array([feature.fill], dtype=np.float32))
    blocks = [writer.node("Where", [missing, fill, single])]
    if feature.flags:
        places = writer.constant(np.array(feature.flags, dtype=np.int64))
        flagged = writer.node("Gather", [writer.node("Cast", [missing], to=TensorProto.FLOAT), places], axis=1)
        blocks.append(flagged)
    return blocks


def _indicators(writer: GraphWriter, feature: IndicatorFeature) -> str:
    column = writer.node("Gather", [feature.source, writer.constant(np.array([feature.place], dtype=np.int64))], axis=1)
    met = writer.node("Equal", [column, writer.constant(np.array([feature.values], dtype=np.float64))])
    return writer.node("Cast", [met], to=TensorProto.FLOAT)


def _category(writer: GraphWriter, feature: CategoryFeature) -> str:
    keys, table = list(feature.keys) or [""], feature.table or (feature.other,)  # a map without keys is none
    if len(feature.other) == 1:
        return writer.node(
            "LabelEncoder",
            [feature.source],
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_floats=[row[0] for row in table],
            default_float=feature.other[0],
        )
    code = writer.node(
        "LabelEncoder",
        [feature.source],
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=len(keys),
    )
    numbers = writer.constant(np.array([*table, feature.other], dtype=np.float32))
    rows = writer.node("Gather", [numbers, code], axis=0)
    return writer.node("Squeeze", [rows, writer.constant(np.array([1], dtype=np.int64))])


def _estimator(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as fault:
        raise NotConvertible(f"The estimator's bytes are not an ONNX model: {str(fault)[:200]}") from fault
    names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if names != (["features"], ["raw"]):
        raise NotConvertible(f"The estimator's graph goes from {names[0]} to {names[1]}; wanted `features` to `raw`.")
    return model


def _head(writer: GraphWriter, head: Head) -> list[onnx.ValueInfoProto]:
    if head.raw == "value":
        double = writer.node("Cast", ["raw"], to=TensorProto.DOUBLE)
        scaled = writer.node("Mul", [double, writer.constant(np.array([head.slope], dtype=np.float64))])
        writer.node("Add", [scaled, writer.constant(np.array([head.intercept], dtype=np.float64))], output="value")
        return [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None, 1])]
    place = _binary(writer, head) if len(head.classes) == 2 else _multiclass(writer, head)
    names = np.array(head.classes, dtype=object)
    writer.node("Gather", [writer.constant(names), place], output="label", axis=0)
    return [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None, 1]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(head.classes)]),
    ]


def _single(writer: GraphWriter, value: float) -> str:
    return writer.constant(np.array([value], dtype=np.float32))


def _binary(writer: GraphWriter, head: Head) -> str:
    margin = "raw"
    if head.raw == "probability":
        low, high = LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY
        clipped = writer.node("Clip", ["raw", _scalar(writer, low), _scalar(writer, high)])
        against = writer.node("Sub", [_single(writer, 1.0), clipped])
        margin = writer.node("Log", [writer.node("Div", [clipped, against])])
    if (head.slope, head.intercept) != (1.0, 0.0):
        scaled = writer.node("Mul", [margin, _single(writer, head.slope)])
        margin = writer.node("Add", [scaled, _single(writer, head.intercept)])
    positive = writer.node("Sigmoid", [margin])
    negative = writer.node("Sub", [_single(writer, 1.0), positive])
    writer.node("Concat", [negative, positive], output="probabilities", axis=1)
    threshold = 0.5 if head.threshold is None else head.threshold
    above = writer.node("GreaterOrEqual", [positive, _single(writer, threshold)])
    return writer.node("Cast", [above], to=TensorProto.INT64)


def _multiclass(writer: GraphWriter, head: Head) -> str:
    margin = "raw"
    if head.raw == "probability":
        clipped = writer.node("Clip", ["raw", _scalar(writer, LEAST_PROBABILITY), _scalar(writer, 1.0)])
        margin = writer.node("Log", [clipped])
    if head.slope != 1.0:
        margin = writer.node("Mul", [margin, _single(writer, head.slope)])
    writer.node("Softmax", [margin], output="probabilities", axis=1)
    return writer.node("ArgMax", ["probabilities"], axis=1, keepdims=1)


def _scalar(writer: GraphWriter, value: float) -> str:
    return writer.constant(np.array(value, dtype=np.float32))
