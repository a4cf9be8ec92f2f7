"""What is made of the samples: quantiles with intervals, steadiness, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from modelyard.core.load import Arrivals, LoadPlan, LoadWindow
from modelyard.core.requirement import Verdict
from modelyard.loadtest.quantiles import CLUSTERS, clustered_quantile, latency_quantiles
from modelyard.loadtest.steady import trend, unsettled
from modelyard.loadtest.summary import summarize
from modelyard.loadtest.tally import Outcome, Tally
from modelyard.measure.exact import quantile_ranks
from tests.loadtest.loads import p99_at_most, plan

STEADY = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.1, 0.9, 1.0, 1.02]


def windows(medians: list[float], due: int = 100) -> list[LoadWindow]:
    return [
        LoadWindow(start_s=float(number), due=due, answered=due, failed=0, p50_ms=one, p99_ms=one)
        for number, one in enumerate(medians)
    ]


def open_plan(rate: float = 100.0) -> LoadPlan:
    return plan(arrivals=Arrivals.POISSON, rate=rate, seconds=10.0)


def test_independent_latencies_get_about_the_intervals_of_order_statistics() -> None:
    random = np.random.default_rng(1)
    values, cluster = random.exponential(size=4000), random.integers(0, CLUSTERS, 4000)
    value, low, high, worth = clustered_quantile(values, cluster, 0.9, 0.95)
    ranks = quantile_ranks(4000, 0.9, 0.95)
    ordered = np.sort(values)
    assert worth > 1500
    assert value == ordered[3599]
    assert low == pytest.approx(ordered[(ranks[0] or 1) - 1], rel=0.04)
    assert high == pytest.approx(ordered[(ranks[1] or 4000) - 1], rel=0.04)


def test_intervals_cover_the_true_quantile_though_latencies_come_in_clusters() -> None:
    """A slow part of the time slows all of its requests: taken as independent, the intervals would miss it."""
    random = np.random.default_rng(2)
    runs, clustered_hits, plain_hits = 300, 0, 0
    true = float(stats.lognorm.ppf(0.9, np.hypot(0.3, 0.3)))
    for _ in range(runs):
        cluster = np.repeat(np.arange(CLUSTERS), 100)
        values = np.exp(0.3 * random.normal(size=CLUSTERS)[cluster] + 0.3 * random.normal(size=len(cluster)))
        _, low, high, _ = clustered_quantile(values, cluster, 0.9, 0.95)
        clustered_hits += (low or 0) <= true <= (high if high is not None else np.inf)
        ranks, ordered = quantile_ranks(len(values), 0.9, 0.95), np.sort(values)
        plain_hits += ordered[(ranks[0] or 1) - 1] <= true <= ordered[(ranks[1] or len(values)) - 1]
    assert clustered_hits / runs > 0.88
    assert plain_hits / runs < 0.6


def test_a_bound_that_no_request_reached_is_kept_though_the_slowest_came_together() -> None:
    latencies = np.full(2000, 0.001)
    latencies[500:530] = 0.004
    result = summarize(open_plan(200), tally_of(latencies.tolist()), requirements=[p99_at_most(5), p99_at_most(3)])
    assert [one.verdict for one in result.judgements] == [Verdict.PASS, Verdict.INCONCLUSIVE]


def test_quantiles_are_those_of_numpy_and_the_largest_is_the_largest() -> None:
    values = np.random.default_rng(3).exponential(size=5000)
    found = {one.q: one.value_ms for one in latency_quantiles(values, np.zeros(5000, dtype=np.int64))}
    for q in (0.5, 0.9, 0.95, 0.99, 0.999):
        assert found[q] == np.quantile(values, q, method="inverted_cdf")
    assert found[1.0] == values.max()


def test_a_quantile_that_too_few_samples_bound_has_an_open_edge() -> None:
    found = latency_quantiles(np.arange(1.0, 101.0), np.arange(100) % CLUSTERS)
    assert [one.high_ms is None for one in found] == [False, False, False, True, True, True]


def test_no_answers_have_no_quantiles() -> None:
    assert latency_quantiles(np.empty(0), np.empty(0, dtype=np.int64)) == ()


def test_steady_windows_are_settled() -> None:
    assert unsettled(open_plan(), windows(STEADY), 1000) == (False, ())


@pytest.mark.parametrize(("step", "word", "rising"), [(0.3, "rose", True), (-0.08, "fell", False)])
def test_latency_that_drifts_is_said(step: float, word: str, rising: bool) -> None:
    seen, reasons = unsettled(open_plan(), windows([one + step * number for number, one in enumerate(STEADY)]), 1000)
    assert seen is rising and word in reasons[0]


def test_one_stall_among_steady_windows_is_no_drift() -> None:
    assert unsettled(open_plan(), windows([*STEADY[:5], 90.0, *STEADY[5:]]), 1100) == (False, ())


def test_latency_that_swings_is_said() -> None:
    _, (reason,) = unsettled(open_plan(), windows([1.0, 5.0] * 6), 1200)
    assert "swung" in reason


def test_answers_that_fall_behind_are_said_but_for_those_in_flight() -> None:
    assert unsettled(open_plan(), windows(STEADY), 985)[0] is False
    rising, reasons = unsettled(open_plan(), windows(STEADY), 900)
    assert rising and "900 of 1000 requests that were due had ended" in reasons[0]
    slow = unsettled(open_plan(), windows([500.0 + number % 2 for number in range(10)]), 900)
    assert slow == (False, ())  # at half a second each, 50 of 100 a second are always open


def test_too_few_windows_are_said() -> None:
    assert "too few" in unsettled(open_plan(), windows(STEADY[:3]), 300)[1][0]


def test_the_trend_is_kendalls() -> None:
    values = np.random.default_rng(4).normal(size=12) + 0.2 * np.arange(12)
    tau = stats.kendalltau(np.arange(12), values).statistic
    score = tau * 12 * 11 / 2
    spread = np.sqrt(12 * 11 * 29 / 18)
    assert trend(values.tolist()) == pytest.approx((score - np.sign(score)) / spread)


def tally_of(latencies: list[float], *, seconds: float = 10.0, lag: float = 0.0) -> Tally:
    tally = Tally(100.0)
    for number, latency in enumerate(latencies):
        due = 100.0 + seconds * number / len(latencies)
        tally.add(due, due + lag, due + lag, due + latency, Outcome.ANSWERED)
    return tally


def test_a_late_generator_is_flagged_and_its_failures_are_left_open() -> None:
    latencies = np.random.default_rng(5).normal(0.05, 0.002, 5000).tolist()
    fine = summarize(open_plan(500), tally_of(latencies), requirements=[p99_at_most(20)])
    assert not fine.generator_limited and fine.verdict is Verdict.FAIL
    late = summarize(open_plan(500), tally_of(latencies, lag=0.03), requirements=[p99_at_most(20)])
    assert late.generator_limited and late.lag.p99_ms == pytest.approx(30, rel=0.01)
    assert late.verdict is Verdict.INCONCLUSIVE and late.judgements[0].verdict is Verdict.FAIL
    slow = summarize(open_plan(500), tally_of(latencies, lag=0.008), requirements=[p99_at_most(20)])
    assert slow.generator_limited and slow.verdict is Verdict.FAIL  # 8 ms of lateness are not what made it 50
    busy = summarize(open_plan(500), tally_of(latencies), generator_cpu_s=9.9)
    assert busy.generator_limited


def test_a_pass_that_would_not_have_lasted_is_left_open() -> None:
    latencies = np.linspace(0.001, 0.019, 5000).tolist()
    result = summarize(open_plan(500), tally_of(latencies), requirements=[p99_at_most(30)])
    assert result.rising and result.judgements[0].verdict is Verdict.PASS
    assert result.verdict is Verdict.INCONCLUSIVE


def test_the_warm_up_is_counted_apart() -> None:
    tally = Tally(100.0)
    tally.add(99.9, 99.9, 99.9, 100.5, Outcome.ANSWERED)
    tally.status(99.9, 503)
    tally.add(100.0, 100.0, 100.0, 100.5, Outcome.STATUS)
    tally.status(100.0, 503)
    assert (tally.warmed_up, len(tally)) == (1, 1)
    assert tally.failures().by_status == {"503": 1}


def test_throughput_counts_what_was_answered_within_the_measured_time() -> None:
    result = summarize(open_plan(), tally_of([0.001] * 900 + [30.0] * 100))
    assert result.throughput.value == pytest.approx(90)
    assert result.due == result.answered == 1000


def test_throughput_counts_the_warm_ups_answers_that_came_within_the_measured_time() -> None:
    tally = tally_of([0.001] * 900)
    for moment in (99.5, 104.0, 109.0, 111.0):  # before, within, within, after
        tally.add(99.0, 99.0, 99.0, moment, Outcome.ANSWERED)
    result = summarize(open_plan(), tally)
    assert result.throughput.value == pytest.approx(90.2)
    assert (result.due, result.warmed_up) == (900, 4)


def test_cost_is_processor_time_times_the_price() -> None:
    from modelyard.core.load import Usage

    used = Usage(processes=1, cpu_s=3.6, cores=0.36, cpu_us_per_request=3600, pss_mb=1, rss_mb=1)
    result = summarize(open_plan(), tally_of([0.001] * 1000), usage=used, price_per_cpu_hour=0.5)
    assert result.cost_per_thousand == pytest.approx(3.6 / 3600 * 0.5)  # 1 000 requests took 3.6 s
