"""What a sweep measured of a packed body, and the settings that follow from it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from modelyard.core.machine import Machine

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class SweepPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configuration: workers side by side, threads of each, rows of a batch.

    Times are of one batch in one worker while all of them run. Rows a second are of all workers together: the median
    of the rounds, with their lower and upper quartile.
    """

    workers: PositiveInt
    threads: PositiveInt
    batch_rows: PositiveInt
    rounds: PositiveInt
    calls: PositiveInt
    p50_ms: Positive
    p99_ms: Positive
    rows_per_s: Positive
    rows_per_s_low: Positive
    rows_per_s_high: Positive
    cpu_us: NotNegative  # CPU microseconds of a row
    memory_mb: NotNegative  # peak resident memory of a worker, up to and with this configuration
    rates: tuple[Positive, ...] = ()  # rows a second of each round; all configurations run once a round, in turn

    @property
    def layout(self) -> tuple[int, int]:
        return self.workers, self.threads


class WaitPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that came one by one at a steady mean rate, and how long each waited for its answer under one delay."""

    delay_ms: NotNegative  # the longest time that a row waits for others while the worker is idle
    arrivals_per_s: Positive
    rows: PositiveInt
    rounds: PositiveInt
    p50_ms: Positive
    p99_ms: Positive  # median of the rounds
    p99_least_ms: Positive
    p99_most_ms: Positive


class ServingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release is run."""

    workers: PositiveInt = 1
    threads: PositiveInt = 1  # of each worker
    batch_rows: PositiveInt = 256
    max_delay_ms: NotNegative = 0.0
    progress_timeout_s: Positive = 2.0
    memory_mb: PositiveInt | None = None  # resident; a worker beyond it is replaced
    reasons: tuple[str, ...] = ()  # of each choice, in words


class SweepEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="sweep"):
    """The record of a sweep: what was measured, on which machine, in how much time, and what was chosen."""

    machine: Machine
    deadline_ms: Positive
    limit_s: Positive
    spent_s: NotNegative
    load_s: Positive  # from the start of a worker's process until it has answered the golden requests
    points: tuple[SweepPoint, ...]
    waits: tuple[WaitPoint, ...] = ()
    stopped: str = ""  # why it ended before its plan was done
    chosen: ServingSettings
