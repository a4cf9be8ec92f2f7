"""From what a sweep measured to how a release is run: a pure choice, made again wherever it is served.

A configuration whose gain lies inside the noise is never chosen over a simpler one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from modelyard.core.evidence import Evidence
from modelyard.core.requirement import Direction, Requirement
from modelyard.core.sweep import ServingSettings, SweepEvidence, SweepPoint, WaitPoint

DEADLINE_SHARE = 0.25  # of what a caller may wait, for one batch: he waits for the one under way, then for his own
LAYOUT_GAIN = 0.05  # in rows a second; less is not worth a worker or a thread
BATCH_GAIN = 0.05  # less is not worth that all callers wait twice as long
WAIT_GAIN = 0.20  # in the p99; less is not worth a timer, which a lone caller would wait for
LEAST_WAIT_ROUNDS = 5
LEAST_ROUNDS = 3  # fewer have no spread to speak of
ODD_ROUNDS = 0.2  # the share that may say otherwise, where rounds are compared one by one
FRONT_US = 18.0  # CPU time that a front spends on a request
PROGRESS_TIMES = 10.0  # the slowest batch takes so many times less than what is held to be a hang
LEAST_PROGRESS_S = 0.5  # a machine at its limit may leave a healthy worker waiting for so long
MEMORY_TIMES, MEMORY_MORE_MB = 3.0, 256.0  # the bound: so many times the peak, and so much above it at least
LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")


def choose(
    points: Sequence[SweepPoint],
    *,
    deadline_ms: float,
    requirements: Sequence[Requirement] = (),
    waits: Sequence[WaitPoint] = (),
    cores: int,
    fronts: int = 1,
    workers: int | None = None,
    threads: int | None = None,
    batch_rows: int | None = None,
) -> ServingSettings:
    """Return the settings that the measurements speak for.

    Args:
        points: at least one, in any order.
        deadline_ms: how long a caller may wait for an answer.
        requirements: bounds on latency hold a batch's time too.
        cores: of the machine that serves; more than these are not used.
        fronts: processes before the workers, which need their own time on the same cores.
        workers, threads, batch_rows: what somebody decided; None is left to the measurements.
    """
    allowed_ms = allowed(deadline_ms, requirements)
    points = sorted(points, key=lambda p: (*_simplicity(p), p.batch_rows))
    kept = [p for p in points if workers in (None, p.workers) and threads in (None, p.threads)]
    if workers is None or threads is None:
        kept = [p for p in kept if p.workers * p.threads <= cores]
    known = kept or [p for p in points if p.layout == (1, 1)] or list(points)
    ladders = [_ladder(own, allowed_ms, batch_rows) for own in _by_layout(known)]
    quick = [ladder for ladder in ladders if ladder[0].p99_ms <= allowed_ms / DEADLINE_SHARE]
    best = [max(ladder, key=lambda p: p.rows_per_s) for ladder in quick or ladders]
    layout = _layout_of(best, cores, fronts).layout
    chosen = _batch_of(next(ladder for ladder in ladders if ladder[0].layout == layout))
    rows = batch_rows or chosen.batch_rows
    slowest_ms = chosen.p99_ms * max(1.0, rows / chosen.batch_rows)
    delay_ms, why_delay = _delay(waits if rows > 1 else ())
    return ServingSettings(
        workers=workers or chosen.workers,
        threads=threads or chosen.threads,
        batch_rows=rows,
        max_delay_ms=delay_ms,
        progress_timeout_s=max(LEAST_PROGRESS_S, PROGRESS_TIMES * slowest_ms / 1000),
        memory_mb=math.ceil(max(MEMORY_TIMES * chosen.memory_mb, chosen.memory_mb + MEMORY_MORE_MB)),
        reasons=(
            _why_layout(chosen, best, cores, fronts, told=bool(workers or threads)),
            _why_batch(chosen, allowed_ms, told=batch_rows),
            why_delay,
        ),
    )


def settings_of(
    records: Iterable[Evidence],
    *,
    deadline_ms: float,
    requirements: Sequence[Requirement] = (),
    cores: int,
    fronts: int = 1,
    workers: int | None = None,
    threads: int | None = None,
    batch_rows: int | None = None,
) -> ServingSettings:
    """Return how to run a release on a machine of so many cores, from the newest sweep on its record.

    What is not None was decided by somebody and stands. Without a sweep the rest has its default.
    """
    sweeps = [record.payload for record in records if isinstance(record.payload, SweepEvidence)]
    if not sweeps:
        default = ServingSettings()
        return ServingSettings(
            workers=workers or default.workers,
            threads=threads or default.threads,
            batch_rows=batch_rows or default.batch_rows,
            reasons=("There is no sweep on record: what nobody decided has its default.",),
        )
    return choose(
        sweeps[-1].points, deadline_ms=deadline_ms, requirements=requirements, waits=sweeps[-1].waits, cores=cores,
        fronts=fronts, workers=workers, threads=threads, batch_rows=batch_rows,
    )  # fmt: skip


def allowed(deadline_ms: float, requirements: Sequence[Requirement]) -> float:
    """Return the milliseconds that one batch may take: a share of the deadline or of the tightest bound on latency."""
    bounds = [
        r.bound
        for r in requirements
        if r.metric in LATENCIES and r.direction is Direction.AT_MOST and r.bound is not None and r.slice is None
    ]
    return DEADLINE_SHARE * min([deadline_ms, *bounds])


def gains(new: SweepPoint, old: SweepPoint, least: float, *, cores: int | None = None, fronts: int = 1) -> bool:
    """Say whether the one answers more rows than the other, by a least share and beyond the noise of both.

    With `cores` both are taken with the fronts before them, which need their own time on the same cores. A machine's
    speed changes from one round to the next for all configurations alike, so where the rates of the rounds are known
    each is compared with its own counterpart.
    """
    if min(new.rounds, old.rounds) < LEAST_ROUNDS:
        return False
    if new.rates and len(new.rates) == len(old.rates):
        most = [_most(point, cores, fronts) for point in (new, old)]
        pairs = zip(new.rates, old.rates, strict=True)
        ratios = sorted(min(ours, most[0]) / min(theirs, most[1]) for ours, theirs in pairs)
        return median(ratios) > 1 + least and ratios[int(ODD_ROUNDS * len(ratios))] > 1
    new_low, new_middle, _ = _served(new, cores, fronts)
    _, old_middle, old_high = _served(old, cores, fronts)
    return new_middle > (1 + least) * old_middle and new_low > old_high


def served_rows_per_s(point: SweepPoint, cores: int, fronts: int = 1) -> float:
    """Return a projection: the single rows a second that fronts and these workers answer on so many cores."""
    return _served(point, cores, fronts)[1]


def _served(point: SweepPoint, cores: int | None, fronts: int) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile of rows a second, by the front bounded where it is asked for."""
    own = (point.rows_per_s_low, point.rows_per_s, point.rows_per_s_high)
    most = _most(point, cores, fronts)
    return min(own[0], most), min(own[1], most), min(own[2], most)


