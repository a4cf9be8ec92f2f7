"""Encodings are learned from the training part alone, and are what a hand computation says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_graph import featurizer
from modelyard.app.wiring import OnnxGraphs
from modelyard.bundle.steps import DateStep, TextStep
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Part, Prepared, Role
from modelyard.core.encoding import CategoryFeature, NumberFeature
from modelyard.core.metrics import Task
from modelyard.errors import DataError
from modelyard.train.encode import MOST_RATE_CLASSES, SMOOTHING_ROWS, learn_encoding, learn_steps
from modelyard.train.features import FITTING, build_features, featurize, open_features, weight_of


def strings(values: Sequence[str | None]) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def contract(*columns: Column, classes: tuple[str, ...] = ("no", "yes")) -> Contract:
    target = Column(name="y", kind=Kind.CATEGORY if classes else Kind.NUMBER, role=Role.TARGET, nullable=False)
    task = Task.REGRESSION if not classes else Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    return Contract(task=task, target="y", columns=(*columns, target), classes=classes)


def column(name: str, kind: Kind, role: Role = Role.FEATURE) -> Column:
    return Column(name=name, kind=kind, role=role, nullable=True)


def encoded(kind: str, values: Array, of: Kind, target: Array, classes: int) -> tuple[Any, Array]:
    """Return the features of one column and the matrix that its graph makes of it."""
    steps = learn_steps(contract(column("c", of)), Columns({"c": values}))
    inputs = steps.apply(Columns({"c": values}))
    encoding = learn_encoding(kind, steps, inputs, target, classes=classes)
    widths = {name: block.shape[1] for name, block in inputs.items()}
    return encoding.features, featurize(featurizer(encoding, widths), inputs, OnnxLoader())


def test_the_rate_of_a_category_is_drawn_towards_the_overall_rate() -> None:
    values = strings(["a"] * 30 + ["b"] * 10 + ["rare"] * 2 + [None] * 8)
    target = np.array([1, 0] * 25)
    (feature,), matrix = encoded("tree", values, Kind.CATEGORY, target, 2)
    overall = target.mean()
    assert isinstance(feature, CategoryFeature) and feature.keys == ("a", "b", "<missing>")
    for key, rows in {"a": slice(0, 30), "b": slice(30, 40), "<missing>": slice(42, 50)}.items():
        seen = feature.table[feature.keys.index(key)][0]
        part = target[rows]
        assert seen == pytest.approx((part.sum() + SMOOTHING_ROWS * overall) / (len(part) + SMOOTHING_ROWS), rel=1e-6)
        assert (matrix[rows, 0] == np.float32(seen)).all()
    rare = target[40:42]
    assert feature.other[0] == pytest.approx((rare.sum() + SMOOTHING_ROWS * overall) / (2 + SMOOTHING_ROWS), rel=1e-6)


def test_a_category_has_a_rate_of_each_class_or_the_mean_of_a_quantity() -> None:
    values, rng = strings(["a", "b"] * 50), np.random.default_rng(0)
    classes = rng.integers(0, 3, size=100)
    (feature,), matrix = encoded("tree", values, Kind.CATEGORY, classes, 3)
    assert matrix.shape == (100, 3) and np.allclose(matrix.sum(axis=1), 1, atol=1e-6)
    quantity = rng.normal(size=100)
    (feature,), _ = encoded("tree", values, Kind.CATEGORY, quantity, 0)
    wanted = (quantity[::2].sum() + SMOOTHING_ROWS * quantity.mean()) / (50 + SMOOTHING_ROWS)
    assert feature.table[0][0] == pytest.approx(wanted, rel=1e-5)


def test_with_very_many_classes_a_category_is_ranked_by_how_often_it_comes() -> None:
    values = strings(["b"] * 30 + ["a"] * 60 + ["rare"] * 4)
    (feature,), _ = encoded("tree", values, Kind.CATEGORY, np.arange(94) % 11, MOST_RATE_CLASSES + 1)
    assert feature.keys == ("a", "b") and feature.table == ((0.0,), (1.0,)) and feature.other == (-1.0,)


@pytest.mark.parametrize("kind", ["tree", "dense"])
def test_a_category_whose_values_never_come_again_still_has_a_graph(kind: str) -> None:
    values = strings([f"only {place}" for place in range(1000)])
    _, matrix = encoded(kind, values, Kind.CATEGORY, np.arange(1000) % 2, 2)
    assert matrix.shape == (1000, 1) and len(np.unique(matrix)) == 1


def test_dense_numbers_are_standardised_and_filled_and_flagged() -> None:
    values = np.array([1e9, 2e9, np.nan, 4e9] * 10) + np.arange(40) * 1e7
    (feature,), matrix = encoded("dense", values, Kind.NUMBER, np.arange(40) % 2, 2)
    present = ~np.isnan(values)
    wanted = (values[present] - values[present].mean()) / values[present].std()
    assert np.abs(matrix[present, 0] - wanted).max() < 1e-6
    assert (matrix[~present, 0] == 0).all() and matrix[:, 1].tolist() == (~present).astype(float).tolist()
    assert feature.names == ("c", "c is missing")


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-13, 1.0, 1e12, 1e200, 1e307])
@pytest.mark.parametrize("kind", ["tree", "dense"])
def test_numbers_of_any_scale_stay_apart(kind: str, scale: float) -> None:
    values = np.array([-1.7, -0.3, 0.1, 0.7, 1.1] * 8) * scale
    _, matrix = encoded(kind, values, Kind.NUMBER, np.arange(40) % 2, 2)
    assert np.isfinite(matrix).all() and len(np.unique(matrix[:, 0])) == 5
    assert np.abs(matrix[:, 0]).max() < 3


@pytest.mark.parametrize("start", [1.7e9, 1.7e12, 1.7e15, 2.0**53 - 4000])
@pytest.mark.parametrize("kind", ["tree", "dense"])
def test_large_whole_numbers_that_differ_by_little_stay_apart(kind: str, start: float) -> None:
    values = start + np.arange(0.0, 4000.0, 10)
    _, matrix = encoded(kind, values, Kind.INTEGER, np.arange(400) % 2, 2)
    assert len(np.unique(matrix[:, 0])) == 400


@pytest.mark.parametrize("kind", ["tree", "dense"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e15 / 3, np.nan])
def test_a_column_that_says_nothing_harms_nothing(kind: str, value: float) -> None:
    (feature, *_), matrix = encoded(kind, np.full(40, value), Kind.NUMBER, np.arange(40) % 2, 2)
    assert isinstance(feature, NumberFeature)
    assert (np.isnan(matrix) if np.isnan(value) and kind == "tree" else matrix == matrix[0]).all()
    assert not np.isinf(matrix).any()


def test_only_parts_of_a_date_that_vary_are_features() -> None:
    days = np.array(["2026-01-05", "2026-01-12", "NaT"], dtype="datetime64[us]")
    step = learn_steps(contract(column("d", Kind.DATE)), Columns({"d": days})).steps[0]
    assert isinstance(step, DateStep) and step.parts == ("epoch_days", "day", "day_of_year")
    none = learn_steps(contract(column("d", Kind.DATE)), Columns({"d": days[2:]})).steps[0]
    assert isinstance(none, DateStep) and none.parts == ("epoch_days",)


def test_words_must_come_in_some_rows_and_not_in_most() -> None:
    texts = strings(["every rare one"] + ["every common"] * 8 + ["every"] * 10 + [None])
    step = learn_steps(contract(column("t", Kind.TEXT)), Columns({"t": texts})).steps[0]
    assert isinstance(step, TextStep) and step.vocabulary == ("common",)


def test_nothing_is_learned_without_a_feature() -> None:
    with pytest.raises(DataError, match="No column is left as a feature"):
        learn_steps(contract(column("key", Kind.CATEGORY, Role.ID)), Columns({"key": strings(["a"])}))


class Parts:
    """The Tables port over columns in memory."""

    def __init__(self, parts: dict[Part, Columns]) -> None:
        self.parts = parts

    def read(self, path: Path, names: object = None) -> Columns:
        return self.parts[Part(path.stem)]

    def batches(self, path: Path, rows: int) -> Any:
        yield self.read(path)


def parts_of(*, odd: float) -> dict[Part, Columns]:
    rng = np.random.default_rng(0)
    made = {}
    for part in FITTING:
        strange = odd if part is not Part.TRAIN else 0.0
        letters = [f"z{strange}"] * 2 if strange else ["a", "b"]
        made[part] = Columns({
            "x": rng.normal(size=60) + strange,
            "c": strings([letters[place] for place in rng.integers(0, 2, size=60)]),
            "w": rng.uniform(1, 2, size=60),
            "y": rng.normal(size=60) * 5 + 50 + strange,
        })  # fmt: skip
    return made


def test_what_other_parts_hold_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    asked = contract(
        column("x", Kind.NUMBER), column("c", Kind.CATEGORY), column("w", Kind.NUMBER, Role.WEIGHT), classes=()
    )
    prepared = Prepared(
        contract=asked, rows={}, rows_read=0, rows_quarantined=0, data_digest="0" * 64, sources=(), profile=(),
        leaks=(), quarantine_sample=(), split_method="",
    )  # fmt: skip
    made = []
    for odd in (0.0, 1000.0):
        folder = tmp_path / str(odd)
        folder.mkdir()
        tables = Parts(parts_of(odd=odd))
        build_features(prepared, folder, folder, tables=tables, graphs=OnnxGraphs(), loader=OnnxLoader())
        made.append(open_features(folder))
    one, other = made
    assert (one.steps, one.encodings, one.scale, one.widths) == (
        other.steps,
        other.encodings,
        other.scale,
        other.widths,
    )
    train = parts_of(odd=0.0)[Part.TRAIN]
    assert one.scale.mean == pytest.approx(train["y"].mean()) and one.scale.deviation == pytest.approx(train["y"].std())
    target = np.load(one.target(Part.TRAIN))
    assert target.mean() == pytest.approx(0, abs=1e-9) and target.std() == pytest.approx(1)
    for kind in ("tree", "dense"):
        assert np.load(one.matrix(kind, Part.TRAIN)).tolist() == np.load(other.matrix(kind, Part.TRAIN)).tolist()
    path = one.weight(Part.TRAIN)
    assert path is not None and np.load(path).tolist() == train["w"].tolist()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_weighs_nothing_is_refused(bad: float) -> None:
    asked = contract(column("w", Kind.NUMBER, Role.WEIGHT))
    with pytest.raises(DataError, match="weight column `w`"):
        weight_of(asked, Columns({"w": np.array([1.0, bad])}))
