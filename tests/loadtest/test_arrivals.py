"""When requests become due, and waking up then."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
import uvloop
from scipy import stats

from modelyard.core.load import Arrivals, LoadPlan
from modelyard.errors import UsageError
from modelyard.loadtest import alarm as alarms
from modelyard.loadtest.arrivals import arrivals


def moments(kind: Arrivals, **changes: Any) -> np.ndarray[Any, Any]:
    named: dict[str, Any] = {"arrivals": kind, "rate": 1000.0, "seconds": 50.0, "warmup_s": 0.0, **changes}
    return np.array(list(arrivals(LoadPlan(**named))))


@pytest.mark.parametrize("seed", range(3))
def test_poisson_gaps_are_exponential_with_the_rate_asked(seed: int) -> None:
    gaps = np.diff(moments(Arrivals.POISSON, seed=seed), prepend=0.0)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 1000)).pvalue > 0.001


@pytest.mark.parametrize("seed", range(3))
def test_poisson_counts_of_a_tenth_of_a_second_are_as_spread_as_they_must_be(seed: int) -> None:
    due = moments(Arrivals.POISSON, seed=seed)
    counts = np.bincount((due * 10).astype(int), minlength=500)
    statistic = counts.var(ddof=1) / counts.mean() * (len(counts) - 1)  # chi-square for a Poisson process
    assert 0.0001 < stats.chi2.cdf(statistic, len(counts) - 1) < 0.9999
    assert stats.kstest(due, "uniform", args=(0, 50)).pvalue > 0.001


def test_poisson_gaps_do_not_depend_on_the_gap_before() -> None:
    gaps = np.diff(moments(Arrivals.POISSON))
    assert abs(stats.spearmanr(gaps[:-1], gaps[1:]).statistic) < 0.02


def test_constant_arrivals_are_evenly_spaced_through_warm_up_and_measured_time() -> None:
    due = moments(Arrivals.CONSTANT, rate=8.0, seconds=2.0, warmup_s=1.0)
    assert due.tolist() == [number / 8 for number in range(24)]


def test_constant_arrivals_do_not_drift() -> None:
    due = moments(Arrivals.CONSTANT, rate=3000.0, seconds=100.0)
    assert len(due) == 300_000
    assert due[-1] == 299_999 / 3000


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others() -> None:
    first, again, other = (moments(Arrivals.POISSON, seconds=1.0, seed=seed) for seed in (7, 7, 8))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_closed_loop_has_no_moments() -> None:
    with pytest.raises(UsageError, match="no moments of its own"):
        arrivals(LoadPlan(arrivals=Arrivals.CLOSED))


@pytest.mark.parametrize("kind", ["_KernelAlarm", "_LoopAlarm"])
def test_an_alarm_rings_at_its_moment_and_a_later_one_replaces_it(kind: str) -> None:
    rung: list[float] = []

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        set_for: list[float] = []

        def ring() -> None:
            rung.append(time.monotonic() - set_for[-1])
            if len(rung) == 40:
                done.set()
                return
            set_for.append(time.monotonic() + 0.0003)
            bell.set(set_for[-1])

        bell = getattr(alarms, kind)(loop, ring)
        bell.set(time.monotonic() + 60)
        set_for.append(time.monotonic() + 0.0003)
        bell.set(set_for[-1])
        async with asyncio.timeout(20):
            await done.wait()
        bell.close()
        return rung

    late = uvloop.run(run())
    coarse = 0.0011 if kind == "_LoopAlarm" else 0.0  # the loop counts in milliseconds, and may ring before
    assert min(late) >= -coarse


def test_without_the_kernels_timer_the_loops_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no such call")

    monkeypatch.setattr(alarms, "_KernelAlarm", refused)

    async def run() -> str:
        bell = alarms.alarm(asyncio.get_running_loop(), lambda: None)
        bell.close()
        return type(bell).__name__

    assert uvloop.run(run()) == "_LoopAlarm"
