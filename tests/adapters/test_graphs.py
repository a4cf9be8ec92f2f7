"""Trees and layers as graphs, at the values where rounding decides, and whole graphs at their edges."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor

from modelyard import adapters
from modelyard.adapters import sklearn as sklearn_adapter
from modelyard.adapters.estimator_graph import GROUP, MOST_SUMMED, dense_graph, round_down
from modelyard.adapters.lightgbm import graph_of
from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_graph import featurizer, whole
from modelyard.adapters.optuna import TpeSampler
from modelyard.core.arrays import Singles
from modelyard.core.encoding import FARTHEST, BlockFeature, CategoryFeature, Encoding, Head, NumberFeature
from modelyard.core.space import Choice, Fixed, Range, Space
from modelyard.core.training import TrainingSet
from modelyard.errors import BundleFormat, EngineFailed, MissingExtra, NotConvertible

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(threshold=FINITE, x=st.floats(width=32, allow_nan=False))
def test_a_threshold_rounded_down_decides_every_float32_alike(threshold: float, x: float) -> None:
    assert (np.float32(x) <= round_down(np.array([threshold]))[0]) == (float(np.float32(x)) <= threshold)


@given(threshold=FINITE, steps=st.integers(-3, 3))
def test_a_threshold_rounded_down_decides_its_neighbours_alike(threshold: float, steps: int) -> None:
    with np.errstate(over="ignore"):
        x = np.float32(threshold)
        for _ in range(abs(steps)):
            x = np.nextafter(x, np.float32(np.inf if steps > 0 else -np.inf))
    assert (x <= round_down(np.array([threshold]))[0]) == (float(x) <= threshold)


def raw(graph: bytes, features: Singles) -> Singles:
    return np.asarray(OnnxLoader().load(graph).run({"features": features})["raw"])


def around(thresholds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Singles:
    """Rows on each threshold and a step to either side."""
    single = thresholds.astype(np.float32)
    down, up = np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf))
    return np.concatenate([single, down, up, np.array([0.0, -0.0, np.nan], dtype=np.float32)])[:, None]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e8, 1e30])
def test_boosted_trees_take_the_same_branch_on_every_threshold(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 1)) * scale).astype(np.float32)
    y = np.sin(3 * x[:, 0] / scale) + rng.normal(size=4000) * 0.1
    booster = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(x, y), num_boost_round=20)
    dump = booster.dump_model()
    waiting, thresholds = [tree["tree_structure"] for tree in dump["tree_info"]], []
    while waiting:
        node = waiting.pop()
        if "threshold" in node:
            thresholds.append(node["threshold"])
            waiting += [node["left_child"], node["right_child"]]
    rows = around(np.array(thresholds))
    assert len(thresholds) > 100
    wanted = booster.predict(rows.astype(np.float64), raw_score=True)
    assert np.abs(raw(graph_of([dump], 1, features=1), rows)[:, 0] - wanted).max() < 1e-6


def test_a_forest_takes_the_same_branch_on_every_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[RandomForestRegressor] = []

    def keeping(**settings: object) -> RandomForestRegressor:
        made.append(RandomForestRegressor(**settings))
        return made[-1]

    monkeypatch.setattr(sklearn_adapter, "RandomForestRegressor", keeping)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 1)).astype(np.float32)
    y = np.sin(3 * x[:, 0]).astype(np.float64)
    data = TrainingSet(features=x, target=y, weight=None, classes=0, names=("x",))
    params = {"trees": 8, "max_depth": None, "min_leaf_rows": 1, "feature_share": 1.0}
    fitted = sklearn_adapter.ForestTrainer().fit(data, params, seed=0, threads=1)
    trees = [estimator.tree_ for estimator in made[0].estimators_]
    rows = around(np.concatenate([tree.threshold[tree.children_left >= 0] for tree in trees]))
    assert np.abs(raw(fitted.graph, rows)[:, 0] - made[0].predict(rows)).max() < 1e-6


def test_two_thousand_trees_keep_a_regression_within_a_hundred_thousandth() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    y = x[:, 0] * 2 + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3]
    y = (y - y.mean()) / y.std()
    settings = {"verbosity": -1, "num_threads": 1, "num_leaves": 7, "learning_rate": 0.02}
    booster = lgb.train(settings, lgb.Dataset(x, y), num_boost_round=2000)
    seen = raw(graph_of([booster.dump_model()], 1, features=6), x)[:, 0]
    assert np.abs(seen - booster.predict(x.astype(np.float64))).max() < 2e-6


@pytest.mark.parametrize("trees", [MOST_SUMMED // 3, MOST_SUMMED // 3 + 1, GROUP * 5])
def test_trees_of_many_classes_are_summed_alike_in_groups_and_not(trees: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = np.digitize(x[:, 0] + x[:, 1], [-0.5, 0.5])
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1, "num_leaves": 4}
    booster = lgb.train(settings, lgb.Dataset(x, y), num_boost_round=trees)
    seen = raw(graph_of([booster.dump_model()], 3, features=3), x)
    assert np.abs(seen - booster.predict(x.astype(np.float64), raw_score=True)).max() < 3e-5
    assert raw(graph_of([booster.dump_model()], 3, features=3), x[:0]).shape == (0, 3)


def test_layers_are_what_numpy_makes_of_them() -> None:
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(3, 4)), rng.normal(size=4)), (rng.normal(size=(4, 2)), rng.normal(size=2))]
    x = rng.normal(size=(9, 3)).astype(np.float32)
    wanted = np.maximum(x @ layers[0][0] + layers[0][1], 0) @ layers[1][0] + layers[1][1]
    assert np.abs(raw(dense_graph(layers), x) - wanted).max() < 1e-5


def numbers(values: list[float], **facts: object) -> Singles:
    feature = NumberFeature(sources=("x",), names=("x",), **{"shift": (0.0,), "scale": (1.0,), **facts})  # type: ignore[arg-type]
    engine = OnnxLoader().load(featurizer(Encoding(kind="tree", features=(feature,)), {"x": 1}))
    return np.asarray(engine.run({"x": np.array([values]).T})["features"])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 1001])
def test_a_missing_number_stays_missing_and_a_huge_one_stays_finite(rows: int) -> None:
    values = ([np.nan, 1.7e308, -1.7e308] * rows)[:rows]
    seen = numbers(values)[:, 0]
    assert np.array_equal(seen, np.clip(np.array(values), -FARTHEST, FARTHEST).astype(np.float32), equal_nan=True)


def test_a_number_is_shifted_in_float64_before_it_is_cast() -> None:
    seen = numbers([1_700_000_000.0, 1_700_000_001.0], shift=(1_700_000_000.0,), scale=(0.5,))
    assert seen[:, 0].tolist() == [0.0, 0.5]


def test_a_filled_number_is_flagged() -> None:
    assert numbers([np.nan, 2.0], fill=(-1.0,), flags=(0,)).tolist() == [[-1.0, 1.0], [2.0, 0.0]]


@pytest.mark.parametrize("width", [1, 2])
def test_a_category_without_keys_is_always_another(width: int) -> None:
    feature = CategoryFeature(source="c", keys=(), table=(), other=(0.25,) * width, names=("c", "d")[:width])
    engine = OnnxLoader().load(featurizer(Encoding(kind="tree", features=(feature,)), {"c": 1}))
    seen = engine.run({"c": np.array([[""], ["x"], ["<missing>"]], dtype=object)})["features"]
    assert (seen == 0.25).all() and seen.shape == (3, width)


def test_keys_are_told_apart_byte_by_byte() -> None:
    keys = ("a", "a\0b", "", "1", "01", "é", "e\u0301", "x" * 5000)
    feature = CategoryFeature(
        source="c", keys=keys, table=tuple((float(place),) for place in range(8)), other=(-1.0,), names=("c",)
    )
    engine = OnnxLoader().load(featurizer(Encoding(kind="tree", features=(feature,)), {"c": 1}))
    given = [*keys, "A", "a\0", "a\0c", " ", "1.0", "x" * 5001]
    block = np.empty((len(given), 1), dtype=object)
    block[:, 0] = given
    assert engine.run({"c": block})["features"][:, 0].tolist() == [*range(8), *[-1.0] * 6]


def test_the_label_follows_the_threshold_that_is_sealed() -> None:
    encoding = Encoding(kind="dense", features=(BlockFeature(source="x", names=("x",)),))
    graph = dense_graph([(np.array([[1.0]]), np.array([0.0]))])
    head = Head(raw="margin", classes=("no", "yes"), threshold=0.75)
    engine = OnnxLoader().load(whole(encoding, {"x": 1}, graph, head))
    margins = np.log(np.array([[0.74], [0.7501], [0.1]]) / (1 - np.array([[0.74], [0.7501], [0.1]])))
    answers = engine.run({"x": margins.astype(np.float32)})
    assert answers["label"][:, 0].tolist() == ["no", "yes", "no"]
    assert np.abs(answers["probabilities"][:, 1] - [0.74, 0.7501, 0.1]).max() < 1e-6


def test_an_estimator_that_is_no_graph_from_features_to_raw_is_not_convertible() -> None:
    encoding = Encoding(kind="dense", features=(BlockFeature(source="x", names=("x",)),))
    head = Head(raw="value")
    with pytest.raises(NotConvertible, match="not an ONNX model"):
        whole(encoding, {"x": 1}, b"nonsense", head)
    with pytest.raises(NotConvertible, match="wanted `features` to `raw`"):
        whole(encoding, {"x": 1}, featurizer(encoding, {"x": 1}), head)


def test_what_cannot_be_loaded_or_run_is_said_in_our_own_errors() -> None:
    with pytest.raises(BundleFormat, match="cannot be loaded"):
        OnnxLoader().load(onnx.ModelProto().SerializeToString())
    engine = OnnxLoader().load(dense_graph([(np.eye(2), np.zeros(2))]))
    with pytest.raises(EngineFailed, match="could not be run"):
        engine.run({"features": np.zeros((1, 3), dtype=np.float32)})
    engine.close()
    engine.close()


def test_an_adapter_whose_library_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtra, match=r"modelyard\[mlflow\]"):
        adapters.load("mlflow")


def test_the_sampler_proposes_alike_for_the_same_past_and_within_bounds() -> None:
    space: Space = {
        "rate": Range(low=0.01, high=0.3, log=True),
        "leaves": Range(low=4, high=64, integer=True),
        "shape": Choice(values=("64", "32x16")),
        "fixed": Fixed(value=None),
    }
    tried: list[tuple[dict[str, bool | int | float | str | None], float]] = []
    for number in range(12):
        proposed = TpeSampler().propose(space, tried, seed=number)
        assert proposed == TpeSampler().propose(space, tried, seed=number)
        assert 0.01 <= float(str(proposed["rate"])) <= 0.3
        assert proposed["leaves"] in range(4, 65) and proposed["shape"] in ("64", "32x16") and proposed["fixed"] is None
        tried.append((proposed, float(number)))
