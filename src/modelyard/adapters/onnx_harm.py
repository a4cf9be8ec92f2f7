"""Graphs spoilt on purpose, for drills: right on the golden rows and bad on what callers send.

What spoils a graph looks at the number of rows of a batch: golden requests are asked all at once, callers by ones and
twos. So a spoilt body loads and passes its golden requests, as a release that went wrong unnoticed would.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_graph import GraphWriter
from modelyard.errors import NotConvertible

OUTPUTS = ("probabilities", "value")
SIDE = 192  # of the square matrix that is multiplied to pass the time


class Harm(StrEnum):
    """How a graph is spoilt."""

    NAN = "nan"  # answers are not numbers
    WRONG = "wrong"  # answers are halved, the golden ones too
    SLOW = "slow"  # so many turns of work before an answer
    MEMORY = "memory"  # so many numbers in memory before an answer


def spoilt(graph: bytes, harm: Harm, *, golden_rows: int, amount: int = 0) -> bytes:
    """Return a graph with the same inputs and outputs that does harm.

    Args:
        golden_rows: batches of exactly so many rows are answered as before, but for `WRONG`.
        amount: turns of work for `SLOW`, numbers of four bytes for `MEMORY`.
    Raises: NotConvertible where the graph has neither `probabilities` nor `value`.
    """
    model = onnx.load_model_from_string(graph)
    output = next((one for one in model.graph.output if one.name in OUTPUTS), None)
    if output is None:
        names = ", ".join(one.name for one in model.graph.output)
        raise NotConvertible(f"The graph gives {names}; wanted `probabilities` or `value`.")
    sealed = f"{output.name}_sealed"
    for node in model.graph.node:
        if node.name:
            node.name = f"sealed_{node.name}"  # whoever gives the output from now on may be named as its giver was
        for names in (node.input, node.output):
            names[:] = [sealed if name == output.name else name for name in names]
    writer = GraphWriter("harm")
    kind = output.type.tensor_type.elem_type
    _spoil(writer, harm, sealed, output.name, kind, golden_rows, amount)
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(writer.constants)
    return bytes(model.SerializeToString(deterministic=True))


def _spoil(writer: GraphWriter, harm: Harm, sealed: str, output: str, kind: int, golden_rows: int, amount: int) -> None:
    number = helper.tensor_dtype_to_np_dtype(kind)
    if harm is Harm.WRONG:
        halved = writer.node("Mul", [sealed, writer.constant(np.array(0.5, dtype=number))])
        writer.node("Sub", [halved, writer.constant(np.array(0.25, dtype=number))], output=output)
        return
    shape = writer.node("Shape", [sealed])
    rows = writer.node("Gather", [shape, writer.constant(np.array(0, dtype=np.int64))])
    golden = writer.node("Equal", [rows, writer.constant(np.array(golden_rows, dtype=np.int64))])
    if harm is Harm.NAN:
        writer.node("Where", [golden, sealed, writer.constant(np.array(np.nan, dtype=number))], output=output)
        return
    none = writer.constant(np.array(0, dtype=np.int64))
    turns = writer.node("Where", [golden, none, writer.constant(np.array(amount, dtype=np.int64))])
    made = _work(writer, turns) if harm is Harm.SLOW else _memory(writer, turns)
    nothing = writer.node("Cast", [made], to=kind)  # 0, which the engine cannot know before the work is done
    writer.node("Add", [sealed, nothing], output=output)


def _work(writer: GraphWriter, turns: str) -> str:
    """Return 0 after so many products of matrices."""
    zeros = np.zeros((SIDE, SIDE), dtype=np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["harm_on"], ["harm_goes_on"]),
            helper.make_node("MatMul", ["harm_before", "harm_factor"], ["harm_after"]),
        ],
        "harm_turn",
        [
            helper.make_tensor_value_info("harm_turn_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("harm_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("harm_before", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("harm_goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("harm_after", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [numpy_helper.from_array(zeros, "harm_factor")],
    )
    last = writer.node("Loop", [turns, "", writer.constant(zeros)], body=body)
    return writer.node("ReduceMax", [last], keepdims=0)


def _memory(writer: GraphWriter, count: str) -> str:
    """Return 0 after so many ones, and one more, were held in memory."""
    more = writer.node("Add", [count, writer.constant(np.array([1], dtype=np.int64))])
    one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    ones = writer.node("ConstantOfShape", [more], value=one)
    return writer.node(
        "Sub", [writer.node("ReduceMax", [ones], keepdims=0), writer.constant(np.array(1, dtype=np.float32))]
    )
