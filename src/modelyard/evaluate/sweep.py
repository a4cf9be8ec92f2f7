"""The sweep: how batches, threads and workers pay for a packed body, measured in processes of their own.

First the batch grows in one worker of one thread until it gains nothing. Then every configuration is measured in turn,
round after round, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from modelyard.core.ports import Spawn
from modelyard.core.sweep import SweepPoint, WaitPoint
from modelyard.errors import EngineFailed
from modelyard.evaluate.sweep_bench import Bench
from modelyard.evaluate.sweep_child import Arrivals, Seen, SweepJob
from modelyard.evaluate.sweep_choice import BATCH_GAIN, FRONT_US

LIMIT_S = 20.0  # of everything; small models need a tenth
AIM_S = 0.8  # of what is measured round after round, where a batch is short
MOST_BATCH_ROWS = 1024
MOST_WORKERS = 16
ROUNDS = 5
LOOK_S = 0.004  # at a batch size, while the batch grows
SLICE_S = (0.002, 0.05)  # of a configuration in a round, at least and at most
FLAT = 2  # doublings without a gain end the growth
LEAST_CALLS = 2  # in a round; one where a batch takes longer than a slice
MEMORY_SHARE = 0.5  # of the machine, that workers side by side may take
LOADED = 0.5  # of what a worker can do: the rate at which rows come where waiting is measured
WAIT_S, WAIT_ROWS, WAIT_ROUNDS = 0.04, 200, 5
DELAYS = (0.0, 1.0, 4.0)  # in times of a single row

Configuration = tuple[int, int, int]  # workers, threads, rows of a batch


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What to sweep, and within which bounds."""

    body: str
    rows: str | None  # a JSON file with rows to ask; None: the golden ones
    batch_ms: float  # that one batch may take; what takes longer is not looked at
    cores: int
    memory_mb: float  # of the machine
    limit_s: float = LIMIT_S
    aim_s: float = AIM_S
    most_batch_rows: int = MOST_BATCH_ROWS


@dataclass(kw_only=True)
class Measured:
    """What was measured; `stopped` says what was left out and why."""

    load_s: float = 0.0
    spent_s: float = 0.0
    points: tuple[SweepPoint, ...] = ()
    waits: tuple[WaitPoint, ...] = ()
    stopped: str = ""


def sweep(plan: SweepPlan, spawn: Spawn) -> Measured:
    """Measure a body. Raises EngineFailed where not even single rows in one worker could be measured."""
    job = SweepJob(body=plan.body, rows=plan.rows, threads=1)
    run = _Sweep(plan, Bench(job, spawn))
    try:
        run.all()
    except EngineFailed as fault:
        if not run.rounds:
            raise
        run.notes.append(str(fault))
    finally:
        run.bench.close()
    run.out.points = tuple(_point(place, rounds) for place, rounds in sorted(run.rounds.items()))
    run.out.spent_s = run.spent_s
    run.out.stopped = " ".join(run.notes)
    return run.out


class _TimeIsUp(Exception):
    pass


