"""What is measured of a packed body itself: importance, timing in a process of its own, the whole evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.app.spawn import spawn
from modelyard.bundle.open import Answers, Bundle, open_bundle
from modelyard.core.arrays import Columns
from modelyard.core.codec import decode, encode
from modelyard.core.metrics import METRICS, Needs, Task
from modelyard.errors import DataError
from modelyard.evaluate.evaluation import evaluate, objective_of
from modelyard.evaluate.importance import importance
from modelyard.evaluate.timing import TimingJob, Timings, run_timing
from tests.adapters.making import make
from tests.bundle.packed import packed, rows_of
from tests.evaluate.making import question


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    return {task: packed(tmp_path_factory.mktemp(task.value), task) for task in Task}


def with_truth(bundle: Bundle, task: Task) -> Columns:
    """Return rows with the truth in the bundle's own words."""
    made = make("tree", task, rows=500, missing=True)
    names = np.array(made.contract.classes, dtype=object)
    return Columns({**made.columns.values, "y": made.target if task is Task.REGRESSION else names[made.target]})


OBJECTIVES = {Task.BINARY: "roc_auc", Task.MULTICLASS: "log_loss", Task.REGRESSION: "r2"}


@pytest.mark.parametrize("task", tuple(Task))
def test_an_evaluation_holds_every_metric_of_the_task_and_reads_back(task: Task, bodies: dict[Task, Path]) -> None:
    bundle = open_bundle(bodies[task], OnnxLoader())
    rows = with_truth(bundle, task)
    asked = question(objective=OBJECTIVES[task], of=bundle.body.contract)
    job = TimingJob(body=str(bodies[task]), rows="", single_s=0.01, batch_s=0.01, most_calls=60)
    found = evaluate(
        asked, bundle, test=rows, answers=bundle.answer(rows), valid=rows, timings=timed(job, bodies[task], task)
    )
    wanted = {
        metric.name
        for metric in METRICS.values()
        if task in metric.tasks and metric.needs not in (Needs.GROUPS, Needs.SERVICE)
    }
    assert {one.metric for one in found.observations} == wanted
    assert found.rows == 500 and len(found.importance) == len(bundle.body.contract.features)
    assert decode(encode(found), type(found)) == found
    assert (found.confusion is None) == (task is Task.REGRESSION)
    latency = next(curve for curve in found.curves if curve.name == "latency")
    assert list(latency.x) == sorted(latency.x) and latency.y[-1] == 1.0


def timed(job: TimingJob, body: Path, task: Task) -> Timings:
    asked = body.parent / "rows.json"
    asked.write_bytes(encode(rows_of(task, 20)))
    return run_timing(
        TimingJob(body=job.body, rows=str(asked), single_s=0.01, batch_s=0.01, most_calls=60), OnnxLoader()
    )


def test_the_planted_columns_matter_most(bodies: dict[Task, Path]) -> None:
    bundle = open_bundle(bodies[Task.REGRESSION], OnnxLoader())
    rows = with_truth(bundle, Task.REGRESSION)
    asked = question(objective="r2", of=bundle.body.contract)
    found = importance(bundle, rows, objective_of(asked), rng=np.random.default_rng(0))
    assert {name for name, _ in found[:3]} == {"cents", "epoch", "plain"} and found[2][1] > 0.1 > 2 * found[4][1]
    assert {name: loss for name, loss in found if abs(loss) < 1e-12}.keys() >= {"constant", "empty"}
    assert list(found) == sorted(found, key=lambda one: -one[1])


def test_without_an_objective_there_is_no_importance(bodies: dict[Task, Path]) -> None:
    bundle = open_bundle(bodies[Task.BINARY], OnnxLoader())
    rows = with_truth(bundle, Task.BINARY)

    def undefined(answers: Answers, columns: Columns) -> None:
        return None

    assert importance(bundle, rows, undefined, rng=np.random.default_rng(0)) == ()


def test_a_body_is_timed_in_a_process_of_its_own(bodies: dict[Task, Path], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*rows_of(Task.BINARY, 20), {"cents": "breaks the contract"}]
    (tmp_path / "rows.json").write_bytes(encode(rows))
    job = TimingJob(
        body=str(bodies[Task.BINARY]), rows=str(tmp_path / "rows.json"), single_s=0.05, batch_s=0.02, most_calls=200
    )
    with spawn("timing") as process:
        out, _ = process.communicate(encode(job))
    assert process.returncode == 0
    seen = decode(out, Timings)
    size = sum(path.stat().st_size for path in bodies[Task.BINARY].iterdir())
    assert seen.body_bytes == size and 1 < seen.memory_mb < 1000
    assert len(seen.single_ms) >= 50 and 0.005 < np.median(seen.single_ms) < 50
    assert np.median(seen.batch_ms) > np.median(seen.single_ms)
    assert len(seen.rows_per_s) >= 5 and min(seen.rows_per_s) > 100
    assert all(0 < cpu < 0.05 for cpu in seen.cpu_s)
    # One thread: the CPU seconds of a row are its wall seconds, but for what else the machine does.
    assert np.median(seen.cpu_s) * 1000 == pytest.approx(np.median(seen.single_ms), rel=0.9)


def test_rows_that_all_break_the_contract_cannot_be_timed(bodies: dict[Task, Path], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(encode([{"cents": "many"}]))
    job = TimingJob(body=str(bodies[Task.BINARY]), rows=str(tmp_path / "rows.json"), single_s=0.05, batch_s=0.02)
    with pytest.raises(DataError, match="keeps its contract"):
        run_timing(job, OnnxLoader())
