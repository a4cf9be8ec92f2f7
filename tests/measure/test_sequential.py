"""What always-valid tests share, and the test of the traffic's split."""

from __future__ import annotations

import itertools
import math
import sys
from subprocess import run

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelyard.core.requirement import Verdict
from modelyard.errors import DataError, UsageError
from modelyard.measure import sequential_split as split
from modelyard.measure.sequential import Allowance, Evidence, Worse, conclude, mixed, share_level, strength

LIGHT = "sequential, sequential_rates, sequential_means, sequential_split, sequential_intervals, sequential_plan"


def verdict(against: float, cleared: float) -> Verdict:
    return conclude(Evidence(peak=against), Evidence(peak=cleared), fail_level=0.01, pass_level=0.05)


def test_a_claim_is_refuted_when_its_stake_reaches_one_over_the_level() -> None:
    assert verdict(math.log(100), 0.0) is Verdict.FAIL
    assert verdict(math.log(99), math.log(20)) is Verdict.PASS
    assert verdict(math.log(99), math.log(19)) is Verdict.INCONCLUSIVE


def test_a_fail_outweighs_a_pass() -> None:
    assert verdict(10.0, 10.0) is Verdict.FAIL


def test_a_verdict_stays_when_the_stake_falls_again() -> None:
    evidence = Evidence().moved(5.0).moved(-3.0)
    assert evidence.refutes(0.01)
    assert (evidence.now, evidence.p_value) == (-3.0, math.exp(-5.0))


def test_an_enormous_stake_is_still_a_number() -> None:
    assert math.isfinite(Evidence(now=1e6, peak=1e6).e_value)
    assert strength(Evidence(now=1e6, peak=1e6)) == "decisive (a stake of 1 became over a million)"


@pytest.mark.parametrize(
    ("stake", "words"),
    [
        (1.0, "none"),
        (2.0, "weak (a stake of 1 became 2)"),
        (5.0, "substantial (a stake of 1 became 5)"),
        (20.0, "strong (a stake of 1 became 20)"),
        (50.0, "very strong (a stake of 1 became 50)"),
        (5000.0, "decisive (a stake of 1 became over 1000)"),
    ],
)
def test_evidence_has_words(stake: float, words: str) -> None:
    assert strength(Evidence(peak=math.log(stake))) == words


@given(st.dictionaries(st.text(max_size=3), st.floats(1e-3, 1e3), min_size=1, max_size=6), st.floats(0.001, 0.5))
def test_shared_levels_add_up(weights: dict[str, float], level: float) -> None:
    assert math.isclose(sum(share_level(level, weights).values()), level)


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": math.inf}])
def test_useless_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        share_level(0.05, weights)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_a_level_outside_its_range_is_refused(level: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Evidence().refutes(level)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_mixing_is_the_logarithm_of_the_weighted_sum(logs: list[float]) -> None:
    weights = [1 / len(logs)] * len(logs)
    direct = math.log(sum(weight * math.exp(log) for log, weight in zip(logs, weights, strict=True)))
    assert mixed(logs, weights) == pytest.approx(direct, abs=1e-9)


def test_an_alternative_without_weight_does_not_count() -> None:
    assert mixed([1000.0, -1000.0], [0.0, 1.0]) == -1000.0


@pytest.mark.parametrize(
    "fields",
    [
        {"bound": 0.1, "margin": 0.1},
        {"bound": 0.1, "ratio": 2.0},
        {"margin": -0.1},
        {"margin": math.nan},
        {"ratio": 0.9},
        {"ratio": math.inf},
        {"worse": Worse.LOWER, "ratio": 1.1},
        {"worse": Worse.LOWER, "ratio": 0.0},
    ],
)
def test_an_allowance_that_allows_nothing_sensible_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="allowance"):
        Allowance(**fields)  # type: ignore[arg-type]


def test_the_light_modules_load_without_numpy_and_scipy() -> None:
    code = f"import sys; from modelyard.measure import {LIGHT}; print({{'numpy', 'scipy'}} & set(sys.modules))"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize("shares", [(0.1, 0.9), (0.2, 0.3, 0.5)])
def test_the_split_stake_is_a_fair_bet(shares: tuple[float, ...]) -> None:
    total = 0.0
    for counts in itertools.product(range(7), repeat=len(shares)):
        if sum(counts) == 6:
            chance = float(stats.multinomial.pmf(counts, 6, shares))
            total += chance * split.update(split.start(shares), counts).off.e_value
    assert total == pytest.approx(1.0, abs=1e-9)


def test_the_split_test_counts_looks_of_any_size_alike() -> None:
    at_once = split.update(split.start((0.1, 0.9)), (130, 870))
    in_parts = split.update(split.update(split.start((0.1, 0.9)), (100, 3)), (30, 867))
    assert in_parts.off.now == pytest.approx(at_once.off.now)
    assert in_parts.counts == at_once.counts


def test_a_split_that_is_off_by_a_tenth_is_found() -> None:
    state = split.update(split.start((0.5, 0.5)), (5_500, 4_500))
    assert state.off.refutes(0.001)
    assert not split.update(split.start((0.5, 0.5)), (5_050, 4_950)).off.refutes(0.05)


def test_other_shares_keep_the_evidence_and_start_new_counts() -> None:
    before = split.update(split.start((0.1, 0.9)), (30, 70))
    after = split.split_anew(before, (0.5, 0.5))
    assert (after.counts, after.off) == ((0, 0), before.off)
    assert split.update(after, (0, 0)).off.now == pytest.approx(before.off.now)
    assert split.update(after, (50, 50)).off.now < before.off.now


def test_a_split_state_survives_the_disk() -> None:
    state = split.update(split.start((0.1, 0.9)), (30, 70))
    assert msgspec.json.decode(msgspec.json.encode(state), type=split.SplitState) == state


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (0.0, 1.0), (-0.5, 1.5), (math.nan, 0.5)])
def test_shares_that_are_no_split_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="shares"):
        split.start(shares)


@pytest.mark.parametrize("counts", [(1,), (1, -1), (1, 2, 3)])
def test_counts_that_fit_no_split_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="2 counts"):
        split.update(split.start((0.5, 0.5)), counts)
