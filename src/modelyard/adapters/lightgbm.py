"""LightGBM: gradient-boosted trees, told as a graph that takes the very same branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from modelyard.adapters.estimator_graph import TreeTable, round_down, tree_graph
from modelyard.core.arrays import Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import HOLDOUT_SHARE, LEAST_HOLDOUT, Fitted, TrainingSet

PATIENCE = 40  # rounds without a better holdout loss


class LightGbmTrainer:
    """Boosted trees; stops early on rows of the training part that no tree was grown on."""

    encoding = "tree"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        booster, trees = _boost(data, params, seed, threads)
        outputs = data.classes if data.classes > 2 else 1

        def predict(features: Singles) -> Floats:
            raw = booster.predict(features.astype(np.float64), raw_score=True, num_iteration=trees, num_threads=threads)
            return np.asarray(raw, dtype=np.float64).reshape(len(features), outputs)

        graph = graph_of(booster.dump_model(num_iteration=trees), outputs, features=data.features.shape[1])
        return Fitted(
            graph=graph, raw="margin" if data.classes else "value", predict=predict, facts={"trees": trees * outputs}
        )


def _boost(data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> tuple[Any, int]:
    """Return the booster and the number of rounds to use."""
    settings = _settings(data, params, seed, threads)
    rounds = int(_number(params, "max_trees"))
    rows = len(data.features)
    holdout = int(rows * HOLDOUT_SHARE)
    order = np.random.default_rng(seed).permutation(rows)
    if holdout < LEAST_HOLDOUT:
        booster = lgb.train(settings, _dataset(data, order), num_boost_round=rounds)
        return booster, booster.current_iteration()
    kept, apart = np.sort(order[holdout:]), np.sort(order[:holdout])
    grown = _dataset(data, kept)
    booster = lgb.train(
        settings,
        grown,
        num_boost_round=rounds,
        valid_sets=[_dataset(data, apart, reference=grown)],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )
    return booster, booster.best_iteration or booster.current_iteration()


def _dataset(data: TrainingSet, rows: Any, reference: Any = None) -> Any:
    weight = None if data.weight is None else data.weight[rows]
    return lgb.Dataset(
        data.features[rows], data.target[rows], weight=weight, reference=reference, free_raw_data=True,
        feature_name=[f"f{place}" for place in range(data.features.shape[1])],
    )  # fmt: skip


def _settings(data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> dict[str, Any]:
    objective = "regression" if not data.classes else "binary" if data.classes == 2 else "multiclass"
    settings: dict[str, Any] = {
        "objective": objective,
        "learning_rate": _number(params, "learning_rate"),
        "num_leaves": int(_number(params, "num_leaves")),
        "min_data_in_leaf": int(_number(params, "min_leaf_rows")),
        "feature_fraction": _number(params, "feature_share"),
        "bagging_fraction": _number(params, "row_share"),
        "bagging_freq": 1 if _number(params, "row_share") < 1.0 else 0,
        "lambda_l2": _number(params, "l2"),
        "seed": seed % 2**31,
        "num_threads": threads,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    if objective == "multiclass":
        settings["num_class"] = data.classes
    return settings


def _number(params: Mapping[str, ParamValue], name: str) -> float:
    return float(params[name])  # type: ignore[arg-type]


def graph_of(dump: Mapping[str, Any], outputs: int, *, features: int) -> bytes:
    """Return the graph of a model dumped by LightGBM; tree i adds to output i modulo `outputs`."""
    table = TreeTable()
    for tree, info in enumerate(dump["tree_info"]):
        _add_tree(table, tree, info["tree_structure"], tree % outputs)
    return tree_graph(table, features=features, targets=outputs)


def _add_tree(table: TreeTable, tree: int, root: Mapping[str, Any], output: int) -> None:
    """Add one tree's nodes, parents before children, left before right."""
    waiting: list[Mapping[str, Any]] = [root]
    place = 0
    while place < len(waiting):
        node = waiting[place]
        if "split_feature" in node:
            left = len(waiting)
            waiting.extend((node["left_child"], node["right_child"]))
            threshold = float(node["threshold"])
            # Where training saw no missing value, LightGBM reads NaN as zero.
            missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
            table.split(
                tree, place, feature=node["split_feature"], threshold=float(round_down(np.array([threshold]))[0]),
                left=left, right=left + 1, missing_left=bool(missing_left),
            )  # fmt: skip
        else:
            table.end(tree, place, [(output, float(node["leaf_value"]))])
        place += 1
