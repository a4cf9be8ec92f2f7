"""Rollouts simulated by the hundred through what decides: good ones to their end, bad ones to their way back.

The worlds are those of the tests. The tests of `measure` alone, in far more experiments, are in rollout_tests.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tests.rollout import worlds
from tests.rollout.whole import one_look_requests, planned, rollout
from tests.rollout.worlds import CANARY, CANDIDATE, PARITY, Release, looks, requirement, run, worse

from modelyard.core.requirement import Requirement, Verdict
from modelyard.core.rollout import Cause, Decision, How, Outcome
from modelyard.measure.exact import proportion_interval
from modelyard.measure.sequential import Allowance, Worse
from modelyard.measure.sequential_plan import Assumed, samples_for
from modelyard.measure.sequential_simulated import draw_means
from modelyard.rollout.claims import claims
from modelyard.rollout.judging import levels
from modelyard.rollout.state import StepState
from rollout_live import table_of
from rollout_regressions import PAIR, POWER, SHARE, gap_rows
from rollout_tests import EACH, beyond, size_of_welch

BATCH = 125  # requests between looks: what comes at 500 a second in a quarter of one
LONGEST = 6  # times the size of one look
TIMES = (0.1, 1.0, 2.0, 3.0)

EVEN = worse(positives={"F": 0.3, "M": 0.3}, slow=0.05)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A regression. `rows` is what one look needs of the candidate at a level."""

    name: str
    requirement: Requirement
    candidate: Release
    rows: Callable[[float], float]


def _rates(allowance: Allowance, stable: float, candidate: float) -> Callable[[float], float]:
    arms = Assumed(mean=stable), Assumed(mean=candidate)
    return lambda level: samples_for(allowance, *arms, level=level, power=POWER, share=SHARE).candidate


def _costs(level: float) -> float:
    """Return the rows from which Welch's test has the power: the plan's formula takes skewed costs too simply."""
    assert np.isclose(level, EACH)  # what `size_of_welch` counts with
    rng = np.random.default_rng(11)
    seen = draw_means(
        rng, (400, 4000), batch=10, share=SHARE,
        candidate=lambda size: rng.exponential(2.0, size), stable=lambda size: rng.exponential(1.0, size),
    )  # fmt: skip
    return SHARE * size_of_welch(seen)


def _even(**changed: object) -> Release:
    return Release(**{"positives": EVEN.positives, "slow": EVEN.slow, **changed})  # type: ignore[arg-type]


SLOW = beyond(1.5, 1.0)
CASES = (
    Case(name="errors 1 % to 3 %", requirement=requirement("error_rate", margin=0.0), candidate=_even(errors=0.03),
         rows=_rates(Allowance(), 0.01, 0.03)),
    Case(name=f"p95 x1.5, sigma 1 (5 % to {SLOW:.1%} beyond)", requirement=requirement("latency_p95_ms", margin=0.0),
         candidate=_even(slow=SLOW), rows=_rates(Allowance(), 0.05, SLOW)),
    Case(name="accuracy 0.85 to 0.82", requirement=requirement("accuracy", margin=0.0, at_least=True, labels=True),
         candidate=_even(right=0.82), rows=_rates(Allowance(worse=Worse.LOWER), 0.85, 0.82)),
    Case(name="positives of one group 0.30 to 0.20", requirement=requirement(PARITY, margin=0.0, group="sex"),
         candidate=_even(positives={"F": 0.2, "M": 0.3}),
         rows=lambda level: gap_rows((0.3, 0.3), (0.3, 0.2), part=0.6, level=PAIR * level)),
    Case(name="cost x2, exponential", requirement=requirement("cost_per_thousand", margin=0.0),
         candidate=_even(cost=2.0), rows=_costs),
)  # fmt: skip
ALL = tuple(case.requirement for case in CASES)


