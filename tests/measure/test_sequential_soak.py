"""What the always-valid tests promise, on thousands of simulated experiments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from modelyard.core.arrays import Floats
from modelyard.measure.exact import proportion_interval
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_intervals import difference_of_rates, mean_interval, rate_interval
from modelyard.measure.sequential_means import Sums
from modelyard.measure.sequential_plan import Assumed, samples_for
from modelyard.measure.sequential_rates import Counts
from modelyard.measure.sequential_simulated import (
    RateLooks,
    draw_means,
    draw_rates,
    first_look,
    mean_logs,
    rate_logs,
)

pytestmark = pytest.mark.soak

LEVEL = 0.05
EXPERIMENTS, LOOKS, BATCH = 2000, 1000, 10
SIZE = (LOOKS, EXPERIMENTS)
Draw = Callable[[tuple[int, int]], Floats]


def assert_wrong_at_most(most: float, path: Floats) -> None:
    wrong = int(np.isfinite(first_look(path, LEVEL)).sum())
    assert proportion_interval(wrong, path.shape[1], 0.95)[0] <= most


@pytest.mark.parametrize(
    ("worse", "rate"),
    [(Worse.HIGHER, 0.001), (Worse.HIGHER, 0.01), (Worse.HIGHER, 0.05), (Worse.LOWER, 0.85), (Worse.LOWER, 0.3)],
)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_same_release_rarely_fails(worse: Worse, rate: float, share: float) -> None:
    rng = np.random.default_rng(1)
    looks = draw_rates(rng, SIZE, batch=BATCH, share=share, candidate=rate, stable=rate)
    assert_wrong_at_most(LEVEL, rate_logs(Allowance(worse=worse), looks, worse=True))


@pytest.mark.parametrize(
    ("allowance", "candidate", "stable"),
    [
        (Allowance(margin=0.01), 0.02, 0.01),
        (Allowance(ratio=2.0), 0.06, 0.03),
        (Allowance(worse=Worse.LOWER, margin=0.03), 0.82, 0.85),
        (Allowance(bound=0.05), 0.05, 0.2),
    ],
    ids=str,
)
def test_a_candidate_at_the_edge_is_rarely_judged_either_way(
    allowance: Allowance, candidate: float, stable: float
) -> None:
    rng = np.random.default_rng(2)
    looks = draw_rates(rng, SIZE, batch=BATCH, share=0.1, candidate=candidate, stable=stable)
    assert_wrong_at_most(LEVEL, rate_logs(allowance, looks, worse=True))
    assert_wrong_at_most(LEVEL, rate_logs(allowance, looks, worse=False))


def test_rates_that_drift_while_the_shares_widen_do_not_fail_the_same_release() -> None:
    rng = np.random.default_rng(3)
    rate = np.linspace(0.01, 0.3, 500)[:, None]
    share = np.repeat([0.05, 0.2, 0.5, 0.8, 0.95], 100)[:, None]
    size = (500, EXPERIMENTS)
    total = rng.integers(0, 60, size)
    ours = rng.binomial(total, np.broadcast_to(share, size))
    looks = RateLooks(
        candidate=ours,
        candidate_hits=rng.binomial(ours, np.broadcast_to(rate, size)),
        stable=total - ours,
        stable_hits=rng.binomial(total - ours, np.broadcast_to(rate, size)),
    )
    assert_wrong_at_most(LEVEL, rate_logs(Allowance(), looks, worse=True))
    assert_wrong_at_most(LEVEL, rate_logs(Allowance(), looks, worse=False))


def numbers(rng: np.random.Generator) -> dict[str, Draw]:
    return {
        "normal": lambda size: rng.normal(1, 0.3, size),
        "exponential": lambda size: rng.exponential(1, size),
        "lognormal": lambda size: rng.lognormal(-0.5, 1, size),
        "heavy lognormal": lambda size: rng.lognormal(-1.125, 1.5, size),
        "rare and large": lambda size: np.where(rng.random(size) < 0.05, 10.5, 0.5),
        "skewed to the left": lambda size: 20 - rng.lognormal(-0.5, 1, size),
    }


@pytest.mark.parametrize("name", list(numbers(np.random.default_rng())))
def test_the_same_numbers_rarely_fail_or_pass_as_better(name: str) -> None:
    rng = np.random.default_rng(4)
    draw = numbers(rng)[name]
    looks = draw_means(rng, SIZE, batch=BATCH, share=0.1, candidate=draw, stable=draw)
    assert_wrong_at_most(LEVEL, mean_logs(Allowance(), looks, worse=True))
    assert_wrong_at_most(LEVEL, mean_logs(Allowance(), looks, worse=False))


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("normal", LEVEL),
        ("exponential", LEVEL),
        ("lognormal", LEVEL),
        ("heavy lognormal", LEVEL),
        ("rare and large", 0.06),  # known to exceed the level a little; the module says so
    ],
)
def test_numbers_grown_to_the_ratio_allowed_rarely_pass(name: str, most: float) -> None:
    rng = np.random.default_rng(5)
    draw = numbers(rng)[name]
    looks = draw_means(
        rng, SIZE, batch=BATCH, share=0.1, candidate=lambda size: np.asarray(1.5 * draw(size)), stable=draw
    )
    assert_wrong_at_most(most, mean_logs(Allowance(ratio=1.5), looks, worse=False))


def test_a_regression_fails_within_the_rows_promised() -> None:
    rng = np.random.default_rng(6)
    needed = samples_for(Allowance(), Assumed(mean=0.01), Assumed(mean=0.03), level=0.01, power=0.8, share=0.1)
    looks = draw_rates(rng, (2500, EXPERIMENTS), batch=BATCH, share=0.1, candidate=0.03, stable=0.01)
    rows = np.sort(first_look(rate_logs(Allowance(), looks, worse=True), 0.01) * BATCH)
    assert rows[EXPERIMENTS // 2] <= 1.5 * needed.total
    assert rows[EXPERIMENTS * 4 // 5] <= 2.5 * needed.total


def test_intervals_hold_over_all_looks() -> None:
    rng = np.random.default_rng(7)
    missed = {"rate": 0, "difference": 0, "mean": 0}
    experiments = 400
    for _ in range(experiments):
        ours, theirs = (rng.random((200, size)) for size in (20, 180))
        hits, their_hits = (ours < 0.03).sum(1).cumsum(), (theirs < 0.01).sum(1).cumsum()
        drawn = rng.exponential(1, (200, 20))
        totals, squares = drawn.sum(1).cumsum(), (drawn**2).sum(1).cumsum()
        out: set[str] = set()
        for look in range(200):
            mine = Counts(trials=20 * (look + 1), hits=int(hits[look]))
            other = Counts(trials=180 * (look + 1), hits=int(their_hits[look]))
            seen = Sums(count=mine.trials, total=totals[look], squares=squares[look])
            found = {
                "rate": (rate_interval(mine, confidence=0.95), 0.03),
                "difference": (difference_of_rates(mine, other, confidence=0.95), 0.02),
                "mean": (mean_interval(seen, confidence=0.95), 1.0),
            }
            for name, (interval, truth) in found.items():
                if interval.low is not None and interval.high is not None:
                    out |= set() if interval.low <= truth <= interval.high else {name}
        for name in out:
            missed[name] += 1
    assert all(proportion_interval(count, experiments, 0.95)[0] <= 0.05 for count in missed.values()), missed
