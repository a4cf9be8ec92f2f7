"""Measure the always-valid tests: wrong fails, rows until a regression is found, rows until a good release passes.

    python bench/rollout_tests.py            2 000 simulated experiments a figure
    python bench/rollout_tests.py --quick    a tenth of that
    python bench/rollout_tests.py --part passes    one table of the four

One request in ten reaches the candidate and somebody looks after every ten requests. The reference
beside the rows needed is a one-sided test with one look: its planned size, and for costs, whose
scatter the plan's formula takes too simply, also the size at which Welch's test has the power.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from modelyard.core.arrays import Floats
from modelyard.measure.exact import proportion_interval
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_plan import Assumed, samples_for
from modelyard.measure.sequential_simulated import (
    MeanLooks,
    RateLooks,
    draw_means,
    draw_rates,
    first_look,
    mean_logs,
    rate_logs,
)

EXPERIMENTS, QUICK = 2_000, 200
SHARE, BATCH, REQUESTS = 0.1, 10, 10_000
LEVEL, REQUIREMENTS = 0.05, 5
EACH = LEVEL / REQUIREMENTS
MEDIAN_BAR, EIGHTY_BAR, PASS_BAR = 1.5, 2.5, 2.0
LONGEST = 5  # times the reference's size; what has not ended by then never does, here


@dataclass(frozen=True)
class Rate:
    """A share of the stable release and of the regressed candidate."""

    name: str
    stable: float
    candidate: float
    worse: Worse = Worse.HIGHER


def beyond(factor: float, sigma: float) -> float:
    """The share of requests above the stable 95th percentile when lognormal latencies grow by a factor."""
    return float(stats.norm.sf(stats.norm.isf(0.05) - np.log(factor) / sigma))


RATES = (
    Rate("errors 1 % to 3 %", 0.01, 0.03),
    Rate("p95 x1.5, sigma 0.5", 0.05, beyond(1.5, 0.5)),
    Rate("p95 x1.5, sigma 1", 0.05, beyond(1.5, 1.0)),
    Rate("accuracy 0.85 to 0.82", 0.85, 0.82, Worse.LOWER),
    Rate("positives 0.30 to 0.20", 0.30, 0.20, Worse.LOWER),
)
COSTS = (("cost x2, sigma 1", 1.0, 2.0), ("cost x2, sigma 0.75", 0.75, 2.0), ("cost x2, sigma 0.5", 0.5, 2.0))


def lognormal(rng: np.random.Generator, sigma: float, mean: float = 1.0) -> Callable[[tuple[int, int]], Floats]:
    return lambda size: rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, size)


def costs(
    rng: np.random.Generator, sigma: float, factor: float, *, requests: int, experiments: int, batch: int = BATCH
) -> MeanLooks:
    size = (requests // batch, experiments)
    ours, theirs = lognormal(rng, sigma, factor), lognormal(rng, sigma)
    return draw_means(rng, size, batch=batch, share=SHARE, candidate=ours, stable=theirs)


def shares(
    rng: np.random.Generator, candidate: float, stable: float, *, requests: int, experiments: int, batch: int = BATCH
) -> RateLooks:
    size = (requests // batch, experiments)
    return draw_rates(rng, size, batch=batch, share=SHARE, candidate=candidate, stable=stable)


def peeked(looks: RateLooks, worse: Worse) -> Floats:
    """The z-statistic of an ordinary test at every look: what happens to those who peek."""
    ours, theirs = looks.candidate.cumsum(0), looks.stable.cumsum(0)
    our_hits, their_hits = looks.candidate_hits.cumsum(0), looks.stable_hits.cumsum(0)
    pooled = (our_hits + their_hits) / np.maximum(ours + theirs, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(pooled * (1 - pooled) * (1 / ours + 1 / theirs))
        z = (our_hits / ours - their_hits / theirs) / error
    return np.nan_to_num(z if worse is Worse.HIGHER else -z, nan=0.0, posinf=0.0, neginf=0.0)


def figure(name: str, value: float, bar: float, spread: tuple[float, float], *, unit: str, met: bool) -> dict[str, Any]:
    edges = [round(edge, 4) for edge in spread]
    return {"name": name, "value": round(value, 4), "unit": unit, "spread": edges, "bar": bar, "met": met}


def wrong_fails(experiments: int) -> list[dict[str, Any]]:
    """A candidate that is the stable release again, judged by five requirements together."""
    print(f"\nThe same release twice: {experiments} experiments of {REQUESTS} requests, a look every {BATCH}")
    any_fail, any_peek = np.zeros(experiments, bool), np.zeros(experiments, bool)
    for place, rate in enumerate([rate for rate in RATES if rate.name != "p95 x1.5, sigma 1"]):
        rng = np.random.default_rng([1, place])
        looks = shares(rng, rate.stable, rate.stable, requests=REQUESTS, experiments=experiments)
        path = rate_logs(Allowance(worse=rate.worse), looks, worse=True)
        peek = peeked(looks, rate.worse)[2:].max(axis=0) > stats.norm.isf(EACH)
        any_fail |= np.isfinite(first_look(path, EACH))
        any_peek |= peek
        told(rate.name.split()[0], path, peek)
    looks_at_cost = costs(np.random.default_rng([1, 9]), 1.0, 1.0, requests=REQUESTS, experiments=experiments)
    path = mean_logs(Allowance(), looks_at_cost, worse=True)
    any_fail |= np.isfinite(first_look(path, EACH))
    told("cost", path, None)
    print(
        f"  {'any of the five at 5 % together':34} {any_fail.mean():7.2%}   peeking without cost {any_peek.mean():.1%}"
    )
    count = int(any_fail.sum())
    low, high = proportion_interval(count, experiments, 0.95)
    met = low <= LEVEL
    return [figure("any_wrong_fail", count / experiments, LEVEL, (low, high), unit="share", met=met)]


def told(name: str, path: Floats, peek: Floats | None) -> None:
    at = {level: float(np.isfinite(first_look(path, level)).mean()) for level in (EACH, LEVEL)}
    beside = "" if peek is None else f"   peeking at {EACH:.0%}: {peek.mean():.1%}"
    print(f"  {name:34} {at[EACH]:7.2%} at {EACH:.0%}, {at[LEVEL]:6.2%} at {LEVEL:.0%}{beside}")


def until(path: Floats, level: float, batch: int, reference: float) -> list[tuple[float, float, float]]:
    """Return, of the rows until the end over the reference, the median, 80th and 90th percentile and spreads."""
    rows = np.sort(first_look(path, level)) * batch / reference
    result = []
    for share in (0.5, 0.8, 0.9):
        ranks = stats.binom.ppf([0.025, 0.975], len(rows), share).astype(int).clip(0, len(rows) - 1)
        value, low, high = rows[int(np.ceil(share * len(rows))) - 1], rows[ranks[0]], rows[ranks[1]]
        result.append((float(value), float(low), float(high)))
    return result


def shown(name: str, reference: float, found: list[tuple[float, float, float]]) -> None:
    half, eighty, ninety = (f"{value:5.2f} ({low:.2f} to {high:.2f})" for value, low, high in found)
    print(f"  {name:38} {reference:9,.0f}  {half}  {eighty}  {ninety}")


def headed(title: str) -> None:
    print(f"\n{title}")
    print(f"  {'':38} {'one look':>9}  {'median':21}  {'80 in 100':21}  90 in 100, times one look")


def regressions(experiments: int) -> list[dict[str, Any]]:
    headed(f"Rows until a regression fails at {EACH:.0%}, margin 0 (one look: power 80 %)")
    found: dict[str, list[tuple[float, float, float]]] = {}
    for place, rate in enumerate(RATES):
        allowance = Allowance(worse=rate.worse)
        stable, candidate = Assumed(mean=rate.stable), Assumed(mean=rate.candidate)
        reference = samples_for(allowance, stable, candidate, level=EACH, power=0.8, share=SHARE).total
        rng, requests = np.random.default_rng([2, place]), LONGEST * reference
        looks = shares(rng, rate.candidate, rate.stable, requests=requests, experiments=experiments // 2)
        found[rate.name] = until(rate_logs(allowance, looks, worse=True), EACH, BATCH, reference)
        shown(rate.name, reference, found[rate.name])
    for place, (name, sigma, factor) in enumerate(COSTS):
        spread = float(np.sqrt(np.expm1(sigma**2)))
        stable, candidate = Assumed(mean=1.0, spread=spread), Assumed(mean=factor, spread=factor * spread)
        planned = samples_for(Allowance(), stable, candidate, level=EACH, power=0.8, share=SHARE).total
        rng = np.random.default_rng([3, place])
        looks_at_cost = costs(rng, sigma, factor, requests=LONGEST * planned, experiments=experiments)
        path, actual = mean_logs(Allowance(), looks_at_cost, worse=True), size_of_welch(looks_at_cost)
        shown(f"{name}, planned size", planned, until(path, EACH, BATCH, planned))
        found[name] = until(path, EACH, BATCH, actual)
        shown(f"{name}, size with that power", actual, found[name])
    return [each for name, values in found.items() for each in both(name, values)]


def both(name: str, values: list[tuple[float, float, float]]) -> list[dict[str, Any]]:
    key = "_".join(name.replace(",", "").replace(".", "").replace("%", "").split())
    return [
        judged(f"fail_median_{key}", values[0], MEDIAN_BAR),
        judged(f"fail_80th_{key}", values[1], EIGHTY_BAR),
    ]


def size_of_welch(looks: MeanLooks) -> float:
    """Return the requests from which Welch's one-sided test at `EACH` has a power of 80 %."""
    ours, theirs = looks.candidate.cumsum(0), looks.stable.cumsum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = looks.candidate_total.cumsum(0) / ours, looks.stable_total.cumsum(0) / theirs
        parts = (
            (looks.candidate_squares.cumsum(0) / ours - means[0] ** 2) / (ours - 1),
            (looks.stable_squares.cumsum(0) / theirs - means[1] ** 2) / (theirs - 1),
        )
        error = parts[0] + parts[1]
        freedom = error**2 / (parts[0] ** 2 / (ours - 1) + parts[1] ** 2 / (theirs - 1))
        finds = (means[0] - means[1]) / np.sqrt(error) > stats.t.isf(EACH, freedom)
    lacks = np.flatnonzero(finds.mean(axis=1) < 0.8)
    return float((lacks.max() + 2) * BATCH)


