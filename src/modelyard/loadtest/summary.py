"""From what became of each request to what is reported."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from modelyard.core.arrays import Array, Floats, Ints
from modelyard.core.load import Lag, LoadPlan, LoadResult, LoadWindow, Rate, Usage
from modelyard.core.machine import cores
from modelyard.core.requirement import Judgement, Observation, Requirement, Verdict
from modelyard.loadtest.quantiles import CLUSTERS, CONFIDENCE, latency_quantiles, observe_latency
from modelyard.loadtest.steady import unsettled
from modelyard.loadtest.tally import Outcome, Samples, Tally
from modelyard.measure.exact import normal_quantile
from modelyard.measure.judge import judge, worst

JUDGED = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
LAG_MS = 1.0  # a generator later than this, and later than a tenth of the p99, is the limit itself
LAG_SHARE = 0.1
BUSY_CORES = 0.95
FOREIGN_SHARE = 0.15  # of the machine's cores; more is a caution


def summarize(
    plan: LoadPlan,
    tally: Tally,
    *,
    extra_sent: int = 0,
    generator_cpu_s: float = 0.0,
    foreign_cpu_s: float | None = None,
    usage: Usage | None = None,
    price_per_cpu_hour: float | None = None,
    requirements: Sequence[Requirement] = (),
    cautions: Sequence[str] = (),
) -> LoadResult:
    """Return what was measured.

    Args:
        extra_sent: requests sent beside those of the tally.
        foreign_cpu_s: of processes that are neither the generator's nor the server's, on this machine.
        requirements: bounds on `latency_p50_ms`, `latency_p95_ms` or `latency_p99_ms`; open loops only.
    """
    samples = tally.samples()
    answered = samples.answered
    ended_at = samples.due + samples.latency
    windows = _windows(plan, samples)
    rising, reasons = unsettled(plan, windows, int((ended_at <= plan.seconds).sum()))
    cluster = _part(plan, samples.due, CLUSTERS)
    latency = latency_quantiles(1000 * samples.latency[answered], cluster[answered])
    foreign_cores = None if foreign_cpu_s is None else round(max(0.0, foreign_cpu_s) / plan.seconds, 3)
    lag = _lag(samples, generator_cpu_s / plan.seconds, foreign_cores)
    p99 = next((one.value_ms for one in latency if one.q == 0.99), 0.0)
    limited = lag.p99_ms > max(LAG_MS, LAG_SHARE * p99) or lag.cores > BUSY_CORES
    result = LoadResult(
        plan=plan,
        sent_in_all=tally.sent + extra_sent,
        warmed_up=tally.warmed_up,
        due=len(samples.due),
        answered=int(answered.sum()),
        degraded=int((samples.outcome == Outcome.DEGRADED).sum()),
        failures=tally.failures(),
        throughput=_throughput(plan, tally.answered_within(plan.seconds)),
        latency=latency,
        lag=lag,
        generator_limited=limited,
        unsettled=reasons,
        rising=rising,
        windows=windows,
        usage=usage,
        cost_per_thousand=_cost(usage, price_per_cpu_hour),
        cautions=(*cautions, *_neighbours(foreign_cores)),
    )
    felt = _felt(plan, samples)
    judgements = [_judged(one, felt, cluster) for one in requirements]
    if not judgements:
        return result
    # A late generator delays requests, and sends those that are overdue at once: each costs the server at most as much.
    spared = np.maximum(0.0, felt - 2 * lag.p99_ms)
    still = worst(_judged(one, spared, cluster).verdict for one in requirements)
    return replace(result, judgements=tuple(judgements), verdict=_verdict(judgements, result, still))


def _neighbours(foreign_cores: float | None) -> tuple[str, ...]:
    """Say where other processes took so much of the machine that the figures are theirs too."""
    if foreign_cores is None or foreign_cores <= FOREIGN_SHARE * cores():
        return ()
    return (f"other processes used {foreign_cores:.2f} of this machine's {cores()} cores meanwhile",)


def _judged(requirement: Requirement, felt: Floats, cluster: Ints) -> Judgement:
    q = JUDGED[requirement.metric]
    seen: Observation = observe_latency(felt, cluster, requirement.metric, q, requirement.confidence)
    return judge(requirement, seen)


def _verdict(judgements: Sequence[Judgement], result: LoadResult, still: Verdict) -> Verdict:
    """Return the worst verdict; one that the measurement itself does not bear is inconclusive.

    `still` is the verdict with twice the generator's lateness taken off every latency.
    """
    verdict = worst(one.verdict for one in judgements)
    if verdict is Verdict.PASS and result.rising:
        return Verdict.INCONCLUSIVE  # it would not have gone on so
    if verdict is Verdict.FAIL and result.generator_limited and still is not Verdict.FAIL:
        return Verdict.INCONCLUSIVE  # the lateness may be the generator's own
    return verdict


def _felt(plan: LoadPlan, samples: Samples) -> Floats:
    """Return latencies in ms as callers felt them: whoever got no answer waited as long as callers wait."""
    slowest = max(plan.timeout_s, float(samples.latency.max(initial=0.0)))
    felt: Floats = 1000 * np.where(samples.answered, samples.latency, slowest)
    return felt


def _windows(plan: LoadPlan, samples: Samples) -> tuple[LoadWindow, ...]:
    """Return the measured time in parts of a second, or in `CLUSTERS` parts where that is longer or it is short."""
    count = CLUSTERS if plan.seconds < CLUSTERS or plan.seconds > 600 else int(plan.seconds)
    part = _part(plan, samples.due, count)
    order = np.argsort(part, kind="stable")
    edges = np.searchsorted(part[order], np.arange(count + 1))
    found = []
    for number in range(count):
        inside = order[edges[number] : edges[number + 1]]
        good = samples.answered[inside]
        times = 1000 * samples.latency[inside][good]
        p50, p99 = np.quantile(times, (0.5, 0.99), method="inverted_cdf").tolist() if len(times) else (None, None)
        found.append(
            LoadWindow(
                start_s=round(number * plan.seconds / count, 3),
                due=len(inside),
                answered=int(good.sum()),
                failed=len(inside) - int(good.sum()),
                p50_ms=p50,
                p99_ms=p99,
            )
        )
    return tuple(found)


def _part(plan: LoadPlan, due: Floats, count: int) -> Ints:
    parts: Ints = np.clip((due * (count / plan.seconds)).astype(np.int64), 0, count - 1)
    return parts


def _throughput(plan: LoadPlan, inside: Floats) -> Rate:
    """Return answers a second; the interval is that of the mean of `CLUSTERS` parts of the time."""
    counts = np.bincount(_part(plan, inside, CLUSTERS), minlength=CLUSTERS) * (CLUSTERS / plan.seconds)
    mean = len(inside) / plan.seconds
    reach = normal_quantile(CONFIDENCE) * float(counts.std(ddof=1)) / CLUSTERS**0.5
    return Rate(value=mean, low=max(0.0, mean - reach), high=mean + reach)


def _lag(samples: Samples, cores: float, foreign_cores: float | None) -> Lag:
    sent = samples.outcome != Outcome.LATE
    waited = _quantile_ms(samples.wait[sent], 0.99)
    lag = samples.lag
    return Lag(
        p50_ms=_quantile_ms(lag, 0.5),
        p99_ms=_quantile_ms(lag, 0.99),
        max_ms=_quantile_ms(lag, 1.0),
        waited_p99_ms=waited,
        cores=round(cores, 3),
        foreign_cores=foreign_cores,
    )


def _quantile_ms(seconds: Array, q: float) -> float:
    return float(1000 * np.quantile(seconds, q, method="inverted_cdf")) if len(seconds) else 0.0


def _cost(usage: Usage | None, price_per_cpu_hour: float | None) -> float | None:
    if usage is None or usage.cpu_us_per_request is None or price_per_cpu_hour is None:
        return None
    return usage.cpu_us_per_request / 1e6 * 1000 / 3600 * price_per_cpu_hour
