"""The choice of serving settings from what a sweep measured: never more than the measurements bear out."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.evidence import Evidence, FallbackEvidence, Payload
from modelyard.core.requirement import Direction, Requirement
from modelyard.core.sweep import ServingSettings, SweepPoint
from modelyard.evaluate.sweep import layouts, paying
from modelyard.evaluate.sweep_choice import BATCH_GAIN, DEADLINE_SHARE, allowed, choose, served_rows_per_s, settings_of
from tests.evaluate.sweeping import point, swept, wait

SIZES = tuple(2**power for power in range(8))


@st.composite
def measured(draw: st.DrawFn) -> list[SweepPoint]:
    """Draw points of some layouts of up to eight cores, always with one worker of one thread, all sizes distinct."""
    chosen = {(1, 1), *draw(st.sets(st.sampled_from(layouts(8)), max_size=4))}
    found = []
    for workers, threads in sorted(chosen):
        for rows in sorted({1, *draw(st.sets(st.sampled_from(SIZES), max_size=5))}):
            found.append(
                point(
                    workers, threads, rows,
                    rows_per_s=draw(st.floats(1.0, 1e6)),
                    spread=draw(st.floats(0.0, 0.5)),
                    rounds=draw(st.integers(1, 5)),
                    p99_ms=draw(st.floats(0.01, 2000.0)),
                    cpu_us=draw(st.floats(0.1, 1e6)),
                    memory_mb=draw(st.floats(1.0, 4000.0)),
                )
            )  # fmt: skip
    return found


def of(points: list[SweepPoint], found: ServingSettings) -> SweepPoint:
    place = (found.workers, found.threads, found.batch_rows)
    (one,) = [p for p in points if (p.workers, p.threads, p.batch_rows) == place]
    return one


@given(measured(), st.integers(1, 8), st.floats(1.0, 5000.0), st.randoms(use_true_random=False))
def test_what_is_chosen_was_measured_fits_the_cores_and_does_not_hang_on_the_order(
    points: list[SweepPoint], cores: int, deadline_ms: float, chance: random.Random
) -> None:
    found = choose(points, deadline_ms=deadline_ms, cores=cores)
    one = of(points, found)
    assert found.workers * found.threads <= cores
    assert found.batch_rows == 1 or one.p99_ms <= DEADLINE_SHARE * deadline_ms
    assert found.progress_timeout_s >= max(0.5, 0.0099 * one.p99_ms)
    assert found.memory_mb is not None and found.memory_mb >= max(3 * one.memory_mb, one.memory_mb + 256)
    shuffled = list(points)
    chance.shuffle(shuffled)
    assert choose(shuffled, deadline_ms=deadline_ms, cores=cores) == found


@given(st.floats(10.0, 1e6), st.lists(st.floats(-0.2, 0.2), min_size=12, max_size=12))
def test_where_all_intervals_share_a_rate_the_simplest_is_chosen(rate: float, tilts: list[float]) -> None:
    """Whatever the medians say: each interval reaches over the one rate that they have in common."""
    places = [(w, t, rows) for w, t in ((1, 1), (1, 2), (2, 1)) for rows in (1, 2, 4, 8)]
    points = [
        point(*place, rows_per_s=rate * (1 + tilt), spread=0.3, p99_ms=1.0, cpu_us=0.1)
        for place, tilt in zip(places, tilts, strict=True)
    ]
    found = choose(points, deadline_ms=1000.0, cores=2)
    assert (found.workers, found.threads, found.batch_rows) == (1, 1, 1)


@given(measured(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5000))
def test_what_somebody_decided_stands(points: list[SweepPoint], workers: int, threads: int, rows: int) -> None:
    found = choose(points, deadline_ms=1000.0, cores=2, workers=workers, threads=threads, batch_rows=rows)
    assert (found.workers, found.threads, found.batch_rows) == (workers, threads, rows)
    assert choose(points, deadline_ms=1000.0, cores=8, batch_rows=rows).batch_rows == rows
    assert choose(points, deadline_ms=1000.0, cores=8, threads=threads).threads == threads
    assert choose(points, deadline_ms=1000.0, cores=8, workers=workers).workers == workers


@given(st.lists(st.floats(1.0, 1e5), min_size=8, max_size=8), st.lists(st.floats(0.1, 500.0), min_size=8, max_size=8),
       st.floats(1.0, 3000.0), st.floats(1.0, 3000.0))  # fmt: skip
def test_a_longer_deadline_never_makes_the_batch_smaller(
    rates: list[float], tails: list[float], one_ms: float, other_ms: float
) -> None:
    """Where a larger batch takes longer, as it does but for noise."""
    points = [
        point(batch_rows=rows, rows_per_s=rate, p99_ms=tail)
        for rows, rate, tail in zip(SIZES, rates, sorted(tails), strict=True)
    ]
    sizes = [choose(points, deadline_ms=ms, cores=1).batch_rows for ms in sorted((one_ms, other_ms))]
    assert sizes[0] <= sizes[1]


@given(measured())
def test_each_step_of_the_batch_gained_beyond_the_noise(points: list[SweepPoint]) -> None:
    """The chosen size beats the smallest one by what a larger batch must gain, and their quartiles lie apart."""
    own = [p for p in points if p.layout == (1, 1)]
    found = of(own, choose(own, deadline_ms=1e6, cores=1))
    first = min(own, key=lambda p: p.batch_rows)
    if found != first:
        assert found.rows_per_s > (1 + BATCH_GAIN) * first.rows_per_s and found.rows_per_s_low > first.rows_per_s_high
        assert min(found.rounds, first.rounds) >= 3


def test_a_doubling_that_gains_little_is_not_chosen_though_many_of_them_add_up() -> None:
    """Half a millisecond a batch and nine microseconds a row, as measured of small models."""
    points = [point(batch_rows=rows, rows_per_s=rows / (5e-4 + 9e-6 * rows)) for rows in (*SIZES, 256, 512, 1024, 2048)]
    assert choose(points, deadline_ms=1000.0, cores=1).batch_rows == 1024


@pytest.mark.parametrize(("rates", "rows"), [([72.0, 90.0, 66.0, 84.0, 79.0], 4), ([72.0, 90.0, 59.0, 84.0, 70.0], 1)])
def test_rounds_are_compared_one_by_one_where_the_machine_changes_its_speed(rates: list[float], rows: int) -> None:
    lone = point(rows_per_s=70.0, spread=0.15, rates=(65.0, 82.0, 60.0, 77.0, 72.0))
    four = point(batch_rows=4, rows_per_s=79.0, spread=0.15, rates=tuple(rates))
    assert choose([lone, four], deadline_ms=10_000.0, cores=1).batch_rows == rows


def test_two_workers_are_no_gain_where_one_front_is_the_limit() -> None:
    points = [point(rows_per_s=120_000.0), point(2, rows_per_s=240_000.0)]
    assert choose(points, deadline_ms=1000.0, cores=2).workers == 1
    assert served_rows_per_s(points[1], 2) < 60_000
    assert (
        choose(points, deadline_ms=1000.0, cores=16, fronts=4).workers == 2
    )  # four fronts bring more than one answers


def test_a_heavy_model_gets_the_layout_that_answers_most() -> None:
    """Measured of an encoder on two cores: processes side by side beat threads."""
    points = [point(rows_per_s=67.0), point(1, 2, rows_per_s=111.0), point(2, 1, rows_per_s=143.0)]
    found = choose(points, deadline_ms=1000.0, cores=2)
    assert (found.workers, found.threads) == (2, 1)
    assert choose(points, deadline_ms=1000.0, cores=1).workers == 1


@pytest.mark.parametrize(("threaded", "chosen"), [(136.0, (2, 1)), (150.0, (1, 2))])
def test_threads_are_chosen_where_they_answer_more_than_workers_side_by_side(
    threaded: float, chosen: tuple[int, int]
) -> None:
    points = [point(rows_per_s=65.0), point(1, 2, rows_per_s=threaded, spread=0.03), point(2, 1, rows_per_s=134.0)]
    found = choose(points, deadline_ms=1000.0, cores=2)
    assert (found.workers, found.threads) == chosen


def test_threads_are_chosen_where_only_they_keep_the_latency_bound() -> None:
    points = [point(1, 2, rows_per_s=131.0, p99_ms=15.0), point(2, 1, rows_per_s=134.0, p99_ms=30.0)]
    bound = Requirement(id="r", metric="latency_p99_ms", direction=Direction.AT_MOST, bound=20.0)
    found = choose(points, deadline_ms=1000.0, requirements=[bound], cores=2)
    assert (found.workers, found.threads) == (1, 2)


def test_a_layout_that_misses_the_latency_bound_is_left_for_one_that_keeps_it() -> None:
    points = [point(rows_per_s=50.0, p99_ms=60.0), point(1, 2, rows_per_s=50.0, p99_ms=30.0)]
    bound = Requirement(id="fast", metric="latency_p95_ms", direction=Direction.AT_MOST, bound=40.0)
    assert choose(points, deadline_ms=1000.0, cores=2).threads == 1
    assert choose(points, deadline_ms=1000.0, cores=2, requirements=[bound]).threads == 2
    assert allowed(1000.0, [bound]) == 10.0 and allowed(20.0, [bound]) == 5.0


def test_two_rounds_have_no_spread_to_speak_of() -> None:
    points = [point(rows_per_s=50.0), point(batch_rows=2, rows_per_s=500.0, rounds=2)]
    assert choose(points, deadline_ms=1000.0, cores=1).batch_rows == 1


def test_nobody_waits_for_others_unless_that_answers_sooner() -> None:
    points = [point(rows_per_s=100.0), point(batch_rows=2, rows_per_s=190.0)]

    def delay(*waits: tuple[float, float]) -> float:
        made = [wait(*one) for one in waits]
        return choose(points, deadline_ms=1000.0, cores=1, waits=made).max_delay_ms

    assert delay() == 0.0
    assert delay((0.0, 10.0), (1.0, 10.5), (4.0, 9.9)) == 0.0
    assert delay((0.0, 10.0), (1.0, 8.5)) == 0.0  # sooner, but by less than a fifth
    assert delay((0.0, 10.0), (4.0, 6.0), (1.0, 7.0)) == 1.0  # the shortest that pays
    assert delay((1.0, 7.0)) == 0.0  # nothing to compare with
    worse_median = [wait(0.0, 10.0, p50_ms=1.0), wait(1.0, 7.0, p50_ms=1.5)]
    assert choose(points, deadline_ms=1000.0, cores=1, waits=worse_median).max_delay_ms == 0.0
    few = [wait(0.0, 10.0), wait(1.0, 7.0, rounds=4)]
    assert choose(points, deadline_ms=1000.0, cores=1, waits=few).max_delay_ms == 0.0
    alone = choose(points[:1], deadline_ms=1000.0, cores=1, waits=[wait(0.0, 10.0), wait(1.0, 7.0)])
    assert alone.max_delay_ms == 0.0  # batches of one row have nobody to wait for


def recorded(*payloads: Payload) -> list[Evidence]:
    return [Evidence(release="a@1", body="0", recorded="2026-01-01T00:00:00Z", payload=one) for one in payloads]


def test_the_newest_sweep_of_a_release_decides_and_what_is_written_wins() -> None:
    tried = FallbackEvidence(kind="refuse", answered=True, seconds=0.1, detail="")
    old, new = swept(point(rows_per_s=90.0)), swept(point(rows_per_s=67.0), point(2, rows_per_s=143.0))
    records = recorded(old, new, tried)
    assert settings_of(records, deadline_ms=1000.0, cores=2).workers == 2
    assert settings_of(records, deadline_ms=1000.0, cores=2, workers=1).workers == 1
    assert settings_of(records, deadline_ms=1000.0, cores=1).workers == 1  # a smaller machine than the one that built
    assert settings_of(recorded(old), deadline_ms=1000.0, cores=2, batch_rows=77).batch_rows == 77


def test_a_release_without_a_sweep_has_the_defaults() -> None:
    found = settings_of([], deadline_ms=1000.0, cores=2, threads=2)
    assert (found.workers, found.threads, found.batch_rows, found.memory_mb) == (1, 2, 256, None)
    assert found.reasons and "no sweep" in found.reasons[0]


@pytest.mark.parametrize("cores", range(1, 17))
def test_layouts_keep_to_the_cores_and_the_simple_come_first(cores: int) -> None:
    found = layouts(cores)
    assert found[0] == (1, 1) and len(set(found)) == len(found)
    assert all(w * t <= cores for w, t in found) and {(1, cores), (cores, 1)} <= set(found)
    assert all(a[0] * a[1] <= b[0] * b[1] for a, b in pairwise(found))


@given(st.dictionaries(st.sampled_from(SIZES), st.floats(0.01, 100.0), min_size=1))
def test_the_batch_that_pays_was_looked_at_and_is_no_slower_a_row_than_the_smallest(looks: dict[int, float]) -> None:
    pays = paying(looks)
    assert pays / looks[pays] >= min(looks) / looks[min(looks)]
