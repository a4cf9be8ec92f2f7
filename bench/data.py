"""Measure the data stage: a million rows of thirty columns loaded, checked and split, then streamed.

    python bench/data.py            a million rows
    python bench/data.py --quick    a hundred thousand

Each figure is measured in a child process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from modelyard.core.codec import decode, encode
from modelyard.core.contract import Contract, Kind
from modelyard.core.data_plan import DataPlan, Declared, Goal
from modelyard.data import prepare, stream

ROWS, QUICK_ROWS = 1_000_000, 100_000
BARS = {  # of the full run; the quick one has a tenth of the rows
    "prepare_s": (20.0, "s"),
    "prepare_peak_mb": (3_000.0, "MB"),
    "stream_csv_rows_per_s": (400_000.0, "rows/s"),
    "stream_gzip_rows_per_s": (100_000.0, "rows/s"),
    "stream_parquet_rows_per_s": (400_000.0, "rows/s"),
    "stream_jsonl_rows_per_s": (100_000.0, "rows/s"),
    "stream_peak_mb": (1_500.0, "MB"),
}
_HIGHER = "_rows_per_s"


class Quiet:
    """A progress that says nothing."""

    def stage(self, name: str, *, total: float | None = None) -> None: ...

    def advance(self, done: float, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


def wide(rows: int) -> pl.DataFrame:
    """Thirty columns: whole numbers, decimals, six of strings, a date, and a target that follows from some."""
    dice = np.random.default_rng(0)
    columns: dict[str, Any] = {f"count_{place}": dice.integers(0, 10 ** (1 + place % 6), rows) for place in range(12)}
    columns |= {f"measure_{place}": dice.normal(size=rows).round(4) for place in range(10)}
    for place in range(6):
        words = np.array([f"value {word} of {place}" for word in range(10 * (place + 1))], dtype=object)
        columns[f"name_{place}"] = words[dice.integers(0, len(words), rows)]
    columns["day"] = np.datetime64("2020-01-01") + dice.integers(0, 1000, rows)
    chance = 1 / (1 + np.exp(-columns["measure_0"] - columns["measure_1"]))
    columns["target"] = np.where(dice.random(rows) < chance, "yes", "no")
    return pl.DataFrame(columns)


def people(rows: int) -> pl.DataFrame:
    """Fourteen features, eight of them strings, as in the Adult census."""
    dice = np.random.default_rng(1)
    columns: dict[str, Any] = {f"count_{place}": dice.integers(0, 10 ** (2 + place % 4), rows) for place in range(6)}
    for place in range(8):
        words = np.array([f"Category-{word}-{place}" for word in range(5 * (place + 1))], dtype=object)
        columns[f"name_{place}"] = words[dice.integers(0, len(words), rows)]
    columns["target"] = np.where(dice.random(rows) < 0.3, "yes", "no")
    return pl.DataFrame(columns)


def child(job: str, folder: Path) -> dict[str, float]:
    """Do one job in this process and return what it took."""
    begun = time.perf_counter()
    if job.startswith("write:"):
        rows = int(job.partition(":")[2])
        write(folder, rows)
    elif job == "prepare":
        plan = DataPlan(
            goal=Goal.CLASSIFICATION,
            target="target",
            path=str(folder / "wide.csv"),
            columns={"day": Declared(kind=Kind.DATE)},
        )
        rows = prepare(plan, folder / "out", progress=Quiet()).rows_read
    else:
        contract = decode((folder / "contract.json").read_bytes(), Contract)
        rows = sum(len(batch.columns) for batch in stream(folder / job, contract))
    seconds = time.perf_counter() - begun
    return {"rows": rows, "seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def repeat(job: str, folder: Path, times: int) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--child", job, "--folder", str(folder)]
    return [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(times)]


def write(folder: Path, rows: int) -> None:
    wide(rows).write_csv(folder / "wide.csv")
    table = people(rows)
    table.write_csv(folder / "people.csv")
    table.write_csv(folder / "people.csv.gz", compression="gzip")
    table.write_parquet(folder / "people.parquet")
    table.write_ndjson(folder / "people.jsonl")
    plan = DataPlan(goal=Goal.CLASSIFICATION, target="target", path=str(folder / "people.csv"))
    (folder / "contract.json").write_bytes(encode(prepare(plan, folder / "learn", progress=Quiet()).contract))


def measure(rows: int, times: int) -> dict[str, list[float]]:
    """Return every figure's values, one a repetition."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repeat(f"write:{rows}", folder, 1)  # in a child too: a child's peak memory is never under its parent's
        print(f"{rows} rows; wide.csv {(folder / 'wide.csv').stat().st_size / 1e6:.0f} MB, {times} repetitions")
        runs = repeat("prepare", folder, times)
        values = {"prepare_s": [run["seconds"] for run in runs], "prepare_peak_mb": [run["peak_mb"] for run in runs]}
        peaks: list[float] = []
        for label, file in (("csv", "csv"), ("gzip", "csv.gz"), ("parquet", "parquet"), ("jsonl", "jsonl")):
            runs = repeat(f"people.{file}", folder, times)
            values[f"stream_{label}_rows_per_s"] = [run["rows"] / run["seconds"] for run in runs]
            peaks += [run["peak_mb"] for run in runs]
        return values | {"stream_peak_mb": peaks}


def figures(values: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the median of each figure beside its bar; of memory, the highest."""
    result = []
    for name, (bar, unit) in BARS.items():
        value = max(values[name]) if unit == "MB" else statistics.median(values[name])
        met = value >= bar if name.endswith(_HIGHER) else value <= bar
        spread = [round(min(values[name]), 2), round(max(values[name]), 2)]
        result.append({"name": name, "value": round(value, 2), "unit": unit, "spread": spread, "bar": bar, "met": met})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundred thousand rows, once")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.folder)))
        return
    found = figures(measure(QUICK_ROWS if options.quick else ROWS, 1 if options.quick else 3))
    for one in found:
        low, high = one["spread"]
        line = f"{one['name']:28} {one['value']:>14,.1f} {one['unit']:7} ({low:,.1f} to {high:,.1f})"
        print(f"{line} bar {one['bar']:,.0f} {'met' if one['met'] else 'NOT MET'}")
    print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()
