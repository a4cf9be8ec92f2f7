"""Jobs, feature sets and fakes for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.bundle.steps import NumberStep, Preprocess
from modelyard.core.arrays import Array, Floats
from modelyard.core.candidate import ParamValue
from modelyard.core.contract import Column, Contract, Kind, Part, Role
from modelyard.core.encoding import Encoding, NumberFeature
from modelyard.core.metrics import Task
from modelyard.core.space import Space
from modelyard.train.features import FITTING, FeatureSet, Scale
from modelyard.train.job import FitJob

ROWS = {Part.TRAIN: 60, Part.CALIBRATE: 80, Part.VALID: 50}


def job(folder: Path, trainer: str, *, timeout_s: float = 20.0, memory_mb: int = 2000, **changes: Any) -> FitJob:
    """Return a job over ten rows of one feature."""
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    np.save(inputs / "features.npy", np.arange(10, dtype=np.float32)[:, None])
    np.save(inputs / "target.npy", changes.pop("target", np.arange(10) / 3.0))
    np.save(inputs / "none.npy", np.empty((0, 1), dtype=np.float32))
    out = folder / "out"
    out.mkdir(exist_ok=True)
    for path in out.iterdir():
        path.unlink()
    facts: dict[str, Any] = {
        "function": None, "function_path": None, "params": {}, "seed": 5, "threads": 1, "classes": 0,
        "class_weight": None, "names": ("x",), "weight": None,
        "predict": {"valid": str(inputs / "features.npy"), "calibrate": str(inputs / "none.npy")},
    }  # fmt: skip
    return FitJob(
        trainer=trainer, timeout_s=timeout_s, memory_mb=memory_mb, features=str(inputs / "features.npy"),
        target=str(inputs / "target.npy"), folder=str(out), **{**facts, **changes},
    )  # fmt: skip


def feature_set(
    folder: Path, *, classes: int = 0, rows: Mapping[Part, int] = ROWS, weights: bool = False
) -> FeatureSet:
    """Return a feature set of one number; the target follows it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part in FITTING:
        x = rng.normal(size=rows[part])
        noisy = x + rng.normal(size=rows[part])
        target: Array = noisy if not classes else np.digitize(noisy, [0.0] if classes == 2 else [-0.5, 0.5])
        for kind in ("tree", "dense"):
            np.save(folder / f"{kind}-{part}.npy", x.astype(np.float32)[:, None])
        np.save(folder / f"target-{part}.npy", target)
        if weights:
            np.save(folder / f"weight-{part}.npy", rng.uniform(0.5, 2.0, size=rows[part]))
    names = tuple("abc"[:classes])
    task = (Task.REGRESSION, None, Task.BINARY, Task.MULTICLASS)[classes] or Task.BINARY
    columns = (Column(name="x", kind=Kind.NUMBER, role=Role.FEATURE, nullable=False),)
    encoding = Encoding(
        kind="tree", features=(NumberFeature(sources=("x",), names=("x",), shift=(0.0,), scale=(1.0,)),)
    )
    return FeatureSet(
        folder=folder,
        contract=Contract(task=task, target="y", columns=columns, classes=names),
        steps=Preprocess(version=1, steps=(NumberStep(column="x"),)),
        encodings={"tree": encoding, "dense": encoding},
        widths={"x": 1},
        scale=Scale(mean=100.0, deviation=10.0) if not classes else Scale(),
    )


class MemoryStages:
    """Stages in a folder, whole or not at all; `most` of them, then as if the process were killed."""

    def __init__(self, folder: Path, *, most: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.most = folder, most
        self.built: list[str] = []

    def find(self, key: str) -> Path | None:
        folder = self.folder / key
        return folder if folder.exists() else None

    def keep(self, key: str, build: Callable[[Path], None]) -> Path:
        if self.most is not None and len(self.built) >= self.most:
            raise KeyboardInterrupt
        work = self.folder / f"{key}.tmp"
        work.mkdir()
        build(work)
        self.built.append(key)
        return work.rename(self.folder / key)


@dataclass
class SteppingClock:
    """Time that passes by a fixed step with each look."""

    step_s: float = 0.01
    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


class CountingSampler:
    """Proposes by the seed and by what was tried, so that either difference shows."""

    def propose(
        self, space: Space, tried: Sequence[tuple[Mapping[str, ParamValue], float]], *, seed: int
    ) -> dict[str, ParamValue]:
        return {name: round((seed % 97) / 97 + len(tried) + sum(value for _, value in tried), 6) for name in space}


@dataclass
class Told:
    """A progress that keeps what it was told."""

    lines: list[str] = field(default_factory=list)

    def stage(self, name: str, *, total: float | None = None) -> None:
        self.lines.append(name)

    def advance(self, done: float, note: str = "") -> None:
        self.lines.append(note)

    def say(self, line: str) -> None:
        self.lines.append(line)


def negative_error(target: Floats) -> Callable[[Floats], float | None]:
    def value(answers: Floats) -> float | None:
        return -float(np.abs(answers[:, 0] - (target * 10 + 100)).mean())

    return value
