"""Intervals that hold while one watches, and how many rows a comparison needs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from modelyard.errors import UsageError
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_intervals import (
    Interval,
    difference_of_means,
    difference_of_rates,
    mean_interval,
    rate_interval,
)
from modelyard.measure.sequential_means import Sums
from modelyard.measure.sequential_plan import Assumed, Needed, passed_by, samples_for
from modelyard.measure.sequential_rates import Counts, nearest_allowed


def normals(seed: int, mean: float, count: int) -> Sums:
    numbers = np.random.default_rng(seed).normal(mean, 1.0, count)
    return Sums(count=count, total=float(numbers.sum()), squares=float((numbers**2).sum()))


def edges(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_share_holds_just_the_shares_the_stake_does_not_refute(
    trials: int, share: float, confidence: float
) -> None:
    hits = round(trials * share)
    low, high = edges(rate_interval(Counts(trials=trials, hits=hits), confidence=confidence))
    grid = np.linspace(0, 1, 2001)
    log_mixture = special.betaln(hits + 0.5, trials - hits + 0.5) - special.betaln(0.5, 0.5)
    stake = log_mixture - special.xlogy(hits, grid) - special.xlogy(trials - hits, 1 - grid)
    kept = grid[stake < -math.log(1 - confidence)]
    assert low <= hits / trials <= high
    assert all((low - 1e-9 <= kept) & (kept <= high + 1e-9))
    assert kept.size == 0 or (kept[0] - low <= 5.1e-4 and high - kept[-1] <= 5.1e-4)


def test_intervals_of_no_rows_say_so() -> None:
    assert edges(rate_interval(Counts(), confidence=0.95)) == (0.0, 1.0)
    assert mean_interval(normals(0, 0, 9), confidence=0.95).low is None
    assert "wanted 10" in difference_of_means(normals(0, 0, 9), normals(0, 0, 90), confidence=0.95).method


def test_intervals_are_wider_than_those_of_one_look_and_narrow_with_rows() -> None:
    few, many = normals(0, 5, 100), normals(0, 5, 10_000)
    wide, narrow = (edges(mean_interval(each, confidence=0.95)) for each in (few, many))
    one_look = 2 * 1.96 * math.sqrt(many.variance / many.count)
    assert wide[1] - wide[0] > narrow[1] - narrow[0] > one_look
    assert narrow[1] - narrow[0] < 2 * one_look


def test_a_difference_of_few_errors_is_exact_and_one_of_many_is_narrower() -> None:
    few = difference_of_rates(Counts(trials=500, hits=15), Counts(trials=4500, hits=45), confidence=0.95)
    many = difference_of_rates(Counts(trials=500, hits=20), Counts(trials=4500, hits=45), confidence=0.95)
    assert "two beta mixtures" in few.method
    assert "normal mixture" in many.method
    assert edges(few)[0] < 0.02 < edges(few)[1]
    assert edges(many)[1] - edges(many)[0] < edges(few)[1] - edges(few)[0]


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match="confidence"):
        rate_interval(Counts(trials=5, hits=1), confidence=confidence)


@pytest.mark.parametrize(
    ("allowance", "stable", "candidate"),
    [
        (Allowance(), 0.05, 0.10),
        (Allowance(margin=0.03), 0.10, 0.10),
        (Allowance(ratio=2.0), 0.05, 0.05),
        (Allowance(worse=Worse.LOWER), 0.85, 0.80),
        (Allowance(bound=0.05), 0.5, 0.08),
    ],
    ids=str,
)
def test_the_planned_rows_give_the_power_asked(allowance: Allowance, stable: float, candidate: float) -> None:
    needed = samples_for(allowance, Assumed(mean=stable), Assumed(mean=candidate), level=0.05, power=0.8, share=0.2)
    rng = np.random.default_rng(6)
    ours = rng.binomial(needed.candidate, candidate, 3000) / needed.candidate
    theirs = rng.binomial(needed.stable, stable, 3000) / needed.stable
    assert np.mean([is_found(allowance, needed, *pair) for pair in zip(ours, theirs, strict=True)]) == pytest.approx(
        0.8, abs=0.04
    )


def is_found(allowance: Allowance, needed: Needed, candidate: float, stable: float) -> bool:
    """Farrington and Manning's score test, in whichever direction the rates lie."""
    ours, theirs = (candidate, stable) if allowance.worse is Worse.HIGHER else (1 - candidate, 1 - stable)
    slope, offset = allowance.edge_of_shares()
    edge = (offset, 0.5)
    if slope:
        edge = nearest_allowed((needed.candidate, needed.stable), (ours, theirs), (slope, offset))
    variance = edge[0] * (1 - edge[0]) / needed.candidate + slope**2 * edge[1] * (1 - edge[1]) / needed.stable
    return bool(abs(ours - slope * theirs - offset) > stats.norm.isf(0.05) * math.sqrt(variance))


def test_the_planned_rows_of_means_are_those_of_the_textbook() -> None:
    needed = samples_for(
        Allowance(), Assumed(mean=0, spread=1), Assumed(mean=0.5, spread=1), level=0.025, power=0.8, share=0.5
    )
    assert needed.candidate == 63  # Chow, Shao and Wang, 2008, "Sample size calculations", formula 3.2.2
    assert needed.total < needed.usually_watched < needed.long_watched


@pytest.mark.parametrize(
    ("stable", "candidate", "changed", "words"),
    [
        (Assumed(mean=0.1), Assumed(mean=0.1), {}, "edge"),
        (Assumed(mean=0.1), Assumed(mean=1.0), {}, "inside"),
        (Assumed(mean=0.1, spread=1), Assumed(mean=0.2), {}, "one release only"),
        (Assumed(mean=0.1, spread=1), Assumed(mean=0.2, spread=0), {}, "above 0"),
        (Assumed(mean=0.1), Assumed(mean=0.2), {"power": 0.01}, "power"),
        (Assumed(mean=0.1), Assumed(mean=0.2), {"share": 0.0}, "share"),
        (Assumed(mean=0.1), Assumed(mean=0.2), {"level": 1.0}, "level"),
    ],
)
def test_plans_that_make_no_sense_are_refused(
    stable: Assumed, candidate: Assumed, changed: dict[str, float], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        samples_for(Allowance(), stable, candidate, **({"level": 0.05, "power": 0.8, "share": 0.1} | changed))


def test_what_passes_grows_with_the_rows_and_is_as_measured() -> None:
    shares = [passed_by(times) for times in np.linspace(0, 6, 200)]
    assert shares[0] == 0
    assert all(one < other < 1 for one, other in itertools.pairwise(shares))
    measured = {0.95: 0.5, 1.5: 0.8, 1.8: 0.9, 2.25: 0.95}
    assert {times: passed_by(times) for times in measured} == pytest.approx(measured)
