"""The main job, measured: Adult and bike sharing beside scikit-learn's HistGradientBoosting in the same run.

    python bench/main_job.py [--quick] [--adult FOLDER] [--bikes FILE]

Adult ships with the project; bike sharing needs the file `hour.parquet` (UCI, Fanaee-T and Gama); without
it, it is left out and said. Ends with one JSON line of figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "modelyard"]
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@dataclass
class Figure:
    """One measured figure beside its bar; `spread` is an interval or a range over repetitions."""

    name: str
    value: float
    unit: str
    spread: str
    bar: str
    met: bool | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small budgets and files; ends within a minute")
    parser.add_argument("--adult", type=Path, default=ROOT / "examples" / "income")
    parser.add_argument(
        "--bikes", type=Path, default=ROOT.parent / "shared" / "data" / "bike_sharing_hourly" / "hour.parquet"
    )
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as place:
        folder = Path(place)
        os.environ["MODELYARD_HOME"] = str(folder / "home")
        figures += adult(options.adult, folder, seconds=8 if options.quick else 60)
        figures += single_row()
        figures += million(
            options.adult, folder, rows=100_000 if options.quick else 1_000_000, seconds=4 if options.quick else 20
        )
        figures += help_time()
        if options.bikes.exists() and not options.quick:
            figures += bikes(options.bikes, folder, seconds=60)
        elif not options.quick:
            print(f"Bike sharing is left out: {options.bikes} is not there.")
    for one in figures:
        verdict = "" if one.met is None else "met" if one.met else "MISSED"
        print(f"{one.name:48} {one.value:12.4f} {one.unit:8} {one.spread:28} bar {one.bar:12} {verdict}")
    print(json.dumps({"figures": [asdict(one) for one in figures]}))


def modelyard(*words: str, check: bool = True) -> Any:
    """Run a command with --json and return what it prints."""
    done = subprocess.run([*COMMAND, *words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"modelyard {' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return json.loads(done.stdout)


def build(spec: Path) -> tuple[Any, float]:
    """Build a release; return its evidence and the wall seconds."""
    begun = time.perf_counter()
    release = modelyard("run", str(spec))["release"]
    wall = time.perf_counter() - begun
    shown = modelyard("show", f"{release['id']['name']}@{release['id']['number']}")
    return shown, wall


def observed(shown: Any, metric: str) -> Any:
    """Return an observation of the build's evidence."""
    builds = [one["record"]["payload"] for one in shown["evidence"] if one["record"]["payload"]["type"] == "build"]
    return next(one for one in builds[-1]["evaluation"]["observations"] if one["metric"] == metric)


def interval(seen: Any) -> str:
    """Return an observation's interval in words."""
    return f"95 % {seen['low']:.4f} to {seen['high']:.4f}"


def adult(data: Path, folder: Path, *, seconds: int) -> list[Figure]:
    """Adult: quality on its own test file, time beyond the budget, size."""
    spec = folder / "adult.yaml"
    spec.write_text(
        f"name: adult\ntask: {{type: classification, target: income, positive: '>50K'}}\n"
        f"data: {{path: {data / 'train.parquet'}, test_path: {data / 'test.parquet'}}}\n"
        f"requirements: [{{metric: roc_auc, at_least: 0.9}}]\nbudget: {{seconds: {seconds}}}\n"
    )
    shown, wall = build(spec)
    auc, size = observed(shown, "roc_auc"), observed(shown, "size_mb")
    payload = shown["evidence"][0]["record"]["payload"]
    spent = sum(trial["spent_s"] for trial in payload["trials"])
    theirs, took = adult_reference(data)
    beyond, share = wall - seconds, spent / seconds
    trials = f"{len(payload['trials'])} trials"
    name = "Adult: AUC of HistGradientBoosting, same run"
    return [
        Figure("Adult: AUC on the test file", auc["value"], "share", interval(auc), ">= 0.926", auc["value"] >= 0.926),
        Figure(name, theirs, "share", f"fitted in {took:.1f} s", "reference", None),
        Figure("Adult: whole run beyond the search budget", beyond, "s", f"{wall:.1f} s in all", "<= 45", beyond <= 45),
        Figure("Adult: search time of the budget", share, "share", trials, "0.9 to 1.1", 0.9 <= share <= 1.1),
        Figure("Adult: size of the body", size["value"], "MB", "", "< 10", size["value"] < 10),
    ]


def adult_reference(data: Path) -> tuple[float, float]:
    """Return the AUC of scikit-learn's boosted trees with native categories, and its fitting time."""
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import OrdinalEncoder

    train, test = pl.read_parquet(data / "train.parquet"), pl.read_parquet(data / "test.parquet")
    names = [name for name in train.columns if name != "income"]
    words = [name for name in names if train[name].dtype == pl.String]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=float("nan"), encoded_missing_value=float("nan")
    )
    encoder.fit(train.select(words).to_numpy())

    def features(frame: Any) -> Any:
        import numpy as np

        numbers = frame.select([name for name in names if name not in words]).to_numpy().astype(float)
        return np.concatenate([numbers, encoder.transform(frame.select(words).to_numpy())], axis=1)

    categorical = [len(names) - len(words) + place for place in range(len(words))]
    model = HistGradientBoostingClassifier(random_state=0, categorical_features=categorical)
    begun = time.perf_counter()
    model.fit(features(train), train["income"].to_numpy())
    took = time.perf_counter() - begun
    shares = model.predict_proba(features(test))[:, list(model.classes_).index(">50K")]
    return float(roc_auc_score(test["income"].to_numpy() == ">50K", shares)), took


