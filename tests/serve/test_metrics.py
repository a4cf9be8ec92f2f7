"""Metrics: sums over all processes, as another reader of the format sees them."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from modelyard.serve.guard.priority import Shed
from modelyard.serve.told.board import Board
from modelyard.serve.told.exposition import OPENMETRICS, TEXT, kind_for
from modelyard.serve.told.metrics import BUCKETS_ROWS, BUCKETS_S, GONE, Metrics, exposition

Sample = tuple[str, tuple[tuple[str, str], ...]]

COUNTING = """
import sys
from pathlib import Path
from modelyard.serve.told.board import Board
from modelyard.serve.told.metrics import Metrics
metrics = Metrics(Board(Path(sys.argv[1])))
metrics.requests.add("income@1", "v2", "200", by=5)
metrics.queue.put("income@1", value=9)
print("counted", flush=True)
input()
"""


def samples(text: bytes, *, openmetrics: bool = False) -> dict[Sample, float]:
    """Return what the reference reader makes of an exposition."""
    families = opened(text) if openmetrics else list(text_string_to_metric_families(text.decode()))
    found = [sample for family in families for sample in family.samples]
    keyed = {(sample.name, tuple(sorted(sample.labels.items()))): float(sample.value) for sample in found}
    assert len(keyed) == len(found)
    return keyed


def opened(text: bytes) -> list[Metric]:
    return list(openmetrics_families(text.decode()))  # type: ignore[no-untyped-call] # the library has no types here


def at(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def front(folder: Path, number: int) -> Metrics:
    return Metrics(Board(folder / f"front.{number}.board"), version="1.2.3")


def test_counts_of_all_processes_are_added_and_gauges_joined_each_in_its_way(tmp_path: Path) -> None:
    one, two = front(tmp_path, 0), front(tmp_path, 1)
    for metrics, epoch in ((one, 7), (two, 6)):
        metrics.requests.add("income@1", "v2", "200", by=epoch)
        metrics.seconds.add("income@1", "v2", value=0.00002 * epoch)
        metrics.queue.put("income@1", value=3)
        metrics.epoch.put(value=epoch)
        metrics.breaker_state.put("income@1", value=epoch - 6)
        metrics.ready.put("income@1", value=epoch - 6)
    found = samples(exposition(tmp_path))
    assert found == samples(one.text(tmp_path)) == samples(two.text(tmp_path))
    assert at(found, "modelyard_requests_total", release="income@1", door="v2", code="200") == 13
    assert at(found, "modelyard_request_seconds_count", release="income@1", door="v2") == 2
    assert at(found, "modelyard_request_seconds_sum", release="income@1", door="v2") == pytest.approx(0.00026)
    assert at(found, "modelyard_queue_rows", release="income@1") == 6
    assert at(found, "modelyard_traffic_epoch") == 6
    assert at(found, "modelyard_breaker_state", release="income@1") == 1
    assert at(found, "modelyard_ready", release="income@1") == 0
    assert at(found, "modelyard_build_info", version="1.2.3") == 1


def test_a_process_that_is_gone_leaves_its_counts_but_not_its_gauges(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "front.0.board")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        alive = samples(exposition(tmp_path))
        process.send_signal(signal.SIGKILL)
    gone = samples(exposition(tmp_path))
    assert at(alive, "modelyard_queue_rows", release="income@1") == 9
    assert not [name for name, _ in gone if name == "modelyard_queue_rows"]
    assert at(gone, "modelyard_requests_total", release="income@1", door="v2", code="200") == 5
    front(tmp_path, 0).requests.add("income@1", "v2", "200")
    assert at(samples(exposition(tmp_path)), "modelyard_requests_total", release="income@1", door="v2", code="200") == 6


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.integers(1, 10**9))
def test_any_text_is_a_label_that_other_readers_read_back(release: str, column: str, count: int) -> None:
    metrics = Metrics()
    metrics.faults.add(release, column, by=count)
    wanted = tuple(sorted({"release": release, "column": column}.items()))
    for openmetrics in (False, True):
        found = samples(metrics.text(openmetrics=openmetrics), openmetrics=openmetrics)
        assert found["modelyard_contract_faults_total", wanted] == count


def test_labels_that_are_left_out_are_empty() -> None:
    metrics = Metrics()
    metrics.degraded.add("income@1", "deadline")
    found = samples(metrics.text())
    assert at(found, "modelyard_degraded_total", release="income@1", reason="deadline", by="") == 1
    with pytest.raises(ValueError, match="modelyard_rows_total"):
        metrics.rows.add("income@1", "too many")


def filled() -> Metrics:
    """Metrics with a series in every family."""
    metrics = Metrics(version="1")
    for number, family in enumerate(metrics.families):
        series = family.series(*("x" for _ in family.labels))
        for place in range(series.width):
            series.cells[series.first + place] = number + place
    return metrics


def test_both_formats_say_the_same_and_every_family_is_of_its_kind() -> None:
    metrics = filled()
    plain = list(text_string_to_metric_families(metrics.text().decode()))
    other = opened(metrics.text(openmetrics=True))
    assert samples(metrics.text()) == samples(metrics.text(openmetrics=True), openmetrics=True)
    kinds = {family.name.removesuffix("_total"): family.kind for family in metrics.families}
    assert {family.name: family.type for family in plain} == kinds
    assert {family.name: family.type for family in other} == kinds


def test_names_keep_to_the_conventions() -> None:
    for family in Metrics().families:
        assert family.name.startswith(("modelyard_", "process_"))
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert not family.name.endswith(("_count", "_sum", "_bucket"))
        assert family.meaning.endswith(".") and "\n" not in family.meaning


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 20), max_size=50))
def test_a_bucket_holds_what_is_at_most_its_bound(durations: list[float]) -> None:
    metrics = Metrics()
    spread = metrics.seconds.bind("income@1", "v2")
    for value in durations:
        spread.add(value)
    found = samples(metrics.text())
    for bound in BUCKETS_S:
        inside = at(found, "modelyard_request_seconds_bucket", release="income@1", door="v2", le=repr(bound))
        assert inside == sum(value <= bound for value in durations)
    assert at(found, "modelyard_request_seconds_count", release="income@1", door="v2") == len(durations)
    assert at(found, "modelyard_request_seconds_sum", release="income@1", door="v2") == pytest.approx(sum(durations))


def test_the_buckets_rise_and_keep_those_that_were_there() -> None:
    before = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
    assert set(before) <= set(BUCKETS_S)
    assert sorted(set(BUCKETS_S)) == list(BUCKETS_S)
    assert [BUCKETS_ROWS[bisect_left(BUCKETS_ROWS, rows)] for rows in (1, 2, 3, 256)] == [1, 2, 4, 256]


def of_release(metrics: Metrics, release: str) -> dict[object, float]:
    """Return what is shown of a release, without its name."""
    shown = ((name, dict(labels), value) for (name, labels), value in samples(metrics.text()).items())
    mine = ((name, of, value) for name, of, value in shown if of.pop("release", "") == release)
    return {(name, frozenset(of.items())): value for name, of, value in mine}


def test_what_counts_a_good_answer_counts_as_the_families_do() -> None:
    quick, slow = Metrics(), Metrics()
    finish, done = quick.finish("income@1", "v2"), quick.batch_done("income@1")
    for rows, seconds, queued in ((1, 0.0003, 0.00001), (30, 0.2, 0.1), (2, 99.0, 0.0)):
        finish([(rows, 0.0, queued, seconds)])
        slow.requests.add("income@1", "v2", "200")
        slow.rows.add("income@1", by=rows)
        slow.seconds.add("income@1", "v2", value=seconds)
        slow.stages.add("income@1", "queue", value=queued)
        done(rows, seconds, queued)
        slow.batches.add("income@1")
        slow.batch_rows.add("income@1", value=rows)
        slow.stages.add("income@1", "batch", value=seconds)
        slow.stages.add("income@1", "inference", value=queued)
        slow.infer.add("income@1", value=queued)
        slow.busy.add("income@1", by=seconds)
    assert samples(quick.text()) == samples(slow.text())
    each = [(1, 0.0, 0.00001, 0.0003), (30, 0.0, 0.1, 0.2), (2, 0.0, 0.0, 99.0)]
    many = Metrics()
    many.finish("income@1", "v2")(each)
    for answer in each:
        quick.finish("income@2", "v2")([answer])
    found, wanted = of_release(many, "income@1"), of_release(quick, "income@2")
    assert len(found) > 2 * len(BUCKETS_S) and found == pytest.approx(wanted)


def test_a_release_that_is_gone_is_counted_with_the_others_gone_and_what_is_bound_goes_on(tmp_path: Path) -> None:
    metrics = front(tmp_path, 0)
    finishes = [metrics.finish(f"income@{number}", "v2") for number in range(4)]
    for finish in finishes:
        finish([(2, 0.0, 0.0001, 0.001)])
    metrics.ready.put("income@1", value=1)
    metrics.memory.put("income@1.0", value=1)
    metrics.retire("income@1")
    metrics.retire("income@2")
    for finish in finishes:
        finish([(2, 0.0, 0.0001, 0.001)])
    found = samples(exposition(tmp_path))
    rows = {dict(labels)["release"]: value for (name, labels), value in found.items() if name == "modelyard_rows_total"}
    assert rows == {"income@0": 4, "income@3": 4, GONE: 8}
    assert at(found, "modelyard_request_seconds_count", release=GONE, door="v2") == 4
    assert not [name for name, _ in found if name in ("modelyard_ready", "process_resident_memory_bytes")]


def test_two_hundred_reloads_leave_no_growth(tmp_path: Path) -> None:
    metrics = front(tmp_path, 0)
    sizes, handles = [], []
    for number in range(200):
        metrics.finish(f"income@{number}", "v2")([(1, 0.0, 0.0001, 0.001)])
        metrics.batch_done(f"income@{number}")(1, 0.001, 0.0001)
        metrics.retire(f"income@{number - 1}")
        sizes.append(len(exposition(tmp_path).splitlines()))
        handles.append(len(list(Path("/proc/self/fd").iterdir())))
    assert sizes[-1] == sizes[2]
    assert handles[-1] == handles[2]
    total = sum(value for (name, _), value in samples(exposition(tmp_path)).items() if name == "modelyard_rows_total")
    assert total == 200


def test_a_full_queue_counts_as_overload_and_other_refusals_do_not() -> None:
    metrics = Metrics()
    for reason in (*Shed, "rate", "draining", "poisoned"):
        metrics.refuse("income@1", reason)
    assert metrics.refused.total == 6
    assert metrics.overloads.total == 3


def test_a_total_kept_elsewhere_goes_on_over_restarts(tmp_path: Path) -> None:
    for drops in (3, 4):
        metrics = front(tmp_path, 0)
        metrics.follow(metrics.log_drops, drops)
        metrics.follow(metrics.log_drops, drops + 1)
        metrics.board.close()
    assert at(samples(exposition(tmp_path)), "modelyard_log_drops_total") == 9


def test_the_time_and_memory_of_a_process_are_those_the_kernel_tells() -> None:
    metrics = Metrics()
    metrics.see("front.0", os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    metrics.see("front.0", os.getpid())
    found = samples(metrics.text())
    times = os.times()
    used = at(found, "process_cpu_seconds_total", process="front.0")
    assert used == pytest.approx(times.user + times.system, abs=0.05)
    fields = Path("/proc/self/status").read_text().split()
    memory = int(fields[fields.index("VmRSS:") + 1]) * 1024
    assert at(found, "process_resident_memory_bytes", process="front.0") == pytest.approx(memory, rel=0.1)


def test_a_process_that_was_replaced_adds_to_what_it_used_and_one_that_is_gone_has_no_memory() -> None:
    metrics = Metrics()
    metrics.see("income@1.0", os.getpid())
    before = metrics.cpu.total
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        metrics.see("income@1.0", process.pid)
        assert metrics.cpu.total >= before
        process.kill()
    metrics.see("income@1.0", process.pid)
    found = samples(metrics.text())
    assert at(found, "process_cpu_seconds_total", process="income@1.0") >= before
    assert not [name for name, _ in found if name == "process_resident_memory_bytes"]


def test_a_number_that_is_none_is_said_so() -> None:
    metrics = Metrics()
    for code, value in (("1", math.nan), ("2", math.inf), ("3", 2.5), ("4", 1e300)):
        metrics.requests.add("", "", code, by=value)
    found = {dict(labels)["code"]: value for (_, labels), value in samples(metrics.text()).items()}
    assert math.isnan(found["1"]) and found["2"] == math.inf and found["3"] == 2.5 and found["4"] == 1e300


PROMETHEUS = (
    b"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    b"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"", TEXT),
        (b"*/*", TEXT),
        (PROMETHEUS, OPENMETRICS),
        (b"application/openmetrics-text", OPENMETRICS),
        (b"Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", OPENMETRICS),
        (b"application/openmetrics-text;version=2.0.0", TEXT),
        (b"application/openmetrics-text;q=0", TEXT),
        (b"text/plain, application/openmetrics-text;q=0.9", TEXT),
        (b"application/openmetrics-text;q=nonsense, ;;,,", TEXT),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: bytes, kind: bytes) -> None:
    assert kind_for(accept) == kind


@given(st.binary(max_size=80))
def test_any_accept_header_gives_a_format(accept: bytes) -> None:
    assert kind_for(accept) in (TEXT, OPENMETRICS)
