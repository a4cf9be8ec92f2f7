"""The user's own function: what becomes a graph, what is compared only, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from modelyard.adapters.function import FunctionTrainer
from modelyard.core.encoding import Head
from modelyard.core.metrics import Task
from modelyard.core.training import Fitted
from modelyard.errors import NotConvertible, UsageError
from tests.adapters.making import Made, make, table


def fit(name: str, made: Made, params: dict[str, Any] | None = None) -> Fitted:
    return FunctionTrainer(f"tests.adapters.own:{name}", None).fit(made.training_set(), params or {}, seed=1, threads=1)


def head(made: Made) -> Head:
    return Head(raw="probability" if made.classes else "value", classes=made.contract.classes)


@pytest.mark.parametrize("task", tuple(Task))
def test_a_pipeline_becomes_a_graph_that_answers_as_it_does(task: Task) -> None:
    made = make("dense", task)
    fitted = fit("pipeline", made)
    rows = table(200, 3, missing=False)
    raw = fitted.predict(made.features(made.steps.apply(rows)))
    answers = made.answers(fitted.graph, head(made), rows)
    if task is Task.REGRESSION:
        assert np.abs(answers["value"] - raw).max() < 1e-5
    elif task is Task.BINARY:
        assert np.abs(answers["probabilities"][:, 1:] - raw.clip(1e-3, 1 - 1e-3)).max() < 1e-5
    else:
        clipped = raw.clip(1e-3, 1)
        assert np.abs(answers["probabilities"] - clipped / clipped.sum(axis=1, keepdims=True)).max() < 1e-5


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("task", tuple(Task))
def test_onnx_bytes_of_an_older_opset_and_with_our_own_names_are_taken(task: Task, opset: int) -> None:
    made = make("dense", task)
    fitted = fit("model_bytes", made, {"opset": opset})
    features = made.features()
    raw = features[:, : made.classes or 1].astype(np.float64)
    if made.classes:
        raw = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    wanted = raw[:, 1:] if made.classes == 2 else raw
    assert np.abs(fitted.predict(features) - wanted).max() < 1e-6
    assert made.answers(fitted.graph, head(made), made.columns)


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("garbage", {}, "not an ONNX model"),
        ("nothing", {}, "returned a NoneType; wanted a fitted estimator"),
        ("no_probabilities", {}, "returned a LinearSVC; wanted a fitted estimator with `predict_proba`"),
        ("model_bytes", {"opset": 18}, "uses opset 18"),
        ("model_bytes", {"outputs": 1}, r"with the shape .256, 1.; wanted .256, 2."),
        ("model_bytes", {"element": TensorProto.DOUBLE}, "not an ONNX model that runs"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(name: str, params: dict[str, Any], why: str) -> None:
    with pytest.raises(NotConvertible, match=why):
        fit(name, make("dense", Task.BINARY), params)


def test_an_estimator_without_a_converter_is_compared_and_says_why_it_has_no_graph() -> None:
    made = make("dense", Task.BINARY, rows=120)
    fitted = fit("histogram", made)
    if not fitted.refusal:  # a later converter may learn it
        assert fitted.graph
        return
    assert fitted.graph == b"" and "`HistGradientBoostingClassifier` has no exact ONNX form" in fitted.refusal
    assert fitted.predict(made.features()).shape == (120, 1)


def test_a_function_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    made = make("dense", Task.BINARY, rows=100)
    for name in ("nowhere:fit", "tests.adapters.own:missing", "tests.adapters.own"):
        with pytest.raises(UsageError, match="cannot be loaded"):
            FunctionTrainer(name, str(tmp_path)).fit(made.training_set(), {}, seed=0, threads=1)
