"""When a process has to go: rules over what fronts report and what the kernel says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modelyard.serve.messages import FrontReport, Limits

CONTROLLER_START_S = 15.0  # for a controller to load what it decides with, and to look for the first time


class Heard(NamedTuple):
    """A front's report and when it came, on the loop's clock."""

    report: FrontReport
    at: float


class Why(NamedTuple):
    """Why a process has to go: a word to count by, and what was seen."""

    word: str  # "silent" | "hung" | "wrong" | "slow" | "memory"
    seen: str


def why_kill_controller(mark: Path, *, started_at: float, now: float) -> Why | None:
    """Say why a rollout's controller has to go: the mark's time of change says until when it is alive.

    Times are of the machine's monotonic clock.
    """
    try:
        overdue_s = now - mark.stat().st_mtime
    except OSError:  # the rollout has just ended
        return None
    if overdue_s <= 0 or now - started_at <= CONTROLLER_START_S:
        return None
    return Why("hung", f"without a look {overdue_s:.0f} s longer than it said")


def why_kill_front(*, started_at: float, heard: Heard | None, now: float, limits: Limits) -> Why | None:
    """Say why a front has to go; None where it may stay. Until its first report it has time to start."""
    if heard is None:
        age_s = now - started_at
        return Why("slow", f"without a word {age_s:.0f} s after its start") if age_s > limits.start_timeout_s else None
    silent_s = now - heard.at
    return Why("silent", f"silent for {silent_s:.1f} s") if silent_s > limits.front_timeout_s else None


def why_kill_worker(
    name: str, *, started_at: float, reports: Iterable[Heard], now: float, limits: Limits
) -> Why | None:
    """Say why a worker has to go; None where it may stay.

    A report counts from the moment its facts began, so that nothing that was its predecessor's is held against it.
    """
    states = [(state, at) for report, at in reports if (state := report.workers.get(name)) is not None]
    connected = [(state, at) for state, at in states if state.connected]
    for state, at in connected:
        if state.waiting_s > limits.progress_timeout_s and at - state.waiting_s > started_at:
            return Why("hung", f"no progress for {state.waiting_s:.1f} s")
        if state.golden is False and at > started_at:
            return Why("wrong", "golden requests answered wrongly")
    if states and not connected and now - started_at > limits.start_timeout_s:
        return Why("slow", f"not ready after {now - started_at:.0f} s")
    return None


def why_kill_for_memory(resident_bytes: int, memory_mb: int | None) -> Why | None:
    """Say whether a worker holds more memory than it may.

    >>> why_kill_for_memory(700_000_000, 500).seen
    'memory of 668 MB is above its bound of 500 MB'
    """
    if memory_mb is None or resident_bytes <= memory_mb * 1024 * 1024:
        return None
    return Why("memory", f"memory of {resident_bytes / 1024 / 1024:.0f} MB is above its bound of {memory_mb} MB")
