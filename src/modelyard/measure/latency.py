"""Quantiles and means of timings, with intervals that assume no shape of distribution.

Timings are taken as independent of each other. A quantile beyond what the samples can bound has an
edge that is None, never a guess.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from modelyard.core.arrays import Floats
from modelyard.core.metrics import METRICS
from modelyard.core.requirement import Observation
from modelyard.errors import DataError, UnknownName
from modelyard.measure.exact import quantile_ranks


def observe_quantile(samples: Floats, q: float, confidence: float, metric: str) -> Observation:
    """Return a quantile of timings with its order-statistic interval.

    Args:
        samples: (n,) in the metric's unit, in any order.
        q: in (0, 1), such as 0.95.
        metric: a name of `core.metrics.METRICS`; gives the unit.
    Returns: the smallest sample with at least a share q at or below it; an edge is None where too few
        samples stand beyond the quantile; the value is None without samples.
    Raises: DataError for NaN or infinite samples or a q out of range; UnknownName for the metric.
    """
    if not 0 < q < 1:
        raise DataError(f"The quantile is {q}: wanted a share between 0 and 1, such as 0.95.")
    ordered = np.sort(_checked(samples, metric))
    count = len(ordered)
    if count == 0:
        return _observation(metric, None, (None, None), confidence, 0, "undefined: nothing was timed")
    value = float(ordered[max(0, int(np.ceil(round(q * count, 9))) - 1)])
    low, high = quantile_ranks(count, q, confidence)
    edges = (float(ordered[low - 1]) if low else None, float(ordered[high - 1]) if high else None)
    ranks = f"ranks {low or 'none'} and {high or 'none'} of {count}"
    return _observation(metric, value, edges, confidence, count, f"order statistics (distribution-free), {ranks}")


def observe_mean(samples: Floats, confidence: float, metric: str) -> Observation:
    """Return the mean of measurements with Student's t interval, such as cost or throughput by batch.

    Args:
        samples: (n,) in the metric's unit. One sample gives a value without an interval.
    Raises: DataError for NaN or infinite samples; UnknownName for the metric.
    """
    measured = _checked(samples, metric)
    count = len(measured)
    if count == 0:
        return _observation(metric, None, (None, None), confidence, 0, "undefined: nothing was measured")
    mean = float(measured.mean())
    if count == 1:
        return _observation(metric, mean, (None, None), confidence, 1, "one measurement: no interval")
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * float(measured.std(ddof=1)) / count**0.5
    method = f"mean of {count} measurements, Student's t interval"
    return _observation(metric, mean, (mean - reach, mean + reach), confidence, count, method)


def _checked(samples: Floats, metric: str) -> Floats:
    if metric not in METRICS:
        raise UnknownName("metric", metric, tuple(METRICS))
    measured = np.asarray(samples, dtype=np.float64)
    if not np.isfinite(measured).all():
        raise DataError(f"The samples of `{metric}` have NaN or infinite entries: a timing that failed is no timing.")
    return measured


def _observation(
    metric: str,
    value: float | None,
    edges: tuple[float | None, float | None],
    confidence: float,
    samples: int,
    method: str,
) -> Observation:
    return Observation(
        metric=metric,
        value=value,
        low=edges[0],
        high=edges[1],
        confidence=confidence,
        samples=samples,
        unit=METRICS[metric].unit,
        method=method,
    )
