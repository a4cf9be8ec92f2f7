"""Each trainer's joined graph answers as its library's own predict does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from modelyard.adapters import function as function_adapter
from modelyard.adapters import lightgbm as lightgbm_adapter
from modelyard.adapters import sklearn as sklearn_adapter
from modelyard.core.arrays import Columns, Floats, Singles
from modelyard.core.encoding import LEAST_PROBABILITY, Head
from modelyard.core.metrics import Task
from modelyard.core.training import Fitted, Trainer, TrainingSet
from tests.adapters.making import PARAMS, Made, hard_rows, make, table

MEAN, DEVIATION = 1234.5, 67.8  # of the regression target before it was standardised
TASKS = tuple(Task)
ENCODINGS = {"linear": "dense", "mlp": "dense", "function": "dense"}
ALGORITHMS = ("baseline", "linear", "lightgbm", "random_forest", "mlp", "function")

LIBRARY = (
    "LogisticRegression", "Ridge", "RandomForestClassifier", "RandomForestRegressor", "MLPClassifier", "MLPRegressor",
)  # fmt: skip
TRAINERS: dict[str, type[Trainer]] = {
    "baseline": sklearn_adapter.BaselineTrainer,
    "linear": sklearn_adapter.LinearTrainer,
    "random_forest": sklearn_adapter.ForestTrainer,
    "mlp": sklearn_adapter.NetworkTrainer,
    "lightgbm": lightgbm_adapter.LightGbmTrainer,
}


class Seen:
    """The library's objects that a fit made, caught as they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        for name in LIBRARY:
            monkeypatch.setattr(sklearn_adapter, name, self._keeping(getattr(sklearn_adapter, name)))
        monkeypatch.setattr(lgb, "train", self._keeping(lgb.train))

    def _keeping(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **named: Any) -> Any:
            self.made.append(make(*args, **named))
            return self.made[-1]

        return made


def boosting(features: Singles, target: Any, *, weight: Any, classes: int, seed: int, **_: Any) -> Any:
    """A candidate of the user's own."""
    model = GradientBoostingClassifier if classes else GradientBoostingRegressor
    return model(n_estimators=12, random_state=seed).fit(features, target, weight)


def trainer(algorithm: str) -> Trainer:
    if algorithm == "function":
        return function_adapter.FunctionTrainer(f"{__name__}:boosting", None)
    return TRAINERS[algorithm]()


def library_answers(algorithm: str, seen: Seen, made: Made, fitted: Fitted, rows: Singles) -> Floats:
    """What the library says: probabilities (rows, classes) or values (rows,), by its public predict."""
    wide = rows.astype(np.float64)
    if algorithm == "baseline":
        weight = np.ones(len(made.target)) if made.weight is None else made.weight
        if not made.classes:
            return np.full(len(rows), np.average(made.target, weights=weight))
        shares = [weight[made.target == place].sum() / weight.sum() for place in range(made.classes)]
        return np.tile(shares, (len(rows), 1))
    if algorithm == "lightgbm":  # the mean of its bags, each to where it stopped
        raw = [bag.predict(wide, raw_score=True, num_iteration=bag.best_iteration or -1) for bag in seen.made]
        mean = np.asarray(np.mean(raw, axis=0))
        if not made.classes:
            return mean
        return np.column_stack([expit(-mean), expit(mean)]) if made.classes == 2 else np.asarray(softmax(mean, axis=1))
    model = seen.made[-1] if algorithm != "function" else boosting_again(made)
    given = rows if algorithm in ("function", "random_forest") else wide
    answer = np.asarray(model.predict_proba(given) if made.classes else model.predict(given), dtype=np.float64)
    if made.classes and algorithm in ("random_forest", "function"):
        answer = answer.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY if made.classes == 2 else 1.0)
        answer = answer / answer.sum(axis=1, keepdims=True)
    return answer


def boosting_again(made: Made) -> Any:
    data = made.training_set()
    return boosting(data.features, data.target, weight=data.weight, classes=data.classes, seed=7)


def head_of(made: Made, fitted: Fitted) -> Head:
    if not made.classes:
        return Head(raw="value", slope=DEVIATION, intercept=MEAN)
    return Head(raw=fitted.raw, classes=made.contract.classes)


