"""Numbers and records in words."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.core.requirement import Direction, Verdict
from modelyard.release import axes, card, numbers, words
from tests.release import samples
from tests.release.tables import observation


@pytest.mark.parametrize("module", [axes, card, numbers, words])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e6))
def test_a_number_with_an_interval_is_off_by_less_than_a_tenth_of_its_half_width(value: float, half: float) -> None:
    told = numbers.figure(value, value - half, value + half)
    read = float(told.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    assert abs(read - value) <= half * 0.1001


@given(st.floats(-100, 100), st.floats(0.001, 10), st.floats(-100, 100).map(lambda b: round(b, 3)))
def test_no_end_of_an_interval_is_rounded_across_a_bound(value: float, half: float, bound: float) -> None:
    low, high = value - half, value + half
    places = numbers.decimals(value, low, high, bound)
    if places < numbers.MOST_DECIMALS:
        assert all((n < bound) == (round(n, places) < bound) for n in (low, value, high))


def test_what_is_not_zero_never_reads_as_zero() -> None:
    assert numbers.figure(1.2e-7) == "1.2e\N{MINUS SIGN}7"
    assert numbers.share(1e-9) == "<0.1 %"
    assert numbers.share(1 - 1e-9) == ">99.9 %"


def test_very_small_numbers_keep_the_digits_of_their_interval() -> None:
    cost = observation("cost_per_thousand", 1.2346e-6, 2e-8, unit="currency")
    assert words.value(cost) == "1.235e\N{MINUS SIGN}6"
    assert words.interval(cost) == "1.215e\N{MINUS SIGN}6 to 1.255e\N{MINUS SIGN}6"


def test_an_interval_without_width_is_not_told() -> None:
    assert words.interval(observation("size_mb", 3.0)) == ""
    assert words.measured(observation("size_mb", 3.0, unit="MB")) == "3 MB"


def test_an_interval_open_to_one_side_says_so() -> None:
    assert words.interval(replace(observation("recall", 0.5, 0.1), high=None)) == "0.40 to unbounded"


def test_a_requirement_is_told_with_bound_margin_slice_and_group() -> None:
    required = samples.requirement("latency_p95_ms", Direction.AT_MOST, 5.0, margin=0.5)
    assert words.requirement(required) == "latency_p95_ms at most 5 ms and at most 0.5 ms above the stable release"
    assert words.bound(samples.requirement("roc_auc", bound=0.92345)) == "at least 0.92345"


def test_one_fail_is_a_fail_and_one_inconclusive_holds() -> None:
    good = samples.judged(samples.requirement("roc_auc", bound=0.9), observation("roc_auc", 0.93, 0.01))
    unsure = samples.judged(samples.requirement("recall", bound=0.6), observation("recall", 0.6, 0.1))
    bad = samples.judged(samples.requirement("precision", bound=0.9), observation("precision", 0.5, 0.1))
    accepted = replace(unsure, requirement=replace(unsure.requirement, accept_inconclusive=True))
    assert words.overall([good]) == (Verdict.PASS, "1 of 1 requirement met.")
    assert words.overall([good, good])[1] == "All 2 requirements met."
    assert words.overall([good, accepted])[0] is Verdict.PASS
    assert words.overall([good, unsure, accepted])[0] is Verdict.INCONCLUSIVE
    assert words.overall([good, unsure, bad]) == (
        Verdict.FAIL,
        "1 of 3 requirements met. Not met: precision. Inconclusive: recall.",
    )
    assert words.overall([])[0] is None


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0004, "0.4 ms"), (0.42, "420 ms"), (59.96, "60.0 s"), (119.7, "2 min 0 s"), (3599.9, "1 h 0 min")],
)
def test_a_duration_reads_in_the_unit_that_fits(value: float, told: str) -> None:
    assert numbers.seconds(value) == told
