"""Quantiles and means of timings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelyard.errors import DataError, UnknownName
from modelyard.measure.exact import quantile_ranks
from modelyard.measure.latency import observe_mean, observe_quantile


@given(
    samples=st.integers(1, 3000),
    q=st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 0.999]),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_ranks_are_the_tightest_that_the_binomial_allows(samples: int, q: float, confidence: float) -> None:
    low, high = quantile_ranks(samples, q, confidence)
    tail, law = (1 - confidence) / 2, stats.binom(samples, q)
    assert low is None or law.cdf(low - 1) <= tail * (1 + 1e-9)
    assert law.cdf(low or 0) > tail * (1 - 1e-9)
    assert high is None or law.sf(high - 1) <= tail * (1 + 1e-9)
    assert law.sf((high or samples + 1) - 2) > tail * (1 - 1e-9)


def test_a_quantile_is_the_smallest_sample_that_enough_are_at_or_below() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    values = [observe_quantile(samples, q, 0.95, "latency_p95_ms").value for q in (0.07, 0.5, 0.95)]
    assert values == [7.0, 50.0, 95.0]  # 0.07 * 100 is a little over 7 in binary


def test_a_tail_that_the_samples_do_not_reach_has_no_upper_edge() -> None:
    seen = observe_quantile(np.arange(100.0), 0.99, 0.95, "latency_p99_ms")
    assert seen.low == 96.0
    assert seen.high is None
    assert seen.samples == 100


def test_nothing_timed_has_no_value() -> None:
    seen = observe_quantile(np.array([]), 0.5, 0.95, "latency_p50_ms")
    assert (seen.value, seen.samples) == (None, 0)


def test_the_mean_has_students_interval() -> None:
    samples = np.random.default_rng(0).exponential(size=40)
    seen = observe_mean(samples, 0.9, "cost_per_thousand")
    theirs = stats.ttest_1samp(samples, 0).confidence_interval(0.9)
    assert (seen.low, seen.high) == pytest.approx((theirs.low, theirs.high))
    assert seen.unit == "currency"


def test_one_measurement_has_no_interval() -> None:
    seen = observe_mean(np.array([3.0]), 0.95, "throughput_rows_per_s")
    assert (seen.value, seen.low, seen.high) == (3.0, None, None)


def test_a_timing_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        observe_quantile(np.array([1.0, np.nan]), 0.5, 0.95, "latency_p50_ms")


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownName):
        observe_mean(np.array([1.0, 2.0]), 0.95, "latency")


def test_a_quantile_out_of_range_is_refused() -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        observe_quantile(np.array([1.0]), 95, 0.95, "latency_p95_ms")