def simulated(*, runs: int) -> list[str]:
    """Return how much of a candidate is seen until each regression takes it back, over what one look needs."""
    rows = []
    found = claims(ALL, CANARY)
    for case in CASES:
        claim = next(one for one in found if one.requirement is case.requirement)
        wanted = case.rows(levels(found, CANARY, 1)[claim.key].fail)
        ended = [_rows_until(case, seed, most=int(LONGEST * wanted / SHARE / BATCH)) for seed in range(runs)]
        back = [one for one in ended if one is not None]
        counts = sorted(one / wanted if one is not None else float("inf") for one in ended)
        rows.append([case.name, f"{len(back)} of {runs}", f"{wanted:,.0f}", f"{statistics.median(counts):.2f}",
                     f"{float(np.quantile(counts, 0.8, method='higher')):.2f}"])  # fmt: skip
    title = (
        f"Rows of the candidate until it goes back, through `decide`, a look every {BATCH} requests, {SHARE:.0%} of "
        f"them its own; {runs} runs, all five judged together at {CANARY.level:.0%} (bars: 1.5 and 2.5)"
    )
    return [title, table_of(["regression", "taken back", "one look, rows", "median, times", "80th, times"], rows)]


def _rows_until(case: Case, seed: int, *, most: int) -> float | None:
    seen = looks(seed, case.candidate, stable=EVEN, batch=BATCH)
    named = (_with_stable_counts(one) for one in seen)
    decision, state, _ = run(named, requirements=ALL, policy=CANARY, most=max(2, most))
    return _rows_seen(case, decision, state)


def _with_stable_counts(windows: dict[str, worlds.Window]) -> dict[str, worlds.Window]:
    """Return windows whose counts stand under the names that margins know them by too."""
    for one in windows.values():
        rates = one.counts.rates
        if "latency_p95_ms" in rates:
            rates["latency_p95_ms~stable"] = rates["latency_p95_ms"]
    return windows


def _rows_seen(case: Case, decision: Decision, state: StepState) -> float | None:
    failed = [one.requirement for one in decision.rulings if one.verdict is Verdict.FAIL]
    if decision.outcome is not Outcome.BACK or decision.back[CANDIDATE].cause is not Cause.REQUIREMENT:
        return None
    if not any(name.startswith(case.requirement.metric) for name in failed):
        return None  # by something that is not wrong with it
    counts = state.seen[CANDIDATE]
    if case.requirement.metric == PARITY:
        return float(sum(hits.trials for hits in counts.groups[PARITY].values()))
    return float(counts.requests)


def good(*, runs: int) -> list[str]:
    """Return how often a good candidate reaches all of the traffic, by how much traffic a step gets at most."""
    one_look, step = one_look_requests(), planned()
    asked = [(f"{times:g} times one look's", times * one_look) for times in TIMES]
    parts = {"half": step.usual_hours, "4 in 5": step.long_hours, "19 in 20": step.sure_hours}
    asked += [(f"what the plan says {part} need", (hours or 0.0) * 3600) for part, hours in parts.items()]
    rows = [_reached(name, requests, runs) for name, requests in asked]
    rows.append(_reached(f"{asked[-1][0]}, no labels come", asked[-1][1], runs // 5, labels=False))
    title = (
        f"A good candidate, simulated by `decide` and `course.move`: steps of 10 % and 50 %, four requirements. "
        f"{one_look:,} requests are what a test with one look needs for a power of 90 % on the hardest of them"
    )
    return [title, table_of(["a step gets at most", "requests", "reached all of the traffic", "95 % interval"], rows)]


def _reached(name: str, requests: float, runs: int, *, labels: bool = True) -> list[str]:
    ended = [rollout(seed, requests=requests, labels=labels).ended for seed in range(runs)]
    reached = sum(one is not None and one.how is How.PROMOTED for one in ended)
    low, high = proportion_interval(reached, runs, 0.95)
    return [name, f"{requests:,.0f}", f"{reached} of {runs}", f"{low:.1%} to {high:.1%}"]