def _most(point: SweepPoint, cores: int | None, fronts: int) -> float:
    """Return the rows a second that fronts leave room for."""
    if cores is None:
        return math.inf
    # A front is one process: at most a core's worth. All of them together have the machine's cores, no more.
    return min(fronts * 1e6 / FRONT_US, cores * 1e6 / (FRONT_US + point.cpu_us))


def _ladder(own: Sequence[SweepPoint], allowed_ms: float, told: int | None) -> list[SweepPoint]:
    """Return a layout's sizes of a batch that are in time, or the one nearest to what was told; small to large."""
    if told is not None:
        return [max((p for p in own if p.batch_rows <= told), key=lambda p: p.batch_rows, default=own[0])]
    return [own[0], *(p for p in own[1:] if p.p99_ms <= allowed_ms)]


def _batch_of(ladder: Sequence[SweepPoint]) -> SweepPoint:
    """Return the largest batch that gains on the one kept before it, and enough on the next smaller alone."""
    kept = ladder[0]
    for smaller, point in pairwise(ladder):
        if gains(point, kept, BATCH_GAIN) and point.rows_per_s > (1 + BATCH_GAIN) * smaller.rows_per_s:
            kept = point
    return kept


def _layout_of(best: Sequence[SweepPoint], cores: int, fronts: int) -> SweepPoint:
    kept = best[0]  # the simplest comes first
    for point in best[1:]:
        if gains(point, kept, LAYOUT_GAIN, cores=cores, fronts=fronts):
            kept = point
    return kept