def judged(name: str, value: tuple[float, float, float], bar: float) -> dict[str, Any]:
    return figure(name, value[0], bar, value[1:], unit="times", met=value[0] <= bar)


PASSES = (
    ("errors 1 %, margin 0.5 points", Rate("", 0.01, 0.01), Allowance(margin=0.005)),
    ("errors 1 %, margin 1 point", Rate("", 0.01, 0.01), Allowance(margin=0.01)),
    ("p95 5 % above, bound 8 %", Rate("", 0.05, 0.05), Allowance(bound=0.08)),
    ("accuracy 0.85, margin 0.03", Rate("", 0.85, 0.85), Allowance(worse=Worse.LOWER, margin=0.03)),
    ("accuracy 0.85 to 0.86, margin 0.02", Rate("", 0.85, 0.86), Allowance(worse=Worse.LOWER, margin=0.02)),
    ("errors 1 %, at most x2", Rate("", 0.01, 0.01), Allowance(ratio=2.0)),
)
COST_PASSES = (
    ("cost, margin 0.2, sigma 1", 1.0, Allowance(margin=0.2)),
    ("cost, margin 0.2, sigma 0.5", 0.5, Allowance(margin=0.2)),
    ("cost, at most x1.25, sigma 1", 1.0, Allowance(ratio=1.25)),
    ("cost, at most x1.5, sigma 1", 1.0, Allowance(ratio=1.5)),
)