def furthest(algorithm: str, seen: Seen, made: Made, fitted: Fitted, columns: Columns) -> float:
    """The largest difference of the joined graph from the library, in units of the tolerance's own."""
    answers = made.answers(fitted.graph, head_of(made, fitted), columns)
    wanted = library_answers(algorithm, seen, made, fitted, made.features(made.steps.apply(columns)))
    if not made.classes:
        return float(np.abs(answers["value"][:, 0] - (wanted * DEVIATION + MEAN)).max()) / DEVIATION
    ordered = np.sort(wanted, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-4
    labels = np.array(made.contract.classes, dtype=object)[wanted.argmax(axis=1)]
    assert (answers["label"][:, 0] == labels)[clear].all()
    return float(np.abs(answers["probabilities"] - wanted).max())


@pytest.mark.parametrize("weights", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("missing", [False, True], ids=["whole", "missing"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_joined_graph_answers_as_the_library_does(
    algorithm: str, task: Task, missing: bool, weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    made = make(ENCODINGS.get(algorithm, "tree"), task, missing=missing, weights=weights)
    fitted = trainer(algorithm).fit(made.training_set(), PARAMS.get(algorithm, {}), seed=7, threads=1)

    assert furthest(algorithm, seen, made, fitted, table(700, 5, missing=missing)) < 5e-6
    assert furthest(algorithm, seen, made, fitted, made.columns) < 5e-6


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_bytes(algorithm: str, task: Task) -> None:
    made = make(ENCODINGS.get(algorithm, "tree"), task, rows=400)
    fits = [trainer(algorithm).fit(made.training_set(), PARAMS.get(algorithm, {}), seed=3, threads=2) for _ in range(2)]
    assert fits[0].graph == fits[1].graph


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "missing"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("task", TASKS)
def test_rows_unlike_any_in_training_are_answered_finitely_and_as_the_library_does(
    task: Task, algorithm: str, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `missing`, no column but the empty one misses anything in training."""
    seen = Seen(monkeypatch)
    made = make(ENCODINGS.get(algorithm, "tree"), task, missing=missing)
    fitted = trainer(algorithm).fit(made.training_set(), PARAMS.get(algorithm, {}), seed=7, threads=1)
    answers = made.answers(fitted.graph, head_of(made, fitted), hard_rows())
    numbers = answers["value" if task is Task.REGRESSION else "probabilities"]
    assert np.isfinite(numbers).all()
    if algorithm not in ("linear", "mlp") or task is not Task.REGRESSION:  # values of 1e8 have no digits left for 1e-5
        assert furthest(algorithm, seen, made, fitted, hard_rows()) < 1e-5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_row_an_empty_batch_and_many_rows_are_the_same_rows(algorithm: str) -> None:
    made = make(ENCODINGS.get(algorithm, "tree"), Task.MULTICLASS, missing=True)
    fitted = trainer(algorithm).fit(made.training_set(), PARAMS.get(algorithm, {}), seed=7, threads=1)
    head = head_of(made, fitted)
    rows = table(50, 8, missing=True)
    together = made.answers(fitted.graph, head, rows)
    alone = [made.answers(fitted.graph, head, rows.take(slice(place, place + 1))) for place in range(5)]
    for place, one in enumerate(alone):
        assert np.abs(one["probabilities"] - together["probabilities"][place]).max() < 1e-6
        assert one["label"][0, 0] == together["label"][place, 0]
    none = made.answers(fitted.graph, head, rows.take(slice(0, 0)))
    assert none["probabilities"].shape == (0, 3) and none["label"].shape == (0, 1)
    many = made.answers(fitted.graph, head, rows.take(np.tile(np.arange(50), 400)))
    assert np.abs(many["probabilities"].reshape(400, 50, 3) - together["probabilities"]).max() < 1e-6


@pytest.mark.parametrize("algorithm", ["lightgbm", "random_forest", "linear", "mlp"])
def test_a_class_of_one_row_is_answered_for_and_never_predicted(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    made = make(ENCODINGS.get(algorithm, "tree"), Task.MULTICLASS, rows=1200)
    target = np.where(made.target == 1, 0, made.target)
    target[17] = 1
    rare = Made(made.contract, made.columns, made.steps, made.encoding, made.inputs, target, None, 3)
    params = {**PARAMS[algorithm], "min_leaf_rows": 20} if "min_leaf_rows" in PARAMS[algorithm] else PARAMS[algorithm]
    fitted = trainer(algorithm).fit(rare.training_set(), params, seed=7, threads=1)
    answers = rare.answers(fitted.graph, head_of(rare, fitted), table(300, 4, missing=False))
    assert answers["probabilities"].shape == (300, 3)
    assert "b" not in set(answers["label"][:, 0])
    assert furthest(algorithm, seen, rare, fitted, made.columns) < 1e-5


def test_weights_change_what_is_learned_as_repeated_rows_would() -> None:
    """A row of weight 2 counts as two rows; ridge is exact about it."""
    made = make("dense", Task.REGRESSION, rows=300)
    data = made.training_set()
    weight = np.where(np.arange(300) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(300), weight.astype(np.int64))
    heavy = Made(made.contract, made.columns, made.steps, made.encoding, made.inputs, made.target, weight, 0)
    one = sklearn_adapter.LinearTrainer().fit(heavy.training_set(), {"strength": 1.0}, seed=0, threads=1)
    repeated = TrainingSet(
        features=data.features[twice], target=data.target[twice], weight=None, classes=0, names=data.names
    )
    other = sklearn_adapter.LinearTrainer().fit(repeated, {"strength": 1.0}, seed=0, threads=1)
    assert np.abs(one.predict(data.features) - other.predict(data.features)).max() < 1e-8
