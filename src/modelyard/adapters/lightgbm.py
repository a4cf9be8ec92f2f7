"""LightGBM: gradient-boosted trees, told as a graph that takes the very same branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np

from modelyard.adapters.estimator_graph import TreeTable, round_down, tree_graph
from modelyard.core.arrays import Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import HOLDOUT_SHARE, LEAST_HOLDOUT, Fitted, TrainingSet

PATIENCE = 40  # rounds without a better holdout loss


class LightGbmTrainer:
    """Boosted trees: the mean of `bags` models, each stopped early on other rows of the training part.

    What one model keeps apart the others learn from, and the average varies less from seed to seed.
    """

    encoding = "tree"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        outputs = data.classes if data.classes > 2 else 1
        grown = _bags(data, params, seed, threads)

        def predict(features: Singles) -> Floats:
            wide = features.astype(np.float64)
            raw = [
                booster.predict(wide, raw_score=True, num_iteration=trees, num_threads=threads)
                for booster, trees in grown
            ]
            return np.asarray(np.mean(raw, axis=0), dtype=np.float64).reshape(len(features), outputs)

        dumps = [booster.dump_model(num_iteration=trees) for booster, trees in grown]
        return Fitted(
            graph=graph_of(dumps, outputs, features=data.features.shape[1]),
            raw="margin" if data.classes else "value",
            predict=predict,
            facts={"trees": sum(trees for _, trees in grown) * outputs},
        )


def _bags(data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> list[tuple[Any, int]]:
    """Return each bag's booster and the number of its rounds to use."""
    rounds = int(_number(params, "max_trees"))
    rows = len(data.features)
    holdout = int(rows * HOLDOUT_SHARE)
    order = np.random.default_rng(seed).permutation(rows)
    if holdout < LEAST_HOLDOUT:  # nothing to keep apart: the bags would differ by chance alone
        booster = lgb.train(_settings(data, params, seed, threads), _dataset(data, order), num_boost_round=rounds)
        return [(booster, booster.current_iteration())]
    grown = []
    for bag in range(int(_number(params, "bags"))):
        start = bag * holdout % (rows - holdout + 1)
        apart = np.sort(order[start : start + holdout])
        kept = np.sort(np.concatenate([order[:start], order[start + holdout :]]))
        base = _dataset(data, kept)
        booster = lgb.train(
            _settings(data, params, seed + bag, threads),
            base,
            num_boost_round=rounds,
            valid_sets=[_dataset(data, apart, reference=base)],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        grown.append((booster, booster.best_iteration or booster.current_iteration()))
    return grown


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


def graph_of(dumps: Sequence[Mapping[str, Any]], outputs: int, *, features: int) -> bytes:
    """Return the graph of the mean of models dumped by LightGBM; a model's tree i adds to output i modulo `outputs`."""
    table = TreeTable()
    trees = [
        (place % outputs, info["tree_structure"]) for dump in dumps for place, info in enumerate(dump["tree_info"])
    ]
    for number, (output, root) in enumerate(trees):
        _add_tree(table, number, root, output, share=1.0 / len(dumps))
    return tree_graph(table, features=features, targets=outputs)


def _add_tree(table: TreeTable, tree: int, root: Mapping[str, Any], output: int, *, share: float) -> None:
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
            table.end(tree, place, [(output, float(node["leaf_value"]) * share)])
        place += 1
