"""A process of the sweep: it opens a body as a worker does, then runs and times the batches that it is asked for.

Lines of JSON come in and go out, one answer a line. Several such processes run side by side where several workers
are measured; they start a round at the same moment of the machine's monotonic clock.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from modelyard.bundle.check import check_rows
from modelyard.bundle.intake import Intake, Packed
from modelyard.bundle.open import Bundle, matches_golden, open_bundle
from modelyard.core.arrays import Columns, Floats
from modelyard.core.codec import decode, encode
from modelyard.core.ports import EngineLoader
from modelyard.errors import ContractBroken, DataError, EngineFailed

STATUS = Path("/proc/self/status")
MOST_BATCHES, MOST_BATCH_BYTES = 16, 64_000_000  # of one size, kept ready to ask


class SweepJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: a body and rows to ask. Without a file the golden rows are asked."""

    body: str
    rows: str | None = None  # a JSON file with a list of rows
    threads: int


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="ask", tag="round"):
    """Run batches of so many rows for so long, from moment `at` of the monotonic clock on."""

    batch_rows: int
    seconds: float
    least_calls: int
    at: float


class Arrivals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="ask", tag="arrivals"):
    """Answer rows that come one by one, at random moments, in batches of whatever waits."""

    batch_rows: int  # most of a batch
    delay_ms: float  # how long a row waits for others while nothing runs
    per_s: float
    seconds: float
    seed: int


class Opened(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to the job: the golden requests were answered as sealed."""

    open_ms: float


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a round: milliseconds of each batch; to arrivals: of each row, from its coming to its answer."""

    ms: tuple[float, ...]
    seconds: float
    cpu_s: float
    peak_mb: float


def run_sweep(lines: BinaryIO, out: BinaryIO, loader: EngineLoader) -> None:
    """Answer the lines until there are no more. Raises EngineFailed where the golden answers are not as sealed."""
    begun = time.monotonic()
    runner = _Runner(decode(lines.readline(), SweepJob), loader)
    try:
        _tell(out, Opened(open_ms=(time.monotonic() - begun) * 1000))
        for line in lines:
            _tell(out, runner.run(msgspec.json.decode(line, type=Round | Arrivals)))
    finally:
        runner.close()


def _tell(out: BinaryIO, record: msgspec.Struct) -> None:
    out.write(encode(record) + b"\n")
    out.flush()


class _Runner:
    """The body, open as in a worker, and rows to ask."""

    def __init__(self, job: SweepJob, loader: EngineLoader) -> None:
        self._bundle = open_bundle(Path(job.body), loader, threads=job.threads)
        golden = self._bundle.body.golden
        if not matches_golden(self._bundle.predict(golden.rows), golden):
            raise EngineFailed(
                f"The body in `{job.body}` answers its golden requests otherwise than when it was packed."
            )
        self._intake = Intake(self._bundle.body.contract, unknown_category=self._bundle.manifest.unknown_category)
        self._rows = _asked(self._bundle, job)
        self._ready: tuple[int, list[Packed]] = (0, [])
        gc.collect()
        gc.freeze()  # as a worker does

    def run(self, ask: Round | Arrivals) -> Seen:
        return self._arrivals(ask) if isinstance(ask, Arrivals) else self._round(ask)

    def close(self) -> None:
        self._bundle.close()

    def _batches(self, rows: int) -> list[Packed]:
        """Return a few batches of so many rows, as they come over the wire; they differ where there are rows enough."""
        if self._ready[0] != rows:
            size = rows * sum(values.nbytes for values in self._rows.values.values()) // len(self._rows)
            count = max(1, min(MOST_BATCHES, MOST_BATCH_BYTES // max(size, 1)))
            places = np.arange(rows * count, dtype=np.int64) % len(self._rows)
            packed = [self._intake.pack(self._rows.take(own)) for own in places.reshape(count, rows)]
            self._ready = (rows, packed)
        return self._ready[1]

    def _answer(self, packed: Packed, rows: int) -> None:
        """Do what a worker does with a batch between reading and writing its frame."""
        self._bundle.answer(self._intake.columns(packed, rows))

    def _round(self, ask: Round) -> Seen:
        batches = self._batches(ask.batch_rows)
        times: list[float] = []
        time.sleep(max(0.0, ask.at - time.monotonic()))
        cpu, begun = time.process_time(), time.perf_counter()
        end, before = begun + ask.seconds, begun
        while before < end or len(times) < ask.least_calls:
            self._answer(batches[len(times) % len(batches)], ask.batch_rows)
            after = time.perf_counter()
            times.append((after - before) * 1000)
            before = after
        return Seen(
            ms=tuple(times), seconds=before - begun, cpu_s=time.process_time() - cpu, peak_mb=peak_resident_mb()
        )

    def _arrivals(self, ask: Arrivals) -> Seen:
        due, most = arrival_times(ask.per_s, ask.seconds, ask.seed), ask.batch_rows
        packed = self._batches(most)[0]
        batches = [self._intake.cut(packed, 0, count, most) for count in range(1, most + 1)]
        cpu, begun = time.process_time(), time.perf_counter()
        waited: list[float] = []
        while (first := len(waited)) < len(due):
            count = _next_batch(due, first, ask, begun)
            self._answer(batches[count - 1], count)
            done = time.perf_counter() - begun
            waited += [(done - moment) * 1000 for moment in due[first : first + count].tolist()]
        return Seen(
            ms=tuple(waited),
            seconds=time.perf_counter() - begun,
            cpu_s=time.process_time() - cpu,
            peak_mb=peak_resident_mb(),
        )


def _asked(bundle: Bundle, job: SweepJob) -> Columns:
    """Return the rows that keep the contract."""
    golden = [dict(row) for row in bundle.body.golden.rows]
    given = golden if job.rows is None else decode(Path(job.rows).read_bytes(), list[dict[str, object]])
    contract, unknown = bundle.body.contract, bundle.manifest.unknown_category
    alike: dict[tuple[tuple[int, ...], ...], list[dict[str, object]]] = {}  # by the shapes of their tensors
    for row in given:
        with contextlib.suppress(ContractBroken):
            checked = check_rows(contract, [row], unknown_category=unknown)
            alike.setdefault(tuple(checked[name].shape[1:] for name in checked), []).append(row)
    if not alike:
        raise DataError("No row to sweep the bundle with keeps its contract.")
    sound = max(alike.values(), key=len)  # rows of different shapes never share a batch
    return check_rows(contract, sound, unknown_category=unknown)


def arrival_times(per_s: float, seconds: float, seed: int) -> Floats:
    """Return the moments of a Poisson stream within so many seconds, at least one."""
    gaps = np.random.default_rng(seed).exponential(1 / per_s, max(1, round(per_s * seconds)))
    moments: Floats = np.cumsum(gaps)
    return moments


def _next_batch(due: Floats, first: int, ask: Arrivals, begun: float) -> int:
    """Wait until a batch may leave; return its rows. The wait is busy, as a sleep would be too coarse."""
    leaves = due[first] + ask.delay_ms / 1000
    while True:
        now = time.perf_counter() - begun
        count = min(int(np.searchsorted(due, now, side="right")) - first, ask.batch_rows)
        if count >= 1 and (now >= leaves or count == ask.batch_rows or first + count == len(due)):
            return count


def peak_resident_mb() -> float:
    """Return the most memory that this process ever had resident, in millions of bytes."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
