"""All that a service counts. Each process counts on its own board; what is shown is the sum over all boards."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from modelyard.serve.guard.priority import Shed
from modelyard.serve.keep.processes import start_ticks
from modelyard.serve.told.arm_families import NAMES, ArmFamilies
from modelyard.serve.told.board import Board, Bound
from modelyard.serve.told.board_file import Labels, read_all
from modelyard.serve.told.exposition import write
from modelyard.serve.told.families import BUCKETS_ROWS, BUCKETS_S, Counter, Family, Gauge, Histogram

__all__ = ["BUCKETS_ROWS", "BUCKETS_S", "BatchDone", "Finish", "Metrics", "exposition"]

NOT_FINITE, RESTARTS = "modelyard_not_finite_rows_total", "modelyard_worker_restarts_total"
SHADOW_COMPARED = "modelyard_shadow_compared_rows_total"
GONE = "(gone)"  # the release whose counts are those of all releases that are no longer kept
_QUEUE_REASONS = frozenset(Shed)
_TICKS_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """The families of a service over one board. Of one thread but for `text`."""

    def __init__(self, board: Board | None = None, *, version: str = "") -> None:
        self.board = board = Board() if board is None else board
        self._seen: dict[str, float] = {}  # totals kept elsewhere, as far as they are counted here
        self._ticks: dict[tuple[str, int, int], int] = {}  # of processes: CPU time that is counted
        self._of_requests(board)
        self._of_releases(board)
        self._of_shadows(board)
        self._of_processes(board)
        self.arms = ArmFamilies(board)
        if version:
            self.build.put(version, value=1)

    def _of_requests(self, board: Board) -> None:
        release = ("release",)
        self.requests = Counter(board, "modelyard_requests_total", "Replies sent.", ("release", "door", "code"))
        self.rows = Counter(board, "modelyard_rows_total", "Rows answered.", release)
        self.seconds = Histogram(
            board, "modelyard_request_seconds", "From whole request to reply.", ("release", "door")
        )
        self.failed_seconds = Counter(
            board, "modelyard_failed_seconds_total", "From whole request to a reply that is no answer.", release
        )
        self.stages = Histogram(
            board,
            "modelyard_stage_seconds",
            "Waiting in the queue, a batch away at a worker, a batch in the model, a reply being written.",
            ("release", "stage"),
        )
        self.infer = Histogram(board, "modelyard_inference_seconds", "A batch in the model.", release)
        self.batches = Counter(board, "modelyard_batches_total", "Batches answered by workers.", release)
        self.last = Gauge(
            board,
            "modelyard_last_inference_timestamp_seconds",
            "When a worker last answered a batch, in seconds since 1970.",
            release,
            join=max,
        )
        self.batch_rows = Histogram(board, "modelyard_batch_rows", "Rows of a batch.", release, bounds=BUCKETS_ROWS)
        self.degraded = Counter(
            board, "modelyard_degraded_total", "Answers by the fallback.", ("release", "reason", "by")
        )
        self.refused = Counter(
            board, "modelyard_refused_total", "Requests refused before they were queued.", ("release", "reason")
        )
        self.overloads = Counter(board, "modelyard_overloads_total", "Requests refused by a full queue.", release)
        self.faults = Counter(board, "modelyard_contract_faults_total", "Values that broke it.", ("release", "column"))
        self.unknown = Counter(board, "modelyard_unknown_categories_total", "Values never seen.", ("release", "column"))
        self.dropped = Counter(board, "modelyard_dropped_total", "Rows dropped before they ran.", ("release", "reason"))
        self.not_finite = Counter(board, NOT_FINITE, "Rows that the model answered with NaN or an infinity.", release)
        self.retries = Counter(board, "modelyard_retries_total", "Rows asked again.", ("release", "outcome"))

    def _of_shadows(self, board: Board) -> None:
        release = ("release",)
        self.shadow_copied = Counter(
            board, "modelyard_shadow_copied_rows_total", "Rows of requests that were to be copied.", release
        )
        self.shadow_rows = Counter(
            board, "modelyard_shadow_rows_total", "Rows copied, by what came of it.", ("release", "outcome")
        )
        self.shadow_compared = Counter(
            board, SHADOW_COMPARED, "Copied rows that the stable release answered too.", ("release", "answer")
        )
        self.shadow_seconds = Histogram(
            board, "modelyard_shadow_seconds", "From a copy sent to its worker to the answer.", release
        )

    def _of_releases(self, board: Board) -> None:
        release = ("release",)
        self.breaker_state = Gauge(
            board,
            "modelyard_breaker_state",
            "0 closed, 1 half-open, 2 open; the worst of all fronts.",
            release,
            join=max,
        )
        self.breaker_opened = Counter(board, "modelyard_breaker_opened_total", "Times a breaker opened.", release)
        self.poisoned = Gauge(
            board, "modelyard_poisoned_bodies", "Bodies refused, as they twice ended a worker.", join=max
        )
        self.restarts = Counter(board, RESTARTS, "Workers replaced.", ("release", "why"))
        self.workers = Gauge(board, "modelyard_workers", "Workers that answer.", release, join=max)
        self.busy = Counter(
            board, "modelyard_busy_seconds_total", "Workers with a batch; over workers and time, saturation.", release
        )
        self.queue = Gauge(board, "modelyard_queue_rows", "Rows that wait.", release)
        self.queue_bytes = Gauge(board, "modelyard_queue_bytes", "Bytes of the rows that wait.", release)
        self.ready = Gauge(
            board, "modelyard_ready", "1 if golden requests were just answered correctly.", release, join=min
        )

    def _of_processes(self, board: Board) -> None:
        process = ("process",)
        self.front_restarts = Counter(board, "modelyard_front_restarts_total", "Fronts replaced.")
        self.connections = Gauge(board, "modelyard_connections", "Open connections.")
        self.epoch = Gauge(
            board, "modelyard_traffic_epoch", "The traffic table followed; the oldest of all fronts.", join=min
        )
        self.log_drops = Counter(board, "modelyard_log_drops_total", "Log lines that found no room.")
        self.log_sampled = Gauge(
            board, "modelyard_log_sampled_ratio", "The share of good requests that are logged.", join=min
        )
        self.trace_drops = Counter(board, "modelyard_trace_drops_total", "Traces that found no room.")
        self.answer_drops = Counter(
            board, "modelyard_answer_drops_total", "Answers that should have been kept for their labels and were lost."
        )
        self.trace_unsent = Counter(board, "modelyard_trace_unsent_total", "Traces the collector did not get.")
        self.cpu = Counter(board, "process_cpu_seconds_total", "CPU time, user and system.", process)
        self.memory = Gauge(board, "process_resident_memory_bytes", "Memory in use.", process)
        self.build = Gauge(board, "modelyard_build_info", "The version that runs.", ("version",), join=max)

    @property
    def families(self) -> list[Family]:
        """Return every family, in the order it is shown."""
        return [family for family in vars(self).values() if isinstance(family, Family)]

    def finish(self, release: str, door: str) -> Finish:
        """Return what counts the good answers of a release by a door, each once."""
        return Finish(self, release, door)

    def batch_done(self, release: str) -> BatchDone:
        """Return what counts the answered batches of a release, once each."""
        return BatchDone(self, release)

    def refuse(self, release: str, reason: str) -> None:
        """Count a request refused before it was queued."""
        self.refused.add(release, reason)
        if reason in _QUEUE_REASONS:
            self.overloads.add(release)

    def follow(self, counter: Counter, total: float) -> None:
        """Count what a total of this process, kept elsewhere, grew by since this was last called."""
        counter.add(by=total - self._seen.get(counter.name, 0.0))
        self._seen[counter.name] = total

    def see(self, process: str, pid: int) -> None:
        """Count a process's CPU time, and say what memory it has; nothing where it is gone.

        It may be this process or any other of this user.
        """
        ticks = start_ticks(pid)
        try:
            used = sum(int(field) for field in _after_name(pid)[11:13])
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            ticks = None
        if ticks is None:
            self.memory.drop(process)
            return
        key = (process, pid, ticks)
        self.cpu.add(process, by=(used - self._ticks.get(key, 0)) * _TICKS_S)
        self._ticks = {known: count for known, count in self._ticks.items() if known[0] != process}
        self._ticks[key] = used
        self.memory.put(process, value=pages * _PAGE_BYTES)

    def retire(self, release: str) -> None:
        """Count a release that is no longer kept among those gone, so that reloads leave no growth."""
        places = {family.name: family.labels for family in self.families}

        def rename(name: str, labels: Labels) -> Labels | None:
            names = places.get(name, ())
            if name in NAMES and labels[:1] == (release,):
                return None
            if "release" in names and labels[names.index("release")] == release:
                place = names.index("release")
                return (*labels[:place], GONE, *labels[place + 1 :])
            if names == ("process",) and labels[0].startswith(release + "."):
                return (GONE,)
            return labels

        with contextlib.suppress(OSError):  # without room on the disk it is kept as it is
            self.board.fold(rename)

    def text(self, folder: Path | None = None, *, openmetrics: bool = False) -> bytes:
        """Return what all boards of the folder hold, and ours where it is not one of them."""
        readings = [] if folder is None else read_all(folder)
        if folder is None or self.board.path is None:
            readings.append(self.board.read())
        return write(self.families, readings, openmetrics=openmetrics)


class Finish(Bound):
    """Counts good answers, each once: the reply, its rows, the time it took and that in the queue."""

    __slots__ = ("_made", "_places")

    def __init__(self, metrics: Metrics, release: str, door: str) -> None:
        self._made = (
            metrics.requests.series(release, door, "200"),
            metrics.rows.series(release),
            metrics.seconds.series(release, door),
            metrics.stages.series(release, "queue"),
        )
        self.rebind()
        metrics.board.bound.add(self)

    def rebind(self) -> None:
        ok, rows, seconds, queue = self._made
        self._places = (ok.cells, ok.first, rows.first, seconds.first, seconds.last, queue.first, queue.last)

    def __call__(self, answers: Sequence[tuple[int, float, float, float]]) -> None:
        """Count answers: the rows of each, and when it arrived, left for a worker and was answered."""
        cells, ok, row, first, total, queue_first, queue_total = self._places
        all_rows, all_s, all_queued_s = 0, 0.0, 0.0
        for rows, arrived, sent, ended in answers:
            seconds, queued_s = ended - arrived, sent - arrived
            all_rows += rows
            all_s += seconds
            all_queued_s += queued_s
            cells[first + bisect_left(BUCKETS_S, seconds)] += 1.0
            cells[queue_first + bisect_left(BUCKETS_S, queued_s)] += 1.0
        cells[ok] += len(answers)
        cells[row] += all_rows
        cells[total] += all_s
        cells[queue_total] += all_queued_s


class BatchDone:
    """Counts an answered batch, once: its rows, the time it was away and that in the model."""

    __slots__ = ("_away", "_batches", "_busy", "_infer", "_inference", "_rows")

    def __init__(self, metrics: Metrics, release: str) -> None:
        self._batches = metrics.batches.bind(release)
        self._rows = metrics.batch_rows.bind(release)
        self._away = metrics.stages.bind(release, "batch")
        self._inference = metrics.stages.bind(release, "inference")
        self._infer = metrics.infer.bind(release)
        self._busy = metrics.busy.bind(release)

    def __call__(self, rows: int, away_s: float, infer_s: float) -> None:
        """Count."""
        self._batches.add()
        self._rows.add(rows)
        self._away.add(away_s)
        self._inference.add(infer_s)
        self._infer.add(infer_s)
        self._busy.add(away_s)


def exposition(folder: Path, *, openmetrics: bool = False) -> bytes:
    """Return what all boards of a folder hold, for whoever has none."""
    return write(Metrics().families, read_all(folder), openmetrics=openmetrics)


def _after_name(pid: int) -> list[str]:
    """Return the fields of a process's stat after its name, which may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
