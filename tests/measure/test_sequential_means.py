"""Always-valid tests of means, and the same numbers from the simulation."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelyard.core.arrays import Floats
from modelyard.errors import DataError
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_means import STEPS, WEIGHTS, MeanState, Sums, split_anew, start, update
from modelyard.measure.sequential_simulated import draw_means, mean_logs

ALLOWANCES = [
    Allowance(),
    Allowance(margin=0.2),
    Allowance(ratio=1.5),
    Allowance(ratio=1.2, margin=0.1),
    Allowance(worse=Worse.LOWER),
    Allowance(worse=Worse.LOWER, ratio=0.9, margin=0.1),
    Allowance(bound=1.1),
    Allowance(worse=Worse.LOWER, bound=0.8),
]


def sums(numbers: Floats) -> Sums:
    return Sums(count=len(numbers), total=float(numbers.sum()), squares=float((numbers**2).sum()))


def normals(seed: int, mean: float, count: int, spread: float = 1.0) -> Sums:
    return sums(np.random.default_rng(seed).normal(mean, spread, count))


def test_costs_doubled_fail_and_equal_costs_pass_their_margin() -> None:
    rng = np.random.default_rng(0)
    cost = [sums(rng.lognormal(0, 1, size)) for size in (600, 600, 5400)]
    doubled = Sums(count=600, total=2 * cost[0].total, squares=4 * cost[0].squares)
    bad, good = (update(start(Allowance(ratio=1.3)), each, cost[2]) for each in (doubled, cost[1]))
    assert bad.against.refutes(0.001)
    assert not bad.cleared.refutes(0.05)
    assert good.cleared.refutes(0.01)
    assert not good.against.refutes(0.05)


def test_few_rows_say_nothing() -> None:
    against_bound = start(Allowance(bound=0.0))
    assert update(start(Allowance()), normals(0, 9, 9), normals(1, 0, 900)).against.now == pytest.approx(0)
    assert update(against_bound, normals(0, 9, 99)).against.now == pytest.approx(0)
    assert update(against_bound, normals(0, 9, 99), normals(1, 0, 900)).against.refutes(0.01)


def test_a_pass_waits_longer_than_a_fail() -> None:
    allowance, stable = Allowance(margin=5.0), normals(1, 0, 900)
    assert update(start(allowance), normals(0, 9, 49), stable).against.refutes(0.01)
    assert update(start(allowance), normals(0, 0, 49), stable).cleared.now == pytest.approx(0)
    assert update(start(allowance), normals(0, 0, 50), stable).cleared.refutes(0.01)


def test_numbers_that_never_differ_say_nothing() -> None:
    state = update(start(Allowance()), sums(np.ones(100)), sums(np.ones(900)))
    assert (state.against.now, state.cleared.now) == pytest.approx((0, 0))


@pytest.mark.parametrize("mean", [0.1, 0.2, 0.4])
def test_one_release_against_a_bound_is_the_sequential_t_test(mean: float) -> None:
    sample = normals(5, mean, 200)
    t = sample.mean / math.sqrt(sample.variance / 200)
    ratios = [stats.nct.pdf(t, 199, step * math.sqrt(200)) / stats.t.pdf(t, 199) for step in STEPS]
    exact = math.log(sum(weight * ratio for weight, ratio in zip(WEIGHTS, ratios, strict=True)))
    ours = update(start(Allowance(bound=0.0)), sample).against.now
    assert ours == pytest.approx(exact, abs=0.1)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6))
def test_looks_of_any_size_count_alike(sizes: list[int]) -> None:
    rng = np.random.default_rng(1)
    state, ours, theirs = start(Allowance()), Sums(), Sums()
    for size in sizes:
        mine, other = sums(rng.exponential(1.2, size)), sums(rng.exponential(1, 9 * size))
        state, ours, theirs = update(state, mine, other), ours.plus(mine), theirs.plus(other)
    at_once = update(start(Allowance()), ours, theirs)
    assert state.against.now == pytest.approx(at_once.against.now, abs=1e-6)
    assert state.cleared.now == pytest.approx(at_once.cleared.now, abs=1e-6)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3))
def test_the_currency_does_not_matter(factor: float) -> None:
    numbers = np.random.default_rng(2).exponential(1, 500)
    plain = update(start(Allowance(ratio=1.5)), sums(numbers[:50]), sums(numbers[50:]))
    other = update(start(Allowance(ratio=1.5)), sums(factor * numbers[:50]), sums(factor * numbers[50:]))
    assert other.against.now == pytest.approx(plain.against.now, abs=1e-6)
    assert other.cleared.now == pytest.approx(plain.cleared.now, abs=1e-6)


def test_lower_is_worse_mirrors_higher() -> None:
    numbers = np.random.default_rng(2).normal(0, 1, 500)
    higher = update(start(Allowance(margin=0.1)), sums(numbers[:50]), sums(numbers[50:]))
    lower = update(start(Allowance(worse=Worse.LOWER, margin=0.1)), sums(-numbers[:50]), sums(-numbers[50:]))
    assert lower.against.now == pytest.approx(higher.against.now, abs=0.05)  # a mean above 0 tells of its growth


def test_a_drift_is_not_taken_for_a_difference_when_shares_change() -> None:
    morning = (normals(1, 1.0, 100, 0.1), normals(2, 1.0, 900, 0.1))
    evening = (normals(3, 3.0, 500, 0.1), normals(4, 3.0, 500, 0.1))
    before = update(start(Allowance()), *morning)
    assert update(before, *evening).against.refutes(0.01)
    assert not update(split_anew(before), *evening).against.refutes(0.5)


def test_evidence_is_kept_when_shares_change() -> None:
    before = update(start(Allowance()), normals(1, 1.4, 100), normals(2, 1.0, 900))
    after = split_anew(before)
    assert (after.candidate, after.against) == (Sums(), before.against)
    assert update(after, Sums()).against.now == pytest.approx(before.against.now)
    assert update(after, Sums()).cleared.now == pytest.approx(before.cleared.now)


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
def test_the_simulation_finds_the_same_stakes(allowance: Allowance) -> None:
    rng = np.random.default_rng(3)
    looks = draw_means(
        rng,
        (12, 3),
        batch=60,
        share=0.2,
        candidate=lambda size: rng.exponential(1.2, size),
        stable=lambda size: rng.exponential(1, size),
    )
    worse, better = (mean_logs(allowance, looks, worse=worse) for worse in (True, False))
    for experiment in range(3):
        state = start(allowance)
        for look in range(12):
            place = (look, experiment)
            mine = Sums(
                count=int(looks.candidate[place]),
                total=looks.candidate_total[place],
                squares=looks.candidate_squares[place],
            )
            other = Sums(
                count=int(looks.stable[place]), total=looks.stable_total[place], squares=looks.stable_squares[place]
            )
            state = update(state, mine, other)
            assert state.against.now == pytest.approx(worse[place], abs=1e-8)
            assert state.cleared.now == pytest.approx(better[place], abs=1e-8)


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
def test_a_state_survives_the_disk_and_goes_on_alike(allowance: Allowance) -> None:
    state = split_anew(update(start(allowance), normals(1, 1, 50), normals(2, 1, 90)))
    again = msgspec.json.decode(msgspec.json.encode(state), type=MeanState)
    more = (normals(3, 1, 50), normals(4, 1, 90))
    assert again == state
    assert update(again, *more) == update(state, *more)
    assert len(msgspec.json.encode(state)) < 1500


@pytest.mark.parametrize(
    ("count", "total", "squares"),
    [
        (-1, 0, 0),
        (0, 1, 1),
        (0, 0, 1),
        (2, 4, 7),
        (2, 1, -1),
        (2, math.nan, 1),
        (2, 1, math.inf),
        (2, 1e200, 1e300),
        (math.inf, 1, 1),
    ],
)
def test_sums_of_no_numbers_are_refused(count: int, total: float, squares: float) -> None:
    with pytest.raises(DataError, match="squares"):
        Sums(count=count, total=total, squares=squares)
