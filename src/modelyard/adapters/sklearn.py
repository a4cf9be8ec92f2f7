"""scikit-learn: constant, linear model, forest and small network, told as graphs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor

from modelyard.adapters.estimator_graph import TreeTable, dense_graph, round_down, tree_graph
from modelyard.core.arrays import Array, Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import HOLDOUT_SHARE, LEAST_HOLDOUT, Fitted, TrainingSet


class BaselineTrainer:
    """The share of each class, or the mean: what any other candidate must beat."""

    encoding = "tree"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        del params, seed, threads
        weight = np.ones(len(data.target)) if data.weight is None else data.weight
        if not data.classes:
            constant = np.array([np.average(data.target, weights=weight)])
        else:
            share = np.bincount(data.target, weights=weight, minlength=data.classes) / weight.sum()
            logs = np.log(np.clip(share, 1e-6, None))
            constant = logs[1:] - logs[:1] if data.classes == 2 else logs
        zeros = np.zeros((data.features.shape[1], len(constant)))
        raw = "margin" if data.classes else "value"
        return Fitted(
            graph=_constant_graph(zeros, constant), raw=raw, predict=lambda rows: np.tile(constant, (len(rows), 1))
        )


def _constant_graph(zeros: Array, constant: Array) -> bytes:
    """Return a graph that reads nothing of its features: a missing one must not make the answer NaN."""
    table = TreeTable()
    for output, value in enumerate(constant):
        table.end(output, 0, [(output, float(value))])
    return tree_graph(table, features=len(zeros), targets=len(constant))


class LinearTrainer:
    """Logistic regression or ridge."""

    encoding = "dense"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        del threads
        features = data.features.astype(np.float64)
        strength = float(params["strength"])  # type: ignore[arg-type]
        model: Any
        if not data.classes:
            model = Ridge(alpha=strength, random_state=seed % 2**31).fit(features, data.target, data.weight)
            weights, bias = model.coef_.reshape(-1, 1), np.atleast_1d(model.intercept_)
        else:
            model = LogisticRegression(C=1.0 / strength, max_iter=300, random_state=seed % 2**31)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the validation rows judge it
                model.fit(features, data.target, data.weight)
            weights, bias = model.coef_.T, model.intercept_

        def predict(rows: Singles) -> Floats:
            answer = model.decision_function if data.classes else model.predict
            return np.asarray(answer(rows.astype(np.float64)), dtype=np.float64).reshape(len(rows), -1)

        return Fitted(graph=dense_graph([(weights, bias)]), raw="margin" if data.classes else "value", predict=predict)


class ForestTrainer:
    """A random forest; the number of nodes is bounded by the depth and the rows of a leaf."""

    encoding = "tree"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        depth = params.get("max_depth")
        settings: dict[str, Any] = {
            "n_estimators": int(params["trees"]),  # type: ignore[arg-type]
            "max_depth": None if depth is None else int(depth),
            "min_samples_leaf": int(params["min_leaf_rows"]),  # type: ignore[arg-type]
            "max_features": float(params["feature_share"]),  # type: ignore[arg-type]
            "n_jobs": threads,
            "random_state": seed % 2**31,
        }
        model = RandomForestClassifier(**settings) if data.classes else RandomForestRegressor(**settings)
        model.fit(data.features, data.target, data.weight)
        binary = data.classes == 2

        def predict(rows: Singles) -> Floats:
            if not data.classes:
                return np.asarray(model.predict(rows)).reshape(-1, 1)
            shares = np.asarray(model.predict_proba(rows))
            return shares[:, 1:] if binary else shares

        graph = _forest_graph(model, data)
        return Fitted(graph=graph, raw="probability" if data.classes else "value", predict=predict)


def _forest_graph(model: Any, data: TrainingSet) -> bytes:
    table = TreeTable()
    trees = [estimator.tree_ for estimator in model.estimators_]
    for number, tree in enumerate(trees):
        thresholds = round_down(tree.threshold)
        missing_left = tree.missing_go_to_left
        for node in range(tree.node_count):
            if tree.children_left[node] == -1:
                table.end(number, node, _leaf(tree.value[node], data.classes, len(trees)))
            else:
                table.split(
                    number, node, feature=int(tree.feature[node]), threshold=float(thresholds[node]),
                    left=int(tree.children_left[node]), right=int(tree.children_right[node]),
                    missing_left=bool(missing_left[node]),
                )  # fmt: skip
    return tree_graph(table, features=data.features.shape[1], targets=data.classes if data.classes > 2 else 1)


def _leaf(value: Array, classes: int, trees: int) -> list[tuple[int, float]]:
    """Return what a leaf adds: its mean, or its class shares, over the number of trees."""
    if not classes:
        return [(0, float(value[0, 0]) / trees)]
    shares = value[0] / value[0].sum()
    if classes == 2:
        return [(0, float(shares[1]) / trees)]
    return [(place, float(share) / trees) for place, share in enumerate(shares) if share > 0.0] or [(0, 0.0)]


class NetworkTrainer:
    """A small multilayer perceptron with early stopping."""

    encoding = "dense"

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        del threads
        apart = int(len(data.features) * HOLDOUT_SHARE)
        rarest = int(np.bincount(data.target, minlength=data.classes).min()) if data.classes else apart
        stop = apart >= max(LEAST_HOLDOUT, data.classes) and rarest >= 2  # each class on both sides
        settings: dict[str, Any] = {
            "hidden_layer_sizes": tuple(int(size) for size in str(params["hidden"]).split("x")),
            "learning_rate_init": float(params["learning_rate"]),  # type: ignore[arg-type]
            "batch_size": min(int(params["batch_size"]), len(data.features)),  # type: ignore[arg-type]
            "max_iter": int(params["epochs"]),  # type: ignore[arg-type]
            "alpha": float(params["l2"]),  # type: ignore[arg-type]
            "early_stopping": stop,
            "validation_fraction": HOLDOUT_SHARE,
            "n_iter_no_change": 5,
            "random_state": seed % 2**31,
        }
        model = MLPClassifier(**settings) if data.classes else MLPRegressor(**settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the validation rows judge it
            model.fit(data.features, data.target, sample_weight=data.weight)
        layers = [(np.asarray(w), np.asarray(b)) for w, b in zip(model.coefs_, model.intercepts_, strict=True)]

        def predict(rows: Singles) -> Floats:
            value = rows.astype(np.float64)
            for place, (weights, bias) in enumerate(layers):
                value = value @ weights.astype(np.float64) + bias.astype(np.float64)
                if place < len(layers) - 1:
                    value = np.maximum(value, 0.0)
            return np.asarray(value)

        return Fitted(graph=dense_graph(layers), raw="margin" if data.classes else "value", predict=predict,
                      facts={"epochs": int(model.n_iter_)})  # fmt: skip
