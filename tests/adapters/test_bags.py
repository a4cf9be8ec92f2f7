"""A boosted candidate is the mean of its bags, and each bag learns from rows that another keeps apart."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
import pytest

from modelyard.adapters import lightgbm as adapter
from modelyard.core.training import TrainingSet
from tests.adapters.making import PARAMS


def rows(count: int) -> TrainingSet:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 4)).astype(np.float32)
    target = (features[:, 0] + rng.normal(size=count) > 0).astype(np.int64)
    return TrainingSet(features=features, target=target, weight=None, classes=2, names=("a", "b", "c", "d"))


def test_the_graph_answers_the_mean_of_the_librarys_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    boosters: list[Any] = []
    train = lgb.train

    def seen(*words: Any, **named: Any) -> Any:
        boosters.append(train(*words, **named))
        return boosters[-1]

    monkeypatch.setattr(lgb, "train", seen)
    data = rows(2000)
    fitted = adapter.LightGbmTrainer().fit(data, {**PARAMS["lightgbm"], "bags": 3}, seed=1, threads=1)
    wanted = np.mean(
        [one.predict(data.features, raw_score=True, num_iteration=one.best_iteration) for one in boosters], axis=0
    )
    got = ort.InferenceSession(fitted.graph).run(None, {"features": data.features})[0][:, 0]
    assert len(boosters) == 3
    assert np.abs(got - wanted).max() < 1e-6
    assert np.abs(fitted.predict(data.features)[:, 0] - wanted).max() < 1e-12
    assert fitted.facts["trees"] == sum(one.best_iteration for one in boosters)


def test_no_row_is_kept_apart_by_every_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    apart: list[frozenset[bytes]] = []
    make = adapter._dataset

    def seen(data: TrainingSet, places: Any, reference: Any = None) -> Any:
        if reference is not None:
            apart.append(frozenset(row.tobytes() for row in data.features[places]))
        else:
            sizes.append(len(places))
        return make(data, places, reference)

    monkeypatch.setattr(adapter, "_dataset", seen)
    adapter.LightGbmTrainer().fit(rows(2000), {**PARAMS["lightgbm"], "bags": 3}, seed=1, threads=1)
    assert sizes == [1800, 1800, 1800]
    assert not apart[0] & apart[1] and not apart[1] & apart[2] and not apart[0] & apart[2]
