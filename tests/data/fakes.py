"""Small tables and plans for the tests of this room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from modelyard.core.contract import Prepared
from modelyard.core.data_plan import DataPlan, Goal
from modelyard.data import prepare


class Silent:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, *, total: float | None = None) -> None:
        self.stages.append(name)

    def advance(self, done: float, note: str = "") -> None:
        assert done >= 0

    def say(self, line: str) -> None:
        self.stages.append(line)


def people(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """A table with a column of each kind and a target that none of them gives away."""
    dice = np.random.default_rng(seed)
    words = np.array(["quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"])
    return pl.DataFrame(
        {
            "age": dice.integers(17, 90, rows),
            "height": dice.normal(170, 10, rows).round(2),
            "member": dice.choice(["yes", "no"], rows),
            "city": dice.choice(["Rome", "Oslo", "Lima"], rows),
            "remark": [" ".join(dice.choice(words, 6)) + f" {place}" for place in range(rows)],
            "born": (np.datetime64("1980-01-01") + dice.integers(0, 9000, rows)).astype(str),
            "seen": (np.datetime64("2024-01-01T00:00:00") + dice.integers(0, 10**7, rows)).astype(str),
            "target": dice.choice(["low", "high"], rows, p=[0.7, 0.3]),
        }
    )


def plan(path: Path, **fields: Any) -> DataPlan:
    return DataPlan(**{"goal": Goal.CLASSIFICATION, "target": "target", "path": str(path), **fields})


def run(path: Path, **fields: Any) -> tuple[Prepared, Path]:
    """Prepare a table beside its file."""
    folder = path.parent / f"out-{path.name}"
    return prepare(plan(path, **fields), folder, progress=Silent()), folder


def aside(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
