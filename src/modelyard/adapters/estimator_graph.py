"""Fitted estimators as graphs from `features` to `raw`: trees, dense layers, constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper

from modelyard.adapters.onnx_graph import GraphWriter, write_model
from modelyard.core.arrays import Array, Singles

MOST_SUMMED = 300  # trees whose sum float32 carries well
GROUP = 64  # trees summed in float32 where there are more


def round_down(thresholds: Array) -> Singles:
    """Return the largest float32 not above each threshold.

    For every float32 x, x <= t holds exactly when x <= round_down(t) does, so a tree cut in float64
    sends each float32 row down the same path.

    >>> bool(round_down(np.array([0.1]))[0] <= 0.1)
    True
    """
    wide = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):  # beyond float32 is infinity, and one step down its largest number
        single = wide.astype(np.float32)
    above = single.astype(np.float64) > wide
    single[above] = np.nextafter(single[above], np.float32(-np.inf))
    return single


@dataclass
class TreeTable:
    """The nodes of many trees, in the parallel lists that ONNX's tree ensembles are made of."""

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)  # rounded down already
    left: list[int] = field(default_factory=list)  # where x <= threshold
    right: list[int] = field(default_factory=list)
    leaf: list[bool] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    target_tree: list[int] = field(default_factory=list)
    target_node: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)

    def split(
        self, tree: int, node: int, *, feature: int, threshold: float, left: int, right: int, missing_left: bool
    ) -> None:
        self._node(tree, node, feature, threshold, left, right, False, missing_left)

    def end(self, tree: int, node: int, weights: Sequence[tuple[int, float]]) -> None:
        """Add a leaf with what it adds to each target."""
        self._node(tree, node, 0, 0.0, 0, 0, True, False)
        for target, weight in weights:
            self.target_tree.append(tree)
            self.target_node.append(node)
            self.target.append(target)
            self.weight.append(weight)

    def _node(
        self,
        tree: int,
        node: int,
        feature: int,
        threshold: float,
        left: int,
        right: int,
        leaf: bool,
        missing_left: bool,
    ) -> None:
        self.tree.append(tree)
        self.node.append(node)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.left.append(left)
        self.right.append(right)
        self.leaf.append(leaf)
        self.missing_left.append(int(missing_left))


def tree_graph(table: TreeTable, *, features: int, targets: int) -> bytes:
    """Return the graph of summed trees; `raw` is (rows, targets).

    A long sum in float32 loses what 1e-5 of the target's deviation allows. Many trees are therefore
    summed in groups, each a target of its own, and the groups' sums are added in float64.
    """
    count = max(table.tree) + 1
    groups = -(-count // GROUP) if count > MOST_SUMMED else 1
    writer = GraphWriter("trees")
    sums = writer.node(
        "TreeEnsembleRegressor",
        ["features"],
        output="raw" if groups == 1 else None,
        domain="ai.onnx.ml",
        n_targets=targets * groups,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=table.tree,
        nodes_nodeids=table.node,
        nodes_featureids=table.feature,
        nodes_values=table.threshold,
        nodes_hitrates=[1.0] * len(table.tree),
        nodes_modes=["LEAF" if leaf else "BRANCH_LEQ" for leaf in table.leaf],
        nodes_truenodeids=table.left,
        nodes_falsenodeids=table.right,
        nodes_missing_value_tracks_true=table.missing_left,
        target_treeids=table.target_tree,
        target_nodeids=table.target_node,
        target_ids=[
            target if groups == 1 else tree // GROUP * targets + target
            for tree, target in zip(table.target_tree, table.target, strict=True)
        ],
        target_weights=table.weight,
    )
    if groups > 1:
        shape = writer.constant(np.array([-1, groups, targets], dtype=np.int64))
        wide = writer.node("Reshape", [writer.node("Cast", [sums], to=TensorProto.DOUBLE), shape])
        axis = writer.constant(np.array([1], dtype=np.int64))
        writer.node("Cast", [writer.node("ReduceSum", [wide, axis], keepdims=0)], output="raw", to=TensorProto.FLOAT)
    return _model(writer, features, targets)


def dense_graph(layers: Sequence[tuple[Array, Array]], *, activation: str = "Relu") -> bytes:
    """Return the graph of dense layers, each (weights (in, out), bias (out,)), with `activation` between."""
    writer = GraphWriter("dense")
    value = "features"
    for place, (weights, bias) in enumerate(layers):
        last = place == len(layers) - 1
        matrix = writer.constant(np.asarray(weights, dtype=np.float32))
        shift = writer.constant(np.asarray(bias, dtype=np.float32))
        value = writer.node("Gemm", [value, matrix, shift], output="raw" if last else None)
        if not last:
            value = writer.node(activation, [value])
    return _model(writer, len(layers[0][0]), len(layers[-1][1]))


def _model(writer: GraphWriter, features: int, targets: int) -> bytes:
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, features])]
    outputs = [helper.make_tensor_value_info("raw", TensorProto.FLOAT, [None, targets])]
    return write_model(writer, inputs, outputs)
