"""Timing and weighing a packed bundle, alone in a process of its own."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from modelyard.bundle.check import check_rows
from modelyard.bundle.open import Bundle, open_bundle
from modelyard.core.codec import decode
from modelyard.core.ports import EngineLoader
from modelyard.core.requirement import Observation
from modelyard.errors import ContractBroken, DataError
from modelyard.measure.latency import observe_mean, observe_quantile

BATCH = 256
LARGE_BATCH = 4096
WARM_UP = 20
RUN = 50  # single rows whose CPU seconds are read together
LEAST_CALLS = 30
LEAST_LARGE = 5


class TimingJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to time: a body, rows to ask, and how long each part may take."""

    body: str
    rows: str  # a JSON file with a list of rows
    single_s: float
    batch_s: float
    most_calls: int = 3000


class Timings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was timed. Times are wall milliseconds of one call, CPU is seconds a row."""

    single_ms: tuple[float, ...]  # one row: contract check, steps, graph
    batch_ms: tuple[float, ...]  # 256 rows, checked before
    rows_per_s: tuple[float, ...]  # batches of 4096 rows, checked before, one thread
    cpu_s: tuple[float, ...]  # mean over runs of 50 single rows
    open_ms: float
    memory_mb: float
    body_bytes: int


def run_timing(job: TimingJob, loader: EngineLoader) -> Timings:
    """Open the body with one thread, run it and return what was seen."""
    given = decode(Path(job.rows).read_bytes(), list[dict[str, object]])
    before = _resident_mb()
    begun = time.perf_counter()
    bundle = open_bundle(Path(job.body), loader, threads=1)
    open_ms = (time.perf_counter() - begun) * 1000
    try:
        rows = _sound(bundle, given)
        single, cpu = _single(bundle, rows, job)
        columns = check_rows(bundle.body.contract, [rows[place % len(rows)] for place in range(LARGE_BATCH)])
        small = columns.take(slice(0, BATCH))
        batch = _calls(lambda: bundle.answer(small), job.batch_s, least=LEAST_CALLS, most=job.most_calls)
        large = _calls(lambda: bundle.answer(columns), job.batch_s, least=LEAST_LARGE, most=job.most_calls)
        after = _resident_mb()
    finally:
        bundle.close()
    return Timings(
        single_ms=tuple(single),
        batch_ms=tuple(batch),
        rows_per_s=tuple(LARGE_BATCH / (ms / 1000) for ms in large),
        cpu_s=tuple(cpu),
        open_ms=open_ms,
        memory_mb=max(after - before, 0.0),
        body_bytes=sum(path.stat().st_size for path in Path(job.body).rglob("*") if path.is_file()),
    )


def _sound(bundle: Bundle, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows that keep the contract; others would be refused, not answered. Raises DataError for none."""
    sound = []
    for row in rows:
        with contextlib.suppress(ContractBroken):
            check_rows(bundle.body.contract, [row], unknown_category=bundle.manifest.unknown_category)
            sound.append(row)
    if not sound:
        raise DataError("No row to time the bundle with keeps its contract.")
    return sound


def _single(bundle: Bundle, rows: list[dict[str, object]], job: TimingJob) -> tuple[list[float], list[float]]:
    """Time single rows in runs of 50; return milliseconds a call and CPU seconds a row by run."""
    for row in (rows * WARM_UP)[:WARM_UP]:
        bundle.predict([row])
    times: list[float] = []
    cpu: list[float] = []
    deadline = time.perf_counter() + job.single_s
    while len(times) < job.most_calls and (len(times) < LEAST_CALLS or time.perf_counter() < deadline):
        used = time.process_time()
        for _ in range(RUN):
            row = rows[len(times) % len(rows)]
            begun = time.perf_counter()
            bundle.predict([row])
            times.append((time.perf_counter() - begun) * 1000)
        cpu.append((time.process_time() - used) / RUN)
    return times, cpu


def _calls(call: Callable[[], object], seconds: float, *, least: int, most: int) -> list[float]:
    call()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < most and (len(times) < least or time.perf_counter() < deadline):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return times


def _resident_mb() -> float:
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # the peak, where Linux's table is missing


def observe_timings(timings: Timings, *, confidence: float, price_per_cpu_hour: float) -> list[Observation]:
    """Return every metric of timing and weight, with intervals."""
    single = np.array(timings.single_ms)
    cost = np.array(timings.cpu_s) * 1000 / 3600 * price_per_cpu_hour
    return [
        observe_quantile(single, 0.50, confidence, "latency_p50_ms"),
        observe_quantile(single, 0.95, confidence, "latency_p95_ms"),
        observe_quantile(single, 0.99, confidence, "latency_p99_ms"),
        observe_quantile(np.array(timings.batch_ms), 0.95, confidence, "batch_latency_p95_ms"),
        observe_mean(np.array(timings.rows_per_s), confidence, "throughput_rows_per_s"),
        observe_mean(cost, confidence, "cost_per_thousand"),
        weighed("memory_mb", timings.memory_mb, "MB", "growth of resident memory in a fresh process", confidence),
        weighed("size_mb", timings.body_bytes / 1e6, "MB", "bytes of all files of the body", confidence),
    ]


def weighed(metric: str, value: float, unit: str, method: str, confidence: float) -> Observation:
    """Return an observation that has no sampling error."""
    return Observation(
        metric=metric, value=value, low=value, high=value, confidence=confidence, samples=1, unit=unit, method=method
    )
