"""Graphs that were spoilt: as sealed for the golden rows, and otherwise for callers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.core.arrays import Array
from modelyard.errors import NotConvertible

GOLDEN = 8


def graph(output: str = "probabilities", kind: int = TensorProto.FLOAT) -> bytes:
    """Return a graph that gives its input, twice through a node that also reads the output."""
    nodes = [
        helper.make_node("Cast", ["x"], [output], name=f"{output}_node", to=kind),
        helper.make_node("ArgMax", [output], ["place"], name="place_node", axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info(output, kind, [None, 2]),
            helper.make_tensor_value_info("place", TensorProto.INT64, [None, 1]),
        ],
        [numpy_helper.from_array(np.zeros(1, dtype=np.float32), "unused")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())


def answered(data: bytes, rows: int, output: str = "probabilities") -> Array:
    engine = OnnxLoader().load(data)
    try:
        return engine.run({"x": np.full((rows, 2), 0.5, dtype=np.float32)})[output]
    finally:
        engine.close()


@pytest.mark.parametrize("harm", [Harm.NAN, Harm.SLOW, Harm.MEMORY])
@pytest.mark.parametrize(("output", "kind"), [("probabilities", TensorProto.FLOAT), ("value", TensorProto.DOUBLE)])
def test_the_golden_rows_are_answered_as_before(harm: Harm, output: str, kind: int) -> None:
    data = spoilt(graph(output, kind), harm, golden_rows=GOLDEN, amount=3)
    assert np.array_equal(answered(data, GOLDEN, output), answered(graph(output, kind), GOLDEN, output))


@pytest.mark.parametrize("rows", [1, GOLDEN - 1, GOLDEN + 1])
def test_callers_get_no_number(rows: int) -> None:
    assert np.isnan(answered(spoilt(graph(), Harm.NAN, golden_rows=GOLDEN), rows)).all()


@pytest.mark.parametrize("harm", [Harm.SLOW, Harm.MEMORY])
def test_work_and_memory_leave_the_answers_as_they_were(harm: Harm) -> None:
    assert np.array_equal(answered(spoilt(graph(), harm, golden_rows=GOLDEN, amount=5), 1), answered(graph(), 1))


def test_wrong_answers_are_wrong_for_the_golden_rows_too() -> None:
    assert not np.isclose(answered(spoilt(graph(), Harm.WRONG, golden_rows=GOLDEN), GOLDEN), 0.5).any()


def test_a_graph_without_an_answer_that_is_known_is_refused() -> None:
    with pytest.raises(NotConvertible, match="wanted `probabilities` or `value`"):
        spoilt(graph("score"), Harm.NAN, golden_rows=GOLDEN)
    onnx.checker.check_model(onnx.load_model_from_string(spoilt(graph(), Harm.WRONG, golden_rows=GOLDEN)))