@dataclass
class _Sweep:
    """One sweep under way."""

    plan: SweepPlan
    bench: Bench
    out: Measured = field(default_factory=Measured)
    rounds: dict[Configuration, list[list[Seen]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.begun

    def all(self) -> None:
        self.out.load_s = self.bench.grow({1: 1})
        try:
            looks = self._growth()
            self._turns(looks)
            self._waiting(looks)
        except _TimeIsUp:
            self.notes.append(f"The time limit of {self.plan.limit_s:g} s ended it.")

    def _growth(self) -> dict[int, float]:
        """Double the batch of one worker until it gains nothing or takes too long; return milliseconds by size."""
        looks: dict[int, float] = {}
        best, flat, rows = 0.0, 0, 1
        while rows <= self.plan.most_batch_rows and flat < FLAT:
            expected_s = 3 * 2 * looks.get(rows // 2, 0.0) / 1000
            (seen,) = self._round((1, 1, rows), LOOK_S, calls=3, expected_s=expected_s)
            took_ms = min(seen.ms)  # what else the machine does only adds
            if not looks:
                self.rounds[1, 1, 1] = [[seen]]  # something is known, whatever comes; measured again in its turn
            elif took_ms > self.plan.batch_ms:
                break
            looks[rows] = took_ms
            flat = 0 if rows / took_ms > best * (1 + BATCH_GAIN / 2) else flat + 1
            best = max(best, rows / took_ms)
            rows *= 2
        return looks

    def _turns(self, looks: dict[int, float]) -> None:
        """Measure every configuration in turn, a round after the other, each second one backwards."""
        places = self._configurations(looks)
        self.bench.grow(processes((workers, threads) for workers, threads, _ in places))
        took_s: dict[Configuration, float] = {}
        for place in places:  # the first call of a size makes room in memory
            seen = self._round(place, 0.0, calls=1, expected_s=looks[place[2]] / 1000)
            took_s[place] = max(one.seconds for one in seen)
        slice_s = min(max(self.plan.aim_s / (len(places) * ROUNDS), SLICE_S[0]), SLICE_S[1])
        for turn in range(ROUNDS):
            for place in places if turn % 2 == 0 else reversed(places):
                calls = LEAST_CALLS if took_s[place] < SLICE_S[1] else 1
                seen = self._round(place, slice_s, calls=calls, expected_s=max(slice_s, calls * took_s[place]))
                if turn == 0:
                    self.rounds[place] = []  # what the growth left of a single row goes
                self.rounds[place].append(seen)

    def _configurations(self, looks: dict[int, float]) -> list[Configuration]:
        """Return one worker of one thread at every size looked at, and the other layouts near the size that pays."""
        pays = paying(looks)
        near = [rows for rows in looks if rows in (1, pays // 2, pays, pays * 2, pays * 4)]
        found = [(1, 1, rows) for rows in looks]
        peak_mb = self.rounds[1, 1, 1][0][0].peak_mb
        kept: list[tuple[int, int]] = [(1, 1)]
        left_out: list[tuple[int, int]] = []
        for layout in layouts(self.plan.cores)[1:]:
            count = sum(processes([*kept, layout]).values())
            fits = count * peak_mb <= MEMORY_SHARE * self.plan.memory_mb
            (kept if fits else left_out).append(layout)
        if left_out:
            said = ", ".join(f"{workers} x {threads}" for workers, threads in left_out)
            self.notes.append(f"Not measured for want of memory, workers x threads: {said}.")
        return found + [(*layout, rows) for layout in kept[1:] for rows in near]

    def _waiting(self, looks: dict[int, float]) -> None:
        """Measure whether rows that wait for others are answered sooner; only where a larger batch pays at all."""
        pays = paying(looks)
        if pays == 1:
            return
        per_s = LOADED * min(pays / (looks[pays] / 1000), 1e6 / FRONT_US)  # no more than a front brings
        seconds = max(WAIT_S, WAIT_ROWS / per_s)
        needed_s = 2 * seconds * WAIT_ROUNDS * len(DELAYS)
        if self.spent_s + needed_s > self.plan.limit_s:
            self.notes.append(f"Waiting for others was not measured: it could have taken {needed_s:.0f} s more.")
            return
        seen: dict[float, list[Seen]] = {}
        for turn in range(WAIT_ROUNDS):
            for times in DELAYS:
                ask = Arrivals(batch_rows=pays, delay_ms=times * looks[1], per_s=per_s, seconds=seconds, seed=turn)
                seen.setdefault(times * looks[1], []).append(self.bench.arrivals(ask))
        self.out.waits = tuple(_wait_point(delay, per_s, rounds) for delay, rounds in seen.items())

    def _round(self, place: Configuration, seconds: float, *, calls: int, expected_s: float) -> list[Seen]:
        self._hold(expected_s)
        workers, threads, rows = place
        return self.bench.round(
            workers=workers, threads=threads, batch_rows=rows, seconds=seconds, least_calls=calls,
            expected_s=max(seconds, expected_s, self.plan.limit_s - self.spent_s),
        )  # fmt: skip

    def _hold(self, expected_s: float) -> None:
        if self.rounds and self.spent_s + expected_s > self.plan.limit_s:  # the first look is taken in any case
            raise _TimeIsUp


def layouts(cores: int) -> list[tuple[int, int]]:
    """Return workers and threads of each, doubled as far as the cores go, the simplest first.

    >>> layouts(2)
    [(1, 1), (1, 2), (2, 1)]
    >>> layouts(3)
    [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1)]
    """
    sizes = sorted({*(2**power for power in range(cores.bit_length())), cores})
    pairs = [(w, t) for w in sizes for t in sizes if w * t <= cores and w <= MOST_WORKERS]
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[0]))


def processes(kept: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return how many processes of each number of threads layouts need; a process is of one number only.

    >>> processes([(1, 1), (1, 2), (2, 1)])
    {1: 2, 2: 1}
    """
    wanted: dict[int, int] = {}
    for workers, threads in kept:
        wanted[threads] = max(workers, wanted.get(threads, 0))
    return wanted


def paying(looks: dict[int, float]) -> int:
    """Return the size of batch up to which each was worth growing to, by milliseconds a batch.

    >>> paying({1: 1.0, 2: 1.1, 4: 1.5, 8: 2.9})
    4
    """
    kept = min(looks)
    for rows in sorted(looks):
        if rows / looks[rows] > (1 + BATCH_GAIN) * kept / looks[kept]:
            kept = rows
    return kept


def _point(place: Configuration, rounds: list[list[Seen]]) -> SweepPoint:
    workers, threads, rows = place
    rates = [sum(rows * len(seen.ms) / seen.seconds for seen in one) for one in rounds]
    cpu = [sum(seen.cpu_s for seen in one) / sum(rows * len(seen.ms) for seen in one) for one in rounds]
    ms = np.sort(np.array([took for one in rounds for seen in one for took in seen.ms]))
    low, middle, high = (float(value) for value in np.quantile(rates, (0.25, 0.5, 0.75)))
    return SweepPoint(
        workers=workers,
        threads=threads,
        batch_rows=rows,
        rounds=len(rounds),
        calls=len(ms),
        p50_ms=float(np.quantile(ms, 0.50, method="inverted_cdf")),
        p99_ms=float(np.quantile(ms, 0.99, method="inverted_cdf")),
        rows_per_s=middle,
        rows_per_s_low=low,
        rows_per_s_high=high,
        cpu_us=float(np.median(cpu)) * 1e6,
        memory_mb=max(seen.peak_mb for one in rounds for seen in one),
        rates=tuple(float(rate) for rate in rates),
    )


def _wait_point(delay_ms: float, per_s: float, rounds: list[Seen]) -> WaitPoint:
    tails = [float(np.quantile(one.ms, 0.99, method="inverted_cdf")) for one in rounds]
    return WaitPoint(
        delay_ms=delay_ms,
        arrivals_per_s=per_s,
        rows=sum(len(one.ms) for one in rounds),
        rounds=len(rounds),
        p50_ms=float(np.median([took for one in rounds for took in one.ms])),
        p99_ms=float(np.median(tails)),
        p99_least_ms=min(tails),
        p99_most_ms=max(tails),
    )
