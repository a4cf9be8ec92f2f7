"""From prepared parts to feature matrices on disk, made by the graph that will be sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from modelyard.bundle.steps import Preprocess
from modelyard.core.arrays import Array, Columns, Floats
from modelyard.core.codec import decode, encode
from modelyard.core.contract import Contract, Part, Prepared, Role
from modelyard.core.encoding import Encoding
from modelyard.core.ports import EngineLoader, Graphs, Tables
from modelyard.errors import DataError
from modelyard.train.encode import learn_encoding, learn_steps

KINDS = ("tree", "dense")
FITTING = (Part.TRAIN, Part.CALIBRATE, Part.VALID)
BATCH = 65_536  # rows that go through the featurizer at once


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a regression target was standardised: y = value * deviation + mean."""

    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class FeatureSet:
    """A folder of feature matrices, targets and weights by part, and how they were made."""

    folder: Path
    contract: Contract
    steps: Preprocess
    encodings: Mapping[str, Encoding]
    widths: Mapping[str, int]
    scale: Scale

    def matrix(self, kind: str, part: Part) -> Path:
        return self.folder / f"{kind}-{part}.npy"

    def target(self, part: Part) -> Path:
        return self.folder / f"target-{part}.npy"

    def weight(self, part: Part) -> Path | None:
        path = self.folder / f"weight-{part}.npy"
        return path if path.exists() else None


class _Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`features.json` of a feature set."""

    contract: Contract
    steps: Preprocess
    encodings: dict[str, Encoding]
    widths: dict[str, int]
    scale: Scale


def build_features(
    prepared: Prepared, parts: Path, folder: Path, *, tables: Tables, graphs: Graphs, loader: EngineLoader
) -> None:
    """Learn steps and encodings from the training part and write the matrices of all but the test part."""
    contract = prepared.contract
    columns = {part: tables.read(parts / f"{part}.parquet") for part in FITTING}
    train = columns[Part.TRAIN]
    steps = learn_steps(contract, train)
    scale = _scale(contract, train)
    targets = {part: target_of(contract, columns[part], scale) for part in FITTING}
    inputs = {part: steps.apply(columns[part]) for part in FITTING}
    widths = {name: int(block.shape[1]) for name, block in inputs[Part.TRAIN].items()}
    encodings = {
        kind: learn_encoding(kind, steps, inputs[Part.TRAIN], targets[Part.TRAIN], classes=len(contract.classes))
        for kind in KINDS
    }
    for kind, encoding in encodings.items():
        graph = graphs.featurizer(encoding, widths)
        for part in FITTING:
            np.save(folder / f"{kind}-{part}.npy", featurize(graph, inputs[part], loader))
    for part in FITTING:
        np.save(folder / f"target-{part}.npy", targets[part])
        weight = weight_of(contract, columns[part])
        if weight is not None:
            np.save(folder / f"weight-{part}.npy", weight)
    made = _Made(contract=contract, steps=steps, encodings=encodings, widths=widths, scale=scale)
    (folder / "features.json").write_bytes(encode(made))


def open_features(folder: Path) -> FeatureSet:
    """Open a folder that `build_features` filled."""
    made = decode((folder / "features.json").read_bytes(), _Made)
    return FeatureSet(
        folder=folder,
        contract=made.contract,
        steps=made.steps,
        encodings=made.encodings,
        widths=made.widths,
        scale=made.scale,
    )


def featurize(graph: bytes, inputs: Mapping[str, Array], loader: EngineLoader) -> Array:
    """Run graph inputs through a featurizer, in batches; float32 (rows, features)."""
    engine = loader.load(graph, threads=1)
    try:
        rows = len(next(iter(inputs.values())))
        blocks = [
            engine.run({name: block[start : start + BATCH] for name, block in inputs.items()})["features"]
            for start in range(0, max(rows, 1), BATCH)
        ]
    finally:
        engine.close()
    return np.concatenate(blocks)


def target_of(contract: Contract, columns: Columns, scale: Scale) -> Array:
    """Return the target: class places int64 (rows,), or standardised values float64 (rows,)."""
    values = columns[contract.target]
    if not contract.classes:
        return np.asarray((values - scale.mean) / scale.deviation, dtype=np.float64)
    places = {name: place for place, name in enumerate(contract.classes)}
    return np.array([places[value] for value in values], dtype=np.int64)


def weight_of(contract: Contract, columns: Columns) -> Floats | None:
    """Return the weights of rows, or None where no column has that role; raises DataError."""
    named = contract.with_role(Role.WEIGHT)
    if not named:
        return None
    weight = np.asarray(columns[named[0].name], dtype=np.float64)
    if not np.all(np.isfinite(weight)) or np.any(weight <= 0):
        raise DataError(f"The weight column `{named[0].name}` has values that are missing or not above 0.")
    return weight


def _scale(contract: Contract, train: Columns) -> Scale:
    if contract.classes:
        return Scale()
    values = np.asarray(train[contract.target], dtype=np.float64)
    deviation = float(values.std())
    return Scale(mean=float(values.mean()), deviation=deviation if deviation > 0 else 1.0)
