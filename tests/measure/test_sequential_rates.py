"""Always-valid tests of shares: exact laws by enumeration, and the same numbers from the simulation."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from modelyard.errors import DataError, UsageError
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_rates import Counts, RateState, nearest_allowed, start, update
from modelyard.measure.sequential_simulated import RateLooks, rate_logs

SAME = Allowance()
ALLOWANCES = [
    SAME,
    Allowance(margin=0.05),
    Allowance(ratio=2.0),
    Allowance(ratio=1.5, margin=0.1),
    Allowance(worse=Worse.LOWER),
    Allowance(worse=Worse.LOWER, margin=0.1),
    Allowance(worse=Worse.LOWER, ratio=0.8),
    Allowance(bound=0.2),
    Allowance(worse=Worse.LOWER, bound=0.7),
]
rates = st.floats(0.001, 0.999)


def counts(trials: int, hits: float) -> Counts:
    return Counts(trials=trials, hits=hits)


def is_allowed(allowance: Allowance, candidate: float, stable: float) -> bool:
    if allowance.worse is Worse.HIGHER:
        limit = allowance.ratio * stable + allowance.margin if allowance.bound is None else allowance.bound
        return candidate <= limit
    limit = allowance.ratio * stable - allowance.margin if allowance.bound is None else allowance.bound
    return candidate >= limit


def expected_stakes(state: RateState, sizes: tuple[int, int], chances: tuple[float, float]) -> tuple[float, float]:
    """Return the expectations of both stakes after one more block, by enumeration."""
    against = cleared = 0.0
    for ours, theirs in itertools.product(range(sizes[0] + 1), range(sizes[1] + 1)):
        chance = stats.binom.pmf(ours, sizes[0], chances[0]) * stats.binom.pmf(theirs, sizes[1], chances[1])
        after = update(state, counts(sizes[0], ours), counts(sizes[1], theirs))
        against += float(chance) * after.against.e_value
        cleared += float(chance) * after.cleared.e_value
    return against, cleared


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
@pytest.mark.parametrize("before", [None, (4, 36), (0, 30)])
@settings(max_examples=4, deadline=None)
@given(st.integers(1, 6), rates, rates)
def test_no_bet_against_a_true_claim_gains(
    allowance: Allowance, before: tuple[int, int] | None, ours: int, candidate: float, stable: float
) -> None:
    state = start(allowance)
    if before is not None:
        state = update(state, counts(10, before[0]), counts(40, before[1]))
    against, cleared = expected_stakes(state, (ours, 20 - ours), (candidate, stable))
    allowed = is_allowed(allowance, candidate, stable)
    now = state.against.e_value if allowed else state.cleared.e_value
    assert (against if allowed else cleared) <= now * (1 + 1e-9)


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
def test_no_bet_against_a_true_claim_gains_at_the_edge(allowance: Allowance) -> None:
    slope, offset = allowance.edge_of_shares()
    stable = 0.12
    edge = slope * stable + offset
    pair = (edge, stable) if allowance.worse is Worse.HIGHER else (1 - edge, 1 - stable)
    state = update(start(allowance), counts(10, 3), counts(40, 8))
    against, cleared = expected_stakes(state, (4, 16), pair)
    assert against <= state.against.e_value * (1 + 1e-9)
    assert cleared <= state.cleared.e_value * (1 + 1e-9)


def test_no_bet_gains_on_values_between_0_and_1() -> None:
    state = update(start(SAME), counts(10, 3), counts(40, 11))
    total = 0.0
    for ours in itertools.product((0.0, 0.5, 1.0), repeat=2):  # values of mean 0.5, in one row in two not 0 or 1
        for theirs in range(19):
            chance = math.prod(0.5 if value == 0.5 else 0.25 for value in ours) * stats.binom.pmf(theirs, 18, 0.5)
            total += float(chance) * update(state, counts(2, sum(ours)), counts(18, theirs)).against.e_value
    assert total <= state.against.e_value


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), rates, rates, st.floats(1.0, 3.0), st.floats(0.0, 0.5))
def test_the_nearest_allowed_pair_is_the_one_a_search_finds(
    ours: int, theirs: int, candidate: float, stable: float, slope: float, offset: float
) -> None:
    def divergence(level: float) -> float:
        pairs = ((ours, candidate, slope * level + offset), (theirs, stable, level))
        return sum(n * (q * math.log(q / r) + (1 - q) * math.log((1 - q) / (1 - r))) for n, q, r in pairs)

    most = min(1.0, (1 - offset) / slope)
    found = optimize.minimize_scalar(divergence, bounds=(1e-9, most - 1e-9), method="bounded", options={"xatol": 1e-10})
    _, level = nearest_allowed((ours, theirs), (candidate, stable), (slope, offset))
    assert divergence(level) <= found.fun + 1e-9 * (1 + abs(found.fun))


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=1, max_size=8))
def test_against_a_bound_looks_of_any_size_count_alike(looks: list[tuple[int, float]]) -> None:
    parts = [counts(trials, int(trials * share)) for trials, share in looks]
    state, whole = start(Allowance(bound=0.1)), Counts()
    for part in parts:
        state, whole = update(state, part), whole.plus(part)
    at_once = update(start(Allowance(bound=0.1)), whole)
    assert state.against.now == pytest.approx(at_once.against.now, abs=1e-9)
    assert state.cleared.now == pytest.approx(at_once.cleared.now, abs=1e-9)


def test_a_small_look_waits_for_its_block() -> None:
    state = update(start(SAME), counts(0, 0), counts(15, 1))
    assert (state.stable, state.waiting_stable) == (Counts(), counts(15, 1))
    state = update(state, counts(1, 1), counts(9, 0))
    assert (state.candidate, state.stable, state.waiting_stable) == (counts(1, 1), counts(24, 1), Counts())


def test_a_release_without_rows_is_never_judged() -> None:
    state = update(start(SAME), counts(1000, 1000))
    assert (state.against.now, state.waiting_candidate) == (0.0, counts(1000, 1000))


def test_errors_tripled_fail_and_a_good_release_passes_its_margin() -> None:
    allowance = Allowance(margin=0.01)
    bad = good = start(allowance)
    for _ in range(40):
        bad = update(bad, counts(100, 5), counts(900, 9))
        good = update(good, counts(100, 1), counts(900, 9))
    assert bad.against.refutes(0.001)
    assert not bad.cleared.refutes(0.05)
    assert good.cleared.refutes(0.01)
    assert not good.against.refutes(0.05)


def test_a_regression_is_found_in_one_large_look() -> None:
    assert update(start(SAME), counts(1000, 30), counts(9000, 90)).against.refutes(0.001)


def test_lower_is_worse_mirrors_higher() -> None:
    right = start(Allowance(worse=Worse.LOWER, margin=0.02))
    wrong = start(Allowance(margin=0.02))
    for hits in (80, 85, 70):
        right = update(right, counts(100, hits), counts(300, 255))
        wrong = update(wrong, counts(100, 100 - hits), counts(300, 45))
    assert right.against.now == pytest.approx(wrong.against.now)
    assert right.cleared.now == pytest.approx(wrong.cleared.now)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(20, 200), st.data())
def test_one_more_bad_row_never_helps_the_candidate(ours: int, theirs: int, data: st.DataObject) -> None:
    state = update(start(Allowance(margin=0.01)), counts(20, 2), counts(80, 5))
    bad, their_bad = data.draw(st.integers(0, ours - 1)), data.draw(st.integers(0, theirs))
    less = update(state, counts(ours, bad), counts(theirs, their_bad))
    more = update(state, counts(ours, bad + 1), counts(theirs, their_bad))
    assert more.against.now > less.against.now
    assert more.cleared.now < less.cleared.now


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
def test_a_state_survives_the_disk_and_goes_on_alike(allowance: Allowance) -> None:
    state = update(start(allowance), counts(9, 4), counts(40, 9))
    again = msgspec.json.decode(msgspec.json.encode(state), type=RateState)
    assert again == state
    assert update(again, counts(5, 1), counts(30, 3)) == update(state, counts(5, 1), counts(30, 3))
    assert len(msgspec.json.encode(state)) < 1500


@pytest.mark.parametrize("allowance", ALLOWANCES, ids=str)
def test_the_simulation_finds_the_same_stakes(allowance: Allowance) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 12, (8, 3)), rng.integers(0, 60, (8, 3))
    our_hits, their_hits = rng.binomial(ours, 0.3), rng.binomial(theirs, 0.2)
    looks = RateLooks(candidate=ours, candidate_hits=our_hits, stable=theirs, stable_hits=their_hits)
    worse, better = (rate_logs(allowance, looks, worse=worse) for worse in (True, False))
    for experiment in range(3):
        state = start(allowance)
        for look in range(8):
            place = (look, experiment)
            mine = counts(int(ours[place]), int(our_hits[place]))
            state = update(state, mine, counts(int(theirs[place]), int(their_hits[place])))
            assert state.against.now == pytest.approx(worse[place], abs=1e-8)
            assert state.cleared.now == pytest.approx(better[place], abs=1e-8)


@pytest.mark.parametrize(("trials", "hits"), [(10, 11), (10, -1), (-1, 0), (10, math.nan), (math.inf, 1)])
def test_impossible_counts_are_refused(trials: int, hits: float) -> None:
    with pytest.raises(DataError, match="hits <= trials"):
        counts(trials, hits)


@pytest.mark.parametrize("fields", [{"bound": 0.0}, {"bound": 1.0}, {"bound": 7.0}, {"margin": 1.0}])
def test_an_allowance_no_share_can_be_tested_against_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"inside \(0, 1\)"):
        start(Allowance(**fields))  # type: ignore[arg-type]