def passes(experiments: int) -> list[dict[str, Any]]:
    headed(f"Rows until a good release passes at {LEVEL:.0%} (one look: power 90 %)")
    found: list[list[tuple[float, float, float]]] = []
    for place, (name, rate, allowance) in enumerate(PASSES):
        stable, candidate = Assumed(mean=rate.stable), Assumed(mean=rate.candidate)
        reference = samples_for(allowance, stable, candidate, level=LEVEL, power=0.9, share=SHARE).total
        batch = max(BATCH, reference // 500 // 10 * 10)
        looks = shares(
            np.random.default_rng([4, place]),
            rate.candidate,
            rate.stable,
            requests=4 * reference,
            experiments=experiments // 2,
            batch=batch,
        )
        found.append(until(rate_logs(allowance, looks, worse=False), LEVEL, batch, reference))
        shown(name, reference, found[-1])
    for place, (name, sigma, allowance) in enumerate(COST_PASSES):
        known = Assumed(mean=1.0, spread=float(np.sqrt(np.expm1(sigma**2))))
        reference = samples_for(allowance, known, known, level=LEVEL, power=0.9, share=SHARE).total
        rng = np.random.default_rng([5, place])
        looks_at_cost = costs(rng, sigma, 1.0, requests=4 * reference, experiments=experiments // 2)
        found.append(until(mean_logs(allowance, looks_at_cost, worse=False), LEVEL, BATCH, reference))
        shown(name, reference, found[-1])
    return [judged("pass_90th_worst", max(each[2] for each in found), PASS_BAR)]


def wrong_passes(experiments: int) -> list[dict[str, Any]]:
    """A candidate exactly at the edge of what is allowed must not pass more often than the level."""
    print(f"\nWrong passes at {LEVEL:.0%}: a candidate at the edge, {experiments} experiments of {REQUESTS} requests")
    counts = []
    for place, (name, rate, allowance) in enumerate(PASSES):
        slope, offset = allowance.edge_of_shares()
        level = rate.stable if rate.stable < 0.5 or allowance.worse is Worse.HIGHER else 1 - rate.stable
        edge = slope * level + offset
        candidate = edge if allowance.worse is Worse.HIGHER else 1 - edge
        rng = np.random.default_rng([6, place])
        looks = shares(rng, candidate, rate.stable, requests=REQUESTS, experiments=experiments)
        counts.append(np.isfinite(first_look(rate_logs(allowance, looks, worse=False), LEVEL)).sum())
        print(f"  {name:38} {counts[-1] / experiments:7.2%}")
    for place, (name, sigma, allowance) in enumerate(COST_PASSES):
        rng = np.random.default_rng([7, place])
        factor = allowance.ratio + allowance.margin
        looks_at_cost = costs(rng, sigma, factor, requests=REQUESTS, experiments=experiments)
        counts.append(np.isfinite(first_look(mean_logs(allowance, looks_at_cost, worse=False), LEVEL)).sum())
        print(f"  {name:38} {counts[-1] / experiments:7.2%}")
    low, high = proportion_interval(int(max(counts)), experiments, 0.95)
    return [figure("wrong_pass", max(counts) / experiments, LEVEL, (low, high), unit="share", met=low <= LEVEL)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the experiments")
    parts = {part.__name__: part for part in (wrong_fails, regressions, passes, wrong_passes)}
    parser.add_argument("--part", choices=tuple(parts), help="one table instead of all")
    options = parser.parse_args()
    chosen = [parts[options.part]] if options.part else list(parts.values())
    found = [one for part in chosen for one in part(QUICK if options.quick else EXPERIMENTS)]
    print()
    for one in found:
        low, high = one["spread"]
        line = f"{one['name']:34} {one['value']:>8.3f} {one['unit']:7} ({low:.3f} to {high:.3f})"
        print(f"{line} bar {one['bar']:g} {'met' if one['met'] else 'NOT MET'}")
    print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()