def bikes(file: Path, folder: Path, *, seconds: int) -> list[Figure]:
    """Bike sharing by hour: R² on a random split."""
    spec = folder / "bikes.yaml"
    spec.write_text(
        "name: bikes\ntask: {type: regression, target: cnt}\n"
        f"data:\n  path: {file}\n"
        "  columns: {instant: {role: ignore}, casual: {role: ignore}, registered: {role: ignore}}\n"
        f"requirements: [{{metric: r2, at_least: 0.9}}]\nbudget: {{seconds: {seconds}}}\n"
    )
    shown, _ = build(spec)
    r2 = observed(shown, "r2")
    theirs = bikes_reference(file)
    return [
        Figure("Bike sharing: R2, random split", r2["value"], "share", interval(r2), ">= 0.94", r2["value"] >= 0.94),
        Figure("Bike sharing: R2 of HistGradientBoosting, 80/20", theirs, "share", "", "reference", None),
    ]


def bikes_reference(file: Path) -> float:
    """Return R² of scikit-learn's boosted trees on a random fifth."""
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split

    table = pl.read_parquet(file)
    features = table.drop("cnt", "casual", "registered", "dteday", "instant").to_numpy().astype(float)
    parts = train_test_split(features, table["cnt"].to_numpy(), test_size=0.2, random_state=0)
    model = HistGradientBoostingRegressor(random_state=0).fit(parts[0], parts[2])
    return float(r2_score(parts[3], model.predict(parts[1])))


def single_row() -> list[Figure]:
    """One row through the graph alone, and through check, steps and graph, in this process."""
    import numpy as np

    import modelyard as product

    model = product.open("adult")
    rows = model.bundle.body.golden.rows
    from modelyard.bundle.check import check_rows

    inputs = model.bundle.preprocess.apply(check_rows(model.bundle.body.contract, rows[:1]))
    graph = _times(lambda: model.bundle.engine.run(inputs))
    whole = _times(lambda: model.predict(rows[:1]))
    low, high = np.quantile(graph, [0.05, 0.95])
    middle = float(np.median(graph))
    spread = f"p5 {low:.0f}, p95 {high:.0f}"
    return [
        Figure("Adult: one row, the graph alone, p50", middle, "us", spread, "< 100", middle < 100),
        Figure("Adult: one row, check, steps and graph, p50", float(np.median(whole)), "us", "", "-", None),
    ]


def _times(call: Any, repeat: int = 3000) -> list[float]:
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e6)
    return times


def million(data: Path, folder: Path, *, rows: int, seconds: int) -> list[Figure]:
    """`modelyard predict` on a large file, with a model of at most 200 trees."""
    import polars as pl

    spec = folder / "trees.yaml"
    spec.write_text(
        f"name: trees\ntask: {{type: classification, target: income, positive: '>50K'}}\n"
        f"data: {{path: {data / 'train.parquet'}, test_path: {data / 'test.parquet'}}}\n"
        "candidates: [{algorithm: lightgbm, params: {max_trees: 200, num_leaves: 31, bags: 1}}]\n"
        f"budget: {{seconds: {seconds}}}\n"
    )
    build(spec)
    train = pl.read_parquet(data / "train.parquet").drop("income")
    many = pl.concat([train] * (rows // len(train) + 1)).head(rows)
    found: list[Figure] = []
    for ending in ("csv", "parquet"):
        file = folder / f"many.{ending}"
        many.write_csv(file) if ending == "csv" else many.write_parquet(file)
        rates, peak = [], 0.0
        for repetition in range(3):
            begun = time.perf_counter()
            modelyard("predict", "trees", str(file), "--out", str(folder / f"answers-{ending}-{repetition}.csv"))
            rates.append(rows / (time.perf_counter() - begun))
            peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
        rates.sort()
        name, spread = f"predict {rows} rows of {ending}, 200 trees", f"{rates[0]:.0f} to {rates[2]:.0f}"
        found.append(Figure(name, rates[1], "rows/s", spread, ">= 100000", rates[1] >= 100_000))
    found.append(Figure("predict: largest process so far, peak memory", peak, "MB", "", "< 1500", peak < 1500))
    return found


def help_time() -> list[Figure]:
    """`modelyard --help` and `import modelyard`, whole processes."""
    found = []
    for name, words, bar in (
        ("modelyard --help", [*COMMAND, "--help"], 0.3),
        ("import modelyard", [sys.executable, "-c", "import modelyard"], 0.2),
    ):
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - begun)
        times.sort()
        found.append(Figure(name, times[3], "s", f"{times[0]:.2f} to {times[-1]:.2f}", f"< {bar}", times[3] < bar))
    return found


if __name__ == "__main__":
    main()
