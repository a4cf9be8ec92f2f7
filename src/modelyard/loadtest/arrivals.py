"""When requests become due: moments in seconds from the start, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from modelyard.core.load import Arrivals, LoadPlan
from modelyard.errors import UsageError

CHUNK = 4096


def arrivals(plan: LoadPlan) -> Iterator[float]:
    """Yield the moments of an open loop, in order, through warm-up and measured time.

    >>> list(arrivals(LoadPlan(arrivals=Arrivals.CONSTANT, rate=4, seconds=0.5, warmup_s=0.5)))
    [0.0, 0.25, 0.5, 0.75]
    """
    if plan.rate is None or plan.arrivals is Arrivals.CLOSED:
        raise UsageError("A closed loop has no moments of its own: give a rate for constant or Poisson arrivals.")
    end = plan.warmup_s + plan.seconds
    moments = _poisson(plan.rate, plan.seed) if plan.arrivals is Arrivals.POISSON else _constant(plan.rate)
    return itertools.takewhile(lambda moment: moment < end, moments)


def _constant(rate: float) -> Iterator[float]:
    return (number / rate for number in itertools.count())


def _poisson(rate: float, seed: int) -> Iterator[float]:
    """Yield moments whose gaps are exponential and independent."""
    generator = np.random.default_rng(seed)
    last = 0.0
    while True:
        moments = last + np.cumsum(generator.exponential(1 / rate, CHUNK))
        last = float(moments[-1])
        yield from moments.tolist()
