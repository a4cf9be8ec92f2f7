"""Tables with every kind of column and hard values, and the joined graph of a fitted estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_graph import featurizer, whole
from modelyard.bundle.steps import Preprocess
from modelyard.core.arrays import Array, Columns, Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.encoding import Encoding, Head
from modelyard.core.metrics import Task
from modelyard.core.training import TrainingSet
from modelyard.train.encode import learn_encoding, learn_steps

KINDS = {
    "plain": Kind.NUMBER,
    "cents": Kind.INTEGER,
    "id": Kind.INTEGER,
    "epoch": Kind.INTEGER,
    "tiny": Kind.NUMBER,
    "constant": Kind.NUMBER,
    "empty": Kind.NUMBER,
    "flag": Kind.BOOLEAN,
    "colour": Kind.CATEGORY,
    "code": Kind.CATEGORY,
    "note": Kind.TEXT,
    "day": Kind.DATE,
    "moment": Kind.DATETIME,
}
DAY = np.timedelta64(86_400_000_000, "us")
COLOURS = ["red", "blé", "日本", "", "a\0b", "<missing>", "x" * 3000, "7", "7.0"]
NOTES = ["the quick brown fox", "Fox! fox, FOX", "", "a dog and 2 cats", "naïve café", "dog dog fox"]
PARAMS: Mapping[str, dict[str, ParamValue]] = {
    "baseline": {},
    "linear": {"strength": 1.0},
    "lightgbm": {
        "learning_rate": 0.1, "num_leaves": 15, "max_trees": 40, "min_leaf_rows": 5, "feature_share": 0.8,
        "row_share": 0.9, "l2": 0.1, "bags": 1,
    },
    "random_forest": {"trees": 15, "max_depth": 8, "min_leaf_rows": 2, "feature_share": 0.5},
    "mlp": {"hidden": "16", "learning_rate": 0.01, "batch_size": 64, "epochs": 8, "l2": 1e-4},
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A table turned into features of one kind."""

    contract: Contract
    columns: Columns
    steps: Preprocess
    encoding: Encoding
    inputs: dict[str, Array]
    target: Array
    weight: Floats | None
    classes: int

    @property
    def widths(self) -> dict[str, int]:
        return {name: block.shape[1] for name, block in self.inputs.items()}

    def features(self, inputs: Mapping[str, Array] | None = None) -> Singles:
        engine = OnnxLoader().load(featurizer(self.encoding, self.widths))
        return np.asarray(engine.run(inputs or self.inputs)["features"], dtype=np.float32)

    def training_set(self) -> TrainingSet:
        return TrainingSet(
            features=self.features(), target=self.target, weight=self.weight, classes=self.classes,
            names=self.encoding.names,
        )  # fmt: skip

    def answers(self, graph: bytes, head: Head, columns: Columns) -> dict[str, Array]:
        """Run columns through the graph that would be sealed."""
        engine = OnnxLoader().load(whole(self.encoding, self.widths, graph, head))
        return dict(engine.run(self.steps.apply(columns)))


def table(rows: int, seed: int, *, missing: bool) -> Columns:
    """Return rows of every kind of column, each a scale that float32 alone cannot hold."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Array] = {
        "plain": rng.normal(size=rows),
        "cents": np.floor(rng.lognormal(18, 3, size=rows)).clip(0, 1e12),
        "id": rng.integers(2**53 - 5000, 2**53, size=rows).astype(np.float64),
        "epoch": rng.integers(1_700_000_000, 1_700_600_000, size=rows).astype(np.float64),
        "tiny": rng.normal(size=rows) * 1e-30,
        "constant": np.full(rows, 0.1),
        "empty": np.full(rows, np.nan),
        "flag": rng.integers(0, 2, size=rows).astype(np.float64),
        "colour": _strings(rng, COLOURS, rows),
        "code": _strings(rng, [str(place) for place in range(400)], rows),
        "note": _strings(rng, NOTES, rows),
        "day": np.datetime64("2020-01-01", "us") + rng.integers(0, 900, size=rows) * DAY,
        "moment": np.datetime64("1969-12-31", "us") + rng.integers(0, 10**12, size=rows) * np.timedelta64(1000, "us"),
    }  # fmt: skip
    if missing:
        for name, values in columns.items():
            gone = rng.random(rows) < 0.15
            if name != "empty":
                columns[name] = _without(values, gone)
    return Columns(columns)


def _strings(rng: np.random.Generator, values: list[str], rows: int) -> Array:
    out = np.empty(rows, dtype=object)
    out[:] = [values[place] for place in rng.integers(0, len(values), size=rows)]
    return out


def _without(values: Array, gone: Array) -> Array:
    out = values.copy()
    out[gone] = {"O": None, "M": np.datetime64("NaT", "us")}.get(values.dtype.kind, np.nan)
    return out


def contract_of(columns: Columns, task: Task, classes: tuple[str, ...]) -> Contract:
    features = tuple(
        Column(name=name, kind=KINDS[name], role=Role.FEATURE, nullable=True) for name in columns if name in KINDS
    )
    target = Column(name="y", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False)
    return Contract(task=task, target="y", columns=(*features, target), classes=classes)


def signal(columns: Columns) -> Floats:
    """Return what there is to learn, from columns of very different scales."""
    cents, epoch, plain = (np.nan_to_num(columns[name], nan=5.0) for name in ("cents", "epoch", "plain"))
    colour = np.array([0.0 if value is None else len(value) % 5 for value in columns["colour"]])
    return np.asarray(np.log1p(cents) / 3 + np.sin(epoch / 1e5) * 2 + plain + 0.5 * colour)


def make(
    kind: str, task: Task, *, rows: int = 600, seed: int = 0, missing: bool = False, weights: bool = False
) -> Made:
    """Return a table of a task, turned into features for one kind of estimator."""
    columns = table(rows, seed, missing=missing)
    rng = np.random.default_rng(seed + 1)
    truth = signal(columns) + rng.normal(size=rows)
    target: Array
    names: tuple[str, ...] = ()
    if task is Task.REGRESSION:
        target = (truth - truth.mean()) / truth.std()
    else:
        cuts = [0.6] if task is Task.BINARY else [0.4, 0.8]
        target = np.digitize(truth, np.quantile(truth, cuts)).astype(np.int64)
        names = ("no", "yes") if task is Task.BINARY else ("a", "b", "c")
    contract = contract_of(columns, task, names)
    steps = learn_steps(contract, columns)
    inputs = steps.apply(columns)
    weight = rng.uniform(0.2, 5.0, size=rows) if weights else None
    encoding = learn_encoding(kind, steps, inputs, target, classes=len(names))
    return Made(contract, columns, steps, encoding, inputs, target, weight, len(names))


def hard_rows() -> Columns:
    """Return rows that no training part holds: unknown, missing, denormal, huge."""
    extremes = [0.0, -0.0, 5e-324, -5e-324, 1e-40, 1.7e308, -1.7e308, 3.5e38, -1e39, np.nan, 2.0**53, 16777217.0]
    rows = len(extremes)
    base = dict(table(rows, 99, missing=True).values)
    odd: list[Any] = ["unknown", None, "", "\0", "a\0c", "<missing>", "x" * 50_000, "07", "7", "é", "e\u0301", "blé"]
    for name in ("plain", "cents", "id", "epoch", "tiny", "constant", "empty"):
        base[name] = np.array(extremes)
    for name in ("colour", "code", "note"):
        base[name] = np.array(odd, dtype=object)
    base["day"] = np.array(["0001-01-01", "9999-12-31", "NaT"] * 4, dtype="datetime64[us]")
    return Columns(base)
