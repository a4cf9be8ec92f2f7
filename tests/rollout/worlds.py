"""Requirements, and services whose two releases answer as a test wishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from modelyard.core.requirement import Direction, Estimator, Inference, Requirement, Stage
from modelyard.core.rollout import ArmCounts, Decision, Hits, Outcome, Policy, Step, Strategy, Totals, Window
from modelyard.rollout import StepState, begin, decide

STABLE, CANDIDATE = "income@1", "income@2"
SERVED = Estimator(measure="", population="requests", inference=Inference.ALWAYS_VALID)
PARITY = "demographic_parity_difference"


def requirement(
    metric: str,
    *,
    bound: float | None = None,
    margin: float | None = None,
    at_least: bool = False,
    labels: bool = False,
    group: str | None = None,
    least_samples: int = 30,
) -> Requirement:
    return Requirement(
        id=metric,
        metric=metric,
        direction=Direction.AT_LEAST if at_least else Direction.AT_MOST,
        bound=bound,
        margin=margin,
        group=group,
        needs_labels=labels,
        least_samples=least_samples,
        stages={Stage.ROLLOUT: SERVED},
    )


ERRORS = requirement("error_rate", margin=0.01)
LATENCY = requirement("latency_p95_ms", bound=50.0)
ACCURACY = requirement("accuracy", margin=0.03, at_least=True, labels=True)
COST = requirement("cost_per_thousand", margin=0.3)
GAP = requirement(PARITY, margin=0.04, group="sex")
FIVE = (ERRORS, LATENCY, ACCURACY, COST, GAP)
CANARY = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1),), most_s=1e9)
WATCHED = Policy(strategy=Strategy.CANARY, steps=(Step(share=0.1, least_samples=10**9),), most_s=1e9)


@dataclass(frozen=True)
class Release:
    """How a release answers."""

    errors: float = 0.01
    slow: float = 0.03  # beyond the bound of the latency
    right: float = 0.85
    cost: float = 1.0  # mean of an exponential
    positives: Mapping[str, float] = field(default_factory=lambda: {"F": 0.3, "M": 0.32})


GOOD = Release()


def window(
    release: str,
    counts: ArmCounts | None = None,
    /,
    *,
    seconds: float = 60.0,
    restarts: int = 0,
    hung: int = 0,
    memory_replaced: int = 0,
    not_finite_rows: int = 0,
) -> Window:
    return Window(
        release=release,
        seconds=seconds,
        counts=counts or ArmCounts(),
        restarts={"crash": restarts},
        hung=hung,
        memory_replaced=memory_replaced,
        not_finite_rows=not_finite_rows,
    )


def grown(rng: np.random.Generator, counts: ArmCounts, release: Release, rows: int, *, labels: bool) -> ArmCounts:
    """Return counts after more requests."""
    costs = rng.exponential(release.cost, rows)
    women = int(rng.binomial(rows, 0.4))
    rates = {"latency_p95_ms": release.slow} | ({"accuracy": release.right} if labels else {})
    cost = counts.means.get("cost_per_thousand", Totals())
    groups = counts.groups.get(PARITY, {})
    sizes = {"F": women, "M": rows - women}
    return ArmCounts(
        requests=counts.requests + rows,
        errors=counts.errors + int(rng.binomial(rows, release.errors)),
        rates={name: more(rng, counts.rates.get(name, Hits()), rows, rate) for name, rate in rates.items()},
        means={
            "cost_per_thousand": Totals(
                count=cost.count + rows,
                total=cost.total + float(costs.sum()),
                squares=cost.squares + float((costs**2).sum()),
            )
        },
        groups={
            PARITY: {
                name: more(rng, groups.get(name, Hits()), size, release.positives[name]) for name, size in sizes.items()
            }
        },
    )


def more(rng: np.random.Generator, hits: Hits, rows: int, rate: float) -> Hits:
    return Hits(trials=hits.trials + rows, hits=hits.hits + int(rng.binomial(rows, rate)))


def looks(
    seed: int, candidate: Release, *, stable: Release = GOOD, batch: int = 100, share: float = 0.1, labels: bool = True
) -> Iterator[dict[str, Window]]:
    """Yield windows for ever, one second and `batch` requests apart."""
    rng = np.random.default_rng(seed)
    ours, theirs, seconds = ArmCounts(), ArmCounts(), 0
    while True:
        rows, seconds = int(rng.binomial(batch, share)), seconds + 1
        ours = grown(rng, ours, candidate, rows, labels=labels)
        theirs = grown(rng, theirs, stable, batch - rows, labels=labels)
        yield {
            STABLE: window(STABLE, theirs, seconds=seconds),
            CANDIDATE: window(CANDIDATE, ours, seconds=seconds),
        }


def run(
    seen: Iterator[dict[str, Window]],
    *,
    requirements: Sequence[Requirement] = FIVE,
    policy: Policy = CANARY,
    most: int,
) -> tuple[Decision, StepState, int]:
    """Look until the rollout goes forward, back or is stopped, at most `most` times; return the looks too."""
    state = begin(STABLE, [CANDIDATE], now=0.0)
    for place in range(1, most + 1):
        decision, state = decide(next(seen), requirements, policy, state, float(place))
        if decision.outcome in (Outcome.FORWARD, Outcome.BACK, Outcome.STOP_EXPERIMENT):
            break
    return decision, state, place


def policy_of(policy: Policy, **changed: float) -> Policy:
    """Return a canary of one step with other limits."""
    step = policy.steps[0]
    return Policy(
        strategy=policy.strategy,
        steps=(
            Step(
                share=step.share,
                least_s=changed.get("least_s", step.least_s),
                least_samples=int(changed.get("least_samples", step.least_samples)),
            ),
        ),
        most_s=changed.get("most_s", policy.most_s),
    )


def worse(**changed: object) -> Release:
    return replace(GOOD, **changed)  # type: ignore[arg-type]
