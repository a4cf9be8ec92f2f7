"""Loads against a server whose delays and faults are known: what is measured is what it did."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.core.load import Arrivals, LoadPlan
from modelyard.core.requirement import Verdict
from modelyard.errors import DeadlineExceeded, NotRunning, ServiceError, UsageError
from tests.loadtest.loads import closed, load, ms, p99_at_most, plan
from tests.loadtest.server import FIXED_S, SLOW_S, STALL_S, Known, known_server

NOISE_MS = 15.0  # of a machine that runs other tests beside


def test_a_fixed_delay_is_every_quantiles_floor_and_its_median(known: Known) -> None:
    result = load(known.url("fixed"), plan())
    assert result.answered == result.due == 400
    floor = 1000 * FIXED_S
    assert floor - 1 < ms(result, 0.5) < floor + NOISE_MS
    assert result.throughput.value == pytest.approx(200, rel=0.05)


def test_heavy_tailed_delays_are_measured_as_the_server_drew_them() -> None:
    wanted = plan(arrivals=Arrivals.POISSON, rate=400, seconds=3, warmup_s=0, connections=256)
    for _ in range(3):  # what else the machine does can only add to a latency
        with known_server() as known:
            result = load(known.url("heavy"), wanted)
            drawn = 1000 * np.array(known.told()["delays"][1:])  # the first tried the address
        assert len(drawn) == result.due == result.answered
        true = {q: float(np.quantile(drawn, q, method="inverted_cdf")) for q in (0.5, 0.9, 0.99)}
        assert all(ms(result, q) > one - 1 for q, one in true.items())
        if all(ms(result, q) < 1.1 * one + NOISE_MS for q, one in true.items()):
            return
    raise AssertionError(f"three times slower than the delays {true}: {result.latency}")


def test_a_stall_shows_in_the_open_loop_and_hides_from_a_closed_one(known: Known) -> None:
    hidden = load(known.url("stall"), closed(1, warmup_s=0.0, seconds=3))
    with_stall = 1000 * STALL_S
    assert ms(hidden, 1.0) > with_stall - 20  # it was there ...
    assert ms(hidden, 0.99) < with_stall / 4  # ... and one of thousands


def test_the_open_loops_p99_is_the_stalls() -> None:
    # 100 of 1 500 requests fell due within the stall: evenly 0 to 200 ms late, so 1 of 100 waited 170 ms and more.
    for _ in range(3):  # what else the machine does can only add to it
        with known_server() as known:
            result = load(known.url("stall"), plan(rate=500, seconds=3, warmup_s=0.0, connections=8))
        assert ms(result, 0.99) > 1000 * STALL_S * 0.6
        if ms(result, 0.99) < 1000 * STALL_S + NOISE_MS and ms(result, 0.5) < 20:
            return
    raise AssertionError(f"more than the stall, three times: {result.latency}")


def test_requests_beyond_the_connections_wait_and_the_wait_is_counted(known: Known) -> None:
    # Two connections answer 20 requests a second; 40 are due: half wait, longer and longer.
    result = load(known.url("slow"), plan(rate=40, connections=2, seconds=2, warmup_s=0, timeout_s=5))
    assert result.due == result.answered == 80
    assert ms(result, 1.0) == pytest.approx(1000 * (80 / 2 * SLOW_S - 2 + SLOW_S), rel=0.2)
    assert result.rising and any("fell behind" in reason for reason in result.unsettled)
    assert result.lag.waited_p99_ms > 1000
    assert result.lag.p99_ms < result.lag.waited_p99_ms / 10


def test_what_is_never_sent_in_time_is_counted_as_late(known: Known) -> None:
    result = load(known.url("slow"), plan(rate=100, connections=1, seconds=1, warmup_s=0, timeout_s=0.3))
    assert result.due == 100 == result.answered + result.failures.total
    assert result.failures.late > 50
    assert known.told()["counts"]["requests"] == result.sent_in_all


@pytest.mark.parametrize("arrivals", [Arrivals.CONSTANT, Arrivals.POISSON, Arrivals.CLOSED])
def test_counts_are_the_servers_own(known: Known, arrivals: Arrivals) -> None:
    wanted = closed(16) if arrivals is Arrivals.CLOSED else plan(arrivals=arrivals, rate=700)
    result = load(known.url("plain"), wanted, bodies=(b"one", b"two"))
    counts = known.told()["counts"]
    assert counts["requests"] == counts["answered"] == result.sent_in_all
    assert result.sent_in_all == result.warmed_up + result.due + 1
    assert result.due == result.answered and result.failures.total == 0
    assert abs(counts["body one"] - counts["body two"]) <= 2
    assert counts["connections"] <= wanted.connections + 2  # the first request's, and the one that asks for the counts


def test_statuses_and_degraded_answers_are_counted_apart(known: Known) -> None:
    result = load(known.url("mixed"), plan(warmup_s=0))  # the first request, of 401, gets a 200
    counts = known.told()["counts"]
    assert result.failures.by_status == {"422": counts["status 422"], "503": counts["status 503"]}
    assert result.failures.status == result.failures.total == 200
    assert (result.answered, result.degraded) == (200, 100)


def test_a_first_request_that_is_refused_stops_the_measurement_with_its_answer(known: Known) -> None:
    load(known.url("plain"), plan(rate=10, seconds=0.2, warmup_s=0))  # 3 requests; the fourth and fifth are good
    load(known.url("mixed"), plan(rate=10, seconds=0.1, warmup_s=0))
    with pytest.raises(ServiceError, match=r"answered a first request with 503: \{\}"):
        load(known.url("mixed"), plan())


def test_failed_requests_count_as_slower_than_every_answer(known: Known) -> None:
    result = load(known.url("mixed"), plan(warmup_s=0), p99_at_most(1000))
    assert ms(result, 0.99) < 1000
    assert result.judgements[0].verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("way", "kind", "least"), [("abrupt", "closed", 25), ("nonsense", "malformed", 1), ("silent", "timeout", 10)]
)
def test_a_fault_is_counted_by_its_kind(known: Known, way: str, kind: str, least: int) -> None:
    result = load(known.url(way), plan(rate=150, timeout_s=0.5, warmup_s=0.0))
    assert getattr(result.failures, kind) >= least
    assert result.failures.total == result.due - result.answered
    others = result.failures.total - getattr(result.failures, kind) - result.failures.late
    assert others == 0


@pytest.mark.parametrize("way", ["chunked", "closing", "until-close"])
def test_every_form_of_answer_is_taken_whole(known: Known, way: str) -> None:
    result = load(known.url(way), plan(rate=100, seconds=1.0))
    assert result.answered == result.due == 100
    assert result.failures.total == 0


def test_a_server_that_goes_away_refuses_the_rest(known: Known) -> None:
    result = load(known.url("ends"), plan(rate=200, seconds=1.5, warmup_s=0, timeout_s=1.0))
    assert result.due == 300
    assert result.answered > 5 and result.failures.refused > 50
    assert result.answered + result.failures.total == 300
    assert result.usage is not None and result.usage.gone == 1


def test_the_servers_processor_time_and_memory_are_seen(known: Known) -> None:
    result = load(known.url("plain"), closed(8))
    assert result.usage is not None
    assert result.usage.processes == 1 and result.usage.cpu_s > 0.1
    assert result.usage.pss_mb is not None and 5 < result.usage.pss_mb < 200
    within = result.throughput.value * result.plan.seconds
    assert result.usage.cpu_us_per_request == pytest.approx(1e6 * result.usage.cpu_s / within, rel=0.01)


def test_a_steady_fast_server_passes_and_a_slow_one_fails(known: Known) -> None:
    fast = (load(known.url("fixed"), plan(rate=500), p99_at_most(500)) for _ in range(3))
    assert any(one.verdict is Verdict.PASS for one in fast)
    assert load(known.url("slow"), plan(rate=500), p99_at_most(50)).verdict is Verdict.FAIL


def test_a_wrong_address_is_said_before_any_load() -> None:
    with pytest.raises(NotRunning, match="does not answer"):
        load("http://127.0.0.1:1/x", plan())


def test_a_server_that_never_answers_is_said_before_any_load(known: Known) -> None:
    load(known.url("silent"), plan(seconds=0.2, warmup_s=0, timeout_s=0.2))
    with pytest.raises(DeadlineExceeded, match="no answer to a first request"):
        load(known.url("silent"), plan(timeout_s=0.2))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (plan(rate=1_000_000, seconds=3600), "more than"),
        (plan(rate=0.001, seconds=1), "No request falls due"),
        (closed(4), "hides its stalls"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(wanted: LoadPlan, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load("http://127.0.0.1:1/x", wanted, p99_at_most(10))
