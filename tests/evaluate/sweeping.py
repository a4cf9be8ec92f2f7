"""Measurements of sweeps, made up."""

from __future__ import annotations

from modelyard.core.machine import Machine
from modelyard.core.sweep import ServingSettings, SweepEvidence, SweepPoint, WaitPoint

MACHINE = Machine(processor="test", cores=2, memory_mb=8000, system="Linux", python="3.11", libraries={})


def point(
    workers: int = 1,
    threads: int = 1,
    batch_rows: int = 1,
    *,
    rows_per_s: float = 100.0,
    spread: float = 0.01,
    rounds: int = 5,
    p99_ms: float | None = None,
    cpu_us: float | None = None,
    memory_mb: float = 80.0,
    rates: tuple[float, ...] = (),
) -> SweepPoint:
    """Return a configuration whose quartiles lie a share `spread` below and above its rows a second."""
    busy_ms = 1000 * batch_rows * workers / rows_per_s
    return SweepPoint(
        workers=workers,
        threads=threads,
        batch_rows=batch_rows,
        rounds=rounds,
        calls=rounds * 10,
        p50_ms=busy_ms,
        p99_ms=busy_ms * 1.2 if p99_ms is None else p99_ms,
        rows_per_s=rows_per_s,
        rows_per_s_low=rows_per_s * (1 - spread),
        rows_per_s_high=rows_per_s * (1 + spread),
        cpu_us=1e6 * workers * threads / rows_per_s if cpu_us is None else cpu_us,
        memory_mb=memory_mb,
        rates=rates,
    )


def wait(delay_ms: float, p99_ms: float, *, spread: float = 0.02, p50_ms: float = 1.0, rounds: int = 5) -> WaitPoint:
    return WaitPoint(
        delay_ms=delay_ms, arrivals_per_s=1000.0, rows=600, rounds=rounds, p50_ms=p50_ms, p99_ms=p99_ms,
        p99_least_ms=p99_ms * (1 - spread), p99_most_ms=p99_ms * (1 + spread),
    )  # fmt: skip


def swept(*points: SweepPoint, chosen: ServingSettings | None = None, stopped: str = "") -> SweepEvidence:
    return SweepEvidence(
        machine=MACHINE, deadline_ms=1000.0, limit_s=20.0, spent_s=2.3, load_s=0.25, points=points, stopped=stopped,
        chosen=chosen or ServingSettings(),
    )  # fmt: skip
