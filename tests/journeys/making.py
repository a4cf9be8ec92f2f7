"""Small systems to walk the whole path with, and the command line as a person calls it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl

from modelyard.app.settings import Settings
from modelyard.app.system import App
from modelyard.cli import main

COMMAND = (sys.executable, "-m", "modelyard")
SPEC = "system.yaml"
QUICK = "[{algorithm: linear}]"

SHOP = """\
modelyard: 1
name: shop
goal: Tell who buys.
task: {type: classification, target: buys, positive: "yes"}
data:
  path: rows.parquet
  columns:
    sex: {role: audit}
    number: {role: id}
requirements:
  - {metric: roc_auc, at_least: 0.7}
  - {metric: recall, at_least: 0.8}
  - {metric: demographic_parity_difference, at_most: 0.5, group: sex}
threshold: {maximise: precision}
candidates: [{algorithm: linear}, {algorithm: lightgbm, params: {max_trees: 20}}]
budget: {trials: 4, threads: 1}
serving:
  endpoint: /api/v1/shop
  drain_s: 2
  fallback:
    - {kind: constant, label: "no", probabilities: {"no": 0.5, "yes": 0.5}}
"""


@dataclass(frozen=True)
class Called:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
    """A folder with a spec and its data, and the home of a store."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MODELYARD_HOME": str(self.home), "MODELYARD_USER": "ada"}

    @property
    def app(self) -> App:
        return App(Settings(home=self.home, user="ada"))

    @property
    def spec(self) -> Path:
        return self.folder / SPEC

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*COMMAND, *words], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            **{**pipes, **options},
        )  # fmt: skip

    def call(self, *words: str, timeout_s: float = 110.0, **options: Any) -> Called:
        """Run a command to its end."""
        with self.start(*words, **options) as process:
            out, err = process.communicate(timeout=timeout_s)
        return Called(process.returncode, out or "", err or "")

    def quick(self, *words: str) -> Called:
        """Run a command in this process, which spares it the start."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            contextlib.chdir(self.folder),
            patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main(list(words))
            except SystemExit as end:
                code = int(end.code or 0)
        return Called(code, out.getvalue(), err.getvalue())

    def but(self, text: str) -> Place:
        """Return the same home and data with another spec."""
        self.spec.write_text(text)
        return self


def place_in(root: Path, text: str, rows: pl.DataFrame) -> Place:
    """Write a spec and its rows, and name a home for the store beside them."""
    folder = root / "system"
    folder.mkdir()
    (folder / SPEC).write_text(text)
    rows.write_parquet(folder / "rows.parquet")
    return Place(folder, root / "home")


def shop_rows(count: int = 1200, *, seed: int = 0) -> pl.DataFrame:
    """Return people who buy or do not, by age, city and hours; hours are missing now and then."""
    chance = np.random.default_rng(seed)
    age, hours = chance.integers(18, 80, count), chance.normal(40, 10, count).round(2)
    city = chance.choice(["oslo", "rome", "lima", "san josé"], count)
    score = (age - 45) / 10 + 2.0 * (city == "rome") - 1.5 * (city == "lima") + chance.logistic(0, 0.6, count)
    return pl.DataFrame({
        "number": [f"p{place:05d}" for place in range(count)],
        "age": age,
        "city": city,
        "hours": [None if place % 37 == 0 else value for place, value in enumerate(hours.tolist())],
        "sex": chance.choice(["f", "m"], count),
        "buys": np.where(score > 0, "yes", "no"),
    })  # fmt: skip


def flower_rows(count: int = 900, *, seed: int = 1) -> pl.DataFrame:
    """Return three kinds of flowers by two lengths, with a weight a row."""
    chance = np.random.default_rng(seed)
    kind = chance.integers(0, 3, count)
    return pl.DataFrame({
        "long": (kind * 1.5 + chance.normal(0, 0.7, count)).round(3),
        "wide": (kind * -0.8 + chance.normal(0, 0.7, count)).round(3),
        "weight": chance.uniform(0.5, 2.0, count).round(3),
        "kind": np.array(["ash", "birch", "cedar"])[kind],
    })  # fmt: skip


def rent_rows(count: int = 900, *, seed: int = 2) -> pl.DataFrame:
    """Return rents by area and district, day by day; each house has a few rows."""
    chance = np.random.default_rng(seed)
    area, district = chance.uniform(20, 120, count), chance.choice(["north", "south"], count)
    return pl.DataFrame({
        "day": [date(2024, 1, 1) + timedelta(days=place // 3) for place in range(count)],
        "house": [f"h{number}" for number in chance.integers(0, count // 4, count)],
        "area": area.round(1),
        "district": district,
        "rent": (12.0 * area + 150.0 * (district == "north") + chance.normal(0, 40, count)).round(2),
    })  # fmt: skip


def note_rows(count: int = 1200, *, seed: int = 3) -> pl.DataFrame:
    """Return complaints whose outcome hangs on their words and on the month alone."""
    chance = np.random.default_rng(seed)
    words = np.array(
        ["parcel", "late", "broken", "happy", "refund", "colour", "quick", "lost", "again", "never", "box"]
    )
    notes = [" ".join(chance.choice(words, 6)) for _ in range(count)]
    days = [date(2023, 1, 1) + timedelta(days=int(day)) for day in chance.integers(0, 730, count)]
    score = np.array([3.0 * ("broken" in note) - 3.0 * ("happy" in note) for note in notes])
    score += np.array([2.0 if day.month in (11, 12) else -1.0 for day in days]) + chance.logistic(0, 0.5, count)
    return pl.DataFrame({"note": notes, "day": days, "noise": chance.normal(0, 1, count), "upset": score > 0})


def session_of(pid: int) -> set[int]:
    """Return the living processes of a session."""
    return {one for one in _processes() if _stat(one)[3:4] == [str(pid)] and _stat(one)[0] != "Z"}


def ours(home: Path) -> set[int]:
    """Return the living processes that were started with this store in their environment."""
    mark = f"MODELYARD_HOME={home}".encode()
    return {one for one in _processes() if mark in _environment(one) and _stat(one)[:1] not in ([], ["Z"])}


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
