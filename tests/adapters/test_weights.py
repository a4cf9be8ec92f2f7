"""Weights in a file of their own: the same answers, pages that processes share, and no way out of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.adapters.onnx_weights import LEAST_BYTES, PAGE_BYTES, split
from modelyard.bundle.format import GRAPH, WEIGHTS
from modelyard.core.arrays import Array
from modelyard.errors import BundleFormat

WIDTH = 256


def looked_up(rows: int = LEAST_BYTES // 4 // WIDTH + 1, *, as_floats: bool = False) -> bytes:
    """Return a graph that looks rows of a large table up, as an embedding does, and scales them."""
    random = np.random.default_rng(5)
    table = random.standard_normal((rows, WIDTH)).astype(np.float32)
    second = random.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    known = numpy_helper.from_array(table, "table")
    if as_floats:
        known = helper.make_tensor("table", TensorProto.FLOAT, table.shape, table.reshape(-1).tolist())
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["row"], axis=0),
            helper.make_node("MatMul", ["row", "second"], ["mixed"]),
            helper.make_node("Softmax", ["mixed"], ["probabilities"], axis=1),
        ],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, WIDTH])],
        [known, numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString(deterministic=True))


def written(folder: Path, graph: bytes, weights: bytes) -> Path:
    (folder / GRAPH).write_bytes(graph)
    (folder / WEIGHTS).write_bytes(weights)
    return folder / GRAPH


def answered(source: Path | bytes) -> Array:
    engine = OnnxLoader().load(source)
    try:
        return np.asarray(engine.run({"x": np.arange(40, dtype=np.int64)})["probabilities"])
    finally:
        engine.close()


@pytest.mark.parametrize("as_floats", [False, True])
def test_the_answers_stay_the_same_bit_by_bit(tmp_path: Path, as_floats: bool) -> None:
    whole = looked_up(as_floats=as_floats)
    graph, weights = split(whole, WEIGHTS)
    assert len(graph) < 10_000 < len(weights)
    np.testing.assert_array_equal(answered(written(tmp_path, graph, weights)), answered(whole))


def test_an_independent_reader_finds_every_weight_at_a_page_of_its_own(tmp_path: Path) -> None:
    whole = looked_up()
    path = written(tmp_path, *split(whole, WEIGHTS))
    found = {one.name: one for one in onnx.load(path).graph.initializer}
    for one in onnx.load_model_from_string(whole).graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(found[one.name]), numpy_helper.to_array(one))
    places = [
        int(entry.value)
        for one in onnx.load(path, load_external_data=False).graph.initializer
        for entry in one.external_data
        if entry.key == "offset"
    ]
    assert len(places) == 2 and not any(place % PAGE_BYTES for place in places)


def test_equal_graphs_give_equal_bytes_and_small_ones_stay_whole() -> None:
    assert split(looked_up(), WEIGHTS) == split(looked_up(), WEIGHTS)
    small = looked_up(rows=10)
    assert split(small, WEIGHTS) == (small, b"")


def test_the_runtime_maps_the_file_so_that_its_pages_are_shared(tmp_path: Path) -> None:
    path = written(tmp_path, *split(looked_up(), WEIGHTS))
    engine = OnnxLoader().load(path)
    maps = Path("/proc/self/smaps").read_text().split("\n")
    engine.close()
    assert any(line.endswith(str(tmp_path / WEIGHTS)) for line in maps)


def test_a_spoilt_graph_still_finds_its_weights(tmp_path: Path) -> None:
    graph, weights = split(looked_up(), WEIGHTS)
    before = answered(written(tmp_path, graph, weights))
    (tmp_path / GRAPH).write_bytes(spoilt(graph, Harm.WRONG, golden_rows=8))
    np.testing.assert_allclose(answered(tmp_path / GRAPH), before / 2 - 0.25, rtol=1e-6)


@pytest.mark.parametrize("place", ["../outside.bin", "/etc/hostname", "missing.bin"])
def test_weights_outside_the_folder_are_not_read(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "body"
    folder.mkdir()
    graph, weights = split(looked_up(), place)
    (tmp_path / "outside.bin").write_bytes(weights)
    (folder / GRAPH).write_bytes(graph)
    with pytest.raises(BundleFormat, match="cannot be loaded"):
        OnnxLoader().load(folder / GRAPH)


def test_a_weights_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    graph, weights = split(looked_up(), WEIGHTS)
    with pytest.raises(BundleFormat, match="cannot be loaded"):
        OnnxLoader().load(written(tmp_path, graph, weights[: len(weights) // 2]))