def _delay(waits: Sequence[WaitPoint]) -> tuple[float, str]:
    """Return the shortest wait that answers sooner than none in every round; nearly always there is none."""
    ranked = sorted(waits, key=lambda wait: wait.delay_ms)
    if not ranked or ranked[0].delay_ms > 0:
        return 0.0, "A batch leaves as soon as a worker is idle; what waiting for others would gain was not measured."
    at_once = ranked[0]
    for wait in ranked[1:]:
        sooner = wait.p99_most_ms < at_once.p99_least_ms and wait.p99_ms < (1 - WAIT_GAIN) * at_once.p99_ms
        if sooner and wait.p50_ms <= at_once.p50_ms and min(wait.rounds, at_once.rounds) >= LEAST_WAIT_ROUNDS:
            return wait.delay_ms, (
                f"Waiting {wait.delay_ms:.3g} ms for others brings the p99 from {at_once.p99_ms:.3g} to "
                f"{wait.p99_ms:.3g} ms at {wait.arrivals_per_s:,.0f} rows a second."
            )
    return 0.0, (
        f"A batch leaves as soon as a worker is idle: p99 {at_once.p99_ms:.3g} ms at {at_once.arrivals_per_s:,.0f} "
        f"rows a second, and waiting up to {ranked[-1].delay_ms:.3g} ms for others did not lower it."
    )


def _by_layout(points: Sequence[SweepPoint]) -> list[list[SweepPoint]]:
    found: dict[tuple[int, int], list[SweepPoint]] = {}
    for point in points:
        found.setdefault(point.layout, []).append(point)
    return list(found.values())


def _simplicity(point: SweepPoint) -> tuple[int, int]:
    """Return what sorts the simple first: few cores, then few threads.

    Threads wait for each other wherever a front takes a core from one of them, which no sweep shows; processes do not.
    Measured of a convolutional network on two cores: one worker of two threads answered 83 rows a second alone and 62
    behind a front, two workers of one thread 83 and 80.
    """
    return point.workers * point.threads, point.threads


def _why_layout(chosen: SweepPoint, best: Sequence[SweepPoint], cores: int, fronts: int, *, told: bool) -> str:
    said = f"{_named(chosen)}: {chosen.rows_per_s:,.0f} rows a second"
    if told:
        return f"{said}, as the spec says."
    others = [p for p in best if p.layout != chosen.layout]
    if not others:
        return f"{said}; no other layout was measured."
    most = max(others, key=lambda p: p.rows_per_s)
    served = served_rows_per_s(chosen, cores, fronts)
    with_front = f" With the front before it, projected: {served:,.0f}." if served < chosen.rows_per_s else ""
    return f"{said}; the best other in time is {_named(most)} with {most.rows_per_s:,.0f}.{with_front}"


def _why_batch(chosen: SweepPoint, allowed_ms: float, *, told: int | None) -> str:
    rows = told or chosen.batch_rows
    size = "one row" if rows == 1 else f"up to {rows} rows"
    if told is not None:
        return f"Batches of {size}, as the spec says."
    return (
        f"Batches of {size}: p99 {chosen.p99_ms:.3g} ms of {allowed_ms:.3g} ms allowed to one; "
        "a larger one does not gain enough or takes too long."
    )


def _named(point: SweepPoint) -> str:
    workers = "1 worker" if point.workers == 1 else f"{point.workers} workers"
    return f"{workers} of {point.threads} thread{'s' if point.threads > 1 else ''}"
